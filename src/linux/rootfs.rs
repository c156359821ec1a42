//! Files of an image's or container's root, opened so that no link in it leads outside (openat2(2)).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::LinuxError;

/// Opens `path` as a process would that has `root` for its root. `None` where it is not there, and where anything but a
/// mere path is asked of what is neither a plain file nor a folder: a FIFO would have its opener wait, and to open a
/// device may do something by itself.
pub fn open(root: &Path, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>, LinuxError> {
    let failed = |error: Errno| LinuxError::Call {
        action: "open",
        object: format!("{} in {}", path.display(), root.display()),
        source: error.into(),
    };
    let mere_path = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, mere_path | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let first = mere_path | (flags & OFlags::DIRECTORY);
    let found = match rustix::fs::openat2(&root, relative, first, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if flags.contains(OFlags::PATH) {
        return Ok(Some(found));
    }
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).map_err(failed)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok(None);
    }
    let opened = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::open(opened, flags | OFlags::CLOEXEC, Mode::empty()).map(Some).map_err(failed)
}

/// The text of a file in the root, bytes that are not UTF-8 replaced; `None` where it is not there or no plain file.
///
/// # Errors
/// The file is larger than `limit` bytes.
pub fn read_text(root: &Path, path: &Path, limit: u64) -> Result<Option<String>, LinuxError> {
    let failed = |source| LinuxError::Call {
        action: "read",
        object: format!("{} in {}", path.display(), root.display()),
        source,
    };
    let Some(fd) = open(root, path, OFlags::RDONLY)? else { return Ok(None) };
    let file = File::from(fd);
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(std::io::Error::other(format!("it is larger than {limit} bytes"))));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn no_link_leads_out_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/inside"), "mine").unwrap();
        symlink("/etc/inside", root.path().join("etc/absolute")).unwrap();
        symlink("../../../../../../etc/hostname", root.path().join("etc/climbing")).unwrap();
        let read = |path: &str| read_text(root.path(), Path::new(path), 100).unwrap();
        assert_eq!(read("/etc/absolute").as_deref(), Some("mine"), "links start at the given root");
        assert_eq!(read("/etc/climbing"), None);
        assert_eq!(read("/etc"), None, "a folder is no text");
        assert_eq!(read("/nowhere/passwd"), None);
    }

    #[test]
    fn a_folder_can_be_opened_as_a_mere_path() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("sub")).unwrap();
        let open = |path: &str| open(root.path(), Path::new(path), OFlags::PATH | OFlags::DIRECTORY).unwrap();
        assert!(open("sub").is_some());
        assert!(open("/").is_some());
        assert!(open("other").is_none());
    }

    #[test]
    fn neither_a_device_nor_a_fifo_is_opened() {
        crate::linux::require_root();
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, kind, device| {
            let path = root.path().join(name);
            rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device).unwrap();
        };
        // Of no driver: to open it is an error, where the watchdog's would have the node restart.
        make("passwd", FileType::CharacterDevice, rustix::fs::makedev(240, 240));
        make("group", FileType::Fifo, 0);
        for name in ["passwd", "group"] {
            assert_eq!(read_text(root.path(), Path::new(name), 10).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("passwd"), "x".repeat(11)).unwrap();
        let error = read_text(root.path(), Path::new("/passwd"), 10).unwrap_err();
        assert!(crate::error::chain(&error).contains("larger than 10 bytes"), "{error}");
    }
}
