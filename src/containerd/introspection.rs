//! What containerd says of itself.

use std::collections::BTreeMap;

use super::{Containerd, ContainerdError};

type Result<T> = std::result::Result<T, ContainerdError>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub version: String,
    pub revision: String,
}

/// A plugin as loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// `io.containerd.snapshotter.v1`.
    pub kind: String,
    pub id: String,
    pub exports: BTreeMap<String, String>,
    pub capabilities: Vec<String>,
    pub platforms: Vec<String>,
    /// Why it did not load; empty when it did.
    pub init_error: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerInfo {
    pub uuid: String,
    /// Unset before 1.7.
    pub pid: Option<u64>,
    pub deprecations: Vec<String>,
}

impl Containerd {
    pub async fn version(&self) -> Result<Version> {
        unimplemented!()
    }

    pub async fn plugins(&self) -> Result<Vec<Plugin>> {
        unimplemented!()
    }

    pub async fn server_info(&self) -> Result<ServerInfo> {
        unimplemented!()
    }

    /// The runtime's features (OCI runtime spec, features.md; JSON), where containerd can ask (2.0 and later).
    pub async fn runtime_features(
        &self,
        handler: &super::RuntimeSelection,
    ) -> Result<Option<serde_json::Value>> {
        unimplemented!("{handler:?}")
    }

    /// Makes the namespace where it is not there yet.
    pub async fn ensure_namespace(&self) -> Result<()> {
        unimplemented!()
    }
}
