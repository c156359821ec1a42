//! What a task uses, as its shim tells: `Tasks.Metrics`, with the cgroups library's messages in it.

use std::time::Duration;

use containerd_client::services::v1 as api;
use prost::Message;

use super::call::Call;
use super::{Containerd, ContainerdError};

/// What one shim says of its task; absent is what it does not. Limits are as the shim has them: a huge number, or none
/// at all, where there is no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskUsage {
    /// CPU time since the start, all cores together.
    pub cpu_ns: Option<u64>,
    pub memory: Option<TaskMemory>,
    pub swap: Option<TaskSwap>,
    pub processes: Option<u64>,
}

/// Bytes, and faults since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskMemory {
    pub usage: u64,
    pub limit: u64,
    pub inactive_file: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

/// Bytes, without memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskSwap {
    pub usage: u64,
    pub limit: u64,
}

impl Containerd {
    /// What a task uses; `None` where there is no such task, or its shim tells it in words unknown here.
    ///
    /// # Errors
    /// `Kind::DeadlineExceeded` after `limit`: the shim of a virtual machine asks inside it, which may hang.
    pub async fn task_usage(
        &self,
        container_id: &str,
        limit: Duration,
    ) -> Result<Option<TaskUsage>, ContainerdError> {
        let call = Call::within("measure task", &container_id, limit);
        let request = api::MetricsRequest { filters: vec![format!("id=={container_id}")] };
        let answer = call.run(self.calls().tasks().metrics(request)).await?;
        let own = answer.metrics.into_iter().find(|metric| metric.id == container_id);
        let Some(data) = own.and_then(|metric| metric.data) else { return Ok(None) };
        decode(&data.type_url, &data.value).map_err(|error| call.malformed(error.to_string()))
    }
}

fn decode(type_url: &str, bytes: &[u8]) -> Result<Option<TaskUsage>, prost::DecodeError> {
    Ok(match type_url.rsplit('/').next().unwrap_or_default() {
        "io.containerd.cgroups.v1.Metrics" => Some(v1::Metrics::decode(bytes)?.into()),
        "io.containerd.cgroups.v2.Metrics" => Some(v2::Metrics::decode(bytes)?.into()),
        _ => None,
    })
}

/// As far as it is used here (containerd/cgroups, cgroup1/stats/metrics.proto).
mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metrics {
        #[prost(message, optional, tag = "2")]
        pub pids: Option<super::Pids>,
        #[prost(message, optional, tag = "3")]
        pub cpu: Option<Cpu>,
        #[prost(message, optional, tag = "4")]
        pub memory: Option<Memory>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Cpu {
        #[prost(message, optional, tag = "1")]
        pub usage: Option<CpuUsage>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CpuUsage {
        /// Nanoseconds.
        #[prost(uint64, tag = "1")]
        pub total: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Memory {
        #[prost(uint64, tag = "19")]
        pub total_rss: u64,
        #[prost(uint64, tag = "25")]
        pub total_page_faults: u64,
        #[prost(uint64, tag = "26")]
        pub total_major_page_faults: u64,
        #[prost(uint64, tag = "29")]
        pub total_inactive_file: u64,
        #[prost(message, optional, tag = "33")]
        pub usage: Option<Entry>,
        /// Memory and swap together.
        #[prost(message, optional, tag = "34")]
        pub swap: Option<Entry>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Entry {
        #[prost(uint64, tag = "1")]
        pub limit: u64,
        #[prost(uint64, tag = "2")]
        pub usage: u64,
    }
}

/// As far as it is used here (containerd/cgroups, cgroup2/stats/metrics.proto).
mod v2 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metrics {
        #[prost(message, optional, tag = "1")]
        pub pids: Option<super::Pids>,
        #[prost(message, optional, tag = "2")]
        pub cpu: Option<Cpu>,
        #[prost(message, optional, tag = "4")]
        pub memory: Option<Memory>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Cpu {
        #[prost(uint64, tag = "1")]
        pub usage_usec: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Memory {
        #[prost(uint64, tag = "1")]
        pub anon: u64,
        #[prost(uint64, tag = "13")]
        pub inactive_file: u64,
        #[prost(uint64, tag = "18")]
        pub page_faults: u64,
        #[prost(uint64, tag = "19")]
        pub major_page_faults: u64,
        #[prost(uint64, tag = "32")]
        pub usage: u64,
        #[prost(uint64, tag = "33")]
        pub usage_limit: u64,
        #[prost(uint64, tag = "34")]
        pub swap_usage: u64,
        #[prost(uint64, tag = "35")]
        pub swap_limit: u64,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Pids {
    #[prost(uint64, tag = "1")]
    pub current: u64,
}

impl From<v1::Metrics> for TaskUsage {
    fn from(told: v1::Metrics) -> Self {
        let memory = told.memory.as_ref();
        let used = memory.and_then(|memory| memory.usage);
        Self {
            cpu_ns: told.cpu.and_then(|cpu| cpu.usage).map(|usage| usage.total),
            memory: memory.zip(used).map(|(memory, used)| TaskMemory {
                usage: used.usage,
                limit: used.limit,
                inactive_file: memory.total_inactive_file,
                rss: memory.total_rss,
                page_faults: memory.total_page_faults,
                major_page_faults: memory.total_major_page_faults,
            }),
            swap: memory.and_then(|memory| memory.swap).zip(used).map(|(both, memory)| TaskSwap {
                usage: both.usage.saturating_sub(memory.usage),
                limit: match both.limit {
                    // As large as it gets is no limit, whatever the memory's is.
                    limit if limit >= 1 << 62 => limit,
                    limit => limit.saturating_sub(memory.limit),
                },
            }),
            processes: told.pids.map(|pids| pids.current),
        }
    }
}

impl From<v2::Metrics> for TaskUsage {
    fn from(told: v2::Metrics) -> Self {
        let memory = told.memory.as_ref();
        Self {
            cpu_ns: told.cpu.map(|cpu| cpu.usage_usec.saturating_mul(1000)),
            memory: memory.map(|memory| TaskMemory {
                usage: memory.usage,
                limit: memory.usage_limit,
                inactive_file: memory.inactive_file,
                rss: memory.anon,
                page_faults: memory.page_faults,
                major_page_faults: memory.major_page_faults,
            }),
            swap: memory.map(|memory| TaskSwap { usage: memory.swap_usage, limit: memory.swap_limit }),
            processes: told.pids.map(|pids| pids.current),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1s_words_are_understood() {
        let entry = |limit, usage| Some(v1::Entry { limit, usage });
        let told = v1::Metrics {
            pids: Some(Pids { current: 3 }),
            cpu: Some(v1::Cpu { usage: Some(v1::CpuUsage { total: 7 }) }),
            memory: Some(v1::Memory {
                total_rss: 1,
                total_page_faults: 2,
                total_major_page_faults: 3,
                total_inactive_file: 4,
                usage: entry(1000, 100),
                swap: entry(1500, 130),
            }),
        };
        let usage =
            decode("io.containerd.cgroups.v1.Metrics", &told.encode_to_vec()).unwrap().expect("known words");
        assert_eq!((usage.cpu_ns, usage.processes), (Some(7), Some(3)));
        let memory = TaskMemory {
            usage: 100,
            limit: 1000,
            inactive_file: 4,
            rss: 1,
            page_faults: 2,
            major_page_faults: 3,
        };
        assert_eq!(usage.memory, Some(memory));
        assert_eq!(usage.swap, Some(TaskSwap { usage: 30, limit: 500 }));
        let unlimited = v1::Metrics {
            memory: Some(v1::Memory { swap: entry(u64::MAX, 130), ..told.memory.unwrap() }),
            ..told
        };
        assert_eq!(TaskUsage::from(unlimited).swap, Some(TaskSwap { usage: 30, limit: u64::MAX }));
    }

    #[test]
    fn v2s_words_are_understood() {
        let told = v2::Metrics {
            pids: None,
            cpu: Some(v2::Cpu { usage_usec: 7 }),
            memory: Some(v2::Memory {
                usage: 100,
                usage_limit: u64::MAX,
                anon: 5,
                swap_usage: 6,
                ..Default::default()
            }),
        };
        let url = "types.containerd.io/io.containerd.cgroups.v2.Metrics";
        let usage = decode(url, &told.encode_to_vec()).unwrap().expect("known words");
        assert_eq!((usage.cpu_ns, usage.processes), (Some(7000), None));
        assert_eq!(
            usage.memory,
            Some(TaskMemory { usage: 100, limit: u64::MAX, rss: 5, ..Default::default() })
        );
        assert_eq!(usage.swap, Some(TaskSwap { usage: 6, limit: 0 }));
    }

    #[test]
    fn what_is_not_understood_is_not_there() {
        assert_eq!(decode("io.containerd.runhcs.stats.v1.Statistics", b"\xff"), Ok(None));
        decode("io.containerd.cgroups.v2.Metrics", b"\xff").expect_err("no message");
        assert_eq!(decode("io.containerd.cgroups.v1.Metrics", b""), Ok(Some(TaskUsage::default())));
    }
}
