//! Devices and filesystems as metrics name them.

use std::path::{Path, PathBuf};

use super::parse::Device;
use crate::linux::{MountInfo, mount};

impl Device {
    /// `/dev/vda`; `254:0` where the kernel has no name for it.
    pub(super) fn name(self) -> String {
        let Self { major, minor } = self;
        let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok();
        let name = link.as_deref().and_then(Path::file_name).map(|name| format!("/dev/{}", name.display()));
        name.unwrap_or_else(|| format!("{major}:{minor}"))
    }
}

/// The filesystem that holds a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filesystem {
    /// What is mounted: `/dev/vda1`.
    pub device: String,
    pub bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl Filesystem {
    pub fn of(folder: &Path) -> Option<Self> {
        let size = rustix::fs::statvfs(folder).ok()?;
        let mounts = mount::mounts().unwrap_or_default();
        let folder = folder.canonicalize().unwrap_or_else(|_| PathBuf::from(folder));
        Some(Self {
            device: mount_of(&mounts, &folder).map(|mount| mount.source.clone())?,
            bytes: size.f_blocks.saturating_mul(size.f_frsize),
            inodes: size.f_files,
            inodes_free: size.f_ffree,
        })
    }
}

/// The mount that a path is on: of the deepest mount points the last one, which hides those below.
fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let depth = |mount: &&MountInfo| mount.mount_point.components().count();
    mounts.iter().filter(|mount| path.starts_with(&mount.mount_point)).max_by_key(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_programs_own_folder_is_on_some_filesystem() {
        let found = Filesystem::of(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(found.bytes > 0 && found.inodes >= found.inodes_free, "{found:?}");
        assert!(!found.device.is_empty());
        assert_eq!(Filesystem::of(Path::new("/nowhere")), None);
    }

    #[test]
    fn the_last_mount_on_the_deepest_point_counts() {
        let mount = |point: &str, source: &str| MountInfo {
            mount_point: point.into(),
            root: "/".into(),
            fs_type: "ext4".into(),
            source: source.into(),
            options: Vec::new(),
            super_options: Vec::new(),
            propagation: mount::Propagation::Private,
        };
        let mounts = [mount("/", "a"), mount("/var", "b"), mount("/var", "c"), mount("/v", "d")];
        assert_eq!(mount_of(&mounts, Path::new("/var/lib")).unwrap().source, "c");
        assert_eq!(mount_of(&mounts, Path::new("/usr")).unwrap().source, "a");
    }

    #[test]
    fn a_device_without_a_name_has_its_number() {
        assert_eq!(Device { major: 4095, minor: 7 }.name(), "4095:7");
    }
}
