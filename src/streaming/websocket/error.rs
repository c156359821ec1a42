//! Why a connection ended other than by our goodbye.

use std::io;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::error::Kind;

/// A connection's failure.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketError {
    /// The peer broke the transport, or the transport itself did.
    #[error("the connection broke")]
    Transport(#[source] Box<Error>),
    /// A message that says nothing on any channel.
    #[error("a message cannot be read: {0}")]
    Message(&'static str),
    /// The peer closed.
    #[error("the peer went away")]
    Gone,
    #[error("nothing was said for too long")]
    Idle,
}

impl WebSocketError {
    /// What it means to whoever waited for the channel.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Transport(_) | Self::Gone => Kind::Unavailable,
            Self::Message(_) => Kind::InvalidArgument,
            Self::Idle => Kind::DeadlineExceeded,
        }
    }

    /// What the peer is told (RFC 6455, section 7.4.1).
    pub(super) fn close_code(&self) -> CloseCode {
        match self {
            Self::Transport(error) => match **error {
                Error::Capacity(_) => CloseCode::Size,
                Error::Utf8(_) => CloseCode::Invalid,
                _ => CloseCode::Protocol,
            },
            Self::Message(_) => CloseCode::Invalid,
            Self::Gone => CloseCode::Normal,
            Self::Idle => CloseCode::Away,
        }
    }
}

impl From<Error> for WebSocketError {
    fn from(error: Error) -> Self {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Gone,
            error => Self::Transport(Box::new(error)),
        }
    }
}

impl From<WebSocketError> for io::Error {
    fn from(error: WebSocketError) -> Self {
        let kind = match error {
            WebSocketError::Idle => io::ErrorKind::TimedOut,
            WebSocketError::Message(_) => io::ErrorKind::InvalidData,
            WebSocketError::Transport(_) | WebSocketError::Gone => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
