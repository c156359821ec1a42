//! A pod as `cridge play` understands it: the part of Kubernetes' v1 Pod that needs no cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::quantity::Quantity;
use crate::proto::cri;

/// One pod to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub name: String,
    pub namespace: String,
    /// The manifest's, or one made up for this run.
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub hostname: Option<String>,
    pub host_aliases: Vec<HostAlias>,
    pub dns_policy: DnsPolicy,
    pub dns: cri::DnsConfig,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub share_process_namespace: bool,
    /// The handler of RunPodSandbox: without a cluster a RuntimeClass is called what its handler is.
    pub runtime_class: String,
    pub restart_policy: RestartPolicy,
    /// How long a container may take to end once it was asked to.
    pub grace: Duration,
    pub security: PodSecurity,
    pub volumes: Vec<Volume>,
    /// Run one after the other, before the containers.
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
}

/// An extra line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    pub ip: String,
    pub hostnames: Vec<String>,
}

/// Where a pod's resolv.conf comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The node's, since there is no cluster with another; `dnsConfig` adds to it.
    Node,
    /// From `dnsConfig` alone.
    None,
}

/// What becomes of a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// Whether a container that ended with this code is started again.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// Security settings that all containers share, unless they have their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSecurity {
    pub user: Identity,
    pub fs_group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub supplemental_groups_policy: cri::SupplementalGroupsPolicy,
    pub seccomp: Option<cri::SecurityProfile>,
    pub sysctls: BTreeMap<String, String>,
}

/// Whom a process runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: Option<i64>,
    pub group: Option<i64>,
    pub non_root: Option<bool>,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub pull_policy: PullPolicy,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: String,
    /// In the order written: a value may refer to those before it.
    pub env: Vec<(String, String)>,
    pub ports: Vec<Port>,
    pub resources: Resources,
    pub mounts: Vec<VolumeMount>,
    pub security: ContainerSecurity,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    /// An init container that is not waited for, and lives as long as the pod (its own `restartPolicy: Always`).
    pub sidecar: bool,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub container_port: i32,
    /// 0 for none.
    pub host_port: i32,
    pub host_ip: String,
    pub protocol: cri::Protocol,
}

/// What a container asks for and may have at most. A missing request is the limit, as in Kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu_request: Option<Quantity>,
    pub cpu_limit: Option<Quantity>,
    pub memory_request: Option<Quantity>,
    pub memory_limit: Option<Quantity>,
}

/// A volume of the pod, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A new folder on the node's disk.
    EmptyDir,
    /// A new file system in memory.
    Memory {
        size_limit: Option<Quantity>,
    },
    HostPath {
        path: PathBuf,
        kind: HostPathKind,
    },
}

/// What a host path must be (Kubernetes' HostPathType).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathKind {
    Unchecked,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    pub volume: String,
    pub container_path: String,
    pub read_only: bool,
    /// A path inside the volume, in place of its root.
    pub sub_path: Option<PathBuf>,
    pub propagation: cri::MountPropagation,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSecurity {
    pub user: Identity,
    pub privileged: bool,
    pub allow_privilege_escalation: Option<bool>,
    pub read_only_root: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub seccomp: Option<cri::SecurityProfile>,
    /// `procMount: Unmasked`: nothing of /proc is hidden.
    pub unmasked_proc: bool,
}

impl Pod {
    /// Every container, in the order of their starts.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }
}
