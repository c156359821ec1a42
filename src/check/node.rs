//! The kernel: what pods need of it.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::config::Config;
use crate::error::chain;
use crate::linux::{process, selinux};
use crate::sandbox::SeLinux;

/// The oldest kernel that the oldest containerd is run on.
const OLDEST: (u32, u32) = (4, 18);
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![kernel(process::kernel_version())];
    if config.image.snapshotter == "overlayfs" {
        let modules = format!("/lib/modules/{}/modules.dep", process::kernel_release());
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        findings.push(overlay(&text("/proc/filesystems"), || text(&modules)));
    }
    findings.push(namespaces(Path::new("/proc/self/ns")));
    findings.push(seccomp(Path::new("/proc/sys/kernel/seccomp/actions_avail")));
    findings.extend(selinux(config.runtime.enable_selinux, selinux::is_enabled(), || {
        SeLinux::load(&config.runtime).map(drop).map_err(|error| chain(&error))
    }));
    findings.push(forwarding(fs::read_to_string(FORWARDING).ok().as_deref()));
    findings
}

fn kernel(version: (u32, u32)) -> Finding {
    const NAME: &str = "kernel";
    let text = format!("{}.{}", version.0, version.1);
    if version < OLDEST {
        return Finding::warn(NAME, text, format!("{}.{} or newer is what is tested", OLDEST.0, OLDEST.1));
    }
    Finding::ok(NAME, text)
}

/// `modules` are those that may be loaded, each with what it depends on.
fn overlay(filesystems: &str, modules: impl FnOnce() -> String) -> Finding {
    const NAME: &str = "overlay file system";
    if filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        return Finding::ok(NAME, "there");
    }
    let fix = "modprobe overlay, and write overlay into /etc/modules-load.d/cridge.conf";
    if modules().lines().filter_map(|line| line.split(':').next()).any(|path| path.contains("/overlay.ko")) {
        let text = "the kernel loads it when the first container is made, unless it may load no more modules";
        return Finding::warn(NAME, text, fix);
    }
    Finding::fail(NAME, "the kernel has not loaded it", fix)
}

fn namespaces(folder: &Path) -> Finding {
    const NAME: &str = "namespaces";
    let needed = ["net", "ipc", "uts", "pid", "mnt"];
    let missing: Vec<_> = needed.into_iter().filter(|name| !folder.join(name).exists()).collect();
    if missing.is_empty() {
        return Finding::ok(NAME, needed.join(", "));
    }
    Finding::fail(NAME, format!("the kernel has none for {}", missing.join(", ")), "use a kernel with them")
}

fn seccomp(actions: &Path) -> Finding {
    const NAME: &str = "seccomp";
    if actions.exists() {
        return Finding::ok(NAME, "there");
    }
    let fix = "use a kernel built with CONFIG_SECCOMP_FILTER";
    Finding::warn(NAME, "the kernel has none: pods that ask for a profile cannot run", fix)
}

fn selinux(wanted: bool, there: bool, usable: impl FnOnce() -> Result<(), String>) -> Option<Finding> {
    const NAME: &str = "SELinux";
    match (wanted, there) {
        (false, false) => None,
        (false, true) => {
            let text = "the kernel enforces it, and containers get no labels of their own";
            Some(Finding::warn(NAME, text, "set runtime.enable_selinux = true"))
        }
        (true, _) => Some(match usable() {
            Ok(()) => Finding::ok(NAME, "every pod has a label of its own"),
            Err(why) => Finding::fail(NAME, why, "see to SELinux, or set runtime.enable_selinux = false"),
        }),
    }
}

fn forwarding(value: Option<&str>) -> Finding {
    const NAME: &str = "IP forwarding";
    match value.map(str::trim) {
        Some("1") => Finding::ok(NAME, "on"),
        _ => Finding::warn(
            NAME,
            "off: pods may not reach beyond this node",
            "sysctl -w net.ipv4.ip_forward=1 (some network add-ons do it), and keep it in /etc/sysctl.d",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn labels_are_given_or_it_is_told() {
        let outcome = |wanted, there, usable: Result<(), &str>| {
            selinux(wanted, there, || usable.map_err(str::to_owned)).map(|finding| finding.outcome)
        };
        assert_eq!(outcome(false, false, Ok(())), None);
        assert_eq!(outcome(false, true, Ok(())), Some(Outcome::Warn));
        assert_eq!(outcome(true, true, Ok(())), Some(Outcome::Ok));
        assert_eq!(outcome(true, false, Err("no")), Some(Outcome::Fail));
    }

    #[test]
    fn what_the_kernel_lacks_is_told() {
        let overlay = |filesystems, modules: &str| overlay(filesystems, || modules.to_owned()).outcome;
        assert_eq!(overlay("nodev\tsysfs\nnodev\toverlay\n", ""), Outcome::Ok);
        let modules = "kernel/fs/overlayfs/overlay.ko.xz: kernel/fs/some.ko\n";
        assert_eq!(overlay("nodev\tsysfs\n", modules), Outcome::Warn);
        assert_eq!(overlay("nodev\tsysfs\n", "kernel/fs/other.ko: kernel/fs/overlay.ko\n"), Outcome::Fail);
        assert_eq!(kernel((4, 9)).outcome, Outcome::Warn);
        assert_eq!(kernel((6, 1)).outcome, Outcome::Ok);
        assert_eq!(forwarding(Some("1\n")).outcome, Outcome::Ok);
        assert_eq!(forwarding(Some("0\n")).outcome, Outcome::Warn);
        assert_eq!(forwarding(None).outcome, Outcome::Warn);
        assert_eq!(namespaces(Path::new("/proc/self/ns")).outcome, Outcome::Ok);
        let found = namespaces(Path::new("/nonexistent"));
        assert!(found.outcome == Outcome::Fail && found.text.ends_with("net, ipc, uts, pid, mnt"));
    }
}
