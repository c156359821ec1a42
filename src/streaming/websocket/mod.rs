//! WebSocket (RFC 6455) as Kubernetes' clients use it: as channels, of which each message names one, or as a tunnel for
//! another protocol's bytes.
//!
//! ```text
//! channel.rs     messages ↔ channels; pure       connection.rs  one driver: reads, writes, says goodbye
//! handshake.rs   a request's headers → answer     tunnel.rs      messages ↔ bytes
//! ```
//!
//! A primer. A message's first byte is its channel, the rest what is said on it; in the base64 forms both are text, the
//! channel as a digit. A client has no way to say that a channel is over, but for version 5 of remotecommand: channel
//! 255, and then the channel that is meant. The transport knows no windows: a channel that nobody takes from holds up
//! all others, once its own window is full.
//!
//! Invariants: of a channel at most its window is held, and one message; a length that a frame claims takes no memory
//! before its bytes are there, and none at all beyond [`Limits::message`]; no byte of a channel is lost but with the
//! connection.

mod channel;
mod connection;
mod error;
mod handshake;
mod tunnel;

pub use channel::{Codec, HalfClose};
pub use connection::{Dialect, Receiver, Sender, serve};
pub use error::WebSocketError;
pub use handshake::accept_key;
pub use tunnel::Tunnel;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message: what the built-in plugin takes at most, since some clients say all of an input at once.
    pub message: usize,
    /// Bytes received and not yet taken, for each channel, before the last message.
    pub window: usize,
    /// Bytes on their way to the peer's socket; senders wait for room.
    pub outgoing: usize,
    /// The connection ends after so long without a message of the client's or of ours.
    pub idle: Duration,
    /// How long the peer may take to close after we have said all.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 32 << 20,
            window: 256 << 10,
            outgoing: 256 << 10,
            // As long as SPDY's.
            idle: Duration::from_secs(4 * 3600),
            linger: Duration::from_secs(5),
        }
    }
}

/// Bytes read from, and gathered for, the socket at once.
const BUFFER: usize = 64 << 10;

/// A server's end, after the upgrade.
async fn server<T: AsyncRead + AsyncWrite + Unpin>(io: T, limits: &Limits) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.message));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
