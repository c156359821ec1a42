//! A container's status file: `<root>/containers/<id>/status`, replaced atomically.

use std::path::Path;

use super::StateError;
use crate::proto::cri;
use crate::time::Timestamp;

/// What is written, in the built-in plugin's JSON (`{"Version":"v1",…}`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerStatusFile {
    pub pid: u32,
    pub created_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub resources: Option<cri::ContainerResources>,
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl ContainerStatusFile {
    /// Reads and checks.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        unimplemented!("{path:?}")
    }

    /// Writes a sibling, syncs, renames; mode 0600. Blocking, a few KB.
    pub fn store(&self, path: &Path) -> Result<(), StateError> {
        unimplemented!("{path:?}")
    }
}
