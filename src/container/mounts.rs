//! What a config's mounts and devices are on this host: looked at here, so that the spec can be made without looking.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::ContainerError;
use crate::field;
use crate::id::ContainerId;
use crate::linux::mount::{self, Propagation};
use crate::linux::{LinuxError, device, rootfs};
use crate::proto::cri;
use crate::spec::{PreparedDevice, PreparedMount};

/// An image that a mount names, mounted on the host for the pod.
#[derive(Clone, Debug)]
pub(super) struct MountedImage {
    /// Which of the config's mounts it is for.
    pub index: usize,
    pub root: PathBuf,
}

/// Looks up every mount's source. A host path that is missing becomes a folder, as the built-in plugin makes it (the
/// CRI's definition would have an error; manifests in the field rely on the folder). Blocking.
pub(super) fn prepare(
    id: &ContainerId,
    config: &cri::ContainerConfig,
    images: &[MountedImage],
) -> Result<Vec<PreparedMount>, ContainerError> {
    let failed = |source| ContainerError::Linux { step: "look at the mounts", id: id.clone(), source };
    let mounts = mount::mounts().map_err(failed)?;
    let one = |(n, wanted): (usize, &cri::Mount)| {
        let source = match images.iter().find(|image| image.index == n) {
            Some(image) => folder_of_image(n, wanted, &image.root)?,
            None => resolve(Path::new(&wanted.host_path))?,
        };
        let source_propagation =
            mount::mount_of(&mounts, &source).map_or(Propagation::Private, |mount| mount.propagation);
        Ok(PreparedMount { mount: wanted.clone(), source, source_propagation })
    };
    config.mounts.iter().enumerate().map(one).collect()
}

/// The folder of a mounted image that `image_sub_path` names: no link in it leads out of the image.
fn folder_of_image(n: usize, wanted: &cri::Mount, root: &Path) -> Result<PathBuf, ContainerError> {
    let field = format!("config.mounts[{n}].image_sub_path");
    let refuse = |why: String| ContainerError::ImageVolume { field: field.clone(), why };
    if wanted.image_sub_path.is_empty() {
        return Ok(root.to_owned());
    }
    let opened = rootfs::open(root, Path::new(&wanted.image_sub_path), OFlags::PATH | OFlags::DIRECTORY);
    let folder = opened
        .map_err(|error| refuse(crate::error::chain(&error)))?
        .ok_or_else(|| refuse(format!("the image has no folder {:?}", wanted.image_sub_path)))?;
    std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))
        .map_err(|error| refuse(error.to_string()))
}

fn resolve(host: &Path) -> Result<PathBuf, ContainerError> {
    let file = |action| move |source| ContainerError::File { action, path: host.to_owned(), source };
    // Not `exists`: a dangling link is an error to tell, not a place for a folder.
    if let Err(error) = std::fs::symlink_metadata(host) {
        if error.kind() != std::io::ErrorKind::NotFound {
            return Err(file("look at")(error));
        }
        std::fs::create_dir_all(host).map_err(file("make the missing host path"))?;
    }
    host.canonicalize().map_err(file("resolve"))
}

/// Looks up the nodes of every device that the config names. Blocking.
pub(super) fn devices(config: &cri::ContainerConfig) -> Result<Vec<PreparedDevice>, ContainerError> {
    let one = |(n, wanted): (usize, &cri::Device)| {
        let nodes = device::at(Path::new(&wanted.host_path), Path::new(&wanted.container_path));
        let nodes = nodes.map_err(|error| refused(&format!("config.devices[{n}].host_path"), &error))?;
        let permissions = if wanted.permissions.is_empty() { "rwm" } else { &wanted.permissions };
        Ok(PreparedDevice { nodes, permissions: permissions.to_owned() })
    };
    config.devices.iter().enumerate().map(one).collect()
}

fn refused(field: &str, error: &LinuxError) -> ContainerError {
    field::error(field, crate::error::chain(error)).into()
}
