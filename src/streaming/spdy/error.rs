//! Why a connection ended other than by a graceful close.

use std::io;
use std::sync::Arc;

use super::frame::Status;
use crate::error::Kind;

/// A connection's or a stream's failure. Cheap to clone: every stream of a lost connection is told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpdyError {
    /// The peer broke the protocol in a way that no single stream can answer for.
    #[error("the peer broke SPDY: {0}")]
    Protocol(&'static str),
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
    /// The peer closed without a word.
    #[error("the peer went away")]
    Gone,
    #[error("nothing was said for too long")]
    Idle,
    /// The peer ended this stream.
    #[error("the peer reset the stream: {0:?}")]
    Reset(Status),
    /// We ended the connection, or this stream, while its user still held it.
    #[error("the stream is closed")]
    Closed,
}

impl SpdyError {
    /// What it means to whoever waited for the stream.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Protocol(_) => Kind::InvalidArgument,
            Self::Io(_) | Self::Gone => Kind::Unavailable,
            Self::Idle => Kind::DeadlineExceeded,
            Self::Reset(_) | Self::Closed => Kind::Cancelled,
        }
    }
}

impl From<io::Error> for SpdyError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<SpdyError> for io::Error {
    fn from(error: SpdyError) -> Self {
        let kind = match error {
            SpdyError::Idle => io::ErrorKind::TimedOut,
            SpdyError::Protocol(_) => io::ErrorKind::InvalidData,
            SpdyError::Reset(_) => io::ErrorKind::ConnectionReset,
            SpdyError::Io(_) | SpdyError::Gone | SpdyError::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
