//! What goes wrong before a client has its streams.

use std::net::SocketAddr;

use crate::error::Kind;

/// The streaming server's failure.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    #[error(
        "cannot listen on {address} for exec, attach and port-forward: set streaming.address and streaming.port"
    )]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("{0} streaming requests wait for their clients already: repeat it in a minute")]
    TooManyPending(usize),
}

impl StreamingError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bind { .. } => Kind::FailedPrecondition,
            Self::TooManyPending(_) => Kind::ResourceExhausted,
        }
    }
}
