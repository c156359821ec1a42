//! What is known of every container: one entry each, found by id or a unique prefix of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::{Mutex, MutexGuard, watch};

use super::accounts::AccountCache;
use super::error::blocking;
use super::oom::Oom;
use super::state::Denied;
use super::witness::Witness;
use super::{ContainerError, ContainerState};
use crate::config::InForce;
use crate::containerd::{Containerd, ContainerdError};
use crate::id::{ContainerId, PodId};
use crate::image::Images;
use crate::io::ContainerIo;
use crate::linux::fdstore::FdStore;
use crate::proto::cri;
use crate::sandbox::{Change, Happening, HeldLevel, Sandboxes};
use crate::signal::Signal;
use crate::state::{ContainerMetadata, ContainerStatusFile, Making, Names, PrefixIndex, PrefixMatch};
use crate::work::{About, Op, Operation, Turn, Work};

/// No process' pid; 0 is told of a task that is to be restored.
const NO_INIT: u32 = u32::MAX;

/// One container. Its facts are replaced whole, so that a reader never sees half a change.
pub struct Container {
    pub id: ContainerId,
    pub pod: PodId,
    facts: watch::Sender<Arc<ContainerFacts>>,
    /// Create, start, update, the noting of an end, and remove take their turns. Stop has none while it waits, so that a
    /// later stop with less patience wins.
    pub work: Work,
    /// Held by whoever takes the container's state: a stop, an end and a removal do not wait for that.
    pub(super) checkpointing: Mutex<()>,
    /// The daemon's ends of the container's streams, from start to removal.
    pub(super) io: Mutex<Option<ContainerIo>>,
    /// The stop signal was sent: it is delivered once, however often StopContainer is called.
    pub(super) signalled: AtomicBool,
    /// It has ended, which could not be written down: its task is kept.
    pub(super) unwritten: AtomicBool,
    /// containerd has deleted its task: it never gets another.
    pub(super) reaped: AtomicBool,
    /// The init of a task that was never started and is being ended: that is not the container's end. [`NO_INIT`]: none.
    pub(super) discarded: AtomicU32,
    pub(super) oom: Oom,
    /// While it runs.
    pub(super) witness: std::sync::Mutex<Option<Witness>>,
    /// Of its SELinux label, for as long as it is known.
    level: OnceLock<HeldLevel>,
}

/// What may change of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerFacts {
    /// As last written down, with what a newer writer may have added.
    pub file: ContainerStatusFile,
    pub metadata: ContainerMetadata,
    pub state: ContainerState,
    pub snapshotter: String,
    /// From the stored spec: what ContainerStatus reports without asking anyone.
    pub user: Option<cri::ContainerUser>,
    pub cgroups_path: String,
    /// From there too: the SELinux label of its files.
    pub mount_label: String,
}

impl ContainerFacts {
    /// What a graceful stop sends: the CRI config's signal, else the one kept from the image, else SIGTERM.
    pub fn stop_signal(&self) -> Signal {
        let wanted = Signal::from_cri(self.metadata.config.stop_signal).ok().flatten();
        wanted.or_else(|| self.metadata.stop_signal.parse().ok()).unwrap_or(Signal::TERM)
    }
}

/// All containers, and what it takes to run one. Cheap to clone.
#[derive(Clone)]
pub struct Containers(Arc<Inner>);

pub(super) struct Inner {
    pub config: InForce,
    pub containerd: Containerd,
    pub images: Images,
    pub sandboxes: Sandboxes,
    pub names: Arc<Names<ContainerId>>,
    pub making: Making<ContainerId, cri::CreateContainerRequest, ContainerError>,
    pub accounts: AccountCache,
    /// What holds containers' streams while there is no daemon.
    pub fd_store: FdStore,
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<ContainerId, Arc<Container>>,
    index: PrefixIndex,
}

impl Container {
    /// An entry with its first facts.
    pub fn new(facts: ContainerFacts) -> Self {
        Self {
            id: facts.metadata.id.clone(),
            pod: facts.metadata.sandbox_id.clone(),
            facts: watch::Sender::new(Arc::new(facts)),
            work: Work::default(),
            checkpointing: Mutex::default(),
            io: Mutex::default(),
            signalled: AtomicBool::default(),
            unwritten: AtomicBool::default(),
            reaped: AtomicBool::default(),
            discarded: AtomicU32::new(NO_INIT),
            oom: Oom::default(),
            witness: std::sync::Mutex::default(),
            level: OnceLock::new(),
        }
    }

    /// What is known now.
    pub fn facts(&self) -> Arc<ContainerFacts> {
        self.facts.borrow().clone()
    }

    /// Changes the facts, but for the state: that is [`Containers::becomes`]'s.
    pub(super) fn change(&self, change: impl FnOnce(&mut ContainerFacts)) {
        self.facts.send_modify(|facts| change(Arc::make_mut(facts)));
    }

    /// Waits until nobody brings it up or down, and keeps it so.
    pub async fn at_rest(&self) -> MutexGuard<'_, ()> {
        self.work.rest().await
    }

    /// Waits until its end is noted.
    pub async fn ended(&self) {
        // The sender lives as long as `self`, so the wait can only end by the test.
        let _ = self.facts.subscribe().wait_for(|facts| facts.state.is_exited()).await;
    }

    /// Whether this process has the container's streams open.
    pub async fn has_io(&self) -> bool {
        self.io.lock().await.is_some()
    }

    pub(super) fn denied(&self, source: Denied) -> ContainerError {
        ContainerError::Denied { id: self.id.clone(), source }
    }

    pub(super) fn failed(
        &self,
        step: &'static str,
    ) -> impl FnOnce(ContainerdError) -> ContainerError + use<> {
        let id = self.id.clone();
        move |source| ContainerError::Containerd { step, id, source }
    }
}

impl Containers {
    /// An empty store over the mechanisms.
    pub fn new(
        config: InForce,
        containerd: Containerd,
        images: Images,
        sandboxes: Sandboxes,
        fd_store: FdStore,
    ) -> Self {
        let names = Arc::<Names<ContainerId>>::default();
        Self(Arc::new(Inner {
            config,
            accounts: AccountCache::new(containerd.clone()),
            containerd,
            images,
            sandboxes,
            making: Making::new(names.clone()),
            names,
            fd_store,
            entries: RwLock::default(),
        }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The sandboxes that these containers live in.
    pub fn sandboxes(&self) -> &Sandboxes {
        &self.0.sandboxes
    }

    /// `<root>/containers/<id>`: status file, image volumes.
    pub fn root_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.config.now().root.join("containers").join(id.as_str())
    }

    /// `<state>/containers/<id>`: FIFOs.
    pub fn state_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.config.now().state.join("containers").join(id.as_str())
    }

    /// The container with that id, or the only one whose id begins so. One in the making is not found.
    ///
    /// # Errors
    /// [`ContainerError::NotFound`], [`ContainerError::Ambiguous`].
    pub fn find(&self, id: &str) -> Result<Arc<Container>, ContainerError> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        match entries.index.find(id) {
            PrefixMatch::Found(full) => match entries.by_id.get(full.as_str()) {
                Some(found) if found.facts().state != ContainerState::Creating => Ok(found.clone()),
                _ => Err(ContainerError::NotFound(id.to_owned())),
            },
            PrefixMatch::None => Err(ContainerError::NotFound(id.to_owned())),
            PrefixMatch::Ambiguous => Err(ContainerError::Ambiguous(id.to_owned())),
        }
    }

    /// The container with exactly that id, in the making or not.
    pub fn entry(&self, id: &str) -> Option<Arc<Container>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// The ids of all, in the making or not.
    pub fn ids(&self) -> Vec<ContainerId> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).by_id.keys().cloned().collect()
    }

    /// Every container that is not in the making.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        let made = |container: &&Arc<Container>| container.facts().state != ContainerState::Creating;
        entries.by_id.values().filter(made).cloned().collect()
    }

    /// Every container of a pod that is not in the making.
    pub fn made_of_pod(&self, pod: &PodId) -> Vec<Arc<Container>> {
        let mut found = self.of_pod(pod);
        found.retain(|container| container.facts().state != ContainerState::Creating);
        found
    }

    /// Every container of a pod, in the making or not: who takes the pod down must miss none.
    pub fn of_pod(&self, pod: &PodId) -> Vec<Arc<Container>> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.by_id.values().filter(|container| container.pod == *pod).cloned().collect()
    }

    /// Whether the processes of a pod's containers are the node's, not those of a virtual machine. A handler that is configured
    /// no longer is taken for the usual kind.
    pub fn is_of_this_kernel(&self, pod: &PodId) -> bool {
        let Some(sandbox) = self.sandboxes().entry(pod.as_str()) else { return true };
        let facts = sandbox.facts();
        let handler = self.sandboxes().handlers().find(&facts.metadata.runtime_handler);
        handler.map_or(true, |handler| handler.is_runc())
    }

    /// The caller of CreateContainer, or of a list, has seen this container.
    pub fn seen(&self, container: &Container) {
        self.0.making.known(&container.facts().metadata.name);
    }

    /// Takes a recovered container in, with its name. A name held by another is logged and borne.
    pub fn adopt(&self, container: Arc<Container>) {
        let name = container.facts().metadata.name.clone();
        if let Err(taken) = self.0.names.reserve(&name, &container.id) {
            tracing::warn!(container = %container.id, "two containers of one name: {taken}");
        }
        self.insert(container);
    }

    /// Has `listener` told of every change to a pod or container: quickly, and without changing anything itself.
    pub fn listen(&self, listener: impl Fn(&Self, Change<'_>) + Send + Sync + 'static) {
        let inner = Arc::downgrade(&self.0);
        self.sandboxes().changes().listen(Box::new(move |change| {
            if let Some(inner) = inner.upgrade() {
                listener(&Self(inner), change);
            }
        }));
    }

    /// Changes a container's state, and tells of it. Whoever waits for that wakes.
    pub(super) fn becomes(&self, container: &Container, next: ContainerState) {
        self.make_change(container, || {
            let facts = container.facts();
            let happenings = facts.state.happenings(&next);
            if let (false, ContainerState::Exited(ending)) = (facts.state.is_exited(), &next) {
                super::exit::count(&ending.reason);
            }
            container.change(|facts| facts.state = next);
            happenings
        });
    }

    fn make_change(&self, container: &Container, change: impl FnOnce() -> &'static [Happening]) {
        let sandbox = self.sandboxes().entry(container.pod.as_str());
        self.sandboxes().changes().make(container.id.as_str(), &container.pod, sandbox.as_deref(), change);
    }

    /// Ends what an earlier process, killed while it looked into an image, has left in containerd.
    pub async fn end_stale_views(&self) -> Result<(), ContainerdError> {
        let handlers = self.sandboxes().handlers().all();
        let snapshotters = handlers.into_iter().map(|handler| handler.snapshotter.clone()).collect();
        self.0.accounts.end_stale(&snapshotters).await
    }

    /// Begins an operation on a container, whose lines in the log and spans say so.
    pub(super) fn begin(&self, container: &Container, operation: Operation) -> Op {
        let pod = self.sandboxes().entry(container.pod.as_str()).map(|pod| pod.name());
        let facts = container.facts();
        let name = facts.metadata.config.metadata.as_ref().map(|metadata| &metadata.name);
        let about = About {
            pod,
            pod_id: Some(container.pod.to_string()),
            container_name: name.cloned(),
            container_id: Some(container.id.to_string()),
            image: None,
        };
        container.work.begin(operation, &about)
    }

    /// The operation's turn on the container: one thing at a time is done to it.
    ///
    /// # Errors
    /// [`ContainerError::NotFound`] when it was removed in the meantime.
    pub(super) async fn turn<'a>(
        &self,
        container: &Container,
        op: &'a Op,
    ) -> Result<Turn<'a>, ContainerError> {
        let turn = op.turn().await;
        match self.entry(container.id.as_str()) {
            Some(_) => Ok(turn),
            None => Err(ContainerError::NotFound(container.id.to_string())),
        }
    }

    pub(super) fn insert(&self, container: Arc<Container>) {
        if let Some(held) = self.sandboxes().selinux().hold(&container.facts().metadata.process_label) {
            container.level.get_or_init(|| held);
        }
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.index.insert(container.id.as_str());
        entries.by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container that is gone, and frees its name.
    pub(super) fn forget(&self, container: &Container) {
        self.make_change(container, || {
            let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.index.remove(container.id.as_str());
            entries.by_id.remove(&container.id);
            if container.facts.borrow().state == ContainerState::Creating {
                &[]
            } else {
                &[Happening::Deleted]
            }
        });
        let name = container.facts().metadata.name.clone();
        self.0.making.known(&name);
        self.0.names.release(&name, &container.id);
    }

    /// Writes the status file, off the runtime's threads.
    pub(super) async fn write_status(
        &self,
        container: &Container,
        state: ContainerState,
    ) -> Result<(), ContainerError> {
        let file = {
            let mut file = container.facts().file.clone();
            state.to_file(&mut file);
            file
        };
        let dir = self.root_dir(&container.id);
        let id = container.id.clone();
        let write = move || {
            std::fs::create_dir_all(&dir).map_err(ContainerError::file("make", &dir))?;
            file.store(&dir.join("status")).map_err(|source| ContainerError::Status { id, source })
        };
        blocking(&container.id, write).await
    }
}
