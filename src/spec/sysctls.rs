//! Kernel settings of a pod, and which of them are the pod's to set.

use std::collections::HashMap;

use super::{NodeFacts, SpecError};
use crate::config::RuntimeConfig;
use crate::proto::cri;

/// Since which kernel a network namespace has `ip_unprivileged_port_start`.
const PORT_START_KERNEL: (u32, u32) = (4, 11);

const PORT_START: &str = "net.ipv4.ip_unprivileged_port_start";
const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// Every group that a group id can name in the kernel's signed type.
const ALL_GROUPS: &str = "0 2147483647";

/// Settings of the IPC namespace besides `fs.mqueue.*` (runc's list).
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Which namespaces a pod has to itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub network: bool,
    pub ipc: bool,
    pub user: bool,
}

/// The pod's settings, with the two defaults where it has a network of its own: any process may bind any port, and
/// send echo requests.
pub(super) fn of_pod(
    config: &cri::PodSandboxConfig,
    own: Own,
    runtime: &RuntimeConfig,
    node: &NodeFacts,
) -> HashMap<String, String> {
    let mut all = config.linux.as_ref().map(|linux| linux.sysctls.clone()).unwrap_or_default();
    let mut default = |wanted: bool, key: &str, value: &str| {
        if wanted && own.network && node.kernel >= PORT_START_KERNEL {
            all.entry(key.into()).or_insert_with(|| value.into());
        }
    };
    default(runtime.enable_unprivileged_ports, PORT_START, "0");
    // The range would need every group to be mapped.
    default(runtime.enable_unprivileged_icmp && !own.user, PING_GROUPS, ALL_GROUPS);
    all
}

/// Refuses what would change the node instead of the pod: runc does too, but its error is lost in a failed start.
pub(super) fn check(config: &cri::PodSandboxConfig, own: Own) -> Result<(), SpecError> {
    for (key, value) in config.linux.iter().flat_map(|linux| &linux.sysctls) {
        let name = format!("config.linux.sysctls[{key:?}]");
        super::field::text(&name, key)?;
        super::field::text(&name, value)?;
        if let Some(why) = refusal(&dotted(key), own) {
            return Err(SpecError::invalid(name, why));
        }
    }
    Ok(())
}

fn refusal(key: &str, own: Own) -> Option<&'static str> {
    let ipc = OF_IPC.contains(&key) || key.starts_with("fs.mqueue.");
    match key {
        _ if ipc => (!own.ipc).then_some("would change the node: the pod shares the node's IPC namespace"),
        _ if key.starts_with("net.") => {
            (!own.network).then_some("would change the node: the pod shares the node's network")
        }
        "kernel.domainname" => {
            (!own.network).then_some("would change the node: the pod shares the node's names")
        }
        "kernel.hostname" => Some("is set by the pod's hostname"),
        _ if key.starts_with("user.") => (!own.user).then_some("needs a user namespace of the pod's own"),
        _ => Some("would change the node: the kernel keeps no value per namespace"),
    }
}

/// A key with dots between its parts: one that begins `a/b` has slashes there, and dots for slashes (sysctl.d(5)).
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key[first..].starts_with('/') => key
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => key.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Own = Own { network: true, ipc: true, user: false };
    const HOST: Own = Own { network: false, ipc: false, user: false };

    fn config(key: &str) -> cri::PodSandboxConfig {
        let sysctls = [(key.to_owned(), "1".to_owned())].into();
        cri::PodSandboxConfig {
            linux: Some(cri::LinuxPodSandboxConfig { sysctls, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn only_the_pods_own_settings_can_be_set() {
        for (key, in_pod, on_host) in [
            ("net.core.somaxconn", true, false),
            ("net/ipv4/conf/eno2.100.rp_filter", true, false),
            ("kernel.shm_rmid_forced", true, false),
            ("fs.mqueue.msg_max", true, false),
            ("kernel.domainname", true, false),
            ("kernel.hostname", false, false),
            ("user.max_user_namespaces", false, false),
            ("vm.swappiness", false, false),
            ("kernel.msgmax.x", false, false),
            ("", false, false),
        ] {
            for (own, expected) in [(POD, in_pod), (HOST, on_host)] {
                let result = check(&config(key), own);
                assert_eq!(result.is_ok(), expected, "{key} {own:?}");
                if let Err(error) = result {
                    let text = error.to_string();
                    assert!(text.starts_with(&format!("config.linux.sysctls[{key:?}]: ")), "{text}");
                }
            }
        }
        let user = Own { user: true, ..POD };
        assert_eq!(check(&config("user.max_user_namespaces"), user), Ok(()));
    }
}
