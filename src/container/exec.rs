//! ExecSync: a command beside the container's own process, its output collected; and log rotation.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Container, ContainerError, Containers};
use crate::containerd::{All, ContainerdError, ExecProcess, StdioPaths};
use crate::error::chain;
use crate::io::{Capture, Fifos, Stdin};
use crate::linux::process;
use crate::signal::Signal;
use crate::spec;
use crate::work::{Op, Operation};

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

/// What the shim, and a command's FIFOs, call it.
pub(super) fn fresh_exec_id() -> String {
    format!("{:032x}", rand::random::<u128>())
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
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, ContainerError> {
        self.must_run(&container)?;
        let gone = CancellationToken::new();
        let _cancel = gone.clone().drop_guard();
        let (containers, id) = (self.clone(), container.id.clone());
        // A task of its own: its clean-up outlives the caller.
        let work = tokio::spawn(async move {
            let op = container.work.begin(Operation::ExecSync);
            op.end(containers.exec_and_clean(&container, command, timeout, gone, &op).await)
        });
        work.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
    }

    /// Opens the log file anew, after the kubelet has renamed the old one (CRI ReopenContainerLog).
    pub async fn reopen_log(&self, container: &Container) -> Result<(), ContainerError> {
        self.must_run(container)?;
        let op = container.work.begin(Operation::ReopenContainerLog);
        let reopened = async {
            match container.io.lock().await.as_ref() {
                Some(io) => io.reopen_log().await,
                None => Ok(()),
            }
        };
        let step = "reopen the log";
        let failed = |source| ContainerError::Io { step, id: container.id.clone(), source };
        op.end(op.step(step, reopened).await.map_err(failed))
    }

    /// Refuses what does not run.
    pub fn must_run(&self, container: &Container) -> Result<u32, ContainerError> {
        let running = container.facts().state.running();
        running.map_err(|source| ContainerError::Denied { id: container.id.clone(), source })
    }

    async fn exec_and_clean(
        &self,
        container: &Container,
        command: Vec<String>,
        timeout: Option<Duration>,
        gone: CancellationToken,
        op: &Op,
    ) -> Result<ExecOutput, ContainerError> {
        let io_failed = |source| ContainerError::Io {
            step: "open the command's streams",
            id: container.id.clone(),
            source,
        };
        let exec_id = fresh_exec_id();
        let dir = self.state_dir(&container.id).join("io");
        let fifos = Fifos::create(&dir, &exec_id, false, Stdin::None).map_err(io_failed)?;
        let result = match Capture::open(fifos.clone(), MAX_OUTPUT).map_err(io_failed) {
            Ok(capture) => self.exec(container, &exec_id, &command, &fifos, capture, timeout, gone, op).await,
            Err(error) => Err(error),
        };
        if let Err(error) = fifos.remove() {
            tracing::warn!(container = %container.id, "a command's FIFOs stay until removal: {}", chain(&error));
        }
        result
    }

    #[allow(clippy::too_many_arguments)]
    async fn exec(
        &self,
        container: &Container,
        exec_id: &str,
        command: &[String],
        fifos: &Fifos,
        capture: Capture,
        timeout: Option<Duration>,
        gone: CancellationToken,
        op: &Op,
    ) -> Result<ExecOutput, ContainerError> {
        op.step("add the command", self.add_command(container, exec_id, command, fifos)).await?;
        let outcome = match op.step("start the command", self.start_command(container, exec_id)).await {
            Ok(pid) => {
                let watched = self.watch_exec(container, exec_id, pid, timeout, gone);
                op.step("wait for the command", watched).await
            }
            Err(error) => Err(error),
        };
        let outcome = match outcome {
            Ok(outcome @ (Outcome::TimedOut | Outcome::CallerGone)) => {
                op.step("kill the command", self.kill_exec(container, exec_id)).await;
                Ok(outcome)
            }
            other => other,
        };
        let captured = capture.finish(self.inner().config.runtime.exec_drain);
        let captured = op.step("read the rest of its output", captured).await;
        op.step("forget the command", self.forget_command(container, exec_id)).await;
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
                command: command.join(" ").chars().take(100).collect(),
                limit: timeout.unwrap_or_default(),
            }),
            Outcome::CallerGone | Outcome::ContainerEnded => {
                Err(ContainerError::EndedMeanwhile { id: container.id.clone() })
            }
        }
    }

    /// Adds a command to the container's shim, not started yet.
    pub(super) async fn add_command(
        &self,
        container: &Container,
        exec_id: &str,
        command: &[String],
        fifos: &Fifos,
    ) -> Result<(), ContainerError> {
        let process = ExecProcess {
            container_id: container.id.to_string(),
            exec_id: exec_id.to_owned(),
            stdio: StdioPaths {
                stdin: fifos.stdin.clone(),
                stdout: fifos.stdout.clone(),
                stderr: fifos.stderr.clone(),
                terminal: fifos.terminal,
            },
            process: self.exec_process(container, command, fifos.terminal).await?,
        };
        self.inner().containerd.add_exec(&process).await.map_err(command_failed(container, "add the command"))
    }

    /// Starts a command that was added; its pid.
    pub(super) async fn start_command(
        &self,
        container: &Container,
        exec_id: &str,
    ) -> Result<u32, ContainerError> {
        let started = self.inner().containerd.start_exec(container.id.as_str(), exec_id).await;
        started.map_err(command_failed(container, "start the command"))
    }

    /// Waits for a command's end; its exit code. `None`: its shim went, and the command with it.
    pub(super) async fn command_ended(
        &self,
        container: &Container,
        exec_id: &str,
        pid: u32,
    ) -> Result<Option<u32>, ContainerError> {
        tokio::select! {
            biased;
            exit = self.inner().containerd.wait(container.id.as_str(), Some(exec_id)) => match exit {
                Err(error) if !error.is_not_found() => {
                    Err(command_failed(container, "wait for the command")(error))
                }
                exit => Ok(exit.ok().map(|exit| exit.code)),
            },
            code = self.silent_end(container, pid) => {
                let untold = || ContainerError::UntoldExit { id: container.id.clone() };
                code.ok_or_else(untold).map(Some)
            }
        }
    }

    /// Has the shim forget a command that has ended, or was never started.
    pub(super) async fn forget_command(&self, container: &Container, exec_id: &str) {
        if let Err(error) = self.inner().containerd.delete_exec(container.id.as_str(), exec_id).await
            && !error.is_not_found()
        {
            tracing::debug!(container = %container.id, "an ended command stays in its shim: {}", chain(&error));
        }
    }

    async fn watch_exec(
        &self,
        container: &Container,
        exec_id: &str,
        pid: u32,
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
            code = self.command_ended(container, exec_id, pid) => {
                code.map(|code| code.map_or(Outcome::ContainerEnded, Outcome::Ended))
            }
            () = limit => Ok(Outcome::TimedOut),
            () = gone.cancelled() => Ok(Outcome::CallerGone),
            () = container.ended() => Ok(Outcome::ContainerEnded),
        }
    }

    async fn kill_exec(&self, container: &Container, exec_id: &str) {
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

    /// The OCI process of a command: that of the stored spec, with another command.
    async fn exec_process(
        &self,
        container: &Container,
        command: &[String],
        terminal: bool,
    ) -> Result<Vec<u8>, ContainerError> {
        let containerd = &self.inner().containerd;
        let record = containerd
            .container(container.id.as_str())
            .await
            .map_err(container.failed("read the stored spec"))?;
        let stored = serde_json::from_slice(&record.spec).map_err(|error| {
            let why = format!("the stored spec of container {} is not an OCI spec: {error}", container.id);
            crate::field::error("container", why)
        })?;
        let process = spec::exec_process(&stored, command, terminal).map_err(ContainerError::Spec)?;
        Ok(serde_json::to_vec(&process).expect("a process has only string keys"))
    }
}

/// Why a command failed. Shim and runtime have a dozen words for a container that has just ended, so the kernel is
/// asked: its exit may still be on its way to us.
pub(super) fn command_failed(
    container: &Container,
    step: &'static str,
) -> impl FnOnce(ContainerdError) -> ContainerError {
    move |error| match container.facts().state.running() {
        Ok(pid) if process::is_alive(pid.cast_signed()) => container.failed(step)(error),
        _ => ContainerError::EndedMeanwhile { id: container.id.clone() },
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
