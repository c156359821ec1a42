//! How each kind of thing goes. What has an id is removed only while containerd has no record of it.

use std::path::{Path, PathBuf};

use super::judge::Thing;
use super::{Fsck, FsckError};
use crate::containerd::Shim;
use crate::id::PodId;
use crate::linux::{cgroup, cgroup_names, file, mount, netns};
use crate::sandbox::{end_task, gone_is_fine};
use crate::spec;
use crate::work::{About, Operation, Work};

impl Fsck {
    /// Removes it, or says why not. Idempotent.
    pub(super) async fn remove(&self, thing: &Thing) -> Result<(), FsckError> {
        match thing {
            Thing::Shim(shim) => return self.end_shim(shim).await,
            Thing::Container { id, pod, .. } => {
                self.has_no_record(pod).await?;
                return self.remove_container(id).await;
            }
            Thing::Name { .. } => return Err(FsckError::Undecided),
            Thing::Cgroup { id, .. } | Thing::Mount { id, .. } | Thing::Folder { id, .. } => {
                self.has_no_record(id).await?;
            }
            Thing::Snapshot { id, .. } | Thing::SandboxRecord(id) => self.has_no_record(id).await?,
            Thing::Lease(id) => self.has_no_record(id.as_str()).await?,
            Thing::Trace(trace) => self.has_no_record(trace.container_id.as_str()).await?,
            Thing::Pin(_) => {}
        }
        self.remove_ownerless(thing).await
    }

    async fn remove_ownerless(&self, thing: &Thing) -> Result<(), FsckError> {
        let containerd = &self.containerd;
        match thing.clone() {
            Thing::Cgroup { folders, .. } => {
                let remove = move || folders.iter().try_for_each(|folder| cgroup_names::remove_empty(folder));
                blocking(move || Ok(remove()?)).await
            }
            Thing::Trace(trace) => {
                let networks = self.handlers.default_handler().networks;
                let lock = self.lock_of(&trace.container_id);
                Ok(networks.take_back(&trace, lock).await?)
            }
            Thing::Pin(path) => Ok(netns::remove(&path).await?),
            Thing::Mount { path, .. } => blocking(move || Ok(mount::unmount_all(&path)?)).await,
            Thing::Folder { path, .. } => blocking(move || remove_folder(&path)).await,
            Thing::Snapshot { snapshotter, key, .. } => {
                Ok(gone_is_fine(containerd.remove_snapshot(&snapshotter, &key).await)?)
            }
            Thing::Lease(id) => Ok(containerd.delete_lease(&id).await?),
            Thing::SandboxRecord(id) => Ok(containerd.delete_sandbox_record(&id).await?),
            Thing::Shim(_) | Thing::Container { .. } | Thing::Name { .. } => Ok(()),
        }
    }

    /// Fails where somebody has got that id in the meantime.
    async fn has_no_record(&self, id: &str) -> Result<(), FsckError> {
        if self.has_record(id).await? { Err(FsckError::Owned { id: id.to_owned() }) } else { Ok(()) }
    }

    /// Ends a shim that has no task. A record it may have: containerd loses shims of those too.
    async fn end_shim(&self, shim: &Shim) -> Result<(), FsckError> {
        if self.has_task(&shim.id).await? {
            return Err(FsckError::Owned { id: shim.id.clone() });
        }
        Ok(shim.end().await?)
    }

    /// The record goes last, as it does otherwise; what has no other trace of its id goes before.
    async fn remove_container(&self, id: &str) -> Result<(), FsckError> {
        let containerd = &self.containerd;
        let record = match containerd.container(id).await {
            Err(error) if error.is_not_found() => return Ok(()),
            record => record?,
        };
        // Nobody's: it is in no record.
        let op = Work::default().begin(Operation::Recovery, &About::default());
        op.end(end_task(containerd, id, &op).await)?;
        if let Ok(spec) = serde_json::from_slice(&record.spec) {
            let (path, id) = (spec::cgroups_path_of(&spec), id.to_owned());
            blocking(move || Ok(cgroup::clear(&path, &id)?)).await?;
        }
        gone_is_fine(containerd.remove_snapshot(&record.snapshotter, &record.snapshot_key).await)?;
        Ok(gone_is_fine(containerd.delete_container(id).await)?)
    }

    /// Held by the CNI plugins of a pod (`network`).
    fn lock_of(&self, id: &PodId) -> PathBuf {
        self.config.root.join("sandboxes").join(id.as_str()).join("cni.lock")
    }
}

/// Unmounts what is mounted in the folder, then removes it: never the content of a mount.
fn remove_folder(folder: &Path) -> Result<(), FsckError> {
    let mounts = mount::mounts()?;
    let inside = mounts.iter().rev().filter(|mount| mount.mount_point.starts_with(folder));
    inside.map(|mount| &mount.mount_point).try_for_each(|path| mount::unmount_all(path))?;
    let failed = |source| FsckError::File { action: "remove", path: folder.to_owned(), source };
    file::remove_tree(folder).map_err(failed)
}

async fn blocking(work: impl FnOnce() -> Result<(), FsckError> + Send + 'static) -> Result<(), FsckError> {
    tokio::task::spawn_blocking(work).await.map_err(FsckError::BrokenOff)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::require_root;

    #[test]
    fn a_folder_goes_without_what_is_mounted_in_it() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("folder"), dir.path().join("other"));
        std::fs::create_dir_all(folder.join("shm")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("file"), "kept").unwrap();
        mount::tmpfs(&folder.join("shm"), 1 << 20, 0o755, (0, 0)).unwrap();
        std::fs::create_dir(folder.join("shm/bound")).unwrap();
        let bind = ["bind".to_owned()];
        mount::mount("bind", other.to_str().unwrap(), &folder.join("shm/bound"), &bind).unwrap();
        for _ in 0..2 {
            remove_folder(&folder).unwrap();
            assert!(!folder.exists());
        }
        assert_eq!(std::fs::read_to_string(other.join("file")).unwrap(), "kept");
        assert!(!mount::mounts().unwrap().iter().any(|mount| mount.mount_point.starts_with(dir.path())));
    }
}
