//! Container records: the one place where a pod's or container's existence is kept.

use std::collections::{BTreeMap, HashMap};

use containerd_client::services::v1 as api;

use super::call::Call;
use super::convert::{ordered, timestamp, unordered};
use super::{Containerd, ContainerdError, RuntimeSelection, SPEC_TYPE, TypedBlob};
use crate::error::Kind;
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
    /// The sandbox whose shim containerd is to use without running the shim's program again (`Container.sandbox`);
    /// empty for none.
    pub sandbox: String,
}

/// What an answer that should hold a record lacks.
const NO_CONTAINER: &str = "there is no container in it";

impl Containerd {
    /// Creates the record; `created_at` is containerd's.
    pub async fn create_container(&self, record: &ContainerRecord) -> Result<ContainerRecord> {
        let call = Call::record("create container", &record.id);
        let request = api::CreateContainerRequest { container: Some(record.clone().into()) };
        let answer = call.run(self.calls().containers().create(request)).await?;
        answer.container.map(ContainerRecord::from).ok_or_else(|| call.malformed(NO_CONTAINER))
    }

    /// One record.
    pub async fn container(&self, id: &str) -> Result<ContainerRecord> {
        let call = Call::record("look at container", &id);
        let request = api::GetContainerRequest { id: id.into() };
        let answer = call.run(self.calls().containers().get(request)).await?;
        answer.container.map(ContainerRecord::from).ok_or_else(|| call.malformed(NO_CONTAINER))
    }

    /// Records that match any of the filters (containerd's filter syntax); streamed, so of any number.
    pub async fn containers(&self, filters: &[&str]) -> Result<Vec<ContainerRecord>> {
        let object = self.namespace();
        let call = Call::record("list containers of", &object);
        let request =
            api::ListContainersRequest { filters: filters.iter().map(ToString::to_string).collect() };
        let records: Vec<_> = match call.collect(self.calls().containers().list_stream(request.clone())).await
        {
            Ok(messages) => messages.into_iter().filter_map(|message| message.container).collect(),
            Err(error) if error.kind() == Kind::Unimplemented => {
                call.run(self.calls().containers().list(request)).await?.containers
            }
            Err(error) => return Err(error),
        };
        Ok(records.into_iter().map(ContainerRecord::from).collect())
    }

    /// Replaces one extension, leaving all else.
    pub async fn set_extension(&self, id: &str, key: &str, value: TypedBlob) -> Result<()> {
        let change = api::Container {
            id: id.into(),
            extensions: HashMap::from([(key.into(), value.into())]),
            ..Default::default()
        };
        self.update_container(change, format!("extensions.{key}")).await
    }

    /// Replaces the stored spec (JSON).
    pub async fn set_spec(&self, id: &str, spec: Vec<u8>) -> Result<()> {
        let change = api::Container { id: id.into(), spec: Some(spec_blob(spec)), ..Default::default() };
        self.update_container(change, "spec".into()).await
    }

    /// Removes the record; its snapshot stays.
    pub async fn delete_container(&self, id: &str) -> Result<()> {
        let request = api::DeleteContainerRequest { id: id.into() };
        Call::record("delete container", &id).run(self.calls().containers().delete(request)).await
    }

    async fn update_container(&self, change: api::Container, path: String) -> Result<()> {
        let id = change.id.clone();
        let request = api::UpdateContainerRequest {
            container: Some(change),
            update_mask: Some(prost_types::FieldMask { paths: vec![path] }),
        };
        Call::record("update container", &id).run(self.calls().containers().update(request)).await.map(drop)
    }
}

fn spec_blob(spec: Vec<u8>) -> prost_types::Any {
    prost_types::Any { type_url: SPEC_TYPE.into(), value: spec }
}

impl From<api::Container> for ContainerRecord {
    fn from(container: api::Container) -> Self {
        let runtime = container.runtime.unwrap_or_default();
        Self {
            id: container.id,
            labels: ordered(container.labels),
            image: container.image,
            runtime: RuntimeSelection { name: runtime.name, options: runtime.options.map(Into::into) },
            spec: container.spec.unwrap_or_default().value,
            snapshotter: container.snapshotter,
            snapshot_key: SnapshotKey::new(container.snapshot_key),
            created_at: timestamp(container.created_at),
            extensions: container.extensions.into_iter().map(|(key, any)| (key, any.into())).collect(),
            sandbox: container.sandbox,
        }
    }
}

impl From<ContainerRecord> for api::Container {
    fn from(record: ContainerRecord) -> Self {
        Self {
            id: record.id,
            labels: unordered(&record.labels),
            image: record.image,
            runtime: Some(api::container::Runtime {
                name: record.runtime.name,
                options: record.runtime.options.map(Into::into),
            }),
            spec: Some(spec_blob(record.spec)),
            snapshotter: record.snapshotter,
            snapshot_key: record.snapshot_key.to_string(),
            extensions: record.extensions.into_iter().map(|(key, blob)| (key, blob.into())).collect(),
            sandbox: record.sandbox,
            ..Default::default()
        }
    }
}
