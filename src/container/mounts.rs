//! What a config's mounts and devices are on this host: looked at here, so that the spec can be made without looking.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::ContainerError;
use crate::field;
use crate::id::ContainerId;
use crate::linux::mount::{self, Propagation};
use crate::linux::{LinuxError, device, rootfs, selinux};
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

/// Gives the files of all mounts that ask for it the label of the container's; `shared` are those of the pod. Images are
/// mounted with their label. Blocking.
pub(super) fn relabel(
    id: &ContainerId,
    mounts: &[PreparedMount],
    shared: &[cri::Mount],
    label: &str,
) -> Result<(), ContainerError> {
    if label.is_empty() {
        return Ok(());
    }
    let failed = |source| ContainerError::Linux { step: "label the mounts", id: id.clone(), source };
    for (n, PreparedMount { mount, source, .. }) in mounts.iter().enumerate() {
        if !mount.selinux_relabel || mount.image.is_some() {
            continue;
        }
        if selinux::is_of_the_node(source) {
            let why = format!("{} is the node's own and keeps its label", source.display());
            return Err(field::error(format!("config.mounts[{n}].selinux_relabel"), why).into());
        }
        selinux::relabel(source, label).map_err(failed)?;
    }
    let covered = |path: &str| mounts.iter().any(|mount| mount.mount.container_path == path);
    let shared = shared.iter().filter(|mount| mount.selinux_relabel && !covered(&mount.container_path));
    shared
        .map(|mount| Path::new(&mount.host_path))
        .try_for_each(|path| selinux::relabel(path, label).map_err(failed))
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

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "u:r:t:s0:c1,c2";

    fn prepared(source: &Path, relabel: bool, image: bool) -> PreparedMount {
        let image = image.then(cri::ImageSpec::default);
        let mount = cri::Mount { selinux_relabel: relabel, image, ..Default::default() };
        PreparedMount { mount, source: source.to_owned(), source_propagation: Propagation::Private }
    }

    #[test]
    fn what_asks_for_it_is_labelled_and_nothing_else() {
        crate::linux::require_root();
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let [wanted, left, image, hosts, covered] =
            ["wanted", "left", "image", "hosts", "covered"].map(folder);
        let shared = |container_path: &str, host: &Path| cri::Mount {
            container_path: container_path.into(),
            host_path: host.display().to_string(),
            selinux_relabel: true,
            ..Default::default()
        };
        let mut mounts =
            vec![prepared(&wanted, true, false), prepared(&left, false, false), prepared(&image, true, true)];
        mounts[1].mount.container_path = "/dev/shm".into();
        let files = [shared("/etc/hosts", &hosts), shared("/dev/shm", &covered)];
        let id = ContainerId::generate();
        let labelled = |path: &Path| {
            let mut label = [0; 64];
            rustix::fs::lgetxattr(path, "security.selinux", &mut label)
                .is_ok_and(|n| label[..n] == *LABEL.as_bytes())
        };
        relabel(&id, &mounts, &files, "").unwrap();
        assert!(!labelled(&wanted));
        relabel(&id, &mounts, &files, LABEL).unwrap();
        let all = [&wanted, &left, &image, &hosts, &covered].map(|path| labelled(path));
        assert_eq!(all, [true, false, false, true, false]);

        mounts.push(prepared(Path::new("/etc"), true, false));
        let error = relabel(&id, &mounts, &files, LABEL).unwrap_err();
        assert!(error.to_string().starts_with("config.mounts[3].selinux_relabel: /etc "), "{error}");
    }
}
