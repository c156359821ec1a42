//! Keeps the CNI calls of one pod apart, across restarts of this daemon.
//!
//! Every plugin process inherits the lock. A daemon that was killed in the middle of an ADD leaves a plugin at work;
//! were DEL run beside it, the ADD could end last and leak what it made. So the lock is waited for, and then its
//! holders are killed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::NetworkError;
use crate::error::Kind;
use crate::linux::lock;

/// How long an earlier call may go on: a healthy plugin needs a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long killed processes may take to go away.
const BURIAL: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(20);

/// Takes the lock. Its folder must exist.
pub(super) async fn take(path: &Path) -> Result<Arc<File>, NetworkError> {
    let begun = Instant::now();
    loop {
        match lock::try_exclusive(path) {
            Ok(Some(file)) => return Ok(Arc::new(file)),
            Ok(None) => {}
            Err(source) => return Err(NetworkError::Lock { source }),
        }
        if begun.elapsed() > PATIENCE {
            let killed = lock::kill_holders(path).map_err(|source| NetworkError::Lock { source })?;
            if killed > 0 {
                tracing::warn!(lock = %path.display(), killed, "killed CNI plugins of an earlier call");
            }
        }
        if begun.elapsed() > PATIENCE + BURIAL {
            return Err(NetworkError::Busy { lock: path.to_owned() });
        }
        sleep(POLL).await;
    }
}

/// The same; `None` where the folder is gone, and with it every trace of the pod.
pub(super) async fn take_if_any(path: &Path) -> Result<Option<Arc<File>>, NetworkError> {
    match take(path).await {
        Err(NetworkError::Lock { source }) if source.kind() == Kind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_orphan_is_killed_when_patience_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = take(&path).await.unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        lock::inherit(&mut command, held.clone());
        let mut orphan = command.spawn().unwrap();
        drop((command, held));
        let reaper = std::thread::spawn(move || orphan.wait().unwrap());
        take(&path).await.unwrap();
        assert!(!reaper.join().unwrap().success());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_this_process_is_never_killed_but_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = take(&path).await.unwrap();
        let error = take(&path).await.unwrap_err();
        assert!(matches!(error, NetworkError::Busy { .. }), "{error:?}");
        drop(held);
    }

    #[tokio::test]
    async fn a_pod_whose_folder_is_gone_needs_no_lock_to_detach() {
        let path = Path::new("/nonexistent/lock");
        assert!(take_if_any(path).await.unwrap().is_none());
        take(path).await.unwrap_err();
    }
}
