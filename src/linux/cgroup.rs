//! The node's cgroups: which version, which controllers, and events read from their files.

use std::path::PathBuf;

use super::LinuxError;

/// How this node mounts cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// v1 controllers, perhaps with an empty v2 tree beside.
    Legacy,
    /// v2 only.
    Unified,
}

/// What this node mounts at /sys/fs/cgroup.
pub fn mode() -> CgroupMode {
    unimplemented!()
}

/// v1 controllers mounted or v2 controllers available at the root, by name.
pub fn controllers() -> Vec<String> {
    unimplemented!()
}

/// How often the kernel's OOM killer ended a process of the cgroup that `pid` is in or, with the pid gone, at `path`
/// (an OCI `cgroupsPath`; `slice:prefix:name` for systemd).
pub fn oom_kills(cgroups_path: &str) -> Result<u64, LinuxError> {
    unimplemented!("{cgroups_path}")
}

/// The folders of a v1 or v2 cgroup that an OCI `cgroupsPath` names, on this node.
pub fn folders(cgroups_path: &str) -> Vec<PathBuf> {
    unimplemented!("{cgroups_path}")
}
