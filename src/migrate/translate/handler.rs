//! Runtime handlers: `containerd.runtimes`, and the two that older releases have besides.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::config::HandlerConfig;
use crate::containerd::RuntimeSelection;
use crate::migrate::settings::Setting;
use crate::migrate::tree::{Leaf, Node, Tree, is_empty, leaves, quoted};
use crate::migrate::walk::{Output, Section, setting};

const RUNC: &str = "io.containerd.runc.v2";
/// Shims of version 1, and what has none.
const TOO_OLD: [&str; 2] = ["io.containerd.runtime.v1.linux", "io.containerd.runc.v1"];
/// The handler of pods with the annotation `io.kubernetes.cri.untrusted-workload`.
const UNTRUSTED: &str = "untrusted";
const CGROUPS: &str = "SystemdCgroup";

/// The names of those that come of it.
pub(super) fn translate(tree: Tree, out: &mut Output) -> BTreeSet<String> {
    let mut section = Section::of(tree, out);
    for key in ["ignore_blockio_not_enabled_errors", "ignore_rdt_not_enabled_errors"] {
        section.same(key, &["runtime", key]);
    }
    let mut runtimes = section.table("runtimes").unwrap_or_default();
    let default = section.text("default_runtime_name");
    let default = match (older(&mut section, &mut runtimes), default) {
        (Some(older), overruled) => {
            overruled
                .into_iter()
                .for_each(|(_, leaf)| section.out.left(leaf, "default_runtime counts instead"));
            Some(older)
        }
        (None, default) => default,
    };
    let mut names = BTreeSet::new();
    let mut handlers = Section::of(runtimes, section.out);
    for (name, tree) in handlers.tables() {
        if handler(&name, tree, handlers.out) {
            names.insert(name);
        }
    }
    handlers.finish();
    if !names.contains("runc") && section.out.lives {
        cgroupfs("runc", section.out);
    }
    if let Some((name, leaf)) = default {
        if name == "runc" {
            section.out.as_default(leaf, "cridge's default");
        } else {
            section.out.put(setting(&leaf, &["runtime", "default_handler"], name));
        }
    }
    section.finish();
    names
}

/// The handlers that 1.x has beside the table; the name of the one for pods that name none.
fn older(section: &mut Section<'_>, runtimes: &mut Tree) -> Option<(String, Leaf)> {
    if section.out.release.is_2() {
        return None;
    }
    if let Some(leaf) = section.is_true("no_pivot") {
        section.out.refuse(leaf, "it is for io.containerd.runtime.v1.linux alone, which cridge cannot run");
    }
    let mut default = None;
    for (key, name) in [("default_runtime", "default"), ("untrusted_workload_runtime", UNTRUSTED)] {
        let Some(tree) = section.table(key) else { continue };
        match tree.get("runtime_type") {
            Some(Node::Leaf(leaf)) if !is_empty(&leaf.value) => {
                if name == "default" {
                    default = Some((name.to_owned(), leaf.clone()));
                }
                if let Some(Node::Table(overruled)) = runtimes.insert(name.into(), Node::Table(tree)) {
                    section.out.all_left(overruled, &format!("{key} counts instead"));
                }
            }
            _ => leaves(tree).into_iter().for_each(|leaf| section.out.as_default(leaf, "not set")),
        }
    }
    default
}

/// Whether a handler came of it.
fn handler(name: &str, tree: Tree, out: &mut Output) -> bool {
    let mut section = Section::of(tree, out);
    let Some((kind, leaf)) = section.text("runtime_type") else {
        if name == "runc" {
            rest(name, RUNC, section);
            return true;
        }
        let why = "its handler has no runtime_type: containerd runs no pods by it, and neither will cridge";
        section.give_up(why);
        return false;
    };
    if name == UNTRUSTED {
        let why = "containerd puts pods with the annotation io.kubernetes.cri.untrusted-workload on this handler, \
                   which cridge does not: give them a RuntimeClass, and remove it";
        section.out.refuse(leaf.clone(), why);
    }
    if TOO_OLD.contains(&kind.as_str()) {
        let why = "cridge runs shims of version 2 alone: make it io.containerd.runc.v2, or remove it if no pod needs it";
        section.out.refuse(leaf, why);
    } else {
        let key = ["runtime", "handlers", name, "runtime_type"];
        section.out.carry(leaf, &key, kind.as_str());
    }
    rest(name, &kind, section);
    true
}

fn rest(name: &str, kind: &str, mut section: Section<'_>) {
    let to = |key: &'static str| ["runtime", "handlers", name, key];
    for key in [
        "runtime_path",
        "snapshotter",
        "base_runtime_spec",
        "cni_conf_dir",
        "cni_max_conf_num",
        "pod_annotations",
        "container_annotations",
        "privileged_without_host_devices",
        "privileged_without_host_devices_all_devices_allowed",
        "cgroup_writable",
    ] {
        section.same_if_set(key, &to(key));
    }
    for key in ["sandboxer", "sandbox_mode"] {
        only(
            &mut section,
            key,
            "podsandbox",
            "cridge makes every sandbox itself, where this leaves it to the shim",
        );
    }
    only(&mut section, "io_type", "fifo", "cridge knows no other streams than FIFOs");
    if let Some(leaf) = section.leaf("disable_pause_image_pull") {
        section.out.as_default(leaf, "the pause image is built in");
    }
    if !section.out.release.is_2() {
        for key in ["runtime_engine", "runtime_root"] {
            section.expect(key, "", "it is for io.containerd.runtime.v1.linux alone");
        }
    }
    let tree = section.table("options").unwrap_or_default();
    options(name, kind, tree, section.out);
    section.finish();
}

/// Refuses every value but one, and none.
fn only(section: &mut Section<'_>, key: &str, usual: &str, why: &str) {
    match section.text(key) {
        Some((text, leaf)) if text == usual => section.out.as_default(leaf, "cridge's way"),
        Some((_, leaf)) => section.out.refuse(leaf, why),
        None => {}
    }
}

/// The shim's options: runc's are looked at one by one, those of others are the shim's own.
fn options(name: &str, kind: &str, tree: Tree, out: &mut Output) {
    let mut is_told = false;
    for (path, leaf) in paths(tree) {
        let to: Vec<&str> = ["runtime", "handlers", name, "options"]
            .into_iter()
            .chain(path.iter().map(String::as_str))
            .collect();
        let value = leaf.value.clone();
        let is_cgroups = path == [CGROUPS] && kind == RUNC;
        is_told |= is_cgroups;
        if kind != RUNC || is_cgroups {
            out.put(setting(&leaf, &to, value));
        } else if is_empty(&value) {
            out.as_default(leaf, "not set");
        } else {
            match runc_option(&path, &value) {
                Ok(()) => out.carry(leaf, &to, value),
                Err(why) => out.left(leaf, &format!("{why}: pods run without it")),
            }
        }
    }
    if kind == RUNC && !is_told {
        cgroupfs(name, out);
    }
}

/// containerd makes cgroups by itself where it is not told; cridge would ask the node.
fn cgroupfs(name: &str, out: &mut Output) {
    let from = format!("{CGROUPS} of {}, which is not set: false in containerd", quoted(name));
    let path = ["runtime", "handlers", name, "options", CGROUPS].map(str::to_owned).to_vec();
    out.put(Setting { path, value: false.into(), from });
}

fn runc_option(path: &[String], value: &Value) -> Result<(), String> {
    let [key] = path else { return Err(format!("{RUNC} has no table {:?}", path.first())) };
    let options = Table::from_iter([(key.clone(), value.clone())]);
    RuntimeSelection::from_handler(&HandlerConfig { options, ..HandlerConfig::default() }).map(drop)
}

/// Every value with its path; lists of tables are values.
fn paths(tree: Tree) -> Vec<(Vec<String>, Leaf)> {
    let found = tree.into_iter().flat_map(|(key, node)| match node {
        Node::Leaf(leaf) => vec![(vec![key], leaf)],
        Node::Table(inner) => {
            let inner = paths(inner).into_iter();
            inner.map(|(path, leaf)| ([vec![key.clone()], path].concat(), leaf)).collect()
        }
    });
    found.collect()
}
