//! Pods, as a runtime tells of them: its lists, the verbose status of each, and those that it is still making.

mod row;

use std::collections::HashMap;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tonic::Code;

use super::ShowError;
use super::runtime::{Runtime, call};
use crate::proto::cri;
use crate::time::Timestamp;
use crate::work::OperationReport;
pub use row::{doing, table, tone_of};

/// Statuses that are asked for at once.
const SIDE_BY_SIDE: usize = 16;

/// A pod, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub attempt: u32,
    pub state: PodState,
    /// RFC 3339; of one that is being made, when that began.
    pub created_at: String,
    pub containers: ContainerCount,
    /// What is being done and was done, the latest first; nothing where the runtime keeps no such record.
    pub operations: Vec<OperationReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PodState {
    Starting,
    Ready,
    NotReady,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainerCount {
    pub running: usize,
    pub all: usize,
}

/// What cridge's Status tells of a pod in the making.
#[derive(Deserialize)]
struct Making {
    id: String,
    metadata: Option<cri::PodSandboxMetadata>,
    operations: Vec<OperationReport>,
}

/// What of a pod's verbose information is of interest here.
#[derive(Default, Deserialize)]
struct Told {
    #[serde(default)]
    operations: Vec<OperationReport>,
}

/// All pods: the newest last, and those in the making after them.
pub async fn read(runtime: &Runtime) -> Result<Vec<Pod>, ShowError> {
    // Before the lists, so that a pod that is ready in between is in both, rather than in neither.
    let making: Vec<Making> = runtime.told("podsInTheMaking").await?;
    let listed = async { runtime.pods().list_pod_sandbox(cri::ListPodSandboxRequest::default()).await };
    let listed = call("list pods", listed).await?.items;
    let containers = async { runtime.pods().list_containers(cri::ListContainersRequest::default()).await };
    let counts = count(&call("list containers", containers).await?.containers);
    let making = making.into_iter().filter(|pod| !listed.iter().any(|row| row.id == pod.id));
    let making: Vec<_> = making.map(Pod::from).collect();
    let mut pods = Vec::new();
    let mut reading =
        futures::stream::iter(listed).map(|row| pod(runtime, row, &counts)).buffered(SIDE_BY_SIDE);
    while let Some(pod) = reading.next().await {
        pods.extend(pod?);
    }
    pods.sort_by(|a, b| a.created_at.cmp(&b.created_at));
    pods.extend(making);
    Ok(pods)
}

/// One that has gone since it was listed is none.
async fn pod(
    runtime: &Runtime,
    row: cri::PodSandbox,
    counts: &HashMap<String, ContainerCount>,
) -> Result<Option<Pod>, ShowError> {
    let status = cri::PodSandboxStatusRequest { pod_sandbox_id: row.id.clone(), verbose: true };
    let status = async { runtime.pods().pod_sandbox_status(status).await };
    let info = match call("tell a pod's status", status).await {
        Ok(answer) => answer.info,
        Err(ShowError::Call { status, .. }) if status.code() == Code::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = row.metadata.unwrap_or_default();
    let ready = row.state == i32::from(cri::PodSandboxState::SandboxReady);
    Ok(Some(Pod {
        containers: counts.get(&row.id).copied().unwrap_or_default(),
        id: row.id,
        namespace: metadata.namespace,
        name: metadata.name,
        attempt: metadata.attempt,
        state: if ready { PodState::Ready } else { PodState::NotReady },
        created_at: Timestamp::from_nanos(row.created_at).to_string(),
        operations: info.get("info").map(|json| operations(json)).unwrap_or_default(),
    }))
}

impl From<Making> for Pod {
    fn from(making: Making) -> Self {
        let metadata = making.metadata.unwrap_or_default();
        Self {
            id: making.id,
            namespace: metadata.namespace,
            name: metadata.name,
            attempt: metadata.attempt,
            state: PodState::Starting,
            created_at: making.operations.first().map(|one| one.since.clone()).unwrap_or_default(),
            containers: ContainerCount::default(),
            operations: making.operations,
        }
    }
}

/// Other runtimes have other things there, or nothing that can be read.
fn operations(json: &str) -> Vec<OperationReport> {
    serde_json::from_str::<Told>(json).unwrap_or_default().operations
}

/// Containers, by their pods.
fn count(containers: &[cri::Container]) -> HashMap<String, ContainerCount> {
    let mut counts: HashMap<String, ContainerCount> = HashMap::new();
    for container in containers {
        let count = counts.entry(container.pod_sandbox_id.clone()).or_default();
        count.all += 1;
        count.running += usize::from(container.state == i32::from(cri::ContainerState::ContainerRunning));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_runtimes_information_is_no_error() {
        for other in ["", "{}", r#"{"pid":7,"operations":"many"}"#, "null"] {
            assert!(operations(other).is_empty(), "{other}");
        }
        let ours = r#"{"pid":7,"operations":[{"operation":"RunPodSandbox","since":"2026-01-01T00:00:00Z"}]}"#;
        assert_eq!(operations(ours)[0].operation, "RunPodSandbox");
    }

    #[test]
    fn containers_are_counted_by_their_pods() {
        let container = |pod: &str, state: cri::ContainerState| cri::Container {
            pod_sandbox_id: pod.into(),
            state: state.into(),
            ..Default::default()
        };
        let counts = count(&[
            container("a", cri::ContainerState::ContainerRunning),
            container("b", cri::ContainerState::ContainerExited),
            container("a", cri::ContainerState::ContainerCreated),
        ]);
        assert_eq!(counts["a"], ContainerCount { running: 1, all: 2 });
        assert_eq!(counts["b"], ContainerCount { running: 0, all: 1 });
    }
}
