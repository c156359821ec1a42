//! ExecSync: a command beside the container's own process, its output collected; and log rotation.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command::{Command, Running};
use super::{Container, ContainerError, Containers};
use crate::containerd::All;
use crate::error::chain;
use crate::io::{Capture, Stdin};
use crate::signal::Signal;
use crate::work::Operation;

/// Bytes kept of both streams together: what fits into one message to the kubelet, whose limit is 16 MiB for all of
/// it (k8s.io/cri-client, `maxMsgSize`).
const MAX_OUTPUT: usize = (16 << 20) - 1024;
/// How long a killed command may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What a command wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: i32,
}

impl ExecOutput {
    /// Shortens both streams to `limit` bytes together. Neither takes from the other's half what that one needs.
    fn cut(&mut self, limit: usize) {
        let half = limit / 2;
        self.stdout.truncate(limit - self.stderr.len().min(half));
        self.stderr.truncate(limit - self.stdout.len());
    }
}

/// Why the wait for a command ended.
enum Outcome {
    Ended(u32),
    TimedOut,
    CallerGone,
    ContainerEnded,
}

impl Containers {
    /// Runs a command to its end (CRI ExecSync); no limit without `timeout`. A caller that goes away ends the command.
    ///
    /// # Errors
    /// [`ContainerError::ExecTimeout`] (the kubelet's probes rely on its code, DeadlineExceeded), or the container
    /// does not run.
    pub async fn exec_sync(
        &self,
        container: Arc<Container>,
        arguments: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, ContainerError> {
        let gone = CancellationToken::new();
        let _cancel = gone.clone().drop_guard();
        let work = async move |containers: Containers, command: Arc<Command>| {
            containers.exec(&command, &arguments, timeout, gone).await
        };
        self.with_command(container, Operation::ExecSync, false, Stdin::None, work).await
    }

    /// Opens the log file anew, after the kubelet has renamed the old one (CRI ReopenContainerLog).
    pub async fn reopen_log(&self, container: &Container) -> Result<(), ContainerError> {
        self.must_run(container)?;
        let op = self.begin(container, Operation::ReopenContainerLog);
        let reopened = async {
            match container.io.lock().await.as_ref() {
                Some(io) => io.reopen_log().await,
                None => Ok(()),
            }
        };
        let step = "reopen the log";
        let failed = |source| ContainerError::Io { step, id: container.id.clone(), source };
        op.run(async { op.step(step, reopened).await.map_err(failed) }).await
    }

    /// Refuses what does not run.
    pub fn must_run(&self, container: &Container) -> Result<u32, ContainerError> {
        let running = container.facts().state.running();
        running.map_err(|source| ContainerError::Denied { id: container.id.clone(), source })
    }

    async fn exec(
        &self,
        command: &Command,
        arguments: &[String],
        timeout: Option<Duration>,
        gone: CancellationToken,
    ) -> Result<ExecOutput, ContainerError> {
        let Command { container, op, .. } = command;
        let capture = Capture::open(command.fifos.clone(), MAX_OUTPUT)
            .map_err(command.failed_io("open the command's streams"))?;
        let mut running = self.start_command(command, arguments).await?;
        let watched = self.watch_exec(command, &mut running, timeout, gone);
        let outcome = op.step("wait for the command", watched).await;
        if let Ok(Outcome::TimedOut | Outcome::CallerGone) = outcome {
            op.step("kill the command", self.kill_exec(command)).await;
        }
        let captured = capture.finish(self.inner().config.now().runtime.exec_drain);
        let captured = op.step("read the rest of its output", captured).await;
        match outcome? {
            Outcome::Ended(code) => {
                let mut output = ExecOutput {
                    stdout: captured.stdout,
                    stderr: captured.stderr,
                    code: i32::try_from(code).unwrap_or(i32::MAX),
                };
                output.cut(MAX_OUTPUT);
                Ok(output)
            }
            Outcome::TimedOut => Err(ContainerError::ExecTimeout {
                id: container.id.clone(),
                command: arguments.join(" ").chars().take(100).collect(),
                limit: timeout.unwrap_or_default(),
            }),
            Outcome::CallerGone | Outcome::ContainerEnded => {
                Err(ContainerError::EndedMeanwhile { id: container.id.clone() })
            }
        }
    }

    async fn watch_exec(
        &self,
        command: &Command,
        running: &mut Running,
        timeout: Option<Duration>,
        gone: CancellationToken,
    ) -> Result<Outcome, ContainerError> {
        let limit = async {
            match timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            code = self.command_ended(command, running) => {
                code.map(|code| code.map_or(Outcome::ContainerEnded, Outcome::Ended))
            }
            () = limit => Ok(Outcome::TimedOut),
            () = gone.cancelled() => Ok(Outcome::CallerGone),
            () = command.container.ended() => Ok(Outcome::ContainerEnded),
        }
    }

    async fn kill_exec(&self, Command { container, exec_id, .. }: &Command) {
        let containerd = &self.inner().containerd;
        let id = container.id.as_str();
        let killed = async {
            containerd.kill(id, Some(exec_id), Signal::KILL, All::No).await?;
            containerd.wait(id, Some(exec_id)).await
        };
        match tokio::time::timeout(KILL_LIMIT, killed).await {
            Ok(Err(error)) if !error.is_not_found() => {
                tracing::warn!(container = %container.id, "cannot end a command: {}", chain(&error));
            }
            Err(_) => {
                tracing::warn!(container = %container.id, "a command outlives SIGKILL by {KILL_LIMIT:?}")
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_fairly() {
        for (stdout, stderr, kept) in [
            (3, 4, (3, 4)),
            (20, 0, (10, 0)),
            (0, 20, (0, 10)),
            (20, 20, (5, 5)),
            (20, 2, (8, 2)),
            (2, 20, (2, 8)),
        ] {
            let mut output = ExecOutput { stdout: vec![0; stdout], stderr: vec![0; stderr], code: 0 };
            output.cut(10);
            assert_eq!((output.stdout.len(), output.stderr.len()), kept);
        }
    }
}
