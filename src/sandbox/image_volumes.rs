//! Images mounted into a pod's containers (CRI `Mount.image`): one read-only mount for each pod and image, made when
//! first asked for, gone with the sandbox.
//!
//! Place, snapshot key and lease are the built-in plugin's, so that either side can take down what the other mounted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::blocking;
use super::{Handler, Rootfs, Sandbox, SandboxError, Sandboxes};
use crate::error::Errors;
use crate::id::{LeaseId, PodId, SnapshotKey};
use crate::image::Image;
use crate::linux::{file, mount};
use crate::work::Operation;

impl Sandboxes {
    /// The host folder where the image is mounted for this pod.
    pub async fn mount_image(
        &self,
        sandbox: &Sandbox,
        handler: &Handler,
        image: &Image,
    ) -> Result<PathBuf, SandboxError> {
        // One at a time, and none while the sandbox goes down.
        let op = sandbox.begin(Operation::CreateContainer);
        let _turn = op.turn().await;
        op.run(op.step("mount an image", self.mount_in_turn(sandbox, handler, image))).await
    }

    async fn mount_in_turn(
        &self,
        sandbox: &Sandbox,
        handler: &Handler,
        image: &Image,
    ) -> Result<PathBuf, SandboxError> {
        sandbox.pause_pid()?;
        let target = self.image_volumes_dir(&sandbox.id).join(image.target.digest.hex());
        if is_mounted(&target) {
            return Ok(target);
        }
        let inner = self.inner();
        let failed = |step| move |source| SandboxError::Containerd { step, id: sandbox.id.clone(), source };
        let snapshotter = handler.snapshotter.as_str();
        inner
            .images
            .ensure_unpacked(image, snapshotter)
            .await
            .map_err(|error| SandboxError::Image(error.into()))?;
        let lease = LeaseId::new(sandbox.id.as_str());
        inner.containerd.create_lease(&lease, None).await.map_err(failed("take a lease"))?;
        let leased = inner.containerd.leased(&lease);
        let key = key(&target);
        let mounts = match leased.view_snapshot(snapshotter, &key, image.parent()).await {
            Err(error) if error.is_there_already() => leased.snapshot_mounts(snapshotter, &key).await,
            other => other,
        };
        let mounts = mounts.map_err(failed("view the image"))?;
        let users = sandbox.users()?.map(|(_, path)| path);
        let rootfs = Rootfs::new(mounts, users, self.state_dir(&sandbox.id))
            .await
            .map_err(|source| SandboxError::Mount { path: target.clone(), source })?;
        let mounts = rootfs.labelled(&self.selinux().shared_files(sandbox));
        let mounted = target.clone();
        let work = move || {
            let made = |source| SandboxError::File { action: "make", path: mounted.clone(), source };
            std::fs::create_dir_all(&mounted).map_err(made)?;
            for one in &mounts {
                mount::mount(&one.kind, &one.source, &mounted, &one.options)
                    .map_err(|source| SandboxError::Mount { path: mounted.clone(), source })?;
            }
            Ok(())
        };
        let done = blocking(&sandbox.id, work).await;
        rootfs.release();
        done.map(|()| target)
    }

    /// Unmounts every image of the pod and removes its snapshots. The operation has the sandbox's turn.
    pub(super) async fn unmount_images(&self, sandbox: &Sandbox) -> Result<(), SandboxError> {
        let dir = Arc::new(self.image_volumes_dir(&sandbox.id));
        let listed = dir.clone();
        let targets = blocking(&sandbox.id, move || unmount_all(&listed)).await?;
        let snapshotter = self.snapshotter_of(sandbox);
        let mut errors = Errors::default();
        for target in &targets {
            let removed = self.inner().containerd.remove_snapshot(&snapshotter, &key(target)).await;
            errors.keep(super::gone_is_fine(removed));
        }
        errors.keep(file::remove_folder(&dir).map_err(|source| SandboxError::File {
            action: "remove",
            path: dir.to_path_buf(),
            source,
        }));
        errors.into_result().map_err(|source| SandboxError::Teardown { id: sandbox.id.clone(), source })
    }

    /// `<state>/image-volumes/<pod>`.
    pub fn image_volumes_dir(&self, id: &PodId) -> PathBuf {
        self.inner().config.now().state.join("image-volumes").join(id.as_str())
    }
}

/// The snapshot's key is the mount's path: whoever finds the one finds the other.
fn key(target: &Path) -> SnapshotKey {
    SnapshotKey::new(target.display().to_string())
}

fn is_mounted(target: &Path) -> bool {
    mount::mounts().is_ok_and(|mounts| mounts.iter().any(|mount| mount.mount_point == target))
}

/// Unmounts and removes every folder below `dir`; their paths. A `dir` that is not there has none. Blocking.
fn unmount_all(dir: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SandboxError::File { action, path, source }
    };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(file("list", dir))?,
    };
    let mut targets = Vec::new();
    for entry in entries {
        let target = entry.map_err(file("list", dir))?.path();
        mount::unmount_all(&target).map_err(|source| SandboxError::Mount { path: target.clone(), source })?;
        std::fs::remove_dir(&target).map_err(file("remove", &target))?;
        targets.push(target);
    }
    Ok(targets)
}
