//! Device nodes: what a host path is, and every device of the host.

use std::path::{Path, PathBuf};

use super::LinuxError;

/// A device node as the OCI spec wants to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: i64,
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Char,
    Block,
    Fifo,
}

/// The device at `host` seen at `container`: symlinks followed, a folder walked (each device below it keeps its
/// relative path).
pub fn at(host: &Path, container: &Path) -> Result<Vec<DeviceNode>, LinuxError> {
    unimplemented!("{host:?} {container:?}")
}

/// All devices of /dev, for privileged containers, without the console and the mounts that every container has anew.
pub fn all_of_host() -> Result<Vec<DeviceNode>, LinuxError> {
    unimplemented!()
}
