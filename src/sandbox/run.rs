//! RunPodSandbox: from a checked config to a pause that holds the pod's namespaces.
//!
//! The record comes first, so that whatever a crash leaves behind has an owner. CNI ADD and the task's creation run
//! side by side where that is safe. A failure is undone by the teardown that a removal takes, once both have ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::check::{self, Checked, IpcKind, NetworkKind};
use super::error::blocking;
use super::pod_network::pod_network;
use super::teardown::Extent;
use super::{Handler, NetworkHold, Sandbox, SandboxError, SandboxFacts, SandboxState, Sandboxes};
use super::{Labels, Rootfs, files, give_to_root};
use crate::config::Config;
use crate::containerd::{ContainerRecord, NewTask, SnapshotMount, StdioPaths, TypedBlob};
use crate::id::{PodId, SnapshotKey};
use crate::image::Image;
use crate::linux::{netns, userns};
use crate::proto::cri;
use crate::spec::{self, PauseSpec, UserNamespace};
use crate::state::{KIND_LABEL, SANDBOX_METADATA_TYPE, SandboxMetadata, Taken};
use crate::time::Timestamp;
use crate::work::{Op, Operation};

/// Sysctls that every pod gets do not look at network devices; any other `net.*` might (design, "How a pod starts").
const HARMLESS_SYSCTLS: [&str; 2] = ["net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"];

impl Sandboxes {
    /// Runs a sandbox, or joins the equal request that is doing so; its id (CRI RunPodSandbox).
    ///
    /// The work outlives a caller that goes away; its result waits for the repeat of the call.
    pub async fn run(&self, request: cri::RunPodSandboxRequest) -> Result<PodId, SandboxError> {
        self.run_or_join(request).await.map(|made| made.id)
    }

    /// Runs a sandbox that nobody else has asked for: the caller may remove it again.
    pub async fn run_alone(&self, request: cri::RunPodSandboxRequest) -> Result<PodId, SandboxError> {
        let made = self.run_or_join(request).await?;
        if made.joined {
            let taken = Taken { name: made.name, holder: made.id.to_string() };
            return Err(SandboxError::NameTaken { taken, doing: String::new() });
        }
        Ok(made.id)
    }

    async fn run_or_join(&self, request: cri::RunPodSandboxRequest) -> Result<Made, SandboxError> {
        let config = crate::field::required("config", request.config.as_ref())?;
        let checked = check::check(config)?;
        let users = UserNamespace::of_pod(config).map_err(SandboxError::Spec)?;
        let handler = self.handlers().find(&request.runtime_handler)?;
        if let (Some(_), Err(missing)) = (users, handler.features().user_namespaces) {
            return Err(SandboxError::UserNamespaces { handler: handler.name, missing });
        }
        let id = PodId::generate();
        let name = checked.name.clone();
        let labels = self.selinux().of_pod(config, &handler).map_err(SandboxError::Spec)?;
        let (sandboxes, config) = (self.clone(), config.clone());
        let asked = request.runtime_handler.clone();
        let settings = self.inner().config.now();
        let plan =
            Plan { sandboxes, settings, id: id.clone(), config, asked, handler, checked, users, labels };
        let made = self.inner().making.make(&name, request, id.clone(), plan.carry_out()).await;
        let doing = |holder: &str| self.entry(holder).map(|other| other.work.aside()).unwrap_or_default();
        let made = made.map_err(|error| SandboxError::not_made(error, doing))?;
        Ok(Made { joined: made != id, id: made, name })
    }
}

/// A sandbox that runs now.
struct Made {
    id: PodId,
    name: String,
    /// Another request was making it already.
    joined: bool,
}

/// One run: everything that is decided before anything is made.
struct Plan {
    sandboxes: Sandboxes,
    /// Those in force when it was asked for.
    settings: Arc<Config>,
    id: PodId,
    config: cri::PodSandboxConfig,
    /// The name of its handler as asked for: empty for the default one, as the built-in plugin keeps it.
    asked: String,
    handler: Handler,
    checked: Checked,
    /// The pod's own; `None` is the node's.
    users: Option<UserNamespace>,
    labels: Labels,
}

/// Whether ADD and the task's creation may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    SideBySide,
    NetworkFirst,
}

impl Plan {
    /// Brings the sandbox up, and everything down again if that fails.
    async fn carry_out(self) -> Result<(), SandboxError> {
        let (sandboxes, id) = (self.sandboxes.clone(), self.id.clone());
        let sandbox = Arc::new(Sandbox::new(SandboxFacts {
            created_at: Timestamp::now(),
            metadata: self.metadata(),
            state: SandboxState::Starting,
            network: NetworkHold::Held,
            resources: Default::default(),
        }));
        sandboxes.insert(sandbox.clone());
        let op = sandbox.begin(Operation::RunPodSandbox);
        let _turn = op.turn().await;
        // A task of its own, so that even a panic is followed by the teardown.
        let up = tokio::spawn(op.within({
            let (sandbox, op) = (sandbox.clone(), op.clone());
            async move { self.bring_up(&sandbox, &op).await }
        }));
        let Err(run) =
            up.await.unwrap_or_else(|why| Err(SandboxError::Panicked { id, why: why.to_string() }))
        else {
            return op.end(Ok(()));
        };
        op.end(match op.within(sandboxes.take_down(&sandbox, Extent::Remove, &op)).await {
            Ok(()) => Err(run),
            Err(undo) => {
                sandboxes.becomes(&sandbox, |_| SandboxState::Unknown);
                Err(SandboxError::Undo { run: Box::new(run), undo: Box::new(undo) })
            }
        })
    }

    async fn bring_up(&self, sandbox: &Sandbox, op: &Op) -> Result<(), SandboxError> {
        let image = self.sandboxes.inner().images.pause(&self.handler.snapshotter);
        let image = op.step("get the pause image", image).await;
        let image = image.map_err(|error| SandboxError::Image(error.into()))?;
        let spec = self.spec(sandbox, &image)?;
        op.step("create the record", self.create_record(sandbox, &image, &spec)).await?;
        files::make_dir(&self.sandboxes.root_dir(&self.id))?;
        let (namespaces, rootfs) = tokio::join!(
            op.step("make the namespaces", self.make_namespaces(sandbox)),
            self.prepare_rootfs(&image, op),
        );
        namespaces?;
        let pid = self.attach_and_start(sandbox, rootfs?, order(&self.handler, &spec), op).await?;
        self.ready(sandbox, pid)
    }

    /// The user namespace comes first where there is one: it must own the pod's network.
    async fn make_namespaces(&self, sandbox: &Sandbox) -> Result<(), SandboxError> {
        let path = sandbox.facts().metadata.netns_path.clone();
        let netns = (self.checked.network == NetworkKind::Pod).then_some(path.as_path());
        let made = match (self.users, netns) {
            (Some(users), netns) => {
                let pin = files::userns_pin(&self.sandboxes, &self.id);
                userns::create(&pin, users.ids, netns).await
            }
            (None, Some(netns)) => netns::create(netns).await,
            (None, None) => Ok(()),
        };
        made.map_err(|source| self.linux("make the namespaces", source))
    }

    /// The network on one side, the pause on the other; the pause's pid. Side by side the pause may run before the pod
    /// is attached: it uses no network, a pause whose record knows no address was never shown to anybody, and recovery
    /// sees it as not ready.
    async fn attach_and_start(
        &self,
        sandbox: &Sandbox,
        rootfs: Vec<SnapshotMount>,
        order: Order,
        op: &Op,
    ) -> Result<u32, SandboxError> {
        let network = async {
            op.step("attach the network", self.attach(sandbox)).await?;
            self.keep_metadata(sandbox, op).await
        };
        let pause = async {
            op.step("create the pause task", self.create_task(rootfs)).await?;
            op.step("start the pause task", self.start_pause()).await
        };
        match order {
            Order::SideBySide => {
                // Both are awaited even when one fails: an undo must never overtake what it undoes.
                let (network, pause) = tokio::join!(network, pause);
                network.and(pause)
            }
            Order::NetworkFirst => {
                network.await?;
                pause.await
            }
        }
    }

    fn metadata(&self) -> SandboxMetadata {
        SandboxMetadata {
            id: self.id.clone(),
            name: self.checked.name.clone(),
            config: self.config.clone(),
            netns_path: match self.checked.network {
                NetworkKind::Pod => netns::choose_path(&self.settings.network.netns_dir),
                NetworkKind::Node => Default::default(),
            },
            ip: String::new(),
            additional_ips: Vec::new(),
            runtime_handler: self.asked.clone(),
            cni_result: serde_json::Value::Null,
            process_label: self.labels.kept.clone(),
            unknown: Default::default(),
        }
    }

    fn spec(&self, sandbox: &Sandbox, image: &Image) -> Result<Spec, SandboxError> {
        let netns = sandbox.facts().metadata.netns_path.clone();
        let seccomp_profile = self.seccomp_profile()?;
        let shm = match self.checked.ipc {
            IpcKind::Pod => files::shm_dir(&self.sandboxes, &self.id),
            IpcKind::Node => "/dev/shm".into(),
        };
        spec::pause(&PauseSpec {
            id: &self.id,
            config: &self.config,
            image: &image.config,
            image_name: self.sandboxes.inner().images.pause_name(),
            netns: (self.checked.network == NetworkKind::Pod).then_some(netns.as_path()),
            userns: &files::userns_pin(&self.sandboxes, &self.id),
            sandbox_dir: &self.sandboxes.root_dir(&self.id),
            shm: &shm,
            runtime: &self.settings.runtime,
            handler: &self.handler.config,
            seccomp_profile: seccomp_profile.as_deref(),
            process_label: &self.labels.process,
            mount_label: &self.labels.mount,
            node: &self.sandboxes.node(),
        })
        .map_err(SandboxError::Spec)
    }

    /// The bytes of the localhost profile that the config names.
    fn seccomp_profile(&self) -> Result<Option<Vec<u8>>, SandboxError> {
        let runtime = &self.settings.runtime;
        let path = spec::pause_seccomp_path(&self.config, runtime).map_err(SandboxError::Spec)?;
        let read = |path: &str| {
            std::fs::read(path).map_err(|source| {
                let why = format!("cannot read {path:?}: {source}");
                crate::field::error("config.linux.security_context.seccomp.localhost_ref", why)
            })
        };
        Ok(path.map(read).transpose()?)
    }

    /// Writes the record that owns all that follows. Its snapshot need not exist yet, and is safe from garbage
    /// collection from its first moment, because this record names it: no lease is needed.
    async fn create_record(&self, sandbox: &Sandbox, image: &Image, spec: &Spec) -> Result<(), SandboxError> {
        let facts = sandbox.facts();
        let record = ContainerRecord {
            id: self.id.to_string(),
            labels: self.labels(image),
            image: self.sandboxes.inner().images.pause_name().to_owned(),
            runtime: self.handler.runtime.clone(),
            spec: serde_json::to_vec(spec).expect("a spec has only string keys"),
            snapshotter: self.handler.snapshotter.clone(),
            snapshot_key: SnapshotKey::from(&self.id),
            created_at: Timestamp::NEVER,
            extensions: BTreeMap::from([(SANDBOX_METADATA_TYPE.0.to_owned(), extension(&facts.metadata))]),
            sandbox: String::new(),
        };
        let containerd = &self.sandboxes.inner().containerd;
        let stored = containerd
            .create_container(&record)
            .await
            .map_err(|source| self.containerd("create the record", source))?;
        sandbox.change(|facts| facts.created_at = stored.created_at);
        Ok(())
    }

    fn labels(&self, image: &Image) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<_, _> =
            image.config.labels().clone().unwrap_or_default().into_iter().collect();
        labels.extend(self.config.labels.clone());
        labels.insert(KIND_LABEL.into(), "sandbox".into());
        labels
    }

    /// ADD on every network; what it gave is in the facts then.
    async fn attach(&self, sandbox: &Sandbox) -> Result<(), SandboxError> {
        if self.checked.network == NetworkKind::Node {
            return Ok(());
        }
        let pod = pod_network(&self.sandboxes, &sandbox.facts().metadata)?;
        let attached = self.handler.networks.attach(&pod).await;
        let attached = attached.map_err(|source| SandboxError::Network { id: self.id.clone(), source })?;
        sandbox.change(|facts| {
            let mut ips = attached.ips.iter().map(ToString::to_string);
            facts.metadata.ip = ips.next().unwrap_or_default();
            facts.metadata.additional_ips = ips.collect();
            facts.metadata.cni_result = attached.result;
        });
        Ok(())
    }

    /// What ADD gave goes into the container's record, and all of it into a record of containerd's sandbox store where
    /// the built-in plugin looks for one: the plugin of 1.7 would leave it there when it removes the pod.
    async fn keep_metadata(&self, sandbox: &Sandbox, op: &Op) -> Result<(), SandboxError> {
        let containerd = &self.sandboxes.inner().containerd;
        let (id, blob) = (self.id.as_str(), extension(&sandbox.facts().metadata));
        let stored = async {
            if !self.sandboxes.node().knows_sandboxes {
                return Ok(());
            }
            let (name, runtime) = (&self.checked.name, &self.handler.runtime);
            let made = containerd.create_sandbox_record(id, name, runtime, blob.clone()).await;
            made.map_err(|source| self.containerd("create the sandbox store's record", source))
        };
        let kept = async {
            // A pod on the node's network has got nothing since its record was made.
            match self.checked.network {
                NetworkKind::Node => Ok(()),
                NetworkKind::Pod => containerd
                    .set_extension(id, SANDBOX_METADATA_TYPE.0, blob.clone())
                    .await
                    .map_err(|source| self.containerd("keep the metadata", source)),
            }
        };
        let (stored, kept) = tokio::join!(
            op.step("create the sandbox store's record", stored),
            op.step("keep the metadata", kept)
        );
        stored.and(kept)
    }

    /// The pause's snapshot, and the files that the pod's containers share.
    async fn prepare_rootfs(&self, image: &Image, op: &Op) -> Result<Vec<SnapshotMount>, SandboxError> {
        let containerd = &self.sandboxes.inner().containerd;
        let key = SnapshotKey::from(&self.id);
        let snapshot = async {
            containerd
                .prepare_snapshot(&self.handler.snapshotter, &key, image.parent(), &self.snapshot_labels())
                .await
                .map_err(|source| self.containerd("prepare the snapshot", source))
        };
        let files = async {
            let (sandboxes, id, config) = (self.sandboxes.clone(), self.id.clone(), self.config.clone());
            let (ipc, users) = (self.checked.ipc, self.users);
            blocking(&self.id, move || files::write(&sandboxes, &id, &config, ipc, users)).await
        };
        let (rootfs, files) =
            tokio::join!(op.step("prepare the snapshot", snapshot), op.step("write the files", files));
        let rootfs = files.and(rootfs)?;
        if let Some(users) = &self.users {
            give_to_root(&rootfs, users).map_err(|source| self.linux("prepare the snapshot", source))?;
        }
        Ok(rootfs)
    }

    /// A task that only waits to be started.
    async fn create_task(&self, rootfs: Vec<SnapshotMount>) -> Result<(), SandboxError> {
        let containerd = &self.sandboxes.inner().containerd;
        let pin = self.users.map(|_| files::userns_pin(&self.sandboxes, &self.id));
        let rootfs = Rootfs::new(rootfs, pin, self.sandboxes.state_dir(&self.id))
            .await
            .map_err(|source| self.linux("map the ids of the rootfs", source))?;
        let task = NewTask {
            container_id: self.id.to_string(),
            rootfs: rootfs.labelled(&self.labels.mount),
            stdio: StdioPaths::default(),
            runtime_path: self.handler.config.runtime_path.clone(),
            options: None,
        };
        let created = containerd.create_task(&task).await;
        rootfs.release();
        created.map(drop).map_err(|source| self.containerd("create the pause task", source))
    }

    /// Pod annotations that snapshotters read (contract §3), and the mapping that they may follow.
    fn snapshot_labels(&self) -> BTreeMap<String, String> {
        let annotations = self.config.annotations.iter();
        let meant = annotations.filter(|(key, _)| key.starts_with("containerd.io/snapshot/"));
        let of_users = self.users.iter().flat_map(UserNamespace::snapshot_labels);
        meant.map(|(key, value)| (key.clone(), value.clone())).chain(of_users).collect()
    }

    async fn start_pause(&self) -> Result<u32, SandboxError> {
        let containerd = &self.sandboxes.inner().containerd;
        containerd
            .start_task(self.id.as_str())
            .await
            .map_err(|source| self.containerd("start the pause task", source))
    }

    fn ready(&self, sandbox: &Sandbox, pid: u32) -> Result<(), SandboxError> {
        // An exit that was seen in between must stay seen.
        self.sandboxes.becomes(sandbox, |state| match state {
            SandboxState::Starting => SandboxState::Ready { pid },
            seen => seen,
        });
        sandbox.pause_pid().map(drop)
    }

    fn containerd(&self, step: &'static str, source: crate::containerd::ContainerdError) -> SandboxError {
        SandboxError::Containerd { step, id: self.id.clone(), source }
    }

    fn linux(&self, step: &'static str, source: crate::linux::LinuxError) -> SandboxError {
        SandboxError::Linux { step, id: self.id.clone(), source }
    }
}

/// Whether ADD may run while the runtime creates the task: not with VMs, hooks that look at the network, or sysctls
/// of devices that ADD makes.
fn order(handler: &Handler, spec: &Spec) -> Order {
    let hooks = spec.hooks().is_some();
    let sysctls = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let device_sysctls = sysctls.is_some_and(|sysctls| {
        sysctls.keys().any(|key| key.starts_with("net.") && !HARMLESS_SYSCTLS.contains(&key.as_str()))
    });
    if handler.is_runc() && !hooks && !device_sysctls { Order::SideBySide } else { Order::NetworkFirst }
}

fn extension(metadata: &SandboxMetadata) -> TypedBlob {
    TypedBlob { type_url: SANDBOX_METADATA_TYPE.1.to_owned(), value: metadata.to_json() }
}
