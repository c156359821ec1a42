//! CheckpointPod: containers of a pod as they were at one moment, in a folder of the caller's.
//!
//! ```text
//! pod.options          which containers, of which pod, on what kind of node
//! containers/NAME/     each laid out as a checkpoint archive is
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PodError;
use crate::container::{Container, Containers, Patience, Wanted};
use crate::field::{self, FieldError};
use crate::linux::file;
use crate::proto::cri;
use crate::sandbox::Sandbox;
use crate::trace;
use crate::work::{Op, Operation};

/// In a pod's checkpoint (checkpointctl, lib/metadata.go).
pub(super) const OPTIONS: &str = "pod.options";
const CONTAINERS: &str = "containers";
/// Of the layout above.
pub(super) const VERSION: u32 = 1;
/// Annotations that decide whether a node can restore it (checkpointctl, lib/annotations.go).
pub(super) const HOST_ARCH: &str = "org.criu.checkpoint.host.arch";
pub(super) const RUNTIME_NAME: &str = "org.criu.checkpoint.runtime.name";

/// What a pod's checkpoint says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PodOptions {
    pub version: u32,
    /// By their names in the pod, the names that they had on the node.
    pub containers: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The place of a container in a pod's checkpoint.
pub(super) fn folder_of(checkpoint: &Path, name: &str) -> PathBuf {
    checkpoint.join(CONTAINERS).join(name)
}

/// Checkpoints running containers of a pod, all paused before the first is taken and resumed after the last, whatever
/// comes in between (CRI CheckpointPod).
///
/// # Errors
/// Containers that are not of the pod or do not run, a folder that is not empty, options: none is known. The folder is
/// empty then, and everything runs.
pub async fn checkpoint(
    containers: &Containers,
    request: cri::CheckpointPodRequest,
    patience: Patience,
) -> Result<(), PodError> {
    no_options(&request.options)?;
    field::required_path("output_path", &request.output_path)?;
    let output = PathBuf::from(&request.output_path);
    let sandbox = containers.sandboxes().find(&request.pod_sandbox_id)?;
    sandbox.pause_pid()?;
    let chosen = choose(containers, &sandbox, &request.container_ids)?;
    for container in chosen.values() {
        containers.may_checkpoint(container).await?;
    }
    must_be_empty(&output)?;
    let (containers, id) = (containers.clone(), sandbox.id.clone());
    let work = trace::spawn(async move {
        let op = sandbox.begin(Operation::CheckpointPod);
        let done = async {
            match fill(&containers, &sandbox, &chosen, &output, &patience, &op).await {
                Ok(()) => Ok(()),
                Err(error) => match op.step("empty the folder", empty(output)).await {
                    Ok(()) => Err(error),
                    Err(undo) => Err(PodError::Undo { error: Box::new(error), undo: Box::new(undo) }),
                },
            }
        };
        op.run(done).await
    });
    work.await.unwrap_or_else(|why| Err(PodError::Panicked { id, why: why.to_string() }))
}

async fn fill(
    containers: &Containers,
    sandbox: &Sandbox,
    chosen: &BTreeMap<String, Arc<Container>>,
    output: &Path,
    patience: &Patience,
    op: &Op,
) -> Result<(), PodError> {
    make_folder(&output.join(CONTAINERS))?;
    let wanted = chosen
        .iter()
        .map(|(name, container)| Wanted { container: container.clone(), folder: folder_of(output, name) });
    containers.capture(wanted.collect(), patience, op).await?;
    let options = options_of(containers, sandbox, chosen)?;
    // The last: what has it is whole.
    write(&output.join(OPTIONS), &serde_json::to_vec(&options).expect("texts and a number"))?;
    Ok(patience.check()?)
}

fn options_of(
    containers: &Containers,
    sandbox: &Sandbox,
    chosen: &BTreeMap<String, Arc<Container>>,
) -> Result<PodOptions, PodError> {
    let facts = sandbox.facts();
    let handler = containers.sandboxes().handlers().find(&facts.metadata.runtime_handler)?;
    let metadata = facts.metadata.config.metadata.clone().unwrap_or_default();
    let annotations = [
        ("org.criu.checkpoint.engine.name", env!("CARGO_PKG_NAME")),
        ("org.criu.checkpoint.engine.version", env!("CARGO_PKG_VERSION")),
        ("org.criu.checkpoint.pod.name", &metadata.name),
        ("org.criu.checkpoint.pod.namespace", &metadata.namespace),
        ("org.criu.checkpoint.pod.uid", &metadata.uid),
        ("org.criu.checkpoint.pod.id", sandbox.id.as_str()),
        (HOST_ARCH, std::env::consts::ARCH),
        (RUNTIME_NAME, &handler.runtime.name),
    ];
    let full = |container: &Container| container.facts().metadata.name.clone();
    Ok(PodOptions {
        version: VERSION,
        containers: chosen.iter().map(|(name, container)| (name.clone(), full(container))).collect(),
        annotations: annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    })
}

/// The containers that a request names, by their names in the pod.
fn choose(
    containers: &Containers,
    sandbox: &Sandbox,
    ids: &[String],
) -> Result<BTreeMap<String, Arc<Container>>, PodError> {
    if ids.is_empty() {
        return Err(field::error("container_ids", "is required").into());
    }
    let mut chosen = BTreeMap::new();
    for (n, id) in ids.iter().enumerate() {
        let refuse = |why: &str| PodError::from(field::error(format!("container_ids[{n}]"), why));
        field::name(&format!("container_ids[{n}]"), id)?;
        let container = containers.find(id)?;
        if container.pod != sandbox.id {
            return Err(refuse("is a container of another pod"));
        }
        let name = container.facts().metadata.config.metadata.clone().unwrap_or_default().name;
        if chosen.insert(name, container).is_some() {
            return Err(refuse("is there twice, or has the name of another"));
        }
    }
    Ok(chosen)
}

pub(super) fn no_options(options: &std::collections::HashMap<String, String>) -> Result<(), FieldError> {
    match options.keys().min() {
        Some(key) => {
            let key: String = key.chars().take(80).collect();
            Err(field::error(format!("options[{key:?}]"), "is not known: there are no options"))
        }
        None => Ok(()),
    }
}

fn must_be_empty(output: &Path) -> Result<(), PodError> {
    let refuse = |why| Err(field::error("output_path", format!("{} {why}", output.display())).into());
    match fs::read_dir(output).map(|mut entries| entries.next().is_none()) {
        Err(error) => refuse(format!("cannot be read: {error}")),
        Ok(false) => refuse("is not empty".into()),
        Ok(true) => Ok(()),
    }
}

/// Takes away all that was written; the folder is the caller's, and stays.
async fn empty(output: PathBuf) -> Result<(), PodError> {
    let remove = move || {
        let removed =
            file::remove_tree(&output.join(CONTAINERS)).and_then(|()| file::remove(&output.join(OPTIONS)));
        removed.map_err(|source| PodError::File { action: "empty", path: output, source })
    };
    tokio::task::spawn_blocking(remove)
        .await
        .unwrap_or_else(|why| std::panic::resume_unwind(why.into_panic()))
}

fn make_folder(path: &Path) -> Result<(), PodError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(|source| PodError::File { action: "make", path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PodError> {
    let mut options = fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
    written.map_err(|source| PodError::File { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        assert!(must_be_empty(folder.path()).is_ok());
        fs::write(folder.path().join("x"), "").unwrap();
        for bad in [folder.path(), &folder.path().join("x"), Path::new("/no/such/folder")] {
            assert!(must_be_empty(bad).unwrap_err().to_string().starts_with("output_path: "));
        }
    }

    #[tokio::test]
    async fn what_was_written_is_taken_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        empty(folder.path().into()).await.unwrap();
        make_folder(&folder.path().join(CONTAINERS)).unwrap();
        write(&folder.path().join(OPTIONS), b"{}").unwrap();
        write(&folder.path().join("another's"), b"").unwrap();
        empty(folder.path().into()).await.unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["another's"]);
    }
}
