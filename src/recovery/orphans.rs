//! Folders of sandboxes and containers that containerd does not know: what a kill between a record's end and its
//! folders' left behind.

use std::collections::HashSet;
use std::path::Path;

use crate::container::Containers;
use crate::containerd::ContainerRecord;
use crate::id::{ContainerId, PodId};
use crate::linux::mount;

/// Removes the folders that belong to no record and to nothing in the making. Only names that are ids are touched.
pub(super) fn remove_folders(containers: &Containers, pods: &[ContainerRecord], rest: &[ContainerRecord]) {
    let sandboxes = containers.sandboxes();
    let known: HashSet<&str> = pods.iter().chain(rest).map(|record| record.id.as_str()).collect();
    let sample_pod = PodId::generate();
    let sample_container = ContainerId::generate();
    let pod_roots = [
        sandboxes.root_dir(&sample_pod),
        sandboxes.state_dir(&sample_pod),
        sandboxes.image_volumes_dir(&sample_pod),
    ];
    let container_roots = [containers.root_dir(&sample_container), containers.state_dir(&sample_container)];
    for root in pod_roots.iter().chain(&container_roots).filter_map(|path| path.parent()) {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(id) = name.to_str().filter(|name| PodId::parse(name).is_ok()) else { continue };
            let in_the_making = sandboxes.entry(id).is_some() || containers.entry(id).is_some();
            if !known.contains(id) && !in_the_making {
                remove(&entry.path());
            }
        }
    }
}

/// Unmounts what is mounted in the folder, then removes it: never the content of a mount.
fn remove(folder: &Path) {
    let unmounted = mount::mounts().and_then(|mounts| {
        let inside = mounts.iter().rev().filter(|mount| mount.mount_point.starts_with(folder));
        inside.map(|mount| &mount.mount_point).try_for_each(|path| mount::unmount_all(path))
    });
    if let Err(error) = unmounted {
        tracing::warn!("{} belongs to nobody, but stays: {}", folder.display(), crate::error::chain(&error));
        return;
    }
    match std::fs::remove_dir_all(folder) {
        Ok(()) => tracing::info!("removed {}, which belongs to nobody", folder.display()),
        Err(error) => tracing::warn!("{} belongs to nobody, but stays: {error}", folder.display()),
    }
}
