//! What a stream's user holds: first a request, then a receiver and a sender.

use std::sync::Arc;

use bytes::Bytes;

use super::SpdyError;
use super::connection::Shared;
use super::frame::{Status, StreamId};
use super::headers::Headers;
use super::outbox::{FRAME_OVERHEAD, MAX_DATA};
use super::state::Half;

/// A stream that the peer wants to open. Dropping it refuses the stream.
pub struct Request {
    headers: Headers,
    receiver: Receiver,
    sender: Sender,
}

impl Request {
    pub(super) fn new(shared: &Arc<Shared>, id: StreamId, headers: Headers) -> Self {
        let receiver = Receiver { shared: shared.clone(), id };
        let sender = Sender { shared: shared.clone(), id };
        Self { headers, receiver, sender }
    }

    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The stream's number, by which old clients pair streams.
    pub fn id(&self) -> u32 {
        self.sender.id.get()
    }

    /// Opens the stream.
    pub fn accept(self) -> (Receiver, Sender) {
        self.sender.shared.change(|state| state.accept(self.sender.id));
        (self.receiver, self.sender)
    }

    /// Resets it instead.
    pub fn refuse(self, status: Status) {
        self.sender.reset(status);
    }
}

/// What the peer says on a stream. Dropping it throws away what comes.
pub struct Receiver {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Receiver {
    /// The next bytes, never empty; `None` after the peer's last. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended, and all that came before was taken.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SpdyError> {
        loop {
            let readable = {
                let mut found = Ok(None);
                let readable = self.shared.change(|state| {
                    found = state.take(self.id);
                    state.stream(self.id).map(|stream| stream.readable.clone())
                });
                if let Some(end_or_piece) = found? {
                    return Ok(end_or_piece);
                }
                readable.ok_or(SpdyError::Closed)?
            };
            readable.notified().await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.change(|state| state.let_go(self.id, Half::Receiver));
    }
}

/// What we say on a stream. Dropping it unfinished resets the stream.
pub struct Sender {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Sender {
    /// Sends all of `data`, as the peer and the connection have room. If the future is dropped, part of it is sent.
    ///
    /// # Errors
    /// The stream was reset or finished, or the connection ended.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), SpdyError> {
        while !data.is_empty() {
            let mut room = self.shared.room(data.len().min(MAX_DATA)).await?;
            let wanted = room.num_permits() - FRAME_OVERHEAD;
            let mut sent = Ok(0);
            let writable = self.shared.change(|state| {
                sent = state.sendable(self.id, wanted);
                if let Ok(count @ 1..) = sent {
                    state.send(self.id, data.split_to(count));
                }
                state.stream(self.id).map(|stream| stream.writable.clone())
            });
            let sent = sent?;
            // Freed again when the socket has taken it.
            if sent > 0
                && let Some(used) = room.split(sent + FRAME_OVERHEAD)
            {
                used.forget();
            }
            drop(room);
            if sent == 0 {
                writable.ok_or(SpdyError::Closed)?.notified().await;
            }
        }
        Ok(())
    }

    /// Says that this was all.
    pub fn finish(&mut self) {
        self.shared.change(|state| state.finish(self.id));
    }

    /// Ends the stream at once, in both directions.
    pub fn reset(&self, status: Status) {
        self.shared.change(|state| state.reset(self.id, status));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.change(|state| state.let_go(self.id, Half::Sender));
    }
}
