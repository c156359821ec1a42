//! What a connection and each of its streams may do next: frames in, frames out, no input or output.
//!
//! ```text
//!   SYN_STREAM ──► waiting ──accept──► open ──FIN of both──► closed, forgotten once its user let go
//!                     │ refuse           │ RST of either, misuse, user gone
//!                     └──────► reset ◄───┘
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame::*;
use super::headers::{HeaderWriter, Headers};
use super::outbox::Outbox;
use super::{Limits, SpdyError};

/// What a piece of data takes beside its bytes, roughly.
const PIECE_OVERHEAD: usize = 64;
/// Bytes taken by the user before the peer is told: half a window.
const CREDIT: u32 = INITIAL_WINDOW / 2;

/// One direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Open,
    /// FIN was seen, or sent.
    Finished,
}

/// Who takes what arrives, or gives what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Present,
    Gone,
}

/// What the peer has shown of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Windows {
    /// Nothing yet: it is told of its windows, for it may be waiting for that.
    Unknown,
    /// That it knows them.
    Heeded,
    /// That it does not: it need not be told, and each word would cost it time.
    Ignored,
}

/// Which of a stream's halves its user let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Receiver,
    Sender,
}

/// One stream.
pub struct Stream {
    headers: Headers,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// What a conforming peer may still send.
    receive_window: i64,
    /// Taken by the user, and not yet told.
    uncredited: u32,
    incoming: Direction,
    reader: User,
    /// What a conforming peer still takes; below zero while it was not yet known to be one.
    send_window: i64,
    outgoing: Direction,
    writer: User,
    reset: Option<SpdyError>,
    /// Woken when there is something to receive, or nothing more.
    pub readable: Arc<Notify>,
    /// Woken when the window opens, or for ever closes.
    pub writable: Arc<Notify>,
}

/// A connection's streams, and what is to be said of them.
pub struct State {
    limits: Limits,
    streams: HashMap<StreamId, Stream>,
    /// The newest stream of the peer, 0 before the first.
    newest: u32,
    windows: Windows,
    peer_window: i64,
    send_window: i64,
    uncredited: u32,
    /// Streams that nobody accepted yet.
    waiting: VecDeque<StreamId>,
    headers: HeaderWriter,
    /// What waits to be written.
    pub out: Outbox,
    /// Bytes received and not yet taken, with their overhead.
    held: usize,
    /// Streams that hold a full window.
    full: usize,
    /// We have nothing more to say, or the peer announced its end.
    pub closing: bool,
    pub ended: Option<SpdyError>,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            streams: HashMap::new(),
            newest: 0,
            windows: Windows::Unknown,
            peer_window: INITIAL_WINDOW.into(),
            send_window: INITIAL_WINDOW.into(),
            uncredited: 0,
            waiting: VecDeque::new(),
            headers: HeaderWriter::default(),
            out: Outbox::default(),
            held: 0,
            full: 0,
            closing: false,
            ended: None,
        }
    }

    /// Applies a frame of the peer's.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub fn receive(&mut self, frame: Frame) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { id, fin, unidirectional, headers } => {
                self.open(id, fin, unidirectional, headers)?;
            }
            Frame::Headers { id, fin } => self.fin(id, fin),
            Frame::Data { id, piece, fin } => self.data(id, piece, fin),
            Frame::Reset { id, status } => self.end_stream(id, SpdyError::Reset(status)),
            Frame::Settings { window } => self.settings(window),
            // Ours would be even; we send none.
            Frame::Ping(id) if id % 2 == 1 => self.out.say(ping(id)),
            Frame::Ping(_) | Frame::Unknown => {}
            Frame::GoAway => self.closing = true,
            Frame::WindowUpdate { id: Some(id), delta } => self.stream_window(id, delta),
            Frame::WindowUpdate { id: None, delta } => self.connection_window(delta)?,
        }
        Ok(())
    }

    fn open(
        &mut self,
        id: StreamId,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    ) -> Result<(), SpdyError> {
        if !id.is_clients() {
            return Err(SpdyError::Protocol("a client's stream has an even id"));
        }
        if self.closing {
            return Ok(());
        }
        if id.get() <= self.newest {
            // Twice the same, or one that comes too late: it is this id that is broken.
            self.reset(id, Status::PROTOCOL_ERROR);
            return Ok(());
        }
        self.newest = id.get();
        if self.streams.len() >= self.limits.streams {
            self.out.say(reset(id.get(), Status::REFUSED_STREAM));
            return Ok(());
        }
        let half = |finished| if finished { Direction::Finished } else { Direction::Open };
        let stream = Stream {
            headers,
            queue: VecDeque::new(),
            queued: 0,
            receive_window: INITIAL_WINDOW.into(),
            uncredited: 0,
            incoming: half(fin),
            reader: User::Present,
            send_window: self.peer_window,
            outgoing: half(unidirectional),
            writer: User::Present,
            reset: None,
            readable: Arc::default(),
            writable: Arc::default(),
        };
        self.streams.insert(id, stream);
        self.waiting.push_back(id);
        Ok(())
    }

    fn data(&mut self, id: StreamId, piece: Bytes, fin: bool) {
        let length = piece.len();
        let windows = self.windows;
        let Some(stream) = self.streams.get_mut(&id) else {
            if id.get() > self.newest {
                self.out.say(reset(id.get(), Status::INVALID_STREAM));
            }
            // Else it was on its way when the stream ended.
            return self.credit(length);
        };
        if stream.incoming == Direction::Finished && stream.reset.is_none() {
            self.reset(id, Status::STREAM_ALREADY_CLOSED);
            return self.credit(length);
        }
        stream.receive_window -= length as i64;
        if stream.receive_window < 0 && stream.reset.is_none() {
            if windows == Windows::Heeded {
                self.reset(id, Status::FLOW_CONTROL_ERROR);
                return self.credit(length);
            }
            self.windows = Windows::Ignored;
        }
        if stream.reset.is_some() || stream.reader == User::Gone {
            self.credit(length);
            self.credit_stream(id, length);
        } else if length > 0 {
            let was_full = stream.queued >= self.limits.window as usize;
            stream.queue.push_back(piece);
            stream.queued += length;
            self.held += length + PIECE_OVERHEAD;
            self.full += usize::from(!was_full && stream.queued >= self.limits.window as usize);
            stream.readable.notify_one();
        }
        self.fin(id, fin);
    }

    fn fin(&mut self, id: StreamId, fin: bool) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|_| fin) {
            stream.incoming = Direction::Finished;
            stream.readable.notify_one();
            self.forget_if_over(id);
        }
    }

    fn settings(&mut self, window: Option<u32>) {
        self.meet_conforming();
        if let Some(window) = window.map(i64::from) {
            let change = window - self.peer_window;
            self.peer_window = window;
            for stream in self.streams.values_mut() {
                stream.send_window += change;
                stream.writable.notify_one();
            }
        }
    }

    fn stream_window(&mut self, id: StreamId, delta: u32) {
        self.meet_conforming();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.send_window += i64::from(delta);
        stream.writable.notify_one();
        if delta == 0 {
            self.reset(id, Status::PROTOCOL_ERROR);
        } else if stream.send_window > MAX_WINDOW {
            self.reset(id, Status::FLOW_CONTROL_ERROR);
        }
    }

    fn connection_window(&mut self, delta: u32) -> Result<(), SpdyError> {
        self.meet_conforming();
        self.send_window += i64::from(delta);
        if delta == 0 || self.send_window > MAX_WINDOW {
            return Err(SpdyError::Protocol("the connection's window leaves its range"));
        }
        self.streams.values().for_each(|stream| stream.writable.notify_one());
        Ok(())
    }

    /// The peer knows windows. So that one stalled stream does not close the connection's for all, that is opened to
    /// what we hold.
    fn meet_conforming(&mut self) {
        if std::mem::replace(&mut self.windows, Windows::Heeded) == Windows::Heeded {
            return;
        }
        let held = u32::try_from(self.limits.held).unwrap_or(u32::MAX >> 1);
        self.out.say(window_update(None, held.saturating_sub(INITIAL_WINDOW).max(1)));
        // What it was not told while it did not seem to listen.
        self.credit(0);
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.credit_stream(id, 0);
        }
    }

    /// Bytes received and not yet taken, with their overhead.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing may be read for now.
    pub fn must_pause(&self) -> bool {
        self.held > self.limits.held
            || self.out.is_flooded()
            || (self.full > 0 && self.windows != Windows::Heeded)
    }

    /// The next stream that waits to be accepted.
    pub fn next_waiting(&mut self) -> Option<(StreamId, Headers)> {
        loop {
            let id = self.waiting.pop_front()?;
            if let Some(stream) = self.streams.get_mut(&id) {
                return Some((id, std::mem::take(&mut stream.headers)));
            }
        }
    }

    /// Tells the peer that a stream is taken.
    pub fn accept(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(|stream| stream.reset.is_none()) {
            let block = self.headers.empty_block();
            self.out.say(syn_reply(id, &block));
        }
    }

    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// What there is to receive: a piece, or the end, or nothing yet.
    pub fn take(&mut self, id: StreamId) -> Result<Option<Option<Bytes>>, SpdyError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Err(self.why_ended()) };
        if let Some(piece) = stream.queue.pop_front() {
            let was_full = stream.queued >= self.limits.window as usize;
            stream.queued -= piece.len();
            self.full -= usize::from(was_full && stream.queued < self.limits.window as usize);
            self.held -= piece.len() + PIECE_OVERHEAD;
            self.credit(piece.len());
            self.credit_stream(id, piece.len());
            return Ok(Some(Some(piece)));
        }
        match (&stream.reset, stream.incoming, &self.ended) {
            (_, Direction::Finished, _) => Ok(Some(None)),
            (Some(error), _, _) | (None, _, Some(error)) => Err(error.clone()),
            (None, Direction::Open, None) => Ok(None),
        }
    }

    /// How many bytes of `wanted` may be sent now.
    pub fn sendable(&self, id: StreamId, wanted: usize) -> Result<usize, SpdyError> {
        let stream = self.streams.get(&id).ok_or_else(|| self.why_ended())?;
        match (&stream.reset, &self.ended, stream.outgoing) {
            (Some(error), ..) | (None, Some(error), _) => return Err(error.clone()),
            (None, None, Direction::Finished) => return Err(SpdyError::Closed),
            (None, None, Direction::Open) => {}
        }
        if self.windows != Windows::Heeded {
            return Ok(wanted);
        }
        let open = stream.send_window.min(self.send_window).max(0);
        Ok(wanted.min(usize::try_from(open).unwrap_or(usize::MAX)))
    }

    /// Sends what [`Self::sendable`] allowed.
    pub fn send(&mut self, id: StreamId, data: Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.send_window -= data.len() as i64;
        self.send_window -= data.len() as i64;
        self.out.send(id, data);
    }

    /// Ends our direction.
    pub fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.outgoing == Direction::Open && stream.reset.is_none() {
            stream.outgoing = Direction::Finished;
            self.out.say(data_head(id, 0, true));
            self.forget_if_over(id);
        }
    }

    /// Ends a stream from our side.
    pub fn reset(&mut self, id: StreamId, status: Status) {
        tracing::debug!(stream = id.get(), status = status.0, "a stream is reset");
        self.out.say(reset(id.get(), status));
        self.end_stream(id, SpdyError::Closed);
    }

    fn end_stream(&mut self, id: StreamId, why: SpdyError) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.reset.get_or_insert(why);
            stream.readable.notify_one();
            stream.writable.notify_one();
            self.forget_if_over(id);
        }
    }

    /// The user lets go of a half.
    pub fn let_go(&mut self, id: StreamId, half: Half) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match half {
            Half::Receiver => {
                stream.reader = User::Gone;
                while let Ok(Some(Some(_))) = self.take(id) {}
            }
            Half::Sender => stream.writer = User::Gone,
        }
        let Some(stream) = self.streams.get(&id) else { return };
        let unfinished = stream.writer == User::Gone && stream.outgoing == Direction::Open;
        let unheard = stream.writer == stream.reader
            && stream.reader == User::Gone
            && stream.incoming == Direction::Open;
        if (unfinished || unheard) && stream.reset.is_none() {
            self.reset(id, Status::CANCEL);
        }
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: StreamId) {
        let over = self.streams.get(&id).is_some_and(|stream| {
            let both = (stream.incoming, stream.outgoing) == (Direction::Finished, Direction::Finished);
            (both || stream.reset.is_some()) && (stream.reader, stream.writer) == (User::Gone, User::Gone)
        });
        if over {
            self.streams.remove(&id);
        }
    }

    /// Bytes left the connection's hold: the peer may send as many again.
    fn credit(&mut self, length: usize) {
        self.uncredited = sum(self.uncredited, length);
        if self.uncredited >= CREDIT && self.windows != Windows::Ignored {
            let delta = std::mem::take(&mut self.uncredited);
            self.out.say(window_update(None, delta));
        }
    }

    fn credit_stream(&mut self, id: StreamId, length: usize) {
        let told = self.windows != Windows::Ignored;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.uncredited = sum(stream.uncredited, length);
        let open = stream.incoming == Direction::Open && stream.reset.is_none();
        if stream.uncredited >= CREDIT && told && open {
            let delta = std::mem::take(&mut stream.uncredited);
            stream.receive_window += i64::from(delta);
            self.out.say(window_update(Some(id), delta));
        }
    }

    /// The last frame of a connection.
    pub fn goodbye(&self, status: u32) -> Bytes {
        goaway(self.newest, status)
    }

    /// The connection is over: all that held it learn why.
    pub fn end(&mut self, why: SpdyError) {
        self.ended.get_or_insert(why);
        for stream in self.streams.values() {
            stream.readable.notify_one();
            stream.writable.notify_one();
        }
    }

    fn why_ended(&self) -> SpdyError {
        self.ended.clone().unwrap_or(SpdyError::Closed)
    }
}

/// What is not credited yet, with so much more; no more than one frame can say.
fn sum(uncredited: u32, length: usize) -> u32 {
    let sum = uncredited.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
    sum.min(MAX_WINDOW as u32)
}
