//! Idmapped mounts: a folder shown once more, with the ids of its files mapped as a user namespace maps them.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::LinuxError;

/// Shows `source` at `target` (made if missing): a file of uid 0 belongs to the namespace's root there. Mounts below
/// `source` are left out. Of a read-only view no mistake can change the source.
///
/// # Errors
/// Besides the usual ones, `EINVAL` where the filesystem knows no idmapped mounts (mount_setattr(2)).
pub fn show(source: &Path, target: &Path, users: &File, read_only: bool) -> Result<(), LinuxError> {
    fs::create_dir_all(target).map_err(LinuxError::on("make", target))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, source, clone).map_err(LinuxError::on("clone the mount of", source))?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        // What is mounted into the node's folder later is none of the pod's.
        propagation: libc::MS_PRIVATE,
        userns_fd: users.as_raw_fd() as u64,
    };
    // SAFETY: the path is a valid empty text, the attributes are of the size that is told, both descriptors are open.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome != 0 {
        return Err(LinuxError::on("map the ids of", source)(io::Error::last_os_error()));
    }
    move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(LinuxError::on("mount at", target))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::linux::userns::{self, IdMaps, IdRange};
    use crate::linux::{mount, require_root};

    #[tokio::test]
    async fn files_belong_to_the_namespaces_users() {
        require_root();
        let dir = tempfile::tempdir().unwrap();
        let (source, target, pin) =
            (dir.path().join("source"), dir.path().join("views/0"), dir.path().join("user"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "").unwrap();
        std::os::unix::fs::chown(source.join("file"), Some(7), Some(8)).unwrap();
        let range = |outside| IdRange { inside: 0, outside, length: 10 };
        userns::create(&pin, IdMaps { uids: range(1_000), gids: range(2_000) }, None).await.unwrap();
        let shown = show(&source, &target, &File::open(&pin).unwrap(), true);
        let seen = fs::metadata(target.join("file"));
        let refused = fs::write(target.join("new"), "");
        mount::unmount_inside(&dir.path().join("views")).unwrap();
        mount::unmount_all(&pin).unwrap();
        shown.unwrap();
        let seen = seen.unwrap();
        assert_eq!((seen.uid(), seen.gid()), (1_007, 2_008));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EROFS));
        assert!(!target.join("file").exists(), "unmounted");
        assert!(source.join("file").exists());
    }
}
