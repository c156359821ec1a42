//! Exec: a command that somebody talks with. It outlives whoever talks: a client that goes away leaves a process that
//! reads end of file, writes to nobody, and is reaped when it ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::command::Command;
use super::{Container, ContainerError, Containers};
use crate::error::chain;
use crate::io::{Inflow, Outflow, Stdin};
use crate::streaming::{Input, Output, Size, Streams};
use crate::work::Operation;

impl Containers {
    /// Runs a command and passes its streams through (CRI Exec); its exit code. The work outlives a caller that goes
    /// away.
    ///
    /// # Errors
    /// The container does not run, or the command cannot be started.
    pub async fn exec_session(
        &self,
        container: Arc<Container>,
        arguments: Vec<String>,
        terminal: bool,
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        let stdin = if streams.stdin.is_some() { Stdin::Open } else { Stdin::None };
        let work = async move |containers: Containers, command: Arc<Command>| {
            containers.talk(&command, &arguments, streams).await
        };
        self.with_command(container, Operation::Exec, terminal, stdin, work).await
    }

    async fn talk(
        &self,
        command: &Command,
        arguments: &[String],
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        let Command { container, exec_id, fifos, op } = command;
        let drain = self.inner().config.now().runtime.exec_drain;
        let over = CancellationToken::new();
        let stderr = if fifos.terminal { None } else { fifos.stderr.as_deref() };
        let mut outputs = Vec::new();
        for (path, output) in [(fifos.stdout.as_deref(), streams.stdout), (stderr, streams.stderr)] {
            let Some(path) = path else { continue };
            let outflow = Outflow::open(path).map_err(command.failed_io("open the command's streams"))?;
            let passing = pass_output(outflow, output, over.clone(), drain);
            outputs.push(AbortOnDropHandle::new(tokio::spawn(passing)));
        }
        let mut running = self.start_command(command, arguments).await?;
        let _stdin = match (streams.stdin, fifos.stdin.clone()) {
            (Some(input), Some(path)) => {
                let feeding =
                    self.clone().feed(container.clone(), exec_id.clone(), path, input, fifos.terminal);
                Some(AbortOnDropHandle::new(tokio::spawn(feeding)))
            }
            _ => None,
        };
        let _sizes = streams.sizes.map(|sizes| {
            let following = self.clone().follow_sizes(container.clone(), Some(exec_id.clone()), sizes);
            AbortOnDropHandle::new(tokio::spawn(following))
        });
        let exit = async {
            tokio::select! {
                biased;
                code = self.command_ended(command, &mut running) => code,
                () = container.ended() => Ok(None),
            }
        };
        let exit = op.step("wait for the command", exit).await;
        over.cancel();
        // A panic there is told by its own task; what it had not passed on is lost.
        op.step("pass the rest of its output on", join_all(outputs)).await;
        match exit? {
            Some(code) => Ok(i32::try_from(code).unwrap_or(i32::MAX)),
            None => Err(ContainerError::EndedMeanwhile { id: container.id.clone() }),
        }
    }

    /// Passes on what the client says. Its end, and its going away, is the command's end of file; a terminal has none.
    async fn feed(
        self,
        container: Arc<Container>,
        exec_id: String,
        path: std::path::PathBuf,
        mut input: Input,
        terminal: bool,
    ) {
        let fed = write_input(&path, &mut input).await;
        if let Err(error) = fed {
            tracing::debug!(container = %container.id, "a command's input ends early: {}", chain(&*error));
        }
        if terminal {
            return;
        }
        self.end_input(&container, &exec_id).await;
    }

    /// A command reads end of file from now on.
    pub(super) async fn end_input(&self, container: &Container, exec_id: &str) {
        let closed = self.inner().containerd.close_stdin(container.id.as_str(), Some(exec_id)).await;
        if let Err(error) = closed
            && !error.is_not_found()
        {
            tracing::debug!(container = %container.id, "{}", chain(&error));
        }
    }

    /// Keeps a terminal at the size of the client's.
    pub(super) async fn follow_sizes(
        self,
        container: Arc<Container>,
        exec_id: Option<String>,
        mut sizes: watch::Receiver<Option<Size>>,
    ) {
        loop {
            let size = *sizes.borrow_and_update();
            if let Some(Size { width, height }) = size {
                let id = container.id.as_str();
                let resized =
                    self.inner().containerd.resize(id, exec_id.as_deref(), width.into(), height.into());
                if let Err(error) = resized.await {
                    tracing::debug!(container = %container.id, "{}", chain(&error));
                }
            }
            if sizes.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn write_input(path: &Path, input: &mut Input) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut inflow = Inflow::open(path).await?;
    while let Some(bytes) = input.chunk().await? {
        inflow.write(&bytes).await?;
    }
    Ok(())
}

/// Passes on what the process writes, at the client's pace; with nobody to hear it, it is read nevertheless, for the
/// process must not wait for ever. Once the process is over, whatever still comes must come within `drain`, each time:
/// a background child may hold the pipe.
pub(super) async fn pass_output(
    mut outflow: Outflow,
    mut output: Option<Output>,
    over: CancellationToken,
    drain: Duration,
) {
    loop {
        let late = async {
            over.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        let chunk = tokio::select! {
            biased;
            chunk = outflow.chunk() => chunk,
            () = late => return,
        };
        match chunk {
            Ok(Some(bytes)) => {
                if let Some(listener) = &mut output
                    && listener.send(bytes).await.is_err()
                {
                    output = None;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "a command's output cannot be read");
                return;
            }
        }
    }
}
