//! What can fail here.

use std::path::PathBuf;

use crate::error::Kind;

/// A file, FIFO or folder, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
}

impl IoError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}
