//! Sees a container's process end without being told by anybody. Where the news of it was lost with a restart of
//! containerd, this is who still knows the exit code (from kernel 6.15 on).

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::{Container, Containers};
use crate::containerd::Exit;
use crate::linux::pidfd::Pidfd;
use crate::time::Timestamp;

/// How long a shim may take to tell of an end that has been seen, before the kernel is asked.
const SILENCE: Duration = Duration::from_secs(5);
/// How much longer, where the kernel cannot tell: a slow node's shim has a hundred other ends to tell of first.
const LONG_SILENCE: Duration = Duration::from_secs(25);

/// Who has a hold of the process.
#[derive(Debug)]
pub(super) struct Witness {
    process: Arc<Pidfd>,
    ended_at: Arc<OnceLock<Timestamp>>,
    _watching: AbortOnDropHandle<()>,
}

impl Witness {
    /// Of the process with that pid, if it is the container's.
    fn of(container: &Container, pid: u32) -> Option<Self> {
        let process = Arc::new(hold(container, pid)?);
        let ended_at = Arc::<OnceLock<Timestamp>>::default();
        let watching = {
            let (process, ended_at) = (process.clone(), ended_at.clone());
            async move {
                if process.ended().await.is_ok() {
                    let _ = ended_at.set(Timestamp::now());
                }
            }
        };
        let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
        Some(Self { process, ended_at, _watching })
    }

    fn exit(&self) -> Option<Exit> {
        let code = self.process.exit_code()?;
        Some(Exit { code, at: self.ended_at.get().copied().unwrap_or_else(Timestamp::now) })
    }
}

/// Takes hold of a process of the container's, unless it has ended.
pub(super) fn hold(container: &Container, pid: u32) -> Option<Pidfd> {
    let process = Pidfd::open(pid).ok()?;
    // Asked only now that the process is held: it may have ended before, and the pid be another's.
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    place.contains(container.id.as_str()).then_some(process)
}

impl Containers {
    /// Waits for the end of a command that its shim keeps silent about, for some seconds already: 1.6's forgets some
    /// when many end at once. Its exit code, where the kernel tells. Without `process` it had ended before it could be
    /// held; or it runs in a virtual machine, where nothing is seen of it.
    pub(super) async fn silent_end(&self, container: &Container, process: Option<&Pidfd>) -> Option<u32> {
        let seen = match process {
            Some(process) => process.ended().await.is_ok(),
            None => self.is_of_this_kernel(&container.pod),
        };
        if !seen {
            std::future::pending::<()>().await;
        }
        for silence in [SILENCE, LONG_SILENCE] {
            tokio::time::sleep(silence).await;
            if let Some(code) = process.and_then(Pidfd::exit_code) {
                return Some(code);
            }
        }
        None
    }

    /// From now on, the end of the container's process is seen. One that has ended already is left to the others who
    /// tell of it.
    pub fn witness(&self, container: &Container, pid: u32) {
        let witness = Witness::of(container, pid);
        *container.witness.lock().unwrap_or_else(PoisonError::into_inner) = witness;
    }

    /// How the container's process ended, as far as it was seen.
    pub fn witnessed_end(&self, container: &Container) -> Option<Exit> {
        container.witness.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.exit()
    }
}
