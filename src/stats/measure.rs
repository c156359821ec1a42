//! One pass over the containers or pods of a call.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use super::foreign::Foreign;
use super::network::{self, Network};
use super::rate::Rates;
use super::{Usage, cgroup};
use crate::container::{Container, ContainerState, Containers};
use crate::containerd::Containerd;
use crate::error::Kind;
use crate::id::{PodId, SnapshotKey};
use crate::image::{FilesystemUsage, Images};
use crate::linux::cgroup::{CgroupFolders, Trees};
use crate::sandbox::{Sandbox, SandboxState};
use crate::time::Timestamp;

/// Passes at once: the kernel adds up every CPU's counters under one lock, so that more would only wait for it.
const PASSES: usize = 2;

/// Measures pods and containers. Cheap to clone.
#[derive(Clone)]
pub struct Stats(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub containers: Containers,
    pub containerd: Containerd,
    pub images: Images,
    pub rates: Rates,
    trees: OnceLock<Trees>,
    passes: Arc<Semaphore>,
}

/// What one container uses.
pub struct ContainerStats {
    pub container: Arc<Container>,
    /// `None` while it has no task.
    pub usage: Option<Usage>,
    /// CPU time per second of late, in nanoseconds.
    pub nano_cores: Option<u64>,
    /// `None` until it was measured for the first time.
    pub writable_layer: Option<FilesystemUsage>,
}

/// What one pod uses.
pub struct PodStats {
    pub sandbox: Arc<Sandbox>,
    /// Of the pod's own cgroup, or else of its containers together; `None` when nothing runs in it.
    pub usage: Option<Usage>,
    pub nano_cores: Option<u64>,
    /// `None` on the node's network.
    pub network: Option<Network>,
    /// How many processes its containers have, and when that was counted.
    pub processes: (Timestamp, u64),
    pub containers: Vec<ContainerStats>,
}

/// Nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    #[error("the measurement broke down: {why}")]
    Panicked { why: String },
}

impl StatsError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Panicked { .. } => Kind::Internal,
        }
    }
}

impl Stats {
    /// Measures whatever these stores hold.
    pub fn new(containers: Containers, containerd: Containerd, images: Images) -> Self {
        let (rates, trees) = (Rates::default(), OnceLock::new());
        let passes = Arc::new(Semaphore::new(PASSES));
        Self(Arc::new(Inner { containers, containerd, images, rates, trees, passes }))
    }

    /// Measures these containers; those that are removed meanwhile are left out.
    ///
    /// # Errors
    /// [`StatsError::Panicked`].
    pub async fn containers(&self, wanted: Vec<Arc<Container>>) -> Result<Vec<ContainerStats>, StatsError> {
        let foreign = self.0.ask(self.0.foreign(wanted.iter())).await;
        self.pass(move |inner| {
            inner.still_there(wanted.into_iter().map(|container| inner.container(container, &foreign)))
        })
        .await
    }

    /// Measures those of these pods that are ready, and stay so.
    ///
    /// # Errors
    /// [`StatsError::Panicked`].
    pub async fn pods(&self, wanted: Vec<Arc<Sandbox>>) -> Result<Vec<PodStats>, StatsError> {
        let mut of_pod = self.0.containers_by_pod();
        let containers = wanted.iter().filter_map(|sandbox| of_pod.get(&sandbox.id)).flatten();
        let foreign = self.0.foreign(containers);
        let foreign = self.0.ask(foreign).await;
        self.pass(move |inner| {
            let take = |sandbox: Arc<Sandbox>| {
                let containers = of_pod.remove(&sandbox.id).unwrap_or_default();
                inner.pod(sandbox, containers, &foreign)
            };
            wanted.into_iter().filter_map(take).collect()
        })
        .await
    }

    /// Reads files on a thread of its own: a kernel that is busy may take its time.
    pub(super) async fn pass<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, StatsError> {
        let permit = self.0.passes.clone().acquire_owned().await.expect("the semaphore is never closed");
        let inner = self.0.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&inner)
        });
        reading.await.map_err(|why| StatsError::Panicked { why: why.to_string() })
    }
}

impl Inner {
    pub fn containers_by_pod(&self) -> HashMap<PodId, Vec<Arc<Container>>> {
        let mut of_pod: HashMap<PodId, Vec<_>> = HashMap::new();
        for container in self.containers.all() {
            of_pod.entry(container.pod.clone()).or_default().push(container);
        }
        of_pod
    }

    /// A container's cgroup, while there may be one that tells of it: in a virtual machine, the node's is the machine's.
    pub fn cgroup_of(&self, container: &Container) -> Option<CgroupFolders> {
        let facts = container.facts();
        let may_run = matches!(facts.state, ContainerState::Running { .. } | ContainerState::Unknown { .. });
        if !may_run || !self.containers.is_of_this_kernel(&container.pod) {
            return None;
        }
        self.trees().of(&facts.cgroups_path)
    }

    fn trees(&self) -> &Trees {
        self.trees.get_or_init(Trees::mounted)
    }

    fn container(&self, container: Arc<Container>, foreign: &Foreign) -> ContainerStats {
        let told = || foreign.get(&container.id).map(|told| told.usage.clone());
        let usage = self.cgroup_of(&container).and_then(|folders| cgroup::usage(&folders)).or_else(told);
        let nano_cores = self.rate(container.id.as_str(), usage.as_ref());
        let writable_layer = self.writable_layer(&container);
        ContainerStats { container, usage, nano_cores, writable_layer }
    }

    /// Without what was removed while it was measured.
    fn still_there(&self, measured: impl Iterator<Item = ContainerStats>) -> Vec<ContainerStats> {
        let measured: Vec<_> = measured.collect();
        let there = |stats: &ContainerStats| self.containers.entry(stats.container.id.as_str()).is_some();
        measured.into_iter().filter(there).collect()
    }

    pub fn writable_layer(&self, container: &Container) -> Option<FilesystemUsage> {
        self.images.writable_layer(&container.facts().snapshotter, &SnapshotKey::from(&container.id))
    }

    fn is_known(&self, id: &str) -> bool {
        self.containers.entry(id).is_some() || self.containers.sandboxes().entry(id).is_some()
    }

    fn rate(&self, id: &str, usage: Option<&Usage>) -> Option<u64> {
        let there = |id: &str| self.is_known(id);
        match usage {
            Some(Usage { taken, cpu_ns: Some(cpu_ns), .. }) => self.rates.note(id, *taken, *cpu_ns, there),
            _ => {
                self.rates.forget(id);
                None
            }
        }
    }

    fn pod(
        &self,
        sandbox: Arc<Sandbox>,
        containers: Vec<Arc<Container>>,
        foreign: &Foreign,
    ) -> Option<PodStats> {
        let facts = sandbox.facts();
        let SandboxState::Ready { pid } = facts.state else { return None };
        let counted_at = Timestamp::now();
        let processes_of = |container: &Arc<Container>| {
            let told = || foreign.get(&container.id).map_or(0, |told| told.processes);
            self.cgroup_of(container).map_or_else(told, |folders| cgroup::processes(&folders).len() as u64)
        };
        let processes = (counted_at, containers.iter().map(processes_of).sum());
        let measured = containers.into_iter().map(|container| self.container(container, foreign));
        let containers = self.still_there(measured);
        let parent = facts.metadata.config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent);
        let own = self.trees().of_parent(parent).and_then(|folders| cgroup::usage(&folders));
        let usage = own.or_else(|| Usage::sum(containers.iter().filter_map(|stats| stats.usage.as_ref())));
        let nano_cores = self.rate(sandbox.id.as_str(), usage.as_ref());
        let network = network::of_pod(&facts.metadata.netns_path, pid);
        // What has ended meanwhile had half of its files read before, and half after.
        let still_ready = sandbox.state() == facts.state;
        let known = self.containers.sandboxes().entry(sandbox.id.as_str()).is_some();
        (still_ready && known).then_some(PodStats {
            sandbox,
            usage,
            nano_cores,
            network,
            processes,
            containers,
        })
    }
}
