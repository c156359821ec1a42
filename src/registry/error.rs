//! What can fail between us and a registry.

use crate::error::Kind;

/// A registry failure; no variant ever carries a credential or a URL's query.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{reference} is not there")]
    NotFound { reference: String },
}

impl RegistryError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
        }
    }
}
