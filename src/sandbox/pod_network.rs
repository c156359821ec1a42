//! A sandbox as CNI plugins are told of it: for ADD, and for DEL after any restart.

use super::{SandboxError, Sandboxes, check};
use crate::linux::netns;
use crate::network::PodNetwork;
use crate::state::SandboxMetadata;

/// Made anew from the metadata each time, so that DEL after a restart tells the plugins what ADD told them.
pub(super) fn pod_network(
    sandboxes: &Sandboxes,
    metadata: &SandboxMetadata,
) -> Result<PodNetwork, SandboxError> {
    let config = &metadata.config;
    let checked = check::check(config)?;
    let names = config.metadata.clone().unwrap_or_default();
    Ok(PodNetwork {
        id: metadata.id.clone(),
        namespace: names.namespace,
        name: names.name,
        uid: names.uid,
        netns: netns::is_pinned(&metadata.netns_path).then(|| metadata.netns_path.clone()),
        port_mappings: checked.port_mappings,
        bandwidth: checked.bandwidth,
        dns: config.dns_config.clone(),
        cgroup_parent: config.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default(),
        annotations: crate::field::ordered(&config.annotations),
        lock_path: sandboxes.root_dir(&metadata.id).join("cni.lock"),
    })
}
