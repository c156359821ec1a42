//! What can fail here.

use std::path::PathBuf;

use crate::error::Kind;

/// A state file or record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{what} is not what the CRI plugin writes")]
    Malformed { what: String, source: serde_json::Error },
    #[error("{what} has version {version:?}; v1 is understood")]
    Version { what: String, version: String },
}

impl StateError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}
