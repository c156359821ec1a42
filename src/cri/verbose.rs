//! What `crictl info`, `inspect` and `inspectp` show beyond the status: JSON for people, under free keys.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::subject::name_of_container;
use crate::config::Config;
use crate::container::{Container, ContainerState, Containers};
use crate::containerd::Containerd;
use crate::image::Images;
use crate::sandbox::{Handler, Sandbox};
use crate::work::OperationReport;

/// Of a sandbox: its pid, its stored metadata and its spec; what is being done and was done to it, and what its
/// containers are at or failed with; resources and overhead once they were updated, which the status has no fields for.
pub(super) async fn sandbox(
    sandbox: &Sandbox,
    containers: &Containers,
    containerd: &Containerd,
) -> HashMap<String, String> {
    let facts = sandbox.facts();
    let metadata = stored(&facts.metadata.to_json());
    let mut told = json!({
        "pid": facts.state.pause_pid(),
        "sandboxMetadata": metadata,
        "runtimeHandler": facts.metadata.runtime_handler,
        "runtimeSpec": spec(containerd, sandbox.id.as_str()).await,
        "operations": operations(sandbox, containers),
    });
    let updated = [("overhead", &facts.resources.overhead), ("resources", &facts.resources.resources)];
    for (key, resources) in updated {
        if let Some(resources) = resources {
            told[key] = json!({"linux": resources});
        }
    }
    info(told)
}

/// A pod's own, and those of its containers that go on or have failed.
fn operations(sandbox: &Sandbox, containers: &Containers) -> Vec<OperationReport> {
    let mut operations = sandbox.work.report();
    for container in containers.of_pod(&sandbox.id) {
        let telling =
            container.work.report().into_iter().filter(|one| one.until.is_none() || one.error.is_some());
        let name = name_of_container(&container);
        operations.extend(telling.map(|one| OperationReport { container: Some(name.clone()), ..one }));
    }
    operations
}

/// Of a container: its pid, its stored metadata, its spec, and what is being done and was done to it.
pub(super) async fn container(container: &Container, containerd: &Containerd) -> HashMap<String, String> {
    let facts = container.facts();
    let pid = match facts.state {
        ContainerState::Running { pid, .. } => Some(pid),
        _ => None,
    };
    info(json!({
        "sandboxID": container.pod.as_str(),
        "pid": pid,
        "snapshotter": facts.snapshotter,
        "snapshotKey": container.id.as_str(),
        "containerMetadata": stored(&facts.metadata.to_json()),
        "runtimeSpec": spec(containerd, container.id.as_str()).await,
        "operations": container.work.report(),
    }))
}

/// Of the runtime: what it was told, its networks, the pods that it is running right now, which no list has yet, and the
/// images that it pulls.
/// kubeadm reads `sandboxImage`.
pub(super) async fn runtime(
    config: &Config,
    containers: &Containers,
    images: &Images,
    containerd: &Containerd,
) -> HashMap<String, String> {
    let handlers = containers.sandboxes().handlers();
    let version = containerd.version().await.map(|version| version.version).ok();
    let config = json!({
        "sandboxImage": images.pause_name(),
        "containerd": {"socket": config.containerd.socket, "namespace": config.containerd.namespace, "version": version},
        "root": config.root,
        "state": config.state,
        "handlers": handlers.all().iter().map(|one| (one.name.clone(), handler(one))).collect::<serde_json::Map<_, _>>(),
        "snapshotter": config.image.snapshotter,
        "cni": {"confDir": config.network.conf_dir, "binDirs": config.network.bin_dirs},
        "registryConfigDirs": config.registry.config_dirs,
    });
    let mut info = HashMap::from([("config".to_owned(), config.to_string())]);
    info.insert("podsInTheMaking".to_owned(), in_the_making(containers).to_string());
    info.insert("pulls".to_owned(), json!(images.pulls().report()).to_string());
    let networks = handlers.default_handler().networks;
    info.insert("cniconfig".to_owned(), networks.describe().to_string());
    // Plain text, as the built-in plugin has it.
    let default = ["lastCNILoadStatus", "lastCNILoadStatus.default"];
    info.extend(default.map(|key| (key.to_owned(), networks.last_load())));
    let of_their_own = handlers.all().into_iter().filter(|handler| handler.config.cni_conf_dir.is_some());
    info.extend(
        of_their_own
            .map(|handler| (format!("lastCNILoadStatus.{}", handler.name), handler.networks.last_load())),
    );
    info
}

fn in_the_making(containers: &Containers) -> Value {
    let pods = containers.sandboxes().in_the_making();
    let told = pods.iter().map(|pod| {
        let facts = pod.facts();
        json!({
            "id": pod.id.as_str(),
            "metadata": facts.metadata.config.metadata,
            "operations": operations(pod, containers),
        })
    });
    told.collect()
}

/// What pods of a handler run by, and what of it they can have; what they cannot, by what is missing.
fn handler(handler: &Handler) -> Value {
    let features = handler.features();
    json!({
        "runtimeType": handler.runtime.name,
        "snapshotter": handler.snapshotter,
        "recursiveReadOnlyMounts": features.recursive_read_only,
        "userNamespaces": features.user_namespaces.map_or_else(|missing| json!(missing), |()| json!(true)),
    })
}

fn info(value: Value) -> HashMap<String, String> {
    HashMap::from([("info".to_owned(), value.to_string())])
}

fn stored(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or(Value::Null)
}

async fn spec(containerd: &Containerd, id: &str) -> Value {
    match containerd.container(id).await {
        Ok(record) => stored(&record.spec),
        Err(_) => Value::Null,
    }
}
