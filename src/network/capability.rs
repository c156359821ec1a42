//! What plugins are told about a pod: CNI_ARGS, and the capability arguments that they may ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Bandwidth, NetworkError};
use crate::id::PodId;

/// The burst that Kubernetes runtimes send along with a rate: as good as none.
const BURST: u32 = u32::MAX;

/// What a plugin is told about the pod.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    pub id: PodId,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The pinned network namespace; `None` for a DEL after it is gone (CNI spec, "DEL": CNI_NETNS may be empty).
    pub netns: Option<PathBuf>,
    pub port_mappings: Vec<PortMapping>,
    pub bandwidth: Option<Bandwidth>,
    pub dns: Option<crate::proto::cri::DnsConfig>,
    pub cgroup_parent: String,
    /// Given to plugins that declare `io.kubernetes.cri.pod-annotations`.
    pub annotations: BTreeMap<String, String>,
    /// Held (inherited) by every plugin process of this pod: see `linux::lock`. Its folder must exist for ADD.
    pub lock_path: PathBuf,
}

/// A host port; only those with `host_port` > 0 get here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub host_port: u16,
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    pub host_ip: String,
}

impl PodNetwork {
    /// CNI_ARGS, in order.
    ///
    /// # Errors
    /// A value that would read as another argument.
    pub(super) fn args(&self) -> Result<Vec<(String, String)>, NetworkError> {
        let fields = [
            ("K8S_POD_NAMESPACE", self.namespace.as_str()),
            ("K8S_POD_NAME", &self.name),
            ("K8S_POD_INFRA_CONTAINER_ID", self.id.as_str()),
            ("K8S_POD_UID", &self.uid),
            ("IgnoreUnknown", "1"),
        ];
        fields.into_iter().map(|(field, value)| argument(field, value)).collect()
    }

    /// Every capability argument, by the name under which a plugin declares it (CNI conventions).
    pub(super) fn capabilities(&self) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("io.kubernetes.cri.pod-annotations".into(), json!(self.annotations));
        if !self.port_mappings.is_empty() {
            let ports = self.port_mappings.iter().map(PortMapping::to_json).collect();
            all.insert("portMappings".into(), Value::Array(ports));
        }
        if let Some(bandwidth) = &self.bandwidth {
            all.insert("bandwidth".into(), bandwidth.to_json());
        }
        if let Some(dns) = &self.dns {
            let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
            all.insert("dns".into(), dns);
        }
        if !self.cgroup_parent.is_empty() {
            all.insert("cgroupPath".into(), json!(self.cgroup_parent));
        }
        all
    }
}

fn argument(field: &'static str, value: &str) -> Result<(String, String), NetworkError> {
    if value.contains([';', '\0']) {
        return Err(NetworkError::BadArgument { field, value: value.chars().take(80).collect() });
    }
    Ok((field.to_owned(), value.to_owned()))
}

impl PortMapping {
    fn to_json(&self) -> Value {
        let mut port = json!({
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol,
        });
        if !self.host_ip.is_empty() {
            port["hostIP"] = json!(self.host_ip);
        }
        port
    }
}

impl Bandwidth {
    fn to_json(self) -> Value {
        let burst = |rate: Option<u64>| rate.map_or(0, |_| BURST);
        json!({
            "ingressRate": self.ingress.unwrap_or(0),
            "ingressBurst": burst(self.ingress),
            "egressRate": self.egress.unwrap_or(0),
            "egressBurst": burst(self.egress),
        })
    }
}
