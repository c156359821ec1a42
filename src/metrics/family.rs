//! Every figure there is: the list that docs/metrics.md is compared with.

use std::fmt;

/// A figure, or several of one name that their labels tell apart.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// What Prometheus can do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub static $id: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// All of them, as they are told.
        #[cfg(test)]
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    BUILD_INFO: Gauge "cridge_build_info" ["version"]
        "Always 1, with cridge's version.";

    RPCS: Counter "cridge_rpcs_total" ["service", "method", "code"]
        "Calls of the CRI that have ended, by their gRPC codes. A client that went away has CANCELLED.";
    RPC_SECONDS: Histogram "cridge_rpc_duration_seconds" ["service", "method"]
        "Time from a call to the last byte of its answer; of a stream, for as long as it is listened to.";
    RPCS_UNDER_WAY: Gauge "cridge_rpcs_in_flight" ["service", "method"]
        "Calls of the CRI under way.";

    OPERATION_SECONDS: Histogram "cridge_operation_duration_seconds" ["operation", "outcome"]
        "Time that operations on pods, containers and images took, by how they ended: done or failed. They go on \
         where their caller goes away, and several calls may wait for one.";
    OPERATIONS_UNDER_WAY: Gauge "cridge_operations_in_flight" ["operation"]
        "Operations under way.";
    STEP_SECONDS: Histogram "cridge_operation_step_duration_seconds" ["operation", "step"]
        "Time that the steps of operations took. Some go on side by side.";

    PODS: Gauge "cridge_pods" ["state"]
        "Pods, by the state of their sandbox: starting, ready, not_ready or unknown.";
    CONTAINERS: Gauge "cridge_containers" ["state"]
        "Containers, by their state: creating, created, running, exited or unknown.";
    EXITS: Counter "cridge_container_exits_total" ["reason"]
        "Ends of containers: Completed, Error, OOMKilled, StartError, Unknown or other.";

    PULLS: Gauge "cridge_image_pulls_in_flight" []
        "Pulls of images under way. How long they take, and how they end, is told with the operation PullImage.";
    PULL_BYTES: Counter "cridge_image_pull_bytes_total" []
        "Bytes of blobs that registries have sent.";
    PULL_REMAINING: Gauge "cridge_image_pull_remaining_bytes" []
        "Bytes that are still to come, over all pulls under way whose layers are known.";
    PULL_LAYERS: Counter "cridge_image_pull_layers_total" ["source"]
        "Layers that pulls needed, by where they were: registry for downloaded ones, node for those unpacked before.";
    DOWNLOADS: Gauge "cridge_image_downloads_in_flight" []
        "Blobs that are being downloaded.";
    DOWNLOADS_WAITING: Gauge "cridge_image_downloads_waiting" []
        "Blobs that wait for their turn: image.max_concurrent_downloads are downloaded at once.";

    EVENTS: Counter "cridge_events_total" []
        "Events of pods and containers, told to subscribers or kept for the next one.";
    SUBSCRIBERS: Gauge "cridge_event_subscribers" []
        "Subscribers of GetContainerEvents.";
    EVENT_LAG: Gauge "cridge_event_subscriber_lag" []
        "By how many events the slowest subscriber is behind. One that is 1024 behind is cut off.";
    CUT_OFF: Counter "cridge_event_subscribers_cut_off_total" []
        "Subscribers that were cut off because they were too slow.";

    CONTAINERD_UP: Gauge "cridge_containerd_up" []
        "Whether containerd answers and cridge is in step with it, as RuntimeReady says: 1 or 0.";
    CONTAINERD_CONNECTS: Counter "cridge_containerd_connects_total" []
        "How often cridge got in step with containerd: once, and again after each loss of the connection.";
    CONTAINERD_SECONDS: Histogram "cridge_containerd_call_duration_seconds" ["kind"]
        "Time that containerd took to answer: record for its database, work for shims, blobs and file systems.";
    CONTAINERD_EVENT_LAG: Histogram "cridge_containerd_event_delay_seconds" []
        "Time from an event's stamp in containerd to its arrival here.";

    ORPHANS: Gauge "cridge_fsck_orphans" ["kind"]
        "Things that belong to nobody, as the daemon's last look left them. `cridge fsck` tells of each.";
    ORPHANS_REMOVED: Counter "cridge_fsck_removed_total" ["kind"]
        "Things that belonged to nobody, and were removed by the daemon.";

    RELOADS: Counter "cridge_config_reloads_total" ["outcome"]
        "How often the configuration was read anew: taken or refused.";
    RESTART_PENDING: Gauge "cridge_config_restart_pending_keys" []
        "Keys that were changed in the file and need a restart to take effect.";

    LOG_BYTES: Counter "cridge_container_log_bytes_total" []
        "Bytes of containers' output that were written to their logs.";
    LOG_DROPPED: Counter "cridge_container_log_dropped_bytes_total" []
        "Bytes of containers' output that were lost because a log could not be written.";

    SPANS: Counter "cridge_trace_spans_total" ["outcome"]
        "Spans that were told of: sent, or lost because the collector did not take them.";

    TASKS: Gauge "cridge_tokio_tasks" []
        "Asynchronous tasks that are alive.";
    TASK_QUEUE: Gauge "cridge_tokio_queue_tasks" []
        "Asynchronous tasks that no worker has taken up yet.";

    CPU: Counter "process_cpu_seconds_total" []
        "User and system CPU time of the process.";
    MEMORY: Gauge "process_resident_memory_bytes" []
        "Resident memory of the process.";
    VIRTUAL_MEMORY: Gauge "process_virtual_memory_bytes" []
        "Virtual memory of the process.";
    THREADS: Gauge "process_threads" []
        "Threads of the process.";
    FDS: Gauge "process_open_fds" []
        "Open file descriptors.";
    MAX_FDS: Gauge "process_max_fds" []
        "How many file descriptors may be open.";
    START_TIME: Gauge "process_start_time_seconds" []
        "When the process began, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The table of docs/metrics.md.
    fn table() -> String {
        let mut table = String::from("| Name | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n");
        for Family { name, kind, labels, help } in ALL {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            table.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
        }
        table
    }

    #[test]
    fn each_is_in_the_documentation_and_nothing_else_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        let there: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(there.join("\n") + "\n", table(), "docs/metrics.md must have this table:\n{}", table());
    }

    #[test]
    fn names_are_as_prometheus_has_them() {
        let names: BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is there twice");
        for family in ALL {
            let Family { name, kind, help, .. } = family;
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(name.starts_with("cridge_") || name.starts_with("process_"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }
}
