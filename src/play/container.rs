//! A container of the manifest: what it runs, as whom, and with what.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::fields::Fields;
use super::manifest::*;
use super::read::{NOT_A_LABEL, climbs, is_label};
use crate::proto::cri;
use cri::security_profile::ProfileType;

/// Which list of the manifest a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Init,
    Main,
}

/// User and group ids that Kubernetes takes.
pub const IDS: RangeInclusive<i64> = 0..=i32::MAX as i64;
const PORTS: RangeInclusive<i64> = 1..=u16::MAX as i64;
/// Where the kubelet looks for profiles of type Localhost.
const SECCOMP_ROOT: &str = "/var/lib/kubelet/seccomp";

pub fn read(fields: &mut Fields<'_>, place: Place) -> Container {
    let name = fields.required("name");
    if !name.is_empty() && !is_label(&name) {
        fields.wrong("name", NOT_A_LABEL);
    }
    let image = fields.required("image");
    let env = fields.objects("env", |fields| {
        let name = fields.required("name");
        if name.contains(['=', '\0']) {
            fields.wrong("name", "must not have = in it");
        }
        (name, fields.text("value").unwrap_or_default())
    });
    Container {
        pull_policy: pull_policy(fields, &image),
        command: fields.texts("command"),
        args: fields.texts("args"),
        working_dir: fields.text("workingDir").unwrap_or_default(),
        env,
        ports: fields.objects("ports", port),
        resources: fields.object("resources", resources).unwrap_or_default(),
        mounts: fields.objects("volumeMounts", mount),
        security: fields.object("securityContext", security).unwrap_or_default(),
        stdin: fields.truth("stdin").unwrap_or(false),
        stdin_once: fields.truth("stdinOnce").unwrap_or(false),
        tty: fields.truth("tty").unwrap_or(false),
        // Elsewhere, and with another word, a container's own policy is left to be refused.
        sidecar: place == Place::Init
            && fields.has("restartPolicy")
            && fields.word("restartPolicy", &[("Always", true)]).unwrap_or(false),
        name,
        image,
    }
    .checked(fields)
}

impl Container {
    /// Rules between fields of one container.
    fn checked(self, fields: &mut Fields<'_>) -> Self {
        let bidirectional = cri::MountPropagation::PropagationBidirectional;
        if self.mounts.iter().any(|mount| mount.propagation == bidirectional) && !self.security.privileged {
            fields
                .wrong("volumeMounts", "only a privileged container may have mountPropagation Bidirectional");
        }
        let admin = ["SYS_ADMIN", "CAP_SYS_ADMIN", "ALL"];
        let gains = self.security.privileged
            || self.security.add_capabilities.iter().any(|name| admin.contains(&name.as_str()));
        if gains && self.security.allow_privilege_escalation == Some(false) {
            let text = "cannot be false in a container that is privileged or has SYS_ADMIN";
            fields.wrong("securityContext.allowPrivilegeEscalation", text);
        }
        for (n, mount) in self.mounts.iter().enumerate() {
            if self.mounts[..n].iter().any(|other| other.container_path == mount.container_path) {
                fields.wrong(&format!("volumeMounts[{n}].mountPath"), "is taken by another mount");
            }
        }
        self
    }
}

/// Kubernetes' default: images without a tag, or of tag `latest`, are always pulled.
fn pull_policy(fields: &mut Fields<'_>, image: &str) -> PullPolicy {
    const POLICIES: [(&str, PullPolicy); 3] = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    let last = image.rsplit('/').next().unwrap_or(image);
    let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    let default = if latest { PullPolicy::Always } else { PullPolicy::IfNotPresent };
    fields.word("imagePullPolicy", &POLICIES).unwrap_or(default)
}

fn port(fields: &mut Fields<'_>) -> Port {
    const PROTOCOLS: [(&str, cri::Protocol); 3] =
        [("TCP", cri::Protocol::Tcp), ("UDP", cri::Protocol::Udp), ("SCTP", cri::Protocol::Sctp)];
    if !fields.has("containerPort") {
        fields.wrong("containerPort", "must be given");
    }
    // A name is for those who look a port up: services, probes.
    if fields.text("name").is_some_and(|name| !is_label(&name)) {
        fields.wrong("name", NOT_A_LABEL);
    }
    let host_ip = fields.text("hostIP").unwrap_or_default();
    if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
        fields.wrong("hostIP", "must be an IP address");
    }
    let mut number = |key| fields.whole(key, PORTS).and_then(|port| port.try_into().ok()).unwrap_or(0);
    Port {
        container_port: number("containerPort"),
        host_port: number("hostPort"),
        host_ip,
        protocol: fields.word("protocol", &PROTOCOLS).unwrap_or(cri::Protocol::Tcp),
    }
}

fn resources(fields: &mut Fields<'_>) -> Resources {
    let amounts = |fields: &mut Fields<'_>| (fields.quantity("cpu"), fields.quantity("memory"));
    let (cpu_limit, memory_limit) = fields.object("limits", amounts).unwrap_or_default();
    let (cpu_request, memory_request) = fields.object("requests", amounts).unwrap_or_default();
    let over = |request, limit: Option<_>| limit.is_some_and(|limit| request > Some(limit));
    if over(cpu_request, cpu_limit) {
        fields.wrong("requests.cpu", "must not be more than limits.cpu");
    }
    if over(memory_request, memory_limit) {
        fields.wrong("requests.memory", "must not be more than limits.memory");
    }
    Resources {
        cpu_request: cpu_request.or(cpu_limit),
        cpu_limit,
        memory_request: memory_request.or(memory_limit),
        memory_limit,
    }
}

fn mount(fields: &mut Fields<'_>) -> VolumeMount {
    const PROPAGATIONS: [(&str, cri::MountPropagation); 3] = [
        ("None", cri::MountPropagation::PropagationPrivate),
        ("HostToContainer", cri::MountPropagation::PropagationHostToContainer),
        ("Bidirectional", cri::MountPropagation::PropagationBidirectional),
    ];
    let container_path = fields.required("mountPath");
    if container_path.contains(':') {
        fields.wrong("mountPath", "must not have : in it");
    }
    let sub_path = fields.text("subPath").filter(|path| !path.is_empty());
    if sub_path.as_deref().is_some_and(|path| climbs(path) || Path::new(path).is_absolute()) {
        fields.wrong("subPath", "must be a relative path without \"..\"");
    }
    VolumeMount {
        volume: fields.required("name"),
        // As the kubelet has it, a relative path starts at the root.
        container_path: PathBuf::from("/").join(container_path).to_string_lossy().into_owned(),
        read_only: fields.truth("readOnly").unwrap_or(false),
        sub_path: sub_path.map(PathBuf::from),
        propagation: fields
            .word("mountPropagation", &PROPAGATIONS)
            .unwrap_or(cri::MountPropagation::PropagationPrivate),
    }
}

fn security(fields: &mut Fields<'_>) -> ContainerSecurity {
    let capabilities = |fields: &mut Fields<'_>| (fields.texts("add"), fields.texts("drop"));
    let (add_capabilities, drop_capabilities) =
        fields.object("capabilities", capabilities).unwrap_or_default();
    ContainerSecurity {
        user: identity(fields),
        privileged: fields.truth("privileged").unwrap_or(false),
        allow_privilege_escalation: fields.truth("allowPrivilegeEscalation"),
        read_only_root: fields.truth("readOnlyRootFilesystem").unwrap_or(false),
        add_capabilities,
        drop_capabilities,
        seccomp: fields.object("seccompProfile", seccomp).flatten(),
        unmasked_proc: fields.word("procMount", &[("Default", false), ("Unmasked", true)]).unwrap_or(false),
    }
}

/// Whom to run as, in a pod's and in a container's security context alike.
pub fn identity(fields: &mut Fields<'_>) -> Identity {
    Identity {
        user: fields.whole("runAsUser", IDS),
        group: fields.whole("runAsGroup", IDS),
        non_root: fields.truth("runAsNonRoot"),
    }
}

/// A seccomp profile; a Localhost one lies where the kubelet keeps them.
pub fn seccomp(fields: &mut Fields<'_>) -> Option<cri::SecurityProfile> {
    const TYPES: [(&str, ProfileType); 3] = [
        ("RuntimeDefault", ProfileType::RuntimeDefault),
        ("Unconfined", ProfileType::Unconfined),
        ("Localhost", ProfileType::Localhost),
    ];
    if !fields.has("type") {
        fields.wrong("type", "must be given");
    }
    let profile_type = fields.word("type", &TYPES)?;
    let path = fields.text("localhostProfile");
    match (profile_type, &path) {
        (ProfileType::Localhost, None) => {
            fields.wrong("localhostProfile", "must be given with type Localhost")
        }
        (ProfileType::Localhost, Some(path)) if climbs(path) || path.starts_with('/') => {
            fields.wrong("localhostProfile", "must be a relative path without \"..\"");
        }
        (ProfileType::Localhost, Some(_)) | (_, None) => {}
        (_, Some(_)) => fields.wrong("localhostProfile", "must only be given with type Localhost"),
    }
    let localhost_ref = path.map(|path| format!("{SECCOMP_ROOT}/{path}")).unwrap_or_default();
    Some(cri::SecurityProfile { profile_type: profile_type.into(), localhost_ref })
}
