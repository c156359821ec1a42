//! Exec: a command that somebody talks with. It outlives whoever talks: a client that goes away leaves a process that
//! reads end of file, writes to nobody, and is reaped when it ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::exec::fresh_exec_id;
use super::{Container, ContainerError, Containers};
use crate::error::chain;
use crate::io::{Fifos, Inflow, IoError, Outflow, Stdin};
use crate::streaming::{Input, Output, Size, Streams};
use crate::work::{Op, Operation};

impl Containers {
    /// Runs a command and passes its streams through (CRI Exec); its exit code. The work outlives a caller that goes
    /// away.
    ///
    /// # Errors
    /// The container does not run, or the command cannot be started.
    pub async fn exec_session(
        &self,
        container: Arc<Container>,
        command: Vec<String>,
        terminal: bool,
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        self.must_run(&container)?;
        let (containers, id) = (self.clone(), container.id.clone());
        let exec_id = fresh_exec_id();
        let dir = self.state_dir(&id).join("io");
        let stdin = if streams.stdin.is_some() { Stdin::Open } else { Stdin::None };
        let fifos =
            Fifos::create(&dir, &exec_id, terminal, stdin).map_err(|source| io_failed(&container, source))?;
        let (tell, told) = oneshot::channel();
        let work = tokio::spawn(async move {
            let op = container.work.begin(Operation::Exec);
            let result = containers.talk(&container, &exec_id, &command, &fifos, streams, &op).await;
            let result = op.end(result);
            // Whoever waits for the exit code need not wait until all is cleared away. It may have left.
            let _ = tell.send(result);
            containers.forget_command(&container, &exec_id).await;
            if let Err(error) = fifos.remove() {
                tracing::warn!(container = %container.id, "a command's FIFOs stay until removal: {}", chain(&error));
            }
        });
        match told.await {
            Ok(result) => result,
            Err(_) => {
                let why = work.await.err().map(|why| why.to_string()).unwrap_or_default();
                Err(ContainerError::Panicked { id, why })
            }
        }
    }

    async fn talk(
        &self,
        container: &Arc<Container>,
        exec_id: &str,
        command: &[String],
        fifos: &Fifos,
        streams: Streams,
        op: &Op,
    ) -> Result<i32, ContainerError> {
        let drain = self.inner().config.runtime.exec_drain;
        let over = CancellationToken::new();
        let stderr = if fifos.terminal { None } else { fifos.stderr.as_deref() };
        let mut outputs = Vec::new();
        for (path, output) in [(fifos.stdout.as_deref(), streams.stdout), (stderr, streams.stderr)] {
            let Some(path) = path else { continue };
            let outflow = Outflow::open(path).map_err(|source| io_failed(container, source))?;
            let passing = pass_output(outflow, output, over.clone(), drain);
            outputs.push(AbortOnDropHandle::new(tokio::spawn(passing)));
        }
        op.step("add the command", self.add_command(container, exec_id, command, fifos)).await?;
        let pid = op.step("start the command", self.start_command(container, exec_id)).await?;
        let _stdin = match (streams.stdin, fifos.stdin.clone()) {
            (Some(input), Some(path)) => {
                let feeding =
                    self.clone().feed(container.clone(), exec_id.to_owned(), path, input, fifos.terminal);
                Some(AbortOnDropHandle::new(tokio::spawn(feeding)))
            }
            _ => None,
        };
        let _sizes = streams.sizes.map(|sizes| {
            let following = self.clone().follow_sizes(container.clone(), Some(exec_id.to_owned()), sizes);
            AbortOnDropHandle::new(tokio::spawn(following))
        });
        let exit = async {
            tokio::select! {
                biased;
                code = self.command_ended(container, exec_id, pid) => code,
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

fn io_failed(container: &Container, source: IoError) -> ContainerError {
    ContainerError::Io { step: "open the command's streams", id: container.id.clone(), source }
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
