//! What `crictl info`, `inspect` and `inspectp` show beyond the status: JSON for people, under free keys.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::config::Config;
use crate::container::{Container, ContainerState};
use crate::containerd::Containerd;
use crate::sandbox::{Handler, Handlers, Sandbox};

/// Of a sandbox: its pid, its stored metadata and its spec; resources and overhead once they were updated, which the
/// status has no fields for.
pub(super) async fn sandbox(sandbox: &Sandbox, containerd: &Containerd) -> HashMap<String, String> {
    let facts = sandbox.facts();
    let metadata = stored(&facts.metadata.to_json());
    let mut told = json!({
        "pid": facts.state.pause_pid(),
        "sandboxMetadata": metadata,
        "runtimeHandler": facts.metadata.runtime_handler,
        "runtimeSpec": spec(containerd, sandbox.id.as_str()).await,
    });
    let updated = [("overhead", &facts.resources.overhead), ("resources", &facts.resources.resources)];
    for (key, resources) in updated {
        if let Some(resources) = resources {
            told[key] = json!({"linux": resources});
        }
    }
    info(told)
}

/// Of a container: its pid, its stored metadata and its spec.
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
    }))
}

/// Of the runtime: what it was told, and its networks. kubeadm reads `sandboxImage`.
pub(super) async fn runtime(
    config: &Config,
    handlers: &Handlers,
    pause_image: &str,
    containerd: &Containerd,
) -> HashMap<String, String> {
    let version = containerd.version().await.map(|version| version.version).ok();
    let config = json!({
        "sandboxImage": pause_image,
        "containerd": {"socket": config.containerd.socket, "namespace": config.containerd.namespace, "version": version},
        "root": config.root,
        "state": config.state,
        "handlers": handlers.all().map(|one| (one.name.clone(), handler(one))).collect::<serde_json::Map<_, _>>(),
        "snapshotter": config.image.snapshotter,
        "cni": {"confDir": config.network.conf_dir, "binDirs": config.network.bin_dirs},
        "registryConfigDirs": config.registry.config_dirs,
    });
    let mut info = HashMap::from([("config".to_owned(), config.to_string())]);
    let networks = &handlers.default_handler().networks;
    info.insert("cniconfig".to_owned(), networks.describe().to_string());
    // Plain text, as the built-in plugin has it.
    let default = ["lastCNILoadStatus", "lastCNILoadStatus.default"];
    info.extend(default.map(|key| (key.to_owned(), networks.last_load())));
    let of_their_own = handlers.all().filter(|handler| handler.config.cni_conf_dir.is_some());
    info.extend(
        of_their_own
            .map(|handler| (format!("lastCNILoadStatus.{}", handler.name), handler.networks.last_load())),
    );
    info
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
