//! containerd: whether it answers, what it is, and whether its own CRI plugin is out of the way.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::config::Config;
use crate::container::find_criu;
use crate::containerd::{Containerd, ContainerdError, Plugin, Version};
use crate::error::chain;
use crate::linux::{caps, mount};

/// The oldest release whose API is all that is needed.
const OLDEST: (u32, u32) = (1, 6);
/// The namespace that the built-in CRI plugin works in, whatever its configuration.
const BUILT_IN_NAMESPACE: &str = "k8s.io";
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// What containerd told of itself.
pub struct Seen {
    pub version: Result<Version, ContainerdError>,
    /// Empty when it does not answer.
    pub plugins: Vec<Plugin>,
    /// Its process, where this process can see it.
    pub pid: Option<i32>,
    /// The version of the CRIU that its runtimes would use, or why there is none.
    pub criu: Result<(u32, u32), String>,
}

impl Seen {
    pub async fn look(config: &Config) -> Self {
        let containerd = Containerd::new(&config.containerd.socket, &config.containerd.namespace);
        let version = containerd.version().await;
        let plugins = match &version {
            Ok(_) => containerd.plugins().await,
            Err(_) => Ok(Vec::new()),
        };
        let (version, plugins) = match plugins {
            Ok(plugins) => (version, plugins),
            Err(error) => (Err(error), Vec::new()),
        };
        Self { version, plugins, pid: containerd.server_pid().await.ok(), criu: find_criu(&containerd).await }
    }

    pub fn answers(&self) -> bool {
        self.version.is_ok()
    }
}

pub fn findings(config: &Config, seen: &Seen) -> Vec<Finding> {
    let mut findings = vec![reachable(&config.containerd.socket, &seen.version)];
    if let Ok(version) = &seen.version {
        findings.push(built_in_cri(&config.containerd.namespace, &version.version, &seen.plugins));
        findings.extend(snapshotters(config).map(|name| snapshotter(name, &seen.plugins)));
        findings.push(mount_namespace(seen.pid));
        findings.push(propagation(&config.state));
        findings.extend(seen.pid.map(privilege));
    }
    findings
}

fn reachable(socket: &Path, version: &Result<Version, ContainerdError>) -> Finding {
    const NAME: &str = "containerd";
    match version {
        Ok(version) if release(&version.version).is_some_and(|release| release < OLDEST) => Finding::fail(
            NAME,
            format!("{} at {} is too old", version.version, socket.display()),
            format!("install containerd {}.{} or newer", OLDEST.0, OLDEST.1),
        ),
        Ok(version) => Finding::ok(NAME, format!("{} at {}", version.version, socket.display())),
        Err(_) if !socket.exists() => Finding::fail(
            NAME,
            format!("there is no socket {}", socket.display()),
            "start containerd (systemctl start containerd), or set containerd.socket to where it listens",
        ),
        Err(error) => Finding::fail(
            NAME,
            chain(error),
            "look at containerd's own log (journalctl -u containerd), and whether this user may use its socket",
        ),
    }
}

/// Major and minor number of `1.6.20~ds1` or `v2.1.9`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '~', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The finding's name.
pub const BUILT_IN: &str = "built-in CRI plugin";

fn built_in_cri(namespace: &str, version: &str, plugins: &[Plugin]) -> Finding {
    let names = |is_one: fn(&Plugin) -> bool| -> Vec<_> {
        let active = plugins.iter().filter(|plugin| is_one(plugin) && plugin.is_loaded());
        active.map(|plugin| format!("{}.{}", plugin.kind, plugin.id)).collect()
    };
    let whole = names(Plugin::is_built_in_cri);
    let parts = names(Plugin::is_part_of_built_in_cri);
    if whole.is_empty() && parts.is_empty() {
        return Finding::ok(BUILT_IN, "not active");
    }
    let text = format!("active ({})", [&whole[..], &parts[..]].concat().join(", "));
    if namespace != BUILT_IN_NAMESPACE {
        return Finding::ok(BUILT_IN, format!("{text}, but in {BUILT_IN_NAMESPACE}, not in {namespace}"));
    }
    let all = built_in_plugins(release(version).map_or(2, |(major, _)| major));
    let all: Vec<_> = all.iter().map(|part| format!("{part:?}")).collect();
    let fix = format!(
        "put {} into disabled_plugins in /etc/containerd/config.toml and restart containerd; its pods go on running",
        all.join(", ")
    );
    if whole.is_empty() {
        return Finding::warn(
            BUILT_IN,
            format!("{text}: it serves no pods, but still looks after images"),
            fix,
        );
    }
    Finding::fail(BUILT_IN, format!("{text}: two would manage the same pods"), fix)
}

/// What is to be disabled of a containerd of that major release.
pub fn built_in_plugins(major: u32) -> &'static [&'static str] {
    match major {
        1 => &["io.containerd.grpc.v1.cri"],
        _ => &[
            "io.containerd.cri.v1.images",
            "io.containerd.cri.v1.runtime",
            "io.containerd.grpc.v1.cri",
            "io.containerd.podsandbox.controller.v1.podsandbox",
        ],
    }
}

/// Every snapshotter that the configuration names, each once.
fn snapshotters(config: &Config) -> impl Iterator<Item = &str> {
    let handlers = config.runtime.handlers.values().filter_map(|handler| handler.snapshotter.as_ref());
    let mut names: Vec<_> = handlers.chain([&config.image.snapshotter]).map(String::as_str).collect();
    names.sort();
    names.dedup();
    names.into_iter()
}

fn snapshotter(name: &str, plugins: &[Plugin]) -> Finding {
    const NAME: &str = "snapshotter";
    let mut all = plugins.iter().filter(|plugin| plugin.kind == SNAPSHOTTER);
    let others: Vec<_> =
        all.clone().filter(|plugin| plugin.is_loaded()).map(|plugin| plugin.id.as_str()).collect();
    let fix = format!("set image.snapshotter to one of those that work here: {}", others.join(", "));
    match all.find(|plugin| plugin.id == name).map(|plugin| &plugin.init_error) {
        Some(None) => Finding::ok(NAME, name),
        Some(Some(why)) => Finding::fail(NAME, format!("{name} did not load: {why}"), fix),
        None => Finding::fail(NAME, format!("containerd has no {name}"), fix),
    }
}

fn mount_namespace(pid: Option<i32>) -> Finding {
    const NAME: &str = "mount namespace";
    let Some(pid) = pid else {
        return Finding::warn(
            NAME,
            "containerd's process is out of sight, so it is not known whether mounts are shared with it",
            "run cridge in the PID namespace of the node",
        );
    };
    let theirs = fs::read_link(format!("/proc/{pid}/ns/mnt"));
    let ours = fs::read_link("/proc/self/ns/mnt");
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Finding::ok(NAME, "shared with containerd"),
        (Ok(_), Ok(_)) => Finding::fail(
            NAME,
            "another than containerd's: what one mounts, the other does not see",
            "run both on the node itself; a systemd unit must not set PrivateTmp, ProtectSystem and their kin",
        ),
        (Err(error), _) | (_, Err(error)) => Finding::warn(
            NAME,
            format!("containerd's (pid {pid}) cannot be read: {error}"),
            "run cridge check as root",
        ),
    }
}

/// Volumes whose mounts are to be seen on both sides need a mount that passes them on.
fn propagation(state: &Path) -> Finding {
    const NAME: &str = "mount propagation";
    let mounts = match mount::mounts() {
        Ok(mounts) => mounts,
        Err(error) => return Finding::warn(NAME, chain(&error), "see that /proc is mounted"),
    };
    // The folder may be made later; where it will lie is known.
    let there = state.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match mount::mount_of(&mounts, there) {
        Some(found)
            if matches!(found.propagation, mount::Propagation::Shared | mount::Propagation::SharedSlave) =>
        {
            Finding::ok(NAME, format!("{} is shared", found.mount_point.display()))
        }
        Some(found) => Finding::warn(
            NAME,
            format!(
                "{} is not shared: volumes with mountPropagation cannot work",
                found.mount_point.display()
            ),
            "mount --make-rshared / (systemd does so at boot)",
        ),
        None => Finding::warn(NAME, format!("{} is on no known mount", there.display()), "see /proc/mounts"),
    }
}

/// What runc may do is what containerd may do.
fn privilege(pid: i32) -> Finding {
    const NAME: &str = "containerd's privileges";
    match caps::effective(pid) {
        Ok(own) if own.has("CAP_SYS_RESOURCE") => {
            Finding::ok(NAME, format!("{} capabilities", own.names().len()))
        }
        Ok(_) => Finding::warn(
            NAME,
            "containerd lacks CAP_SYS_RESOURCE: negative OOM scores are raised to its own",
            "give it to containerd's unit or virtual machine",
        ),
        Err(error) => Finding::warn(NAME, chain(&error), "run cridge check as root"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn plugin(kind: &str, id: &str, init_error: Option<&str>) -> Plugin {
        Plugin {
            kind: kind.into(),
            id: id.into(),
            exports: Default::default(),
            capabilities: Vec::new(),
            platforms: Vec::new(),
            init_error: init_error.map(str::to_owned),
        }
    }

    #[test]
    fn releases_are_read_as_distributions_write_them() {
        for (text, expected) in [
            ("1.6.20~ds1", Some((1, 6))),
            ("v2.1.9", Some((2, 1))),
            ("2.4.0-beta.1", Some((2, 4))),
            ("", None),
        ] {
            assert_eq!(release(text), expected, "{text}");
        }
    }

    #[test]
    fn an_active_built_in_plugin_fails_in_its_own_namespace_only() {
        let old = [plugin("io.containerd.grpc.v1", "cri", None)];
        let found = built_in_cri("k8s.io", "1.7.24", &old);
        assert_eq!(found.outcome, Outcome::Fail);
        let fix = found.fix.unwrap();
        assert!(fix.contains("\"io.containerd.grpc.v1.cri\"") && !fix.contains("podsandbox"), "{fix}");
        assert_eq!(built_in_cri("other", "1.7.24", &old).outcome, Outcome::Ok);
        let new =
            [plugin("io.containerd.cri.v1", "images", None), plugin("io.containerd.grpc.v1", "cri", None)];
        assert_eq!(built_in_cri("k8s.io", "2.1.9", &new[..1]).outcome, Outcome::Warn);
        let found = built_in_cri("k8s.io", "2.1.9", &new);
        assert_eq!(found.outcome, Outcome::Fail);
        assert!(found.fix.unwrap().contains("podsandbox"));
        let failed = [
            plugin("io.containerd.grpc.v1", "cri", Some("no CNI")),
            plugin("io.containerd.grpc.v1", "images", None),
        ];
        assert_eq!(built_in_cri("k8s.io", "1.6.20", &failed).outcome, Outcome::Ok);
    }

    #[test]
    fn a_missing_snapshotter_is_told_with_those_there_are() {
        let plugins = [
            plugin(SNAPSHOTTER, "overlayfs", None),
            plugin(SNAPSHOTTER, "zfs", Some("skip plugin")),
            plugin("io.containerd.differ.v1", "walking", None),
        ];
        assert_eq!(snapshotter("overlayfs", &plugins).outcome, Outcome::Ok);
        for name in ["zfs", "walking"] {
            let found = snapshotter(name, &plugins);
            assert_eq!(found.outcome, Outcome::Fail);
            assert!(found.fix.unwrap().ends_with(": overlayfs"));
        }
    }

    #[test]
    fn our_own_mount_namespace_is_shared_with_ourselves() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(mount_namespace(Some(own)).outcome, Outcome::Ok);
        assert_eq!(mount_namespace(None).outcome, Outcome::Warn);
    }
}
