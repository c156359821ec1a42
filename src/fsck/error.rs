//! Why nothing can be said, or something not be removed.

use std::path::PathBuf;

use crate::containerd::ContainerdError;
use crate::error::Kind;
use crate::linux::LinuxError;
use crate::network::NetworkError;
use crate::sandbox::HandlerError;

/// What went wrong, and on what.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// A removal beside a daemon would race with it.
    #[error(
        "a cridge serves on {}: stop it first, its pods go on running (without --repair nothing is touched, and \
         it may serve)",
        state.display()
    )]
    Serving { state: PathBuf },
    /// The pods are the built-in plugin's now.
    #[error("containerd's own CRI plugin ({plugin}) is active: what there is may be what it is about to use")]
    BuiltInPlugin { plugin: String },
    /// The owners of things, or the things, cannot be listed.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    #[error(transparent)]
    Linux(#[from] LinuxError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Handlers(#[from] HandlerError),
    /// A folder.
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// It has an owner now.
    #[error("containerd has a record {id} now")]
    Owned { id: String },
    /// Nobody can tell which is wanted.
    #[error("which of them is wanted is not known here")]
    Undecided,
    /// A thread ended before its work.
    #[error("the look at this node was broken off")]
    BrokenOff(#[source] tokio::task::JoinError),
}

impl FsckError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Serving { .. } | Self::BuiltInPlugin { .. } | Self::Owned { .. } | Self::Undecided => {
                Kind::FailedPrecondition
            }
            Self::Containerd(error) => error.kind(),
            Self::Linux(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Handlers(_) => Kind::InvalidArgument,
            Self::File { .. } | Self::BrokenOff(_) => Kind::Internal,
        }
    }
}
