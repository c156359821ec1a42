//! Why a config makes no spec.

use crate::error::Kind;

/// A config that cannot be run here; each text names the field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("{field}: {why}")]
    Invalid { field: String, why: String },
    /// The node, its kernel or runtime lacks what the field asks for.
    #[error("{field}: {why}")]
    Unsupported { field: String, why: String },
    /// The text begins with the reason that the CRI's clients look for (`ErrRROUnsupported` in cri-api's `pkg/errors`).
    #[error(
        "RROUnsupported: {field}: the runtime handler cannot mount recursively read-only; ask for a plain read-only \
         mount, or use a runtime and kernel (5.12 and up) that can"
    )]
    RecursiveReadOnly { field: String },
}

impl SpecError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::InvalidArgument,
            Self::Unsupported { .. } | Self::RecursiveReadOnly { .. } => Kind::FailedPrecondition,
        }
    }

    pub(super) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), why: why.into() }
    }

    pub(super) fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), why: why.into() }
    }
}
