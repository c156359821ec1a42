//! Attach: somebody talks with a container's own process. Whoever leaves, or does not keep up, is no matter to it.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::{Container, ContainerError, Containers};
use crate::error::chain;
use crate::io::{Inflow, Listener};
use crate::streaming::{Input, Output, Streams};

impl Containers {
    /// Passes a running container's streams through (CRI Attach) until it ends. Dropping the future detaches.
    ///
    /// # Errors
    /// The container does not run, or the client did not keep up with what it writes.
    pub async fn attach(&self, container: Arc<Container>, streams: Streams) -> Result<(), ContainerError> {
        self.must_run(&container)?;
        let (stdout, stderr, inflow) = {
            let io = container.io.lock().await;
            let Some(io) = io.as_ref() else {
                return Err(ContainerError::EndedMeanwhile { id: container.id.clone() });
            };
            let (stdout, stderr) = io.listen();
            (stdout, stderr, io.stdin())
        };
        let _stdin = match (streams.stdin, inflow) {
            (Some(input), Ok(Some(inflow))) => {
                let feeding = self.clone().feed_attached(container.clone(), input, inflow);
                Some(AbortOnDropHandle::new(tokio::spawn(feeding)))
            }
            (_, Err(error)) => {
                tracing::warn!(container = %container.id, %error, "the standard input cannot be shared");
                None
            }
            _ => None,
        };
        let _sizes = streams.sizes.map(|sizes| {
            let following = self.clone().follow_sizes(container.clone(), None, sizes);
            AbortOnDropHandle::new(tokio::spawn(following))
        });
        let passed = tokio::join!(pass(stdout, streams.stdout), pass(stderr, streams.stderr));
        if passed.0.is_err() || passed.1.is_err() {
            return Err(ContainerError::TooSlow { id: container.id.clone() });
        }
        // All output was passed on; nothing but the end is to come.
        container.ended().await;
        Ok(())
    }

    /// Passes on what the client says. With `stdin_once` the first client's end is the process' too.
    async fn feed_attached(self, container: Arc<Container>, mut input: Input, mut inflow: Inflow) {
        while let Ok(Some(bytes)) = input.chunk().await {
            if let Err(error) = inflow.write(&bytes).await {
                tracing::debug!(container = %container.id, %error, "a container takes no more input");
                return;
            }
        }
        drop(inflow);
        let config = &container.facts().metadata.config;
        if !config.stdin_once || config.tty {
            return;
        }
        if let Some(io) = container.io.lock().await.as_mut() {
            io.close_stdin();
        }
        if let Err(error) = self.inner().containerd.close_stdin(container.id.as_str(), None).await {
            tracing::debug!(container = %container.id, "{}", chain(&error));
        }
    }
}

/// The client did not keep up.
struct CutOff;

/// Passes one stream on, at the client's pace. One that nobody wants is not listened to.
async fn pass(mut listener: Listener, output: Option<Output>) -> Result<(), CutOff> {
    let Some(mut output) = output else { return Ok(()) };
    while let Some(bytes) = listener.chunk().await {
        if output.send(bytes).await.is_err() {
            // It left; whoever holds this future learns of that too.
            return Ok(());
        }
    }
    if listener.was_cut_off() { Err(CutOff) } else { Ok(()) }
}
