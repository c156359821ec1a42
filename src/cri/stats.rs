//! The stats and metrics calls: what is asked for, and the measurements in the CRI's messages.

use tonic::Status;

use super::{convert, filter};
use crate::container::{ContainerError, Containers};
use crate::proto::cri;
use crate::stats::{
    ContainerStats, Interface, Memory, Network, PodStats, Pressure, Stall, Stats, Swap, Usage,
};

/// ContainerStats.
pub(super) async fn container(
    stats: &Stats,
    containers: &Containers,
    id: &str,
) -> Result<cri::ContainerStats, Status> {
    let container = containers.find(id)?;
    let gone = || ContainerError::NotFound(id.to_owned());
    let measured = stats.containers(vec![container]).await?.pop().ok_or_else(gone)?;
    Ok(container_stats(measured))
}

/// ListContainerStats: in any state; without a task there is no usage.
pub(super) async fn containers(
    stats: &Stats,
    containers: &Containers,
    wanted: Option<cri::ContainerStatsFilter>,
) -> Result<Vec<cri::ContainerStats>, Status> {
    let mut wanted = wanted.unwrap_or_default();
    filter::whole_container_id(containers, &mut wanted.id);
    filter::whole_pod_id(containers.sandboxes(), &mut wanted.pod_sandbox_id);
    let mut found = containers.all();
    found.retain(|container| {
        let facts = container.facts();
        filter::container_stats(
            container.id.as_str(),
            container.pod.as_str(),
            &facts.metadata.config.labels,
            &wanted,
        )
    });
    Ok(stats.containers(found).await?.into_iter().map(container_stats).collect())
}

/// PodSandboxStats: of one that is ready.
pub(super) async fn pod(
    stats: &Stats,
    containers: &Containers,
    id: &str,
) -> Result<cri::PodSandboxStats, Status> {
    let sandbox = containers.sandboxes().find(id)?;
    match stats.pods(vec![sandbox.clone()]).await?.pop() {
        Some(measured) => Ok(pod_stats(measured)),
        None => {
            // It was never ready, or is not any more, or is gone: each says so itself.
            containers.sandboxes().find(sandbox.id.as_str())?.pause_pid()?;
            Err(Status::unavailable(format!("pod sandbox {} is changing", sandbox.id)))
        }
    }
}

/// ListPodSandboxStats: those that are ready.
pub(super) async fn pods(
    stats: &Stats,
    containers: &Containers,
    wanted: Option<cri::PodSandboxStatsFilter>,
) -> Result<Vec<cri::PodSandboxStats>, Status> {
    let mut wanted = wanted.unwrap_or_default();
    filter::whole_pod_id(containers.sandboxes(), &mut wanted.id);
    let mut found = containers.sandboxes().all();
    found.retain(|sandbox| {
        let labels = &sandbox.facts().metadata.config.labels;
        filter::pod_stats(sandbox.id.as_str(), labels, &wanted)
    });
    Ok(stats.pods(found).await?.into_iter().map(pod_stats).collect())
}

fn container_stats(measured: ContainerStats) -> cri::ContainerStats {
    let facts = measured.container.facts();
    let config = &facts.metadata.config;
    let usage = measured.usage.as_ref();
    cri::ContainerStats {
        attributes: Some(cri::ContainerAttributes {
            id: measured.container.id.to_string(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        cpu: usage.and_then(|usage| cpu(usage, measured.nano_cores)),
        memory: usage.and_then(memory),
        writable_layer: measured.writable_layer.map(convert::filesystem),
        swap: usage.and_then(swap),
        io: usage.and_then(io),
    }
}

fn pod_stats(measured: PodStats) -> cri::PodSandboxStats {
    let facts = measured.sandbox.facts();
    let config = &facts.metadata.config;
    let usage = measured.usage.as_ref();
    let (counted_at, processes) = measured.processes;
    cri::PodSandboxStats {
        attributes: Some(cri::PodSandboxAttributes {
            id: measured.sandbox.id.to_string(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: usage.and_then(|usage| cpu(usage, measured.nano_cores)),
            memory: usage.and_then(memory),
            network: measured.network.map(network),
            process: Some(cri::ProcessUsage {
                timestamp: counted_at.nanos(),
                process_count: value(processes),
            }),
            containers: measured.containers.into_iter().map(container_stats).collect(),
            io: usage.and_then(io),
        }),
        windows: None,
    }
}

fn value(value: impl Into<Option<u64>>) -> Option<cri::UInt64Value> {
    value.into().map(|value| cri::UInt64Value { value })
}

fn cpu(usage: &Usage, nano_cores: Option<u64>) -> Option<cri::CpuUsage> {
    let cpu_ns = usage.cpu_ns?;
    Some(cri::CpuUsage {
        timestamp: usage.at.nanos(),
        usage_core_nano_seconds: value(cpu_ns),
        usage_nano_cores: value(nano_cores),
        psi: usage.cpu_pressure.map(psi),
    })
}

fn memory(usage: &Usage) -> Option<cri::MemoryUsage> {
    let Memory { usage: bytes, working_set, available, rss, page_faults, major_page_faults } = usage.memory?;
    Some(cri::MemoryUsage {
        timestamp: usage.at.nanos(),
        working_set_bytes: value(working_set),
        available_bytes: value(available),
        usage_bytes: value(bytes),
        rss_bytes: value(rss),
        page_faults: value(page_faults),
        major_page_faults: value(major_page_faults),
        psi: usage.memory_pressure.map(psi),
    })
}

fn swap(usage: &Usage) -> Option<cri::SwapUsage> {
    let Swap { usage: bytes, available } = usage.swap?;
    Some(cri::SwapUsage {
        timestamp: usage.at.nanos(),
        swap_available_bytes: value(available),
        swap_usage_bytes: value(bytes),
    })
}

fn io(usage: &Usage) -> Option<cri::IoUsage> {
    let psi = psi(usage.io_pressure?);
    Some(cri::IoUsage { timestamp: usage.at.nanos(), psi: Some(psi) })
}

fn psi(pressure: Pressure) -> cri::PsiStats {
    let data = |Stall { total_ns, averages: [avg10, avg60, avg300] }| cri::PsiData {
        total: total_ns,
        avg10,
        avg60,
        avg300,
    };
    cri::PsiStats { full: Some(data(pressure.full)), some: Some(data(pressure.some)) }
}

fn network(network: Network) -> cri::NetworkUsage {
    cri::NetworkUsage {
        timestamp: network.at.nanos(),
        default_interface: Some(interface(network.default)),
        interfaces: network.others.into_iter().map(interface).collect(),
    }
}

fn interface(interface: Interface) -> cri::NetworkInterfaceUsage {
    cri::NetworkInterfaceUsage {
        name: interface.name,
        rx_bytes: value(interface.received.bytes),
        rx_errors: value(interface.received.errors),
        tx_bytes: value(interface.sent.bytes),
        tx_errors: value(interface.sent.errors),
    }
}
