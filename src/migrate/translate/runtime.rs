//! How pods and containers are run, and CNI: `plugins."io.containerd.cri.v1.runtime"`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::{FOLDER, handler};
use crate::migrate::duration::within;
use crate::migrate::tree::{Leaf, Tree};
use crate::migrate::walk::{Output, Section};

/// Keys of the same name and meaning.
const SAME: [&str; 10] = [
    "enable_selinux",
    "disable_apparmor",
    "tolerate_missing_hugetlb_controller",
    "disable_hugetlb_controller",
    "device_ownership_from_security_context",
    "ignore_image_defined_volumes",
    "enable_unprivileged_ports",
    "enable_unprivileged_icmp",
    "enable_cdi",
    "cdi_spec_dirs",
];
/// On by default here and in 2.x, off in 1.x.
const OFF_IN_1: [&str; 3] = ["enable_unprivileged_ports", "enable_unprivileged_icmp", "enable_cdi"];
/// Bytes of a log line.
const LINE: [i64; 2] = [1 << 10, 1 << 20];
/// How long an exec's output may trickle on.
const DRAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(600)];

/// The names of the handlers that come of it.
pub(super) fn translate(tree: Tree, state: &Path, out: &mut Output) -> BTreeSet<String> {
    let mut section = Section::of(tree, out);
    if section.out.lives && !section.out.release.is_2() {
        defaults_of_1(&mut section);
    }
    for key in SAME {
        section.same(key, &["runtime", key]);
    }
    section.same_if_set("selinux_category_range", &["runtime", "selinux_category_range"]);
    limits(&mut section);
    seccomp(&mut section);
    if let Some(leaf) = section.is_true("netns_mounts_under_state_dir") {
        let folder = state.join(FOLDER).join("netns").display().to_string();
        section.out.carry(leaf, &["network", "netns_dir"], folder);
    }
    if let Some(leaf) = section.is_true("enable_experimental_restore_via_create") {
        section.out.carry(leaf, &["runtime", "restore_from_images"], true);
    }
    without_like(&mut section);
    if let Some(cni) = section.table("cni") {
        network(cni, section.out);
    }
    let containerd = section.table("containerd").unwrap_or_default();
    let handlers = handler::translate(containerd, section.out);
    section.finish();
    handlers
}

/// What pods of 1.x have today where nobody said otherwise.
fn defaults_of_1(section: &mut Section<'_>) {
    for key in OFF_IN_1 {
        if !section.has(key) {
            let from = format!("{key}, which is not set: false in containerd {}", section.out.release);
            section.out.carry(Leaf { value: Value::Boolean(false), from }, &["runtime", key], false);
        }
    }
}

fn limits(section: &mut Section<'_>) {
    if let Some((bytes, leaf)) = section.number("max_container_log_line_size") {
        let (carried, remark) = match bytes {
            ..=0 => (LINE[1], " (the longest that cridge takes, where containerd knows no limit)"),
            bytes if bytes < LINE[0] => (LINE[0], " (the shortest that cridge takes)"),
            bytes if bytes > LINE[1] => (LINE[1], " (the longest that cridge takes)"),
            bytes => (bytes, ""),
        };
        section.out.carry_with(leaf, &["runtime", "max_log_line"], carried, remark);
    }
    match section.duration("drain_exec_sync_io_timeout") {
        Some((Duration::ZERO, leaf)) => section.out.left(
            leaf,
            "cridge waits for nobody for ever: the output of an ended exec may trickle on for runtime.exec_drain, 5s",
        ),
        Some((duration, leaf)) => {
            let (text, remark) = within(duration, DRAIN[0], DRAIN[1]);
            section.out.carry_with(leaf, &["runtime", "exec_drain"], text, remark);
        }
        None => {}
    }
}

fn seccomp(section: &mut Section<'_>) {
    if let Some((profile, leaf)) = section.text("unset_seccomp_profile") {
        let name = if profile == "docker/default" { "runtime/default" } else { &profile };
        section.out.carry(leaf, &["runtime", "unset_seccomp_profile"], name);
    }
}

/// Keys that cridge has not.
fn without_like(section: &mut Section<'_>) {
    let found_out = "cridge finds out by itself: a score is raised only where containerd may not set it";
    section.expect("restrict_oom_score_adj", false, found_out);
    section.expect("disable_proc_mount", false, "a container's procMount is always honoured");
    section.expect("ignore_deprecation_warnings", Value::Array(Vec::new()), "Status tells of every warning");
    section.expect(
        "enable_criu",
        true,
        "checkpoints are made where CRIU is on containerd's PATH: take it away",
    );
    for key in ["stats_collect_period", "stats_retention_period"] {
        section.expect(key, "", "cridge reads figures when somebody asks for them: pods notice nothing");
    }
    if section.out.release.is_2() {
        return;
    }
    for (key, why) in [
        ("disable_cgroup", "cridge always makes cgroups, which this containerd is kept from"),
        (
            "systemd_cgroup",
            "it is for runtimes of io.containerd.runtime.v1.linux alone, which cridge cannot run",
        ),
    ] {
        if let Some(leaf) = section.is_true(key) {
            section.out.refuse(leaf, why);
        }
    }
}

fn network(tree: Tree, out: &mut Output) {
    let mut section = Section::of(tree, out);
    // The newer of the two first: it counts where both are set.
    section.same_if_set("bin_dirs", &["network", "bin_dirs"]);
    if let Some((folder, leaf)) = section.text("bin_dir") {
        section.out.carry(leaf, &["network", "bin_dirs"], Value::Array(vec![folder.into()]));
    }
    section.same_if_set("conf_dir", &["network", "conf_dir"]);
    section.same("max_conf_num", &["network", "max_conf_num"]);
    section.same("setup_serially", &["network", "setup_serially"]);
    section.same_if_set("conf_template", &["network", "conf_template"]);
    section.same_if_set("ip_pref", &["network", "ip_preference"]);
    if let Some(leaf) = section.leaf("use_internal_loopback") {
        section.out.as_default(leaf, "cridge brings lo up by itself, with no plugin");
    }
    section.finish();
}
