//! What can fail here.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Kind;

/// A system call, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// The kernel refused.
    #[error("cannot {action} {object}")]
    Call { action: &'static str, object: String, source: io::Error },
    /// A host path given as a device is something else.
    #[error("{path:?} is neither a device nor a folder of devices")]
    NotADevice { path: PathBuf },
    /// Somebody listens on a socket.
    #[error("something answers on {} already", path.display())]
    InUse { path: PathBuf },
}

impl LinuxError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::Call { .. } => Kind::Internal,
            Self::NotADevice { .. } => Kind::InvalidArgument,
            Self::InUse { .. } => Kind::AlreadyExists,
        }
    }

    /// Wraps the failure of `action` on a path, for `map_err`.
    pub fn on<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let object = path.display().to_string();
        move |source| Self::Call { action, object, source: source.into() }
    }
}
