//! The metrics' names, as cAdvisor has them: what dashboards and alerts of today ask for.
//!
//! Invariant: a sample has as many label values as its descriptor has keys, in their order.

use crate::proto::cri;
use crate::time::Timestamp;

/// What is said of every sample: pod, namespace and container by name, the id of whichever it is of, the image.
const BASE_LABELS: [&str; 5] = ["pod", "namespace", "container", "id", "image"];

/// What the samples of one name have in common.
pub(super) struct Metric {
    name: &'static str,
    kind: cri::MetricType,
    /// Beyond those of every sample.
    labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal)*) => {
        $(pub(super) const $id: Metric = Metric {
            name: $name, kind: cri::MetricType::$kind, labels: &[$($label),*], help: $help,
        };)*
        const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    CPU_USER Counter "container_cpu_user_seconds_total" [] "CPU time spent in user mode, in seconds"
    CPU_SYSTEM Counter "container_cpu_system_seconds_total" [] "CPU time spent in the kernel, in seconds"
    CPU_USAGE Counter "container_cpu_usage_seconds_total" [] "CPU time, in seconds"
    CFS_PERIODS Counter "container_cpu_cfs_periods_total" [] "Enforcement periods of the CPU quota"
    CFS_THROTTLED_PERIODS Counter "container_cpu_cfs_throttled_periods_total" [] "Periods in which the CPU quota ran out"
    CFS_THROTTLED Counter "container_cpu_cfs_throttled_seconds_total" [] "Time held up by the CPU quota, in seconds"
    MEMORY_CACHE Gauge "container_memory_cache" [] "Page cache, in bytes"
    MEMORY_RSS Gauge "container_memory_rss" [] "Anonymous memory and swap cache, in bytes"
    MEMORY_KERNEL Gauge "container_memory_kernel_usage" [] "Memory that the kernel holds for the container, in bytes"
    MEMORY_MAPPED_FILE Gauge "container_memory_mapped_file" [] "Memory-mapped files, in bytes"
    MEMORY_SWAP Gauge "container_memory_swap" [] "Swap in use, in bytes"
    MEMORY_FAILCNT Counter "container_memory_failcnt" [] "How often the memory limit was reached"
    MEMORY_USAGE Gauge "container_memory_usage_bytes" [] "All memory charged, caches included, in bytes"
    MEMORY_MAX_USAGE Gauge "container_memory_max_usage_bytes" [] "The most memory ever charged, in bytes"
    MEMORY_WORKING_SET Gauge "container_memory_working_set_bytes" [] "Memory that cannot easily be reclaimed, in bytes"
    MEMORY_ACTIVE_FILE Gauge "container_memory_total_active_file_bytes" [] "Page cache in active use, in bytes"
    MEMORY_INACTIVE_FILE Gauge "container_memory_total_inactive_file_bytes" [] "Page cache not in active use, in bytes"
    MEMORY_FAILURES Counter "container_memory_failures_total" ["failure_type" "scope"] "Page faults"
    MEMORY_EVENTS_HIGH Counter "container_memory_events_high_total" [] "How often memory was reclaimed for being above memory.high"
    MEMORY_EVENTS_MAX Counter "container_memory_events_max_total" [] "How often memory was about to exceed memory.max"
    OOM_EVENTS Counter "container_oom_events_total" [] "Processes that the OOM killer ended"
    FS_INODES_FREE Gauge "container_fs_inodes_free" ["device"] "Free inodes of the filesystem"
    FS_INODES_TOTAL Gauge "container_fs_inodes_total" ["device"] "Inodes of the filesystem"
    FS_LIMIT Gauge "container_fs_limit_bytes" ["device"] "Size of the filesystem that the container writes to, in bytes"
    FS_USAGE Gauge "container_fs_usage_bytes" ["device"] "What the container wrote to the filesystem, in bytes"
    FS_READS_BYTES Counter "container_fs_reads_bytes_total" ["device"] "Bytes read"
    FS_READS Counter "container_fs_reads_total" ["device"] "Reads completed"
    FS_WRITES_BYTES Counter "container_fs_writes_bytes_total" ["device"] "Bytes written"
    FS_WRITES Counter "container_fs_writes_total" ["device"] "Writes completed"
    BLKIO Counter "container_blkio_device_usage_total" ["device" "major" "minor" "operation"] "Bytes moved to and from block devices"
    HUGETLB_USAGE Gauge "container_hugetlb_usage_bytes" ["pagesize"] "Huge pages in use, in bytes"
    HUGETLB_MAX_USAGE Gauge "container_hugetlb_max_usage_bytes" ["pagesize"] "The most huge pages ever in use, in bytes"
    HUGETLB_FAILCNT Counter "container_hugetlb_failcnt" ["pagesize"] "How often the limit of huge pages was reached"
    NETWORK_RECEIVE_BYTES Counter "container_network_receive_bytes_total" ["interface"] "Bytes received"
    NETWORK_RECEIVE_PACKETS Counter "container_network_receive_packets_total" ["interface"] "Packets received"
    NETWORK_RECEIVE_DROPPED Counter "container_network_receive_packets_dropped_total" ["interface"] "Received packets dropped"
    NETWORK_RECEIVE_ERRORS Counter "container_network_receive_errors_total" ["interface"] "Errors while receiving"
    NETWORK_TRANSMIT_BYTES Counter "container_network_transmit_bytes_total" ["interface"] "Bytes sent"
    NETWORK_TRANSMIT_PACKETS Counter "container_network_transmit_packets_total" ["interface"] "Packets sent"
    NETWORK_TRANSMIT_DROPPED Counter "container_network_transmit_packets_dropped_total" ["interface"] "Packets dropped while sending"
    NETWORK_TRANSMIT_ERRORS Counter "container_network_transmit_errors_total" ["interface"] "Errors while sending"
    PROCESSES Gauge "container_processes" [] "Processes"
    FILE_DESCRIPTORS Gauge "container_file_descriptors" [] "Open file descriptors"
    SOCKETS Gauge "container_sockets" [] "Open sockets"
    THREADS_MAX Gauge "container_threads_max" [] "The most threads allowed; zero is no limit"
    THREADS Gauge "container_threads" [] "Threads"
    ULIMITS_SOFT Gauge "container_ulimits_soft" ["ulimit"] "Soft limits of the container's first process"
    PRESSURE_CPU_STALLED Counter "container_pressure_cpu_stalled_seconds_total" [] "Time in which no task could go on for want of CPU, in seconds"
    PRESSURE_CPU_WAITING Counter "container_pressure_cpu_waiting_seconds_total" [] "Time in which some task waited for CPU, in seconds"
    PRESSURE_MEMORY_STALLED Counter "container_pressure_memory_stalled_seconds_total" [] "Time in which no task could go on for want of memory, in seconds"
    PRESSURE_MEMORY_WAITING Counter "container_pressure_memory_waiting_seconds_total" [] "Time in which some task waited for memory, in seconds"
    PRESSURE_IO_STALLED Counter "container_pressure_io_stalled_seconds_total" [] "Time in which no task could go on for want of I/O, in seconds"
    PRESSURE_IO_WAITING Counter "container_pressure_io_waiting_seconds_total" [] "Time in which some task waited for I/O, in seconds"
    LAST_SEEN Gauge "container_last_seen" [] "When the container was last seen, in seconds since 1970"
    START_TIME Gauge "container_start_time_seconds" [] "When the container was started, in seconds since 1970"
    SPEC_CPU_PERIOD Gauge "container_spec_cpu_period" [] "Enforcement period of the CPU quota, in microseconds"
    SPEC_CPU_QUOTA Gauge "container_spec_cpu_quota" [] "CPU time allowed in each period, in microseconds"
    SPEC_CPU_SHARES Gauge "container_spec_cpu_shares" [] "Weight among others that want CPU"
    SPEC_MEMORY_LIMIT Gauge "container_spec_memory_limit_bytes" [] "Memory limit, in bytes; zero is none"
    SPEC_MEMORY_RESERVATION Gauge "container_spec_memory_reservation_limit_bytes" [] "Memory kept from reclaim, in bytes"
    SPEC_MEMORY_SWAP Gauge "container_spec_memory_swap_limit_bytes" [] "Swap limit, in bytes; zero is none"
}

/// All that ListPodSandboxMetrics may give.
pub fn descriptors() -> Vec<cri::MetricDescriptor> {
    let describe = |metric: &Metric| cri::MetricDescriptor {
        name: metric.name.into(),
        help: metric.help.into(),
        label_keys: BASE_LABELS.iter().chain(metric.labels).map(|&key| key.into()).collect(),
    };
    ALL.iter().map(describe).collect()
}

/// The samples of one pod or container.
pub(super) struct Samples {
    labels: [String; BASE_LABELS.len()],
    taken: Vec<cri::Metric>,
}

impl Samples {
    /// With the values of the labels that all have.
    pub fn new(labels: [String; BASE_LABELS.len()]) -> Self {
        Self { labels, taken: Vec::new() }
    }

    /// Adds a sample, taken now. What is not known makes none.
    pub fn add(&mut self, metric: &Metric, value: impl Into<Option<u64>>) {
        self.add_for(metric, &[], value);
    }

    /// Likewise, with the values of the metric's own labels.
    pub fn add_for(&mut self, metric: &Metric, labels: &[&str], value: impl Into<Option<u64>>) {
        // A value without a time is one that was taken for this answer.
        self.add_as_of(metric, labels, Timestamp::NEVER, value);
    }

    /// A sample that was taken before.
    pub fn add_as_of(
        &mut self,
        metric: &Metric,
        labels: &[&str],
        at: Timestamp,
        value: impl Into<Option<u64>>,
    ) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        let Some(value) = value.into() else { return };
        let own = labels.iter().map(|&label| label.to_owned());
        self.taken.push(cri::Metric {
            name: metric.name.into(),
            timestamp: at.nanos(),
            metric_type: metric.kind.into(),
            label_values: self.labels.iter().cloned().chain(own).collect(),
            value: Some(cri::UInt64Value { value }),
        });
    }

    pub fn into_inner(self) -> Vec<cri::Metric> {
        self.taken
    }
}

/// The nearest whole second: a sample of the CRI has no fractions.
pub(super) fn seconds(nanos: impl Into<Option<u64>>) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    nanos.into().map(|nanos| nanos / SECOND + u64::from(nanos % SECOND >= SECOND / 2))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_described_once() {
        let all = descriptors();
        let names: HashSet<_> = all.iter().map(|descriptor| &descriptor.name).collect();
        assert_eq!(names.len(), all.len());
        for descriptor in &all {
            assert_eq!(descriptor.label_keys[..5], BASE_LABELS);
            assert!(!descriptor.help.is_empty() && descriptor.name.starts_with("container_"));
            let counter = descriptor.name.ends_with("_total");
            let metric = ALL.iter().find(|metric| metric.name == descriptor.name).unwrap();
            assert!(
                !counter || metric.kind == cri::MetricType::Counter || metric.name == FS_INODES_TOTAL.name
            );
        }
    }

    #[test]
    fn a_sample_has_a_value_for_every_key() {
        let mut samples = Samples::new(["p", "n", "c", "i", "m"].map(String::from));
        samples.add(&CPU_USAGE, 3);
        samples.add(&CPU_USER, None);
        samples.add_for(&MEMORY_FAILURES, &["pgfault", "container"], Some(7));
        let taken = samples.into_inner();
        assert_eq!(taken.len(), 2, "what is not known makes no sample");
        assert_eq!(taken[1].label_values, ["p", "n", "c", "i", "m", "pgfault", "container"]);
        assert_eq!(taken[1].value, Some(cri::UInt64Value { value: 7 }));
    }

    #[test]
    fn seconds_are_the_nearest_ones() {
        for (nanos, whole) in
            [(0, 0), (499_999_999, 0), (500_000_000, 1), (1_499_999_999, 1), (u64::MAX, 18_446_744_074)]
        {
            assert_eq!(seconds(nanos), Some(whole), "{nanos}");
        }
        assert_eq!(seconds(None), None);
    }
}
