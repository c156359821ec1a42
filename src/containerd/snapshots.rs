//! Snapshots: the layers of images and the writable layers of containers.

use std::collections::BTreeMap;

use super::{Containerd, ContainerdError};
use crate::id::SnapshotKey;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

/// One mount of a snapshot, in fstab's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMount {
    pub kind: String,
    pub source: String,
    pub target: String,
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    View,
    Active,
    Committed,
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotInfo {
    pub key: SnapshotKey,
    pub parent: Option<SnapshotKey>,
    pub kind: SnapshotKind,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub labels: BTreeMap<String, String>,
}

/// Bytes and inodes of one snapshot without its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotUsage {
    pub bytes: u64,
    pub inodes: u64,
}

impl Containerd {
    /// A writable snapshot on `parent`; its mounts.
    pub async fn prepare_snapshot(
        &self,
        snapshotter: &str,
        key: &SnapshotKey,
        parent: Option<&SnapshotKey>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<SnapshotMount>> {
        unimplemented!("{snapshotter} {key} {parent:?} {labels:?}")
    }

    /// A read-only snapshot on `parent`; its mounts.
    pub async fn view_snapshot(
        &self,
        snapshotter: &str,
        key: &SnapshotKey,
        parent: Option<&SnapshotKey>,
    ) -> Result<Vec<SnapshotMount>> {
        unimplemented!("{snapshotter} {key} {parent:?}")
    }

    pub async fn snapshot_mounts(&self, snapshotter: &str, key: &SnapshotKey) -> Result<Vec<SnapshotMount>> {
        unimplemented!("{snapshotter} {key}")
    }

    /// Turns the active snapshot `key` into the committed one `name`.
    pub async fn commit_snapshot(
        &self,
        snapshotter: &str,
        name: &SnapshotKey,
        key: &SnapshotKey,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        unimplemented!("{snapshotter} {name} {key} {labels:?}")
    }

    pub async fn snapshot(&self, snapshotter: &str, key: &SnapshotKey) -> Result<SnapshotInfo> {
        unimplemented!("{snapshotter} {key}")
    }

    pub async fn snapshots(&self, snapshotter: &str) -> Result<Vec<SnapshotInfo>> {
        unimplemented!("{snapshotter}")
    }

    pub async fn snapshot_usage(&self, snapshotter: &str, key: &SnapshotKey) -> Result<SnapshotUsage> {
        unimplemented!("{snapshotter} {key}")
    }

    pub async fn remove_snapshot(&self, snapshotter: &str, key: &SnapshotKey) -> Result<()> {
        unimplemented!("{snapshotter} {key}")
    }
}
