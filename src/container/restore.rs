//! Containers out of checkpoints. Such a one is planned like any other, on the image that the checkpointed one had. Its
//! files come with its creation; its processes wait in a folder of its own, and come with its start.
//!
//! That folder is there before the record is: as long as it is, the container never starts afresh.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::Spec;

use super::archive::{self, ArchiveFlaw, Dumps};
use super::create::Plan;
use super::error::blocking;
use super::layer::{WrittenLayer, write_layer};
use super::{Container, ContainerError, Containers, agreement, checkpoint};
use crate::containerd::{Containerd, ContainerdError, Descriptor, PLAIN_LAYER, TypedBlob};
use crate::field;
use crate::id::{ContainerId, LeaseId, SnapshotKey};
use crate::image::{Image, PullRequest};
use crate::proto::cri;
use crate::sandbox::{Handler, Sandbox};

/// Should the daemon die, containerd forgets the layer of changes after this.
const LEASE: Duration = Duration::from_secs(3600);
/// In the restore folder: where CRIU says what went wrong.
const RESTORE_LOG: &str = "restore.log";
/// Where runc keeps what the first three file descriptors were.
const DESCRIPTORS: &str = "descriptors.json";
/// Bytes handed to containerd at once.
const PIECE: usize = 1 << 20;

/// A checkpoint that a container is to come out of.
#[derive(Clone, Debug)]
pub(super) struct Restore {
    source: Source,
    dumps: Dumps,
    asked: Asked,
}

/// Where a checkpoint is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Archive(PathBuf),
    /// Laid out as an archive is.
    Folder(PathBuf),
    /// So are its files.
    Image {
        name: String,
        image: Arc<Image>,
        snapshotter: String,
    },
}

/// What a config says of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It describes the process (RestorePod).
    Same,
    /// It may say nothing: an image's name alone stands for the checkpoint (CreateContainer).
    Whatever,
}

impl Source {
    /// What errors call it.
    fn name(&self) -> PathBuf {
        match self {
            Self::Archive(path) | Self::Folder(path) => path.clone(),
            Self::Image { name, .. } => name.into(),
        }
    }

    fn flaw(&self) -> impl Fn(ArchiveFlaw) -> ContainerError + use<> {
        let path = self.name();
        move |source| ContainerError::Archive { path: path.clone(), source }
    }
}

/// An archive that is open, or a folder.
enum Opened<'a> {
    Archive(Box<dyn std::io::Read + Send>),
    Folder(&'a Path),
}

impl Opened<'_> {
    fn dumps(self) -> Result<Dumps, ArchiveFlaw> {
        match self {
            Self::Archive(archive) => archive::peek(archive),
            Self::Folder(path) => Dumps::read(path),
        }
    }

    fn unpack(self, folder: &Path, limit: u64) -> Result<(), ArchiveFlaw> {
        match self {
            Self::Archive(archive) => archive::unpack(archive, folder, limit),
            Self::Folder(path) => archive::copy(path, folder, limit),
        }
    }
}

impl Containers {
    /// The checkpoint that an image's name stands for: the absolute path of an archive on this node, or an image that
    /// was made of one.
    ///
    /// # Errors
    /// Also where images are not to be restored from: who may choose an image would choose a process' capabilities.
    pub(super) async fn checkpoint_named(
        &self,
        id: &ContainerId,
        image: &str,
        sandbox: &Sandbox,
    ) -> Result<Option<Restore>, ContainerError> {
        if image.starts_with('/') {
            field::absolute_path("config.image.image", image)?;
            let path = PathBuf::from(image);
            if !path.is_file() {
                return Err(ContainerError::NoImage(image.to_owned()));
            }
            return self.look_into(id, Source::Archive(path), Asked::Whatever).await.map(Some);
        }
        let found = self.inner().images.find(image).filter(|image| image.checkpoint);
        let Some(found) = found else { return Ok(None) };
        if !self.inner().config.now().runtime.restore_from_images {
            let why = format!("{image:?} was made of a checkpoint, and runtime.restore_from_images is off");
            return Err(ContainerError::CannotCheckpoint { why });
        }
        let handler = self.sandboxes().handlers().find(&sandbox.facts().metadata.runtime_handler)?;
        let (name, snapshotter) = (image.to_owned(), handler.snapshotter.clone());
        let source = Source::Image { name, image: found, snapshotter };
        self.look_into(id, source, Asked::Whatever).await.map(Some)
    }

    /// Reads what a checkpoint says of its container.
    pub(super) async fn look_into(
        &self,
        id: &ContainerId,
        source: Source,
        asked: Asked,
    ) -> Result<Restore, ContainerError> {
        let flaw = source.flaw();
        let dumps = self.open(id, &source, move |opened| opened.dumps().map_err(flaw)).await?;
        Ok(Restore { source, dumps, asked })
    }

    /// Has `read` read a checkpoint, off the runtime's threads.
    async fn open<T: Send + 'static>(
        &self,
        id: &ContainerId,
        source: &Source,
        read: impl FnOnce(Opened<'_>) -> Result<T, ContainerError> + Send + 'static,
    ) -> Result<T, ContainerError> {
        let flaw = source.flaw();
        match source.clone() {
            Source::Archive(path) => {
                let open = move || read(Opened::Archive(archive::open(&path).map_err(flaw)?));
                blocking(id, open).await
            }
            Source::Folder(path) => blocking(id, move || read(Opened::Folder(&path))).await,
            Source::Image { image, snapshotter, .. } => {
                let unpacked = self.inner().images.ensure_unpacked(&image, &snapshotter).await;
                unpacked.map_err(|error| ContainerError::Image(error.into()))?;
                let scratch = self.inner().config.now().state.join("views");
                let read = move |root: &Path| Ok(read(Opened::Folder(root)));
                let seen = self.inner().accounts.look_into(&snapshotter, &image, &scratch, read).await;
                seen.map_err(|error| error.at("look into the checkpoint's image", id))?
            }
        }
    }

    /// The image that the checkpointed container had; pulled where it is not here: nobody but the checkpoint knows it.
    pub(super) async fn image_below(
        &self,
        restore: &Restore,
        handler: &Handler,
    ) -> Result<Arc<Image>, ContainerError> {
        let images = &self.inner().images;
        let config = &restore.dumps.config;
        let names = [&config.rootfs_image_ref, &config.rootfs_image_name, &config.rootfs_image];
        let given = || names.iter().filter(|name| !name.is_empty());
        if let Some(image) = given().find_map(|name| images.find(name)) {
            return Ok(image);
        }
        let mut error = ContainerError::NoImage(config.rootfs_image_name.clone());
        for name in given().filter(|name| !name.starts_with("sha256:")) {
            field::name_of_image("config.image.image", name)?;
            let request =
                PullRequest { reference: name, auth: None, snapshotter: Some(&handler.snapshotter) };
            match images.pull(request).await {
                Ok(image) => return Ok(image),
                Err(why) => error = ContainerError::Image(why.into()),
            }
        }
        Err(error)
    }

    /// Where a container that is to be restored keeps its processes until it is started.
    fn restore_dir(&self, id: &ContainerId) -> PathBuf {
        self.root_dir(id).join("restore")
    }

    /// The options by which a task comes out of a checkpoint; none for a container that starts afresh.
    pub(super) fn restore_options(
        &self,
        container: &Container,
        handler: &Handler,
    ) -> Result<Option<TypedBlob>, ContainerError> {
        let folder = self.restore_dir(&container.id);
        if !folder.exists() {
            return Ok(None);
        }
        match handler.runtime.restoring(&folder.join(archive::IMAGES), &folder) {
            Some(options) => Ok(Some(options)),
            None => Err(ContainerError::CannotCheckpoint {
                why: format!("runtime handler {:?} restores none", handler.name),
            }),
        }
    }

    /// What CRIU said of a restore that failed, as the end of a sentence.
    pub(super) fn restore_complaints(&self, container: &Container) -> String {
        checkpoint::complaints(&self.restore_dir(&container.id).join(RESTORE_LOG))
    }

    /// It runs: its frozen processes are of no more use.
    pub(super) async fn restored(&self, container: &Container) {
        let folder = self.restore_dir(&container.id);
        if let Err(error) = self.remove_folder(container, folder).await {
            tracing::warn!(container = %container.id, "{}", crate::error::chain(&error));
        }
    }
}

impl Restore {
    /// Fills in what a config that names nothing but the checkpoint leaves out.
    pub fn complete(&self, config: &mut cri::ContainerConfig) {
        let process = self.dumps.spec.process().as_ref();
        if self.asked == Asked::Whatever && config.command.is_empty() && config.args.is_empty() {
            config.command = process.and_then(|process| process.args().clone()).unwrap_or_default();
        }
    }

    /// Holds the planned spec against the checkpoint's, and gives it the checkpointed process.
    pub fn agree(&self, config: &cri::ContainerConfig, spec: &mut Spec) -> Result<(), ContainerError> {
        let dumped = &self.dumps.spec;
        let checked = match self.asked {
            Asked::Same => agreement::check_process(dumped, spec),
            Asked::Whatever => {
                let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
                let user = security.is_some_and(|security| {
                    security.run_as_user.is_some()
                        || security.run_as_group.is_some()
                        || !security.run_as_username.is_empty()
                });
                let user = if user { agreement::check_run_as(dumped, spec) } else { Ok(()) };
                user.and_then(|()| agreement::check_command(dumped, spec))
            }
        };
        checked.and_then(|()| agreement::check(dumped, spec)).map_err(in_config)?;
        agreement::take_over(dumped, spec);
        Ok(())
    }
}

fn in_config(error: field::FieldError) -> field::FieldError {
    field::error(format!("config.{}", error.field), error.why)
}

impl Plan {
    /// Unpacks the checkpoint of a container that is to come out of one.
    pub(super) async fn unpack_checkpoint(&self) -> Result<(), ContainerError> {
        let Some(restore) = self.restore.clone() else { return Ok(()) };
        let folder = self.containers.restore_dir(&self.id);
        let limit = self.containers.inner().config.now().image.max_layer_bytes;
        let stdin = self.config.stdin && !self.config.tty;
        let flaw = restore.source.flaw();
        let unpack = move |opened: Opened<'_>| {
            fs::create_dir_all(&folder).map_err(ContainerError::file("make", &folder))?;
            opened.unpack(&folder, limit).map_err(&flaw)?;
            let descriptors = folder.join(archive::IMAGES).join(DESCRIPTORS);
            check_stdin(&descriptors, stdin, &flaw)
        };
        self.containers.open(&self.id, &restore.source, unpack).await
    }

    /// Brings what the checkpointed container changed in its root into the snapshot.
    pub(super) async fn apply_changes(&self, container: &Container) -> Result<(), ContainerError> {
        let Some(restore) = &self.restore else { return Ok(()) };
        let folder = self.containers.restore_dir(&self.id);
        let limit = self.containers.inner().config.now().image.max_layer_bytes;
        let flaw = restore.source.flaw();
        let write = move || write_layer(&folder, limit).map_err(flaw);
        let Some(layer) = blocking(&self.id, write).await? else { return Ok(()) };
        let containerd = &self.containers.inner().containerd;
        let name = self.containers.inner().accounts.fresh_name();
        let lease = LeaseId::new(name.as_str());
        containerd.create_lease(&lease, Some(LEASE)).await.map_err(container.failed("lease room"))?;
        let leased = containerd.leased(&lease);
        let applied = self.apply_layer(container, &leased, &name, &layer).await;
        let ended =
            containerd.delete_lease_and_collect(&lease).await.map_err(container.failed("end the lease"));
        let removed = fs::remove_file(&layer.path);
        applied.and(ended)?;
        removed.map_err(ContainerError::file("remove", &layer.path))
    }

    async fn apply_layer(
        &self,
        container: &Container,
        leased: &Containerd,
        name: &str,
        layer: &WrittenLayer,
    ) -> Result<(), ContainerError> {
        let unreadable = |source| ContainerError::File { action: "read", path: layer.path.clone(), source };
        let failed = || container.failed("bring the changes into the root");
        let mut file = tokio::fs::File::open(&layer.path).await.map_err(unreadable)?;
        let mut writer = leased.write_content(name, &layer.digest, layer.size).await.map_err(failed())?;
        let mut buffer = vec![0; PIECE];
        loop {
            let read = tokio::io::AsyncReadExt::read(&mut file, &mut buffer).await.map_err(unreadable)?;
            if read == 0 {
                break;
            }
            writer.write(bytes::Bytes::copy_from_slice(&buffer[..read])).await.map_err(failed())?;
        }
        writer.commit(&BTreeMap::new()).await.map_err(failed())?;
        let applied: Result<(), ContainerdError> = async {
            let key = SnapshotKey::from(&self.id);
            let mounts = leased.snapshot_mounts(&self.handler.snapshotter, &key).await?;
            let descriptor = Descriptor {
                media_type: PLAIN_LAYER.to_owned(),
                digest: layer.digest.clone(),
                size: layer.size,
                annotations: BTreeMap::new(),
            };
            leased.apply_layer(&descriptor, &mounts).await.map(drop)
        }
        .await;
        applied.map_err(failed())
    }
}

/// Whether the process had a pipe for its standard input: it gets what it had, or nothing.
fn check_stdin(
    descriptors: &Path,
    stdin: bool,
    flaw: &dyn Fn(ArchiveFlaw) -> ContainerError,
) -> Result<(), ContainerError> {
    let bytes =
        fs::read(descriptors).map_err(|_| flaw(ArchiveFlaw::Missing("checkpoint/descriptors.json")))?;
    let found: Vec<String> = serde_json::from_slice(&bytes)
        .map_err(|source| flaw(ArchiveFlaw::Malformed { name: "checkpoint/descriptors.json", source }))?;
    let had = found.first().is_some_and(|first| first.starts_with("pipe:"));
    match (had, stdin) {
        (true, false) => {
            Err(field::error("config.stdin", "the checkpointed process has a standard input").into())
        }
        (false, true) => {
            Err(field::error("config.stdin", "the checkpointed process has no standard input").into())
        }
        _ => Ok(()),
    }
}
