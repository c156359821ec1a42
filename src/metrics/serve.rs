//! Where the figures are told: HTTP, one question for each connection.
//!
//! Invariant: whoever asks, and however, takes no more than a few connections for some seconds each.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::gather::Sources;
use super::page::CONTENT_TYPE;
use crate::config::MetricsAddress;
use crate::error::Kind;
use crate::linux::{LinuxError, socket};
use crate::streaming::http::{Head, Refusal};

/// Questions at once: a Prometheus or two, and people.
const MAX_CONNECTIONS: usize = 8;
/// How long a client may take to fetch the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a connection that could not be accepted.
const AGAIN: Duration = Duration::from_millis(100);

/// Why figures are told nowhere.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("cannot listen on {address} for metrics: choose another metrics.listen")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("cannot listen on {} for metrics: choose another metrics.listen", path.display())]
    Unix { path: PathBuf, source: LinuxError },
    #[error("something answers on {} already: stop it, or choose another metrics.listen", path.display())]
    InUse { path: PathBuf },
}

impl MetricsError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::AlreadyExists,
            Self::Tcp { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Kind::AlreadyExists,
            Self::Tcp { .. } | Self::Unix { .. } => Kind::FailedPrecondition,
        }
    }
}

/// A place that is listened on. A socket's file goes with it.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens there. A socket has mode 0660; a stale one is replaced, a living one is not.
///
/// # Errors
/// It cannot be, or something else does.
pub async fn bind(address: &MetricsAddress) -> Result<Listener, MetricsError> {
    match address {
        MetricsAddress::Tcp(address) => match TcpListener::bind(address).await {
            Ok(listener) => Ok(Listener::Tcp(listener)),
            Err(source) => Err(MetricsError::Tcp { address: *address, source }),
        },
        MetricsAddress::Unix(path) => match socket::listen(path).await {
            Ok(listener) => Ok(Listener::Unix(listener, path.clone())),
            Err(LinuxError::InUse { path }) => Err(MetricsError::InUse { path }),
            Err(source) => Err(MetricsError::Unix { path: path.clone(), source }),
        },
    }
}

/// Answers until it is dropped.
pub async fn serve(listener: Listener, sources: Sources) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = room.clone().acquire_owned().await.expect("never closed");
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(io, _)| begin(io, &sources, place)),
            Listener::Unix(listener, _) => listener.accept().await.map(|(io, _)| begin(io, &sources, place)),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection for metrics cannot be accepted");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Has a connection answered, which keeps its place until then.
fn begin(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    sources: &Sources,
    place: OwnedSemaphorePermit,
) {
    let sources = sources.clone();
    tokio::spawn(async move {
        answer(io, &sources).await;
        drop(place);
    });
}

/// Of one connection. That the client may not be there to hear it is its own matter.
async fn answer(mut io: impl AsyncRead + AsyncWrite + Unpin, sources: &Sources) {
    let asked = Head::read(&mut io).await;
    let answered = async {
        match asked {
            Ok(head) if head.method == "GET" && head.path == "/metrics" => {
                tell(&mut io, &sources.page()).await
            }
            Ok(_) => {
                Refusal::new("404 Not Found", "there is nothing here but GET /metrics").send(&mut io).await
            }
            Err(Some(refusal)) => refusal.send(&mut io).await,
            Err(None) => Ok(()),
        }
    };
    let _ = timeout(PATIENCE, answered).await;
}

async fn tell(io: &mut (impl AsyncWrite + Unpin), page: &str) -> io::Result<()> {
    let length = page.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    io.write_all(head.as_bytes()).await?;
    io.write_all(page.as_bytes()).await?;
    io.shutdown().await
}
