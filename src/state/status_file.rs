//! A container's status file: `<root>/containers/<id>/status`, replaced atomically.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{StateError, json};
use crate::linux::file;
use crate::proto::cri;
use crate::time::Timestamp;

/// What is written, in the built-in plugin's JSON (`{"Version":"v1",…}`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStatusFile {
    pub pid: u32,
    pub created_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub resources: Option<cri::ContainerResources>,
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// The file: the version stands beside the fields.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned<V, S> {
    version: V,
    #[serde(flatten)]
    status: S,
}

impl ContainerStatusFile {
    /// Reads and checks.
    ///
    /// # Errors
    /// No such file, a torn one, or one that no CRI plugin wrote.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        let bytes = fs::read(path).map_err(failed("read", path))?;
        Self::from_json(&bytes, path)
    }

    /// Writes a sibling, syncs, renames; mode 0600. Blocking, a few KB. Until it returns `Ok`, the file is the old one
    /// or the new one, whole. The folder is not synced: a power cut may bring the old one back, and ends the container.
    ///
    /// # Errors
    /// The folder is missing, full or not writable; the sibling is removed.
    pub fn store(&self, path: &Path) -> Result<(), StateError> {
        let sibling = path.with_extension(format!("{:08x}", rand::random::<u32>()));
        file::replace(path, &sibling, 0o600, |file| {
            file.write_all(&self.to_json())?;
            file.sync_data()
        })
        .map_err(failed("write", path))
    }

    /// Takes what cannot be read out of the way of the next [`Self::store`]; for people to look at, it stays beside it
    /// as `status.unreadable`. One that is not there is fine. Blocking.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn set_aside(path: &Path) -> Result<(), StateError> {
        let aside = path.with_extension("unreadable");
        let former = if aside.is_dir() { file::remove_tree(&aside) } else { file::remove(&aside) };
        let moved = former.and_then(|()| file::gone_is_fine(fs::rename(path, &aside)));
        moved.map_err(failed("set aside", path))
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        json::encode(&Versioned { version: json::VERSION, status: self })
    }

    pub(super) fn from_json(bytes: &[u8], path: &Path) -> Result<Self, StateError> {
        let versioned: Versioned<String, Self> = json::decode(bytes, || path.display().to_string())?;
        Ok(versioned.status)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::File { action, path: path.to_owned(), source }
}
