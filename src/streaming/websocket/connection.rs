//! A connection's one driver, and what the users of its channels hold.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, sink};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::channel::{Codec, HalfClose, Said};
use super::{Limits, WebSocketError, server};

/// Bytes of one message of ours, at most: so that channels take turns.
const MAX_MESSAGE: usize = 64 << 10;
/// What a message that waits takes beside its bytes, roughly.
const OVERHEAD: usize = 64;

/// The right to say goodbye. Dropping it does, once all is written that was sent before.
pub struct Connection {
    out: mpsc::Sender<Outgoing>,
}

/// What the client says on a channel. Dropping it throws away what comes.
pub struct Receiver {
    pieces: mpsc::Receiver<Incoming>,
    over: bool,
}

/// What we say on a channel. There is no way to tell its end but the connection's.
pub struct Sender {
    channel: u8,
    out: mpsc::Sender<Outgoing>,
    /// Bytes that may yet be queued for the socket.
    room: Arc<Semaphore>,
}

/// What waits for a channel's receiver.
enum Incoming {
    Data { bytes: Bytes, _room: OwnedSemaphorePermit },
    End,
}

/// What waits for the socket.
enum Outgoing {
    Data { channel: u8, bytes: Bytes, room: OwnedSemaphorePermit },
    Goodbye,
}

/// Where the driver puts what comes on a channel.
struct Inbox {
    pieces: mpsc::Sender<Incoming>,
    room: Arc<Semaphore>,
}

/// How messages are understood.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    pub codec: Codec,
    pub half_close: HalfClose,
}

/// Serves `channels` channels, numbered from 0, on an upgraded connection. The future is the driver: the connection
/// lives while it is polled, and it ends with the connection.
///
/// # Errors
/// The driver's: how the connection ended, if not by our goodbye.
pub fn serve<T>(
    io: T,
    dialect: Dialect,
    channels: u8,
    limits: Limits,
) -> (impl Future<Output = Result<(), WebSocketError>> + Send, Connection, Vec<(Receiver, Sender)>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (out, to_write) = queue(limits.outgoing);
    let room = Arc::new(Semaphore::new(limits.outgoing));
    let (inboxes, ends) = (0..channels)
        .map(|channel| {
            let (pieces, taken) = queue(limits.window);
            let inbox = Inbox { pieces, room: Arc::new(Semaphore::new(limits.window)) };
            let receiver = Receiver { pieces: taken, over: false };
            (Some(inbox), (receiver, Sender { channel, out: out.clone(), room: room.clone() }))
        })
        .unzip();
    let driver = Driver { dialect, limits, inboxes, to_write, active: Mutex::new(Instant::now()) };
    (driver.run(io), Connection { out }, ends)
}

/// A queue for so many bytes. Whatever is put in has room first, and takes some, so that there is always a place, and
/// one more for the end.
fn queue<T>(bytes: usize) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel(bytes / OVERHEAD + 1)
}

impl Connection {
    /// Ends the connection after what was sent before.
    pub fn close(self) {}
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Nobody to say it to: that is an end too.
        let _ = self.out.try_send(Outgoing::Goodbye);
    }
}

impl Receiver {
    /// The next bytes, never empty; `None` after the client's last. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The connection ended, and all that came before was taken.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, WebSocketError> {
        if self.over {
            return Ok(None);
        }
        match self.pieces.recv().await {
            Some(Incoming::Data { bytes, .. }) => Ok(Some(bytes)),
            Some(Incoming::End) => {
                self.over = true;
                Ok(None)
            }
            None => Err(WebSocketError::Gone),
        }
    }
}

impl Sender {
    /// Sends all of `data`, as the connection has room; a message without any, if it is empty. If the future is
    /// dropped, part of it is sent.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), WebSocketError> {
        loop {
            let bytes = data.split_to(data.len().min(MAX_MESSAGE));
            let room = room_for(&self.room, bytes.len()).await?;
            let outgoing = Outgoing::Data { channel: self.channel, bytes, room };
            self.out.try_send(outgoing).map_err(|_| WebSocketError::Gone)?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Waits for room for a message; one that is larger than all there is takes all.
async fn room_for(room: &Arc<Semaphore>, length: usize) -> Result<OwnedSemaphorePermit, WebSocketError> {
    let wanted = u32::try_from(length + OVERHEAD).unwrap_or(u32::MAX);
    room.clone().acquire_many_owned(wanted).await.map_err(|_| WebSocketError::Gone)
}

struct Driver {
    dialect: Dialect,
    limits: Limits,
    /// By channel; `None` once the client has ended it.
    inboxes: Vec<Option<Inbox>>,
    to_write: mpsc::Receiver<Outgoing>,
    /// When something was last said by either side.
    active: Mutex<Instant>,
}

impl Driver {
    async fn run<T: AsyncRead + AsyncWrite + Unpin>(self, io: T) -> Result<(), WebSocketError> {
        let Self { dialect, limits, mut inboxes, mut to_write, active } = self;
        let (mut sink, mut stream) = server(io, &limits).await.split();
        let result = tokio::select! {
            result = read(&mut stream, dialect, &mut inboxes, &limits, &active) => result,
            result = write(&mut sink, dialect.codec, &mut to_write, &active) => result,
            () = idle(&active, &limits) => Err(WebSocketError::Idle),
        };
        // The channels' users learn of the end before the peer has taken its leave.
        drop((inboxes, to_write));
        let socket = stream.reunite(sink).expect("both are of one socket");
        // A peer that does not take its leave in time is left.
        let _ = timeout(limits.linger, part(socket, &result)).await;
        result
    }
}

async fn read(
    stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    dialect: Dialect,
    inboxes: &mut [Option<Inbox>],
    limits: &Limits,
    active: &Mutex<Instant>,
) -> Result<(), WebSocketError> {
    while let Some(message) = stream.next().await {
        let message = match message? {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            // Pings are answered below us; a client that does nothing but ping is idle.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        touch(active);
        match dialect.codec.read(message, dialect.half_close)? {
            Said::Data { channel, bytes } if !bytes.is_empty() => {
                let Some(Some(inbox)) = inboxes.get(usize::from(channel)) else {
                    tracing::debug!(channel, "a message for no channel, or for one that is over");
                    continue;
                };
                let room = room_for(&inbox.room, bytes.len().min(limits.window - OVERHEAD)).await?;
                // Whom nobody listens to speaks in vain.
                let _ = inbox.pieces.try_send(Incoming::Data { bytes, _room: room });
            }
            Said::Close { channel } => {
                if let Some(inbox) = inboxes.get_mut(usize::from(channel)).and_then(Option::take) {
                    let _ = inbox.pieces.try_send(Incoming::End);
                }
            }
            Said::Data { .. } | Said::Nothing => {}
        }
    }
    Err(WebSocketError::Gone)
}

async fn write(
    sink: &mut (impl futures::Sink<Message, Error = Error> + Unpin),
    codec: Codec,
    to_write: &mut mpsc::Receiver<Outgoing>,
    active: &Mutex<Instant>,
) -> Result<(), WebSocketError> {
    while let Some(first) = to_write.recv().await {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Data { channel, bytes, room } => {
                    sink.feed(codec.message(channel, &bytes)).await?;
                    touch(active);
                    drop(room);
                }
                // However long the client takes for what was said before.
                Outgoing::Goodbye => return Ok(sink.flush().await?),
            }
            next = to_write.try_recv().ok();
        }
        sink.flush().await?;
    }
    Ok(())
}

fn touch(active: &Mutex<Instant>) {
    *active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

async fn idle(active: &Mutex<Instant>, limits: &Limits) {
    loop {
        let until = *active.lock().unwrap_or_else(PoisonError::into_inner) + limits.idle;
        if Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

/// Says goodbye, and waits for the peer's: to close while there is something unread could take our last words from it.
async fn part<T>(mut socket: WebSocketStream<T>, result: &Result<(), WebSocketError>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let code = result.as_ref().err().map_or(CloseCode::Normal, WebSocketError::close_code);
    let _ = socket.close(Some(CloseFrame { code, reason: "".into() })).await;
    while let Some(Ok(_)) = socket.next().await {}
    // What cannot be understood is read nevertheless.
    let io = socket.get_mut();
    let _ = io.shutdown().await;
    let _ = copy(io, &mut sink()).await;
}
