//! What can fail while attaching or detaching a pod.

use crate::error::Kind;

/// A CNI failure.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No usable configuration: the text says which folder and why.
    #[error("no CNI network: {reason}")]
    NotReady { reason: String },
}

impl NetworkError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotReady { .. } => Kind::Unavailable,
        }
    }
}
