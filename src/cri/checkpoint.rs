//! Checkpoints: what may be asked, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::RuntimeService;
use super::deadline::given;
use super::request::{id, seconds};
use crate::container::Patience;
use crate::field;
use crate::id::ContainerId;
use crate::pod;
use crate::proto::cri;

/// What a checkpoint may take where nobody says: less than the two minutes that kubelets give the call, so that they
/// hear why it failed.
const DEFAULT_LIMIT: Duration = Duration::from_secs(110);
/// Left of a caller's deadline for letting go and clearing away, at most: a tenth of it otherwise.
const CLEAR_AWAY: Duration = Duration::from_secs(5);

impl RuntimeService {
    pub(super) async fn checkpoint(
        &self,
        metadata: MetadataMap,
        request: cri::CheckpointContainerRequest,
    ) -> Result<cri::CheckpointContainerResponse, Status> {
        let asked = seconds("timeout", request.timeout)?;
        field::required_path("location", &request.location)?;
        let container = self.containers.find(id("container_id", &request.container_id)?)?;
        let asked = (!asked.is_zero()).then_some(asked);
        let (patience, _guard) = Patience::new(limit(asked, given(&metadata.into_headers())));
        self.containers.checkpoint(container, PathBuf::from(request.location), patience).await?;
        Ok(cri::CheckpointContainerResponse {})
    }

    pub(super) async fn pod_checkpoint(
        &self,
        metadata: MetadataMap,
        request: cri::CheckpointPodRequest,
    ) -> Result<cri::CheckpointPodResponse, Status> {
        id("pod_sandbox_id", &request.pod_sandbox_id)?;
        let (patience, _guard) = Patience::new(limit(None, given(&metadata.into_headers())));
        pod::checkpoint(&self.containers, request, patience).await?;
        Ok(cri::CheckpointPodResponse {})
    }

    pub(super) async fn pod_restore(
        &self,
        metadata: MetadataMap,
        request: cri::RestorePodRequest,
    ) -> Result<cri::RestorePodResponse, Status> {
        let (patience, _guard) = Patience::new(limit(None, given(&metadata.into_headers())));
        let made = pod::restore(&self.containers, request, patience).await?;
        let restored =
            |(name, id): (String, ContainerId)| cri::RestoredContainer { name, container_id: id.to_string() };
        Ok(cri::RestorePodResponse {
            pod_sandbox_id: made.id.to_string(),
            restored_containers: made.containers.into_iter().map(restored).collect(),
        })
    }
}

/// How long the work may take: what was asked for, within what the caller waits.
fn limit(asked: Option<Duration>, deadline: Option<Duration>) -> Duration {
    let within = deadline.map(|deadline| deadline - CLEAR_AWAY.min(deadline / 10));
    match (asked, within) {
        (Some(asked), Some(within)) => asked.min(within),
        (Some(limit), None) | (None, Some(limit)) => limit,
        (None, None) => DEFAULT_LIMIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_left_to_clear_away() {
        let s = Duration::from_secs;
        assert_eq!(limit(Some(s(10)), Some(s(120))), s(10));
        assert_eq!(limit(Some(s(120)), Some(s(120))), s(115));
        assert_eq!(limit(None, Some(s(10))), s(9));
        assert_eq!(limit(None, None), DEFAULT_LIMIT);
    }
}
