//! A connection's one driver, and what all of its users share.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::codec::Decoder;
use super::frame::Frame;
use super::outbox::FRAME_OVERHEAD;
use super::state::State;
use super::stream::Request;
use super::{Limits, SpdyError};

/// Bytes asked of the socket at once.
const READ: usize = 64 << 10;
/// GOAWAY's status when the peer broke the protocol (section 2.6.6).
const GOAWAY_PROTOCOL_ERROR: u32 = 1;

/// The streams that a peer opens. Dropping it, or [`Connection::close`], says goodbye once all is written.
pub struct Connection {
    shared: Arc<Shared>,
}

/// Serves SPDY/3.1 on an upgraded connection. The future is the driver: the connection lives while it is polled, and
/// it ends with the connection.
///
/// # Errors
/// The driver's: how the connection ended, if not by [`Connection::close`].
pub fn serve<T>(io: T, limits: Limits) -> (impl Future<Output = Result<(), SpdyError>> + Send, Connection)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let shared = Arc::new(Shared {
        room: Semaphore::new(limits.outgoing),
        state: Mutex::new(State::new(limits)),
        limits,
        to_write: Notify::new(),
        resumed: Notify::new(),
        incoming: Notify::new(),
        active: Mutex::new(Instant::now()),
    });
    (drive(io, shared.clone()), Connection { shared })
}

impl Connection {
    /// The next stream that the peer opens; `None` once there will be none.
    pub async fn accept(&mut self) -> Option<Request> {
        loop {
            let mut over = false;
            let next = self.shared.change(|state| {
                over = state.closing || state.ended.is_some();
                state.next_waiting()
            });
            if let Some((id, headers)) = next {
                return Some(Request::new(&self.shared, id, headers));
            }
            if over {
                return None;
            }
            self.shared.incoming.notified().await;
        }
    }

    /// Ends the connection after what was sent before. What is sent afterwards is refused.
    pub fn close(self) {}
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What driver and users share.
pub(super) struct Shared {
    limits: Limits,
    state: Mutex<State>,
    /// Bytes of data that may yet be queued for the socket.
    room: Semaphore,
    to_write: Notify,
    resumed: Notify,
    incoming: Notify,
    /// When a byte last went in or out.
    active: Mutex<Instant>,
}

impl Shared {
    /// Changes the state, and wakes the driver if that gave it something to do.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let paused = state.must_pause();
        let result = change(&mut state);
        if !state.out.is_empty() {
            self.to_write.notify_one();
        }
        if paused && !state.must_pause() {
            self.resumed.notify_one();
        }
        result
    }

    /// Waits for room to queue that much, or for as much as there ever is, with a frame's overhead.
    pub(super) async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, SpdyError> {
        let bytes = (bytes + FRAME_OVERHEAD).min(self.limits.outgoing);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let closed = |_| self.lock().ended.clone().unwrap_or(SpdyError::Closed);
        self.room.acquire_many(permits).await.map_err(closed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Nothing more will be queued; the writer says goodbye and ends.
    fn close(&self) {
        self.room.close();
        self.to_write.notify_one();
    }

    fn end(&self, why: SpdyError) {
        self.room.close();
        self.lock().end(why);
        self.incoming.notify_one();
        self.to_write.notify_one();
    }

    fn receive(&self, frame: Frame) -> Result<(), SpdyError> {
        let opens = matches!(frame, Frame::SynStream { .. } | Frame::GoAway);
        let result = self.change(|state| state.receive(frame));
        if opens {
            self.incoming.notify_one();
        }
        result
    }
}

async fn drive<T: AsyncRead + AsyncWrite>(io: T, shared: Arc<Shared>) -> Result<(), SpdyError> {
    let (read, write) = tokio::io::split(io);
    let result = tokio::select! {
        result = read_frames(read, &shared) => result,
        result = write_frames(write, &shared) => result,
        () = idle(&shared) => Err(SpdyError::Idle),
    };
    shared.end(result.clone().err().unwrap_or(SpdyError::Closed));
    result
}

async fn read_frames<T: AsyncRead + Unpin>(mut io: T, shared: &Shared) -> Result<(), SpdyError> {
    let mut input = BytesMut::new();
    let mut decoder = Decoder::new(&shared.limits);
    loop {
        match decoder.next(&mut input).and_then(|frame| frame.map(|frame| shared.receive(frame)).transpose())
        {
            Ok(Some(())) => {
                while shared.lock().must_pause() {
                    shared.resumed.notified().await;
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                shared.end(error.clone());
                // The writer tells the peer. What else it sends means nothing any more, but to close while there is
                // something unread could take our last words from it.
                let _ = timeout(shared.limits.linger, copy(&mut io, &mut sink())).await;
                return Err(error);
            }
        }
        input.reserve(READ);
        if io.read_buf(&mut input).await? == 0 {
            return if shared.room.is_closed() { Ok(()) } else { Err(SpdyError::Gone) };
        }
        shared.touch();
    }
}

async fn write_frames<T: AsyncWrite + Unpin>(mut io: T, shared: &Shared) -> Result<(), SpdyError> {
    loop {
        // Asked first: nothing is queued after it.
        let last = shared.room.is_closed();
        let (frames, data) = shared.lock().out.take();
        if frames.is_empty() && !last {
            shared.to_write.notified().await;
            continue;
        }
        let mut batch = Batch(frames.into());
        if last {
            let state = shared.lock();
            let protocol = matches!(state.ended, Some(SpdyError::Protocol(_)));
            batch.0.push_back(state.goodbye(if protocol { GOAWAY_PROTOCOL_ERROR } else { 0 }));
        }
        while batch.has_remaining() {
            if io.write_buf(&mut batch).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            shared.touch();
        }
        io.flush().await?;
        shared.room.add_permits(data);
        // Reading may have waited for the peer to take our answers.
        shared.resumed.notify_one();
        if last {
            io.shutdown().await?;
            sleep(shared.limits.linger).await;
            let ended = shared.lock().ended.clone();
            return ended.map_or(Ok(()), Err);
        }
    }
}

async fn idle(shared: &Shared) {
    loop {
        let active = *shared.active.lock().unwrap_or_else(PoisonError::into_inner);
        let until = active + shared.limits.idle;
        if Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

/// Frames that go out in as few writes as they fit into.
struct Batch(VecDeque<Bytes>);

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        !self.0.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |frame| frame)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.0).map(|(slice, frame)| *slice = IoSlice::new(frame));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(frame) = self.0.front_mut() {
            if count < frame.len() {
                frame.advance(count);
                return;
            }
            count -= frame.len();
            self.0.pop_front();
        }
    }
}
