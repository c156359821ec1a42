//! Folders of sandboxes and containers that containerd does not know: what a kill between a record's end and its
//! folders' left behind.

use std::collections::HashSet;
use std::path::Path;

use crate::container::Containers;
use crate::containerd::ContainerRecord;
use crate::id::PodId;
use crate::linux::mount;

/// Removes the folders that belong to no record and to nothing in the making. Only names that are ids are touched.
pub(super) fn remove_folders(containers: &Containers, pods: &[ContainerRecord], rest: &[ContainerRecord]) {
    let sandboxes = containers.sandboxes();
    let known: HashSet<&str> = pods.iter().chain(rest).map(|record| record.id.as_str()).collect();
    for place in sandboxes.places().iter().chain(&containers.places()) {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
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
