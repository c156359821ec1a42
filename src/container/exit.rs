//! The one place where a container's end is noted: its output drained, its status written, its task reaped, in this
//! order, so that a crash between any two of them loses neither a line nor the exit code.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Container, ContainerError, ContainerState, Containers};
use crate::containerd::Exit;
use crate::error::chain;
use crate::meter::Counter;
use crate::sandbox::{delete_task, end_task};
use crate::time::Timestamp;
use crate::work::{Op, Operation};

/// How long the shim of an ended container may go on without a task: containerd, restarting, deletes it, and within
/// some seconds of that it repeats its last words, the exit code among them (design, "How a container runs").
pub const LAST_WORDS: Duration = Duration::from_secs(20);
/// How often the end of a container is tried to be written down that could not be.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// How long output may trickle on after the end: a descendant may hold the pipe for ever.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The reasons by which ends are counted. Another one may come of a status that an older daemon wrote.
const REASONS: [&str; 6] = ["Completed", "Error", "OOMKilled", "StartError", "Unknown", "other"];
static EXITS: [Counter; REASONS.len()] = [const { Counter::new() }; REASONS.len()];

/// Ends that this daemon has noted, by their reason.
pub fn exits() -> impl Iterator<Item = (&'static str, u64)> {
    REASONS.into_iter().zip(EXITS.iter().map(Counter::value))
}

pub(super) fn count(reason: &str) {
    let known = REASONS.iter().position(|one| *one == reason);
    EXITS[known.unwrap_or(REASONS.len() - 1)].add(1);
}

impl Containers {
    /// A process has ended so, and the news says that it was the container's.
    pub async fn exit_told(&self, container: &Container, pid: u32, exit: Exit) -> Result<(), ContainerError> {
        if container.discarded.load(Ordering::Relaxed) == pid {
            return Ok(());
        }
        self.exited(container, exit).await
    }

    /// The container's process has ended so. Noting it twice is fine: the first one stays.
    pub async fn exited(&self, container: &Container, exit: Exit) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::Exit);
        match self.turn(container, &op).await {
            Ok(_turn) if container.facts().state.is_exited() => op.forget(),
            Ok(_turn) => return op.run(self.note_exit(container, exit, &op)).await,
            // Removed meanwhile: nobody asks any more.
            Err(_) => op.forget(),
        }
        Ok(())
    }

    /// The operation has the container's turn.
    async fn note_exit(&self, container: &Container, exit: Exit, op: &Op) -> Result<(), ContainerError> {
        op.step("drain the output", self.drain(container)).await;
        let oom = self.oom_killed(container, exit);
        let ended = container.facts().state.exited(exit, oom);
        self.end_with(container, ended, op).await
    }

    /// Has all output in the log, or what there is of it in time.
    async fn drain(&self, container: &Container) {
        let io = container.io.lock().await;
        let Some(io) = io.as_ref() else { return };
        if io.drained(DRAIN_LIMIT).await {
            self.keeper(container).forget_all();
        } else {
            tracing::warn!(container = %container.id, "something still holds the ended container's output open");
        }
    }

    /// The container is gone, and nobody knows how it ended.
    pub(super) async fn lost(&self, container: &Container) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::Exit);
        let Ok(_turn) = self.turn(container, &op).await else {
            op.forget();
            return Ok(());
        };
        if container.facts().state.is_exited() {
            op.forget();
            return Ok(());
        }
        let noted = async {
            op.step("drain the output", self.drain(container)).await;
            let ended = container.facts().state.lost(Timestamp::now());
            self.end_with(container, ended, &op).await
        };
        op.run(noted).await
    }

    /// Writes the end down, reaps the task, and only then tells: whoever sees EXITED may remove the container.
    async fn end_with(
        &self,
        container: &Container,
        ended: ContainerState,
        op: &Op,
    ) -> Result<(), ContainerError> {
        if container.facts().state == ended {
            op.forget();
            return Ok(());
        }
        let written = op.step("write the status", self.write_status(container, ended.clone())).await;
        match &written {
            Ok(()) => self.reap(container, op).await,
            Err(_) => container.unwritten.store(true, Ordering::Relaxed),
        }
        *container.witness.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.becomes(container, ended);
        written.inspect_err(|error| self.write_later(container, error))
    }

    async fn reap(&self, container: &Container, op: &Op) {
        let deleted = delete_task(&self.inner().containerd, container.id.as_str());
        match op.step("delete the task", deleted).await {
            Ok(Some(_)) => container.reaped.store(true, Ordering::Relaxed),
            // It may have gone with its shim, which then has not removed its cgroup: the removal looks again.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(container = %container.id, "the ended task stays until removal: {}", chain(&error));
            }
        }
    }

    /// Tries to write the status of an ended container until it is written, or removed. Meanwhile its task stays: should
    /// this daemon end first, only that still knows the exit code.
    pub(super) fn write_later(&self, container: &Container, why: &ContainerError) {
        tracing::error!(container = %container.id, "its end is not written down yet: {}", chain(why));
        let Some(container) = self.entry(container.id.as_str()) else { return };
        let containers = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WRITE_AGAIN).await;
                let op = containers.begin(&container, Operation::Exit);
                let Ok(_turn) = containers.turn(&container, &op).await else { return op.forget() };
                let ended = container.facts().state.clone();
                if containers.write_status(&container, ended).await.is_ok() {
                    tracing::info!(container = %container.id, "its end is written down");
                    if container.unwritten.swap(false, Ordering::Relaxed) {
                        containers.reap(&container, &op).await;
                    }
                    return op.forget();
                }
                op.forget();
            }
        });
    }

    /// Ends the task that was kept of a container whose end could not be written down yet.
    pub(super) async fn reap_unwritten(&self, container: &Container) {
        if container.unwritten.swap(false, Ordering::Relaxed) {
            let op = self.begin(container, Operation::Exit);
            self.reap(container, &op).await;
            op.forget();
        }
    }

    /// Ends a task that must not be: one that an earlier daemon made and did not live to start, or one of an ended
    /// container. `pid`: its init. The container stays what it is.
    pub async fn discard_task(&self, container: &Container, pid: u32) {
        if container.unwritten.load(Ordering::Relaxed) {
            return;
        }
        let op = self.begin(container, Operation::Recovery);
        container.discarded.store(pid, Ordering::Relaxed);
        if let Err(error) = op.run(end_task(&self.inner().containerd, container.id.as_str(), &op)).await {
            tracing::warn!(container = %container.id, "a left-over task stays until removal: {}", chain(&error));
        }
    }
}
