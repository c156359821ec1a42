//! What a container left in the kernel and in containerd's record, beside what the server says of it.

use containerd_client::services::v1::GetContainerRequest;
use containerd_client::services::v1::containers_client::ContainersClient;
use serde_json::Value;

use super::{Container, Node, cgroups, request};

/// The OCI spec of a container, or of a sandbox' pause.
pub async fn spec_of(node: &Node, id: &str) -> Option<Value> {
    let get = GetContainerRequest { id: id.to_owned() };
    let answer = ContainersClient::new(node.containerd()).get(request(get)).await.ok()?;
    serde_json::from_slice(&answer.into_inner().container?.spec?.value).ok()
}

impl Container {
    /// Its OCI spec, as containerd keeps it.
    pub async fn spec(&self) -> Value {
        spec_of(&self.pod.node, &self.id).await.expect("a spec in containerd's record")
    }

    /// A file of its cgroup, by the name in version 1 or 2.
    pub fn cgroup_file(&self, controller: &str, v1: &str, v2: &str) -> String {
        cgroups::file(&self.id, controller, v1, v2)
    }
}
