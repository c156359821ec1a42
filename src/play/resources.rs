//! Requests and limits as the kubelet turns them into cgroup settings and OOM scores.

use super::manifest::{Container, Pod, Resources};
use crate::proto::cri::LinuxContainerResources;

/// cgroup v1's weight for one CPU, the least that the kernel takes, and the most.
const SHARES_PER_CPU: i64 = 1024;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;
/// The scheduler's period in µs, and the least quota in it that the kernel takes.
const PERIOD: i64 = 100_000;
const LEAST_QUOTA: i64 = 1_000;
/// Who goes first when memory runs out (kubelet's QoS policy): guaranteed pods last, best-effort pods first.
const GUARANTEED_SCORE: i64 = -997;
const BEST_EFFORT_SCORE: i64 = 1000;

/// Kubernetes' classes of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// Of one container, on a node of so many bytes of memory.
pub fn of_container(pod: &Pod, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let own = &container.resources;
    LinuxContainerResources {
        cpu_shares: shares(own.cpu_request.map_or(0, |cpu| cpu.milli())),
        cpu_period: own.cpu_limit.filter(|limit| !limit.is_zero()).map_or(0, |_| PERIOD),
        cpu_quota: own.cpu_limit.map_or(0, |limit| quota(limit.milli())),
        memory_limit_in_bytes: own.memory_limit.map_or(0, |limit| limit.units()),
        oom_score_adj: score(pod, container, node_memory),
        ..Default::default()
    }
}

/// The sum over the containers that run side by side. A limit is one only if all have it.
pub fn of_pod(pod: &Pod) -> LinuxContainerResources {
    let sidecars = pod.init_containers.iter().filter(|container| container.sidecar);
    let all: Vec<&Resources> =
        pod.containers.iter().chain(sidecars).map(|container| &container.resources).collect();
    let total = |of: fn(&Resources) -> Option<i64>| all.iter().map(|own| of(own)).sum::<Option<i64>>();
    let requested: i64 = all.iter().filter_map(|own| own.cpu_request).map(|cpu| cpu.milli()).sum();
    let cpu_limit = total(|own| own.cpu_limit.map(|cpu| cpu.milli())).filter(|milli| *milli > 0);
    LinuxContainerResources {
        cpu_shares: shares(requested),
        cpu_period: cpu_limit.map_or(0, |_| PERIOD),
        cpu_quota: cpu_limit.map_or(0, quota),
        memory_limit_in_bytes: total(|own| own.memory_limit.map(|memory| memory.units())).unwrap_or(0),
        ..Default::default()
    }
}

fn shares(milli: i64) -> i64 {
    (milli.saturating_mul(SHARES_PER_CPU) / 1_000).clamp(LEAST_SHARES, MOST_SHARES)
}

fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli.saturating_mul(PERIOD) / 1_000).max(LEAST_QUOTA) }
}

/// The share of the node's memory that a burstable container did not ask for, in thousandths. A sidecar is not
/// killed before the containers that need it.
fn score(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    match class(pod) {
        Class::Guaranteed => GUARANTEED_SCORE,
        Class::BestEffort => BEST_EFFORT_SCORE,
        Class::Burstable => {
            let of = |container: &Container| burstable_score(&container.resources, node_memory);
            let main = pod.containers.iter().map(of).min().unwrap_or(BEST_EFFORT_SCORE);
            if container.sidecar { of(container).min(main) } else { of(container) }
        }
    }
}

fn burstable_score(own: &Resources, node_memory: i64) -> i64 {
    let request = own.memory_request.map_or(0, |memory| memory.units());
    let asked = i128::from(request) * 1_000 / i128::from(node_memory.max(1));
    let score = 1_000 - i64::try_from(asked).unwrap_or(i64::MAX).min(1_000);
    score.clamp(1_000 + GUARANTEED_SCORE, BEST_EFFORT_SCORE - 1)
}

fn class(pod: &Pod) -> Class {
    let some = |own: &Resources| {
        [own.cpu_request, own.cpu_limit, own.memory_request, own.memory_limit]
            .iter()
            .any(|amount| amount.is_some_and(|amount| !amount.is_zero()))
    };
    let fixed = |own: &Resources| {
        let same = own.cpu_request == own.cpu_limit && own.memory_request == own.memory_limit;
        let both = [own.cpu_limit, own.memory_limit];
        same && both.iter().all(|limit| limit.is_some_and(|limit| !limit.is_zero()))
    };
    if !pod.all_containers().any(|container| some(&container.resources)) {
        Class::BestEffort
    } else if pod.all_containers().all(|container| fixed(&container.resources)) {
        Class::Guaranteed
    } else {
        Class::Burstable
    }
}
