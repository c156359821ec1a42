//! Takes in the records that are not known yet, each with its last written state.

use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::RecoveryError;
use crate::container::{Container, ContainerFacts, ContainerState, Containers};
use crate::containerd::{ContainerRecord, Containerd, TypedBlob};
use crate::error::chain;
use crate::sandbox::{Sandbox, SandboxFacts, SandboxState, Sandboxes};
use crate::spec;
use crate::state::{
    CONTAINER_METADATA_TYPE, ContainerMetadata, ContainerStatusFile, KIND_LABEL, SANDBOX_METADATA_TYPE,
    SandboxMetadata, StateError, UPDATED_RESOURCES_TYPE, UpdatedResources,
};
use crate::time::Timestamp;

/// containerd's filter for the records of one kind, `sandbox` or `container` (contract §2).
pub fn of_kind(kind: &str) -> String {
    format!(r#"labels."{KIND_LABEL}"=={kind}"#)
}

/// Reads containerd's records and adopts those that are not known. A record that makes no sense is logged and left
/// alone: recovery deletes nothing that containerd still has.
pub async fn load(containers: &Containers, containerd: &Containerd) -> Result<(), RecoveryError> {
    let filters = [of_kind("sandbox"), of_kind("container")];
    let [pods, rest] = filters.each_ref().map(|filter| [filter.as_str()]);
    let (pods, rest, resources) = tokio::try_join!(
        containerd.containers(&pods),
        containerd.containers(&rest),
        containerd.sandbox_extensions(UPDATED_RESOURCES_TYPE.0),
    )?;
    let sandboxes = containers.sandboxes();
    for record in pods.iter().filter(|record| sandboxes.entry(&record.id).is_none()) {
        match sandbox_of(record, resources.get(&record.id), sandboxes) {
            Ok(sandbox) => sandboxes.adopt(Arc::new(sandbox)),
            Err(error) => tracing::warn!(pod = record.id, "left alone: {}", chain(&error)),
        }
    }
    for record in rest.iter().filter(|record| containers.entry(&record.id).is_none()) {
        match container_of(record, containers) {
            Ok(container) => containers.adopt(Arc::new(container)),
            Err(error) => tracing::warn!(container = record.id, "left alone: {}", chain(&error)),
        }
    }
    if let Err(error) = containers.end_stale_views().await {
        tracing::warn!(
            "what an interrupted look into an image left stays until its lease ends: {}",
            chain(&error)
        );
    }
    Ok(())
}

/// Why a record cannot be taken in.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it has no extension {0}")]
    NoMetadata(&'static str),
    #[error("its metadata cannot be read")]
    Metadata(#[source] StateError),
}

/// `resources` are those of the sandbox store; where it has none, they may be in the container's record.
fn sandbox_of(
    record: &ContainerRecord,
    resources: Option<&TypedBlob>,
    sandboxes: &Sandboxes,
) -> Result<Sandbox, Unreadable> {
    let key = SANDBOX_METADATA_TYPE.0;
    let blob = record.extensions.get(key).ok_or(Unreadable::NoMetadata(key))?;
    let metadata = SandboxMetadata::from_json(&blob.value).map_err(Unreadable::Metadata)?;
    // Not written down anywhere: the comparison finds the pause, or makes this NOTREADY.
    let state = SandboxState::Unknown;
    let resources = resources.or_else(|| record.extensions.get(UPDATED_RESOURCES_TYPE.0));
    let resources = resources.map(|blob| UpdatedResources::from_json(&blob.value)).transpose();
    let resources = resources.unwrap_or_else(|error| {
        tracing::warn!(pod = record.id, "its new resources are not known: {}", chain(&error));
        None
    });
    let network = sandboxes.network_left(&metadata.id);
    Ok(Sandbox::new(SandboxFacts {
        created_at: record.created_at,
        metadata,
        state,
        network,
        resources: resources.unwrap_or_default(),
    }))
}

fn container_of(record: &ContainerRecord, containers: &Containers) -> Result<Container, Unreadable> {
    let key = CONTAINER_METADATA_TYPE.0;
    let blob = record.extensions.get(key).ok_or(Unreadable::NoMetadata(key))?;
    let metadata = ContainerMetadata::from_json(&blob.value).map_err(Unreadable::Metadata)?;
    let spec: Option<Spec> = serde_json::from_slice(&record.spec).ok();
    let path = containers.root_dir(&metadata.id).join("status");
    let (mut file, state) = match ContainerStatusFile::load(&path) {
        Ok(file) => {
            let state = match ContainerState::from_file(&file) {
                ContainerState::Created if containers.was_begun(&metadata.id) => {
                    ContainerState::Begun { at: file.created_at }
                }
                known => known,
            };
            (file, state)
        }
        Err(error) => {
            tracing::warn!(container = record.id, "its status is not known: {}", chain(&error));
            if let Err(error) = ContainerStatusFile::set_aside(&path) {
                tracing::warn!(container = record.id, "nor can it be written: {}", chain(&error));
            }
            let file = ContainerStatusFile { created_at: record.created_at, ..Default::default() };
            (file, ContainerState::Unknown { started_at: Timestamp::NEVER })
        }
    };
    // The spec is what an update changes first, and what a start is made from.
    file.resources = spec.as_ref().and_then(spec::resources_of).or(file.resources);
    Ok(Container::new(ContainerFacts {
        user: spec.as_ref().and_then(spec::user_of),
        cgroups_path: spec.as_ref().map(spec::cgroups_path_of).unwrap_or_default(),
        mount_label: spec.as_ref().map(spec::mount_label_of).unwrap_or_default(),
        snapshotter: record.snapshotter.clone(),
        file,
        metadata,
        state,
    }))
}
