//! What is known of every sandbox: one entry each, found by id or a unique prefix of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::{MutexGuard, watch};

use super::{Changes, Handlers, Happening, HeldLevel, SandboxError, SandboxState, SeLinux};
use crate::config::InForce;
use crate::containerd::Containerd;
use crate::id::PodId;
use crate::image::Images;
use crate::proto::cri;
use crate::spec::{NodeFacts, UserNamespace};
use crate::state::{Making, Names, PrefixIndex, PrefixMatch, SandboxMetadata, UpdatedResources};
use crate::time::Timestamp;
use crate::work::{About, Op, Operation, Work};

/// One sandbox. Its facts are replaced whole, so that a reader never sees half a change.
#[derive(Debug)]
pub struct Sandbox {
    pub id: PodId,
    facts: watch::Sender<Arc<SandboxFacts>>,
    /// Whatever brings the sandbox up or down, or changes it, takes its turn: one such operation at a time.
    pub work: Work,
    /// Of its SELinux label, for as long as it is known.
    level: OnceLock<HeldLevel>,
}

/// What may change of a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxFacts {
    /// As containerd has it.
    pub created_at: Timestamp,
    pub metadata: SandboxMetadata,
    pub state: SandboxState,
    pub network: NetworkHold,
    /// As last told by UpdatePodSandboxResources.
    pub resources: UpdatedResources,
}

/// Whether the pod may still hold addresses and a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkHold {
    /// Until a restart, and after one unless it was written down that it goes.
    Held,
    /// DEL was called: what was the pod's address may be another's by now, though the namespace still stands.
    Going,
    /// DEL has succeeded and the namespace is gone: no plugin needs to be asked again.
    Released,
}

/// All sandboxes, and what it takes to run one. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes(Arc<Inner>);

pub(super) struct Inner {
    pub config: InForce,
    pub containerd: Containerd,
    pub images: Images,
    pub handlers: Handlers,
    pub selinux: SeLinux,
    pub names: Arc<Names<PodId>>,
    pub making: Making<PodId, cri::RunPodSandboxRequest, SandboxError>,
    changes: Changes,
    node: RwLock<Arc<NodeFacts>>,
    entries: RwLock<Entries>,
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<PodId, Arc<Sandbox>>,
    index: PrefixIndex,
}

impl Sandbox {
    /// An entry with its first facts.
    pub fn new(facts: SandboxFacts) -> Self {
        let id = facts.metadata.id.clone();
        let facts = watch::Sender::new(Arc::new(facts));
        Self { id, facts, work: Work::default(), level: OnceLock::new() }
    }

    /// What is known now.
    pub fn facts(&self) -> Arc<SandboxFacts> {
        self.facts.borrow().clone()
    }

    /// Begins an operation on it, whose lines in the log and spans say so.
    pub fn begin(&self, operation: Operation) -> Op {
        let (pod, pod_id) = (Some(self.name()), Some(self.id.to_string()));
        self.work.begin(operation, &About { pod, pod_id, ..Default::default() })
    }

    /// `namespace/name`.
    pub fn name(&self) -> String {
        let facts = self.facts();
        let metadata = facts.metadata.config.metadata.as_ref();
        metadata.map(|metadata| format!("{}/{}", metadata.namespace, metadata.name)).unwrap_or_default()
    }

    /// The state now.
    pub fn state(&self) -> SandboxState {
        self.facts.borrow().state
    }

    /// The pause's pid while the sandbox is ready.
    ///
    /// # Errors
    /// [`SandboxError::NotReady`] when it is not.
    pub fn pause_pid(&self) -> Result<u32, SandboxError> {
        let state = self.state();
        state.pause_pid().ok_or_else(|| SandboxError::NotReady { id: self.id.clone(), state: state.name() })
    }

    /// The user namespace of the pod's own and the path to it, while the sandbox is ready; `None` for the node's.
    ///
    /// # Errors
    /// [`SandboxError::NotReady`] when it is not.
    pub fn users(&self) -> Result<Option<(UserNamespace, PathBuf)>, SandboxError> {
        let users = UserNamespace::of_pod(&self.facts().metadata.config).map_err(SandboxError::Spec)?;
        let Some(users) = users else { return Ok(None) };
        Ok(Some((users, format!("/proc/{}/ns/user", self.pause_pid()?).into())))
    }

    /// Waits until nobody brings it up or down, and keeps it so.
    pub async fn at_rest(&self) -> MutexGuard<'_, ()> {
        self.work.rest().await
    }

    /// Changes the facts, but for the state: that is [`Sandboxes::becomes`]'s.
    pub(super) fn change(&self, change: impl FnOnce(&mut SandboxFacts)) {
        self.facts.send_modify(|facts| change(Arc::make_mut(facts)));
    }
}

impl Sandboxes {
    /// An empty store over the mechanisms.
    pub fn new(
        config: InForce,
        containerd: Containerd,
        images: Images,
        handlers: Handlers,
        selinux: SeLinux,
        node: NodeFacts,
    ) -> Self {
        let names = Arc::<Names<PodId>>::default();
        Self(Arc::new(Inner {
            config,
            containerd,
            images,
            handlers,
            selinux,
            making: Making::new(names.clone()),
            names,
            changes: Changes::default(),
            node: RwLock::new(Arc::new(node)),
            entries: RwLock::default(),
        }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The runtime handlers, for containers of the same pods.
    pub fn handlers(&self) -> &Handlers {
        &self.0.handlers
    }

    /// The SELinux labels of pods and containers.
    pub fn selinux(&self) -> &SeLinux {
        &self.0.selinux
    }

    /// What the node is and allows, as last looked up.
    pub fn node(&self) -> Arc<NodeFacts> {
        self.0.node.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the node's facts: containerd may have come back with other privileges.
    pub fn set_node(&self, node: NodeFacts) {
        let mut known = self.0.node.write().unwrap_or_else(PoisonError::into_inner);
        if **known != node {
            tracing::info!(?node, "the node's facts have changed");
        }
        *known = Arc::new(node);
    }

    /// `<root>/sandboxes/<id>`: hostname, hosts, resolv.conf.
    pub fn root_dir(&self, id: &PodId) -> PathBuf {
        self.0.config.now().root.join("sandboxes").join(id.as_str())
    }

    /// `<state>/sandboxes/<id>`: what a reboot wipes.
    pub fn state_dir(&self, id: &PodId) -> PathBuf {
        self.0.config.now().state.join("sandboxes").join(id.as_str())
    }

    /// The sandbox with that id, or the only one whose id begins so. One in the making is not found.
    ///
    /// # Errors
    /// [`SandboxError::NotFound`], [`SandboxError::Ambiguous`].
    pub fn find(&self, id: &str) -> Result<Arc<Sandbox>, SandboxError> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        match entries.index.find(id) {
            PrefixMatch::Found(full) => match entries.by_id.get(full.as_str()) {
                Some(sandbox) if sandbox.state() != SandboxState::Starting => Ok(sandbox.clone()),
                _ => Err(SandboxError::NotFound(id.to_owned())),
            },
            PrefixMatch::None => Err(SandboxError::NotFound(id.to_owned())),
            PrefixMatch::Ambiguous => Err(SandboxError::Ambiguous(id.to_owned())),
        }
    }

    /// The sandbox with exactly that id, in the making or not.
    pub fn entry(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// The ids of all, in the making or not.
    pub fn ids(&self) -> Vec<PodId> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).by_id.keys().cloned().collect()
    }

    /// Every sandbox that is in the making.
    pub fn in_the_making(&self) -> Vec<Arc<Sandbox>> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.by_id.values().filter(|sandbox| sandbox.state() == SandboxState::Starting).cloned().collect()
    }

    /// Every sandbox that is not in the making.
    pub fn all(&self) -> Vec<Arc<Sandbox>> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.by_id.values().filter(|sandbox| sandbox.state() != SandboxState::Starting).cloned().collect()
    }

    /// The caller of RunPodSandbox, or of a list, has seen this sandbox: a repeat of its request is a conflict now.
    pub fn seen(&self, sandbox: &Sandbox) {
        self.0.making.known(&sandbox.facts().metadata.name);
    }

    /// Takes a recovered sandbox in, with its name.
    ///
    /// A name that another one holds is logged and borne: refusing to start would strand both (contract §2).
    pub fn adopt(&self, sandbox: Arc<Sandbox>) {
        let name = sandbox.facts().metadata.name.clone();
        if let Err(taken) = self.0.names.reserve(&name, &sandbox.id) {
            tracing::warn!(pod = %sandbox.id, "two pod sandboxes of one name: {taken}");
        }
        self.insert(sandbox);
    }

    /// Changes a sandbox's state, and tells of it.
    pub fn becomes(&self, sandbox: &Sandbox, next: impl FnOnce(SandboxState) -> SandboxState) {
        self.0.changes.make(sandbox.id.as_str(), &sandbox.id, Some(sandbox), || {
            let before = sandbox.state();
            let after = next(before);
            sandbox.change(|facts| facts.state = after);
            before.happenings(after)
        });
    }

    /// What happens here, and to the containers of these pods.
    pub fn changes(&self) -> &Changes {
        &self.0.changes
    }

    pub(super) fn insert(&self, sandbox: Arc<Sandbox>) {
        if let Some(held) = self.selinux().hold(&sandbox.facts().metadata.process_label) {
            sandbox.level.get_or_init(|| held);
        }
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.index.insert(sandbox.id.as_str());
        entries.by_id.insert(sandbox.id.clone(), sandbox);
    }

    /// Forgets a sandbox that is gone, and frees its name.
    pub(super) fn forget(&self, sandbox: &Sandbox) {
        self.0.changes.make(sandbox.id.as_str(), &sandbox.id, Some(sandbox), || {
            let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.index.remove(sandbox.id.as_str());
            entries.by_id.remove(&sandbox.id);
            if sandbox.state() == SandboxState::Starting { &[] } else { &[Happening::Deleted] }
        });
        let name = sandbox.facts().metadata.name.clone();
        self.0.making.known(&name);
        self.0.names.release(&name, &sandbox.id);
    }
}
