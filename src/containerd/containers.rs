//! Container records: the one place where a pod's or container's existence is kept.

use std::collections::BTreeMap;

use super::{Containerd, ContainerdError, TypedBlob};
use crate::id::SnapshotKey;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

/// What containerd stores of a container (or of a sandbox' pause).
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRecord {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub image: String,
    pub runtime: RuntimeSelection,
    /// The OCI spec, JSON, exactly as stored.
    pub spec: Vec<u8>,
    pub snapshotter: String,
    pub snapshot_key: SnapshotKey,
    /// Set by containerd.
    pub created_at: Timestamp,
    pub extensions: BTreeMap<String, TypedBlob>,
}

/// Shim and options of a record (`runc` handlers: `containerd.runc.v1.Options`).
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeSelection {
    pub name: String,
    pub options: Option<TypedBlob>,
}

impl RuntimeSelection {
    /// From a handler's configuration: `containerd.runc.v1.Options` for `io.containerd.runc.v2`, otherwise
    /// `runtimeoptions.v1.Options` (contract §0, typeurls).
    ///
    /// # Errors
    /// A sentence that names the option key that is unknown or of the wrong type.
    pub fn from_handler(handler: &crate::config::HandlerConfig) -> std::result::Result<Self, String> {
        unimplemented!("{handler:?}")
    }
}

impl Containerd {
    /// Creates the record; `created_at` is containerd's.
    pub async fn create_container(&self, record: &ContainerRecord) -> Result<ContainerRecord> {
        unimplemented!("{record:?}")
    }

    pub async fn container(&self, id: &str) -> Result<ContainerRecord> {
        unimplemented!("{id}")
    }

    /// Records that match any of the filters (containerd's filter syntax); streamed, so of any number.
    pub async fn containers(&self, filters: &[&str]) -> Result<Vec<ContainerRecord>> {
        unimplemented!("{filters:?}")
    }

    /// Replaces one extension, leaving all else.
    pub async fn set_extension(&self, id: &str, key: &str, value: TypedBlob) -> Result<()> {
        unimplemented!("{id} {key} {value:?}")
    }

    /// Replaces the stored spec (JSON).
    pub async fn set_spec(&self, id: &str, spec: Vec<u8>) -> Result<()> {
        unimplemented!("{id} {}", spec.len())
    }

    pub async fn delete_container(&self, id: &str) -> Result<()> {
        unimplemented!("{id}")
    }
}
