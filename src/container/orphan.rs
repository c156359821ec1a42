//! Containers whose shim is dead: nobody tells of their ends, and what they run runs on.
//!
//! Of the containers that share a shim, containerd from 2.0 to 2.3 ends but the one for which that was started, the
//! pause. It has no words for the others but "ttrpc: closed", and then knows no task of theirs any more.

use super::{Container, ContainerError, Containers};
use crate::work::{Op, Operation};

impl Containers {
    /// Whether its shim is dead: of what it runs, or has run, nobody tells any more.
    pub(super) async fn is_orphan(&self, container: &Container) -> bool {
        let ids = [container.pod.as_str(), container.id.as_str()];
        self.inner().containerd.has_shim(&ids).await.is_ok_and(|there| !there)
    }

    /// Ends a container that containerd knows no task of any more, and whose last words have not come.
    pub async fn end_untold(&self, container: &Container) -> Result<(), ContainerError> {
        let op = self.begin(container, Operation::Exit);
        op.run(self.end_orphan(container, &op)).await
    }

    pub(super) async fn end_orphan(&self, container: &Container, op: &Op) -> Result<(), ContainerError> {
        tracing::warn!(container = %container.id, "its shim is dead: it is ended without");
        op.step("clear the cgroup", self.clear_cgroup(container)).await?;
        match self.witnessed_end(container) {
            Some(exit) => self.exited(container, exit).await,
            None => self.lost(container).await,
        }
    }
}
