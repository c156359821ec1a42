//! What a spec tells of its pod: containerd's `io.kubernetes.cri.*` keys, by which shims and other runtimes find a
//! container's pod, and what a handler lets through.

use std::collections::HashMap;

use super::glob;
use crate::proto::cri;

const PREFIX: &str = "io.kubernetes.cri.";

/// Annotations whose keys match one of a handler's patterns.
pub(super) fn passed<'a>(
    annotations: &'a HashMap<String, String>,
    patterns: &'a [String],
) -> impl Iterator<Item = (String, String)> + 'a {
    annotations
        .iter()
        .filter(|(key, _)| patterns.iter().any(|pattern| glob::matches(pattern, key)))
        .map(|(key, value)| (key.clone(), value.clone()))
}

/// The keys of a pause.
pub(super) fn of_pause(
    id: &str,
    config: &cri::PodSandboxConfig,
    image_name: &str,
) -> impl Iterator<Item = (String, String)> {
    let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let resources = resources.into_iter().flat_map(|resources| {
        [
            ("sandbox-cpu-period", resources.cpu_period.to_string()),
            ("sandbox-cpu-quota", resources.cpu_quota.to_string()),
            ("sandbox-cpu-shares", resources.cpu_shares.to_string()),
            ("sandbox-memory", resources.memory_limit_in_bytes.to_string()),
        ]
    });
    let own = [
        ("container-type", "sandbox".to_owned()),
        ("sandbox-log-directory", config.log_directory.clone()),
        ("podsandbox.image-name", image_name.to_owned()),
    ];
    of_pod(id, config).chain(own).chain(resources).map(prefixed)
}

/// The keys of a container.
pub(super) fn of_container(
    pod_id: &str,
    pod: &cri::PodSandboxConfig,
    config: &cri::ContainerConfig,
    image_name: &str,
) -> impl Iterator<Item = (String, String)> {
    let name = config.metadata.as_ref().map_or_else(String::new, |metadata| metadata.name.clone());
    let own = [
        ("container-type", "container".to_owned()),
        ("container-name", name),
        ("image-name", image_name.to_owned()),
    ];
    of_pod(pod_id, pod).chain(own).map(prefixed)
}

fn of_pod(id: &str, config: &cri::PodSandboxConfig) -> impl Iterator<Item = (&'static str, String)> {
    let metadata = config.metadata.clone().unwrap_or_default();
    [
        ("sandbox-id", id.to_owned()),
        ("sandbox-name", metadata.name),
        ("sandbox-namespace", metadata.namespace),
        ("sandbox-uid", metadata.uid),
    ]
    .into_iter()
}

fn prefixed((key, value): (&'static str, String)) -> (String, String) {
    (format!("{PREFIX}{key}"), value)
}
