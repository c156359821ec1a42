//! YAML in, pods out: Kubernetes' defaults filled in, its rules checked, everything wrong told at once.

use std::path::{Component, Path};
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;

use super::fields::{Fields, Mistakes};
use super::manifest::*;
use super::{PlayError, container};
use crate::proto::cri;

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: i64 = 30;
/// The largest duration that is taken, in seconds: a year.
const LONGEST: i64 = 365 * 24 * 3600;

/// Reads the pods of a manifest: one document each, or a `List` of them.
///
/// # Errors
/// When it is not YAML, has no pod, or with all that is wrong with its pods.
pub fn pods(text: &str) -> Result<Vec<Pod>, PlayError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|source| PlayError::Yaml { why: source.to_string() })?;
    let mut mistakes = Mistakes::new();
    let mut pods: Vec<Pod> = Vec::new();
    let mut items = Vec::new();
    for document in documents {
        unfold(document, &mut items, &mut mistakes);
    }
    let many = items.len() > 1;
    for (n, item) in items.into_iter().enumerate() {
        let mut own = Mistakes::new();
        let mut fields = Fields::root(item, &mut own);
        pods.push(pod(&mut fields));
        fields.finish();
        mistakes
            .extend(own.into_iter().map(|text| if many { format!("pod {}: {text}", n + 1) } else { text }));
    }
    for (n, pod) in pods.iter().enumerate() {
        let same = |other: &Pod| other.name == pod.name && other.namespace == pod.namespace;
        if pods[..n].iter().any(same) {
            mistakes.push(format!("pod {}: metadata.name: {:?} is taken by another pod", n + 1, pod.name));
        }
    }
    match (mistakes.is_empty(), pods.is_empty()) {
        (true, false) => Ok(pods),
        (true, true) => Err(PlayError::Manifest { mistakes: vec!["there is no pod in it".into()] }),
        (false, _) => Err(PlayError::Manifest { mistakes }),
    }
}

/// The objects of a document: itself, or the items of a `List`.
fn unfold(document: Value, into: &mut Vec<serde_json::Map<String, Value>>, mistakes: &mut Mistakes) {
    match document {
        Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
            match list.remove("items") {
                Some(Value::Array(items)) => {
                    for item in items {
                        unfold(item, into, mistakes);
                    }
                }
                _ => mistakes.push("items: must be a list".into()),
            }
        }
        Value::Object(object) => into.push(object),
        _ => mistakes.push("must be an object with apiVersion, kind, metadata and spec".into()),
    }
}

fn pod(fields: &mut Fields<'_>) -> Pod {
    if fields.text("apiVersion").as_deref() != Some("v1") {
        fields.wrong("apiVersion", "must be v1");
    }
    if fields.text("kind").as_deref() != Some("Pod") {
        fields.wrong("kind", "must be Pod");
    }
    // What a cluster has found of a pod means nothing to another run of it.
    fields.ignore("status");
    let mut pod = empty_pod();
    if fields.object("metadata", |fields| metadata(fields, &mut pod)).is_none() {
        fields.wrong("metadata", "must be given");
    }
    if fields.object("spec", |fields| spec(fields, &mut pod)).is_none() {
        fields.wrong("spec", "must be given");
    }
    pod
}

fn empty_pod() -> Pod {
    Pod {
        name: String::new(),
        namespace: "default".into(),
        uid: random_uid(),
        labels: Default::default(),
        annotations: Default::default(),
        hostname: None,
        host_aliases: Vec::new(),
        dns_policy: DnsPolicy::Node,
        dns: cri::DnsConfig::default(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        runtime_class: String::new(),
        restart_policy: RestartPolicy::Always,
        grace: Duration::ZERO,
        security: PodSecurity::default(),
        volumes: Vec::new(),
        init_containers: Vec::new(),
        containers: Vec::new(),
    }
}

/// A random UUID (RFC 9562, version 4).
fn random_uid() -> String {
    let bits: u128 = rand::rng().random();
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn metadata(fields: &mut Fields<'_>, pod: &mut Pod) {
    pod.name = fields.required("name");
    if !pod.name.is_empty() && !pod.name.split('.').all(is_label) {
        fields.wrong("name", "must be lower case letters, digits, \"-\" and \".\"");
    }
    if let Some(namespace) = fields.text("namespace") {
        if !is_label(&namespace) {
            fields.wrong("namespace", NOT_A_LABEL);
        }
        pod.namespace = namespace;
    }
    if let Some(uid) = fields.text("uid") {
        // It becomes part of paths.
        if !is_label(&uid) {
            fields.wrong("uid", NOT_A_LABEL);
        }
        pod.uid = uid;
    }
    pod.labels = fields.dictionary("labels");
    pod.annotations = fields.dictionary("annotations");
}

fn spec(fields: &mut Fields<'_>, pod: &mut Pod) {
    const POLICIES: [(&str, RestartPolicy); 3] = [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    pod.restart_policy = fields.word("restartPolicy", &POLICIES).unwrap_or(RestartPolicy::Always);
    let grace = fields.whole("terminationGracePeriodSeconds", 0..=LONGEST).unwrap_or(DEFAULT_GRACE);
    pod.grace = Duration::from_secs(grace.unsigned_abs());
    pod.runtime_class = fields.text("runtimeClassName").unwrap_or_default();
    sharing(fields, pod);
    names(fields, pod);
    pod.security = fields.object("securityContext", pod_security).unwrap_or_default();
    pod.volumes = fields.objects("volumes", volume);
    pod.init_containers =
        fields.objects("initContainers", |fields| container::read(fields, container::Place::Init));
    pod.containers = fields.objects("containers", |fields| container::read(fields, container::Place::Main));
    // Both are what happens here anyway.
    for key in ["enableServiceLinks", "automountServiceAccountToken"] {
        if fields.truth(key) == Some(true) {
            fields.wrong(key, "true is not supported by cridge play");
        }
    }
    consistency(fields, pod);
}

fn sharing(fields: &mut Fields<'_>, pod: &mut Pod) {
    pod.host_network = fields.truth("hostNetwork").unwrap_or(false);
    pod.host_pid = fields.truth("hostPID").unwrap_or(false);
    pod.host_ipc = fields.truth("hostIPC").unwrap_or(false);
    pod.share_process_namespace = fields.truth("shareProcessNamespace").unwrap_or(false);
    if pod.host_pid && pod.share_process_namespace {
        fields.wrong("shareProcessNamespace", "cannot be true together with hostPID");
    }
}

fn names(fields: &mut Fields<'_>, pod: &mut Pod) {
    const POLICIES: [(&str, DnsPolicy); 4] = [
        ("Default", DnsPolicy::Node),
        ("ClusterFirst", DnsPolicy::Node),
        ("ClusterFirstWithHostNet", DnsPolicy::Node),
        ("None", DnsPolicy::None),
    ];
    pod.hostname = fields.text("hostname");
    if pod.hostname.as_deref().is_some_and(|name| !is_label(name)) {
        fields.wrong("hostname", NOT_A_LABEL);
    }
    pod.host_aliases = fields.objects("hostAliases", host_alias);
    pod.dns_policy = fields.word("dnsPolicy", &POLICIES).unwrap_or(DnsPolicy::Node);
    pod.dns = fields.object("dnsConfig", dns_config).unwrap_or_default();
    if pod.dns_policy == DnsPolicy::None && pod.dns.servers.is_empty() {
        fields.wrong("dnsConfig.nameservers", "must be given with dnsPolicy None");
    }
}

fn host_alias(fields: &mut Fields<'_>) -> HostAlias {
    let ip = fields.required("ip");
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        fields.wrong("ip", "must be an IP address");
    }
    let hostnames = fields.texts("hostnames");
    if !hostnames.iter().all(|name| name.split('.').all(is_label)) {
        fields.wrong("hostnames", "must be host names");
    }
    HostAlias { ip, hostnames }
}

fn dns_config(fields: &mut Fields<'_>) -> cri::DnsConfig {
    let options = fields.objects("options", |fields| {
        let name = fields.required("name");
        fields.text("value").map_or(name.clone(), |value| format!("{name}:{value}"))
    });
    cri::DnsConfig { servers: fields.texts("nameservers"), searches: fields.texts("searches"), options }
}

fn pod_security(fields: &mut Fields<'_>) -> PodSecurity {
    let sysctls = fields.objects("sysctls", |fields| (fields.required("name"), fields.required("value")));
    const POLICIES: [(&str, cri::SupplementalGroupsPolicy); 2] =
        [("Merge", cri::SupplementalGroupsPolicy::Merge), ("Strict", cri::SupplementalGroupsPolicy::Strict)];
    PodSecurity {
        user: container::identity(fields),
        fs_group: fields.whole("fsGroup", container::IDS),
        supplemental_groups: fields.ids("supplementalGroups"),
        supplemental_groups_policy: fields.word("supplementalGroupsPolicy", &POLICIES).unwrap_or_default(),
        seccomp: fields.object("seccompProfile", container::seccomp).flatten(),
        sysctls: sysctls.into_iter().collect(),
    }
}

fn volume(fields: &mut Fields<'_>) -> Volume {
    let name = fields.required("name");
    if !name.is_empty() && !is_label(&name) {
        fields.wrong("name", NOT_A_LABEL);
    }
    let empty = fields.object("emptyDir", empty_dir);
    let host = fields.object("hostPath", host_path);
    let source = match (empty, host) {
        (Some(source), None) | (None, Some(source)) => source,
        (None, None) => {
            fields.wrong("emptyDir", "one of emptyDir and hostPath must be given");
            VolumeSource::EmptyDir
        }
        (Some(source), Some(_)) => {
            fields.wrong("hostPath", "cannot be given together with emptyDir");
            source
        }
    };
    Volume { name, source }
}

fn empty_dir(fields: &mut Fields<'_>) -> VolumeSource {
    let memory = fields.word("medium", &[("", false), ("Memory", true)]).unwrap_or(false);
    if memory {
        return VolumeSource::Memory { size_limit: fields.quantity("sizeLimit") };
    }
    if fields.quantity("sizeLimit").is_some() {
        fields.wrong("sizeLimit", "not supported by cridge play without medium Memory");
    }
    VolumeSource::EmptyDir
}

fn host_path(fields: &mut Fields<'_>) -> VolumeSource {
    const KINDS: [(&str, HostPathKind); 8] = [
        ("", HostPathKind::Unchecked),
        ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
        ("Directory", HostPathKind::Directory),
        ("FileOrCreate", HostPathKind::FileOrCreate),
        ("File", HostPathKind::File),
        ("Socket", HostPathKind::Socket),
        ("CharDevice", HostPathKind::CharDevice),
        ("BlockDevice", HostPathKind::BlockDevice),
    ];
    let path = fields.required("path");
    if !path.is_empty() && (!path.starts_with('/') || climbs(&path)) {
        fields.wrong("path", "must be an absolute path without \"..\"");
    }
    let kind = fields.word("type", &KINDS).unwrap_or(HostPathKind::Unchecked);
    VolumeSource::HostPath { path: path.into(), kind }
}

/// What only the whole pod can tell.
fn consistency(fields: &mut Fields<'_>, pod: &Pod) {
    if pod.containers.is_empty() {
        fields.wrong("containers", "must have at least one");
    }
    twice(fields, "volumes", pod.volumes.iter().map(|volume| volume.name.as_str()));
    let containers: Vec<_> = pod.all_containers().collect();
    twice(fields, "containers", containers.iter().map(|container| container.name.as_str()));
    let mut taken = Vec::new();
    for (n, container) in containers.iter().enumerate() {
        let at = match n.checked_sub(pod.init_containers.len()) {
            None => format!("initContainers[{n}]"),
            Some(n) => format!("containers[{n}]"),
        };
        for (m, mount) in container.mounts.iter().enumerate() {
            if !pod.volumes.iter().any(|volume| volume.name == mount.volume) {
                let text = format!("there is no volume {:?}", mount.volume);
                fields.wrong(&format!("{at}.volumeMounts[{m}].name"), text);
            }
        }
        for (m, port) in container.ports.iter().enumerate() {
            let key = format!("{at}.ports[{m}].hostPort");
            if pod.host_network && port.host_port != 0 && port.host_port != port.container_port {
                fields.wrong(&key, "must be containerPort with hostNetwork");
            }
            let place = (port.host_port, port.host_ip.as_str(), port.protocol);
            if port.host_port != 0 && taken.contains(&place) {
                fields.wrong(&key, "is taken by another port of this pod");
            }
            taken.push(place);
        }
    }
}

fn twice<'n>(fields: &mut Fields<'_>, key: &str, names: impl Iterator<Item = &'n str>) {
    let mut seen = Vec::new();
    for name in names {
        if !name.is_empty() && seen.contains(&name) {
            fields.wrong(key, format!("there are two of the name {name:?}"));
        }
        seen.push(name);
    }
}

pub(super) const NOT_A_LABEL: &str =
    "must be at most 63 lower case letters, digits and \"-\", with a letter or digit at both ends";

/// Whether this is a DNS label (RFC 1123), as Kubernetes has its names.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a path has a `..` in it.
pub(super) fn climbs(path: &str) -> bool {
    Path::new(path).components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests;
