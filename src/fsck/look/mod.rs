//! Collectors: what there is, and who may own it.

mod folders;
mod kernel;
mod records;

use std::path::PathBuf;
use std::sync::Arc;

use super::seen::{Making, Seen, Snapshot, TraceSeen};
use super::{Fsck, FsckError};
use crate::containerd::SnapshotKind;
use crate::id::is_id;
use crate::linux::netns;

impl Fsck {
    /// Looks at things, and then at who may own them: what is made meanwhile is seen with its owner or not at all.
    /// `making` is asked last.
    pub(super) async fn look(&self, making: impl FnOnce() -> Making) -> Result<Seen, FsckError> {
        let mut seen = self.things_of_the_node().await?;
        seen.snapshots = self.snapshots().await?;
        let (tasks, leases, sandboxes) =
            tokio::try_join!(self.containerd.tasks(), self.containerd.leases(), self.containerd.sandboxes())?;
        seen.tasks = tasks.iter().map(kernel::task).collect();
        seen.leases = leases.into_iter().map(|lease| lease.id).collect();
        seen.sandboxes = sandboxes;
        seen.records = self.records().await?;
        seen.making = making();
        Ok(seen)
    }

    async fn things_of_the_node(&self) -> Result<Seen, FsckError> {
        let roots = self.snapshot_roots().await?;
        let fsck = self.clone();
        let look = move || {
            Ok(Seen {
                shims: kernel::shims(&fsck.containerd),
                cgroups: crate::linux::cgroup_names::named(fsck.containerd.namespace()),
                traces: fsck.traces()?,
                pins: kernel::pins(&fsck.config.network.netns_dir),
                mounts: kernel::mounts(&fsck.config, &roots, fsck.containerd.namespace())?,
                folders: folders::folders(&fsck.config)?,
                ..Seen::default()
            })
        };
        tokio::task::spawn_blocking(look).await.map_err(FsckError::BrokenOff)?
    }

    /// Where this containerd keeps the layers that containers are made of: whose a rootfs is, its layers tell.
    async fn snapshot_roots(&self) -> Result<Arc<[PathBuf]>, FsckError> {
        let plugins = self.containerd.plugins().await?;
        let snapshotters = plugins.iter().filter(|plugin| plugin.kind == "io.containerd.snapshotter.v1");
        Ok(snapshotters.filter_map(|plugin| plugin.exports.get("root")).map(PathBuf::from).collect())
    }

    /// Of all handlers' networks, each trace once.
    fn traces(&self) -> Result<Vec<TraceSeen>, FsckError> {
        let mut found: Vec<TraceSeen> = Vec::new();
        for handler in self.handlers.all() {
            for trace in handler.networks.traces()? {
                if !found.iter().any(|seen| seen.trace.file == trace.file) {
                    let has_netns = trace.netns.as_deref().is_some_and(netns::is_pinned);
                    found.push(TraceSeen { trace, has_netns });
                }
            }
        }
        Ok(found)
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>, FsckError> {
        let mut names: Vec<_> = self.handlers.all().into_iter().map(|handler| handler.snapshotter).collect();
        names.sort();
        names.dedup();
        let volumes = self.config.state.join("image-volumes");
        let mut found = Vec::new();
        for snapshotter in names {
            for info in self.containerd.snapshots(&snapshotter).await? {
                let id = id_of(info.key.as_str(), &volumes);
                if let Some(id) = id.filter(|_| info.kind != SnapshotKind::Committed) {
                    found.push(Snapshot { snapshotter: snapshotter.clone(), key: info.key.clone(), id });
                }
            }
        }
        Ok(found)
    }
}

/// The id in a snapshot's key: a container's own, or the path of an image that is mounted for a pod.
fn id_of(key: &str, volumes: &std::path::Path) -> Option<String> {
    let below = std::path::Path::new(key).strip_prefix(volumes).ok();
    let name = match below {
        Some(path) => path.iter().next()?.to_str()?,
        None => key,
    };
    is_id(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_snapshots_key_tells_whose_it_is() {
        let id = "a".repeat(64);
        let of = |key: &str| id_of(key, Path::new("/state/image-volumes"));
        assert_eq!(of(&id), Some(id.clone()));
        assert_eq!(of(&format!("/state/image-volumes/{id}/0123")), Some(id.clone()));
        for other in [format!("/other/image-volumes/{id}/0"), format!("sha256:{id}"), "cridge-view-1".into()]
        {
            assert_eq!(of(&other), None, "{other}");
        }
    }
}
