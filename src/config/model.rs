//! The configuration as the rest of the program reads it: checked, with every default filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// All that `cridge serve` can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the CRI is served.
    pub listen: PathBuf,
    /// Persistent state, laid out as the built-in plugin's root.
    pub root: PathBuf,
    /// State that a reboot wipes, laid out as the built-in plugin's state folder.
    pub state: PathBuf,
    pub containerd: ContainerdConfig,
    pub runtime: RuntimeConfig,
    pub network: NetworkConfig,
    pub image: ImageConfig,
    pub registry: RegistryConfig,
    pub streaming: StreamingConfig,
    pub metrics: MetricsConfig,
    pub traces: TracesConfig,
    pub log: LogConfig,
}

/// How containerd is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerdConfig {
    pub socket: PathBuf,
    /// containerd's namespace; `k8s.io` is what kubelet's cAdvisor looks into.
    pub namespace: String,
}

/// How pods and containers are run.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeConfig {
    /// The handler of a pod that names none.
    pub default_handler: String,
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// `cgroupfs` or `systemd` told to the kubelet; unset: asked of the handler's options, then of the node.
    pub cgroup_driver: Option<CgroupDriver>,
    /// Bytes of a CRI log line's text before it is split.
    pub max_log_line: usize,
    /// How long an exec's output may trickle on after its process ended.
    pub exec_drain: Duration,
    /// Lets unprivileged processes of a pod bind ports below 1024.
    pub enable_unprivileged_ports: bool,
    /// Lets unprivileged processes of a pod send ICMP echo.
    pub enable_unprivileged_icmp: bool,
    pub disable_hugetlb_controller: bool,
    pub tolerate_missing_hugetlb_controller: bool,
    pub ignore_image_defined_volumes: bool,
    pub enable_selinux: bool,
    pub selinux_category_range: u32,
    pub disable_apparmor: bool,
    pub unset_seccomp_profile: Option<String>,
    pub device_ownership_from_security_context: bool,
    pub enable_cdi: bool,
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Classes of block I/O, in goresctrl's format.
    pub blockio_config_file: Option<PathBuf>,
    pub ignore_blockio_not_enabled_errors: bool,
    pub ignore_rdt_not_enabled_errors: bool,
    pub restore_from_images: bool,
}

/// One runtime handler (a RuntimeClass' `handler`).
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerConfig {
    /// The shim's type, `io.containerd.runc.v2`.
    pub runtime_type: String,
    /// An absolute shim binary; beats the type for look-up.
    pub runtime_path: Option<PathBuf>,
    /// The shim's options, as containerd's configuration writes them (`BinaryName`, `SystemdCgroup`, …).
    pub options: toml::Table,
    pub snapshotter: Option<String>,
    /// An OCI spec that takes the place of the default one.
    pub base_runtime_spec: Option<PathBuf>,
    pub cni_conf_dir: Option<PathBuf>,
    pub cni_max_conf_num: Option<usize>,
    pub pod_annotations: Vec<String>,
    pub container_annotations: Vec<String>,
    pub privileged_without_host_devices: bool,
    pub privileged_without_host_devices_all_devices_allowed: bool,
    pub cgroup_writable: bool,
}

/// Who makes a container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

/// CNI.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    pub conf_dir: PathBuf,
    pub bin_dirs: Vec<PathBuf>,
    /// How many files of `conf_dir` are used, in order of name; 0 for all.
    pub max_conf_num: usize,
    /// Where results are kept for DEL, in libcni's format.
    pub cache_dir: PathBuf,
    /// Where network namespaces are pinned.
    pub netns_dir: PathBuf,
    /// Renders a conflist from the node's pod CIDR (UpdateRuntimeConfig).
    pub conf_template: Option<PathBuf>,
    pub ip_preference: IpPreference,
    /// How long one plugin may take.
    pub plugin_timeout: Duration,
    /// Attach several networks one after the other.
    pub setup_serially: bool,
}

/// Which address of a dual-stack pod is its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpPreference {
    Ipv4,
    Ipv6,
    /// As the plugin's result orders them.
    Cni,
}

/// Images and their snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageConfig {
    pub snapshotter: String,
    /// An image for pause containers in place of the built-in one.
    pub pause_image: Option<String>,
    /// Blobs downloaded at once, over all pulls.
    pub max_concurrent_downloads: usize,
    /// A pull without a byte for this long is cancelled.
    pub pull_progress_timeout: Duration,
    /// Bytes that one layer may unpack to.
    pub max_layer_bytes: u64,
    pub discard_unpacked_layers: bool,
}

/// How registries are reached.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryConfig {
    /// Folders of `<host>/hosts.toml`, first match wins.
    pub config_dirs: Vec<PathBuf>,
    /// Sent with every request, besides those of `hosts.toml`.
    pub headers: BTreeMap<String, Vec<String>>,
}

/// Where exec, attach and port-forward are served.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamingConfig {
    pub address: IpAddr,
    /// 0: a free one, chosen at the start.
    pub port: u16,
    /// A session ends after so long without a byte.
    pub idle_timeout: Duration,
    /// `None`: nothing is encrypted.
    pub tls: Option<StreamingTls>,
}

/// Where the streaming server's certificate comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamingTls {
    /// It is made at the start, and again before it ends.
    SelfSigned,
    /// PEM files, read again whenever they change.
    Files { certificate: PathBuf, key: PathBuf },
}

/// Where figures about the daemon are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsConfig {
    /// `None`: nowhere.
    pub listen: Option<MetricsAddress>,
}

/// Where Prometheus finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}/metrics"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Who is told what each call took, and its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// `http://HOST:PORT` of a collector; `None`: nobody.
    pub endpoint: Option<String>,
    /// Of a million calls that come without a trace, so many begin one.
    pub sampling_rate_per_million: u32,
    pub service_name: String,
}

/// The daemon's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// As tracing's filter directives.
    pub level: String,
    pub format: LogFormat,
}

/// What the daemon's log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, logfmt elsewhere.
    Auto,
    Text,
    Logfmt,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "/run/cridge/cridge.sock".into(),
            root: "/var/lib/containerd/io.containerd.grpc.v1.cri".into(),
            state: "/run/containerd/io.containerd.grpc.v1.cri".into(),
            containerd: ContainerdConfig {
                socket: "/run/containerd/containerd.sock".into(),
                namespace: "k8s.io".into(),
            },
            runtime: RuntimeConfig::default(),
            network: NetworkConfig::default(),
            image: ImageConfig::default(),
            registry: RegistryConfig {
                config_dirs: vec!["/etc/containerd/certs.d".into(), "/etc/docker/certs.d".into()],
                headers: BTreeMap::new(),
            },
            streaming: StreamingConfig {
                address: Ipv4Addr::LOCALHOST.into(),
                port: 0,
                idle_timeout: Duration::from_secs(4 * 3600),
                tls: None,
            },
            metrics: MetricsConfig::default(),
            traces: TracesConfig::default(),
            log: LogConfig { level: "info".into(), format: LogFormat::Auto },
        }
    }
}

impl Config {
    /// Held by the one daemon of this state, for as long as it lives.
    pub fn lock_path(&self) -> PathBuf {
        self.state.join("cridge.lock")
    }

    /// Settles who makes cgroups: as configured, else as the default handler's `SystemdCgroup` says, else as the
    /// node would have it; handlers of runc's kind that do not say are told.
    pub fn settle_cgroup_driver(&mut self, of_node: CgroupDriver) {
        const OPTION: &str = "SystemdCgroup";
        let runtime = &mut self.runtime;
        let said =
            runtime.handlers.get(&runtime.default_handler).and_then(|handler| handler.options.get(OPTION));
        let said = said.and_then(toml::Value::as_bool).map(|systemd| match systemd {
            true => CgroupDriver::Systemd,
            false => CgroupDriver::Cgroupfs,
        });
        let driver = runtime.cgroup_driver.or(said).unwrap_or(of_node);
        runtime.cgroup_driver = Some(driver);
        for handler in runtime.handlers.values_mut().filter(|handler| handler.is_runc()) {
            let systemd = toml::Value::Boolean(driver == CgroupDriver::Systemd);
            handler.options.entry(OPTION).or_insert(systemd);
        }
    }
}

impl HandlerConfig {
    /// Whether pod and shim are plain processes of this node, as runc's are.
    pub fn is_runc(&self) -> bool {
        self.runtime_type == "io.containerd.runc.v2"
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            default_handler: "runc".into(),
            handlers: BTreeMap::from([("runc".into(), HandlerConfig::default())]),
            cgroup_driver: None,
            max_log_line: 16 * 1024,
            exec_drain: Duration::from_secs(5),
            enable_unprivileged_ports: true,
            enable_unprivileged_icmp: true,
            disable_hugetlb_controller: true,
            tolerate_missing_hugetlb_controller: true,
            ignore_image_defined_volumes: false,
            enable_selinux: false,
            selinux_category_range: 1024,
            disable_apparmor: false,
            unset_seccomp_profile: None,
            device_ownership_from_security_context: false,
            enable_cdi: true,
            cdi_spec_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            blockio_config_file: None,
            ignore_blockio_not_enabled_errors: false,
            ignore_rdt_not_enabled_errors: false,
            restore_from_images: false,
        }
    }
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            runtime_type: "io.containerd.runc.v2".into(),
            runtime_path: None,
            options: toml::Table::new(),
            snapshotter: None,
            base_runtime_spec: None,
            cni_conf_dir: None,
            cni_max_conf_num: None,
            pod_annotations: Vec::new(),
            container_annotations: Vec::new(),
            privileged_without_host_devices: false,
            privileged_without_host_devices_all_devices_allowed: false,
            cgroup_writable: false,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/libexec/cni".into(), "/usr/lib/cni".into()],
            max_conf_num: 1,
            cache_dir: "/var/lib/cni".into(),
            netns_dir: "/var/run/netns".into(),
            conf_template: None,
            ip_preference: IpPreference::Ipv4,
            plugin_timeout: Duration::from_secs(90),
            setup_serially: false,
        }
    }
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { endpoint: None, sampling_rate_per_million: 0, service_name: "cridge".into() }
    }
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            snapshotter: "overlayfs".into(),
            pause_image: None,
            max_concurrent_downloads: 3,
            pull_progress_timeout: Duration::from_secs(300),
            max_layer_bytes: 64 << 30,
            discard_unpacked_layers: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_driver_is_as_configured_else_as_the_handler_says_else_the_nodes() {
        use CgroupDriver::{Cgroupfs, Systemd};
        for (configured, option, of_node, settled) in [
            (None, None, Systemd, Systemd),
            (None, None, Cgroupfs, Cgroupfs),
            (None, Some(false), Systemd, Cgroupfs),
            (None, Some(true), Cgroupfs, Systemd),
            (Some(Systemd), None, Cgroupfs, Systemd),
        ] {
            let mut config = Config::default();
            config.runtime.cgroup_driver = configured;
            let runc = config.runtime.handlers.get_mut("runc").unwrap();
            runc.options
                .extend(option.map(|on: bool| ("SystemdCgroup".to_owned(), toml::Value::Boolean(on))));
            config.settle_cgroup_driver(of_node);
            assert_eq!(config.runtime.cgroup_driver, Some(settled));
            let told = config.runtime.handlers["runc"].options["SystemdCgroup"].as_bool();
            assert_eq!(told, Some(settled == Systemd));
        }
    }
}
