//! CreateContainer: record, snapshot, FIFOs and status file; a task only comes with StartContainer.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::accounts::{Accounts, with_mounted};
use super::mounts::MountedImage;
use super::volumes::{self, Volume};
use super::{Container, ContainerError, ContainerFacts, ContainerState, Containers, check, mounts};
use crate::config::RuntimeConfig;
use crate::containerd::{ContainerRecord, TypedBlob};
use crate::id::{ContainerId, SnapshotKey};
use crate::image::Image;
use crate::linux::{apparmor, device};
use crate::proto::cri::{self, NamespaceMode};
use crate::sandbox::{Handler, Sandbox};
use crate::spec::{self, ContainerSpec, PidNamespace, PreparedDevice, PreparedMount};
use crate::state::{CONTAINER_METADATA_TYPE, ContainerMetadata, ContainerStatusFile};
use crate::time::Timestamp;

/// The label by which containers are told from sandboxes (contract §2).
const KIND_LABEL: (&str, &str) = ("io.cri-containerd.kind", "container");

impl Containers {
    /// Creates a container in a ready sandbox, or joins the equal request that is doing so; its id (CRI
    /// CreateContainer). The work outlives a caller that goes away; its result waits for the repeat of the call.
    pub async fn create(&self, request: cri::CreateContainerRequest) -> Result<ContainerId, ContainerError> {
        let config = crate::field::required("config", request.config.as_ref())?;
        check::check(config)?;
        check::refuse_undone(config)?;
        let sandbox = self.sandboxes().find(&request.pod_sandbox_id)?;
        sandbox.pause_pid()?;
        let id = ContainerId::generate();
        let plan = Plan::new(self.clone(), id.clone(), sandbox, config.clone())?;
        let name = plan.name.clone();
        Ok(self.inner().making.make(&name, request, id, plan.carry_out()).await?)
    }
}

/// One creation: everything that is decided before anything is made.
struct Plan {
    containers: Containers,
    id: ContainerId,
    name: String,
    sandbox: Arc<Sandbox>,
    pod_config: cri::PodSandboxConfig,
    config: cri::ContainerConfig,
    handler: Handler,
    image: Arc<Image>,
    /// As the config or the kubelet's annotation names it.
    image_name: String,
}

/// What was looked up on the host for the spec.
struct Looked {
    mounts: Vec<PreparedMount>,
    devices: Vec<PreparedDevice>,
    host_devices: Vec<device::DeviceNode>,
    seccomp_profile: Option<Vec<u8>>,
}

impl Plan {
    fn new(
        containers: Containers,
        id: ContainerId,
        sandbox: Arc<Sandbox>,
        config: cri::ContainerConfig,
    ) -> Result<Self, ContainerError> {
        let facts = sandbox.facts();
        let pod_config = facts.metadata.config.clone();
        let handler = containers.sandboxes().handlers().find(&facts.metadata.runtime_handler)?.clone();
        let names =
            (config.metadata.clone().unwrap_or_default(), pod_config.metadata.clone().unwrap_or_default());
        let wanted = config.image.clone().unwrap_or_default();
        let image = containers
            .inner()
            .images
            .find(&wanted.image)
            .ok_or_else(|| ContainerError::NoImage(wanted.image.clone()))?;
        let image_name = match wanted.user_specified_image.as_str() {
            "" => image.repo_tags.first().cloned().unwrap_or(wanted.image),
            given => given.to_owned(),
        };
        let name = check::name_of(&names.0, &names.1);
        Ok(Self { containers, id, name, sandbox, pod_config, config, handler, image, image_name })
    }

    /// Creates, or undoes.
    async fn carry_out(self) -> Result<(), ContainerError> {
        let (containers, id) = (self.containers.clone(), self.id.clone());
        let container = Arc::new(Container::new(self.facts()));
        containers.insert(container.clone());
        let _work = container.work.lock().await;
        // A task of its own, so that even a panic is followed by the undo.
        let made = tokio::spawn({
            let container = container.clone();
            async move { self.bring_up(&container).await }
        });
        let Err(create) =
            made.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
        else {
            return Ok(());
        };
        match containers.remove_all_of(&container).await {
            Ok(()) => Err(create),
            Err(undo) => {
                container
                    .change(|facts| facts.state = ContainerState::Unknown { started_at: Timestamp::NEVER });
                Err(ContainerError::Undo { create: Box::new(create), undo: Box::new(undo) })
            }
        }
    }

    async fn bring_up(&self, container: &Container) -> Result<(), ContainerError> {
        let images = &self.containers.inner().images;
        images
            .ensure_unpacked(&self.image, &self.handler.snapshotter)
            .await
            .map_err(|error| ContainerError::Image(error.into()))?;
        let accounts = self.accounts().await?;
        let looked = self.look(self.mount_images().await?).await?;
        let volumes = self.volumes();
        let spec = self.spec(looked, &accounts, &volumes)?;
        self.load_apparmor_profile(&spec).await?;
        let resources = spec::resources_of(&spec);
        container.change(|facts| {
            facts.user = spec::user_of(&spec);
            facts.file.resources = resources;
            facts.cgroups_path = cgroups_path(&spec);
        });
        self.create_record(container, &spec).await?;
        self.prepare_snapshot(container, volumes).await?;
        self.containers.open_fresh_fifos(container).await?;
        container.change(|facts| facts.file.created_at = Timestamp::now());
        self.containers.write_status(container, ContainerState::Created).await?;
        // Whoever stops the pod in the meantime may have missed this container.
        self.sandbox.pause_pid()?;
        container.change(|facts| facts.state = ContainerState::Created);
        Ok(())
    }

    fn facts(&self) -> ContainerFacts {
        ContainerFacts {
            file: ContainerStatusFile::default(),
            metadata: ContainerMetadata {
                id: self.id.clone(),
                name: self.name.clone(),
                sandbox_id: self.sandbox.id.clone(),
                config: self.config.clone(),
                image_ref: self.image.id.to_string(),
                log_path: check::log_path(&self.config, &self.pod_config),
                stop_signal: self.stop_signal(),
                process_label: String::new(),
                unknown: Default::default(),
            },
            state: ContainerState::Creating,
            snapshotter: self.handler.snapshotter.clone(),
            user: None,
            cgroups_path: String::new(),
        }
    }

    /// The image's signal; the config's own is in the config, and beats it when the container is stopped.
    fn stop_signal(&self) -> String {
        self.image.config.stop_signal().clone().unwrap_or_default()
    }

    async fn accounts(&self) -> Result<Arc<Accounts>, ContainerError> {
        if !spec::needs_passwd(&self.config, &self.image.config) {
            return Ok(Arc::default());
        }
        let scratch = self.containers.inner().config.state.join("views");
        let accounts = &self.containers.inner().accounts;
        accounts
            .of(&self.handler.snapshotter, &self.image, &scratch)
            .await
            .map_err(|error| error.at(&self.id))
    }

    /// Mounts, for the pod, the images that the config's mounts name; they must be on the node.
    async fn mount_images(&self) -> Result<Vec<MountedImage>, ContainerError> {
        let mut mounted = Vec::new();
        for (index, mount) in self.config.mounts.iter().enumerate() {
            let Some(wanted) = &mount.image else { continue };
            let failed =
                |why| ContainerError::ImageVolume { field: format!("config.mounts[{index}].image"), why };
            let image = self.containers.inner().images.find(&wanted.image);
            let image = image
                .ok_or_else(|| failed(format!("{:?} is not on this node: pull it first", wanted.image)))?;
            let root = self.containers.sandboxes().mount_image(&self.sandbox, &self.handler, &image).await;
            let root = root.map_err(|error| failed(crate::error::chain(&error)))?;
            mounted.push(MountedImage { index, root });
        }
        Ok(mounted)
    }

    /// Asks the host, off the runtime's threads, about what the config names.
    async fn look(&self, images: Vec<MountedImage>) -> Result<Looked, ContainerError> {
        let (id, config, handler) = (self.id.clone(), self.config.clone(), self.handler.clone());
        let runtime = self.containers.inner().config.runtime.clone();
        let look = move || {
            let host_devices = if wants_host_devices(&config, &handler) {
                let failed = |source| ContainerError::Linux {
                    step: "look at the host's devices",
                    id: id.clone(),
                    source,
                };
                device::all_of_host().map_err(failed)?
            } else {
                Vec::new()
            };
            Ok(Looked {
                mounts: mounts::prepare(&id, &config, &images)?,
                devices: mounts::devices(&config)?,
                host_devices,
                seccomp_profile: seccomp_profile(&config, &runtime)?,
            })
        };
        let panicked = |why: tokio::task::JoinError| {
            Err(ContainerError::Panicked { id: self.id.clone(), why: why.to_string() })
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_else(panicked)
    }

    fn volumes(&self) -> Vec<Volume> {
        if self.containers.inner().config.runtime.ignore_image_defined_volumes {
            return Vec::new();
        }
        let declared = self.image.config.volumes().clone().unwrap_or_default();
        volumes::plan(&declared, &self.config, &self.containers.root_dir(&self.id).join("volumes"))
    }

    fn spec(&self, looked: Looked, accounts: &Accounts, volumes: &[Volume]) -> Result<Spec, ContainerError> {
        let sandboxes = self.containers.sandboxes();
        spec::container(&ContainerSpec {
            id: &self.id,
            pod_id: &self.sandbox.id,
            pod_config: &self.pod_config,
            config: &self.config,
            image: &self.image.config,
            image_name: &self.image_name,
            pause_pid: self.sandbox.pause_pid()?,
            pid_namespace: self.containers.pid_namespace(&self.sandbox, &self.config)?,
            mounts: looked.mounts,
            extra_mounts: self.shared_files().into_iter().chain(volumes::mounts(volumes)).collect(),
            devices: looked.devices,
            host_devices: looked.host_devices,
            passwd: accounts.passwd.as_deref(),
            group: accounts.group.as_deref(),
            sandbox_dir: &sandboxes.root_dir(&self.sandbox.id),
            runtime: &self.containers.inner().config.runtime,
            handler: &self.handler.config,
            recursive_read_only: self.handler.features().recursive_read_only,
            base: self.handler.base.as_deref(),
            seccomp_profile: looked.seccomp_profile.as_deref(),
            process_label: "",
            mount_label: "",
            node: &sandboxes.node(),
        })
        .map_err(ContainerError::Spec)
    }

    /// Loads the default AppArmor profile where it is wanted and missing; any other must be loaded already.
    async fn load_apparmor_profile(&self, spec: &Spec) -> Result<(), ContainerError> {
        let profile = spec.process().as_ref().and_then(|process| process.apparmor_profile().clone());
        let Some(profile) = profile else { return Ok(()) };
        let id = self.id.clone();
        let ensure = move || {
            let failed =
                |source| ContainerError::Linux { step: "load the AppArmor profile", id: id.clone(), source };
            if apparmor::is_loaded(&profile).map_err(failed)? {
                Ok(())
            } else if profile == spec::DEFAULT_APPARMOR_PROFILE {
                apparmor::load_default(&profile).map_err(failed)
            } else {
                let why = format!("profile {profile:?} is not loaded on this node");
                Err(crate::field::error("config.linux.security_context.apparmor.localhost_ref", why).into())
            }
        };
        let panicked = |why: tokio::task::JoinError| {
            Err(ContainerError::Panicked { id: self.id.clone(), why: why.to_string() })
        };
        tokio::task::spawn_blocking(ensure).await.unwrap_or_else(panicked)
    }

    /// What all containers of the pod see alike: hostname, hosts, resolv.conf, /dev/shm.
    fn shared_files(&self) -> Vec<cri::Mount> {
        let sandboxes = self.containers.sandboxes();
        let files = sandboxes.root_dir(&self.sandbox.id);
        let of = |container_path: &str, host_path: std::path::PathBuf| cri::Mount {
            container_path: container_path.into(),
            host_path: host_path.display().to_string(),
            ..Default::default()
        };
        [
            of("/etc/hostname", files.join("hostname")),
            of("/etc/hosts", files.join("hosts")),
            of("/etc/resolv.conf", files.join("resolv.conf")),
            of("/dev/shm", sandboxes.shm_of(&self.sandbox)),
        ]
        .into_iter()
        .filter(|mount| std::path::Path::new(&mount.host_path).exists())
        .collect()
    }

    /// The record comes first: the snapshot that it names is safe from garbage collection as soon as it is made.
    async fn create_record(&self, container: &Container, spec: &Spec) -> Result<(), ContainerError> {
        let mut labels: BTreeMap<_, _> =
            self.image.config.labels().clone().unwrap_or_default().into_iter().collect();
        labels.extend(self.config.labels.clone());
        labels.insert(KIND_LABEL.0.into(), KIND_LABEL.1.into());
        let metadata = container.facts().metadata.to_json();
        let record = ContainerRecord {
            id: self.id.to_string(),
            labels,
            image: self.image_record_name(),
            runtime: self.handler.runtime.clone(),
            spec: serde_json::to_vec(spec).expect("a spec has only string keys"),
            snapshotter: self.handler.snapshotter.clone(),
            snapshot_key: SnapshotKey::from(&self.id),
            created_at: Timestamp::NEVER,
            extensions: BTreeMap::from([(
                CONTAINER_METADATA_TYPE.0.to_owned(),
                TypedBlob { type_url: CONTAINER_METADATA_TYPE.1.to_owned(), value: metadata },
            )]),
        };
        let containerd = &self.containers.inner().containerd;
        containerd.create_container(&record).await.map_err(container.failed("create the record"))?;
        Ok(())
    }

    /// A name under which containerd keeps the image.
    fn image_record_name(&self) -> String {
        let names = self.image.repo_tags.first().or(self.image.repo_digests.first());
        names.cloned().unwrap_or_else(|| self.image.id.to_string())
    }

    async fn prepare_snapshot(
        &self,
        container: &Container,
        volumes: Vec<Volume>,
    ) -> Result<(), ContainerError> {
        let containerd = &self.containers.inner().containerd;
        let key = SnapshotKey::from(&self.id);
        let mounts = containerd
            .prepare_snapshot(&self.handler.snapshotter, &key, self.image.parent(), &BTreeMap::new())
            .await
            .map_err(container.failed("prepare the snapshot"))?;
        if volumes.is_empty() {
            return Ok(());
        }
        let target = self.containers.inner().config.state.join("views").join(self.id.as_str());
        with_mounted(mounts, target, move |root| volumes::fill(&volumes, root)).await.map_err(|source| {
            ContainerError::Linux { step: "fill the image's volumes", id: self.id.clone(), source }
        })
    }
}

impl Containers {
    /// Resolves the CRI's PID mode: to the pause's pid, to that of a running container of the same pod, or to none.
    pub(super) fn pid_namespace(
        &self,
        sandbox: &Sandbox,
        config: &cri::ContainerConfig,
    ) -> Result<PidNamespace, ContainerError> {
        let options = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|context| context.namespace_options.clone())
            .unwrap_or_default();
        match options.pid() {
            NamespaceMode::Pod => Ok(PidNamespace::Of(sandbox.pause_pid()?)),
            NamespaceMode::Container => Ok(PidNamespace::Container),
            NamespaceMode::Node => Ok(PidNamespace::Node),
            NamespaceMode::Target => {
                let target = self.find(&options.target_id)?;
                if target.pod != sandbox.id {
                    return Err(ContainerError::NotFound(options.target_id));
                }
                let pid = target.facts().state.running();
                pid.map(PidNamespace::Of)
                    .map_err(|source| ContainerError::Denied { id: target.id.clone(), source })
            }
        }
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
            std::fs::create_dir_all(&dir).map_err(|source| ContainerError::File {
                action: "make",
                path: dir.clone(),
                source,
            })?;
            file.store(&dir.join("status")).map_err(|source| ContainerError::Status { id, source })
        };
        let panicked = |why: tokio::task::JoinError| {
            Err(ContainerError::Panicked { id: container.id.clone(), why: why.to_string() })
        };
        tokio::task::spawn_blocking(write).await.unwrap_or_else(panicked)
    }
}

fn wants_host_devices(config: &cri::ContainerConfig, handler: &Handler) -> bool {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged) && !handler.config.privileged_without_host_devices
}

/// The bytes of the localhost profile that the config names.
fn seccomp_profile(
    config: &cri::ContainerConfig,
    runtime: &RuntimeConfig,
) -> Result<Option<Vec<u8>>, ContainerError> {
    let Some(path) = spec::seccomp_path(config, runtime).map_err(ContainerError::Spec)? else {
        return Ok(None);
    };
    let read = std::fs::read(path).map_err(|source| {
        let why = format!("cannot read {path:?}: {source}");
        crate::field::error("config.linux.security_context.seccomp.localhost_ref", why)
    })?;
    Ok(Some(read))
}

pub(super) fn cgroups_path(spec: &Spec) -> String {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    path.map(|path| path.display().to_string()).unwrap_or_default()
}
