//! The HTTP server behind the URLs that Exec, Attach and PortForward answer with.
//!
//! Invariant: without a token there is nothing here; with one there is, once, what it was issued for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StreamingError;
use super::http::{Head, Refusal, switch};
use super::tls::Identity;
use super::token::Tokens;
use super::upgrade::{Transport, Upgrade};
use super::websocket::Tunnel;
use super::work::Work;
use super::{command, forward, spdy, websocket};
use crate::config::StreamingConfig;

/// Connections at once: each pod's kubelet probes and people's sessions together stay far below.
const MAX_CONNECTIONS: usize = 4096;

/// How long clients may take to hear that we stop.
const PARTING: Duration = Duration::from_secs(2);
/// How long a client may take for TLS, before its request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Issues URLs. Cheap to clone.
#[derive(Clone)]
pub struct Streaming {
    address: SocketAddr,
    spdy: spdy::Limits,
    websocket: websocket::Limits,
    tokens: Arc<Tokens<Work>>,
    /// With TLS.
    identity: Option<Identity>,
}

impl Streaming {
    /// Listens as configured; nothing is served before [`Streaming::serve`].
    ///
    /// # Errors
    /// [`StreamingError::Bind`], [`StreamingError::Certificate`].
    pub async fn bind(config: &StreamingConfig) -> Result<(Self, TcpListener), StreamingError> {
        let wanted = SocketAddr::new(config.address, config.port);
        let failed = |source| StreamingError::Bind { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let identity = config.tls.as_ref().map(|tls| Identity::load(tls, config.address)).transpose()?;
        let spdy = spdy::Limits { idle: config.idle_timeout, ..Default::default() };
        let websocket = websocket::Limits { idle: config.idle_timeout, ..Default::default() };
        Ok((Self { address, spdy, websocket, tokens: Arc::default(), identity }, listener))
    }

    /// A URL that does the work for whoever comes first, within a minute.
    ///
    /// # Errors
    /// [`StreamingError::TooManyPending`].
    pub fn url(&self, work: Work) -> Result<String, StreamingError> {
        let kind = kind(&work);
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}/{kind}/{}", self.address, self.tokens.issue(work)?))
    }

    /// Serves until `stop`, which ends the sessions too: clients of commands are told.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let sessions = TaskTracker::new();
        let over = CancellationToken::new();
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
                    let session = self.clone().session(stream, stop.clone());
                    let session = over.clone().run_until_cancelled_owned(session);
                    sessions.spawn(async move {
                        session.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Of the one connection, or for want of descriptors: both pass.
                    tracing::warn!(%error, "a streaming connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        sessions.close();
        let _ = timeout(PARTING, sessions.wait()).await;
        over.cancel();
        sessions.wait().await;
    }

    async fn session(self, stream: TcpStream, stop: CancellationToken) {
        keep_alive(&stream);
        let Some(identity) = self.identity.clone() else {
            let (read, write) = stream.into_split();
            return self.answer(read, write, stop).await;
        };
        let Ok(acceptor) = tokio::task::spawn_blocking(move || identity.acceptor()).await else { return };
        match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let (read, write) = split(stream);
                self.answer(read, write, stop).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a client does not get through TLS's handshake"),
            Err(_) => tracing::debug!("a client did not finish TLS's handshake within {HANDSHAKE:?}"),
        }
    }

    async fn answer<R, W>(self, mut read: R, mut write: W, stop: CancellationToken)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let Some(head) = stop.run_until_cancelled(Head::read(&mut read)).await else { return };
        let refusal = match head {
            Ok(head) => match self.tokens_work(&head) {
                Ok(work) => {
                    let has_nothing_to_tell = matches!(work, Work::PortForward(_));
                    let serving = self.upgrade(read, write, head, work.until(&stop));
                    if has_nothing_to_tell {
                        stop.run_until_cancelled(serving).await;
                    } else {
                        serving.await;
                    }
                    return;
                }
                Err(refusal) => refusal,
            },
            Err(Some(refusal)) => refusal,
            Err(None) => return,
        };
        refuse(&refusal, &mut write).await;
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

    async fn upgrade<R, W>(self, read: R, mut write: W, head: Head, work: Work)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let upgrade = match Upgrade::choose(&head, &work) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refuse(&refusal, &mut write).await,
        };
        if let Err(error) = switch(&mut write, upgrade.name, &upgrade.headers).await {
            tracing::debug!(%error, "a client left during its upgrade");
            return;
        }
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

async fn refuse(refusal: &Refusal, write: &mut (impl AsyncWrite + Unpin)) {
    tracing::debug!(?refusal, "a streaming request is refused");
    // That the client may not be there to hear it is its own matter.
    let _ = refusal.send(write).await;
}

/// A peer that vanished without a word is found out within a minute and a half. Best effort, and so is speed.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    const QUIET: Duration = Duration::from_secs(30);
    const BETWEEN: Duration = Duration::from_secs(15);
    const PROBES: u32 = 4;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, QUIET);
    let _ = sockopt::set_tcp_keepintvl(stream, BETWEEN);
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES);
    let _ = stream.set_nodelay(true);
}

/// As the path has it.
fn kind(work: &Work) -> &'static str {
    match work {
        Work::Exec(_) => "exec",
        Work::Attach(_) => "attach",
        Work::PortForward(_) => "portforward",
    }
}
