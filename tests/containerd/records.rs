//! Records: containers, leases, sandboxes, and what the daemon tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use cridge::config::HandlerConfig;
use cridge::containerd::{ContainerRecord, Containerd, RuntimeSelection, TypedBlob};
use cridge::error::Kind;
use cridge::id::{LeaseId, SnapshotKey};
use cridge::time::Timestamp;

use crate::place::Place;

fn runc() -> RuntimeSelection {
    RuntimeSelection::from_handler(&HandlerConfig::default()).unwrap()
}

fn record(id: &str) -> ContainerRecord {
    ContainerRecord {
        id: id.into(),
        labels: BTreeMap::from([("io.cri-containerd.kind".into(), "container".into())]),
        image: "registry.test/busybox:latest".into(),
        runtime: runc(),
        spec: br#"{"ociVersion":"1.1.0","hostname":"first"}"#.to_vec(),
        snapshotter: "overlayfs".into(),
        snapshot_key: SnapshotKey::new(id),
        created_at: Timestamp::NEVER,
        extensions: BTreeMap::from([("io.cri-containerd.container.metadata".into(), blob("one"))]),
        sandbox: String::new(),
    }
}

fn blob(text: &str) -> TypedBlob {
    TypedBlob {
        type_url: "github.com/containerd/cri/pkg/store/container/Metadata".into(),
        value: format!("{{\"Version\":\"{text}\"}}").into_bytes(),
    }
}

pub async fn a_daemon_tells_of_itself(place: Place) {
    let containerd = &place.containerd;
    let version = containerd.version().await.unwrap();
    let release = place.node.release.trim_end_matches('x');
    assert!(version.version.trim_start_matches('v').starts_with(release), "{version:?}");

    let plugins = containerd.plugins().await.unwrap();
    let overlay =
        plugins.iter().find(|p| p.kind == "io.containerd.snapshotter.v1" && p.id == "overlayfs").unwrap();
    assert_eq!(overlay.init_error, None);
    assert_eq!(
        overlay.platforms,
        [format!("linux/{}", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" })]
    );
    assert!(overlay.exports.contains_key("root"), "{overlay:?}");
    assert!(!plugins.iter().any(|p| p.id == "cri" && p.init_error.is_none()), "the built-in CRI is off");

    let server = containerd.server_info().await.unwrap();
    assert!(!server.uuid.is_empty());
    assert_eq!(server.pid.is_some(), !place.node.is_1_6());

    let pid = containerd.server_pid().await.unwrap();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "containerd\n");

    let features = containerd.runtime_features(&runc()).await.unwrap();
    assert_eq!(features.is_some(), place.node.is_2());
    if let Some(features) = features {
        assert!(features["ociVersionMax"].is_string(), "{features}");
    }
}

pub async fn a_namespace_is_made_once(place: Place) {
    let other = Containerd::new(&place.node.socket(), "another-one");
    other.ensure_namespace().await.unwrap();
    other.ensure_namespace().await.unwrap();
    assert_eq!(other.namespace(), "another-one");
}

pub async fn leases_come_and_go(place: Place) {
    let containerd = &place.containerd;
    let (forever, short) = (LeaseId::new("forever"), LeaseId::new("short"));
    containerd.create_lease(&forever, None).await.unwrap();
    containerd.create_lease(&forever, None).await.unwrap();
    containerd.create_lease(&short, Some(Duration::from_secs(3600))).await.unwrap();

    let mut leases = containerd.leases().await.unwrap();
    leases.sort_by(|a, b| a.id.cmp(&b.id));
    let [first, second] = leases.as_slice() else { panic!("{leases:?}") };
    assert_eq!((&first.id, &second.id), (&forever, &short));
    assert!(first.labels.is_empty());
    assert!(first.created_at.is_set());
    let hour = Timestamp::from_nanos(Timestamp::now().nanos() + 3_600_000_000_000).to_string();
    assert!(second.labels["containerd.io/gc.expire"] <= hour);

    for lease in [&forever, &short, &short] {
        containerd.delete_lease(lease).await.unwrap();
    }
    assert_eq!(containerd.leases().await.unwrap(), []);
}

pub async fn containers_are_kept_as_given(place: Place) {
    let containerd = &place.containerd;
    let given = record("one");
    let created = containerd.create_container(&given).await.unwrap();
    assert!(created.created_at.is_set());
    assert_eq!(created, ContainerRecord { created_at: created.created_at, ..given.clone() });
    assert_eq!(containerd.container("one").await.unwrap(), created);
    assert_eq!(containerd.create_container(&given).await.unwrap_err().kind(), Kind::AlreadyExists);

    let other = ContainerRecord { labels: BTreeMap::new(), ..record("two") };
    containerd.create_container(&other).await.unwrap();
    assert_eq!(containerd.containers(&[]).await.unwrap().len(), 2);
    let chosen = containerd.containers(&["labels.\"io.cri-containerd.kind\"==container"]).await.unwrap();
    assert_eq!(chosen, std::slice::from_ref(&created));

    containerd.set_extension("one", "io.cri-containerd.container.metadata", blob("two")).await.unwrap();
    containerd.set_extension("one", "io.cridge.facts", blob("three")).await.unwrap();
    containerd.set_spec("one", b"{\"ociVersion\":\"1.1.0\"}".to_vec()).await.unwrap();
    let changed = containerd.container("one").await.unwrap();
    assert_eq!(changed.extensions["io.cri-containerd.container.metadata"], blob("two"));
    assert_eq!(changed.extensions["io.cridge.facts"], blob("three"));
    assert_eq!(changed.spec, b"{\"ociVersion\":\"1.1.0\"}");
    assert_eq!(changed.labels, created.labels);
    assert_eq!(changed.runtime, created.runtime);

    containerd.delete_container("one").await.unwrap();
    assert!(containerd.container("one").await.unwrap_err().is_not_found());
    assert!(containerd.delete_container("one").await.unwrap_err().is_not_found());
}

pub async fn a_list_may_be_larger_than_a_message(place: Place) {
    let long = format!("{{\"hostname\":\"{}\"}}", "x".repeat(3 << 20)).into_bytes();
    for n in 0..6 {
        let record = ContainerRecord { spec: long.clone(), ..record(&format!("c{n}")) };
        place.containerd.create_container(&record).await.unwrap();
    }
    let records = place.containerd.containers(&[]).await.unwrap();
    assert!(records.iter().all(|record| record.spec == long));
    assert_eq!(records.len(), 6);
    for record in records {
        place.containerd.delete_container(&record.id).await.unwrap();
    }
}

pub async fn sandbox_records_are_kept_where_there_is_a_store(place: Place) {
    let containerd = &place.containerd;
    let created = containerd.create_sandbox_record("s", "pod_ns_uid_0", &runc(), blob("one")).await;
    if place.node.is_1_6() {
        assert_eq!(created.unwrap_err().kind(), Kind::Unimplemented);
    } else {
        created.unwrap();
        let again = containerd.create_sandbox_record("s", "pod_ns_uid_0", &runc(), blob("one")).await;
        assert_eq!(again.unwrap_err().kind(), Kind::AlreadyExists);
        assert!(containerd.set_sandbox_extension("s", "novel", blob("two")).await.unwrap());
        let kept = containerd.sandbox_extensions("novel").await.unwrap();
        assert_eq!(kept, [("s".to_owned(), blob("two"))].into());
        let metadata = containerd.sandbox_extensions("metadata").await.unwrap();
        assert_eq!(metadata, [("s".to_owned(), blob("one"))].into());
    }
    assert!(!containerd.set_sandbox_extension("none", "novel", blob("two")).await.unwrap());
    assert!(containerd.sandbox_extensions("other").await.unwrap().is_empty());
    containerd.delete_sandbox_record("s").await.unwrap();
    containerd.delete_sandbox_record("s").await.unwrap();
}

pub async fn errors_tell_what_they_mean(place: Place) {
    let containerd = &place.containerd;
    let error = containerd.container("nobody").await.unwrap_err();
    assert!(error.to_string().starts_with("containerd could not look at container nobody: "), "{error}");
    assert!(!error.is_away());
    assert!(containerd.task("nobody").await.unwrap_err().is_not_found());
    assert!(containerd.wait("nobody", None).await.unwrap_err().is_not_found());

    let odd = Containerd::new(&place.node.socket(), "naïve");
    assert_eq!(odd.containers(&[]).await.unwrap_err().kind(), Kind::InvalidArgument);
}
