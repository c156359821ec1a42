//! What pods and containers use, the hungriest first, and what keeps a pod busy.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;

use super::ShowError;
use super::pods::{self, Pod, PodState};
use super::runtime::{Runtime, call};
use super::table::{Cell, Table, Tone, or_dash, size};
use crate::proto::cri;
use crate::time::Timestamp;
use crate::work::OperationReport;

const HEAD: &[&str] = &["NAMESPACE", "POD", "CONTAINER", "CPU", "MEMORY", "DISK", "PROCESSES", "NOW"];

/// A pod and what it uses. A figure that the runtime does not have is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUse {
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub state: PodState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_nano_cores: Option<u64>,
    /// The working set: what the node cannot have back without asking the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    pub containers: Vec<ContainerUse>,
    /// What is being done to it.
    pub operations: Vec<OperationReport>,
}

/// Of one of its containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUse {
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_nano_cores: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What it wrote into its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// All pods, those without figures last.
pub async fn read(runtime: &Runtime) -> Result<Vec<PodUse>, ShowError> {
    let stats =
        async { runtime.pods().list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default()).await };
    let stats = call("tell what pods use", stats).await?.stats;
    let of_pod = |stats: cri::PodSandboxStats| Some((stats.attributes?.id, stats.linux.unwrap_or_default()));
    let mut stats: HashMap<_, _> = stats.into_iter().filter_map(of_pod).collect();
    let pods = pods::read(runtime).await?.into_iter();
    let mut uses: Vec<_> = pods
        .map(|pod| {
            let stats = stats.remove(&pod.id).unwrap_or_default();
            pod_use(pod, stats)
        })
        .collect();
    uses.sort_by_key(|pod| Reverse((pod.cpu_nano_cores, pod.memory_bytes)));
    Ok(uses)
}

fn pod_use(pod: Pod, stats: cri::LinuxPodSandboxStats) -> PodUse {
    let mut containers: Vec<_> = stats.containers.into_iter().map(container_use).collect();
    containers.sort_by_key(|container| Reverse((container.cpu_nano_cores, container.memory_bytes)));
    PodUse {
        id: pod.id,
        namespace: pod.namespace,
        name: pod.name,
        state: pod.state,
        cpu_nano_cores: rate(stats.cpu),
        memory_bytes: working_set(stats.memory),
        processes: stats.process.and_then(|process| process.process_count).map(|count| count.value),
        containers,
        operations: pod.operations.into_iter().filter(|one| one.until.is_none()).collect(),
    }
}

fn container_use(stats: cri::ContainerStats) -> ContainerUse {
    let attributes = stats.attributes.unwrap_or_default();
    ContainerUse {
        id: attributes.id,
        name: attributes.metadata.unwrap_or_default().name,
        cpu_nano_cores: rate(stats.cpu),
        memory_bytes: working_set(stats.memory),
        disk_bytes: stats.writable_layer.and_then(|layer| layer.used_bytes).map(|bytes| bytes.value),
    }
}

fn rate(cpu: Option<cri::CpuUsage>) -> Option<u64> {
    Some(cpu?.usage_nano_cores?.value)
}

fn working_set(memory: Option<cri::MemoryUsage>) -> Option<u64> {
    Some(memory?.working_set_bytes?.value)
}

/// A line for each pod, and below it one for each of its containers.
pub fn table(pods: &[PodUse], now: Timestamp) -> Table {
    let rows = pods.iter().flat_map(|pod| {
        let containers = pod.containers.iter().map(move |container| of_container(pod, container));
        std::iter::once(of_pod(pod, now)).chain(containers)
    });
    Table::new(HEAD, rows.collect())
}

fn of_pod(pod: &PodUse, now: Timestamp) -> Vec<Cell> {
    let (doing, tone) = match pod.state {
        _ if !pod.operations.is_empty() => {
            (pods::doing(&pod.operations, now), pods::tone_of(&pod.operations, now))
        }
        PodState::NotReady => ("not ready".to_owned(), Tone::Warning),
        PodState::Ready | PodState::Starting => (or_dash(""), Tone::Plain),
    };
    vec![
        pod.namespace.as_str().into(),
        pod.name.as_str().into(),
        "".into(),
        cores(pod.cpu_nano_cores).into(),
        bytes(pod.memory_bytes).into(),
        "".into(),
        or_dash(pod.processes.map(|count| count.to_string()).unwrap_or_default()).into(),
        Cell::toned(doing, tone),
    ]
}

fn of_container(pod: &PodUse, container: &ContainerUse) -> Vec<Cell> {
    vec![
        pod.namespace.as_str().into(),
        pod.name.as_str().into(),
        container.name.as_str().into(),
        cores(container.cpu_nano_cores).into(),
        bytes(container.memory_bytes).into(),
        bytes(container.disk_bytes).into(),
    ]
}

/// In thousandths of a core, as Kubernetes writes them.
fn cores(nanos: Option<u64>) -> String {
    or_dash(nanos.map(|nanos| format!("{}m", nanos.div_ceil(1_000_000))).unwrap_or_default())
}

fn bytes(bytes: Option<u64>) -> String {
    or_dash(bytes.map(size).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::table::Colour;
    use super::*;

    #[test]
    fn figures_that_are_not_there_are_dashes() {
        let container = ContainerUse {
            id: "1".into(),
            name: "app".into(),
            cpu_nano_cores: Some(1_200_000),
            memory_bytes: Some(3 << 20),
            disk_bytes: None,
        };
        let busy = PodUse {
            id: "0".into(),
            namespace: "default".into(),
            name: "web".into(),
            state: PodState::Ready,
            cpu_nano_cores: Some(2_000_000_000),
            memory_bytes: Some(5 << 30),
            processes: Some(7),
            containers: vec![container],
            operations: Vec::new(),
        };
        let gone = PodUse {
            name: "old".into(),
            state: PodState::NotReady,
            cpu_nano_cores: None,
            memory_bytes: None,
            processes: None,
            containers: Vec::new(),
            ..busy.clone()
        };
        let expected = "\
NAMESPACE  POD  CONTAINER  CPU    MEMORY  DISK  PROCESSES  NOW
default    web             2000m  5.0GiB        7          -
default    web  app        2m     3.0MiB  -
default    old             -      -             -          not ready
";
        assert_eq!(table(&[busy, gone], Timestamp::NEVER).text(Colour::No), expected);
    }
}
