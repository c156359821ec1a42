//! containerd's records, of all its namespaces: whoever has one owns what bears its id.

use serde::Deserialize;

use super::super::seen::{Record, Role};
use super::super::{Fsck, FsckError};
use crate::containerd::{ContainerRecord, ContainerdError};
use crate::state::{
    CONTAINER_METADATA_TYPE, ContainerMetadata, KIND_LABEL, SANDBOX_METADATA_TYPE, SandboxMetadata,
};

impl Fsck {
    /// Whether our namespace has a record of this id.
    pub(in super::super) async fn has_record(&self, id: &str) -> Result<bool, FsckError> {
        is_there(self.containerd.container(id).await)
    }

    /// Whether it has a task of this id.
    pub(in super::super) async fn has_task(&self, id: &str) -> Result<bool, FsckError> {
        is_there(self.containerd.task(id).await)
    }

    pub(super) async fn records(&self) -> Result<Vec<Record>, FsckError> {
        let mut found = Vec::new();
        for namespace in self.containerd.namespaces().await? {
            let ours = namespace == self.containerd.namespace();
            let records = self.containerd.in_namespace(&namespace).containers(&[]).await?;
            found.extend(records.iter().map(|record| record_of(record, ours)));
        }
        Ok(found)
    }
}

fn is_there<T>(answer: Result<T, ContainerdError>) -> Result<bool, FsckError> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn record_of(record: &ContainerRecord, ours: bool) -> Record {
    let mut pins = pins_in(&record.spec);
    let mut name = String::new();
    let role = match record.labels.get(KIND_LABEL).map(String::as_str) {
        Some("sandbox") => {
            let metadata = record.extensions.get(SANDBOX_METADATA_TYPE.0);
            if let Some(metadata) = metadata.and_then(|blob| SandboxMetadata::from_json(&blob.value).ok()) {
                pins.extend(file_name(&metadata.netns_path.to_string_lossy()));
                name = metadata.name;
            }
            Role::Pod
        }
        Some("container") => {
            let metadata = record.extensions.get(CONTAINER_METADATA_TYPE.0);
            let metadata = metadata.and_then(|blob| ContainerMetadata::from_json(&blob.value).ok());
            name = metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
            Role::Container { pod: metadata.map(|metadata| metadata.sandbox_id.to_string()) }
        }
        _ => Role::Other,
    };
    pins.sort();
    pins.dedup();
    let snapshot = record.snapshot_key.clone();
    Record { id: record.id.clone(), ours, role, name, snapshot, pins }
}

/// What a spec says of namespaces; all else is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SpecView {
    linux: LinuxView,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LinuxView {
    namespaces: Vec<NamespaceView>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamespaceView {
    path: String,
}

/// Names of the files that a spec's namespaces are taken from.
fn pins_in(spec: &[u8]) -> Vec<String> {
    let view: SpecView = serde_json::from_slice(spec).unwrap_or_default();
    let paths = view.linux.namespaces.iter().map(|namespace| namespace.path.as_str());
    paths.filter(|path| !path.starts_with("/proc/")).filter_map(file_name).collect()
}

fn file_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::containerd::{RuntimeSelection, TypedBlob};
    use crate::id::SnapshotKey;
    use crate::time::Timestamp;

    fn record(kind: Option<&str>, extension: Option<(&str, &[u8])>, spec: &str) -> ContainerRecord {
        let blob = |value: &[u8]| TypedBlob { type_url: String::new(), value: value.to_vec() };
        ContainerRecord {
            id: "id".into(),
            labels: kind.map(|kind| (KIND_LABEL.to_owned(), kind.to_owned())).into_iter().collect(),
            image: String::new(),
            runtime: RuntimeSelection { name: String::new(), options: None },
            spec: spec.as_bytes().to_vec(),
            snapshotter: String::new(),
            snapshot_key: SnapshotKey::new("key"),
            created_at: Timestamp::NEVER,
            extensions: extension
                .map(|(key, value)| (key.to_owned(), blob(value)))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            sandbox: String::new(),
        }
    }

    #[test]
    fn a_pod_names_its_network_namespace_even_where_its_metadata_is_broken() {
        let spec = r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/cni-1"},
            {"type":"ipc","path":"/proc/7/ns/ipc"}]}}"#;
        let seen = record_of(&record(Some("sandbox"), Some((SANDBOX_METADATA_TYPE.0, b"{")), spec), true);
        assert_eq!((seen.role, seen.pins, seen.name.as_str()), (Role::Pod, vec!["cni-1".to_owned()], ""));
        assert!(record_of(&record(Some("sandbox"), None, "no JSON"), true).pins.is_empty());
    }

    #[test]
    fn metadata_of_the_built_in_plugin_is_read() {
        let sandbox = include_bytes!("../../../tests/golden/sandbox.json");
        let seen = record_of(&record(Some("sandbox"), Some((SANDBOX_METADATA_TYPE.0, sandbox)), ""), true);
        assert!(!seen.name.is_empty());
        assert!(
            seen.pins.iter().all(|pin| pin.starts_with("cni-")) && seen.pins.len() == 1,
            "{:?}",
            seen.pins
        );
        let container = include_bytes!("../../../tests/golden/container.json");
        let seen =
            record_of(&record(Some("container"), Some((CONTAINER_METADATA_TYPE.0, container)), ""), true);
        assert!(matches!(seen.role, Role::Container { pod: Some(_) }), "{seen:?}");
        assert_eq!(record_of(&record(None, None, ""), false).role, Role::Other);
    }
}
