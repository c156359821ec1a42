//! Containers that are no processes of this kernel: what they use is their shim's to tell.
//!
//! Invariant: a shim that does not answer costs a call its deadline once, and the other containers nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use super::cgroup::{Memory, Swap, Usage};
use super::detail::{Detail, MemoryDetail};
use super::measure::Inner;
use super::parse::Limit;
use crate::container::{Container, ContainerState};
use crate::containerd::TaskUsage;
use crate::error::chain;
use crate::id::ContainerId;
use crate::sandbox::Handler;
use crate::time::Timestamp;

/// What a shim has to answer; a healthy one takes milliseconds.
const LIMIT: Duration = Duration::from_secs(2);
/// Shims asked at once. More than hang on any node that is still of use, so that these do not hold up the others.
const AT_ONCE: usize = 64;

/// What was told of the containers that can only be asked for.
pub(super) type Foreign = HashMap<ContainerId, Told>;

/// One shim's answer.
pub(super) struct Told {
    pub usage: Usage,
    pub processes: u64,
}

impl Inner {
    /// Those of the containers that run in kernels of their own.
    pub fn foreign<'a>(&self, containers: impl Iterator<Item = &'a Arc<Container>>) -> Vec<ContainerId> {
        if self.containers.sandboxes().handlers().all().iter().all(Handler::is_runc) {
            return Vec::new();
        }
        let foreign = containers.filter(|container| {
            let runs = matches!(container.facts().state, ContainerState::Running { .. });
            runs && !self.containers.is_of_this_kernel(&container.pod)
        });
        foreign.map(|container| container.id.clone()).collect()
    }

    /// Asks the shims of these, all at once.
    pub async fn ask(&self, foreign: Vec<ContainerId>) -> Foreign {
        let ask = |id: ContainerId| async move {
            match self.containerd.task_usage(id.as_str(), LIMIT).await {
                Ok(told) => told.map(|told| (id, Told::from(told))),
                Err(error) => {
                    tracing::debug!(container = %id, "its shim does not tell what it uses: {}", chain(&error));
                    None
                }
            }
        };
        let asked = futures::stream::iter(foreign.into_iter().map(ask));
        asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }
}

impl Told {
    /// As far as it was told: the page faults.
    pub fn detail(&self) -> Detail {
        let both = |count: fn(&Memory) -> u64| [self.usage.memory.as_ref().map(count); 2];
        let page_faults = both(|memory| memory.page_faults);
        let major_page_faults = both(|memory| memory.major_page_faults);
        let memory = MemoryDetail { page_faults, major_page_faults, ..Default::default() };
        Detail { memory, ..Default::default() }
    }
}

impl From<TaskUsage> for Told {
    fn from(told: TaskUsage) -> Self {
        let usage = Usage {
            at: Timestamp::now(),
            taken: Instant::now(),
            cpu_ns: told.cpu_ns,
            memory: told.memory.map(|memory| {
                let working_set = memory.usage.saturating_sub(memory.inactive_file);
                Memory {
                    usage: memory.usage,
                    working_set,
                    available: limit(memory.limit).left(working_set),
                    rss: memory.rss,
                    page_faults: memory.page_faults,
                    major_page_faults: memory.major_page_faults,
                }
            }),
            swap: told
                .swap
                .map(|swap| Swap { usage: swap.usage, available: limit(swap.limit).left(swap.usage) }),
            cpu_pressure: None,
            memory_pressure: None,
            io_pressure: None,
        };
        Self { usage, processes: told.processes.unwrap_or_default() }
    }
}

/// A shim that knows of no limit says zero, or as much as a number can be.
fn limit(told: u64) -> Limit {
    match told {
        0 => Limit::Unlimited,
        told => Limit::of_number(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::{TaskMemory, TaskSwap};

    #[test]
    fn what_has_no_limit_has_nothing_available() {
        let memory = |limit| TaskUsage {
            memory: Some(TaskMemory { usage: 100, limit, inactive_file: 30, ..Default::default() }),
            swap: Some(TaskSwap { usage: 5, limit }),
            ..Default::default()
        };
        for (limit, available) in [
            (0, (None, None)),
            (u64::MAX, (None, None)),
            (1 << 62, (None, None)),
            (150, (Some(80), Some(145))),
        ] {
            let usage = Told::from(memory(limit)).usage;
            let read = usage.memory.unwrap();
            assert_eq!((read.usage, read.working_set), (100, 70));
            assert_eq!((read.available, usage.swap.unwrap().available), available, "{limit}");
        }
    }
}
