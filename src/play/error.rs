//! Why a pod could not be played.

use std::path::PathBuf;

use crate::error::Kind;

/// What went wrong outside of the pod's own processes.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the manifest is not YAML: {why}")]
    Yaml { why: String },
    /// Everything wrong with it at once, each with its path.
    #[error("the manifest cannot be played:\n{}", mistakes.join("\n"))]
    Manifest { mistakes: Vec<String> },
    /// The endpoint cannot be reached at all.
    #[error("no CRI runtime answers on {endpoint}; is it running, and is --endpoint right?")]
    Connect { endpoint: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The runtime refused or failed. Its status is no source: as text that would say everything twice.
    #[error("cannot {action} {object}: {}", status.message())]
    Call { action: &'static str, object: String, status: Box<tonic::Status> },
    /// The runtime did not answer in time.
    #[error("the runtime did not {action} {object} within {}", humantime::format_duration(*limit))]
    Deadline { action: &'static str, object: String, limit: std::time::Duration },
    /// An image that may not be pulled is not there.
    #[error("image {image} is not there, and imagePullPolicy is Never")]
    NoImage { image: String },
    /// The container cannot be run as the manifest has it.
    #[error("container {container}: {why}")]
    Container { container: String, why: String },
    #[error("volume {volume}: {why}")]
    Volume { volume: String, why: String },
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot {action} {}", path.display())]
    Mount { action: &'static str, path: PathBuf, source: crate::linux::LinuxError },
}

impl PlayError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Yaml { .. } | Self::Manifest { .. } => Kind::InvalidArgument,
            Self::Connect { .. } => Kind::Unavailable,
            Self::Deadline { .. } => Kind::DeadlineExceeded,
            Self::NoImage { .. } => Kind::NotFound,
            Self::Container { .. } | Self::Volume { .. } => Kind::FailedPrecondition,
            Self::Call { status, .. } if status.code() == tonic::Code::Unavailable => Kind::Unavailable,
            Self::Call { .. } | Self::Read { .. } | Self::File { .. } | Self::Mount { .. } => Kind::Internal,
        }
    }
}
