//! The volumes that an image declares: a folder of the container's own each, filled from the image.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::linux::{LinuxError, rootfs, selinux};
use crate::proto::cri;

/// One volume: where the image wants it, and the host folder that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub container_path: String,
    pub host_path: PathBuf,
}

/// The volumes to make: those that no CRI mount takes the place of. Makes nothing yet.
pub(super) fn plan(declared: &[String], config: &cri::ContainerConfig, dir: &Path) -> Vec<Volume> {
    let covered =
        |path: &str| config.mounts.iter().any(|mount| Path::new(&mount.container_path) == Path::new(path));
    let mut volumes: Vec<_> = declared
        .iter()
        .filter(|path| path.starts_with('/') && !path.contains("..") && !covered(path))
        .map(|path| Volume {
            container_path: path.clone(),
            host_path: dir.join(format!("{:016x}", rand::random::<u64>())),
        })
        .collect();
    volumes.sort_by(|a, b| a.container_path.cmp(&b.container_path));
    volumes
}

/// As mounts for the spec.
pub(super) fn mounts(volumes: &[Volume]) -> impl Iterator<Item = cri::Mount> {
    volumes.iter().map(|volume| cri::Mount {
        container_path: volume.container_path.clone(),
        host_path: volume.host_path.display().to_string(),
        ..Default::default()
    })
}

/// Makes the folders and copies into each what the image has there; nothing outside `root` is followed. All of it gets
/// the SELinux label of the container's files, if there is one. Blocking.
pub(super) fn fill(volumes: &[Volume], root: &Path, label: &str) -> Result<(), LinuxError> {
    for volume in volumes {
        fs::create_dir_all(&volume.host_path).map_err(LinuxError::on("make", &volume.host_path))?;
        let source = Path::new(&volume.container_path);
        if let Some(fd) = rootfs::open(root, source, OFlags::RDONLY)? {
            // Through the open descriptor: the name may lead through links.
            let opened = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            if fs::metadata(&opened).map_err(LinuxError::on("look at", source))?.is_dir() {
                copy_folder(&opened, &volume.host_path).map_err(LinuxError::on("copy", source))?;
            }
        }
        if !label.is_empty() {
            selinux::relabel(&volume.host_path, label)?;
        }
    }
    Ok(())
}

/// Copies owner, mode and content of a folder, recursively; links are copied as links.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    copy_owner_and_mode(&fs::metadata(from)?, to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&source)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            std::os::unix::fs::lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        } else if kind.is_file() {
            io::copy(&mut File::open(&source)?, &mut File::create_new(&target)?)?;
            copy_owner_and_mode(&metadata, &target)?;
        } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            tracing::debug!("a volume's special file is not copied: {}", source.display());
        }
    }
    Ok(())
}

/// Owner first: changing it clears set-id bits.
fn copy_owner_and_mode(metadata: &fs::Metadata, to: &Path) -> io::Result<()> {
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_filled_from_the_image_and_from_nowhere_else() {
        let (root, volumes_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("data/sub")).unwrap();
        fs::write(root.path().join("data/sub/file"), "content").unwrap();
        fs::set_permissions(root.path().join("data/sub"), fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("data/link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("escape")).unwrap();
        let declared = ["/data".to_owned(), "/escape".to_owned(), "/empty".to_owned(), "/mounted".to_owned()];
        let config = cri::ContainerConfig {
            mounts: vec![cri::Mount { container_path: "/mounted/".into(), ..Default::default() }],
            ..Default::default()
        };
        let volumes = plan(&declared, &config, volumes_dir.path());
        assert_eq!(
            volumes.iter().map(|v| v.container_path.as_str()).collect::<Vec<_>>(),
            ["/data", "/empty", "/escape"]
        );
        fill(&volumes, root.path(), "").unwrap();
        let data = &volumes[0].host_path;
        assert_eq!(fs::read_to_string(data.join("sub/file")).unwrap(), "content");
        assert_eq!(fs::metadata(data.join("sub")).unwrap().mode() & 0o777, 0o750);
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/hostname"));
        assert_eq!(
            fs::read_dir(&volumes[2].host_path).unwrap().count(),
            0,
            "the host's /etc must not be copied"
        );
    }
}
