//! Commands whose cridge went away in the middle of a session: their clients went with it. They read end of file, write
//! to nobody, and are reaped when they end, as if the clients alone had gone (`session.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::command::is_ours;
use super::session::pass_output;
use super::{Container, Containers};
use crate::error::chain;
use crate::io::{Fifos, Outflow};

/// How long containerd is left alone after it has not answered.
const AGAIN: Duration = Duration::from_secs(1);

impl Containers {
    /// Looks after the commands of a container that runs whose daemon is gone, found by their FIFOs. Returns at once.
    pub fn leave_commands(&self, container: &Arc<Container>) {
        let dir = self.state_dir(&container.id).join("io");
        for (exec_id, fifos) in Fifos::all_in(&dir) {
            if exec_id != container.id.as_str() && !is_ours(&exec_id) {
                tokio::spawn(self.clone().leave_command(container.clone(), exec_id, fifos));
            }
        }
    }

    async fn leave_command(self, container: Arc<Container>, exec_id: String, fifos: Fifos) {
        // One that was added and never started has no end to wait for. One that runs cannot be deleted.
        let deleted = self.inner().containerd.delete_exec(container.id.as_str(), &exec_id).await;
        if deleted.is_err() {
            self.see_out(&container, &exec_id, &fifos).await;
        }
        if let Err(error) = fifos.remove() {
            tracing::warn!(container = %container.id, "a command's FIFOs stay until removal: {}", chain(&error));
        }
    }

    /// Nobody hears it, and it hears nobody, until it ends.
    async fn see_out(&self, container: &Arc<Container>, exec_id: &str, fifos: &Fifos) {
        let containerd = &self.inner().containerd;
        tracing::info!(container = %container.id, command = exec_id, "a command has outlived its client");
        let over = CancellationToken::new();
        let mut outputs = Vec::new();
        for path in [&fifos.stdout, &fifos.stderr].into_iter().flatten() {
            match Outflow::open(path) {
                Ok(outflow) => {
                    let drain = self.inner().config.now().runtime.exec_drain;
                    outputs.push(tokio::spawn(pass_output(outflow, None, over.clone(), drain)));
                }
                Err(error) => tracing::warn!(container = %container.id, "{}", chain(&error)),
            }
        }
        if fifos.stdin.is_some() {
            self.end_input(container, exec_id).await;
        }
        let ended = async {
            // An error is containerd's, which may come back.
            while let Err(error) = containerd.wait(container.id.as_str(), Some(exec_id)).await
                && !error.is_not_found()
            {
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = container.ended() => {}
        }
        over.cancel();
        for output in outputs {
            // A panic there is told by its own task.
            let _ = output.await;
        }
        self.forget_command(container, exec_id).await;
    }
}
