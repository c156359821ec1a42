//! Which system calls a process may make.

use oci_spec::runtime::{
    Arch, Capability, LinuxCapabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

use super::profile::{self, Fields, Profile};
use super::seccomp_default as table;
use super::{NodeFacts, SpecError, caps, field, seccomp_file};
use crate::config::RuntimeConfig;
use crate::proto::cri;

const FIELD: &str = "config.linux.security_context.seccomp";
const OLD_FIELD: &str = "config.linux.security_context.seccomp_profile_path";

/// What a process goes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand<'a> {
    profile: Option<Profile<'a>>,
    privileged: bool,
}

impl<'a> Demand<'a> {
    /// What a container asks for.
    pub fn of_container(
        config: &'a cri::ContainerConfig,
        runtime: &'a RuntimeConfig,
    ) -> Result<Self, SpecError> {
        let security = field::security(config);
        #[allow(deprecated)] // Kubelets before 1.19 set the string only.
        let old_text = &security.seccomp_profile_path;
        Self::of(security.seccomp.as_ref(), old_text, security.privileged, runtime)
    }

    /// What a sandbox asks for.
    pub fn of_pause(
        config: &'a cri::PodSandboxConfig,
        runtime: &'a RuntimeConfig,
    ) -> Result<Self, SpecError> {
        let security = field::sandbox_security(config);
        #[allow(deprecated)] // As above.
        let old_text = &security.seccomp_profile_path;
        Self::of(security.seccomp.as_ref(), old_text, security.privileged, runtime)
    }

    fn of(
        message: Option<&'a cri::SecurityProfile>,
        old_text: &'a str,
        privileged: bool,
        runtime: &'a RuntimeConfig,
    ) -> Result<Self, SpecError> {
        let profile = Fields { name: FIELD, message, old_name: OLD_FIELD, old_text }.profile()?;
        let unset = runtime.unset_seccomp_profile.as_deref().filter(|text| !text.is_empty());
        let profile = match (profile, unset) {
            (None, Some(text)) => Some(profile::of_text("unset_seccomp_profile", text)?),
            (profile, _) => profile,
        };
        match profile {
            // A relative one would be looked for wherever this daemon was started.
            Some(Profile::Localhost(path)) if !path.starts_with('/') => Err(SpecError::invalid(
                FIELD,
                format!("the localhost profile {path:?} is not an absolute path"),
            )),
            profile => Ok(Self { profile, privileged }),
        }
    }

    /// The profile's file on the node, for the caller to read.
    fn path(&self) -> Option<&'a str> {
        match self.profile {
            Some(Profile::Localhost(path)) if !self.privileged => Some(path),
            _ => None,
        }
    }

    /// The filter, computed after the capabilities, for the default profile depends on them.
    ///
    /// # Errors
    /// For a profile on a node without seccomp, and for a localhost profile that is not there or makes no sense.
    pub fn filter(
        &self,
        contents: Option<&[u8]>,
        capabilities: Option<&LinuxCapabilities>,
        node: &NodeFacts,
    ) -> Result<Filter, SpecError> {
        if self.privileged {
            return Ok(Filter::None);
        }
        match self.profile {
            None | Some(Profile::Unconfined) => Ok(Filter::OfBase),
            Some(_) if !node.seccomp => {
                Err(SpecError::unsupported(FIELD, "asks for a profile, but the node's kernel has no seccomp"))
            }
            Some(Profile::RuntimeDefault) => Ok(Filter::Is(default(capabilities, node))),
            Some(Profile::Localhost(path)) => {
                let Some(contents) = contents else {
                    return Err(SpecError::invalid(
                        FIELD,
                        format!("there is no profile {path:?} on the node"),
                    ));
                };
                seccomp_file::parse(contents, capabilities, node).map(Filter::Is).map_err(|why| {
                    SpecError::invalid(FIELD, format!("profile {path:?} cannot be used: {why}"))
                })
            }
        }
    }
}

/// The outcome.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    /// None at all.
    None,
    /// None but what a handler's own base spec brings.
    OfBase,
    Is(LinuxSeccomp),
}

/// The file of the localhost profile that a container asks for, if it asks for one.
///
/// # Errors
/// For fields that contradict each other.
pub fn seccomp_path<'a>(
    config: &'a cri::ContainerConfig,
    runtime: &'a RuntimeConfig,
) -> Result<Option<&'a str>, SpecError> {
    Ok(Demand::of_container(config, runtime)?.path())
}

/// The file of the localhost profile that a sandbox asks for, if it asks for one.
///
/// # Errors
/// For fields that contradict each other.
pub fn pause_seccomp_path<'a>(
    config: &'a cri::PodSandboxConfig,
    runtime: &'a RuntimeConfig,
) -> Result<Option<&'a str>, SpecError> {
    Ok(Demand::of_pause(config, runtime)?.path())
}

/// The default profile: everything not listed fails with EPERM.
fn default(capabilities: Option<&LinuxCapabilities>, node: &NodeFacts) -> LinuxSeccomp {
    let has = |capability| caps::has(capabilities, capability);
    let mut calls = vec![allow(table::ALWAYS)];
    calls.push(allow_if(&["socket"], 0, LinuxSeccompOperator::ScmpCmpLt, table::SOCKETS_BELOW));
    // Rules with one argument each, for runc reads several on the same argument as alternatives.
    let equal = |name, &value: &u64| allow_if(&[name], 0, LinuxSeccompOperator::ScmpCmpEq, value);
    calls.extend(table::SOCKETS.iter().map(|domain| equal("socket", domain)));
    calls.extend(table::PERSONALITIES.iter().map(|persona| equal("personality", persona)));
    if node.kernel >= (4, 8) {
        calls.push(allow(table::SINCE_4_8));
    }
    let here = |(arch, _): &&(&str, _)| *arch == std::env::consts::ARCH;
    calls.extend(table::BY_ARCH.iter().filter(here).map(|(_, names)| allow(names)));
    let granted = table::BY_CAPABILITY.iter().filter(|(capability, _)| has(*capability));
    calls.extend(granted.map(|(_, names)| allow(names)));
    if !has(Capability::SysAdmin) {
        let mut clone = allow(&["clone"]);
        clone.set_args(Some(vec![arg(
            clone_flags(),
            table::CLONE_NAMESPACES,
            LinuxSeccompOperator::ScmpCmpMaskedEq,
        )]));
        calls.push(clone);
        let mut clone3 = allow(&["clone3"]);
        clone3.set_action(LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(table::ENOSYS));
        calls.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_architectures(Some(architectures(std::env::consts::ARCH)));
    profile.set_syscalls(Some(calls));
    profile
}

/// The system call interfaces of a machine, by the Rust name of its architecture.
fn architectures(arch: &str) -> Vec<Arch> {
    match arch {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchArm, Arch::ScmpArchAarch64],
        "s390x" => vec![Arch::ScmpArchS390, Arch::ScmpArchS390x],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        "loongarch64" => vec![Arch::ScmpArchLoongarch64],
        _ => Vec::new(),
    }
}

/// Which argument of `clone(2)` holds its flags: s390's has the stack first.
fn clone_flags() -> usize {
    usize::from(std::env::consts::ARCH == "s390x")
}

fn allow(names: &[&str]) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names.iter().map(|name| name.to_string()).collect());
    call.set_action(LinuxSeccompAction::ScmpActAllow);
    call
}

fn allow_if(names: &[&str], index: usize, op: LinuxSeccompOperator, value: u64) -> LinuxSyscall {
    let mut call = allow(names);
    call.set_args(Some(vec![arg(index, value, op)]));
    call
}

/// One comparison. A masked one, `value` being the mask, holds when nothing of it is set.
fn arg(index: usize, value: u64, op: LinuxSeccompOperator) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .value_two(0u64)
        .op(op)
        .build()
        .expect("its builder checks nothing")
}
