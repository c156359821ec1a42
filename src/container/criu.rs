//! Whether this node can checkpoint: CRIU is a program of the node's, which runc finds on containerd's PATH.

use std::time::Duration;

use super::{ContainerError, Containers};
use crate::containerd::Containerd;
use crate::error::chain;
use crate::sandbox::{Handler, Sandbox};

/// Checkpoints of containers in a pod need its external namespaces, and their restores other security labels.
const OLDEST: (u32, u32) = (3, 16);
/// How long it may take to tell its version.
const LIMIT: Duration = Duration::from_secs(10);

impl Containers {
    /// Checks that containers of a pod and handler can be checkpointed and restored on this node.
    ///
    /// # Errors
    /// [`ContainerError::CannotCheckpoint`], with what is missing.
    pub async fn can_checkpoint(&self, sandbox: &Sandbox, handler: &Handler) -> Result<(), ContainerError> {
        if sandbox.users()?.is_some() {
            let why = "runc restores no process into a pod's user namespace".to_owned();
            return Err(ContainerError::CannotCheckpoint { why });
        }
        self.can_checkpoint_with(handler).await
    }

    /// The same of a handler, whatever the pod.
    pub async fn can_checkpoint_with(&self, handler: &Handler) -> Result<(), ContainerError> {
        let cannot = |why: String| ContainerError::CannotCheckpoint { why };
        if !handler.runtime.is_runc() {
            return Err(cannot(format!(
                "runtime handler {:?} cannot do it, only those of type io.containerd.runc.v2 can",
                handler.name
            )));
        }
        find_criu(&self.inner().containerd).await.map(drop).map_err(cannot)
    }
}

/// The version, major and minor, of the CRIU that runc would use.
///
/// # Errors
/// Why there is none that can be used.
pub async fn find_criu(containerd: &Containerd) -> Result<(u32, u32), String> {
    let found = containerd.find_program("criu").await;
    let Some(criu) = found.map_err(|error| chain(&error))? else {
        return Err("there is no criu on containerd's PATH: install CRIU".into());
    };
    let name = criu.display();
    let run = tokio::process::Command::new(&criu).arg("--version").kill_on_drop(true).output();
    let version = match tokio::time::timeout(LIMIT, run).await {
        Err(_) => return Err(format!("{name} --version did not end within {LIMIT:?}")),
        Ok(Err(error)) => return Err(format!("{name} cannot be run: {error}")),
        Ok(Ok(output)) => version_of(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| format!("{name} --version ended with {} and told none", output.status))?,
    };
    if version < OLDEST {
        let ((major, minor), (oldest, oldest_minor)) = (version, OLDEST);
        return Err(format!("CRIU {major}.{minor} is too old: {oldest}.{oldest_minor} or later is needed"));
    }
    Ok(version)
}

/// Out of `Version: 4.1.1`.
fn version_of(told: &str) -> Option<(u32, u32)> {
    let version = told.lines().find_map(|line| line.strip_prefix("Version:"))?;
    let mut numbers = version.trim().split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_told_in_a_line() {
        assert_eq!(super::version_of("Version: 4.1.1\nGitID: v4.1.1\n"), Some((4, 1)));
        assert_eq!(super::version_of("Version: 3.17\n"), Some((3, 17)));
        assert_eq!(super::version_of("criu: not found"), None);
    }
}
