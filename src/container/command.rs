//! A command beside a container's own process: what ExecSync and Exec have in common.
//!
//! Invariant: whatever is made for a command goes with it, whether its caller waits for that or not.

use std::sync::{Arc, LazyLock};

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::witness::hold;
use super::{Container, ContainerError, Containers};
use crate::containerd::{ContainerdError, ExecProcess, Exit, StdioPaths};
use crate::error::chain;
use crate::io::{Fifos, IoError, Stdin};
use crate::linux::pidfd::Pidfd;
use crate::linux::process;
use crate::spec;
use crate::trace;
use crate::work::{Op, Operation};

/// What the ids of all commands of this daemon begin with: those of another's are nobody's.
static OURS: LazyLock<String> = LazyLock::new(|| format!("{:016x}", rand::random::<u64>()));

/// Whether a command is of this daemon, by its id.
pub(super) fn is_ours(exec_id: &str) -> bool {
    exec_id.starts_with(OURS.as_str())
}

/// A command, and what is made for it.
pub(super) struct Command {
    pub container: Arc<Container>,
    /// What the shim, and its FIFOs, call it.
    pub exec_id: String,
    pub fifos: Fifos,
    pub op: Op,
}

/// One that was started.
pub(super) struct Running {
    process: Option<Pidfd>,
    /// The shim's word of its end.
    told: AbortOnDropHandle<Result<Exit, ContainerdError>>,
}

impl Command {
    /// What a failure of its streams is.
    pub fn failed_io(&self, step: &'static str) -> impl FnOnce(IoError) -> ContainerError + use<> {
        let id = self.container.id.clone();
        move |source| ContainerError::Io { step, id, source }
    }
}

impl Containers {
    /// Has `work` done with a command that is yet to be started; what it comes to. That is a task of its own, which
    /// outlives a caller that goes away, as does the clearing away: nobody waits for that.
    ///
    /// # Errors
    /// The container does not run, or those of the work.
    pub(super) async fn with_command<T, W>(
        &self,
        container: Arc<Container>,
        operation: Operation,
        terminal: bool,
        stdin: Stdin,
        work: impl FnOnce(Containers, Arc<Command>) -> W,
    ) -> Result<T, ContainerError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, ContainerError>> + Send + 'static,
    {
        self.must_run(&container)?;
        let id = container.id.clone();
        let exec_id = format!("{}{:016x}", *OURS, rand::random::<u64>());
        let fifos =
            Fifos::create(&self.state_dir(&id).join("io"), &exec_id, terminal, stdin).map_err(|source| {
                ContainerError::Io { step: "make the command's streams", id: id.clone(), source }
            })?;
        let op = self.begin(&container, operation);
        let command = Arc::new(Command { container, exec_id, fifos, op });
        let (tell, told) = oneshot::channel();
        let (containers, work) = (self.clone(), work(self.clone(), command.clone()));
        let task = tokio::spawn(async move {
            // Whoever waited may have left.
            let _ = tell.send(command.op.run(work).await);
            command.op.within(containers.clear_away(&command)).await;
        });
        match told.await {
            Ok(result) => result,
            Err(_) => {
                let why = task.await.err().map(|why| why.to_string()).unwrap_or_default();
                Err(ContainerError::Panicked { id, why })
            }
        }
    }

    /// Adds a command to the container's shim, and starts it.
    pub(super) async fn start_command(
        &self,
        command: &Command,
        arguments: &[String],
    ) -> Result<Running, ContainerError> {
        let Command { container, exec_id, op, .. } = command;
        op.step("add the command", self.add_command(command, arguments)).await?;
        // Asked for beforehand: most commands are short, and the answer is then on its way as they end.
        let (containerd, id, exec) =
            (self.inner().containerd.clone(), container.id.to_string(), exec_id.clone());
        let told = trace::spawn(async move { containerd.wait(&id, Some(&exec)).await });
        let told = AbortOnDropHandle::new(told);
        let started = self.inner().containerd.start_exec(container.id.as_str(), exec_id);
        let pid = op.step("start the command", started).await;
        let pid = pid.map_err(command_failed(container, "start the command"))?;
        Ok(Running { process: hold(container, pid), told })
    }

    async fn add_command(&self, command: &Command, arguments: &[String]) -> Result<(), ContainerError> {
        let Command { container, exec_id, fifos, .. } = command;
        let process = ExecProcess {
            container_id: container.id.to_string(),
            exec_id: exec_id.clone(),
            stdio: StdioPaths {
                stdin: fifos.stdin.clone(),
                stdout: fifos.stdout.clone(),
                stderr: fifos.stderr.clone(),
                terminal: fifos.terminal,
            },
            process: self.exec_process(container, arguments, fifos.terminal).await?,
        };
        self.inner().containerd.add_exec(&process).await.map_err(command_failed(container, "add the command"))
    }

    /// The OCI process of a command: that of the stored spec, with another command.
    async fn exec_process(
        &self,
        container: &Container,
        arguments: &[String],
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
        let process = spec::exec_process(&stored, arguments, terminal).map_err(ContainerError::Spec)?;
        Ok(serde_json::to_vec(&process).expect("a process has only string keys"))
    }

    /// Waits for a command's end; its exit code. `None`: its shim went, and the command with it.
    pub(super) async fn command_ended(
        &self,
        Command { container, .. }: &Command,
        Running { process, told }: &mut Running,
    ) -> Result<Option<u32>, ContainerError> {
        tokio::select! {
            biased;
            told = told => match told {
                Ok(Ok(exit)) => Ok(Some(exit.code)),
                Ok(Err(error)) if error.is_not_found() => Ok(None),
                Ok(Err(error)) => Err(command_failed(container, "wait for the command")(error)),
                Err(why) => Err(ContainerError::Panicked { id: container.id.clone(), why: why.to_string() }),
            },
            code = self.silent_end(container, process.as_ref()) => {
                let untold = || ContainerError::UntoldExit { id: container.id.clone() };
                code.ok_or_else(untold).map(Some)
            }
        }
    }

    async fn clear_away(&self, Command { container, exec_id, fifos, .. }: &Command) {
        self.forget_command(container, exec_id).await;
        if let Err(error) = fifos.remove() {
            tracing::warn!(container = %container.id, "a command's FIFOs stay until removal: {}", chain(&error));
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
}

/// Why a command failed. Shim and runtime have a dozen words for a container that has just ended, so the kernel is
/// asked: its exit may still be on its way to us.
fn command_failed(
    container: &Container,
    step: &'static str,
) -> impl FnOnce(ContainerdError) -> ContainerError {
    move |error| match container.facts().state.running() {
        Ok(pid) if process::is_alive(pid.cast_signed()) => container.failed(step)(error),
        _ => ContainerError::EndedMeanwhile { id: container.id.clone() },
    }
}
