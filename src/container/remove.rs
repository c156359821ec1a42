//! RemoveContainer, and the undo of a creation that failed: the same way down, each step idempotent.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::blocking;
use super::{Container, ContainerError, Containers};
use crate::error::{Errors, chain};
use crate::id::SnapshotKey;
use crate::linux::{cgroup, file};
use crate::sandbox::{Rootfs, end_task, gone_is_fine};
use crate::work::{Op, Operation};

impl Containers {
    /// Removes a container with all it owns, killing it first where it runs (CRI RemoveContainer).
    pub async fn remove(&self, container: &Container) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::RemoveContainer);
        let removed = async {
            // By way of a stop, so that whoever waits for its end is told the true one.
            if let Err(error) = self.bring_down(container, Duration::ZERO, &op).await {
                tracing::warn!(container = %container.id, "removed without having been stopped: {}", chain(&error));
            }
            match self.turn(container, &op).await {
                Ok(_turn) => self.remove_all_of(container, &op).await,
                // Another call has done it while this one waited.
                Err(_) => Ok(()),
            }
        };
        op.run(removed).await
    }

    /// The operation has the container's turn. The record goes last: as long as it stands, the container is known.
    pub(super) async fn remove_all_of(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        let containerd = &self.inner().containerd;
        let id = container.id.as_str();
        let mut errors = Errors::default();
        if !container.reaped.load(Ordering::Relaxed) {
            errors.keep(end_task(containerd, id, op).await.map_err(container.failed("end the task")));
            errors.keep(op.step("clear the cgroup", self.clear_cgroup(container)).await);
        }
        // Ends the pumps and closes our ends of the FIFOs, which go with the state folder.
        *op.step("close the streams", container.io.lock()).await = None;
        self.keeper(container).forget_all();
        if errors.is_empty() {
            let key = SnapshotKey::from(&container.id);
            let snapshotter = container.facts().snapshotter.clone();
            let (snapshot, folders) = tokio::join!(
                op.step("remove the snapshot", containerd.remove_snapshot(&snapshotter, &key)),
                op.step("remove the folders", self.remove_folders(container)),
            );
            errors.keep(gone_is_fine(snapshot).map_err(container.failed("remove the snapshot")));
            errors.keep(folders);
        }
        if errors.is_empty() {
            let record = gone_is_fine(op.step("delete the record", containerd.delete_container(id)).await);
            if errors.keep(record.map_err(container.failed("delete the record"))).is_some() {
                self.forget(container);
            }
        }
        errors.into_result().map_err(|source| ContainerError::Teardown { id: container.id.clone(), source })
    }

    /// A task whose creation was broken off is unknown to containerd, and may have left a process.
    pub(super) async fn clear_cgroup(&self, container: &Container) -> Result<(), ContainerError> {
        let (path, id) = (container.facts().cgroups_path.clone(), container.id.clone());
        let failed = {
            let id = id.clone();
            move |source| ContainerError::Linux { step: "clear the cgroup", id, source }
        };
        blocking(&container.id, move || cgroup::clear(&path, id.as_str()).map_err(failed)).await
    }

    async fn remove_folders(&self, container: &Container) -> Result<(), ContainerError> {
        let (state, id) = (self.state_dir(&container.id), container.id.clone());
        let folders = [state.clone(), self.root_dir(&container.id)];
        let remove = move || {
            // Views of layers that a kill amid a start has left: what they show is not this container's.
            Rootfs::unmount(&state).map_err(|source| {
                let step = "unmount the layers";
                ContainerError::Linux { step, id, source }
            })?;
            let remove =
                |path: &PathBuf| file::remove_tree(path).map_err(ContainerError::file("remove", path));
            folders.iter().try_for_each(remove)
        };
        blocking(&container.id, remove).await
    }
}
