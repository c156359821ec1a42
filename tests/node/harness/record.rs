//! What a container left in the kernel and in containerd's record, beside what the server says of it.

use std::path::{Path, PathBuf};

use containerd_client::services::v1::GetContainerRequest;
use containerd_client::services::v1::containers_client::ContainersClient;
use serde_json::Value;

use super::{Container, Node, request};

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
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (top, name) = if unified { (PathBuf::new(), v2) } else { (PathBuf::from(controller), v1) };
        let top = Path::new("/sys/fs/cgroup").join(top);
        let folder = find(&top, &self.id)
            .unwrap_or_else(|| panic!("no cgroup of {} below {}", self.id, top.display()));
        std::fs::read_to_string(folder.join(name)).unwrap().trim().to_owned()
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let below = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut below: Vec<_> = below.filter(|path| path.is_dir() && !path.is_symlink()).collect();
    if let Some(at) = below.iter().position(|path| path.ends_with(name)) {
        return Some(below.swap_remove(at));
    }
    below.iter().find_map(|path| find(path, name))
}
