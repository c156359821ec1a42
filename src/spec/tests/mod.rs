//! Specs as wholes: a bench with a pod and a container, changed field by field.

mod cdi;
mod confinement;
mod golden;
mod mounts;
mod pod;
mod resources;

use std::path::PathBuf;

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::*;
use crate::config::{HandlerConfig, RuntimeConfig};
use crate::id::{ContainerId, PodId};
use crate::linux::cgroup::CgroupMode;
use crate::linux::device::{DeviceKind, DeviceNode};
use crate::linux::mount::Propagation;
use crate::proto::cri::{self, MountPropagation, NamespaceMode};

const ROOT: &str = "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/p";
const SHM: &str = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/p/shm";

/// A pod and a container of it, with all that their specs are made of.
struct Bench {
    pod: cri::PodSandboxConfig,
    config: cri::ContainerConfig,
    image: ImageConfig,
    runtime: RuntimeConfig,
    handler: HandlerConfig,
    node: NodeFacts,
    base: Option<Spec>,
    host_network: bool,
    mounts: Vec<PreparedMount>,
    devices: Vec<PreparedDevice>,
    cdi: Vec<CdiEdits>,
    block_io: Option<oci_spec::runtime::LinuxBlockIo>,
    rdt_class: Option<String>,
    pid: PidNamespace,
    recursive_read_only: bool,
    profile: Option<Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let mut image = ImageConfig::default();
        image.set_entrypoint(Some(vec!["/app".into()]));
        image.set_env(Some(vec!["PATH=/bin".into(), "A=1".into()]));
        Self {
            pod: cri::PodSandboxConfig {
                metadata: Some(cri::PodSandboxMetadata {
                    name: "web".into(),
                    uid: "u-1".into(),
                    namespace: "default".into(),
                    attempt: 0,
                }),
                hostname: "web".into(),
                log_directory: "/var/log/pods/web".into(),
                linux: Some(cri::LinuxPodSandboxConfig {
                    cgroup_parent: "/kubepods/pod1".into(),
                    security_context: Some(Default::default()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            config: cri::ContainerConfig {
                metadata: Some(cri::ContainerMetadata { name: "main".into(), attempt: 0 }),
                linux: Some(cri::LinuxContainerConfig {
                    resources: None,
                    security_context: Some(Default::default()),
                }),
                ..Default::default()
            },
            image,
            runtime: RuntimeConfig::default(),
            handler: HandlerConfig::default(),
            node: NodeFacts {
                hostname: "node".into(),
                cgroup_mode: CgroupMode::Legacy,
                controllers: vec!["memory".into()],
                swap_controller: true,
                cgroup2_options: vec!["nsdelegate".into()],
                kernel: (6, 1),
                containerd_caps: CapSet(1 | 1 << 21),
                oom_score_floor: -1000,
                apparmor: false,
                selinux: false,
                seccomp: true,
                knows_sandboxes: false,
            },
            base: None,
            host_network: false,
            mounts: Vec::new(),
            devices: Vec::new(),
            cdi: Vec::new(),
            block_io: None,
            rdt_class: None,
            pid: PidNamespace::Container,
            recursive_read_only: false,
            profile: None,
        }
    }

    fn security(&mut self) -> &mut cri::LinuxContainerSecurityContext {
        self.config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
    }

    fn pod_linux(&mut self) -> &mut cri::LinuxPodSandboxConfig {
        self.pod.linux.as_mut().unwrap()
    }

    fn pod_security(&mut self) -> &mut cri::LinuxSandboxSecurityContext {
        self.pod_linux().security_context.as_mut().unwrap()
    }

    fn resources(&mut self) -> &mut cri::LinuxContainerResources {
        self.config.linux.as_mut().unwrap().resources.get_or_insert_default()
    }

    fn mount(&mut self, path: &str) -> &mut PreparedMount {
        self.mounts.push(PreparedMount {
            mount: cri::Mount { container_path: path.into(), host_path: "/src".into(), ..Default::default() },
            source: "/src".into(),
            source_propagation: Propagation::Private,
        });
        self.mounts.last_mut().unwrap()
    }

    fn pause(&self) -> Result<Value, SpecError> {
        let spec = pause(&PauseSpec {
            id: &PodId::parse(&"a".repeat(64)).unwrap(),
            config: &self.pod,
            image: &self.image,
            image_name: "pause:1",
            netns: (!self.host_network).then_some("/run/netns/n".as_ref()),
            userns: "/state/pinned/user".as_ref(),
            sandbox_dir: ROOT.as_ref(),
            shm: SHM.as_ref(),
            runtime: &self.runtime,
            handler: &self.handler,
            seccomp_profile: self.profile.as_deref(),
            process_label: "process_label",
            mount_label: "mount_label",
            node: &self.node,
        })?;
        Ok(sorted(serde_json::to_value(spec).unwrap()))
    }

    fn container(&self) -> Result<Value, SpecError> {
        let generated = |path: &str, source: String| cri::Mount {
            container_path: path.into(),
            host_path: source,
            ..Default::default()
        };
        let spec = container(&ContainerSpec {
            id: &ContainerId::parse(&"c".repeat(64)).unwrap(),
            pod_id: &PodId::parse(&"a".repeat(64)).unwrap(),
            pod_config: &self.pod,
            config: &self.config,
            image: &self.image,
            image_name: "app:1",
            pause_pid: 42,
            pid_namespace: self.pid,
            mounts: self.mounts.clone(),
            extra_mounts: vec![
                generated("/etc/hosts", format!("{ROOT}/hosts")),
                generated("/dev/shm", SHM.into()),
                generated("/data", "/volumes/data".into()),
            ],
            devices: self.devices.clone(),
            host_devices: vec![fuse("/dev/fuse")],
            cdi: self.cdi.clone(),
            block_io: self.block_io.clone(),
            rdt_class: self.rdt_class.clone(),
            passwd: Some("root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/sh\n"),
            group: Some("root:x:0:\nlog:x:40:www\n"),
            sandbox_dir: ROOT.as_ref(),
            runtime: &self.runtime,
            handler: &self.handler,
            recursive_read_only: self.recursive_read_only,
            base: self.base.as_ref(),
            seccomp_profile: self.profile.as_deref(),
            process_label: "process_label",
            mount_label: "mount_label",
            node: &self.node,
        })?;
        Ok(sorted(serde_json::to_value(spec).unwrap()))
    }

    /// The error of a container, which must name `field`.
    fn refused(&self, field: &str) -> SpecError {
        let error = self.container().unwrap_err();
        assert!(error.to_string().contains(&format!("{field}: ")), "{error} should name {field}");
        error
    }

    /// The error of a pause, which must name `field`.
    fn pause_refused(&self, field: &str) -> SpecError {
        let error = self.pause().unwrap_err();
        assert!(error.to_string().contains(&format!("{field}: ")), "{error} should name {field}");
        error
    }
}

fn fuse(path: &str) -> DeviceNode {
    DeviceNode {
        path: path.into(),
        kind: DeviceKind::Char,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 1,
        gid: 2,
    }
}

/// Capability sets have no order: sorted, so that documents can be compared.
fn sorted(mut spec: Value) -> Value {
    for set in spec["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        set.as_array_mut().unwrap().sort_by_key(|name| name.as_str().unwrap().to_owned());
    }
    spec
}

/// The 14 capabilities of containerd's default, sorted.
fn default_caps() -> Value {
    json!([
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT"
    ])
}

fn mount_at<'a>(spec: &'a Value, path: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == path)
}

fn options(spec: &Value, path: &str) -> Value {
    mount_at(spec, path).unwrap_or_else(|| panic!("nothing is mounted at {path}"))["options"].clone()
}

fn namespace(spec: &Value, kind: &str) -> Option<String> {
    let all = spec["linux"]["namespaces"].as_array().unwrap();
    let found = all.iter().find(|namespace| namespace["type"] == kind)?;
    Some(found["path"].as_str().unwrap_or_default().into())
}

const CONTEXT: &str = "config.linux.security_context";
