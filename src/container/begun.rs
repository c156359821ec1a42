//! A start that was begun. Between the task's start and RUNNING being written down, the container may run and end: should
//! the daemon die then, and containerd let go of what has ended, nothing else would say that it ever ran, and it would be
//! run once more. So a mark on disk is there before the task is started.

use std::fs;
use std::path::PathBuf;

use super::error::blocking;
use super::{Container, ContainerError, ContainerState, Containers};
use crate::id::ContainerId;
use crate::linux::file;
use crate::work::Operation;

/// In a container's root folder. It says nothing of one that is written down as running, or as ended.
const MARK: &str = "begun";

impl Containers {
    pub(super) async fn mark_begun(&self, container: &Container) -> Result<(), ContainerError> {
        let mark = self.mark_of(&container.id);
        let make = move || fs::write(&mark, "").map_err(ContainerError::file("make", &mark));
        blocking(&container.id, make).await
    }

    /// Whether a start of it was begun, whatever came of that. Blocks.
    pub fn was_begun(&self, id: &ContainerId) -> bool {
        self.mark_of(id).exists()
    }

    /// Nothing has come of a start that was begun, and nothing will: it may be started.
    pub async fn never_begun(&self, container: &Container) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::Recovery);
        let unmarked = async {
            let _turn = self.turn(container, &op).await?;
            if !matches!(container.facts().state, ContainerState::Begun { .. }) {
                return Ok(());
            }
            let mark = self.mark_of(&container.id);
            let remove = move || file::remove(&mark).map_err(ContainerError::file("remove", &mark));
            op.step("note that it was not started", blocking(&container.id, remove)).await?;
            self.becomes(container, ContainerState::Created);
            Ok(())
        };
        op.run(unmarked).await
    }

    fn mark_of(&self, id: &ContainerId) -> PathBuf {
        self.root_dir(id).join(MARK)
    }
}
