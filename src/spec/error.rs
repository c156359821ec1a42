//! Why a config makes no spec.

use crate::error::Kind;

/// A config that cannot be run here; each text names the field.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("{field}: {why}")]
    Invalid { field: String, why: String },
    /// The node, its kernel or runtime lacks what the field asks for.
    #[error("{field}: {why}")]
    Unsupported { field: String, why: String },
}

impl SpecError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::InvalidArgument,
            Self::Unsupported { .. } => Kind::FailedPrecondition,
        }
    }
}
