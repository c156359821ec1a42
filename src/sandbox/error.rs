//! Why a sandbox could not be run, found or taken down.

use std::path::PathBuf;
use std::sync::Arc;

use crate::containerd::ContainerdError;
use crate::error::{Errors, Kind};
use crate::field::FieldError;
use crate::id::PodId;
use crate::image::ImageError;
use crate::linux::LinuxError;
use crate::network::NetworkError;
use crate::spec::SpecError;
use crate::state::{MakeError, Taken};

/// A sandbox operation's failure.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(transparent)]
    Invalid(#[from] FieldError),
    #[error(
        "config.linux.security_context.namespace_options.userns_options: runtime handler {handler:?} cannot run pods \
         in user namespaces: {missing}"
    )]
    UserNamespaces { handler: String, missing: &'static str },
    #[error("{taken}{doing}")]
    NameTaken {
        taken: Taken,
        /// What its holder is at, if at anything, after a comma.
        doing: String,
    },
    /// The failure of the work that this request had joined, or started.
    #[error(transparent)]
    Run(Arc<SandboxError>),
    #[error("running pod {0} was broken off; a repeat starts clean")]
    BrokenOff(String),
    #[error("pod sandbox {0:?} does not exist")]
    NotFound(String),
    #[error("{0:?} is the beginning of more than one pod sandbox's id")]
    Ambiguous(String),
    #[error("runtime handler {handler:?} is not configured (configured: {known})")]
    UnknownHandler { handler: String, known: String },
    #[error("pod sandbox {id} is {state}")]
    NotReady { id: PodId, state: &'static str },
    #[error("cannot {step} of pod sandbox {id}")]
    Containerd { step: &'static str, id: PodId, source: ContainerdError },
    #[error("cannot {step} of pod sandbox {id}")]
    Linux { step: &'static str, id: PodId, source: LinuxError },
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot mount or unmount {path}", path = path.display())]
    Mount { path: PathBuf, source: LinuxError },
    #[error("cannot set up the network of pod sandbox {id}")]
    Network { id: PodId, source: NetworkError },
    #[error("cannot reach port {port} of pod sandbox {id}")]
    Port { id: PodId, port: u16, source: std::io::Error },
    #[error("cannot get the pause image")]
    Image(#[source] Box<ImageError>),
    #[error("cannot make the pause's spec")]
    Spec(#[source] SpecError),
    #[error("pod sandbox {id} cannot have such resources")]
    Resources { id: PodId, source: SpecError },
    /// A step of the teardown failed; the others were done.
    #[error("pod sandbox {id} is not wholly down")]
    Teardown { id: PodId, source: Errors },
    /// The run failed, and its undo too: the sandbox stays visible.
    #[error("{run}; undoing it failed as well, RemovePodSandbox can finish it: {undo}")]
    Undo { run: Box<SandboxError>, undo: Box<SandboxError> },
    #[error("running pod sandbox {id} was broken off by a bug: {why}")]
    Panicked { id: PodId, why: String },
}

impl SandboxError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::UserNamespaces { .. } => Kind::FailedPrecondition,
            Self::NameTaken { .. } => Kind::AlreadyExists,
            Self::Run(source) => source.kind(),
            Self::BrokenOff(_) => Kind::Internal,
            Self::NotFound(_) => Kind::NotFound,
            Self::Ambiguous(_) | Self::UnknownHandler { .. } => Kind::InvalidArgument,
            Self::NotReady { .. } => Kind::FailedPrecondition,
            Self::Containerd { source, .. } => match source.kind() {
                // The object that containerd misses is not the one that the caller named.
                Kind::NotFound | Kind::AlreadyExists => Kind::Internal,
                kind => kind,
            },
            Self::Linux { .. } | Self::Mount { .. } | Self::File { .. } | Self::Panicked { .. } => {
                Kind::Internal
            }
            Self::Port { .. } => Kind::Unavailable,
            Self::Network { source, .. } => source.kind(),
            Self::Image(source) => source.kind(),
            Self::Spec(source) | Self::Resources { source, .. } => source.kind(),
            Self::Teardown { .. } => Kind::Internal,
            Self::Undo { run, .. } => run.kind(),
        }
    }
}

impl SandboxError {
    /// Why a sandbox was not made; `doing`: what whoever holds its name is at.
    pub(super) fn not_made(error: MakeError<SandboxError>, doing: impl FnOnce(&str) -> String) -> Self {
        match error {
            MakeError::Taken(taken) => Self::NameTaken { doing: doing(&taken.holder), taken },
            MakeError::Failed(error) => Self::Run(error),
            MakeError::BrokenOff(name) => Self::BrokenOff(name),
        }
    }
}

/// Runs work that blocks on a thread for such; a panic of it is an error.
pub(super) async fn blocking<T: Send + 'static>(
    id: &PodId,
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let panicked =
        |why: tokio::task::JoinError| SandboxError::Panicked { id: id.clone(), why: why.to_string() };
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}
