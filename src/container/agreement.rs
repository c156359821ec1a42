//! What a config may not say otherwise than the checkpoint that it is to be restored from: the frozen process brings it
//! along, so that another wish would be ignored. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::field::{self, FieldError};

/// Variables that a pod's name decides.
const OF_THE_POD: &str = "HOSTNAME=";

/// Whether what the config asks for fits the checkpoint: terminal, namespaces, mounts, confinement.
///
/// # Errors
/// The first field that does not.
pub fn check(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    check_terminal(dumped, planned)?;
    check_namespaces(dumped, planned)?;
    check_mounts(dumped, planned)?;
    check_confinement(dumped, planned)
}

/// Whether the config describes the process that was checkpointed (CRI RestorePodRequest.container_configs).
pub fn check_process(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    let (Some(dumped), Some(planned)) = (dumped.process(), planned.process()) else { return Ok(()) };
    check_arguments(dumped, planned)?;
    if dumped.cwd() != planned.cwd() {
        return Err(field::error(
            "working_dir",
            format!("the checkpointed process was started in {}", dumped.cwd().display()),
        ));
    }
    let variables = |process: &Process| -> BTreeSet<String> {
        process.env().iter().flatten().filter(|env| !env.starts_with(OF_THE_POD)).cloned().collect()
    };
    let (before, now) = (variables(dumped), variables(planned));
    if let Some(other) = before.symmetric_difference(&now).next() {
        // The name alone: values may be secrets.
        let name: String = other.split('=').next().unwrap_or_default().chars().take(80).collect();
        return Err(field::error("envs", format!("{name} is not what the checkpointed process has")));
    }
    check_user(dumped, planned)
}

/// Whether arguments that a config gives are those of the checkpointed process.
pub fn check_command(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    match (dumped.process(), planned.process()) {
        (Some(dumped), Some(planned)) => check_arguments(dumped, planned),
        _ => Ok(()),
    }
}

/// Whether a user that a config gives is that of the checkpointed process.
pub fn check_run_as(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    match (dumped.process(), planned.process()) {
        (Some(dumped), Some(planned)) => check_user(dumped, planned),
        _ => Ok(()),
    }
}

/// Gives a spec the checkpointed process: what runs is told by it, and what is run beside it is run alike.
pub fn take_over(dumped: &Spec, planned: &mut Spec) {
    let (Some(dumped), Some(process)) = (dumped.process(), planned.process_mut()) else { return };
    process.set_args(dumped.args().clone());
    process.set_env(dumped.env().clone());
    process.set_cwd(dumped.cwd().clone());
    process.set_user(dumped.user().clone());
}

fn check_arguments(dumped: &Process, planned: &Process) -> Result<(), FieldError> {
    if dumped.args() == planned.args() {
        return Ok(());
    }
    let started: String =
        format!("{:?}", dumped.args().clone().unwrap_or_default()).chars().take(200).collect();
    Err(field::error("command", format!("the checkpointed process was started as {started}")))
}

fn check_user(dumped: &Process, planned: &Process) -> Result<(), FieldError> {
    let of = |process: &Process| {
        let user = process.user();
        let groups: BTreeSet<u32> = user.additional_gids().iter().flatten().copied().collect();
        (user.uid(), user.gid(), groups)
    };
    let (before, now) = (of(dumped), of(planned));
    if before == now {
        return Ok(());
    }
    let why = format!(
        "the checkpointed process has uid {}, gid {} and groups {:?}, not {}, {} and {:?}",
        before.0, before.1, before.2, now.0, now.1, now.2
    );
    Err(field::error("linux.security_context.run_as_user", why))
}

fn check_terminal(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    let has =
        |spec: &Spec| spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false));
    match (has(dumped), has(planned)) {
        (true, false) => Err(field::error("tty", "the checkpointed process has a terminal")),
        (false, true) => Err(field::error("tty", "the checkpointed process has no terminal")),
        _ => Ok(()),
    }
}

/// What a process is confined to by a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Node,
    Own,
    Pod,
}

impl Place {
    fn of(spec: &Spec, kind: LinuxNamespaceType) -> Self {
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        match namespaces.into_iter().flatten().find(|namespace| namespace.typ() == kind) {
            None => Self::Node,
            Some(namespace) if namespace.path().is_some() => Self::Pod,
            Some(_) => Self::Own,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Node => "the node's",
            Self::Own => "its own",
            Self::Pod => "the pod's",
        }
    }
}

fn check_namespaces(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    let kinds = [
        (LinuxNamespaceType::Pid, "pid"),
        (LinuxNamespaceType::Network, "network"),
        (LinuxNamespaceType::Ipc, "ipc"),
        (LinuxNamespaceType::User, "userns_options"),
    ];
    for (kind, name) in kinds {
        let (before, now) = (Place::of(dumped, kind), Place::of(planned, kind));
        if before != now {
            let why = format!("the checkpointed process was in {} and not in {}", before.name(), now.name());
            return Err(field::error(format!("linux.security_context.namespace_options.{name}"), why));
        }
    }
    Ok(())
}

/// CRIU wants every mount that was there, and would leave out every other.
fn check_mounts(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    let places = |spec: &Spec| -> BTreeSet<PathBuf> {
        spec.mounts().iter().flatten().map(|mount| mount.destination().components().collect()).collect()
    };
    let (before, now) = (places(dumped), places(planned));
    let list = |places: Vec<&PathBuf>| {
        places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let (missing, new): (Vec<_>, Vec<_>) =
        (before.difference(&now).collect(), now.difference(&before).collect());
    if !missing.is_empty() {
        return Err(field::error(
            "mounts",
            format!("the checkpointed container had more: {}", list(missing)),
        ));
    }
    if !new.is_empty() {
        let why = format!("the checkpointed container did not have {}", list(new));
        return Err(field::error("mounts", why));
    }
    Ok(())
}

/// The process keeps the confinement that it had; to promise another would be a lie.
fn check_confinement(dumped: &Spec, planned: &Spec) -> Result<(), FieldError> {
    let other = |name: &str| {
        Err(field::error(
            format!("linux.security_context.{name}"),
            "the checkpointed process is confined otherwise, and keeps that",
        ))
    };
    let process = |spec: &Spec| spec.process().clone().unwrap_or_default();
    let (before, now) = (process(dumped), process(planned));
    let readonly = |spec: &Spec| spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
    let seccomp = |spec: &Spec| spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    if before.capabilities() != now.capabilities() {
        return other("capabilities");
    }
    if before.no_new_privileges().unwrap_or(false) != now.no_new_privileges().unwrap_or(false) {
        return other("no_new_privs");
    }
    if before.apparmor_profile() != now.apparmor_profile() {
        return other("apparmor");
    }
    if seccomp(dumped) != seccomp(planned) {
        return other("seccomp");
    }
    if readonly(dumped) != readonly(planned) {
        return other("readonly_rootfs");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"ociVersion":"1.1.0",
        "process":{"args":["sh"],"cwd":"/","env":["A=1","HOSTNAME=a"],"user":{"uid":1,"gid":2},
            "capabilities":{"bounding":["CAP_CHOWN"]}},
        "root":{"path":"rootfs"},
        "mounts":[{"destination":"/proc","type":"proc"},{"destination":"/data","type":"bind"}],
        "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/a"}]}}"#;

    fn spec(from: &str, to: &str) -> Spec {
        assert!(SPEC.contains(from), "{from}");
        serde_json::from_str(&SPEC.replace(from, to)).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let dumped = spec("", "");
        assert_eq!(check(&dumped, &dumped).and(check_process(&dumped, &dumped)), Ok(()));
        for (from, to, field) in [
            (r#""cwd":"/""#, r#""cwd":"/","terminal":true"#, "tty"),
            (
                r#"{"type":"pid"}"#,
                r#"{"type":"pid","path":"/p"}"#,
                "linux.security_context.namespace_options.pid",
            ),
            (r#"{"type":"pid"},"#, "", "linux.security_context.namespace_options.pid"),
            (r#"{"destination":"/proc","type":"proc"},"#, "", "mounts"),
            (r#"/data"#, r#"/data"},{"destination":"/more"#, "mounts"),
            ("CAP_CHOWN", "CAP_KILL", "linux.security_context.capabilities"),
            (
                r#""path":"rootfs""#,
                r#""path":"rootfs","readonly":true"#,
                "linux.security_context.readonly_rootfs",
            ),
        ] {
            assert_eq!(check(&dumped, &spec(from, to)).unwrap_err().field, field, "{to}");
        }
        for (from, to, field) in [
            (r#"["sh"]"#, r#"["sh","-x"]"#, "command"),
            (r#""cwd":"/""#, r#""cwd":"/tmp""#, "working_dir"),
            ("A=1", "A=2", "envs"),
            (r#""uid":1"#, r#""uid":0"#, "linux.security_context.run_as_user"),
        ] {
            assert_eq!(check_process(&dumped, &spec(from, to)).unwrap_err().field, field, "{to}");
        }
        assert_eq!(
            check_process(&dumped, &spec("HOSTNAME=a", "HOSTNAME=b")),
            Ok(()),
            "another pod has another"
        );
    }

    #[test]
    fn no_secret_is_told() {
        let error = check_process(&spec("A=1", "A=secret"), &spec("", "")).unwrap_err();
        assert_eq!(error.why, "A is not what the checkpointed process has");
    }

    #[test]
    fn the_process_is_taken_over() {
        let mut planned = spec(r#"["sh"]"#, r#"["other"]"#);
        take_over(&spec("", ""), &mut planned);
        assert_eq!(planned, spec("", ""));
    }
}
