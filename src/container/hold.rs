//! A container held still while its state is taken, and let go again whatever comes in between.
//!
//! The CRI knows no paused containers: one that stays so looks like a hang. A mark on disk, there before the pause and
//! gone after the release, has a later daemon let go what an earlier one, killed meanwhile, did not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::blocking;
use super::{Container, ContainerError, Containers};
use crate::containerd::TaskState;
use crate::error::{Kind, chain};
use crate::linux::{cgroup, file, process::FolderIdentity};

/// In a container's root folder; holds the path of the folder that CRIU writes to.
const MARK: &str = "held";
/// How often a container is told to go on, and how long in between.
const RELEASE: (u32, Duration) = (5, Duration::from_millis(100));

/// What is to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Paused,
    /// Somebody else had paused it, and it stays so.
    Found,
}

impl Containers {
    /// Stops all processes of a running container where they are; `images` is where CRIU will write to.
    pub(super) async fn hold(&self, container: &Container, images: &Path) -> Result<Hold, ContainerError> {
        let containerd = &self.inner().containerd;
        let id = container.id.as_str();
        container.facts().state.running().map_err(|source| container.denied(source))?;
        let task = containerd.task(id).await.map_err(container.failed("look at the task"))?;
        if task.state == TaskState::Paused {
            return Ok(Hold::Found);
        }
        self.mark(container, images).await?;
        match containerd.pause_task(id).await {
            Ok(()) => Ok(Hold::Paused),
            Err(error) => {
                // It may be paused all the same, should the answer have been lost.
                self.release(container, Hold::Paused).await?;
                Err(container.failed("pause the processes")(error))
            }
        }
    }

    /// Lets a held container go on. One that has ended meanwhile is fine.
    pub(super) async fn release(&self, container: &Container, hold: Hold) -> Result<(), ContainerError> {
        if hold == Hold::Found {
            return Ok(());
        }
        let containerd = &self.inner().containerd;
        let id = container.id.as_str();
        let mut tries = 1;
        loop {
            let Err(error) = containerd.resume_task(id).await else { break };
            match containerd.task(id).await.map(|task| task.state) {
                Ok(TaskState::Paused | TaskState::Pausing) => {}
                Err(away) if away.kind() == Kind::Unavailable => {
                    return Err(container.failed("resume the processes")(away));
                }
                // It runs, or there is nothing to run any more.
                _ => break,
            }
            if tries == RELEASE.0 {
                return Err(container.failed("resume the processes")(error));
            }
            tries += 1;
            // CRIU thaws what it dumps; killed then, it leaves a shim that holds the container for paused and a runc
            // that refuses to resume what is not. Frozen again, both agree.
            let path = container.facts().cgroups_path.clone();
            let frozen = tokio::task::spawn_blocking(move || cgroup::freeze(&path)).await;
            if let Ok(Err(error)) = frozen {
                tracing::warn!(container = %container.id, "{}", chain(&error));
            }
            tokio::time::sleep(RELEASE.1).await;
        }
        self.unmark(container).await
    }

    /// Lets go what a killed daemon held, once CRIU, which may still be at work for it, is ended; and removes what it
    /// had written of it. A checkpoint that is being made now is left alone.
    pub async fn end_stale_checkpoints(&self) {
        for container in self.all() {
            let Ok(_one) = container.checkpointing.try_lock() else { continue };
            if let Err(error) = self.end_stale_checkpoint(&container).await {
                tracing::warn!(container = %container.id, "it may still be paused: {}", chain(&error));
            }
        }
    }

    async fn end_stale_checkpoint(&self, container: &Container) -> Result<(), ContainerError> {
        let mark = self.root_dir(&container.id).join(MARK);
        let folder = self.checkpoint_dir(container);
        let read = move || {
            let images = match fs::read_to_string(&mark) {
                Ok(images) => PathBuf::from(images),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(source) => return Err(ContainerError::File { action: "read", path: mark, source }),
            };
            if let Ok(identity) = FolderIdentity::of(&images) {
                identity.kill_holders();
            }
            Ok(true)
        };
        let held = blocking(&container.id, read).await?;
        if held {
            tracing::info!(container = %container.id, "a checkpoint of it was broken off: it goes on");
            self.release(container, Hold::Paused).await?;
        }
        self.remove_folder(container, folder).await
    }

    /// Where a container's state is gathered before it is packed.
    pub(super) fn checkpoint_dir(&self, container: &Container) -> PathBuf {
        self.root_dir(&container.id).join("checkpoint")
    }

    pub(super) async fn remove_folder(
        &self,
        container: &Container,
        path: PathBuf,
    ) -> Result<(), ContainerError> {
        let remove = move || file::remove_tree(&path).map_err(ContainerError::file("remove", &path));
        blocking(&container.id, remove).await
    }

    async fn mark(&self, container: &Container, images: &Path) -> Result<(), ContainerError> {
        let path = self.root_dir(&container.id).join(MARK);
        let text = images.display().to_string();
        let write = move || fs::write(&path, text).map_err(ContainerError::file("write", &path));
        blocking(&container.id, write).await
    }

    async fn unmark(&self, container: &Container) -> Result<(), ContainerError> {
        let path = self.root_dir(&container.id).join(MARK);
        let remove = move || file::remove(&path).map_err(ContainerError::file("remove", &path));
        blocking(&container.id, remove).await
    }
}
