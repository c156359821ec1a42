//! An image's /etc/passwd and /etc/group, read once per image: resolving a user then costs no mount (contract §4.7).

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ContainerError;
use crate::containerd::{Containerd, ContainerdError, SnapshotMount};
use crate::error::Errors;
use crate::id::{LeaseId, SnapshotKey};
use crate::image::Image;
use crate::linux::{LinuxError, mount, rootfs};
use crate::sandbox::gone_is_fine;

/// What an image says of its users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub passwd: Option<String>,
    pub group: Option<String>,
}

/// By snapshotter and chain ID.
pub(super) struct AccountCache {
    containerd: Containerd,
    /// With this begin the names of this process' views and leases; those of an earlier one differ.
    names: String,
    known: Mutex<HashMap<(String, SnapshotKey), Arc<Accounts>>>,
}

const PREFIX: &str = "cridge-view-";
/// Larger files are refused, as containerd does.
const MAX_FILE: u64 = 10 << 20;
/// Images remembered; beyond, memory starts anew (a node runs a few dozen).
const MAX_KNOWN: usize = 256;
/// Should the daemon die while a view is mounted, containerd forgets the view's lease after this.
const LEASE: Duration = Duration::from_secs(600);

impl AccountCache {
    pub fn new(containerd: Containerd) -> Self {
        let names = format!("{PREFIX}{:016x}-", rand::random::<u64>());
        Self { containerd, names, known: Mutex::default() }
    }

    /// Removes the views, and their leases, that an earlier process left when it was killed.
    pub async fn end_stale(&self, snapshotters: &BTreeSet<String>) -> Result<(), ContainerdError> {
        for lease in self.containerd.leases().await? {
            let name = lease.id.as_str();
            if !name.starts_with(PREFIX) || name.starts_with(&self.names) {
                continue;
            }
            for snapshotter in snapshotters {
                gone_is_fine(self.containerd.remove_snapshot(snapshotter, &SnapshotKey::new(name)).await)?;
            }
            self.containerd.delete_lease(&lease.id).await?;
        }
        Ok(())
    }

    /// The accounts of the image; `scratch` is a folder for a mount that lives as long
    /// as this call.
    pub async fn of(
        &self,
        snapshotter: &str,
        image: &Image,
        scratch: &Path,
    ) -> Result<Arc<Accounts>, ViewError> {
        let key = (snapshotter.to_owned(), image.chain_id.clone());
        if let Some(accounts) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(accounts.clone());
        }
        let accounts = Arc::new(self.look_into(snapshotter, image, scratch, Accounts::read).await?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, accounts.clone());
        Ok(accounts)
    }

    /// Names a view and its lease, so that `end_stale` of a later process finds both.
    pub fn fresh_name(&self) -> String {
        format!("{}{:016x}", self.names, rand::random::<u64>())
    }

    /// Has `read` look at the image's files, which must be unpacked; `scratch` is likewise.
    pub async fn look_into<T, F>(
        &self,
        snapshotter: &str,
        image: &Image,
        scratch: &Path,
        read: F,
    ) -> Result<T, ViewError>
    where
        T: Send + 'static,
        F: FnOnce(&Path) -> Result<T, LinuxError> + Send + 'static,
    {
        let target = scratch.join(format!("view-{:016x}", rand::random::<u64>()));
        let name = self.fresh_name();
        let (lease, key) = (LeaseId::new(name.as_str()), SnapshotKey::new(name.as_str()));
        self.containerd.create_lease(&lease, Some(LEASE)).await?;
        let leased = self.containerd.leased(&lease);
        let mut errors = Errors::default();
        let read = match leased.view_snapshot(snapshotter, &key, image.parent()).await {
            Ok(mounts) => {
                let read = with_mounted(mounts, target, read).await;
                errors.keep(self.containerd.remove_snapshot(snapshotter, &key).await);
                read.map_err(ViewError::from)
            }
            Err(error) => Err(error.into()),
        };
        errors.keep(self.containerd.delete_lease(&lease).await);
        if let Err(errors) = errors.into_result() {
            tracing::warn!("the view of an image stays until its lease ends: {errors}");
        }
        read
    }
}

/// Why an image cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub(super) enum ViewError {
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    #[error(transparent)]
    Linux(#[from] LinuxError),
}

impl ViewError {
    pub fn at(self, step: &'static str, id: &crate::id::ContainerId) -> ContainerError {
        let id = id.clone();
        match self {
            Self::Containerd(source) => ContainerError::Containerd { step, id, source },
            Self::Linux(source) => ContainerError::Linux { step, id, source },
        }
    }
}

impl Accounts {
    fn read(root: &Path) -> Result<Self, LinuxError> {
        Ok(Self {
            passwd: rootfs::read_text(root, Path::new("etc/passwd"), MAX_FILE)?,
            group: rootfs::read_text(root, Path::new("etc/group"), MAX_FILE)?,
        })
    }
}

/// Mounts a snapshot at `target` (made for it, and removed), runs `work` on it, unmounts.
pub(super) async fn with_mounted<T, F>(
    mounts: Vec<SnapshotMount>,
    target: PathBuf,
    work: F,
) -> Result<T, LinuxError>
where
    T: Send + 'static,
    F: FnOnce(&Path) -> Result<T, LinuxError> + Send + 'static,
{
    let broken_off = LinuxError::on("work on", &target);
    let blocking = move || {
        std::fs::create_dir_all(&target).map_err(LinuxError::on("make", &target))?;
        let mounted = mounts.iter().try_for_each(|m| mount::mount(&m.kind, &m.source, &target, &m.options));
        let result = mounted.and_then(|()| work(&target));
        mount::unmount_all(&target)?;
        // Not recursive: were it still mounted, its content must stay.
        let _ = std::fs::remove_dir(&target);
        result
    };
    tokio::task::spawn_blocking(blocking)
        .await
        .unwrap_or_else(|why| Err(broken_off(std::io::Error::other(why))))
}
