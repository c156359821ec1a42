//! Why no spans are sent.

use crate::error::Kind;

/// What keeps an exporter from being started.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("{endpoint:?} is no place for traces: choose another traces.endpoint")]
    Endpoint { endpoint: String, source: tonic::transport::Error },
    #[error(
        "this cridge was built without traces: leave traces.endpoint out, or build it with --features traces"
    )]
    NotBuilt,
}

impl OtlpError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint { .. } => Kind::InvalidArgument,
            Self::NotBuilt => Kind::Unimplemented,
        }
    }
}
