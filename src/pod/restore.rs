//! RestorePod: a sandbox, and containers in it that wait to go on from where a checkpoint was taken; or nothing at all.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures::future::join_all;

use super::checkpoint::{HOST_ARCH, OPTIONS, PodOptions, RUNTIME_NAME, VERSION, folder_of, no_options};
use super::{PodError, remove};
use crate::container::{Containers, Patience};
use crate::field::{self, FieldError};
use crate::id::{ContainerId, PodId};
use crate::proto::cri;
use crate::sandbox::Handler;
use crate::trace;

/// Bytes of a pod's options.
const MAX_OPTIONS: u64 = 1 << 20;

/// What came out of a checkpoint: created, not started.
#[derive(Debug)]
pub struct RestoredPod {
    pub id: PodId,
    /// In the order of the configs, by the names in these.
    pub containers: Vec<(String, ContainerId)>,
}

/// Makes a sandbox, and every container of the checkpoint in it (CRI RestorePod). The checkpoint is only read, and of no
/// more use afterwards.
///
/// # Errors
/// Configs that are not those of the checkpoint's containers, or contradict it; a checkpoint of another kind of node;
/// options: none is known. Nothing is left then.
pub async fn restore(
    containers: &Containers,
    request: cri::RestorePodRequest,
    patience: Patience,
) -> Result<RestoredPod, PodError> {
    no_options(&request.options)?;
    field::required_path("checkpoint_path", &request.checkpoint_path)?;
    let config = field::required("config", request.config.as_ref())?;
    let names = names_of(&request.container_configs)?;
    let handler = containers.sandboxes().handlers().find(&request.runtime_handler)?;
    containers.can_checkpoint_with(&handler).await?;
    let checkpoint = PathBuf::from(&request.checkpoint_path);
    let flaw = |why: String| PodError::NotACheckpoint { path: checkpoint.clone(), why };
    let options = read(&checkpoint.join(OPTIONS)).map_err(flaw)?;
    fits(&options, &handler).map_err(flaw)?;
    same_names(&options, &names)?;
    let run = cri::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: request.runtime_handler.clone(),
    };
    let containers = containers.clone();
    let work = trace::spawn(async move {
        let id = containers.sandboxes().run_alone(run).await?;
        let made = create_all(&containers, &id, &request, &names, &checkpoint, &patience).await;
        let error = match made {
            Ok(containers) => return Ok(RestoredPod { id, containers }),
            Err(error) => error,
        };
        match remove(&containers, id.as_str()).await {
            Ok(()) => Err(error),
            Err(undo) => Err(PodError::Undo { error: Box::new(error), undo: Box::new(undo) }),
        }
    });
    work.await.unwrap_or_else(|why| std::panic::resume_unwind(why.into_panic()))
}

async fn create_all(
    containers: &Containers,
    id: &PodId,
    request: &cri::RestorePodRequest,
    names: &[String],
    checkpoint: &Path,
    patience: &Patience,
) -> Result<Vec<(String, ContainerId)>, PodError> {
    patience.check()?;
    let creating = request.container_configs.iter().zip(names).map(|(config, name)| {
        let create = cri::CreateContainerRequest {
            pod_sandbox_id: id.to_string(),
            config: Some(config.clone()),
            sandbox_config: request.config.clone(),
        };
        containers.create_restored(create, folder_of(checkpoint, name))
    });
    // All are awaited even when one fails: an undo must not overtake what it undoes.
    let mut made = Vec::new();
    for (n, (created, name)) in join_all(creating).await.into_iter().zip(names).enumerate() {
        let at =
            |error| PodError::Restore { field: format!("container_configs[{n}]"), source: Box::new(error) };
        made.push((name.clone(), created.map_err(at)?));
    }
    patience.check()?;
    Ok(made)
}

/// The names of the configs, each once.
fn names_of(configs: &[cri::ContainerConfig]) -> Result<Vec<String>, FieldError> {
    if configs.is_empty() {
        return Err(field::error("container_configs", "is required"));
    }
    let mut names: Vec<String> = Vec::new();
    for (n, config) in configs.iter().enumerate() {
        let at = format!("container_configs[{n}].metadata.name");
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        field::name(&at, &name)?;
        if names.contains(&name) {
            return Err(field::error(at, format!("{name:?} is there twice")));
        }
        names.push(name);
    }
    Ok(names)
}

fn same_names(options: &PodOptions, names: &[String]) -> Result<(), FieldError> {
    let (there, asked): (BTreeSet<_>, BTreeSet<_>) =
        (options.containers.keys().collect(), names.iter().collect());
    let refuse = |why: String| Err(field::error("container_configs", why));
    if let Some(missing) = there.difference(&asked).next() {
        return refuse(format!("there is none for container {missing:?} of the checkpoint"));
    }
    match asked.difference(&there).next() {
        Some(unknown) => refuse(format!("the checkpoint has no container {unknown:?}")),
        None => Ok(()),
    }
}

/// Whether a checkpoint can be restored by this handler, on this node.
fn fits(options: &PodOptions, handler: &Handler) -> Result<(), String> {
    if options.version != VERSION {
        return Err(format!("its layout is of version {}, and {VERSION} is known", options.version));
    }
    let said = |key| options.annotations.get(key).map(String::as_str).unwrap_or_default();
    if said(HOST_ARCH) != std::env::consts::ARCH {
        return Err(format!("it is of a node of {:?}, this is {}", said(HOST_ARCH), std::env::consts::ARCH));
    }
    if said(RUNTIME_NAME) != handler.runtime.name {
        let (theirs, ours) = (said(RUNTIME_NAME), &handler.runtime.name);
        return Err(format!("it is of runtime {theirs:?}, handler {:?} is of {ours:?}", handler.name));
    }
    Ok(())
}

fn read(path: &Path) -> Result<PodOptions, String> {
    let unreadable = |error: std::io::Error| format!("its {OPTIONS} cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_OPTIONS + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_OPTIONS {
        return Err(format!("its {OPTIONS} has more than {MAX_OPTIONS} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("its {OPTIONS} cannot be understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> cri::ContainerConfig {
        let metadata = Some(cri::ContainerMetadata { name: name.into(), attempt: 0 });
        cri::ContainerConfig { metadata, ..Default::default() }
    }

    #[test]
    fn every_container_of_the_checkpoint_has_one_config() {
        let options: PodOptions =
            serde_json::from_str(r#"{"version":1,"containers":{"a":"a_p","b":"b_p"}}"#).unwrap();
        let told = |names: &[&str]| {
            let configs: Vec<_> = names.iter().map(|name| named(name)).collect();
            names_of(&configs)
                .and_then(|names| same_names(&options, &names))
                .map_err(|error| error.to_string())
        };
        assert_eq!(told(&["b", "a"]), Ok(()));
        for (names, text) in [
            (&[][..], "container_configs: is required"),
            (&["a", ""], "container_configs[1].metadata.name: is required"),
            (&["a", "../b"], "container_configs[1].metadata.name: contains '/'"),
            (&["a", "a"], "container_configs[1].metadata.name: \"a\" is there twice"),
            (&["a"], "container_configs: there is none for container \"b\" of the checkpoint"),
            (&["a", "b", "c"], "container_configs: the checkpoint has no container \"c\""),
        ] {
            assert_eq!(told(names).unwrap_err(), text);
        }
    }

    #[test]
    fn a_folder_without_options_is_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OPTIONS);
        assert!(read(&path).unwrap_err().starts_with("its pod.options cannot be read"));
        std::fs::write(&path, "[]").unwrap();
        assert!(read(&path).unwrap_err().starts_with("its pod.options cannot be understood"));
        std::fs::write(&path, vec![b' '; MAX_OPTIONS as usize + 1]).unwrap();
        assert!(read(&path).unwrap_err().contains("more than 1048576 bytes"));
    }
}
