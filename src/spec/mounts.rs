//! A container's mounts: the default ones, those generated for the pod, those of the config.
//!
//! Invariant: the config's win over the generated, which win over the default ones; and a mount comes after those above
//! it, so that none hides another.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::base::Draft;
use super::container::{ContainerSpec, PreparedMount};
use super::field;
use super::namespaces::id_mappings;
use super::{NodeFacts, SpecError};
use crate::linux::cgroup::CgroupMode;
use crate::linux::mount::Propagation;
use crate::proto::cri::{self, MountPropagation};

/// Options that a config may add to a bind mount (CRI `Mount.mount_options`).
const EXTRA_OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// Whether a mount is for looking or for changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    fn option(self) -> &'static str {
        match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        }
    }
}

/// One mount in the OCI's words.
pub(super) fn mount(destination: &str, kind: &str, source: PathBuf, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some(kind.into()));
    mount.set_source(Some(source));
    mount.set_options(Some(options.iter().map(|option| option.to_string()).collect()));
    mount
}

/// Mounts the cgroup tree. The runtime turns it into cgroup2 on such nodes.
pub(super) fn add_cgroup(draft: &mut Draft, access: Access, node: &NodeFacts) {
    let mut options = vec!["nosuid", "noexec", "nodev", "relatime", access.option()];
    let own_namespace = draft.namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::Cgroup);
    if node.cgroup_mode == CgroupMode::Unified && !own_namespace {
        // cgroup2 has one set of options for all its mounts: leaving one out here would drop it on the node.
        options.extend(node.cgroup2_options.iter().map(String::as_str));
    }
    draft.mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup".into(), &options));
}

/// Lets a process change what the kernel shows in mounts of `kind`.
pub(super) fn make_writable(mounts: &mut [Mount], kind: &str) {
    for mount in mounts.iter_mut().filter(|mount| mount.typ().as_deref() == Some(kind)) {
        for option in mount.options_mut().iter_mut().flatten().filter(|option| *option == "ro") {
            *option = "rw".into();
        }
    }
}

/// Binds the node's /sys: a process in a user namespace may not mount one for a network namespace that it does not own.
pub(super) fn bind_sysfs(mounts: &mut Vec<Mount>) {
    mounts.retain(|mount| mount.destination() != Path::new("/sys"));
    mounts.push(mount("/sys", "bind", "/sys".into(), &["rbind", "rro", "nosuid", "nodev", "noexec"]));
}

/// Adds the config's mounts and the generated ones.
///
/// # Errors
/// For container paths that are relative, hold `..` or are the root itself; for propagation that the source's mount
/// cannot give; for read-only demands that contradict each other or that the handler cannot meet.
pub(super) fn add(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    let mut bound = Vec::with_capacity(input.mounts.len() + input.extra_mounts.len());
    for (n, prepared) in input.mounts.iter().enumerate() {
        let name = format!("config.mounts[{n}]");
        let path = container_path(&name, &prepared.mount)?;
        raise_root(draft, &prepared.mount);
        bound.push(of_config(&name, path, prepared, input)?);
    }
    let own = bound.len();
    for extra in &input.extra_mounts {
        let path = generated_path(extra)?;
        if !bound[..own].iter().any(|mount| *mount.destination() == path) {
            bound.push(generated(path, extra, input)?);
        }
    }
    bound.sort_by_key(|mount| depth(mount.destination()));

    let supplied = |path: &Path| bound.iter().any(|mount| mount.destination() == path);
    let dev = supplied(Path::new("/dev"));
    draft.mounts.retain(|mount| {
        let path = mount.destination();
        let hidden = dev && path.starts_with("/dev");
        !hidden && !supplied(path)
    });
    draft.mounts.append(&mut bound);
    Ok(())
}

fn container_path(name: &str, mount: &cri::Mount) -> Result<PathBuf, SpecError> {
    mount_point(&format!("{name}.container_path"), &mount.container_path)
}

/// The path of a generated mount: only an image's volume can have a bad one.
fn generated_path(mount: &cri::Mount) -> Result<PathBuf, SpecError> {
    mount_point("image.config.Volumes", &mount.container_path)
}

fn mount_point(name: &str, path: &str) -> Result<PathBuf, SpecError> {
    let path = field::container_path(name, path)?;
    if depth(&path) == 0 {
        return Err(SpecError::invalid(name, "the container's root itself cannot be mounted over"));
    }
    Ok(path)
}

/// How many parts a path has.
pub(super) fn depth(path: &Path) -> usize {
    path.components().count().saturating_sub(1)
}

/// A mount of the config.
fn of_config(
    name: &str,
    path: PathBuf,
    prepared: &PreparedMount,
    input: &ContainerSpec<'_>,
) -> Result<Mount, SpecError> {
    let wanted = &prepared.mount;
    if wanted.image.is_some() {
        if !wanted.host_path.is_empty() {
            return Err(SpecError::invalid(format!("{name}.host_path"), "is given besides an image"));
        }
        if !wanted.readonly {
            return Err(SpecError::invalid(
                format!("{name}.readonly"),
                "an image can only be mounted read-only",
            ));
        }
    }
    let mut options = vec!["rbind", propagation(name, prepared)?, access(name, wanted, input)?];
    for (n, option) in wanted.mount_options.iter().enumerate() {
        if !EXTRA_OPTIONS.contains(&option.as_str()) {
            return Err(SpecError::invalid(
                format!("{name}.mount_options[{n}]"),
                format!("{option:?} is none of {}", EXTRA_OPTIONS.join(", ")),
            ));
        }
        options.push(option);
    }
    let source = field::host_path(&format!("{name}.host_path"), &prepared.source)?;
    let mut mount = mount("", "bind", source, &options);
    mount.set_destination(path);
    // An image was mounted with its ids mapped: an overlay cannot be mapped as a whole.
    if wanted.image.is_none() {
        set_mappings(&mut mount, &wanted.uid_mappings, &wanted.gid_mappings);
    }
    Ok(mount)
}

/// A generated mount. The pod's own files (those in the sandbox's folder, so not shm) are read-only with the root.
fn generated(path: PathBuf, wanted: &cri::Mount, input: &ContainerSpec<'_>) -> Result<Mount, SpecError> {
    let security = field::security(input.config);
    let own_file = Path::new(&wanted.host_path).starts_with(input.sandbox_dir);
    let readonly = wanted.readonly || own_file && security.readonly_rootfs;
    let access = if readonly { Access::ReadOnly } else { Access::ReadWrite };
    let source = field::host_path("generated mount.host_path", Path::new(&wanted.host_path))?;
    let mut mount = mount("", "bind", source, &["rbind", "rprivate", access.option()]);
    mount.set_destination(path);
    match security.namespace_options.as_ref().and_then(|options| options.userns_options.as_ref()) {
        // /dev/shm was made for the pod's root, and a tmpfs cannot be mapped before Linux 6.3.
        Some(options) if mount.destination() != Path::new("/dev/shm") => {
            set_mappings(&mut mount, &options.uids, &options.gids);
        }
        _ => {}
    }
    Ok(mount)
}

fn set_mappings(mount: &mut Mount, uids: &[cri::IdMapping], gids: &[cri::IdMapping]) {
    if !uids.is_empty() || !gids.is_empty() {
        mount.set_uid_mappings(Some(id_mappings(uids)));
        mount.set_gid_mappings(Some(id_mappings(gids)));
    }
}

/// How mounts travel, as far as the source's own mount lets them.
fn propagation(name: &str, prepared: &PreparedMount) -> Result<&'static str, SpecError> {
    let unable = |kind| {
        let source = prepared.source.display();
        SpecError::unsupported(
            format!("{name}.propagation"),
            format!(
                "{source} lies on a mount that is not {kind}; make it so on the node with mount --make-rshared"
            ),
        )
    };
    let value = prepared.mount.propagation;
    match (MountPropagation::try_from(value), prepared.source_propagation) {
        (Ok(MountPropagation::PropagationPrivate), _) => Ok("rprivate"),
        (Ok(MountPropagation::PropagationHostToContainer), Propagation::Private) => {
            Err(unable("shared or a slave"))
        }
        (Ok(MountPropagation::PropagationHostToContainer), _) => Ok("rslave"),
        (Ok(MountPropagation::PropagationBidirectional), Propagation::Shared | Propagation::SharedSlave) => {
            Ok("rshared")
        }
        (Ok(MountPropagation::PropagationBidirectional), _) => Err(unable("shared")),
        (Err(_), _) => Err(SpecError::invalid(format!("{name}.propagation"), format!("{value} is unknown"))),
    }
}

/// Lets the container's root take part in a mount's propagation.
fn raise_root(draft: &mut Draft, mount: &cri::Mount) {
    let old = draft.linux.rootfs_propagation().as_deref();
    let new = match MountPropagation::try_from(mount.propagation) {
        Ok(MountPropagation::PropagationBidirectional) => "rshared",
        Ok(MountPropagation::PropagationHostToContainer) if old != Some("rshared") => "rslave",
        _ => return,
    };
    draft.linux.set_rootfs_propagation(Some(new.into()));
}

fn access(name: &str, wanted: &cri::Mount, input: &ContainerSpec<'_>) -> Result<&'static str, SpecError> {
    let name = format!("{name}.recursive_read_only");
    match (wanted.readonly, wanted.recursive_read_only) {
        (false, false) => Ok("rw"),
        (true, false) => Ok("ro"),
        (false, true) => Err(SpecError::invalid(name, "is given for a mount that is not read-only")),
        (true, true) if wanted.propagation != i32::from(MountPropagation::PropagationPrivate) => {
            Err(SpecError::invalid(name, "is given for a mount whose propagation is not private"))
        }
        (true, true) if !input.recursive_read_only => Err(SpecError::RecursiveReadOnly { field: name }),
        (true, true) => Ok("rro"),
    }
}
