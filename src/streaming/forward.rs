//! Port-forward over SPDY: for each connection a stream of data and one of errors, paired by `requestID`, or by their
//! numbers where old clients give none (k8s.io/cri-streaming pkg/streaming/portforward).
//!
//! A client ends the whole session when the error stream says anything, so nothing is said there: a connection that
//! fails is reset, alone (kubernetes#74551).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::spdy::{self, Limits, Receiver, Request, Sender, Status};
use super::work::{Dial, Forward};

/// The protocol's only version.
pub const PROTOCOL: &str = "portforward.k8s.io";
/// How long the second stream of a pair may take after the first (contract §5).
const PAIRING: Duration = Duration::from_secs(30);
/// How long a connection in the pod may take to be made: a full backlog holds it up.
const DIALING: Duration = Duration::from_secs(30);
/// Bytes read from the pod at once.
const READ: usize = 32 << 10;

/// One stream of a pair, until the other comes. It is open: clients wait for that before they ask for the other.
struct Half {
    stream: (Receiver, Sender),
    kind: Kind,
    until: Instant,
}

/// Both streams of a connection.
struct Pair {
    port: u16,
    data: (Receiver, Sender),
    error: (Receiver, Sender),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// Serves one client over an upgraded connection, to its end.
pub async fn serve_spdy<T>(io: T, forward: Forward, limits: Limits)
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
                        connections.spawn(connect(forward.dial.clone(), pair));
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
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(%error, "a port-forward's connection ended");
    }
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

/// One connection, from its streams to its end.
async fn connect(dial: Dial, pair: Pair) {
    let Pair { port, data: (receiver, sender), error: (_errors, mut error) } = pair;
    let dialed = tokio::time::timeout(DIALING, dial(port));
    match dialed.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            if let Err(why) = relay(stream, receiver, sender).await {
                tracing::debug!(port, %why, "a forwarded connection broke");
            }
        }
        Err(why) => {
            tracing::info!(port, %why, "a port of a pod cannot be reached");
            sender.reset(Status::CANCEL);
        }
    }
    error.finish();
}

/// Copies both ways; each direction ends for itself. What either side breaks ends both.
async fn relay(stream: tokio::net::TcpStream, mut receiver: Receiver, mut sender: Sender) -> io::Result<()> {
    // Best effort: it only makes small answers faster.
    let _ = stream.set_nodelay(true);
    let (mut read, mut write) = stream.into_split();
    let to_pod = async {
        while let Some(bytes) = receiver.chunk().await? {
            write.write_all(&bytes).await?;
        }
        write.shutdown().await
    };
    let from_pod = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            if read.read_buf(&mut buffer).await? == 0 {
                sender.finish();
                return Ok::<_, io::Error>(());
            }
            sender.send(buffer.split().freeze()).await?;
        }
    };
    tokio::try_join!(to_pod, from_pod).map(|_| ())
}
