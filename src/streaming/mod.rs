//! Streaming: what stands behind the URLs of exec, attach and port-forward. Nothing here knows of pods: what a URL
//! does is a closure of those who do.
//!
//! ```text
//! server.rs   token → work → upgrade      command.rs  exec and attach: streams, sizes, outcome
//! token.rs    single use, short-lived     forward.rs  port-forward: pairs of streams
//! http.rs     one request, one answer     work.rs     what is to be done, and the client's ends of streams
//! upgrade.rs  which transport, which      stream.rs   one stream, whichever transport carries it
//!             protocol                    tls.rs      a certificate, always the newest
//! spdy/, websocket/  the transports
//! ```

mod command;
mod error;
mod forward;
pub mod http;
mod server;
pub mod spdy;
mod stream;
mod tls;
mod token;
mod upgrade;
mod websocket;
mod work;

pub use error::StreamingError;
pub use server::Streaming;
pub use work::{Command, Dial, Forward, Input, Output, Size, Streams, Wants, Work};

#[cfg(test)]
mod tests;
