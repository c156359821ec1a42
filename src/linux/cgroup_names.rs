//! Cgroups that are named after a container, found by walking the trees.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cgroup::{self, CgroupMode, ROOT, members_of};
use super::{LinuxError, file};
use crate::id::is_id;

/// How deep a container's cgroup may lie: slices within slices, as kubelets with a root of their own have them.
const DEPTH: usize = 10;

/// One container's cgroup, with a folder in each hierarchy that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCgroup {
    pub id: String,
    /// Below the mount points.
    pub path: PathBuf,
    pub folders: Vec<PathBuf>,
    /// Processes in it and below it.
    pub members: Vec<u32>,
}

/// Every cgroup that is named as those of a CRI are, in containerd's `namespace` where nothing else is asked for.
pub fn named(namespace: &str) -> Vec<NamedCgroup> {
    let roots = match cgroup::mode() {
        CgroupMode::Unified => vec![PathBuf::from(ROOT)],
        // runc makes one in the v2 tree of a hybrid node as well.
        CgroupMode::Legacy => [cgroup::mount_points(), vec![Path::new(ROOT).join("unified")]].concat(),
    };
    let mut found: BTreeMap<PathBuf, NamedCgroup> = BTreeMap::new();
    for root in &roots {
        walk(root, DEPTH, &mut |folder| {
            let path = folder.strip_prefix(root).unwrap_or(folder);
            let Some(id) = container_of(path, namespace) else { return !names_container(path) };
            let cgroup = found.entry(path.to_owned()).or_insert_with(|| NamedCgroup {
                id: id.to_owned(),
                path: path.to_owned(),
                folders: Vec::new(),
                members: Vec::new(),
            });
            cgroup.folders.push(folder.to_owned());
            members(folder, &mut cgroup.members);
            false
        });
    }
    found.into_values().collect()
}

/// `cri-containerd-<id>.scope` wherever it is; `<id>` where a kubelet or nobody has chosen the parent (contract §3).
fn container_of<'a>(path: &'a Path, namespace: &str) -> Option<&'a str> {
    let name = path.file_name()?.to_str()?;
    if let Some(id) = name.strip_prefix("cri-containerd-").and_then(|rest| rest.strip_suffix(".scope")) {
        return is_id(id).then_some(id);
    }
    let parent = path.parent()?;
    let of_kubelet = parent.iter().any(|part| part.to_string_lossy().starts_with("kubepods"));
    (is_id(name) && (of_kubelet || parent.ends_with(namespace))).then_some(name)
}

/// Whether it is called after any container: below it may be a node within that, whose cgroups are its own.
fn names_container(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(is_id)
}

/// Visits the folders below one; goes deeper where it is told to.
fn walk(folder: &Path, depth: usize, visit: &mut impl FnMut(&Path) -> bool) {
    for path in folders_in(folder) {
        if visit(&path) && depth > 1 {
            walk(&path, depth - 1, visit);
        }
    }
}

fn members(folder: &Path, found: &mut Vec<u32>) {
    for pid in members_of(folder) {
        if !found.contains(&pid) {
            found.push(pid);
        }
    }
    folders_in(folder).for_each(|below| members(&below, found));
}

/// Folders, and no links to folders: `cpu` is one to `cpu,cpuacct`.
fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Removes a cgroup that has no processes, with those below it. One that is gone is fine.
///
/// # Errors
/// `ResourceBusy` where there is a process in it after all, besides the usual ones.
pub fn remove_empty(folder: &Path) -> Result<(), LinuxError> {
    fn remove(folder: &Path) -> io::Result<()> {
        folders_in(folder).try_for_each(|below| remove(&below))?;
        file::remove_folder(folder)
    }
    remove(folder).map_err(LinuxError::on("remove the cgroup", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789012345678901234567890123456789012345678901234567890abc";

    #[test]
    fn a_name_is_a_containers_in_the_places_of_a_cri_alone() {
        let at = |path: String| container_of(Path::new(&path), "k8s.io").map(str::to_owned);
        for ours in [
            format!("k8s.io/{ID}"),
            format!("kubepods/burstable/pod1/{ID}"),
            format!("root/kubepods/pod1/{ID}"),
            format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("system.slice/cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(at(ours.clone()), Some(ID.to_owned()), "{ours}");
        }
        for other in [
            format!("docker/{ID}"),
            format!("other/{ID}"),
            ID.to_owned(),
            format!("kubepods/pod1/crio-{ID}"),
            format!("system.slice/docker-{ID}.scope"),
            format!("kubepods/pod1/cri-containerd-{}.scope", &ID[1..]),
            "k8s.io/short".to_owned(),
        ] {
            assert_eq!(at(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn nobody_looks_into_a_container() {
        for name in [ID.to_owned(), format!("docker-{ID}.scope"), format!("libpod_{ID}")] {
            assert!(names_container(Path::new(&format!("machine.slice/{name}"))), "{name}");
        }
        for name in ["kubepods", "kubepods-pod0123.slice", "k8s.io"] {
            assert!(!names_container(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn folders_are_walked_and_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("k8s.io").join(ID);
        fs::create_dir_all(ours.join("below")).unwrap();
        fs::write(ours.join("cgroup.procs"), "7\n8\n").unwrap();
        fs::write(ours.join("below/cgroup.procs"), "8\n9\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("k8s.io"), dir.path().join("link")).unwrap();
        let mut seen = Vec::new();
        walk(dir.path(), DEPTH, &mut |path| {
            seen.push(path.to_owned());
            path != ours
        });
        assert_eq!(seen, [dir.path().join("k8s.io"), ours.clone()]);
        let mut pids = Vec::new();
        members(&ours, &mut pids);
        assert_eq!(pids, [7, 8, 9]);
    }

    #[test]
    fn only_what_is_empty_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = dir.path().join("cgroup");
        fs::create_dir_all(cgroup.join("below")).unwrap();
        remove_empty(&cgroup).unwrap();
        remove_empty(&cgroup).unwrap();
        fs::create_dir(&cgroup).unwrap();
        fs::write(cgroup.join("file"), "").unwrap();
        remove_empty(&cgroup).unwrap_err();
        assert!(cgroup.join("file").exists());
    }
}
