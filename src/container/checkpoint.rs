//! CheckpointContainer: a container's processes and files as they were at one moment, in an archive; it runs on.
//!
//! All containers of a set are held before the first is taken, and let go after the last, on every way out. Nothing of
//! it stays in containerd; what is on disk until the archive is whole is in a folder of the container's own.

use std::fs::{self, File};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::dumps::LogSoFar;
use super::error::blocking;
use super::hold::Hold;
use super::patience::{Patience, Patient};
use super::{Container, ContainerError, Containers, archive, changes, dumps};
use crate::containerd::{Containerd, ContainerdError, Descriptor};
use crate::field;
use crate::id::{LeaseId, SnapshotKey};
use crate::linux::{file, process::FolderIdentity};
use crate::time::Timestamp;
use crate::trace;
use crate::work::{Op, Operation};

/// Should the daemon die, containerd forgets what a checkpoint has it keep after this.
const LEASE: Duration = Duration::from_secs(3600);
/// How long CRIU may take to give up by itself once its folder is gone, and to end once it is killed.
const GIVE_UP: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// Bytes of CRIU's complaints in an error.
const MAX_TOLD: usize = 1000;

/// One container of a set, and the folder that its state goes to, which is made for it.
#[derive(Clone)]
pub struct Wanted {
    pub container: Arc<Container>,
    pub folder: PathBuf,
}

/// What was taken of a container while it was held.
struct Taken {
    layer: Descriptor,
    at: Timestamp,
    log: Option<LogSoFar>,
}

impl Containers {
    /// Writes a running container's state into the archive `location` (CRI CheckpointContainer). A file that is there is
    /// replaced once the new one is whole.
    ///
    /// # Errors
    /// [`ContainerError::CannotCheckpoint`], [`ContainerError::Denied`] unless it runs, [`ContainerError::TooLate`];
    /// nothing is left then.
    pub async fn checkpoint(
        &self,
        container: Arc<Container>,
        location: PathBuf,
        patience: Patience,
    ) -> Result<(), ContainerError> {
        self.may_checkpoint(&container).await?;
        check_location(&location)?;
        let (containers, id) = (self.clone(), container.id.clone());
        let work = trace::spawn(async move {
            let op = containers.begin(&container, Operation::CheckpointContainer);
            op.run(containers.take_and_pack(container, location, patience, &op)).await
        });
        work.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
    }

    async fn take_and_pack(
        &self,
        container: Arc<Container>,
        location: PathBuf,
        patience: Patience,
        op: &Op,
    ) -> Result<(), ContainerError> {
        let folder = self.checkpoint_dir(&container);
        let wanted = Wanted { container: container.clone(), folder: folder.clone() };
        let alone = patience.bound(async { Ok(container.checkpointing.lock().await) });
        let _alone = op.step("wait for another checkpoint", alone).await?;
        self.remove_folder(&container, folder.clone()).await?;
        let packed = match self.take(vec![wanted], &patience, op).await {
            Ok(()) => op.step("pack the archive", pack(&container, folder.clone(), location, patience)).await,
            Err(error) => Err(error),
        };
        let removed = op.step("remove what was gathered", self.remove_folder(&container, folder)).await;
        packed.and(removed)
    }

    /// Takes the state of containers at one moment, each into its folder, laid out as an archive is.
    ///
    /// # Errors
    /// All of them run on then; what was written stays for the caller to remove.
    pub async fn capture(
        &self,
        wanted: Vec<Wanted>,
        patience: &Patience,
        op: &Op,
    ) -> Result<(), ContainerError> {
        let mut containers: Vec<_> = wanted.iter().map(|one| one.container.clone()).collect();
        // In one order, so that no two captures wait for each other.
        containers.sort_by(|a, b| a.id.cmp(&b.id));
        let mut alone = Vec::new();
        for container in &containers {
            let one = patience.bound(async { Ok(container.checkpointing.lock().await) });
            alone.push(op.step("wait for another checkpoint", one).await?);
        }
        self.take(wanted, patience, op).await
    }

    /// Whether a container, as it is now, can be checkpointed.
    pub async fn may_checkpoint(&self, container: &Container) -> Result<(), ContainerError> {
        container.facts().state.running().map_err(|source| container.denied(source))?;
        let sandbox = self.sandboxes().find(container.pod.as_str())?;
        let handler = self.sandboxes().handlers().find(&sandbox.facts().metadata.runtime_handler)?;
        self.can_checkpoint(&sandbox, &handler).await
    }

    /// Takes the state of containers at one moment, each into its folder. The caller has them to itself (`checkpointing`),
    /// and removes the folders when this fails.
    async fn take(&self, wanted: Vec<Wanted>, patience: &Patience, op: &Op) -> Result<(), ContainerError> {
        let lease = LeaseId::new(self.inner().accounts.fresh_name());
        let containerd = &self.inner().containerd;
        let Some(first) = wanted.first().map(|first| first.container.clone()) else { return Ok(()) };
        containerd.create_lease(&lease, Some(LEASE)).await.map_err(first.failed("lease room"))?;
        let leased = containerd.leased(&lease);
        let taken = self.take_leased(wanted, &leased, patience, op).await;
        // Before the answer: nothing of it is in containerd then.
        let ended = containerd.delete_lease_and_collect(&lease).await.map_err(first.failed("end the lease"));
        taken.and(ended)
    }

    async fn take_leased(
        &self,
        wanted: Vec<Wanted>,
        leased: &Containerd,
        patience: &Patience,
        op: &Op,
    ) -> Result<(), ContainerError> {
        let mut held = Vec::new();
        let taken = self.hold_and_take(&wanted, &mut held, leased, patience, op).await;
        let released = join_all(held.iter().map(|(container, hold)| self.release(container, *hold)));
        let released =
            op.step("let the processes go on", released).await.into_iter().collect::<Result<(), _>>();
        let taken = taken?;
        released?;
        for (wanted, taken) in wanted.iter().zip(taken) {
            let folder = &wanted.folder;
            let fetched =
                patience.bound(fetch_changes(leased, &wanted.container, taken.layer, folder, patience));
            op.step("fetch the changed files", fetched).await?;
            self.write_dumps(&wanted.container, folder, taken.at, taken.log).await?;
        }
        Ok(())
    }

    /// What was held is in `held` however this ends.
    async fn hold_and_take(
        &self,
        wanted: &[Wanted],
        held: &mut Vec<(Arc<Container>, Hold)>,
        leased: &Containerd,
        patience: &Patience,
        op: &Op,
    ) -> Result<Vec<Taken>, ContainerError> {
        for one in wanted {
            make_folders(one).await?;
        }
        for Wanted { container, folder } in wanted {
            patience.check()?;
            let images = folder.join(archive::IMAGES);
            let hold = op.step("pause the processes", self.hold(container, &images)).await?;
            held.push((container.clone(), hold));
        }
        let at = Timestamp::now();
        let taking = wanted.iter().map(|one| {
            let (containers, one, leased, patience, op) =
                (self.clone(), one.clone(), leased.clone(), patience.clone(), op.clone());
            let id = one.container.id.clone();
            // Tasks of their own: even after a panic they are let go.
            let taking = tokio::spawn(async move {
                op.within(containers.take_one(&one, at, &leased, &patience, &op)).await
            });
            async move {
                taking.await.unwrap_or_else(|why| Err(ContainerError::Panicked { id, why: why.to_string() }))
            }
        });
        join_all(taking).await.into_iter().collect()
    }

    async fn take_one(
        &self,
        wanted: &Wanted,
        at: Timestamp,
        leased: &Containerd,
        patience: &Patience,
        op: &Op,
    ) -> Result<Taken, ContainerError> {
        let Wanted { container, folder } = wanted;
        let log = LogSoFar::of(container);
        op.step("dump the processes", self.dump(container, folder, patience)).await?;
        let changes = patience.bound(self.changes(container, leased));
        let layer = op.step("compare the root with its image", changes).await?;
        Ok(Taken { layer, at, log })
    }

    /// Has CRIU write the processes; it is ended when patience runs out.
    async fn dump(
        &self,
        container: &Container,
        folder: &Path,
        patience: &Patience,
    ) -> Result<(), ContainerError> {
        let images = folder.join(archive::IMAGES);
        let identity = FolderIdentity::of(&images).map_err(|source| ContainerError::Linux {
            step: "look at the folder for the checkpoint",
            id: container.id.clone(),
            source,
        })?;
        let dump = self.inner().containerd.checkpoint_task(container.id.as_str(), &images, folder);
        tokio::pin!(dump);
        let dumped = tokio::select! {
            dumped = &mut dump => dumped,
            over = patience.over() => {
                break_off(&images, identity, dump).await;
                return Err(over);
            }
        };
        dumped.map_err(|source| ContainerError::Dump {
            id: container.id.clone(),
            told: complaints(&folder.join(archive::DUMP_LOG)),
            source,
        })
    }

    /// What is new, changed and gone in the container's root, as a layer in the content store.
    async fn changes(
        &self,
        container: &Container,
        leased: &Containerd,
    ) -> Result<Descriptor, ContainerError> {
        let snapshotter = &container.facts().snapshotter;
        let key = SnapshotKey::from(&container.id);
        let name = self.inner().accounts.fresh_name();
        let view = SnapshotKey::new(name.as_str());
        let compare = async {
            let parent = leased.snapshot(snapshotter, &key).await?.parent;
            let upper = leased.snapshot_mounts(snapshotter, &key).await?;
            let lower = leased.view_snapshot(snapshotter, &view, parent.as_ref()).await?;
            leased.diff_layer(&name, &lower, &upper).await
        };
        compare.await.map_err(container.failed("compare the root with its image"))
    }
}

/// Ends a dump. Without its folder CRIU fails at the next file, and mends what it has done to the processes; killed, it
/// leaves them a mapping that they never look at.
async fn break_off(
    images: &Path,
    identity: FolderIdentity,
    mut dump: std::pin::Pin<&mut impl Future<Output = Result<(), ContainerdError>>>,
) {
    let path = images.to_owned();
    // CRIU may make a file in between.
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(&path).is_ok());
    let _ = removed.await;
    if tokio::time::timeout(GIVE_UP[0], &mut dump).await.is_ok() {
        return;
    }
    let killed = tokio::task::spawn_blocking(move || identity.kill_holders()).await.unwrap_or(0);
    tracing::warn!(killed, "a dump did not end by itself: its processes were killed");
    let _ = tokio::time::timeout(GIVE_UP[1], dump).await;
}

/// CRIU's lines of errors, as the end of a sentence; empty without any.
pub(super) fn complaints(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    // `(00.012345) Error (criu/tty.c:12): …`
    let errors = log.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): "));
    let told: Vec<_> = errors.map(|(_, text)| text.trim()).collect();
    match told.join("; ") {
        told if told.is_empty() => told,
        told => format!(", CRIU says: {}", told.chars().take(MAX_TOLD).collect::<String>()),
    }
}

async fn make_folders(wanted: &Wanted) -> Result<(), ContainerError> {
    let folder = wanted.folder.clone();
    let make = move || {
        for path in [folder.clone(), folder.join(archive::IMAGES)] {
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|source| ContainerError::File { action: "make", path, source })?;
        }
        Ok(())
    };
    blocking(&wanted.container.id, make).await
}

/// Gets the layer out of the content store, in the form that archives have it.
async fn fetch_changes(
    leased: &Containerd,
    container: &Container,
    layer: Descriptor,
    folder: &Path,
    patience: &Patience,
) -> Result<(), ContainerError> {
    let path = folder.join(archive::ROOTFS_DIFF).with_extension("layer");
    let failed = |path: &Path| ContainerError::file("write", path);
    let mut options = tokio::fs::File::options();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).await;
    let mut file = file.map_err(failed(&path))?;
    leased.copy_content(&layer.digest, &mut file).await.map_err(container.failed("read the changes"))?;
    let mut file = file.into_std().await;
    let (folder, patience) = (folder.to_owned(), patience.clone());
    let split = move || {
        let target = folder.join(archive::ROOTFS_DIFF);
        let created = File::options().write(true).create_new(true).mode(0o600).open(&target);
        let mut diff = Patient(BufWriter::new(created.map_err(failed(&target))?), patience);
        file.seek(SeekFrom::Start(0)).map_err(failed(&path))?;
        let deleted = changes::split(&mut file, &mut diff).and_then(|deleted| diff.flush().map(|()| deleted));
        let deleted = deleted.map_err(failed(&target))?;
        fs::remove_file(&path).map_err(failed(&path))?;
        if deleted.is_empty() {
            return Ok(());
        }
        let deleted = serde_json::to_vec(&deleted).expect("a list of texts");
        dumps::write_file(folder.join(archive::DELETED), &mut deleted.as_slice())
    };
    blocking(&container.id, split).await
}

/// An archive goes into a folder that is there, as a file.
fn check_location(location: &Path) -> Result<(), ContainerError> {
    let refuse = |why: String| Err(field::error("location", why).into());
    let (Some(folder), Some(_)) = (location.parent(), location.file_name()) else {
        return refuse(format!("{} names no file", location.display()));
    };
    if !folder.is_dir() {
        return refuse(format!("{} is not a folder on this node", folder.display()));
    }
    match fs::symlink_metadata(location) {
        Ok(there) if !there.is_file() => {
            refuse(format!("{} is there, and no plain file", location.display()))
        }
        _ => Ok(()),
    }
}

/// Writes the archive beside its place, and moves it there when it is whole.
async fn pack(
    container: &Container,
    folder: PathBuf,
    location: PathBuf,
    patience: Patience,
) -> Result<(), ContainerError> {
    let work = move || {
        let name = location.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let partial = location.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
        let packed = file::replace(&location, &partial, 0o600, |file| {
            archive::pack(&folder, Patient(BufWriter::new(file), patience.clone()))
        });
        // Of a pack that was broken off, why says more than the write that failed.
        let failed = ContainerError::file("write", &location);
        packed.map_err(|error| patience.check().err().unwrap_or_else(|| failed(error)))
    };
    blocking(&container.id, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_is_quoted() {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            log.path(),
            "(00.01) Running\n(00.02) Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using \
             --tcp-established option.\n(00.03) Error (criu/cr-dump.c:2128): Dumping FAILED.\n",
        )
        .unwrap();
        assert_eq!(
            complaints(log.path()),
            ", CRIU says: inet: Connected TCP socket, consider using --tcp-established option.; Dumping FAILED."
        );
        assert_eq!(complaints(Path::new("/nowhere")), "");
    }

    #[test]
    fn an_archive_goes_where_a_file_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path| check_location(path).map_err(|error| error.to_string());
        assert_eq!(told(&folder.path().join("c.tar")), Ok(()));
        fs::write(folder.path().join("old.tar"), "").unwrap();
        assert_eq!(told(&folder.path().join("old.tar")), Ok(()));
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        for bad in
            [folder.path().to_owned(), folder.path().join("no/c.tar"), folder.path().join("link"), "/".into()]
        {
            assert!(told(&bad).unwrap_err().starts_with("location: "), "{}", bad.display());
        }
    }
}
