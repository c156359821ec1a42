//! CreateContainer: record, snapshot, FIFOs and status file; a task only comes with StartContainer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::accounts::with_mounted;
use super::restore::{Asked, Restore, Source};
use super::volumes::{self, Volume};
use super::{Container, ContainerError, ContainerFacts, ContainerState, Containers, check};
use crate::config::Config;
use crate::containerd::{ContainerRecord, RuntimeSelection, SnapshotMount, TypedBlob};
use crate::id::{ContainerId, SnapshotKey};
use crate::image::Image;
use crate::proto::cri;
use crate::sandbox::{Handler, Labels, Sandbox, give_to_root};
use crate::spec::{self, UserNamespace};
use crate::state::{CONTAINER_METADATA_TYPE, ContainerMetadata, ContainerStatusFile, KIND_LABEL};
use crate::time::Timestamp;
use crate::work::{Op, Operation};

impl Containers {
    /// Creates a container in a ready sandbox, or joins the equal request that is doing so; its id (CRI
    /// CreateContainer). The work outlives a caller that goes away; its result waits for the repeat of the call.
    pub async fn create(&self, request: cri::CreateContainerRequest) -> Result<ContainerId, ContainerError> {
        let (config, sandbox) = self.checked(&request)?;
        let id = ContainerId::generate();
        let image = config.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
        let restore = self.checkpoint_named(&id, image, &sandbox).await?;
        self.create_with(request, sandbox, id, restore).await
    }

    /// Creates a container out of a folder that `capture` has filled; the config must describe its process.
    pub async fn create_restored(
        &self,
        request: cri::CreateContainerRequest,
        folder: PathBuf,
    ) -> Result<ContainerId, ContainerError> {
        let (_, sandbox) = self.checked(&request)?;
        let id = ContainerId::generate();
        let restore = self.look_into(&id, Source::Folder(folder), Asked::Same).await?;
        self.create_with(request, sandbox, id, Some(restore)).await
    }

    /// A config that could be, and the sandbox, which is ready.
    fn checked<'a>(
        &self,
        request: &'a cri::CreateContainerRequest,
    ) -> Result<(&'a cri::ContainerConfig, Arc<Sandbox>), ContainerError> {
        let config = crate::field::required("config", request.config.as_ref())?;
        check::check(config)?;
        let sandbox = self.sandboxes().find(&request.pod_sandbox_id)?;
        sandbox.pause_pid()?;
        Ok((config, sandbox))
    }

    async fn create_with(
        &self,
        request: cri::CreateContainerRequest,
        sandbox: Arc<Sandbox>,
        id: ContainerId,
        restore: Option<Restore>,
    ) -> Result<ContainerId, ContainerError> {
        let config = request.config.clone().unwrap_or_default();
        let plan = Plan::new(self.clone(), id.clone(), sandbox, config, restore).await?;
        let name = plan.name.clone();
        let made = self.inner().making.make(&name, request, id, plan.carry_out()).await;
        let doing = |holder: &str| self.entry(holder).map(|other| other.work.aside()).unwrap_or_default();
        made.map_err(|error| ContainerError::not_made(error, doing))
    }
}

/// One creation: everything that is decided before anything is made.
pub(super) struct Plan {
    pub(super) containers: Containers,
    /// Those in force when it was asked for.
    pub(super) settings: Arc<Config>,
    pub(super) id: ContainerId,
    name: String,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) pod_config: cri::PodSandboxConfig,
    pub(super) config: cri::ContainerConfig,
    pub(super) handler: Handler,
    pub(super) image: Arc<Image>,
    /// As the config or the kubelet's annotation names it.
    pub(super) image_name: String,
    /// What it comes out of, unless it starts afresh.
    pub(super) restore: Option<Restore>,
    pub(super) labels: Labels,
}

impl Plan {
    async fn new(
        containers: Containers,
        id: ContainerId,
        sandbox: Arc<Sandbox>,
        mut config: cri::ContainerConfig,
        restore: Option<Restore>,
    ) -> Result<Self, ContainerError> {
        let facts = sandbox.facts();
        let pod_config = facts.metadata.config.clone();
        let handler = containers.sandboxes().handlers().find(&facts.metadata.runtime_handler)?;
        let names =
            (config.metadata.clone().unwrap_or_default(), pod_config.metadata.clone().unwrap_or_default());
        let wanted = config.image.clone().unwrap_or_default();
        let image = match &restore {
            Some(restore) => {
                containers.can_checkpoint(&sandbox, &handler).await?;
                restore.complete(&mut config);
                containers.image_below(restore, &handler).await?
            }
            None => containers
                .inner()
                .images
                .find(&wanted.image)
                .ok_or_else(|| ContainerError::NoImage(wanted.image.clone()))?,
        };
        let image_name = match wanted.user_specified_image.as_str() {
            "" => image.repo_tags.first().cloned().unwrap_or(wanted.image),
            given => given.to_owned(),
        };
        let name = check::name_of(&names.0, &names.1);
        let labels = containers.sandboxes().selinux().of_container(&config, &sandbox, &handler);
        let labels = labels.map_err(ContainerError::Spec)?;
        Ok(Self {
            settings: containers.inner().config.now(),
            containers,
            id,
            name,
            sandbox,
            pod_config,
            config,
            handler,
            image,
            image_name,
            restore,
            labels,
        })
    }

    /// Creates, or undoes.
    async fn carry_out(self) -> Result<(), ContainerError> {
        let (containers, id) = (self.containers.clone(), self.id.clone());
        let container = Arc::new(Container::new(self.facts()));
        containers.insert(container.clone());
        let op = containers.begin(&container, Operation::CreateContainer);
        let _turn = op.turn().await;
        // A task of its own, so that even a panic is followed by the undo.
        let made = tokio::spawn(op.within({
            let (container, op) = (container.clone(), op.clone());
            async move { self.bring_up(&container, &op).await }
        }));
        let Err(create) =
            made.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
        else {
            return op.end(Ok(()));
        };
        op.end(match op.within(containers.remove_all_of(&container, &op)).await {
            Ok(()) => Err(create),
            Err(undo) => {
                let unknown = ContainerState::Unknown { started_at: Timestamp::NEVER };
                containers.becomes(&container, unknown);
                Err(ContainerError::Undo { create: Box::new(create), undo: Box::new(undo) })
            }
        })
    }

    async fn bring_up(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        let unpacked = self.containers.inner().images.ensure_unpacked(&self.image, &self.handler.snapshotter);
        let unpacked = op.step("unpack the image", unpacked).await;
        unpacked.map_err(|error| ContainerError::Image(error.into()))?;
        let accounts = op.step("look up the user", self.accounts()).await?;
        let images = op.step("mount the images", self.mount_images()).await?;
        let looked = op.step("look at mounts and devices", self.look(images)).await?;
        let volumes = self.volumes();
        let mut spec = self.spec(looked, &accounts, &volumes)?;
        if let Some(restore) = &self.restore {
            restore.agree(&self.config, &mut spec)?;
        }
        op.step("load the AppArmor profile", self.load_apparmor_profile(&spec)).await?;
        let resources = spec::resources_of(&spec);
        container.change(|facts| {
            facts.user = spec::user_of(&spec);
            facts.file.resources = resources;
            facts.cgroups_path = spec::cgroups_path_of(&spec);
        });
        let users = self.sandbox.users()?.map(|(users, _)| users);
        op.step("unpack the checkpoint", self.unpack_checkpoint()).await?;
        op.step("create the record", self.create_record(container, &spec, users.as_ref())).await?;
        let mounts = op.step("prepare the snapshot", self.prepare_snapshot(container, users)).await?;
        op.step("fill the image's volumes", self.fill_volumes(volumes, mounts)).await?;
        op.step("apply the checkpoint's changes", self.apply_changes(container)).await?;
        op.step("open the streams", self.containers.open_fresh_fifos(container)).await?;
        container.change(|facts| facts.file.created_at = Timestamp::now());
        let written = self.containers.write_status(container, ContainerState::Created);
        op.step("write the status", written).await?;
        // Whoever stops the pod in the meantime may have missed this container.
        self.sandbox.pause_pid()?;
        self.containers.becomes(container, ContainerState::Created);
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
                process_label: self.labels.kept.clone(),
                unknown: Default::default(),
            },
            state: ContainerState::Creating,
            snapshotter: self.handler.snapshotter.clone(),
            user: None,
            cgroups_path: String::new(),
            mount_label: self.labels.mount.clone(),
        }
    }

    /// The image's signal; the config's own is in the config, and beats it when the container is stopped.
    fn stop_signal(&self) -> String {
        self.image.config.stop_signal().clone().unwrap_or_default()
    }

    /// The record comes first: the snapshot that it names is safe from garbage collection as soon as it is made.
    async fn create_record(
        &self,
        container: &Container,
        spec: &Spec,
        users: Option<&UserNamespace>,
    ) -> Result<(), ContainerError> {
        let mut labels: BTreeMap<_, _> =
            self.image.config.labels().clone().unwrap_or_default().into_iter().collect();
        labels.extend(self.config.labels.clone());
        labels.insert(KIND_LABEL.into(), "container".into());
        let metadata = container.facts().metadata.to_json();
        let record = ContainerRecord {
            id: self.id.to_string(),
            labels,
            image: self.image_record_name(),
            runtime: self.runtime(spec, users)?,
            spec: serde_json::to_vec(spec).expect("a spec has only string keys"),
            snapshotter: self.handler.snapshotter.clone(),
            snapshot_key: SnapshotKey::from(&self.id),
            created_at: Timestamp::NEVER,
            extensions: BTreeMap::from([(
                CONTAINER_METADATA_TYPE.0.to_owned(),
                TypedBlob { type_url: CONTAINER_METADATA_TYPE.1.to_owned(), value: metadata },
            )]),
            sandbox: self.sandbox_of_record(),
        };
        let containerd = &self.containers.inner().containerd;
        containerd.create_container(&record).await.map_err(container.failed("create the record"))?;
        Ok(())
    }

    /// The handler's runtime; in a user namespace the process' streams are its own.
    fn runtime(
        &self,
        spec: &Spec,
        users: Option<&UserNamespace>,
    ) -> Result<RuntimeSelection, ContainerError> {
        let runtime = &self.handler.runtime;
        let user = spec.process().as_ref().map(|process| process.user());
        let owner = users.zip(user).map(|(users, user)| users.owner(user)).transpose();
        let owner = owner.map_err(ContainerError::Spec)?;
        Ok(owner.map_or_else(|| runtime.clone(), |owner| runtime.with_stream_owner(owner)))
    }

    fn sandbox_of_record(&self) -> String {
        let known = self.containers.sandboxes().node().knows_sandboxes;
        if known { self.sandbox.id.to_string() } else { String::new() }
    }

    /// A name under which containerd keeps the image.
    fn image_record_name(&self) -> String {
        let names = self.image.repo_tags.first().or(self.image.repo_digests.first());
        names.cloned().unwrap_or_else(|| self.image.id.to_string())
    }

    async fn prepare_snapshot(
        &self,
        container: &Container,
        users: Option<UserNamespace>,
    ) -> Result<Vec<SnapshotMount>, ContainerError> {
        let containerd = &self.containers.inner().containerd;
        let key = SnapshotKey::from(&self.id);
        let labels = users.iter().flat_map(UserNamespace::snapshot_labels).collect();
        let mounts = containerd
            .prepare_snapshot(&self.handler.snapshotter, &key, self.image.parent(), &labels)
            .await
            .map_err(container.failed("prepare the snapshot"))?;
        if let Some(users) = &users {
            give_to_root(&mounts, users).map_err(|source| ContainerError::Linux {
                step: "prepare the snapshot",
                id: self.id.clone(),
                source,
            })?;
        }
        Ok(mounts)
    }

    /// Copies what the image has where it declares volumes.
    async fn fill_volumes(
        &self,
        volumes: Vec<Volume>,
        mut mounts: Vec<SnapshotMount>,
    ) -> Result<(), ContainerError> {
        if volumes.is_empty() {
            return Ok(());
        }
        // The copies have the image's own ids: they are mapped when the container mounts them.
        for mount in &mut mounts {
            mount.options.retain(|option| !option.starts_with("uidmap=") && !option.starts_with("gidmap="));
        }
        let target = self.containers.inner().config.now().state.join("views").join(self.id.as_str());
        let label = self.labels.mount.clone();
        let fill = move |root: &Path| volumes::fill(&volumes, root, &label);
        with_mounted(mounts, target, fill).await.map_err(|source| ContainerError::Linux {
            step: "fill the image's volumes",
            id: self.id.clone(),
            source,
        })
    }
}
