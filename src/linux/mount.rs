//! Mounts: tmpfs, bind, unmount, what /proc/self/mountinfo tells.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

pub use super::mountinfo::{MountInfo, Propagation};
use super::{LinuxError, mount_options::MountOptions, mountinfo};

/// The kernel takes one page of data, its final zero included (mount(2)).
const MAX_DATA: usize = 4095;

/// Every mount of this process' namespace, in order.
pub fn mounts() -> Result<Vec<MountInfo>, LinuxError> {
    let path = Path::new("/proc/self/mountinfo");
    let file = fs::read(path).map_err(LinuxError::on("read", path))?;
    mountinfo::parse(&file).map_err(|line| {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("unexpected line {line:?}"));
        LinuxError::on("understand", path)(source)
    })
}

/// The mount that `path` (after symlinks) lies on, out of `mounts`.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let real = fs::canonicalize(path);
    deepest(mounts, real.as_deref().unwrap_or(path))
}

/// The longest mount point above `path`; of several mounts there, the last one, which hides the others.
fn deepest<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count())
}

/// Mounts a tmpfs, nosuid, nodev, noexec, of `size` bytes with `mode`, of the owner `(uid, gid)`. Containers see its
/// source as `shm`.
pub fn tmpfs(target: &Path, size: u64, mode: u32, (uid, gid): (u32, u32)) -> Result<(), LinuxError> {
    let data = format!("mode={mode:o},size={size},uid={uid},gid={gid}");
    let data = CString::new(data).expect("digits hold no zero byte");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("shm", target, "tmpfs", flags, data.as_c_str())
        .map_err(LinuxError::on("mount a tmpfs at", target))
}

/// Unmounts all that is mounted at `target` (several layers), lazily; nothing mounted is fine.
pub fn unmount_all(target: &Path) -> Result<(), LinuxError> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: no mount point.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(LinuxError::on("unmount", target)(error)),
        }
    }
}

/// Unmounts whatever is mounted on the entries of `folder`; one that is missing has none.
pub fn unmount_inside(folder: &Path) -> Result<(), LinuxError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(LinuxError::on("list", folder))?,
    };
    for entry in entries {
        unmount_all(&entry.map_err(LinuxError::on("list", folder))?.path())?;
    }
    Ok(())
}

/// Mounts what containerd's snapshotter describes (type, source, options in fstab style) at `target`.
///
/// # Errors
/// Options that are too long for the kernel even after shortening, and whatever the kernel refuses. A mount whose
/// second step (read-only, propagation) fails is undone.
pub fn mount(kind: &str, source: &str, target: &Path, options: &[String]) -> Result<(), LinuxError> {
    let parsed = MountOptions::parse(options);
    if parsed.data.len() > MAX_DATA {
        mount_in_folder(kind, source, target, &parsed)
    } else {
        mount_parsed(kind, source, target, &parsed)
    }
}

fn mount_parsed(kind: &str, source: &str, target: &Path, options: &MountOptions) -> Result<(), LinuxError> {
    let failed = LinuxError::on("mount", target);
    let Ok(data) = CString::new(options.data.as_str()) else { return Err(failed(Errno::INVAL)) };
    if options.bind {
        match options.recursive {
            true => rustix::mount::mount_bind_recursive(source, target),
            false => rustix::mount::mount_bind(source, target),
        }
    } else {
        rustix::mount::mount(source, target, kind, options.flags, data.as_c_str())
    }
    .map_err(failed)?;
    finish(target, options).inspect_err(|_| {
        // The first error says why; this mount is the top one, made above.
        let _ = rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    })
}

/// What the kernel does only in calls of their own: flags of a bind mount, propagation.
fn finish(target: &Path, options: &MountOptions) -> Result<(), LinuxError> {
    if options.bind && !options.flags.is_empty() {
        // MS_BIND beside MS_REMOUNT changes this mount alone, not the filesystem behind it.
        let flags = options.flags | MountFlags::BIND;
        rustix::mount::mount_remount(target, flags, "")
            .map_err(LinuxError::on("set mount options of", target))?;
    }
    if options.propagation != MountPropagationFlags::empty() {
        rustix::mount::mount_change(target, options.propagation)
            .map_err(LinuxError::on("set the propagation of", target))?;
    }
    Ok(())
}

/// An overlay of many layers: relative to the folder that all of them share, the options fit. The working folder
/// is this thread's alone, and the thread ends.
fn mount_in_folder(
    kind: &str,
    source: &str,
    target: &Path,
    options: &MountOptions,
) -> Result<(), LinuxError> {
    let too_long = || {
        let reason = format!("mount options of {} bytes, the kernel takes {MAX_DATA}", options.data.len());
        LinuxError::on("mount", target)(io::Error::new(io::ErrorKind::InvalidInput, reason))
    };
    let (folder, short) =
        options.relative().filter(|(_, o)| o.data.len() <= MAX_DATA).ok_or_else(too_long)?;
    // The target was given relative to the daemon's folder, if relative at all.
    let absolute = std::path::absolute(target).map_err(LinuxError::on("find", target))?;
    std::thread::scope(|scope| {
        let work = || {
            // SAFETY: FS is about the working folder, root and umask; no descriptor table changes.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
                .map_err(LinuxError::on("leave the working folder for", &folder))?;
            rustix::process::chdir(&folder).map_err(LinuxError::on("enter", &folder))?;
            mount_parsed(kind, source, &absolute, &short)
        };
        let thread = std::thread::Builder::new().name("mount".into()).spawn_scoped(scope, work);
        let outcome = thread.map_err(LinuxError::on("start a thread to mount", target))?.join();
        outcome
            .unwrap_or_else(|_| Err(LinuxError::on("mount", target)(io::Error::other("its thread panicked"))))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::linux::require_root;

    fn at(point: &str, source: &str) -> MountInfo {
        let line = format!("1 2 3:4 / {point} rw - tmpfs {source} rw\n");
        mountinfo::parse(line.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn the_deepest_and_last_mount_wins() {
        let mounts = [at("/", "a"), at("/var/lib", "b"), at("/var/lib", "c"), at("/var/library", "d")];
        let source = |path: &str| deepest(&mounts, Path::new(path)).unwrap().source.clone();
        assert_eq!(source("/var/lib/x/y"), "c");
        assert_eq!(source("/var/lib"), "c");
        assert_eq!(source("/var/library"), "d");
        assert_eq!(source("/var/libx"), "a");
        assert!(deepest(&[], Path::new("/")).is_none());
    }

    #[test]
    fn this_node_has_a_root_mount() {
        let mounts = mounts().unwrap();
        assert_eq!(mount_of(&mounts, Path::new("/proc/self/status")).unwrap().fs_type, "proc");
    }

    #[test]
    fn a_tmpfs_is_mounted_and_all_layers_go() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a b");
        fs::create_dir(&target).unwrap();
        tmpfs(&target, 1 << 20, 0o1777, (0, 0)).unwrap();
        tmpfs(&target, 2 << 20, 0o755, (0, 0)).unwrap();
        let all = mounts().unwrap();
        let seen: Vec<_> = all.iter().filter(|m| m.mount_point == target).collect();
        assert_eq!(seen.len(), 2);
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(seen[0].options.iter().any(|o| o == option), "{seen:?}");
        }
        assert!(seen[0].super_options.iter().any(|o| o == "size=1024k"), "{seen:?}");
        for _ in 0..2 {
            unmount_all(&target).unwrap();
        }
        assert!(!mounts().unwrap().iter().any(|m| m.mount_point == target));
        unmount_all(&dir.path().join("missing")).unwrap();
    }

    #[test]
    fn a_read_only_bind_is_read_only_and_its_source_is_not() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let options: Vec<String> = ["rbind", "ro", "rprivate"].map(String::from).into();
        mount("bind", from.to_str().unwrap(), &to, &options).unwrap();
        let refused = fs::write(to.join("file"), "");
        let allowed = fs::write(from.join("file"), "");
        unmount_all(&to).unwrap();
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EROFS));
        allowed.unwrap();
    }

    #[test]
    fn an_overlay_of_more_layers_than_a_page_names_is_mounted() {
        require_root();
        // Overlays do not stack on overlays everywhere, and a path of this length is a snapshotter's.
        let dir = tempfile::tempdir().unwrap();
        tmpfs(dir.path(), 16 << 20, 0o755, (0, 0)).unwrap();
        let snapshots = dir.path().join("io.containerd.snapshotter.v1.overlayfs-of-some-length/snapshots");
        let layers: Vec<PathBuf> = (0..90).map(|n| snapshots.join(n.to_string()).join("fs")).collect();
        for (n, layer) in layers.iter().enumerate() {
            fs::create_dir_all(layer).unwrap();
            fs::write(layer.join(format!("from-{n}")), "").unwrap();
        }
        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        let lower: Vec<&str> = layers.iter().map(|l| l.to_str().unwrap()).collect();
        let options = [format!("lowerdir={}", lower.join(":"))];
        assert!(options[0].len() > MAX_DATA);
        let before = std::env::current_dir().unwrap();
        let mounted = mount("overlay", "overlay", &target, &options);
        let seen = fs::read_dir(&target).unwrap().count();
        unmount_all(&target).unwrap();
        unmount_all(dir.path()).unwrap();
        mounted.unwrap();
        assert_eq!(seen, 90);
        assert_eq!(std::env::current_dir().unwrap(), before);
    }

    #[test]
    fn a_refused_mount_names_its_target() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let error = mount("nosuchfs", "none", dir.path(), &[]).unwrap_err();
        assert!(error.to_string().contains(dir.path().to_str().unwrap()));
    }
}
