//! The kernel: what pods need of it.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::config::Config;
use crate::linux::process;

/// The oldest kernel that the oldest containerd is run on.
const OLDEST: (u32, u32) = (4, 18);
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![kernel(process::kernel_version())];
    if config.image.snapshotter == "overlayfs" {
        findings.push(overlay(&fs::read_to_string("/proc/filesystems").unwrap_or_default()));
    }
    findings.push(namespaces(Path::new("/proc/self/ns")));
    findings.push(seccomp(Path::new("/proc/sys/kernel/seccomp/actions_avail")));
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

fn overlay(filesystems: &str) -> Finding {
    const NAME: &str = "overlay file system";
    if filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        return Finding::ok(NAME, "there");
    }
    let fix = "modprobe overlay, and write overlay into /etc/modules-load.d/cridge.conf";
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
    fn what_the_kernel_lacks_is_told() {
        assert_eq!(overlay("nodev\tsysfs\nnodev\toverlay\n").outcome, Outcome::Ok);
        assert_eq!(overlay("nodev\tsysfs\n").outcome, Outcome::Fail);
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
