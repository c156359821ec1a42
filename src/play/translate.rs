//! What a kubelet would ask of a CRI runtime for a pod: manifest in, CRI configurations out, without a look at
//! anything else.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::expand::{environment, expand, variable};
use super::manifest::*;
use super::resources;
use crate::proto::cri;
use cri::security_profile::ProfileType;

/// What the node adds to a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its resolv.conf.
    pub dns: cri::DnsConfig,
    /// Bytes of its memory.
    pub memory: i64,
    /// Files that tell of the processors' temperature, to be hidden.
    pub thermal: Vec<String>,
}

/// What is known of one start of a container beside its manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Start {
    /// Starts before this one.
    pub attempt: u32,
    /// The image as the runtime has it.
    pub image: cri::Image,
    pub mounts: Vec<cri::Mount>,
}

/// Labels by which the kubelet, and those who read over its shoulder, tell whose a container is.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Parts of /proc and /sys that tell too much, and those that must not be written: the kubelet's own lists.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The sandbox of a pod.
pub fn sandbox(pod: &Pod, node: &Node, log_directory: &str) -> cri::PodSandboxConfig {
    let mut labels = map(&pod.labels);
    labels.extend(pod_labels(pod));
    let mut annotations = map(&pod.annotations);
    annotations.insert("kubernetes.io/config.source".into(), "file".into());
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            attempt: 0,
        }),
        hostname: hostname(pod),
        log_directory: log_directory.to_owned(),
        dns_config: Some(dns(pod, node)),
        port_mappings: pod.containers.iter().chain(sidecars(pod)).flat_map(port_mappings).collect(),
        labels,
        annotations,
        linux: Some(linux_sandbox(pod)),
        windows: None,
    }
}

/// The pod's own name for itself, cut to what a host may be called.
fn hostname(pod: &Pod) -> String {
    if pod.host_network {
        return String::new();
    }
    let name = pod.hostname.as_ref().unwrap_or(&pod.name);
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

fn sidecars(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().filter(|container| container.sidecar)
}

/// The node's resolv.conf unless the pod wants none of it, and what the pod adds: its servers and domains after,
/// its options over those of the same name.
fn dns(pod: &Pod, node: &Node) -> cri::DnsConfig {
    let mut dns = match pod.dns_policy {
        DnsPolicy::Node => node.dns.clone(),
        DnsPolicy::None => cri::DnsConfig::default(),
    };
    for (into, own) in [(&mut dns.servers, &pod.dns.servers), (&mut dns.searches, &pod.dns.searches)] {
        for entry in own {
            if !into.contains(entry) {
                into.push(entry.clone());
            }
        }
    }
    fn name(option: &str) -> &str {
        option.split(':').next().unwrap_or(option)
    }
    dns.options.retain(|option| pod.dns.options.iter().all(|own| name(own) != name(option)));
    dns.options.extend(pod.dns.options.iter().cloned());
    dns
}

fn port_mappings(container: &Container) -> impl Iterator<Item = cri::PortMapping> {
    container.ports.iter().map(|port| cri::PortMapping {
        protocol: port.protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port,
        host_ip: port.host_ip.clone(),
    })
}

fn linux_sandbox(pod: &Pod) -> cri::LinuxPodSandboxConfig {
    cri::LinuxPodSandboxConfig {
        cgroup_parent: String::new(),
        security_context: Some(cri::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod)),
            run_as_user: pod.security.user.user.map(int),
            run_as_group: pod.security.user.user.and(pod.security.user.group).map(int),
            supplemental_groups: groups(pod),
            supplemental_groups_policy: pod.security.supplemental_groups_policy.into(),
            privileged: pod.all_containers().any(|container| container.security.privileged),
            seccomp: Some(profile(ProfileType::RuntimeDefault)),
            ..Default::default()
        }),
        sysctls: map(&pod.security.sysctls),
        overhead: None,
        resources: Some(resources::of_pod(pod)),
    }
}

fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    use cri::NamespaceMode::{Container, Node, Pod};
    let node_or = |host: bool, mode: cri::NamespaceMode| if host { Node } else { mode }.into();
    cri::NamespaceOption {
        network: node_or(pod.host_network, Pod),
        ipc: node_or(pod.host_ipc, Pod),
        pid: node_or(pod.host_pid, if pod.share_process_namespace { Pod } else { Container }),
        ..Default::default()
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    pod.security.fs_group.into_iter().chain(pod.security.supplemental_groups.iter().copied()).collect()
}

/// One start of a container.
///
/// # Errors
/// A sentence, when it must not run as root and would, or nobody can tell.
pub fn container(
    pod: &Pod,
    container: &Container,
    node: &Node,
    start: Start,
) -> Result<cri::ContainerConfig, String> {
    let env = environment(&container.env);
    let expanded = |texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| expand(text, |name| variable(&env, name))).collect()
    };
    let mut labels = HashMap::from(pod_labels(pod));
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: start.attempt }),
        image: Some(cri::ImageSpec {
            image: start.image.id.clone(),
            user_specified_image: container.image.clone(),
            runtime_handler: pod.runtime_class.clone(),
            ..Default::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        labels,
        annotations: annotations(pod, container, start.attempt),
        log_path: format!("{}/{}.log", container.name, start.attempt),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::of_container(pod, container, node.memory)),
            security_context: Some(security(pod, container, node, &start.image)?),
        }),
        mounts: start.mounts,
        envs: env.into_iter().map(|(key, value)| cri::KeyValue { key, value: value.into() }).collect(),
        ..Default::default()
    })
}

fn pod_labels(pod: &Pod) -> [(String, String); 3] {
    [(POD_NAME, &pod.name), (POD_NAMESPACE, &pod.namespace), (POD_UID, &pod.uid)]
        .map(|(key, value)| (key.to_owned(), value.clone()))
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let hash = Sha256::digest(format!("{container:?}"));
    [
        ("io.kubernetes.container.hash", hex::encode(&hash[..4])),
        ("io.kubernetes.container.restartCount", attempt.to_string()),
        ("io.kubernetes.pod.terminationGracePeriod", pod.grace.as_secs().to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn security(
    pod: &Pod,
    container: &Container,
    node: &Node,
    image: &cri::Image,
) -> Result<cri::LinuxContainerSecurityContext, String> {
    let own = &container.security;
    let user = own.user.or(pod.security.user);
    let by_image = image.uid.as_ref().map(|uid| uid.value);
    refuse_root(user, by_image, &image.username)?;
    let run_as_user = user.user.or(by_image);
    let run_as_username = if run_as_user.is_none() { image.username.clone() } else { String::new() };
    let named = run_as_user.is_some() || !run_as_username.is_empty();
    if user.group.is_some() && !named {
        return Err("runAsGroup needs runAsUser, since the image names no user".into());
    }
    let hidden = if own.unmasked_proc { (Vec::new(), Vec::new()) } else { hidden_paths(node) };
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: own.add_capabilities.clone(),
            drop_capabilities: own.drop_capabilities.clone(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: own.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: run_as_user.map(int),
        run_as_group: user.group.map(int),
        run_as_username,
        readonly_rootfs: own.read_only_root,
        supplemental_groups: groups(pod),
        supplemental_groups_policy: pod.security.supplemental_groups_policy.into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: hidden.0,
        readonly_paths: hidden.1,
        seccomp: Some(
            own.seccomp
                .clone()
                .or_else(|| pod.security.seccomp.clone())
                .unwrap_or(profile(ProfileType::Unconfined)),
        ),
        ..Default::default()
    })
}

impl Identity {
    /// A container's own word counts, each by itself.
    fn or(self, other: Self) -> Self {
        Self {
            user: self.user.or(other.user),
            group: self.group.or(other.group),
            non_root: self.non_root.or(other.non_root),
        }
    }
}

fn refuse_root(user: Identity, by_image: Option<i64>, username: &str) -> Result<(), String> {
    if user.non_root != Some(true) {
        return Ok(());
    }
    match user.user.or(by_image) {
        Some(0) => Err("runAsNonRoot is set, and it would run as root (user 0)".into()),
        Some(_) => Ok(()),
        None if username.is_empty() => Err("runAsNonRoot is set, and the image runs as root".into()),
        None => Err(format!(
            "runAsNonRoot is set, and the image's user {username:?} is no number that could be told from root: set runAsUser"
        )),
    }
}

fn hidden_paths(node: &Node) -> (Vec<String>, Vec<String>) {
    let masked = MASKED.map(str::to_owned).into_iter().chain(node.thermal.iter().cloned());
    (masked.collect(), READ_ONLY.map(str::to_owned).into())
}

fn profile(profile_type: ProfileType) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: profile_type.into(), localhost_ref: String::new() }
}

fn int(value: i64) -> cri::Int64Value {
    cri::Int64Value { value }
}

fn map(from: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    from.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
