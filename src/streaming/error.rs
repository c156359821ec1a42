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
    #[error(
        "cannot use the certificate of exec, attach and port-forward ({what}): set streaming.tls_certificate and streaming.tls_key"
    )]
    Certificate { what: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{0} streaming requests wait for their clients already: repeat it in a minute")]
    TooManyPending(usize),
}

impl StreamingError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bind { .. } | Self::Certificate { .. } => Kind::FailedPrecondition,
            Self::TooManyPending(_) => Kind::ResourceExhausted,
        }
    }
}
