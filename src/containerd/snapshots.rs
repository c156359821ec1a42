//! Snapshots: the layers of images and the writable layers of containers.

use std::collections::BTreeMap;

use containerd_client::services::v1::snapshots as api;

use super::call::Call;
use super::convert::{bytes, ordered, timestamp, unordered};
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
        let request = api::PrepareSnapshotRequest {
            snapshotter: snapshotter.into(),
            key: key.to_string(),
            parent: parent.map(ToString::to_string).unwrap_or_default(),
            labels: unordered(labels),
        };
        let answer =
            Call::work("prepare snapshot", key).run(self.calls().snapshots().prepare(request)).await?;
        Ok(answer.mounts.into_iter().map(SnapshotMount::from).collect())
    }

    /// A read-only snapshot on `parent`; its mounts.
    pub async fn view_snapshot(
        &self,
        snapshotter: &str,
        key: &SnapshotKey,
        parent: Option<&SnapshotKey>,
    ) -> Result<Vec<SnapshotMount>> {
        let request = api::ViewSnapshotRequest {
            snapshotter: snapshotter.into(),
            key: key.to_string(),
            parent: parent.map(ToString::to_string).unwrap_or_default(),
            ..Default::default()
        };
        let answer = Call::work("view snapshot", key).run(self.calls().snapshots().view(request)).await?;
        Ok(answer.mounts.into_iter().map(SnapshotMount::from).collect())
    }

    /// The mounts of an active snapshot or a view.
    pub async fn snapshot_mounts(&self, snapshotter: &str, key: &SnapshotKey) -> Result<Vec<SnapshotMount>> {
        let request = api::MountsRequest { snapshotter: snapshotter.into(), key: key.to_string() };
        let call = Call::record("tell the mounts of snapshot", key);
        let answer = call.run(self.calls().snapshots().mounts(request)).await?;
        Ok(answer.mounts.into_iter().map(SnapshotMount::from).collect())
    }

    /// Turns the active snapshot `key` into the committed one `name`.
    pub async fn commit_snapshot(
        &self,
        snapshotter: &str,
        name: &SnapshotKey,
        key: &SnapshotKey,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let request = api::CommitSnapshotRequest {
            snapshotter: snapshotter.into(),
            name: name.to_string(),
            key: key.to_string(),
            labels: unordered(labels),
        };
        Call::work("commit snapshot", key).run(self.calls().snapshots().commit(request)).await
    }

    /// One snapshot's record.
    pub async fn snapshot(&self, snapshotter: &str, key: &SnapshotKey) -> Result<SnapshotInfo> {
        let call = Call::record("look at snapshot", key);
        let request = api::StatSnapshotRequest { snapshotter: snapshotter.into(), key: key.to_string() };
        let answer = call.run(self.calls().snapshots().stat(request)).await?;
        answer.info.map(SnapshotInfo::from).ok_or_else(|| call.malformed("there is no snapshot in it"))
    }

    /// All snapshots of the namespace; streamed, so of any number.
    pub async fn snapshots(&self, snapshotter: &str) -> Result<Vec<SnapshotInfo>> {
        let request = api::ListSnapshotsRequest { snapshotter: snapshotter.into(), filters: Vec::new() };
        let call = Call::record("list snapshots of", &snapshotter);
        let messages = call.collect(self.calls().snapshots().list(request)).await?;
        Ok(messages.into_iter().flat_map(|message| message.info).map(SnapshotInfo::from).collect())
    }

    /// What a snapshot holds; an active one is measured now, which takes a walk through its files.
    pub async fn snapshot_usage(&self, snapshotter: &str, key: &SnapshotKey) -> Result<SnapshotUsage> {
        let request = api::UsageRequest { snapshotter: snapshotter.into(), key: key.to_string() };
        let usage = Call::work("measure snapshot", key).run(self.calls().snapshots().usage(request)).await?;
        Ok(SnapshotUsage { bytes: bytes(usage.size), inodes: bytes(usage.inodes) })
    }

    /// Removes a snapshot that no other one builds on.
    pub async fn remove_snapshot(&self, snapshotter: &str, key: &SnapshotKey) -> Result<()> {
        let request = api::RemoveSnapshotRequest { snapshotter: snapshotter.into(), key: key.to_string() };
        Call::work("remove snapshot", key).run(self.calls().snapshots().remove(request)).await
    }
}

impl From<api::Info> for SnapshotInfo {
    fn from(info: api::Info) -> Self {
        let kind = match info.kind() {
            api::Kind::View => SnapshotKind::View,
            api::Kind::Active => SnapshotKind::Active,
            api::Kind::Committed => SnapshotKind::Committed,
            api::Kind::Unknown => SnapshotKind::Unknown,
        };
        Self {
            key: SnapshotKey::new(info.name),
            parent: (!info.parent.is_empty()).then(|| SnapshotKey::new(info.parent)),
            kind,
            created_at: timestamp(info.created_at),
            updated_at: timestamp(info.updated_at),
            labels: ordered(info.labels),
        }
    }
}
