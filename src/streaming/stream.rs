//! One of a client's streams, whichever transport carries it.

use std::io;

use bytes::Bytes;

use super::{spdy, websocket};

/// What the client says.
pub enum Receiver {
    Spdy(spdy::Receiver),
    Channel(websocket::Receiver),
}

/// What it hears.
pub enum Sender {
    Spdy(spdy::Sender),
    Channel(websocket::Sender),
}

impl Receiver {
    /// The next bytes; `None` after the last. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The client went away without saying that this was all.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Spdy(receiver) => Ok(receiver.chunk().await?),
            Self::Channel(receiver) => Ok(receiver.chunk().await?),
        }
    }
}

impl Sender {
    /// Sends all of it, when the client has room.
    ///
    /// # Errors
    /// The client went away.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Spdy(sender) => Ok(sender.send(bytes).await?),
            Self::Channel(sender) => Ok(sender.send(bytes).await?),
        }
    }

    /// Whether the transport has a word for a stream's end.
    pub fn tells_its_end(&self) -> bool {
        matches!(self, Self::Spdy(_))
    }

    /// Says that this was all, where the transport has a word for it.
    pub fn finish(&mut self) {
        match self {
            Self::Spdy(sender) => sender.finish(),
            Self::Channel(_) => {}
        }
    }
}
