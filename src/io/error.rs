//! What can fail here.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::Kind;

/// A file, FIFO or folder, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

impl IoError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }

    /// The system's word for it.
    pub(super) fn errno(&self) -> Option<Errno> {
        let Self::File { source, .. } = self;
        Errno::from_io_error(source)
    }

    /// Says of an error what was tried, for `map_err`.
    pub(super) fn on<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source: source.into() }
    }
}
