//! Shims, network namespaces and mounts.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::FsckError;
use super::super::seen::{Mount, Pin, ShimSeen, Task};
use super::folders::IN_STATE;
use crate::config::Config;
use crate::containerd::{Containerd, Shim, TaskInfo};
use crate::id::is_id;
use crate::linux::{MountInfo, mount, process};

/// The folder of tasks in a containerd's state folder (containerd, "Runtime v2").
const TASKS: &str = "io.containerd.runtime.v2.task";

/// Every shim that is seen.
pub(super) fn shims(containerd: &Containerd) -> Vec<ShimSeen> {
    let shims = Shim::all();
    if shims.is_empty() {
        return Vec::new();
    }
    let parents: Vec<u32> = process::pids().into_iter().filter_map(process::parent).collect();
    let seen = |shim: Shim| ShimSeen {
        ours: containerd.started(&shim),
        has_children: parents.contains(&shim.pid),
        shim,
    };
    shims.into_iter().map(seen).collect()
}

/// A task, with whose child its process is.
pub(super) fn task(task: &TaskInfo) -> Task {
    Task { id: task.container_id.clone(), pid: task.pid, parent: process::parent(task.pid) }
}

/// Network namespaces that are pinned, or were about to be, in a folder.
pub(super) fn pins(folder: &Path) -> Vec<Pin> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_pin));
    let mut paths: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    if paths.is_empty() {
        return Vec::new();
    }
    paths.sort();
    let pids = process::pids().into_iter();
    let inside: HashMap<u64, u32> =
        pids.filter_map(|pid| Some((process::network_namespace(pid)?, pid))).collect();
    let process = |path: &Path| inside.get(&fs::metadata(path).ok()?.ino()).copied();
    paths.into_iter().map(|path| Pin { process: process(&path), path }).collect()
}

/// `cni-` and a UUID: what containerd's CRI and cridge call their own (`netns::choose_path`).
fn is_pin(name: &str) -> bool {
    let Some(uuid) = name.strip_prefix("cni-") else { return false };
    let parts = uuid.split('-').map(str::len);
    parts.eq([8, 4, 4, 4, 12]) && uuid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// Mounts below root and state, and tasks' roots made of this containerd's layers, that are named by an id.
pub(super) fn mounts(
    config: &Config,
    snapshot_roots: &[PathBuf],
    namespace: &str,
) -> Result<Vec<Mount>, FsckError> {
    // Mounts are listed by their real paths.
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let places = [real(&config.state), real(&config.root)];
    let seen = |found: &MountInfo| {
        let id = id_in(&found.mount_point, &places).or_else(|| {
            id_of_task(&found.mount_point, namespace).filter(|_| is_made_of(found, snapshot_roots))
        })?;
        Some(Mount { path: found.mount_point.clone(), id })
    };
    Ok(mount::mounts()?.iter().filter_map(seen).collect())
}

/// The id in `<root or state>/<place>/<id>/…`.
fn id_in(point: &Path, places: &[PathBuf]) -> Option<String> {
    let below = places.iter().find_map(|place| point.strip_prefix(place).ok())?;
    let mut parts = below.iter().filter_map(|part| part.to_str());
    let (place, id) = (parts.next()?, parts.next()?);
    (IN_STATE.contains(&place) && is_id(id)).then(|| id.to_owned())
}

/// The id in `…/io.containerd.runtime.v2.task/<namespace>/<id>/rootfs`.
fn id_of_task(point: &Path, namespace: &str) -> Option<String> {
    let mut parts = point.iter().rev().filter_map(|part| part.to_str());
    let (rootfs, id) = (parts.next()?, parts.next()?);
    let is_tasks = rootfs == "rootfs" && parts.next()? == namespace && parts.next()? == TASKS;
    (is_tasks && is_id(id)).then(|| id.to_owned())
}

/// Whether an overlay's layers, or what is bound, are below one of these.
fn is_made_of(mount: &MountInfo, roots: &[PathBuf]) -> bool {
    let layers = mount
        .super_options
        .iter()
        .filter_map(|option| option.strip_prefix("upperdir=").or(option.strip_prefix("lowerdir=")));
    let mut layers = layers.flat_map(|list| list.split(':'));
    layers.any(|layer| roots.iter().any(|root| Path::new(layer).starts_with(root)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mount::Propagation;
    use crate::linux::{netns, require_root};

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    #[test]
    fn pins_are_known_by_their_names() {
        let chosen = netns::choose_path(Path::new("/run/netns"));
        assert!(is_pin(chosen.file_name().unwrap().to_str().unwrap()));
        for other in ["blue", "cni-", "cni-blue", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"] {
            assert!(!is_pin(other), "{other}");
        }
        assert!(!is_pin("cni-6f9619ff-8b86-d011-b42d-00cf4fc964fg"));
    }

    #[tokio::test]
    async fn who_is_in_a_namespace_is_seen() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(pins(dir.path()), []);
        let path = netns::choose_path(dir.path());
        netns::create(&path).await.unwrap();
        fs::write(dir.path().join("blue"), "").unwrap();
        let empty = pins(dir.path());
        let mut child = netns::run(&path, || std::process::Command::new("sleep").arg("60").spawn().unwrap())
            .await
            .unwrap();
        let used = pins(dir.path());
        child.kill().unwrap();
        child.wait().unwrap();
        netns::remove(&path).await.unwrap();
        assert_eq!(empty, [Pin { path: path.clone(), process: None }]);
        assert_eq!(used, [Pin { path, process: Some(child.id()) }]);
    }

    #[test]
    fn mounts_are_a_pods_by_their_places() {
        let places = ["/run/cri", "/lib/cri"].map(PathBuf::from);
        let id = id();
        for place in ["sandboxes", "containers", "image-volumes", "views"] {
            let point = format!("/run/cri/{place}/{id}/shm");
            assert_eq!(id_in(Path::new(&point), &places), Some(id.clone()), "{point}");
        }
        assert_eq!(id_in(Path::new(&format!("/run/cri/views/{id}")), &places), Some(id.clone()));
        for other in [format!("/run/cri/netns/{id}"), format!("/run/cri/{id}"), format!("/x/views/{id}")] {
            assert_eq!(id_in(Path::new(&other), &places), None, "{other}");
        }
    }

    #[test]
    fn a_tasks_root_is_whose_layers_it_is_made_of() {
        let id = id();
        let point = format!("/run/containerd/{TASKS}/k8s.io/{id}/rootfs");
        assert_eq!(id_of_task(Path::new(&point), "k8s.io"), Some(id.clone()));
        assert_eq!(id_of_task(Path::new(&point), "other"), None);
        assert_eq!(id_of_task(Path::new(&format!("/run/x/k8s.io/{id}/rootfs")), "k8s.io"), None);
        let overlay = |option: &str| MountInfo {
            mount_point: point.clone().into(),
            root: "/".into(),
            fs_type: "overlay".into(),
            source: "overlay".into(),
            options: Vec::new(),
            super_options: vec!["rw".into(), option.into()],
            propagation: Propagation::Shared,
        };
        let roots = [PathBuf::from("/lib/containerd/overlayfs")];
        assert!(is_made_of(&overlay("upperdir=/lib/containerd/overlayfs/snapshots/7/fs"), &roots));
        assert!(is_made_of(&overlay("lowerdir=/x:/lib/containerd/overlayfs/snapshots/1/fs"), &roots));
        assert!(!is_made_of(&overlay("upperdir=/lib/containerd/overlayfs-other/7/fs"), &roots));
        assert!(!is_made_of(&overlay("size=7"), &roots));
    }
}
