//! Handlers: their options, their shims and their runtimes, looked for where containerd would.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use super::containerd::Seen;
use crate::config::{CgroupDriver, Config, HandlerConfig};
use crate::containerd::RuntimeSelection;
use crate::linux::cgroup::{self, CgroupMode};
use crate::linux::process::{self, is_executable};

/// The shim type whose runtime is runc, or one that behaves as runc does.
const RUNC_TYPE: &str = "io.containerd.runc.v2";
/// Where systemd tells that it runs the node (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// Without these a pod's limits mean nothing.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub fn findings(config: &Config, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, handler) in &config.runtime.handlers {
        findings.push(options(name, handler));
        if seen.answers() {
            findings.extend(programs(name, handler, seen.pid));
        }
    }
    if seen.answers() {
        findings.push(checkpoints(&seen.criu));
    }
    findings.push(cgroups(cgroup::mode(), &cgroup::controllers()));
    findings.push(driver(config, Path::new(SYSTEMD).is_dir()));
    findings
}

fn options(name: &str, handler: &HandlerConfig) -> Finding {
    const NAME: &str = "runtime handler";
    match RuntimeSelection::from_handler(handler) {
        Ok(_) => Finding::ok(NAME, format!("{name} by {}", handler.runtime_type)),
        Err(why) => {
            Finding::fail(NAME, format!("{name}: {why}"), format!("see to runtime.handlers.{name}.options"))
        }
    }
}

/// Shim and runtime of a handler.
fn programs(name: &str, handler: &HandlerConfig, pid: Option<i32>) -> Vec<Finding> {
    let places = pid.map(search_path).unwrap_or_default();
    let shim = match &handler.runtime_path {
        Some(path) => path.clone(),
        None => match shim_name(&handler.runtime_type) {
            Some(program) => program.into(),
            None => {
                let fix = format!("set runtime.handlers.{name}.runtime_type to the like of {RUNC_TYPE}");
                return vec![Finding::fail("shim", format!("{} names none", handler.runtime_type), fix)];
            }
        },
    };
    let mut findings = vec![program("shim", &shim, &places)];
    if handler.runtime_type == RUNC_TYPE {
        let binary = handler.options.get("BinaryName").and_then(|name| name.as_str()).unwrap_or("runc");
        findings.push(program("runtime", Path::new(binary), &places));
    }
    findings
}

/// `io.containerd.runc.v2` is served by `containerd-shim-runc-v2` (containerd, runtime v2 README).
fn shim_name(runtime_type: &str) -> Option<String> {
    let mut parts = runtime_type.rsplit('.');
    let (version, name) = (parts.next()?, parts.next()?);
    Some(format!("containerd-shim-{name}-{version}"))
}

/// containerd's PATH and its own folder.
fn search_path(pid: i32) -> Vec<PathBuf> {
    let mut places = process::search_path(pid).unwrap_or_default();
    if let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) {
        places.extend(program.parent().map(Path::to_owned));
    }
    places
}

fn program(what: &'static str, program: &Path, places: &[PathBuf]) -> Finding {
    if program.is_absolute() {
        return if is_executable(program) {
            Finding::ok(what, program.display().to_string())
        } else {
            let text = format!("{} is not there, or not executable", program.display());
            Finding::fail(what, text, "install it, or name another in its handler")
        };
    }
    if places.is_empty() {
        let text = format!("containerd's PATH cannot be read, so {} was not looked for", program.display());
        return Finding::warn(what, text, "run cridge check as root, on the node itself");
    }
    match places.iter().map(|place| place.join(program)).find(|path| is_executable(path)) {
        Some(found) => Finding::ok(what, found.display().to_string()),
        None => {
            let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            let text =
                format!("{} is nowhere on containerd's PATH ({})", program.display(), places.join(":"));
            Finding::fail(what, text, format!("install {}", program.display()))
        }
    }
}

/// Few nodes need them: it is no fault that a node cannot.
fn checkpoints(criu: &Result<(u32, u32), String>) -> Finding {
    const NAME: &str = "checkpoints";
    match criu {
        Ok((major, minor)) => Finding::ok(NAME, format!("with CRIU {major}.{minor}")),
        Err(why) => Finding::ok(NAME, format!("refused: {why}")),
    }
}

fn cgroups(mode: CgroupMode, controllers: &[String]) -> Finding {
    const NAME: &str = "cgroups";
    let missing: Vec<_> =
        CONTROLLERS.into_iter().filter(|name| !controllers.iter().any(|there| there == name)).collect();
    if !missing.is_empty() {
        return Finding::fail(
            NAME,
            format!("no controller for {}", missing.join(", ")),
            "mount the cgroup hierarchies, and see that the kernel's command line does not disable one",
        );
    }
    match mode {
        CgroupMode::Unified => Finding::ok(NAME, "v2"),
        CgroupMode::Legacy => Finding::warn(
            NAME,
            "v1: kubelets of 1.35 and later start only with failCgroupV1: false",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

/// Two who manage the same tree must agree on who makes cgroups.
fn driver(config: &Config, systemd: bool) -> Finding {
    const NAME: &str = "cgroup driver";
    let name = &config.runtime.default_handler;
    let option = config.runtime.handlers.get(name).and_then(|handler| handler.options.get("SystemdCgroup"));
    let made_by = match option.and_then(|value| value.as_bool()) {
        Some(true) => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    };
    let told = config.runtime.cgroup_driver;
    let key = format!("runtime.handlers.{name}.options.SystemdCgroup");
    if told.is_some_and(|told| told != made_by) {
        return Finding::fail(
            NAME,
            format!(
                "runtime.cgroup_driver tells the kubelet {}, {name} uses {}",
                word(told),
                word(Some(made_by))
            ),
            format!("set {key} and runtime.cgroup_driver to the same, or leave the latter out"),
        );
    }
    match made_by {
        CgroupDriver::Systemd if !systemd => {
            Finding::fail(NAME, "systemd, which does not run this node", format!("set {key} = false"))
        }
        CgroupDriver::Cgroupfs if systemd => Finding::warn(
            NAME,
            "cgroupfs, while systemd runs this node and may move what it did not make",
            format!("set {key} = true"),
        ),
        driver => Finding::ok(NAME, word(Some(driver))),
    }
}

fn word(driver: Option<CgroupDriver>) -> &'static str {
    match driver {
        Some(CgroupDriver::Systemd) => "systemd",
        Some(CgroupDriver::Cgroupfs) => "cgroupfs",
        None => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Outcome;
    use super::*;

    #[test]
    fn shims_are_named_after_their_type() {
        assert_eq!(shim_name(RUNC_TYPE).as_deref(), Some("containerd-shim-runc-v2"));
        assert_eq!(shim_name("io.containerd.kata.v2").as_deref(), Some("containerd-shim-kata-v2"));
        assert_eq!(shim_name("runc"), None);
    }

    #[test]
    fn programs_are_looked_for_on_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        fs::write(&tool, "").unwrap();
        let places = [PathBuf::from("/nonexistent"), dir.path().to_owned()];
        assert_eq!(program("shim", Path::new("tool"), &places).outcome, Outcome::Fail);
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            program("shim", Path::new("tool"), &places),
            Finding::ok("shim", tool.display().to_string())
        );
        assert_eq!(program("shim", &tool, &[]).outcome, Outcome::Ok);
        assert_eq!(program("shim", Path::new("tool"), &[]).outcome, Outcome::Warn);
    }

    #[test]
    fn both_sides_must_agree_on_the_driver() {
        // (SystemdCgroup, runtime.cgroup_driver, systemd runs the node)
        let cases = [
            (None, None, false, Outcome::Ok),
            (None, None, true, Outcome::Warn),
            (Some(true), None, true, Outcome::Ok),
            (Some(true), None, false, Outcome::Fail),
            (Some(true), Some(CgroupDriver::Cgroupfs), true, Outcome::Fail),
            (None, Some(CgroupDriver::Systemd), true, Outcome::Fail),
            (Some(true), Some(CgroupDriver::Systemd), true, Outcome::Ok),
        ];
        for (option, told, systemd, expected) in cases {
            let mut config = Config::default();
            config.runtime.cgroup_driver = told;
            if let Some(option) = option {
                let handler = config.runtime.handlers.get_mut("runc").unwrap();
                handler.options.insert("SystemdCgroup".into(), option.into());
            }
            let found = driver(&config, systemd);
            assert_eq!(found.outcome, expected, "{option:?} {told:?} {systemd}: {found}");
        }
    }

    #[test]
    fn checkpoints_are_nothing_that_a_node_must_have() {
        assert_eq!(checkpoints(&Ok((4, 1))), Finding::ok("checkpoints", "with CRIU 4.1"));
        assert_eq!(checkpoints(&Err("no".into())), Finding::ok("checkpoints", "refused: no"));
    }

    #[test]
    fn cgroups_need_their_controllers() {
        let all = CONTROLLERS.map(str::to_owned);
        assert_eq!(cgroups(CgroupMode::Unified, &all).outcome, Outcome::Ok);
        assert_eq!(cgroups(CgroupMode::Legacy, &all).outcome, Outcome::Warn);
        let found = cgroups(CgroupMode::Unified, &all[..1]);
        assert_eq!((found.outcome, found.text.as_str()), (Outcome::Fail, "no controller for memory, pids"));
    }
}
