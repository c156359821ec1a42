//! Port-forward (k8s.io/cri-streaming pkg/streaming/portforward).
//!
//! Over SPDY there is for each connection a stream of data and one of errors, paired by `requestID`, or by their numbers
//! where old clients give none. A client ends the whole session when the error stream says anything, so nothing is said
//! there: a connection that fails is reset, alone (kubernetes#74551).
//!
//! Over a WebSocket's channels there is one connection for each port that was asked for beforehand, and two channels for
//! it: data and errors, each with the port as two bytes, the lower first, in front. The session ends with the last
//! connection.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::command::note;
use super::spdy::{self, Request, Status};
use super::stream::{Receiver, Sender};
use super::websocket::{self, Codec, Dialect, HalfClose};
use super::work::{Dial, Forward};
use crate::chunk::Chunk;

/// The protocol's only version.
pub const PROTOCOL: &str = "portforward.k8s.io";
/// How long the second stream of a pair may take after the first (contract §5).
const PAIRING: Duration = Duration::from_secs(30);
/// How long a connection in the pod may take to be made: a full backlog holds it up.
const DIALING: Duration = Duration::from_secs(30);
/// How long a client may go on to talk to a port that has said all, where it cannot be told so (contract §5).
const GRACE: Duration = Duration::from_secs(1);
/// Ports of one session over channels: two channels each, of which a byte has the number.
const MAX_PORTS: usize = 127;

/// One stream of a pair, until the other comes. It is open: clients wait for that before they ask for the other.
struct Half {
    stream: (spdy::Receiver, spdy::Sender),
    kind: Kind,
    until: Instant,
}

/// Both streams of a connection.
struct Pair {
    port: u16,
    data: (spdy::Receiver, spdy::Sender),
    error: (spdy::Receiver, spdy::Sender),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// Serves one client over an upgraded connection, to its end.
pub async fn serve_spdy<T>(io: T, forward: Forward, limits: spdy::Limits)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (driver, mut connection) = spdy::serve(io, limits);
    let driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let next_late = halves.values().map(|half| half.until).min();
        let late = async {
            match next_late {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = connection.accept() => match request {
                Some(request) => {
                    if let Some(pair) = pair(&mut halves, request) {
                        connections.spawn(serve_pair(forward.dial.clone(), pair));
                    }
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            () = late => {
                let now = Instant::now();
                halves.retain(|_, half| half.until > now);
            }
        }
    }
    connection.close();
    note("a port-forward is over", driver.await);
}

/// Takes a stream in; the pair, if it makes one whole.
fn pair(halves: &mut HashMap<String, Half>, request: Request) -> Option<Pair> {
    let headers = request.headers();
    let kind = match headers.get("streamtype") {
        Some("data") => Kind::Data,
        Some("error") => Kind::Error,
        _ => return refuse(request, "is neither for data nor for errors"),
    };
    let Some(port) = headers.get("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0u16)
    else {
        return refuse(request, "names no port");
    };
    let id = match (headers.get("requestid"), kind) {
        (Some(id), _) => id.to_owned(),
        // A client that gives no ids opens the error stream first, and the data stream right after it.
        (None, Kind::Error) => request.id().to_string(),
        (None, Kind::Data) => request.id().saturating_sub(2).to_string(),
    };
    match halves.remove(&id) {
        None => {
            let half = Half { stream: request.accept(), kind, until: Instant::now() + PAIRING };
            halves.insert(id, half);
            None
        }
        Some(first) if first.kind == kind => {
            halves.insert(id, first);
            refuse(request, "comes twice")
        }
        Some(Half { stream: first, .. }) => {
            let second = request.accept();
            Some(match kind {
                Kind::Data => Pair { port, data: second, error: first },
                Kind::Error => Pair { port, data: first, error: second },
            })
        }
    }
}

fn refuse<T>(request: Request, why: &str) -> Option<T> {
    tracing::debug!(id = request.id(), "a port-forward stream {why}");
    request.refuse(Status::REFUSED_STREAM);
    None
}

/// One connection, from its streams to its end. Streams that end unfinished are reset.
async fn serve_pair(dial: Dial, pair: Pair) {
    let Pair { port, data: (receiver, sender), error: (_errors, mut error) } = pair;
    // Told where it happened; the client learns it from the reset.
    let _ = connect(&dial, port, Receiver::Spdy(receiver), Sender::Spdy(sender)).await;
    error.finish();
}

impl Forward {
    /// Whether channels are enough for it.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) fn check_channels(&self) -> Result<(), &'static str> {
        match self.ports.len() {
            0 => Err("no port was asked for, and channels cannot name any: use SPDY, or its tunnel"),
            1..=MAX_PORTS => Ok(()),
            _ => Err("more ports were asked for than there are channels: use SPDY, or its tunnel"),
        }
    }
}

/// Serves the ports that were asked for over channels, until the last connection's end.
pub async fn serve_channels<T>(io: T, codec: Codec, forward: Forward, limits: websocket::Limits)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let channels = u8::try_from(2 * forward.ports.len()).expect("the ports were counted before the upgrade");
    let dialect = Dialect { codec, half_close: HalfClose::Unknown };
    let (driver, connection, channels) = websocket::serve(io, dialect, channels, limits);
    let mut driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let mut channels = channels.into_iter();
    let mut connections = JoinSet::new();
    for port in forward.ports {
        let (Some((receiver, sender)), Some((_, error))) = (channels.next(), channels.next()) else { break };
        let data = (Receiver::Channel(receiver), Sender::Channel(sender));
        connections.spawn(serve_port(forward.dial.clone(), port, data, Sender::Channel(error)));
    }
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        why = &mut driver => return note("a client left its port-forward", why),
    }
    connection.close();
    note("a port-forward is over", driver.await);
}

async fn serve_port(dial: Dial, port: u16, (receiver, mut sender): (Receiver, Sender), mut error: Sender) {
    for channel in [&mut sender, &mut error] {
        if channel.send(Bytes::copy_from_slice(&port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    if let Err(why) = connect(&dial, port, receiver, sender).await {
        // A client that is gone does not want to know.
        let _ = error.send(Bytes::from(format!("port {port} cannot be forwarded: {why}"))).await;
    }
}

/// Connects, and passes on what either side says.
async fn connect(dial: &Dial, port: u16, receiver: Receiver, sender: Sender) -> io::Result<()> {
    let dialed = timeout(DIALING, dial(port)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = dialed.inspect_err(|why| tracing::info!(port, %why, "a port of a pod cannot be reached"))?;
    let relayed = relay(stream, receiver, sender).await;
    relayed.inspect_err(|why| tracing::debug!(port, %why, "a forwarded connection broke"))
}

/// Copies both ways; each direction ends for itself. Who breaks with us ends both; a port that listens no more may still
/// have something to say.
async fn relay(stream: tokio::net::TcpStream, mut receiver: Receiver, mut sender: Sender) -> io::Result<()> {
    // Best effort: it only makes small answers faster.
    let _ = stream.set_nodelay(true);
    let tells_its_end = sender.tells_its_end();
    let (mut read, mut write) = stream.into_split();
    let to_pod = async move {
        while let Some(bytes) = receiver.chunk().await? {
            if let Err(why) = write.write_all(&bytes).await {
                return Ok(Err(why));
            }
        }
        Ok::<_, io::Error>(write.shutdown().await)
    };
    let from_pod = async {
        let mut chunk = Chunk::default();
        loop {
            if read.read_buf(chunk.room()).await? == 0 {
                sender.finish();
                return Ok::<_, io::Error>(());
            }
            sender.send(chunk.take()).await?;
        }
    };
    if tells_its_end {
        let (taken, ()) = tokio::try_join!(to_pod, from_pod)?;
        return taken;
    }
    tokio::pin!(to_pod, from_pod);
    let mut said = false;
    let taken = tokio::select! {
        taken = &mut to_pod => taken?,
        ended = &mut from_pod => { said = true; ended.map(Ok)? }
    };
    if said { timeout(GRACE, to_pod).await.unwrap_or(Ok(Ok(())))? } else { from_pod.await.and(taken) }
}
