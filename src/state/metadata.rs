//! The metadata extensions of containerd's records: JSON `{"Version":"v1","Metadata":{…}}` as Go writes the CRI
//! messages (snake_case tags, env values as strings, absent when empty).
//!
//! The bytes are containerd's own for what containerd knows up to 2.3, but for the order of keys within `CNIResult`.
//! Unknown keys of the metadata itself are kept, behind the known ones; those inside a CRI message are dropped.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{StateError, json};
use crate::id::{ContainerId, PodId};
use crate::proto::cri;

/// The label by which cAdvisor, `ctr` users and recovery tell sandboxes from containers (contract §2).
pub const KIND_LABEL: &str = "io.cri-containerd.kind";
/// Key of the extension and type URL of its value on a sandbox's container record.
pub const SANDBOX_METADATA_TYPE: (&str, &str) =
    ("io.cri-containerd.sandbox.metadata", "github.com/containerd/cri/pkg/store/sandbox/Metadata");
/// The same on a container's record.
pub const CONTAINER_METADATA_TYPE: (&str, &str) =
    ("io.cri-containerd.container.metadata", "github.com/containerd/cri/pkg/store/container/Metadata");

/// What UpdatePodSandboxResources gave: key of the extension of a record in containerd's sandbox store (of the container
/// record where there is no such store), and type URL of its value.
pub const UPDATED_RESOURCES_TYPE: (&str, &str) =
    ("updated-resources", "io.containerd.cri.v1/UpdatedResources");

/// A sandbox as it was asked for, and what it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SandboxMetadata {
    #[serde(rename = "ID", serialize_with = "json::as_text", deserialize_with = "json::pod_id")]
    pub id: PodId,
    #[serde(default)]
    pub name: String,
    #[serde(default, deserialize_with = "json::or_default")]
    pub config: cri::PodSandboxConfig,
    /// Empty for a pod on the host's network.
    #[serde(rename = "NetNSPath", default, serialize_with = "json::path_text")]
    pub netns_path: PathBuf,
    #[serde(rename = "IP", default)]
    pub ip: String,
    #[serde(
        rename = "AdditionalIPs",
        default,
        serialize_with = "json::null_if_empty",
        deserialize_with = "json::or_default"
    )]
    pub additional_ips: Vec<String>,
    #[serde(default)]
    pub runtime_handler: String,
    /// go-cni's result; `Null` before ADD.
    #[serde(rename = "CNIResult", default)]
    pub cni_result: serde_json::Value,
    /// The pause's SELinux process label.
    #[serde(default)]
    pub process_label: String,
    /// Keys of a newer writer that this one does not know, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// A container as it was asked for, and what it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerMetadata {
    #[serde(rename = "ID", serialize_with = "json::as_text", deserialize_with = "json::container_id")]
    pub id: ContainerId,
    #[serde(default)]
    pub name: String,
    #[serde(rename = "SandboxID", serialize_with = "json::as_text", deserialize_with = "json::pod_id")]
    pub sandbox_id: PodId,
    #[serde(default, deserialize_with = "json::or_default")]
    pub config: cri::ContainerConfig,
    /// The image's config digest.
    #[serde(default)]
    pub image_ref: String,
    /// Absolute; empty where no log is wanted.
    #[serde(default, serialize_with = "json::path_text")]
    pub log_path: PathBuf,
    /// The signal of the image or config that a graceful stop sends; empty for SIGTERM.
    #[serde(default)]
    pub stop_signal: String,
    #[serde(default)]
    pub process_label: String,
    /// Likewise; from 2.4 on that is `ImageDigest` and `ImageName`.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// The resources of a pod as last told; what was never told is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdatedResources {
    pub overhead: Option<cri::LinuxContainerResources>,
    pub resources: Option<cri::LinuxContainerResources>,
}

/// What the extension holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned<V, M> {
    version: V,
    metadata: M,
}

impl SandboxMetadata {
    /// The extension's value.
    pub fn to_json(&self) -> Vec<u8> {
        json::encode(&Versioned { version: json::VERSION, metadata: self })
    }

    /// # Errors
    /// Bytes that no CRI plugin writes, or those of a later version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        let versioned: Versioned<String, Self> = json::decode(bytes, || "sandbox metadata".to_owned())?;
        Ok(versioned.metadata)
    }
}

impl ContainerMetadata {
    /// The extension's value.
    pub fn to_json(&self) -> Vec<u8> {
        json::encode(&Versioned { version: json::VERSION, metadata: self })
    }

    /// # Errors
    /// Bytes that no CRI plugin writes, or those of a later version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        let versioned: Versioned<String, Self> = json::decode(bytes, || "container metadata".to_owned())?;
        Ok(versioned.metadata)
    }
}

impl UpdatedResources {
    /// The extension's value, which has no version.
    pub fn to_json(&self) -> Vec<u8> {
        json::encode(self)
    }

    /// # Errors
    /// Bytes that no CRI plugin writes.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        serde_json::from_slice(bytes)
            .map_err(|source| StateError::Malformed { what: "updated resources".to_owned(), source })
    }
}
