//! A container's spec (contract §4).

use std::path::{Path, PathBuf};

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::{LinuxBlockIo, LinuxIntelRdt, LinuxNamespaceType, Spec};

use super::base::{self, Draft};
use super::cdi::{self, CdiEdits};
use super::field::{self, SECURITY};
use super::mounts::{self, Access};
use super::namespaces::UserNamespace;
use super::resources::Wanted;
use super::seccomp::{Demand, Filter};
use super::user::{self, Accounts, Identity};
use super::{NodeFacts, PidNamespace, SpecError};
use super::{annotations, caps, devices, lsm, namespaces, process};
use crate::config::{HandlerConfig, RuntimeConfig};
use crate::id::{ContainerId, PodId};
use crate::linux::cgroup::CgroupMode;
use crate::linux::device::DeviceNode;
use crate::linux::mount::Propagation;
use crate::proto::cri::{self, NamespaceMode};

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
    /// What the CDI devices of the config ask for, in their order.
    pub cdi: Vec<CdiEdits>,
    /// The config's classes, where it names some.
    pub block_io: Option<LinuxBlockIo>,
    pub rdt_class: Option<String>,
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

/// The container's spec, built in containerd's order: what comes later may look at what came before.
///
/// # Errors
/// [`SpecError`] with the field that cannot be had.
pub fn container(input: &ContainerSpec<'_>) -> Result<Spec, SpecError> {
    let security = field::security(input.config);
    let mut draft = input.base.map_or_else(Draft::without_limits, Draft::on);
    draft.root(if security.readonly_rootfs { Access::ReadOnly } else { Access::ReadWrite });
    set_process(&mut draft, input)?;
    set_namespaces(&mut draft, input)?;
    set_mounts(&mut draft, input)?;
    devices::add(&mut draft, input)?;
    set_privileges(&mut draft, input)?;
    set_resources(&mut draft, input)?;
    set_annotations(&mut draft, input);
    set_user(&mut draft, input)?;
    set_profiles(&mut draft, input)?;
    cdi::apply(&mut draft, &input.cdi)?;
    Ok(draft.finish())
}

fn set_process(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    let ContainerSpec { config, image, pod_config, .. } = input;
    let hostname = match pod_config.hostname.as_str() {
        "" => &input.node.hostname,
        hostname => hostname,
    };
    let env = draft.process.env().clone().unwrap_or_default();
    draft.process.set_args(Some(process::args(config, image)?));
    draft.process.set_env(Some(process::env(&env, hostname, image, config)?));
    draft.process.set_cwd(process::cwd(&draft.process, image, config)?);
    draft.process.set_terminal(Some(config.tty));
    draft.process.set_no_new_privileges(Some(field::security(config).no_new_privs));
    Ok(())
}

fn set_namespaces(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    namespaces::join(draft, input.pause_pid, input.pid_namespace);
    // Of its own, so that a container sees its part of the tree only. Not on v1, where the controllers are mounted one
    // by one and other runtimes show them all.
    if input.node.cgroup_mode == CgroupMode::Unified && !field::security(input.config).privileged {
        namespaces::set(&mut draft.namespaces, LinuxNamespaceType::Cgroup, None);
    }
    if let Some(user) = namespaces::user_of_container(input.config, input.pod_config)? {
        user.enter(draft, format!("/proc/{}/ns/user", input.pause_pid).into());
        if field::sandbox_namespaces(input.pod_config).network == i32::from(NamespaceMode::Node) {
            mounts::bind_sysfs(&mut draft.mounts);
        }
    }
    Ok(())
}

fn set_mounts(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    let security = field::security(input.config);
    let writable = input.handler.cgroup_writable && input.node.cgroup_mode == CgroupMode::Unified;
    mounts::add_cgroup(draft, if writable { Access::ReadWrite } else { Access::ReadOnly }, input.node);
    mounts::add(draft, input)?;
    for (name, paths) in
        [("masked_paths", &security.masked_paths), ("readonly_paths", &security.readonly_paths)]
    {
        for (n, path) in paths.iter().enumerate() {
            field::text(&format!("{SECURITY}.{name}[{n}]"), path)?;
        }
    }
    // Exactly as sent: an absent list masks nothing (a pod's procMount: Unmasked).
    draft.linux.set_masked_paths(Some(security.masked_paths.clone()));
    draft.linux.set_readonly_paths(Some(security.readonly_paths.clone()));
    Ok(())
}

fn set_privileges(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    let (security, all) = (field::security(input.config), input.node.containerd_caps);
    let (mut process_label, mount_label) = (input.process_label, input.mount_label);
    if security.privileged {
        if !field::sandbox_security(input.pod_config).privileged {
            return Err(SpecError::invalid(
                format!("{SECURITY}.privileged"),
                "the sandbox is not privileged, so none of its containers can be",
            ));
        }
        draft.process.set_capabilities(Some(caps::privileged(all)));
        draft.linux.set_masked_paths(Some(Vec::new()));
        draft.linux.set_readonly_paths(Some(Vec::new()));
        draft.process.set_apparmor_profile(None);
        mounts::make_writable(&mut draft.mounts, "sysfs");
        mounts::make_writable(&mut draft.mounts, "cgroup");
        if !input.handler.privileged_without_host_devices {
            devices::add_host(draft, &input.host_devices)?;
            devices::allow_all(draft);
        } else if input.handler.privileged_without_host_devices_all_devices_allowed {
            devices::allow_all(draft);
        }
        process_label = "";
    } else {
        let in_user_namespace = draft.namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::User);
        if base::on_this_kernel(input.handler) && !in_user_namespace {
            caps::check_held(security.capabilities.as_ref(), all)?;
        }
        let base = draft.process.capabilities().as_ref();
        let changed = caps::capabilities(base, security.capabilities.as_ref(), all)?;
        draft.process.set_capabilities(Some(changed));
    }
    lsm::label(draft, process_label, mount_label, input.node);
    Ok(())
}

fn set_resources(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    if let Some(wanted) = input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        let at = "config.linux.resources";
        let wanted = Wanted { at, resources: wanted, runtime: input.runtime, node: input.node };
        wanted.apply(&mut draft.resources)?;
        draft.process.set_oom_score_adj(Some(wanted.oom_score_adj()?));
    }
    if let Some(block_io) = &input.block_io {
        draft.resources.set_block_io(Some(block_io.clone()));
    }
    if let Some(class) = &input.rdt_class {
        let mut rdt = LinuxIntelRdt::default();
        rdt.set_clos_id(Some(class.clone()));
        draft.linux.set_intel_rdt(Some(rdt));
    }
    let path = base::cgroups_path(input.pod_config, input.handler, input.id.as_str())?;
    draft.linux.set_cgroups_path(Some(path.into()));
    Ok(())
}

fn set_annotations(draft: &mut Draft, input: &ContainerSpec<'_>) {
    let ContainerSpec { config, pod_config, handler, .. } = input;
    draft.annotate(annotations::passed(&pod_config.annotations, &handler.pod_annotations));
    draft.annotate(annotations::passed(&config.annotations, &handler.container_annotations));
    draft.annotate(annotations::of_container(input.pod_id.as_str(), pod_config, config, input.image_name));
}

fn set_user(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    let security = field::security(input.config);
    let policy = user::policy(security.supplemental_groups_policy)?;
    let accounts = Accounts { passwd: input.passwd, group: input.group };
    let identity = Identity::of_container(security, input.image)?;
    let user = identity.look_up(accounts, policy, &security.supplemental_groups)?;
    if let Some(namespace) = UserNamespace::of_pod(input.pod_config)? {
        namespace.owner(&user)?;
    }
    draft.process.set_user(user);
    Ok(())
}

fn set_profiles(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    if let Some(profile) = lsm::apparmor(input.config, input.runtime, input.node)? {
        draft.process.set_apparmor_profile(Some(profile));
    }
    let demand = Demand::of_container(input.config, input.runtime)?;
    match demand.filter(input.seccomp_profile, draft.process.capabilities().as_ref(), input.node)? {
        Filter::None => draft.linux.set_seccomp(None),
        Filter::OfBase => return Ok(()),
        Filter::Is(filter) => draft.linux.set_seccomp(Some(filter)),
    };
    Ok(())
}
