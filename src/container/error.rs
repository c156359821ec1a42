//! Why a container operation failed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::archive::ArchiveFlaw;
use super::state::Denied;
use crate::containerd::ContainerdError;
use crate::error::{Errors, Kind};
use crate::field::FieldError;
use crate::id::ContainerId;
use crate::image::ImageError;
use crate::io::IoError;
use crate::linux::LinuxError;
use crate::sandbox::SandboxError;
use crate::spec::SpecError;
use crate::state::{MakeError, StateError, Taken};

/// A container operation's failure.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Invalid(#[from] FieldError),
    #[error("{taken}{doing}")]
    NameTaken {
        taken: Taken,
        /// What its holder is at, if at anything, after a comma.
        doing: String,
    },
    /// The failure of the work that this request had joined, or started.
    #[error(transparent)]
    Create(Arc<ContainerError>),
    #[error("creating container {0} was broken off; a repeat starts clean")]
    BrokenOff(String),
    #[error("container {0:?} does not exist")]
    NotFound(String),
    #[error("{0:?} is the beginning of more than one container's id")]
    Ambiguous(String),
    #[error(transparent)]
    Sandbox(Box<SandboxError>),
    #[error("image {0:?} is not on this node: pull it first")]
    NoImage(String),
    #[error("cannot use the image")]
    Image(#[source] Box<ImageError>),
    #[error("container {id} cannot be used so")]
    Denied { id: ContainerId, source: Denied },
    /// The word is the kubelet's: it looks for it at the beginning of a failed creation (k8s.io/cri-api pkg/errors).
    #[error("ImageVolumeMountFailed: {field}: {why}")]
    ImageVolume { field: String, why: String },
    #[error("cannot make the container's spec")]
    Spec(#[source] SpecError),
    #[error("cannot {step} of container {id}")]
    Containerd { step: &'static str, id: ContainerId, source: ContainerdError },
    #[error("cannot {step} of container {id}")]
    Linux { step: &'static str, id: ContainerId, source: LinuxError },
    #[error("cannot {step} of container {id}")]
    Io { step: &'static str, id: ContainerId, source: IoError },
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot keep the status of container {id}")]
    Status { id: ContainerId, source: StateError },
    #[error(
        "container {id} did not end within {limit:?} of SIGKILL: a process of it may be in uninterruptible sleep"
    )]
    DoesNotEnd { id: ContainerId, limit: Duration },
    #[error("command {command:?} timed out after {limit:?} in container {id}")]
    ExecTimeout { id: ContainerId, command: String, limit: Duration },
    #[error("container {id} ended while a command ran in it")]
    EndedMeanwhile { id: ContainerId },
    #[error("a command in container {id} has ended, but its shim does not tell how: run it again")]
    UntoldExit { id: ContainerId },
    #[error("detached from container {id}: it wrote more than the client took")]
    TooSlow { id: ContainerId },
    #[error("checkpoints cannot be made or restored on this node: {why}")]
    CannotCheckpoint { why: String },
    /// With CRIU's own words, where it left any.
    #[error("cannot checkpoint container {id}{told}")]
    Dump { id: ContainerId, told: String, source: ContainerdError },
    #[error("cannot restore container {id}{told}")]
    Restore { id: ContainerId, told: String, source: ContainerdError },
    #[error("it was not done within {limit:?}")]
    TooLate { limit: Duration },
    #[error("it was broken off: the caller went away")]
    CallerGone,
    #[error("{path} is not a checkpoint that can be restored", path = path.display())]
    Archive { path: PathBuf, source: ArchiveFlaw },
    #[error("container {id} is not wholly removed")]
    Teardown { id: ContainerId, source: Errors },
    #[error("{create}; undoing it failed as well, RemoveContainer can finish it: {undo}")]
    Undo { create: Box<ContainerError>, undo: Box<ContainerError> },
    #[error(
        "{update}; undoing it failed as well, so that the stored spec has values that the container may not have: \
         repeat the request: {undo}"
    )]
    UpdateUndo { update: Box<ContainerError>, undo: Box<ContainerError> },
    #[error("the stored spec of container {id} cannot be read")]
    StoredSpec { id: ContainerId, source: serde_json::Error },
    #[error("work on container {id} was broken off by a bug: {why}")]
    Panicked { id: ContainerId, why: String },
}

impl ContainerError {
    /// Wraps the failure of `action` on a file, for `map_err`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) | Self::Ambiguous(_) => Kind::InvalidArgument,
            Self::NameTaken { .. } => Kind::AlreadyExists,
            Self::Create(source) => source.kind(),
            Self::NotFound(_) | Self::NoImage(_) => Kind::NotFound,
            Self::Sandbox(source) => source.kind(),
            Self::Image(source) => source.kind(),
            Self::Denied { .. }
            | Self::EndedMeanwhile { .. }
            | Self::ImageVolume { .. }
            | Self::CannotCheckpoint { .. } => Kind::FailedPrecondition,
            Self::Archive { source: ArchiveFlaw::Unwritable { .. }, .. } => Kind::Internal,
            Self::Archive { .. } => Kind::InvalidArgument,
            Self::CallerGone => Kind::Cancelled,
            Self::Spec(source) => source.kind(),
            Self::Containerd { source, .. } | Self::Dump { source, .. } | Self::Restore { source, .. } => {
                match source.kind() {
                    // The object that containerd misses is not the one that the caller named.
                    Kind::NotFound | Kind::AlreadyExists => Kind::Internal,
                    kind => kind,
                }
            }
            Self::TooSlow { .. } => Kind::ResourceExhausted,
            Self::DoesNotEnd { .. } | Self::ExecTimeout { .. } | Self::TooLate { .. } => {
                Kind::DeadlineExceeded
            }
            Self::Undo { create, .. } => create.kind(),
            Self::UpdateUndo { update, .. } => update.kind(),
            Self::StoredSpec { .. }
            | Self::Linux { .. }
            | Self::Io { .. }
            | Self::File { .. }
            | Self::Status { .. }
            | Self::Teardown { .. }
            | Self::UntoldExit { .. }
            | Self::BrokenOff(_)
            | Self::Panicked { .. } => Kind::Internal,
        }
    }
}

impl ContainerError {
    /// Why a container was not made; `doing`: what whoever holds its name is at.
    pub(super) fn not_made(error: MakeError<ContainerError>, doing: impl FnOnce(&str) -> String) -> Self {
        match error {
            MakeError::Taken(taken) => Self::NameTaken { doing: doing(&taken.holder), taken },
            MakeError::Failed(error) => Self::Create(error),
            MakeError::BrokenOff(name) => Self::BrokenOff(name),
        }
    }
}

impl From<SandboxError> for ContainerError {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(Box::new(error))
    }
}

/// Runs work that blocks on a thread for such; a panic of it is an error.
pub(super) async fn blocking<T: Send + 'static>(
    id: &ContainerId,
    work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    let panicked =
        |why: tokio::task::JoinError| ContainerError::Panicked { id: id.clone(), why: why.to_string() };
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}
