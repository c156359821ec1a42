//! The sandbox's own spec: the pause container that holds the namespaces.

use std::path::Path;

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::{LinuxCpu, LinuxNamespaceType, Spec};

use super::base::{self, Draft};
use super::field::{self, SECURITY};
use super::mounts::{self, Access};
use super::namespaces::{self, UserNamespace};
use super::seccomp::{Demand, Filter};
use super::user::{self, Accounts, Identity};
use super::{NodeFacts, SpecError};
use super::{annotations, lsm, process, sysctls};
use crate::config::{HandlerConfig, RuntimeConfig};
use crate::id::PodId;
use crate::proto::cri::{self, NamespaceMode};

/// A pause sleeps: the least weight that the CPU controller knows.
const CPU_SHARES: u64 = 2;

/// A pause is killed almost last: with it, the pod's network goes (the kubelet's own figure for it).
const OOM_SCORE_ADJ: i32 = -998;

/// The longest hostname that the kernel takes (sethostname(2)).
const HOSTNAME_BYTES: usize = 64;

/// All that a pause spec is made of.
#[derive(Clone, Debug)]
pub struct PauseSpec<'a> {
    pub id: &'a PodId,
    pub config: &'a cri::PodSandboxConfig,
    /// Entry point, env, user and working folder of the pause image.
    pub image: &'a ImageConfig,
    pub image_name: &'a str,
    /// `None` on the host's network.
    pub netns: Option<&'a Path>,
    /// Where the pod's user namespace is pinned; not looked at where it has none of its own.
    pub userns: &'a Path,
    /// `<root>/sandboxes/<id>`: resolv.conf is there.
    pub sandbox_dir: &'a Path,
    /// `<state>/sandboxes/<id>/shm`, or /dev/shm with the host's IPC.
    pub shm: &'a Path,
    pub runtime: &'a RuntimeConfig,
    pub handler: &'a HandlerConfig,
    /// Contents of the file that [`pause_seccomp_path`](super::pause_seccomp_path) names.
    pub seccomp_profile: Option<&'a [u8]>,
    /// The SELinux process label that was chosen.
    pub process_label: &'a str,
    pub mount_label: &'a str,
    pub node: &'a NodeFacts,
}

/// The spec of a sandbox's pause (contract §3).
///
/// A handler's `base_runtime_spec` is for containers only, as in containerd.
///
/// # Errors
/// [`SpecError`] with the field that cannot be had.
pub fn pause(input: &PauseSpec<'_>) -> Result<Spec, SpecError> {
    let security = field::sandbox_security(input.config);
    let mut draft = Draft::without_limits();
    draft.root(Access::ReadOnly);
    set_process(&mut draft, input)?;
    set_namespaces(&mut draft, input)?;
    set_mounts(&mut draft, input)?;
    set_resources(&mut draft, input)?;

    draft.annotate(annotations::passed(&input.config.annotations, &input.handler.pod_annotations));
    draft.annotate(annotations::of_pause(input.id.as_str(), input.config, input.image_name));

    // The sandbox's AppArmor profile is its containers' business; containerd's pauses run without one.
    let process_label = if security.privileged { "" } else { input.process_label };
    lsm::label(&mut draft, process_label, input.mount_label, input.node);
    let demand = Demand::of_pause(input.config, input.runtime)?;
    if let Filter::Is(filter) =
        demand.filter(input.seccomp_profile, draft.process.capabilities().as_ref(), input.node)?
    {
        draft.linux.set_seccomp(Some(filter));
    }
    Ok(draft.finish())
}

fn set_process(draft: &mut Draft, input: &PauseSpec<'_>) -> Result<(), SpecError> {
    let PauseSpec { image, config, .. } = input;
    let security = field::sandbox_security(config);
    // The config of a pause names no command: what remains of docker's rules is the image's.
    let nothing = cri::ContainerConfig::default();
    let args = process::args(&nothing, image)
        .map_err(|_| SpecError::invalid("pause image", format!("{:?} names no command", input.image_name)))?;
    draft.process.set_args(Some(args));
    draft.process.set_env(image.env().clone());
    draft.process.set_cwd(process::cwd(&draft.process, image, &nothing)?);
    let policy = user::policy(security.supplemental_groups_policy)?;
    let user = Identity::of_pause(security, image)?;
    draft.process.set_user(user.look_up(Accounts::default(), policy, &security.supplemental_groups)?);
    draft.process.set_oom_score_adj(Some(OOM_SCORE_ADJ.max(input.node.oom_score_floor)));
    Ok(())
}

fn set_namespaces(draft: &mut Draft, input: &PauseSpec<'_>) -> Result<(), SpecError> {
    let config = input.config;
    let options = field::sandbox_namespaces(config);
    let node = i32::from(NamespaceMode::Node);
    for (name, mode) in [("network", options.network), ("ipc", options.ipc)] {
        if mode != node && mode != i32::from(NamespaceMode::Pod) {
            let name = format!("{SECURITY}.namespace_options.{name}");
            return Err(SpecError::invalid(name, format!("mode {mode} is neither POD nor NODE")));
        }
    }
    if NamespaceMode::try_from(options.pid).is_err() {
        let name = format!("{SECURITY}.namespace_options.pid");
        return Err(SpecError::invalid(name, format!("mode {} is unknown", options.pid)));
    }
    match input.netns {
        Some(path) => {
            let path = field::host_path("netns", path)?;
            namespaces::set(&mut draft.namespaces, LinuxNamespaceType::Network, Some(path));
            set_hostname(draft, &config.hostname)?;
        }
        // The node's names go with the node's network.
        None => {
            namespaces::unset(&mut draft.namespaces, LinuxNamespaceType::Network);
            namespaces::unset(&mut draft.namespaces, LinuxNamespaceType::Uts);
        }
    }
    if options.pid == node {
        namespaces::unset(&mut draft.namespaces, LinuxNamespaceType::Pid);
    }
    if options.ipc == node {
        namespaces::unset(&mut draft.namespaces, LinuxNamespaceType::Ipc);
    }
    let user = UserNamespace::of_pod(config)?;
    let own = sysctls::Own { network: input.netns.is_some(), ipc: options.ipc != node, user: user.is_some() };
    if base::on_this_kernel(input.handler) {
        sysctls::check(config, own)?;
    }
    draft.linux.set_sysctl(Some(sysctls::of_pod(config, own, input.runtime, input.node)));
    if let Some(user) = user {
        // Its /proc and /dev/mqueue cannot be mounted from inside.
        for (name, mode) in [("pid", options.pid), ("ipc", options.ipc)] {
            if mode == node {
                let name = format!("{SECURITY}.namespace_options.{name}");
                return Err(SpecError::invalid(
                    name,
                    "is the node's (NODE), which a pod with a user namespace of its own cannot use",
                ));
            }
        }
        user.enter(draft, field::host_path("user namespace", input.userns)?);
        if input.netns.is_none() {
            mounts::bind_sysfs(&mut draft.mounts);
        }
    }
    Ok(())
}

fn set_hostname(draft: &mut Draft, hostname: &str) -> Result<(), SpecError> {
    let name = "config.hostname";
    field::text(name, hostname)?;
    if hostname.len() > HOSTNAME_BYTES {
        let why = format!("{} bytes are more than the kernel's {HOSTNAME_BYTES}", hostname.len());
        return Err(SpecError::invalid(name, why));
    }
    if !hostname.is_empty() {
        draft.hostname(hostname);
    }
    Ok(())
}

fn set_mounts(draft: &mut Draft, input: &PauseSpec<'_>) -> Result<(), SpecError> {
    draft.mounts.retain(|mount| mount.destination() != Path::new("/dev/shm"));
    // Remounting in a user namespace needs the flags that the source has.
    let options = ["rbind", "ro", "nosuid", "nodev", "noexec"];
    let shm = field::host_path("shm", input.shm)?;
    draft.mounts.push(mounts::mount("/dev/shm", "bind", shm, &options));
    // For runtimes that set up a VM's DNS by it.
    let resolv = field::host_path("sandbox folder", &input.sandbox_dir.join("resolv.conf"))?;
    draft.mounts.push(mounts::mount("/etc/resolv.conf", "bind", resolv, &options));
    if field::sandbox_security(input.config).privileged {
        mounts::make_writable(&mut draft.mounts, "sysfs");
    }
    Ok(())
}

fn set_resources(draft: &mut Draft, input: &PauseSpec<'_>) -> Result<(), SpecError> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(CPU_SHARES));
    draft.resources.set_cpu(Some(cpu));
    let path = base::cgroups_path(input.config, input.handler, input.id.as_str())?;
    draft.linux.set_cgroups_path(Some(path.into()));
    Ok(())
}
