//! Against the bytes that containerd writes (`tests/golden`, made by `tests/go/golden`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::id::{ContainerId, PodId};
use crate::proto::cri;
use crate::time::Timestamp;

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    fs::read(path).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_containers_metadata_is_written_as_containerd_does() {
    let bytes = golden("container");
    let metadata = ContainerMetadata::from_json(&bytes).unwrap();
    assert_eq!(text(&metadata.to_json()), text(&bytes));
    assert!(metadata.unknown.is_empty());
    assert_eq!(metadata.id.as_str(), "c7".repeat(32));
    assert_eq!(metadata.sandbox_id.as_str(), "5a".repeat(32));
    assert_eq!(metadata.log_path, Path::new("/var/log/pods/app/0.log"));
    assert_eq!(metadata.config.envs[0].value.as_ref(), b"/bin:<>&");
    assert_eq!(metadata.config.mounts[0].propagation(), cri::MountPropagation::PropagationBidirectional);
    assert_eq!(metadata.config.cdi_devices[0].name, "v/c=d");
}

#[test]
fn a_pods_new_resources_are_written_as_containerd_does() {
    let all = UpdatedResources {
        overhead: None,
        resources: Some(cri::LinuxContainerResources {
            cpu_shares: 512,
            memory_limit_in_bytes: 64,
            unified: [("memory.high".to_owned(), "5".to_owned())].into(),
            ..Default::default()
        }),
    };
    // What encoding/json makes of UpdatedResources in internal/cri/server/podsandbox/helpers.go (2.4).
    let bytes = r#"{"Overhead":null,"Resources":{"cpu_shares":512,"memory_limit_in_bytes":64,"unified":{"memory.high":"5"}}}"#;
    assert_eq!(text(&all.to_json()), bytes);
    assert_eq!(UpdatedResources::from_json(bytes.as_bytes()).unwrap(), all);
    assert_eq!(UpdatedResources::from_json(b"{}").unwrap(), UpdatedResources::default());
    UpdatedResources::from_json(b"[").unwrap_err();
}

#[test]
fn a_sandboxs_metadata_is_written_as_containerd_does() {
    let bytes = golden("sandbox");
    let mut metadata = SandboxMetadata::from_json(&bytes).unwrap();
    assert_eq!(json(&metadata.to_json()), json(&bytes));
    assert_eq!(metadata.cni_result["Interfaces"]["eth0"]["IPConfigs"][0]["IP"], "10.88.0.2");
    assert_eq!(metadata.additional_ips, ["2001:db8::2"]);
    assert!(metadata.unknown.is_empty());

    // All but the order within the CNI result is the same, byte by byte.
    let stored = text(&bytes);
    let from = stored.find("\"CNIResult\":").unwrap() + "\"CNIResult\":".len();
    let to = stored.find(",\"ProcessLabel\"").unwrap();
    metadata.cni_result = Value::Null;
    assert_eq!(text(&metadata.to_json()), format!("{}null{}", &stored[..from], &stored[to..]));
}

#[test]
fn absent_parts_are_null_as_in_go() {
    let bytes = golden("sandbox-bare");
    let metadata = SandboxMetadata::from_json(&bytes).unwrap();
    assert_eq!(metadata.config, cri::PodSandboxConfig::default());
    // The one difference: a config is always there.
    assert_eq!(text(&metadata.to_json()), text(&bytes).replace("\"Config\":null", "\"Config\":{}"));
}

#[test]
fn what_a_later_containerd_adds_is_kept() {
    let bytes = golden("container-2.4");
    let metadata = ContainerMetadata::from_json(&bytes).unwrap();
    assert_eq!(metadata.unknown["ImageName"], "docker.io/library/web:1");
    assert_eq!(json(&metadata.to_json()), json(&bytes));
}

#[test]
fn bytes_in_the_environment_that_are_not_text_are_replaced_one_by_one() {
    let bytes = golden("container-bytes");
    let mut metadata = ContainerMetadata::from_json(&bytes).unwrap();
    metadata.config.envs[0].value = bytes::Bytes::from_static(b"a\xff\xe2\x82b\xf0\x9f\x98c");
    assert_eq!(json(&metadata.to_json()), json(&bytes));
}

#[test]
fn a_status_is_written_as_containerd_does() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["status", "status-created"] {
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("status"));
        fs::write(&theirs, golden(name)).unwrap();
        let status = ContainerStatusFile::load(&theirs).unwrap();
        assert!(status.unknown.is_empty());
        assert_eq!(status.created_at, Timestamp::from_nanos(1_700_000_000_000_000_001));
        status.store(&ours).unwrap();
        status.store(&ours).unwrap();
        assert_eq!(text(&fs::read(&ours).unwrap()), text(&golden(name)));
        assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "a sibling was left");
}

#[test]
fn a_status_that_cannot_be_replaced_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("status");
    fs::create_dir(&folder).unwrap();
    let error = ContainerStatusFile::default().store(&folder).unwrap_err();
    assert!(matches!(error, StateError::File { action: "write", .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_read_is_out_of_the_way_and_there_to_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("status"), dir.path().join("status.unreadable"));
    ContainerStatusFile::set_aside(&path).expect("there is none");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "").unwrap();
    ContainerStatusFile::set_aside(&path).unwrap();
    assert!(aside.join("file").exists());
    for text in ["torn", "torn again"] {
        fs::write(&path, text).unwrap();
        ContainerStatusFile::set_aside(&path).unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), text);
    }
    ContainerStatusFile::default().store(&path).unwrap();
    ContainerStatusFile::load(&path).unwrap();
}

#[test]
fn torn_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status");
    let whole = golden("status");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = ContainerStatusFile::load(&path).unwrap_err();
        assert!(matches!(error, StateError::Malformed { .. }), "{cut}: {error}");
    }
    for foreign in ["[]", "null", "{}", r#"{"Version":"v2","Pid":"new"}"#] {
        fs::write(&path, foreign).unwrap();
        assert!(ContainerStatusFile::load(&path).is_err(), "{foreign}");
    }
    fs::write(&path, r#"{"Version":"v2","Pid":"new"}"#).unwrap();
    let error = ContainerStatusFile::load(&path).unwrap_err();
    assert!(matches!(&error, StateError::Version { version, .. } if version == "v2"), "{error}");
}

#[test]
fn an_id_that_is_none_is_refused() {
    let bytes = text(&golden("container")).replacen(&"c7".repeat(32), "../../etc", 1);
    assert!(matches!(ContainerMetadata::from_json(bytes.as_bytes()), Err(StateError::Malformed { .. })));
}

fn sandboxes() -> impl Strategy<Value = SandboxMetadata> {
    let parts = (any::<String>(), any::<String>(), vec(any::<String>(), 0..3));
    let config = (any::<String>(), btree_map(any::<String>(), any::<String>(), 0..4), any::<Option<i64>>());
    (parts, config, btree_map("x[a-z]{0,5}", any::<i64>(), 0..3)).prop_map(|(parts, config, unknown)| {
        let (name, ip, additional_ips) = parts;
        let (hostname, labels, user) = config;
        let security_context = Some(cri::LinuxSandboxSecurityContext {
            run_as_user: user.map(|value| cri::Int64Value { value }),
            ..Default::default()
        });
        SandboxMetadata {
            id: PodId::generate(),
            config: cri::PodSandboxConfig {
                hostname,
                labels: labels.into_iter().collect(),
                linux: Some(cri::LinuxPodSandboxConfig { security_context, ..Default::default() }),
                ..Default::default()
            },
            netns_path: name.clone().into(),
            name,
            cni_result: serde_json::json!({ "Interfaces": { ip.clone(): null } }),
            ip,
            additional_ips,
            runtime_handler: String::new(),
            process_label: String::new(),
            unknown: unknown.into_iter().map(|(key, value)| (key, value.into())).collect(),
        }
    })
}

fn containers() -> impl Strategy<Value = ContainerMetadata> {
    let numbers = (any::<u64>(), any::<i32>(), any::<bool>());
    (any::<String>(), any::<String>(), vec(any::<String>(), 0..3), numbers).prop_map(
        |(name, value, args, (limit, propagation, readonly))| ContainerMetadata {
            id: ContainerId::generate(),
            sandbox_id: PodId::generate(),
            config: cri::ContainerConfig {
                args,
                envs: vec![cri::KeyValue { key: name.clone(), value: value.into() }],
                mounts: vec![cri::Mount { propagation, readonly, ..Default::default() }],
                linux: Some(cri::LinuxContainerConfig {
                    resources: Some(cri::LinuxContainerResources {
                        hugepage_limits: vec![cri::HugepageLimit { page_size: String::new(), limit }],
                        ..Default::default()
                    }),
                    security_context: None,
                }),
                ..Default::default()
            },
            image_ref: name.clone(),
            log_path: name.clone().into(),
            stop_signal: name.clone(),
            process_label: name.clone(),
            name,
            unknown: serde_json::Map::new(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(sandbox in sandboxes(), container in containers()) {
        prop_assert_eq!(&SandboxMetadata::from_json(&sandbox.to_json()).unwrap(), &sandbox);
        prop_assert_eq!(&ContainerMetadata::from_json(&container.to_json()).unwrap(), &container);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte: u8) {
        let _ = SandboxMetadata::from_json(&bytes);
        let _ = ContainerMetadata::from_json(&bytes);
        let mut damaged = golden("sandbox");
        *at.get_mut(&mut damaged) = byte;
        let _ = SandboxMetadata::from_json(&damaged);
    }
}
