//! A container's spec (contract §4).

use std::path::{Path, PathBuf};

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::Spec;

use super::{NodeFacts, PidNamespace, SpecError};
use crate::config::{HandlerConfig, RuntimeConfig};
use crate::id::{ContainerId, PodId};
use crate::linux::device::DeviceNode;
use crate::linux::mount::Propagation;
use crate::proto::cri;

/// A CRI mount whose host side was looked at.
#[derive(Clone, Debug)]
pub struct PreparedMount {
    /// As asked; `host_path` is not to be used.
    pub mount: cri::Mount,
    /// The host path with its last symlink resolved (it exists), or where an image's filesystem is mounted.
    pub source: PathBuf,
    /// Propagation of the mount that `source` lies on.
    pub source_propagation: Propagation,
}

/// A CRI device whose nodes were looked up.
#[derive(Clone, Debug)]
pub struct PreparedDevice {
    pub nodes: Vec<DeviceNode>,
    /// `rwm` or a part of it.
    pub permissions: String,
}

/// All that a container's spec is made of.
#[derive(Clone, Debug)]
pub struct ContainerSpec<'a> {
    pub id: &'a ContainerId,
    pub pod_id: &'a PodId,
    pub pod_config: &'a cri::PodSandboxConfig,
    pub config: &'a cri::ContainerConfig,
    pub image: &'a ImageConfig,
    /// As the user wrote it, for the annotation.
    pub image_name: &'a str,
    pub pause_pid: u32,
    pub pid_namespace: PidNamespace,
    /// CRI mounts, in the request's order.
    pub mounts: Vec<PreparedMount>,
    /// Generated mounts that exist on the host (hostname, hosts, resolv.conf, shm) and image volumes: applied where no
    /// CRI mount has the same destination.
    pub extra_mounts: Vec<cri::Mount>,
    pub devices: Vec<PreparedDevice>,
    /// The host's devices, for privileged containers.
    pub host_devices: Vec<DeviceNode>,
    /// /etc/passwd and /etc/group of the image; `None` where there is none.
    pub passwd: Option<&'a str>,
    pub group: Option<&'a str>,
    pub sandbox_dir: &'a Path,
    pub runtime: &'a RuntimeConfig,
    pub handler: &'a HandlerConfig,
    /// Whether the handler can mount recursively read-only.
    pub recursive_read_only: bool,
    pub base: Option<&'a Spec>,
    /// Contents of the localhost seccomp profile that the config names.
    pub seccomp_profile: Option<&'a [u8]>,
    pub process_label: &'a str,
    pub mount_label: &'a str,
    pub node: &'a NodeFacts,
}

/// The container's spec.
pub fn container(input: &ContainerSpec<'_>) -> Result<Spec, SpecError> {
    unimplemented!("{input:?}")
}

/// Whether the user can only be known with the image's passwd and group at hand (a name, or memberships to merge): a
/// numeric user with no lookups saves mounting the snapshot (users.md row 7).
pub fn needs_passwd(config: &cri::ContainerConfig, image: &ImageConfig) -> bool {
    unimplemented!("{config:?} {image:?}")
}

/// The process of an exec in a container: the stored spec's own, with command and terminal replaced.
///
/// # Errors
/// When the stored spec has no process, or the command is empty.
pub fn exec_process(
    stored: &Spec,
    command: &[String],
    terminal: bool,
) -> Result<oci_spec::runtime::Process, SpecError> {
    unimplemented!("{stored:?} {command:?} {terminal}")
}

/// The user that a spec's process runs as, for ContainerStatus (CRI `ContainerUser`).
pub fn user_of(spec: &Spec) -> Option<cri::ContainerUser> {
    unimplemented!("{spec:?}")
}

/// The resources in a spec, for ContainerStatus (CRI `ContainerResources`).
pub fn resources_of(spec: &Spec) -> Option<cri::ContainerResources> {
    unimplemented!("{spec:?}")
}
