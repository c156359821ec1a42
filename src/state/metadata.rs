//! The metadata extensions of containerd's records: JSON `{"Version":"v1","Metadata":{…}}` as Go writes the CRI
//! messages (snake_case tags, env values as strings, absent when empty).

use std::path::PathBuf;

use super::StateError;
use crate::id::{ContainerId, PodId};
use crate::proto::cri;

/// Key of the extension and type URL of its value on a sandbox's container record.
pub const SANDBOX_METADATA_TYPE: (&str, &str) =
    ("io.cri-containerd.sandbox.metadata", "github.com/containerd/cri/pkg/store/sandbox/Metadata");
/// The same on a container's record.
pub const CONTAINER_METADATA_TYPE: (&str, &str) =
    ("io.cri-containerd.container.metadata", "github.com/containerd/cri/pkg/store/container/Metadata");

/// A sandbox as it was asked for, and what it got.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxMetadata {
    pub id: PodId,
    pub name: String,
    pub config: cri::PodSandboxConfig,
    /// Empty for a pod on the host's network.
    pub netns_path: PathBuf,
    pub ip: String,
    pub additional_ips: Vec<String>,
    pub runtime_handler: String,
    /// go-cni's result; `Null` before ADD.
    pub cni_result: serde_json::Value,
    /// The pause's SELinux process label.
    pub process_label: String,
    /// Keys of a newer writer that this one does not know, kept as they are.
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// A container as it was asked for, and what it got.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerMetadata {
    pub id: ContainerId,
    pub name: String,
    pub sandbox_id: PodId,
    pub config: cri::ContainerConfig,
    /// The image's config digest.
    pub image_ref: String,
    /// Absolute; empty where no log is wanted.
    pub log_path: PathBuf,
    /// The signal of the image or config that a graceful stop sends; empty for SIGTERM.
    pub stop_signal: String,
    pub process_label: String,
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl SandboxMetadata {
    pub fn to_json(&self) -> Vec<u8> {
        unimplemented!()
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        unimplemented!("{}", bytes.len())
    }
}

impl ContainerMetadata {
    pub fn to_json(&self) -> Vec<u8> {
        unimplemented!()
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        unimplemented!("{}", bytes.len())
    }
}
