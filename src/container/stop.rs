//! StopContainer: the stop signal, time to follow it, SIGKILL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::state::StopStep;
use super::{Container, ContainerError, Containers};
use crate::containerd::{All, ContainerdError};
use crate::error::Kind;
use crate::linux::process;
use crate::sandbox::end_task;
use crate::signal::Signal;
use crate::work::{Op, Operation};

/// How long a container may take to end after SIGKILL before the call gives up on it.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// A stop signal on its way. Should that fail, or the caller go away meanwhile, then the next stop sends it.
struct Unsent<'a>(&'a AtomicBool);

impl Unsent<'_> {
    fn was_sent(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Containers {
    /// Stops a container and returns when its end is noted (CRI StopContainer). One that does not run is fine.
    ///
    /// The signal is delivered once, however many calls wait; each call waits for its own `grace`, so a later call
    /// with less patience wins.
    pub async fn stop(&self, container: &Container, grace: Duration) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::StopContainer);
        op.run(async {
            match self.bring_down(container, grace, &op).await {
                // What could not be written down of its end yet is nothing that another stop could mend.
                Err(_) if container.facts().state.is_exited() => Ok(()),
                other => other,
            }
        })
        .await
    }

    /// Stops a container at once whose pod goes: nothing of it stays in the shim that it shares with the pause.
    pub async fn stop_with_pod(&self, container: &Container) -> Result<(), ContainerError> {
        self.stop(container, Duration::ZERO).await?;
        self.reap_unwritten(container).await;
        Ok(())
    }

    pub(super) async fn bring_down(
        &self,
        container: &Container,
        grace: Duration,
        op: &Op,
    ) -> Result<(), ContainerError> {
        if container.facts().state.stop_step() == StopStep::Nothing {
            // A start may be under way: what it leads to is to be stopped as well.
            drop(op.turn().await);
        }
        match container.facts().state.stop_step() {
            StopStep::Nothing => Ok(()),
            StopStep::Reap => {
                let ended = end_task(&self.inner().containerd, container.id.as_str(), op).await;
                match ended.map_err(container.failed("end the task"))? {
                    Some(exit) => self.exited(container, exit).await,
                    None => self.lost(container).await,
                }
            }
            StopStep::Signal => match self.signal_to_end(container, grace, op).await {
                Err(_) if self.is_orphan(container).await => self.end_orphan(container, op).await,
                other => other,
            },
        }
    }

    async fn signal_to_end(
        &self,
        container: &Container,
        grace: Duration,
        op: &Op,
    ) -> Result<(), ContainerError> {
        if !grace.is_zero() && self.end_gracefully(container, grace, op).await? {
            return Ok(());
        }
        self.kill(container, op).await
    }

    /// Whether it ended within its grace.
    async fn end_gracefully(
        &self,
        container: &Container,
        grace: Duration,
        op: &Op,
    ) -> Result<bool, ContainerError> {
        if !container.signalled.swap(true, Ordering::Relaxed) {
            let unsent = Unsent(&container.signalled);
            let sent = self.signal(container, container.facts().stop_signal(), All::No);
            op.step("send the stop signal", sent).await?;
            unsent.was_sent();
        }
        let ended = tokio::time::timeout(grace, container.ended());
        Ok(op.step("wait for it to follow the stop signal", ended).await.is_ok())
    }

    async fn kill(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        container.oom.expect_kill();
        op.step("send SIGKILL", self.signal(container, Signal::KILL, All::Processes)).await?;
        let ended = async {
            tokio::select! {
                () = container.ended() => Ok(()),
                // Besides the event: should that be lost with its connection, this call still ends.
                exit = self.inner().containerd.wait(container.id.as_str(), None) => match exit {
                    Ok(exit) => self.exited(container, exit).await,
                    Err(error) if error.kind() == Kind::Unavailable => {
                        Err(container.failed("wait for the end")(error))
                    }
                    // The shim has just gone ("ttrpc: closed" among others): the event tells how it ended.
                    Err(_) => { container.ended().await; Ok(()) }
                },
            }
        };
        let late = ContainerError::DoesNotEnd { id: container.id.clone(), limit: KILL_LIMIT };
        let ended = tokio::time::timeout(KILL_LIMIT, ended);
        op.step("wait for the end after SIGKILL", ended).await.unwrap_or(Err(late))
    }

    /// Sends a signal; a process that has just ended is fine, its end is on its way.
    async fn signal(&self, container: &Container, signal: Signal, all: All) -> Result<(), ContainerError> {
        // containerd has other words too, while it lets go of the shim ("ttrpc: closed"): the kernel knows.
        let over = |error: &ContainerdError| {
            error.is_not_found() || error.kind() == Kind::FailedPrecondition || !is_alive(container)
        };
        match self.inner().containerd.kill(container.id.as_str(), None, signal, all).await {
            Err(error) if over(&error) => Ok(()),
            other => other.map_err(container.failed("signal the process")),
        }
    }
}

fn is_alive(container: &Container) -> bool {
    container.facts().state.running().is_ok_and(|pid| process::is_alive(pid.cast_signed()))
}
