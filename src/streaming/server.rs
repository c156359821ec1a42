//! The HTTP server behind the URLs that Exec, Attach and PortForward answer with.
//!
//! Invariant: without a token there is nothing here; with one there is, once, what it was issued for.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StreamingError;
use super::http::{Head, Refusal, switch};
use super::token::Tokens;
use super::upgrade::{Transport, Upgrade};
use super::websocket::Tunnel;
use super::work::Work;
use super::{command, forward, spdy, websocket};
use crate::config::StreamingConfig;

/// Connections at once: each pod's kubelet probes and people's sessions together stay far below.
const MAX_CONNECTIONS: usize = 4096;

/// Issues URLs. Cheap to clone.
#[derive(Clone)]
pub struct Streaming {
    address: SocketAddr,
    spdy: spdy::Limits,
    websocket: websocket::Limits,
    tokens: Arc<Tokens<Work>>,
}

impl Streaming {
    /// Listens as configured; nothing is served before [`Streaming::serve`].
    ///
    /// # Errors
    /// [`StreamingError::Bind`].
    pub async fn bind(config: &StreamingConfig) -> Result<(Self, TcpListener), StreamingError> {
        let wanted = SocketAddr::new(config.address, config.port);
        let failed = |source| StreamingError::Bind { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let spdy = spdy::Limits { idle: config.idle_timeout, ..Default::default() };
        let websocket = websocket::Limits { idle: config.idle_timeout, ..Default::default() };
        Ok((Self { address, spdy, websocket, tokens: Arc::default() }, listener))
    }

    /// A URL that does the work for whoever comes first, within a minute.
    ///
    /// # Errors
    /// [`StreamingError::TooManyPending`].
    pub fn url(&self, work: Work) -> Result<String, StreamingError> {
        let kind = kind(&work);
        Ok(format!("http://{}/{kind}/{}", self.address, self.tokens.issue(work)?))
    }

    /// Serves until `stop`, which ends the sessions too.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let sessions = TaskTracker::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = async {
                let place = room.clone().acquire_owned().await.expect("never closed");
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let session = self.clone().session(stream);
                    let session = stop.clone().run_until_cancelled_owned(session);
                    sessions.spawn(async move {
                        session.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Of the one connection, or for want of descriptors: both pass.
                    tracing::warn!(%error, "a streaming connection cannot be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        sessions.close();
        sessions.wait().await;
    }

    async fn session(self, mut stream: TcpStream) {
        // A peer that vanished without a word is found out in the end; best effort, and so is speed.
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let _ = stream.set_nodelay(true);
        let refusal = match Head::read(&mut stream).await {
            Ok(head) => match self.tokens_work(&head) {
                Ok(work) => return self.upgrade(stream, head, work).await,
                Err(refusal) => refusal,
            },
            Err(Some(refusal)) => refusal,
            Err(None) => return,
        };
        tracing::debug!(?refusal, "a streaming request is refused");
        let _ = refusal.send(&mut stream).await;
    }

    /// What the path's token stands for.
    fn tokens_work(&self, head: &Head) -> Result<Work, Refusal> {
        let unknown =
            || Refusal::new("404 Not Found", "no such URL, or it was used, or is over a minute old");
        let (wanted, token) =
            head.path.strip_prefix('/').and_then(|p| p.split_once('/')).ok_or_else(unknown)?;
        let work = self.tokens.redeem(token).ok_or_else(unknown)?;
        if kind(&work) == wanted { Ok(work) } else { Err(unknown()) }
    }

    async fn upgrade(self, mut stream: TcpStream, head: Head, work: Work) {
        let upgrade = match Upgrade::choose(&head, &work) {
            Ok(upgrade) => upgrade,
            Err(refusal) => {
                tracing::debug!(?refusal, "a streaming request is refused");
                let _ = refusal.send(&mut stream).await;
                return;
            }
        };
        if let Err(error) = switch(&mut stream, upgrade.name, &upgrade.headers).await {
            tracing::debug!(%error, "a client left during its upgrade");
            return;
        }
        let (read, write) = stream.into_split();
        let io = join(std::io::Cursor::new(head.rest).chain(read), write);
        self.serve_work(io, upgrade, work).await;
    }

    async fn serve_work<T>(&self, io: T, upgrade: Upgrade, work: Work)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Upgrade { transport, version, .. } = upgrade;
        match (work, transport) {
            (Work::Exec(command) | Work::Attach(command), Transport::Channels(codec)) => {
                command::serve_channels(io, version, codec, command, self.websocket).await;
            }
            (Work::Exec(command) | Work::Attach(command), _) => {
                command::serve_spdy(io, version, command, self.spdy).await;
            }
            (Work::PortForward(forward), Transport::Channels(codec)) => {
                forward::serve_channels(io, codec, forward, self.websocket).await;
            }
            (Work::PortForward(forward), Transport::Tunnel) => {
                let tunnel = Tunnel::new(io, &self.websocket).await;
                forward::serve_spdy(tunnel, forward, self.spdy).await;
            }
            (Work::PortForward(forward), Transport::Spdy) => {
                forward::serve_spdy(io, forward, self.spdy).await;
            }
        }
    }
}

/// As the path has it.
fn kind(work: &Work) -> &'static str {
    match work {
        Work::Exec(_) => "exec",
        Work::Attach(_) => "attach",
        Work::PortForward(_) => "portforward",
    }
}
