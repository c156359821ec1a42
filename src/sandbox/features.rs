//! What a handler's runtime can do, as it says itself (OCI runtime spec, features.md).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Handler;
use crate::containerd::Containerd;
use crate::error::chain;
use crate::linux::process;

/// What of it matters to pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub recursive_read_only: bool,
}

/// How long `runc features` may take; it only prints.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks through containerd, which can since 2.0, else the runtime's binary itself. What cannot be learnt counts as
/// not there.
pub(super) async fn learn(handler: &Handler, containerd: &Containerd) -> Features {
    let told = match containerd.runtime_features(&handler.runtime).await {
        Ok(None) if handler.is_runc() => ask_binary(handler, containerd).await,
        Ok(told) => Ok(told),
        Err(error) => Err(chain(&error)),
    };
    match told {
        Ok(Some(told)) => Features::from_oci(&told),
        Ok(None) => Features::default(),
        Err(why) => {
            tracing::warn!(handler = handler.name, "the runtime does not tell its features: {why}");
            Features::default()
        }
    }
}

/// Runs the binary that the shim would: the one that the options name, looked for on containerd's PATH.
async fn ask_binary(handler: &Handler, containerd: &Containerd) -> Result<Option<Value>, String> {
    let name = handler.config.options.get("BinaryName").and_then(toml::Value::as_str).unwrap_or("runc");
    let server = containerd.server_pid().await.map_err(|error| error.to_string())?;
    let path = process::environment(server, "PATH").map_err(|error| chain(&error))?.unwrap_or_default();
    let Some(binary) = find(name, &path) else {
        return Err(format!("there is no {name} on containerd's PATH"));
    };
    let run = tokio::process::Command::new(&binary).arg("features").kill_on_drop(true).output();
    let output = match tokio::time::timeout(LIMIT, run).await {
        Ok(output) => output.map_err(|error| format!("cannot run {}: {error}", binary.display()))?,
        Err(_) => return Err(format!("{} features did not end within {LIMIT:?}", binary.display())),
    };
    // A runtime from before the command exists fails it.
    if !output.status.success() {
        return Ok(None);
    }
    serde_json::from_slice(&output.stdout)
        .map(Some)
        .map_err(|error| format!("what {} features prints is not JSON: {error}", binary.display()))
}

fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    path.split(':').map(|folder| Path::new(folder).join(name)).find(|candidate| candidate.is_file())
}

impl Features {
    fn from_oci(told: &Value) -> Self {
        let mount_options = told.get("mountOptions").and_then(Value::as_array);
        let knows =
            |word: &str| mount_options.is_some_and(|options| options.iter().any(|option| option == word));
        // mount_setattr(2), which recursion needs, came with Linux 5.12.
        Self { recursive_read_only: knows("rro") && process::kernel_version() >= (5, 12) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_runtimes_own_words() {
        let features = Features::from_oci(&serde_json::json!({"mountOptions": ["ro", "rro"]}));
        assert_eq!(features.recursive_read_only, process::kernel_version() >= (5, 12));
        assert_eq!(Features::from_oci(&serde_json::json!({"mountOptions": ["ro"]})), Features::default());
        assert_eq!(Features::from_oci(&serde_json::json!([])), Features::default());
    }

    #[test]
    fn the_binary_is_the_first_on_the_path() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = format!("/nowhere:{}:{}", a.path().display(), b.path().display());
        assert_eq!(find("runc", &path), None);
        std::fs::write(b.path().join("runc"), "").unwrap();
        assert_eq!(find("runc", &path), Some(b.path().join("runc")));
        assert_eq!(find("/opt/runc", &path), Some("/opt/runc".into()));
    }
}
