//! What can fail here.

use crate::error::Kind;

/// A system call, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    #[error("cannot {action} {object}")]
    Call { action: &'static str, object: String, source: std::io::Error },
}

impl LinuxError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::Call { .. } => Kind::Internal,
        }
    }
}
