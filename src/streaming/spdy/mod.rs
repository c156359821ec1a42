//! SPDY/3.1, the server's side of it: many streams over one connection, as kubelets speak it for exec, attach and
//! port-forward.
//!
//! ```text
//! frame.rs       what a frame says, and its bytes        headers.rs  header blocks: zlib with SPDY's dictionary
//! codec.rs       bytes in any pieces → frames            state.rs    what a stream may do next; pure
//! outbox.rs      frames that wait to be written          stream.rs   what its user holds: receiver and sender
//! connection.rs  one driver: reads, writes, goes away
//! ```
//!
//! A primer. Every frame has eight bytes of head. Data frames carry a stream's id, control frames a type; both have
//! flags, of which FIN ends one direction of a stream, and a length. A stream is opened by SYN_STREAM and answered by
//! SYN_REPLY, both with headers, which all share one zlib stream per direction and connection. RST_STREAM ends a
//! stream at once, GOAWAY announces the connection's end.
//!
//! Flow control. A conforming peer tells of itself: it sends SETTINGS or WINDOW_UPDATE. From then on windows hold in
//! both directions, and a stream that overflows one is reset. The peer that matters most (Go's spdystream, in kubelet
//! and kubectl) knows no windows: it would never open one that has closed, and never heeds ours. Towards such a peer
//! only the connection slows down: while a stream of it holds a full window, nothing more is read. Once it has sent more
//! than a window allows, it is not told of windows any more.
//!
//! Invariants: whatever a peer sends, at most [`Limits`] is held for it, and no length that it claims is believed
//! before the bytes are there; no byte of a stream is lost but by a reset; one stream's misuse resets that stream and
//! touches no other.

mod codec;
mod connection;
mod error;
mod frame;
mod headers;
mod outbox;
mod state;
mod stream;

pub use connection::{Connection, serve};
pub use error::SpdyError;
pub use frame::Status;
pub use headers::Headers;
pub use stream::{Receiver, Request, Sender};

use std::time::Duration;

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams open at once; more are refused one by one. A port-forward takes two for each connection through it.
    pub streams: usize,
    /// Bytes of one header block, inflated. A client sends a few short ones.
    pub header_bytes: usize,
    /// Bytes received and not yet taken, for each stream: the window announced to the peer.
    pub window: u32,
    /// Bytes received and not yet taken, over all streams. Beyond it nothing is read.
    pub held: usize,
    /// Bytes on their way to the peer's socket, with what each frame takes beside them; senders wait for room.
    pub outgoing: usize,
    /// The connection ends after so long without a byte in either direction.
    pub idle: Duration,
    /// How long the peer may take to close after we have said all.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 1000,
            header_bytes: 16 << 10,
            window: 256 << 10,
            held: 4 << 20,
            // So that there is something to write while more is read.
            outgoing: 512 << 10,
            // What kubelets have always been given (contract §5).
            idle: Duration::from_secs(4 * 3600),
            linger: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(super) mod peer;
#[cfg(test)]
mod tests;
