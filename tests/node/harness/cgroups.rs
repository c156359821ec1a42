//! The node's cgroups, of either version and by either driver: parents as the kubelet makes them, and a look at what
//! is in a container's files.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::process::Child;

use super::Test;

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the node has version 2 alone.
pub fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Whether systemd makes the cgroups of pods: it runs the node, and there is no version 1.
pub fn by_systemd() -> bool {
    unified() && Path::new("/run/systemd/system").is_dir()
}

/// A file of the cgroup that is called after an id, by its name in version 1 or 2.
pub fn file(id: &str, controller: &str, v1: &str, v2: &str) -> String {
    let (top, name) = if unified() { ("", v2) } else { (controller, v1) };
    let top = Path::new(ROOT).join(top);
    let folder = find(&top, id).unwrap_or_else(|| panic!("no cgroup of {id} below {}", top.display()));
    let file = folder.join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display())).trim().to_owned()
}

/// systemd's scopes have the id in their names.
fn find(folder: &Path, id: &str) -> Option<PathBuf> {
    let below = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut below: Vec<_> = below.filter(|path| path.is_dir() && !path.is_symlink()).collect();
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(id));
    if let Some(at) = below.iter().position(named) {
        return Some(below.swap_remove(at));
    }
    below.iter().find_map(|path| find(path, id))
}

/// A pod's own cgroup: two levels, named as the node's driver wants them. Made by whoever is first in it, and removed
/// by its owner: else the kubelet, here the test.
pub struct Parent {
    /// As `cgroup_parent` has it.
    pub name: String,
    top: String,
}

impl Parent {
    pub fn new(t: &Test) -> Self {
        // Tests of several releases run at once.
        let name = format!("{}-on-{}", t.fresh_name("parent"), t.node().release.replace('.', ""));
        if by_systemd() {
            let top = name.replace('-', "_");
            return Self { name: format!("/{top}.slice/{top}-burstable.slice"), top: format!("{top}.slice") };
        }
        Self { name: format!("/{name}/burstable"), top: name }
    }

    /// Where it is, for one controller of version 1 or for all of version 2.
    pub fn folder(&self, controller: &str) -> PathBuf {
        let top = if unified() { "" } else { controller };
        Path::new(ROOT).join(top).join(self.name.trim_start_matches('/'))
    }

    /// A process in a container's cgroup, as a runtime leaves it that is killed on the way; and that cgroup, for version
    /// 1 that of one controller. It may take a moment until the one is in the other.
    pub fn left_by(&self, id: &str) -> (Child, PathBuf) {
        let below = self.folder("pids");
        if by_systemd() {
            let unit = format!("cri-containerd-{id}.scope");
            let slice = below.file_name().expect("a slice");
            let mut run = tokio::process::Command::new("systemd-run");
            run.args(["--quiet", "--scope", "--unit", &unit, "--slice"]).arg(slice).args(["sleep", "3600"]);
            return (run.spawn().expect("systemd-run"), below.join(unit));
        }
        let folder = below.join(id);
        std::fs::create_dir_all(&folder).expect("a cgroup");
        let process = tokio::process::Command::new("sleep").arg("3600").spawn().expect("sleep");
        let pid = process.id().expect("a pid").to_string();
        std::fs::write(folder.join("cgroup.procs"), pid).expect("a cgroup");
        (process, folder)
    }

    /// Whether nothing is in it any more: what ends by itself may take a moment longer than its pod.
    pub fn is_empty(&self) -> bool {
        self.tops().iter().map(|top| top.join("burstable")).filter(|folder| folder.is_dir()).all(|folder| {
            let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            processes.is_empty() && below.into_iter().all(|entry| !entry.path().is_dir())
        })
    }

    /// Its upper level in every hierarchy that has it.
    fn tops(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir(ROOT).expect("cgroups").flatten().map(|entry| entry.path());
        let tops = hierarchies.chain([ROOT.into()]).map(|at| at.join(&self.top));
        tops.filter(|top| top.is_dir()).collect()
    }

    /// To be called when its pod is gone.
    ///
    /// # Panics
    /// When anything is left in it.
    pub fn remove(&self) {
        if by_systemd() {
            let stopped = Command::new("systemctl").args(["stop", &self.top]).status();
            assert!(stopped.expect("systemctl").success(), "{} cannot be stopped", self.top);
        }
        for top in &self.tops() {
            for folder in [&top.join("burstable"), top].into_iter().filter(|folder| folder.is_dir()) {
                std::fs::remove_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
            }
        }
    }
}
