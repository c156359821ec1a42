//! What concerns a whole pod: its containers and its sandbox go down together, are checkpointed at one moment, and
//! restored together or not at all.

mod checkpoint;
mod restore;

use std::path::PathBuf;

use futures::future::join_all;

use crate::container::{ContainerError, Containers};
use crate::error::{Errors, Kind};
use crate::field::FieldError;
use crate::id::PodId;
use crate::sandbox::{Sandbox, SandboxError};
use crate::work::{Op, Operation};

pub use checkpoint::checkpoint;
pub use restore::{RestoredPod, restore};

/// Something with a whole pod failed.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Invalid(#[from] FieldError),
    #[error("{field} cannot be restored")]
    Restore { field: String, source: Box<ContainerError> },
    #[error("{path} is not a pod's checkpoint that can be restored: {why}", path = path.display())]
    NotACheckpoint { path: PathBuf, why: String },
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{error}; undoing it failed as well: {undo}")]
    Undo { error: Box<PodError>, undo: Box<PodError> },
    #[error("work on pod {id} was broken off by a bug: {why}")]
    Panicked { id: PodId, why: String },
    #[error("cannot {action} the containers of pod {id}")]
    Containers { action: &'static str, id: PodId, source: Errors },
}

impl PodError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Sandbox(source) => source.kind(),
            Self::Container(source) => source.kind(),
            Self::Restore { source, .. } => source.kind(),
            Self::Invalid(_) | Self::NotACheckpoint { .. } => Kind::InvalidArgument,
            Self::Undo { error, .. } => error.kind(),
            Self::Containers { .. } | Self::File { .. } | Self::Panicked { .. } => Kind::Internal,
        }
    }
}

/// Kills every container, then takes the sandbox down (CRI StopPodSandbox). Idempotent; a pod that is not there is
/// fine.
pub async fn stop(containers: &Containers, id: &str) -> Result<(), PodError> {
    let Some(sandbox) = found(containers, id)? else { return Ok(()) };
    let op = sandbox.begin(Operation::StopPodSandbox);
    let stopped = async {
        stop_containers(containers, &sandbox, &op).await?;
        Ok(containers.sandboxes().stop(&sandbox, &op).await?)
    };
    op.run(stopped).await
}

/// Removes every container, then the sandbox, stopping what still runs (CRI RemovePodSandbox). Idempotent; a pod that
/// is not there is fine.
pub async fn remove(containers: &Containers, id: &str) -> Result<(), PodError> {
    let Some(sandbox) = found(containers, id)? else { return Ok(()) };
    let op = sandbox.begin(Operation::RemovePodSandbox);
    let removed = async {
        let of_pod = containers.of_pod(&sandbox.id);
        // A container's end must be noted before its removal: a kubelet that watches sees how each one ended.
        stop_containers(containers, &sandbox, &op).await?;
        let removed = join_all(of_pod.iter().map(|container| containers.remove(container)));
        all("remove", &sandbox, op.step("remove the containers", removed).await)?;
        Ok(containers.sandboxes().remove(&sandbox, &op).await?)
    };
    op.run(removed).await
}

/// All at once: a pod's end takes as long as its slowest container, not as all of them.
async fn stop_containers(containers: &Containers, sandbox: &Sandbox, op: &Op) -> Result<(), PodError> {
    let of_pod = containers.of_pod(&sandbox.id);
    let stopped = join_all(of_pod.iter().map(|container| containers.stop_with_pod(container)));
    all("stop", sandbox, op.step("stop the containers", stopped).await)
}

fn all(
    action: &'static str,
    sandbox: &Sandbox,
    results: Vec<Result<(), ContainerError>>,
) -> Result<(), PodError> {
    let mut errors = Errors::default();
    for result in results {
        errors.keep(result);
    }
    errors.into_result().map_err(|source| PodError::Containers { action, id: sandbox.id.clone(), source })
}

fn found(containers: &Containers, id: &str) -> Result<Option<std::sync::Arc<Sandbox>>, PodError> {
    match containers.sandboxes().find(id) {
        Ok(sandbox) => Ok(Some(sandbox)),
        Err(SandboxError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
