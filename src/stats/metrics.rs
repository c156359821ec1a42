//! The figures under the metrics' names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::cgroup::{self, Usage};
use super::detail::{self, Detail, Disk, Limits, MemoryDetail};
use super::disk::Filesystem;
use super::foreign::Foreign;
use super::measure::{Inner, Stats, StatsError};
use super::metric::{self as names, Samples, seconds};
use super::network::{self, Network};
use super::parse::{self, Limit, Pressure};
use crate::container::{Container, ContainerFacts, ContainerState};
use crate::image::FilesystemUsage;
use crate::linux::cgroup::CgroupFolders;
use crate::proto::cri;
use crate::sandbox::{Sandbox, SandboxState};
use crate::time::Timestamp;

impl Stats {
    /// The metrics of every pod that is ready, and of its running containers.
    ///
    /// # Errors
    /// [`StatsError::Panicked`].
    pub async fn metrics(&self) -> Result<Vec<cri::PodSandboxMetrics>, StatsError> {
        let mut of_pod = self.0.containers_by_pod();
        let foreign = self.0.ask(self.0.foreign(of_pod.values().flatten())).await;
        self.pass(move |inner| {
            let mut known = Known { foreign, filesystems: Filesystems::default() };
            let measure = |sandbox: Arc<Sandbox>| {
                let containers = of_pod.remove(&sandbox.id).unwrap_or_default();
                inner.pod_metrics(&sandbox, &containers, &mut known)
            };
            inner.containers.sandboxes().all().into_iter().filter_map(measure).collect()
        })
        .await
    }
}

/// What one pass need not look up again.
struct Known {
    foreign: Foreign,
    filesystems: Filesystems,
}

/// The filesystems met in one pass, by folder: mostly one.
#[derive(Default)]
struct Filesystems(HashMap<String, Option<Filesystem>>);

impl Filesystems {
    fn of(&mut self, folder: &str) -> Option<&Filesystem> {
        let look = || Filesystem::of(Path::new(folder));
        self.0.entry(folder.to_owned()).or_insert_with(look).as_ref()
    }
}

impl Inner {
    fn pod_metrics(
        &self,
        sandbox: &Sandbox,
        containers: &[Arc<Container>],
        known: &mut Known,
    ) -> Option<cri::PodSandboxMetrics> {
        let facts = sandbox.facts();
        let SandboxState::Ready { pid } = facts.state else { return None };
        let metadata = facts.metadata.config.metadata.clone().unwrap_or_default();
        let (name, namespace) = (metadata.name, metadata.namespace);
        let labels = [name, namespace, String::new(), sandbox.id.to_string(), String::new()];
        let mut samples = Samples::new(labels.clone());
        if let Some(network) = network::of_pod(&facts.metadata.netns_path, pid) {
            add_network(&mut samples, &network);
        }
        let measure = |container: &Arc<Container>| {
            let metrics = self.container_metrics(container, &labels, known)?;
            Some(cri::ContainerMetrics { container_id: container.id.to_string(), metrics })
        };
        let container_metrics = containers.iter().filter_map(measure).collect();
        (sandbox.state() == facts.state).then(|| cri::PodSandboxMetrics {
            pod_sandbox_id: sandbox.id.to_string(),
            metrics: samples.into_inner(),
            container_metrics,
        })
    }

    /// `None` of one that has no task, or lost it meanwhile.
    fn container_metrics(
        &self,
        container: &Container,
        of_pod: &[String; 5],
        known: &mut Known,
    ) -> Option<Vec<cri::Metric>> {
        let facts = container.facts();
        let writable_layer = self.writable_layer(container);
        let (detail, processes, usage) = match self.cgroup_of(container) {
            Some(folders) => {
                let detail = detail::detail(&folders);
                let processes = Processes::of(&folders, &facts.state);
                // Last: it tells whether all the others were still there.
                (detail, processes, cgroup::usage(&folders)?)
            }
            None => {
                let told = known.foreign.get(&container.id)?;
                (told.detail(), Processes::told(told.processes), told.usage.clone())
            }
        };
        let mut samples = Samples::new(labels(container, &facts, of_pod));
        add_times(&mut samples, &facts.state, usage.at);
        add_cpu(&mut samples, &usage, &detail);
        add_memory(&mut samples, &usage, &detail.memory);
        add_pressure(&mut samples, &usage);
        for disk in &detail.disks {
            add_disk(&mut samples, disk);
        }
        for pages in &detail.huge_pages {
            let size = [pages.size.as_str()];
            samples.add_for(&names::HUGETLB_USAGE, &size, pages.usage);
            samples.add_for(&names::HUGETLB_MAX_USAGE, &size, pages.max_usage);
            samples.add_for(&names::HUGETLB_FAILCNT, &size, pages.failures);
        }
        if let Some(layer) = &writable_layer {
            add_filesystem(&mut samples, layer, known.filesystems.of(&layer.mountpoint));
        }
        processes.add_to(&mut samples);
        samples.add(&names::THREADS, detail.threads);
        samples.add(&names::THREADS_MAX, detail.threads_max.map(Limit::or_zero));
        add_limits(&mut samples, &detail.limits, &facts);
        Some(samples.into_inner())
    }
}

fn labels(container: &Container, facts: &ContainerFacts, of_pod: &[String; 5]) -> [String; 5] {
    let config = &facts.metadata.config;
    let image = config.image.clone().unwrap_or_default();
    let asked_for = Some(image.user_specified_image).filter(|name| !name.is_empty());
    let [pod, namespace, ..] = of_pod;
    [
        pod.clone(),
        namespace.clone(),
        config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default(),
        container.id.to_string(),
        asked_for.unwrap_or(image.image),
    ]
}

fn add_network(samples: &mut Samples, network: &Network) {
    for interface in network.all() {
        let name = [interface.name.as_str()];
        let (received, sent) = (&interface.received, &interface.sent);
        for (metric, count) in [
            (names::NETWORK_RECEIVE_BYTES, received.bytes),
            (names::NETWORK_RECEIVE_PACKETS, received.packets),
            (names::NETWORK_RECEIVE_DROPPED, received.dropped),
            (names::NETWORK_RECEIVE_ERRORS, received.errors),
            (names::NETWORK_TRANSMIT_BYTES, sent.bytes),
            (names::NETWORK_TRANSMIT_PACKETS, sent.packets),
            (names::NETWORK_TRANSMIT_DROPPED, sent.dropped),
            (names::NETWORK_TRANSMIT_ERRORS, sent.errors),
        ] {
            samples.add_for(&metric, &name, count);
        }
    }
}

fn add_times(samples: &mut Samples, state: &ContainerState, seen: Timestamp) {
    let unix = |at: Timestamp| u64::try_from(at.nanos() / 1_000_000_000).ok();
    samples.add(&names::LAST_SEEN, unix(seen));
    if let ContainerState::Running { started_at, .. } | ContainerState::Unknown { started_at } = state {
        samples.add(&names::START_TIME, unix(*started_at));
    }
}

fn add_cpu(samples: &mut Samples, usage: &Usage, detail: &Detail) {
    samples.add(&names::CPU_USAGE, seconds(usage.cpu_ns));
    samples.add(&names::CPU_USER, seconds(detail.user_ns));
    samples.add(&names::CPU_SYSTEM, seconds(detail.system_ns));
    samples.add(&names::CFS_PERIODS, detail.periods);
    samples.add(&names::CFS_THROTTLED_PERIODS, detail.throttled_periods);
    samples.add(&names::CFS_THROTTLED, seconds(detail.throttled_ns));
}

fn add_memory(samples: &mut Samples, usage: &Usage, detail: &MemoryDetail) {
    if let Some(memory) = &usage.memory {
        samples.add(&names::MEMORY_USAGE, memory.usage);
        samples.add(&names::MEMORY_WORKING_SET, memory.working_set);
        samples.add(&names::MEMORY_RSS, memory.rss);
    }
    samples.add(&names::MEMORY_SWAP, usage.swap.map(|swap| swap.usage));
    samples.add(&names::MEMORY_CACHE, detail.cache);
    samples.add(&names::MEMORY_KERNEL, detail.kernel);
    samples.add(&names::MEMORY_MAPPED_FILE, detail.mapped_file);
    samples.add(&names::MEMORY_MAX_USAGE, detail.max_usage);
    samples.add(&names::MEMORY_ACTIVE_FILE, detail.active_file);
    samples.add(&names::MEMORY_INACTIVE_FILE, detail.inactive_file);
    samples.add(&names::MEMORY_FAILCNT, detail.failures);
    // v1 does not tell of the former; its limit is not called so.
    samples.add(&names::MEMORY_EVENTS_HIGH, detail.high_events);
    samples.add(&names::MEMORY_EVENTS_MAX, detail.high_events.and(detail.failures));
    samples.add(&names::OOM_EVENTS, detail.oom_kills);
    for (failure, counts) in [("pgfault", detail.page_faults), ("pgmajfault", detail.major_page_faults)] {
        for (scope, count) in ["container", "hierarchy"].into_iter().zip(counts) {
            samples.add_for(&names::MEMORY_FAILURES, &[failure, scope], count);
        }
    }
}

fn add_pressure(samples: &mut Samples, usage: &Usage) {
    for (pressure, stalled, waiting) in [
        (usage.cpu_pressure, names::PRESSURE_CPU_STALLED, names::PRESSURE_CPU_WAITING),
        (usage.memory_pressure, names::PRESSURE_MEMORY_STALLED, names::PRESSURE_MEMORY_WAITING),
        (usage.io_pressure, names::PRESSURE_IO_STALLED, names::PRESSURE_IO_WAITING),
    ] {
        let Some(Pressure { some, full }) = pressure else { continue };
        samples.add(&stalled, seconds(full.total_ns));
        samples.add(&waiting, seconds(some.total_ns));
    }
}

fn add_disk(samples: &mut Samples, disk: &Disk) {
    let name = disk.device.name();
    let (major, minor) = (disk.device.major.to_string(), disk.device.minor.to_string());
    for (operation, bytes) in &disk.bytes {
        samples.add_for(&names::BLKIO, &[&name, &major, &minor, operation], *bytes);
    }
    let count = |counts: &[(String, u64)], operation: &str| {
        counts.iter().find(|(known, _)| known == operation).map(|(_, count)| *count)
    };
    for (metric, counts, operation) in [
        (names::FS_READS_BYTES, &disk.bytes, "Read"),
        (names::FS_WRITES_BYTES, &disk.bytes, "Write"),
        (names::FS_READS, &disk.requests, "Read"),
        (names::FS_WRITES, &disk.requests, "Write"),
    ] {
        samples.add_for(&metric, &[&name], count(counts, operation));
    }
}

fn add_filesystem(samples: &mut Samples, layer: &FilesystemUsage, filesystem: Option<&Filesystem>) {
    let Some(filesystem) = filesystem else { return };
    let device = [filesystem.device.as_str()];
    samples.add_as_of(&names::FS_USAGE, &device, layer.at, layer.bytes);
    samples.add_for(&names::FS_LIMIT, &device, filesystem.bytes);
    samples.add_for(&names::FS_INODES_TOTAL, &device, filesystem.inodes);
    samples.add_for(&names::FS_INODES_FREE, &device, filesystem.inodes_free);
}

fn add_limits(samples: &mut Samples, limits: &Limits, facts: &ContainerFacts) {
    let asked_for = facts.file.resources.as_ref().and_then(|resources| resources.linux.as_ref());
    let shares =
        asked_for.and_then(|linux| u64::try_from(linux.cpu_shares).ok()).filter(|&shares| shares > 0);
    samples.add(&names::SPEC_CPU_PERIOD, limits.cpu_period);
    if let Some(Limit::Of(quota)) = limits.cpu_quota {
        samples.add(&names::SPEC_CPU_QUOTA, quota);
    }
    samples.add(&names::SPEC_CPU_SHARES, limits.cpu_shares.or(shares));
    samples.add(&names::SPEC_MEMORY_LIMIT, limits.memory.map(Limit::or_zero));
    samples.add(&names::SPEC_MEMORY_RESERVATION, limits.reservation.map(Limit::or_zero));
    samples.add(&names::SPEC_MEMORY_SWAP, limits.swap.map(Limit::or_zero));
}

/// What /proc tells of a container's processes.
struct Processes {
    count: u64,
    /// Not told of those in another kernel, as all that follows.
    descriptors: Option<u64>,
    sockets: Option<u64>,
    max_open_files: Option<u64>,
}

impl Processes {
    fn of(folders: &CgroupFolders, state: &ContainerState) -> Self {
        let pids = cgroup::processes(folders);
        let (mut descriptors, mut sockets) = (0, 0);
        for pid in &pids {
            // One that ends meanwhile has none.
            for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                descriptors += 1;
                let target = std::fs::read_link(entry.path()).unwrap_or_default();
                sockets += u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
            }
        }
        let limits = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/limits")).ok();
        let first = state.running().ok().filter(|pid| pids.contains(pid)).and_then(limits);
        let max_open_files = first.and_then(|text| parse::max_open_files(&text));
        let (descriptors, sockets) = (Some(descriptors), Some(sockets));
        Self { count: pids.len() as u64, descriptors, sockets, max_open_files }
    }

    fn told(count: u64) -> Self {
        Self { count, descriptors: None, sockets: None, max_open_files: None }
    }

    fn add_to(&self, samples: &mut Samples) {
        samples.add(&names::PROCESSES, self.count);
        samples.add(&names::FILE_DESCRIPTORS, self.descriptors);
        samples.add(&names::SOCKETS, self.sockets);
        samples.add_for(&names::ULIMITS_SOFT, &["max_open_files"], self.max_open_files);
    }
}
