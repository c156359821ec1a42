//! Checks a pod's config before anything is made of it, and takes out of it what the network needs.

use std::net::IpAddr;

use crate::field::{self, FieldError};
use crate::network::{Bandwidth, PortMapping};
use crate::proto::cri::{self, NamespaceMode};

/// HOST_NAME_MAX of Linux.
const MAX_HOSTNAME: usize = 64;

/// What a checked config asks of the network and the namespaces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    /// `name_namespace_uid_attempt`: what one sandbox at a time may be called.
    pub name: String,
    pub port_mappings: Vec<PortMapping>,
    pub bandwidth: Option<Bandwidth>,
    pub network: NetworkKind,
    pub ipc: IpcKind,
}

/// Whose network the pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkKind {
    Pod,
    Node,
}

/// Whose IPC objects the pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IpcKind {
    Pod,
    Node,
}

/// Checks all of a `PodSandboxConfig` that this layer uses.
pub(super) fn check(config: &cri::PodSandboxConfig) -> Result<Checked, FieldError> {
    let metadata = field::required("config.metadata", config.metadata.as_ref())?;
    field::name("config.metadata.name", &metadata.name)?;
    field::name("config.metadata.namespace", &metadata.namespace)?;
    field::name("config.metadata.uid", &metadata.uid)?;
    field::line("config.hostname", &config.hostname, MAX_HOSTNAME)?;
    if !config.log_directory.is_empty() {
        field::absolute_path("config.log_directory", &config.log_directory)?;
    }
    field::labels("config.labels", &config.labels)?;
    field::annotations("config.annotations", &config.annotations)?;
    check_dns(config.dns_config.as_ref())?;
    let linux = config.linux.as_ref();
    if let Some(linux) = linux {
        field::path("config.linux.cgroup_parent", &linux.cgroup_parent)?;
    }
    let namespaces = linux
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|context| context.namespace_options.as_ref())
        .cloned()
        .unwrap_or_default();
    let network = check_namespaces(&namespaces)?;
    let bandwidth = Bandwidth::from_annotations(&field::ordered(&config.annotations))
        .map_err(|why| field::error("config.annotations", why))?;
    Ok(Checked {
        name: name_of(metadata),
        port_mappings: port_mappings(&config.port_mappings)?,
        bandwidth,
        network,
        ipc: match namespaces.ipc() {
            NamespaceMode::Node => IpcKind::Node,
            _ => IpcKind::Pod,
        },
    })
}

/// The name under which one sandbox at a time exists, as the built-in plugin spells it.
pub(super) fn name_of(metadata: &cri::PodSandboxMetadata) -> String {
    let cri::PodSandboxMetadata { name, namespace, uid, attempt } = metadata;
    format!("{name}_{namespace}_{uid}_{attempt}")
}

/// Every mode must be one that a sandbox can have: POD or NODE, and for PIDs CONTAINER, too.
fn check_namespaces(options: &cri::NamespaceOption) -> Result<NetworkKind, FieldError> {
    const AT: &str = "config.linux.security_context.namespace_options";
    let mode = |field: &str, value| field::enumeration::<NamespaceMode>(&format!("{AT}.{field}"), value);
    let refuse = |field: &str, mode: NamespaceMode| {
        Err(field::error(
            format!("{AT}.{field}"),
            format!("{} is not possible for a pod", mode.as_str_name()),
        ))
    };
    match mode("ipc", options.ipc)? {
        NamespaceMode::Pod | NamespaceMode::Node => {}
        other => return refuse("ipc", other),
    }
    match mode("pid", options.pid)? {
        NamespaceMode::Pod | NamespaceMode::Node | NamespaceMode::Container => {}
        other => return refuse("pid", other),
    }
    match mode("network", options.network)? {
        NamespaceMode::Pod => Ok(NetworkKind::Pod),
        NamespaceMode::Node => Ok(NetworkKind::Node),
        other => refuse("network", other),
    }
}

/// The mappings that ask for a host port; the others are only documentation.
fn port_mappings(mappings: &[cri::PortMapping]) -> Result<Vec<PortMapping>, FieldError> {
    let mut wanted = Vec::new();
    for (n, mapping) in mappings.iter().enumerate() {
        let at = |name: &str| format!("config.port_mappings[{n}].{name}");
        let port = |name: &str, value: i32| {
            u16::try_from(value)
                .map_err(|_| field::error(at(name), format!("{value} is not a port (0 to 65535)")))
        };
        let host_port = port("host_port", mapping.host_port)?;
        let container_port = port("container_port", mapping.container_port)?;
        let protocol = match field::enumeration::<cri::Protocol>(&at("protocol"), mapping.protocol)? {
            cri::Protocol::Tcp => "tcp",
            cri::Protocol::Udp => "udp",
            cri::Protocol::Sctp => "sctp",
        };
        if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<IpAddr>().is_err() {
            return Err(field::error(at("host_ip"), format!("{:?} is not an IP address", mapping.host_ip)));
        }
        if host_port > 0 && container_port == 0 {
            return Err(field::error(at("container_port"), "is required with a host port"));
        }
        if host_port > 0 {
            wanted.push(PortMapping {
                host_port,
                container_port,
                protocol,
                host_ip: mapping.host_ip.clone(),
            });
        }
    }
    Ok(wanted)
}

fn check_dns(dns: Option<&cri::DnsConfig>) -> Result<(), FieldError> {
    let Some(dns) = dns else { return Ok(()) };
    let lists = [("servers", &dns.servers), ("searches", &dns.searches), ("options", &dns.options)];
    for (name, values) in lists {
        for (n, value) in values.iter().enumerate() {
            field::line(&format!("config.dns_config.{name}[{n}]"), value, 1024)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> cri::PodSandboxConfig {
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: "web".into(),
                uid: "u1".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_plain_pod_passes() {
        let checked = check(&pod()).unwrap();
        assert_eq!(checked.name, "web_default_u1_2");
        assert_eq!(checked.network, NetworkKind::Pod);
        assert!(checked.port_mappings.is_empty());
    }

    #[test]
    fn only_host_ports_are_mapped() {
        let mut config = pod();
        let mapping = |host, container| cri::PortMapping {
            host_port: host,
            container_port: container,
            ..Default::default()
        };
        config.port_mappings = vec![mapping(0, 80), mapping(8080, 80)];
        let mapped = check(&config).unwrap().port_mappings;
        assert_eq!(mapped.len(), 1);
        assert_eq!((mapped[0].host_port, mapped[0].protocol), (8080, "tcp"));
    }

    #[test]
    fn every_refusal_names_its_field() {
        let namespaces = |change: fn(&mut cri::NamespaceOption)| {
            let mut options = cri::NamespaceOption::default();
            change(&mut options);
            cri::LinuxPodSandboxConfig {
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            }
        };
        type Spoil = Box<dyn Fn(&mut cri::PodSandboxConfig)>;
        let cases: Vec<(&str, Spoil)> = vec![
            ("config.metadata", Box::new(|c| c.metadata = None)),
            ("config.metadata.name", Box::new(|c| c.metadata.as_mut().unwrap().name.clear())),
            (
                "config.metadata.namespace",
                Box::new(|c| c.metadata.as_mut().unwrap().namespace = "../x".into()),
            ),
            ("config.metadata.uid", Box::new(|c| c.metadata.as_mut().unwrap().uid = "a\0".into())),
            ("config.hostname", Box::new(|c| c.hostname = "h".repeat(65))),
            ("config.log_directory", Box::new(|c| c.log_directory = "/var/log/../../etc".into())),
            ("config.labels", Box::new(|c| drop(c.labels.insert(String::new(), "x".into())))),
            (
                "config.port_mappings[0].host_port",
                Box::new(|c| {
                    c.port_mappings = vec![cri::PortMapping { host_port: 65536, ..Default::default() }];
                }),
            ),
            (
                "config.port_mappings[0].protocol",
                Box::new(|c| {
                    c.port_mappings = vec![cri::PortMapping { protocol: 9, ..Default::default() }];
                }),
            ),
            (
                "config.port_mappings[0].host_ip",
                Box::new(|c| {
                    c.port_mappings = vec![cri::PortMapping { host_ip: "nope".into(), ..Default::default() }];
                }),
            ),
            (
                "config.dns_config.servers[0]",
                Box::new(|c| {
                    c.dns_config = Some(cri::DnsConfig {
                        servers: vec!["a\nnameserver b".into()],
                        ..Default::default()
                    });
                }),
            ),
            (
                "config.linux.security_context.namespace_options.network",
                Box::new(move |c| {
                    c.linux = Some(namespaces(|o| o.network = NamespaceMode::Target as i32));
                }),
            ),
            (
                "config.linux.security_context.namespace_options.pid",
                Box::new(move |c| {
                    c.linux = Some(namespaces(|o| o.pid = 77));
                }),
            ),
            (
                "config.linux.cgroup_parent",
                Box::new(|c| {
                    c.linux = Some(cri::LinuxPodSandboxConfig {
                        cgroup_parent: "/a/../b".into(),
                        ..Default::default()
                    });
                }),
            ),
        ];
        for (field, spoil) in cases {
            let mut config = pod();
            spoil(&mut config);
            let error = check(&config).expect_err(field);
            assert!(error.field.starts_with(field), "{error} should name {field}");
        }
    }
}
