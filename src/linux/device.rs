//! Device nodes: what a host path is, and every device of the host.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::LinuxError;

/// Folders of /dev that are mounts of their own in every container, or no devices at all (as runc skips them).
const SKIPPED_FOLDERS: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Folders nest this deep at most: /dev is flat, and a tree this deep was built to do harm.
const MAX_DEPTH: usize = 16;

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
///
/// # Errors
/// A missing `host` is `NotFound`; one that is neither a device nor a folder, [`LinuxError::NotADevice`].
pub fn at(host: &Path, container: &Path) -> Result<Vec<DeviceNode>, LinuxError> {
    let real = fs::canonicalize(host).map_err(LinuxError::on("find the device", host))?;
    let metadata = fs::symlink_metadata(&real).map_err(LinuxError::on("look at the device", &real))?;
    if metadata.is_dir() {
        let mut found = Vec::new();
        walk(&real, container, 0, &mut found)?;
        return Ok(found);
    }
    match node(&metadata, container) {
        Some(device) => Ok(vec![device]),
        None => Err(LinuxError::NotADevice { path: host.to_owned() }),
    }
}

/// The one device at `path`, symlinks followed, as it is there.
///
/// # Errors
/// As those of [`at`], for a folder too.
pub fn one(path: &Path) -> Result<DeviceNode, LinuxError> {
    let metadata = fs::metadata(path).map_err(LinuxError::on("look at the device", path))?;
    node(&metadata, path).ok_or_else(|| LinuxError::NotADevice { path: path.to_owned() })
}

/// All devices of /dev, for privileged containers, without the console and the mounts that every container has anew.
pub fn all_of_host() -> Result<Vec<DeviceNode>, LinuxError> {
    let dev = Path::new("/dev");
    let mut found = Vec::new();
    walk(dev, dev, 0, &mut found)?;
    Ok(found)
}

/// Devices come and go while the walk is under way: what vanishes is no error.
fn walk(host: &Path, container: &Path, depth: usize, found: &mut Vec<DeviceNode>) -> Result<(), LinuxError> {
    let mut entries: Vec<fs::DirEntry> = match fs::read_dir(host) {
        Ok(entries) => entries.flatten().collect(),
        Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LinuxError::on("list", host)(error)),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            if depth < MAX_DEPTH && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                walk(&entry.path(), &container.join(&name), depth + 1, found)?;
            }
        } else if name != "console" {
            let device = node(&metadata, &container.join(&name));
            found.extend(device.filter(|d| d.kind != DeviceKind::Fifo));
        }
    }
    Ok(())
}

fn node(metadata: &fs::Metadata, path: &Path) -> Option<DeviceNode> {
    let file_type = metadata.file_type();
    let kind = match () {
        () if file_type.is_char_device() => DeviceKind::Char,
        () if file_type.is_block_device() => DeviceKind::Block,
        () if file_type.is_fifo() => DeviceKind::Fifo,
        () => return None,
    };
    Some(DeviceNode {
        path: path.to_owned(),
        kind,
        major: rustix::fs::major(metadata.rdev()).into(),
        minor: rustix::fs::minor(metadata.rdev()).into(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_symlink_leads_to_its_device() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/dev/null", dir.path().join("link")).unwrap();
        let found = at(&dir.path().join("link"), Path::new("/dev/seen")).unwrap();
        assert_eq!(found.len(), 1);
        let device = &found[0];
        assert_eq!((device.kind, device.major, device.minor), (DeviceKind::Char, 1, 3));
        assert_eq!(device.path, Path::new("/dev/seen"));
        assert_eq!(device.mode, 0o666);
    }

    #[test]
    fn a_folder_is_walked_and_what_is_no_device_skipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub/shm")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("/dev/null", dir.path().join("sub/link")).unwrap();
        assert_eq!(at(dir.path(), Path::new("/dev/all")).unwrap(), []);
        let error = at(&dir.path().join("file"), Path::new("/x")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::InvalidArgument);
        let error = at(&dir.path().join("missing"), Path::new("/x")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::NotFound);
    }

    #[test]
    fn the_hosts_devices_leave_out_what_each_container_has_anew() {
        let all = all_of_host().unwrap();
        assert!(all.iter().any(|d| d.path == Path::new("/dev/null")));
        assert!(!all.iter().any(|d| d.path.starts_with("/dev/pts") || d.path == Path::new("/dev/console")));
        assert!(all.iter().all(|d| d.kind != DeviceKind::Fifo));
    }
}
