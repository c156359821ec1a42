//! Mounts: tmpfs, bind, unmount, what /proc/self/mountinfo tells.

use std::path::{Path, PathBuf};

use super::LinuxError;

/// How mounts made below a mount point travel (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    SharedSlave,
}

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub mount_point: PathBuf,
    /// Path within the filesystem that forms the mount's root.
    pub root: PathBuf,
    pub fs_type: String,
    pub source: String,
    pub options: Vec<String>,
    pub super_options: Vec<String>,
    pub propagation: Propagation,
}

/// Every mount of this process' namespace, in order.
pub fn mounts() -> Result<Vec<MountInfo>, LinuxError> {
    unimplemented!()
}

/// The mount that `path` (after symlinks) lies on, out of `mounts`.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let _ = mounts;
    unimplemented!("{path:?}")
}

/// Mounts a tmpfs, nosuid, nodev, noexec, of `size` bytes with `mode`.
pub fn tmpfs(target: &Path, size: u64, mode: u32) -> Result<(), LinuxError> {
    unimplemented!("{target:?} {size} {mode}")
}

/// Unmounts all that is mounted at `target` (several layers), lazily; nothing mounted is fine.
pub fn unmount_all(target: &Path) -> Result<(), LinuxError> {
    unimplemented!("{target:?}")
}

/// Mounts what containerd's snapshotter describes (type, source, options in fstab style) at `target`.
pub fn mount(kind: &str, source: &str, target: &Path, options: &[String]) -> Result<(), LinuxError> {
    unimplemented!("{kind} {source} {target:?} {options:?}")
}
