//! Snapshots, and layers unpacked into them.

use std::collections::BTreeMap;

use cridge::containerd::SnapshotKind;
use cridge::error::Kind;
use cridge::id::SnapshotKey;

use crate::place::{Place, put_layer};

const OVERLAY: &str = "overlayfs";

pub async fn a_layer_becomes_a_snapshot(place: Place) {
    let containerd = place.leased().await;
    let layer = place.busybox_layer();
    let descriptor = put_layer(&containerd, &layer).await.unwrap();
    let (active, base) = (SnapshotKey::new("extract-1 base"), SnapshotKey::new("base"));
    let labels = BTreeMap::from([("containerd.io/snapshot.ref".to_owned(), "base".to_owned())]);

    let mounts = containerd.prepare_snapshot(OVERLAY, &active, None, &BTreeMap::new()).await.unwrap();
    assert_eq!(containerd.snapshot_mounts(OVERLAY, &active).await.unwrap(), mounts);
    let again = containerd.prepare_snapshot(OVERLAY, &active, None, &BTreeMap::new()).await.unwrap_err();
    assert_eq!(again.kind(), Kind::AlreadyExists);

    let unpacked = containerd.apply_layer(&descriptor, &mounts).await.unwrap();
    assert_eq!(unpacked.digest, descriptor.digest, "a plain tar is its own diff");
    containerd.commit_snapshot(OVERLAY, &base, &active, &labels).await.unwrap();

    let info = containerd.snapshot(OVERLAY, &base).await.unwrap();
    assert_eq!(
        (&info.key, info.kind, &info.parent, &info.labels),
        (&base, SnapshotKind::Committed, &None, &labels)
    );
    assert!(info.created_at.is_set() && info.updated_at.is_set());
    let usage = containerd.snapshot_usage(OVERLAY, &base).await.unwrap();
    assert!(usage.bytes > 500_000 && usage.inodes >= 7, "{usage:?}");

    let (view, writable) = (SnapshotKey::new("view"), SnapshotKey::new("writable"));
    let seen = containerd.view_snapshot(OVERLAY, &view, Some(&base)).await.unwrap();
    assert!(!seen.is_empty());
    containerd.prepare_snapshot(OVERLAY, &writable, Some(&base), &BTreeMap::new()).await.unwrap();
    let mut all = containerd.snapshots(OVERLAY).await.unwrap();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let kinds: Vec<_> =
        all.iter().map(|info| (info.key.as_str(), info.kind, info.parent.is_some())).collect();
    assert_eq!(
        kinds,
        [
            ("base", SnapshotKind::Committed, false),
            ("view", SnapshotKind::View, true),
            ("writable", SnapshotKind::Active, true)
        ]
    );

    let refused = containerd.remove_snapshot(OVERLAY, &base).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition, "{refused}");
    for key in [&view, &writable, &base] {
        containerd.remove_snapshot(OVERLAY, key).await.unwrap();
    }
    assert!(containerd.snapshot(OVERLAY, &base).await.unwrap_err().is_not_found());
    assert!(containerd.remove_snapshot(OVERLAY, &base).await.unwrap_err().is_not_found());
    let unknown = containerd.snapshots("nobodys").await.unwrap_err();
    assert!(!unknown.is_away(), "{unknown:?}");
}
