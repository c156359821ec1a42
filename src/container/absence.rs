//! Containers' streams while there is no daemon: left such that a container can go on writing, and found again with
//! whatever it wrote last.

use std::collections::HashSet;

use super::{Container, ContainerError, Containers};
use crate::io::Keeper;

impl Containers {
    /// Who keeps the container's ends of its streams.
    pub(super) fn keeper(&self, container: &Container) -> Keeper {
        Keeper::new(self.inner().fd_store.clone(), container.id.as_str())
    }

    /// Reads what was kept of a container whose task is gone into its log, if anything was.
    pub async fn read_kept(&self, container: &Container) -> Result<(), ContainerError> {
        let terminal = container.facts().metadata.config.tty;
        match self.keeper(container).fifos(terminal) {
            Some(fifos) => self.read_into_log(container, fifos).await,
            None => Ok(()),
        }
    }

    /// Has nothing kept any more of containers that have ended, or that nobody knows. Call once all are known.
    pub fn forget_kept_of_others(&self) {
        let store = &self.inner().fd_store;
        let untaken = store.untaken();
        if untaken.is_empty() {
            return;
        }
        let all = self.all();
        let living = all.iter().filter(|container| !container.facts().state.is_exited());
        let wanted: HashSet<String> = living.flat_map(|container| self.keeper(container).names()).collect();
        for name in untaken.iter().filter(|name| !wanted.contains(*name)) {
            tracing::debug!(name, "no container's: kept no longer");
            store.forget(name);
        }
    }

    /// Leaves all containers to themselves: nothing is read from here on, and their pipes are as wide as can be. Call at
    /// the daemon's end.
    pub async fn leave_streams(&self) {
        for container in self.all() {
            // Unless somebody waits for its last output, and does so to the end.
            let Ok(mut io) = container.io.try_lock() else { continue };
            if let Some(io) = io.take() {
                io.leave().await;
            }
            // Locked for good: whoever notes an end now must not take what is unread for nothing.
            std::mem::forget(io);
        }
    }
}
