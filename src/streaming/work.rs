//! What a client comes for, as closures of those who know pods: here nothing is known of containers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stream::{Receiver, Sender};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a token stands for.
pub enum Work {
    Exec(Command),
    Attach(Command),
    PortForward(Forward),
}

/// A command, or a container's own process, to be talked with.
pub struct Command {
    pub wants: Wants,
    /// Talks until the process has ended. Its exit code, or what to tell the client instead. Dropped when the client
    /// leaves.
    pub run: Box<dyn FnOnce(Streams) -> Boxed<Result<i32, String>> + Send>,
}

impl Work {
    /// The same, but for a command's client: that is told when cridge is being stopped. The command itself goes on.
    pub(super) fn until(self, stop: &CancellationToken) -> Self {
        match self {
            Self::Exec(command) => Self::Exec(command.until(stop.clone())),
            Self::Attach(command) => Self::Attach(command.until(stop.clone())),
            Self::PortForward(forward) => Self::PortForward(forward),
        }
    }
}

impl Command {
    fn until(self, stop: CancellationToken) -> Self {
        let Self { wants, run } = self;
        let run = Box::new(move |streams| -> Boxed<Result<i32, String>> {
            let outcome = stop.run_until_cancelled_owned(run(streams));
            Box::pin(async move { outcome.await.unwrap_or_else(|| Err("cridge is being stopped".into())) })
        });
        Self { wants, run }
    }
}

/// Which streams were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Ports of a pod.
pub struct Forward {
    /// Connects to a port of the pod.
    pub dial: Dial,
    /// Those that were asked for beforehand. A client that can name ports itself need not keep to them.
    pub ports: Vec<u16>,
}

/// Connects to a port.
pub type Dial = Arc<dyn Fn(u16) -> Boxed<io::Result<TcpStream>> + Send + Sync>;

/// A client's ends of a process' streams; those that it asked for.
#[derive(Default)]
pub struct Streams {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    /// The latest size of the client's terminal.
    pub sizes: Option<watch::Receiver<Option<Size>>>,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

/// What a client says. Dropping it tells the client to say no more: not before, for clients take that as the end.
pub struct Input {
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
}

impl Input {
    pub(super) fn new((receiver, sender): (Receiver, Sender)) -> Self {
        Self { receiver, sender }
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// The client went away without saying that this was all.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.receiver.chunk().await
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.sender.finish();
    }
}

/// What a client hears. Dropping it tells the client that this was all.
pub struct Output(pub(super) Sender);

impl Output {
    /// Sends all of it, when the client has room.
    ///
    /// # Errors
    /// The client went away.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.send(bytes).await
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.0.finish();
    }
}
