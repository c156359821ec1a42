//! A pod's attachment to every configured network.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::NetworkError;
use crate::config::NetworkConfig;
use crate::id::PodId;

/// The networks of one configuration folder: loaded, watched, callable. Cheap to clone.
#[derive(Clone)]
pub struct Networks(Arc<()>);

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
    /// Held (inherited) by every plugin process of this pod: see `linux::lock`.
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

/// Bits per second, from the `kubernetes.io/{ingress,egress}-bandwidth` annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
}

/// What ADD gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// Addresses of `eth0`, the preferred family first. Never empty after a successful ADD.
    pub ips: Vec<IpAddr>,
    /// The result in go-cni's own form, as the built-in plugin stores it in the sandbox's metadata (`CNIResult`).
    pub result: serde_json::Value,
}

impl Networks {
    /// Loads the folder and begins to watch it (and its parent while it is missing). Never fails: what is wrong is
    /// told by [`Networks::status`].
    pub fn watch(config: NetworkConfig) -> Self {
        let _ = config;
        unimplemented!()
    }

    /// Whether a pod could be attached now: `Err` says what is missing. Rescans the folder; asks plugins of CNI ≥ 1.1
    /// by STATUS, within a deadline.
    pub async fn status(&self) -> Result<(), NetworkError> {
        unimplemented!()
    }

    /// The loaded networks and the last load's outcome, as JSON for Status' verbose info.
    pub fn describe(&self) -> serde_json::Value {
        unimplemented!()
    }

    /// ADD on every network. On error the caller calls [`Networks::detach`]. Cancel-safe: dropping the future kills
    /// the plugin's process group.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        unimplemented!("{pod:?}")
    }

    /// DEL on every network, in reverse, with the cached configuration and result where there are some. Idempotent;
    /// waits for (or kills) what still holds the pod's lock before.
    pub async fn detach(&self, pod: &PodNetwork) -> Result<(), NetworkError> {
        unimplemented!("{pod:?}")
    }
}

impl Bandwidth {
    /// Reads the pod annotations; `None` where neither is set.
    ///
    /// # Errors
    /// A sentence naming the annotation whose quantity is malformed or outside 1k..1P.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        unimplemented!("{annotations:?}")
    }
}
