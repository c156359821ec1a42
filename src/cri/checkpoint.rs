//! Checkpoints: what may be asked, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::runtime::{RuntimeService, id, seconds};
use crate::container::Patience;
use crate::field;
use crate::proto::cri;

/// What a checkpoint may take where nobody says: less than the two minutes that kubelets give the call, so that they
/// hear why it failed.
const DEFAULT_LIMIT: Duration = Duration::from_secs(110);
/// Left of a caller's deadline for letting go and clearing away, at most: a tenth of it otherwise.
const CLEAR_AWAY: Duration = Duration::from_secs(5);

impl RuntimeService {
    pub(super) async fn checkpoint(
        &self,
        metadata: &MetadataMap,
        request: cri::CheckpointContainerRequest,
    ) -> Result<cri::CheckpointContainerResponse, Status> {
        let asked = seconds("timeout", request.timeout)?;
        field::required_path("location", &request.location)?;
        let container = self.containers.find(id("container_id", &request.container_id)?)?;
        let asked = (!asked.is_zero()).then_some(asked);
        let (patience, _guard) = Patience::new(limit(asked, deadline(metadata)));
        self.containers.checkpoint(container, PathBuf::from(request.location), patience).await?;
        Ok(cri::CheckpointContainerResponse {})
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

/// The caller's deadline (gRPC over HTTP/2, "Timeout"): at most eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_deadline_is_read() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "5", "5x", "123456789S", "-1S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn time_is_left_to_clear_away() {
        let s = Duration::from_secs;
        assert_eq!(limit(Some(s(10)), Some(s(120))), s(10));
        assert_eq!(limit(Some(s(120)), Some(s(120))), s(115));
        assert_eq!(limit(None, Some(s(10))), s(9));
        assert_eq!(limit(None, None), DEFAULT_LIMIT);
    }
}
