//! From containerd's keys to cridge's, pure: what is looked at on the node is a list of questions that it leaves.
//!
//! Invariant: every key of the CRI plugin's sections, and of those that its pods depend on, has a line in the report.

mod handler;
mod image;
mod runtime;
mod server;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Value;

use super::hosts::HostsFile;
use super::lacking::{NRI, NriPlaces, Questions, VERIFIER};
use super::release::Release;
use super::report::{Item, Outcome};
use super::sections::Sections;
use super::settings::Setting;
use super::tree::{Leaf, Node, Tree, leaves, take};
use super::walk::{Output, Section};
use crate::check;

const TASKS: &str = "io.containerd.service.v1.tasks-service";
const TRANSFER: &str = "io.containerd.transfer.v1.local";
/// The folder of the plugin within containerd's.
const FOLDER: &str = "io.containerd.grpc.v1.cri";

/// What the files make of cridge.
pub(super) struct Translation {
    pub settings: Vec<Setting>,
    pub items: Vec<Item>,
    pub hosts: Vec<HostsFile>,
    pub questions: Questions,
}

pub(super) fn translate(sections: Sections, release: Release) -> Translation {
    let is_told = !(sections.runtime.is_empty() && sections.images.is_empty() && sections.server.is_empty());
    let lives = sections.is_on() || is_told;
    let mut out = Output { release, lives, settings: Vec::new(), items: Vec::new() };
    let address = sections.address();
    let Sections { mut top, runtime, images, server, others, disabled, passed_over } = sections;
    let mut others = Section::of(others, &mut out);
    let questions = questions(&mut others, &disabled, release);
    let tasks = others.table(TASKS);
    let transfer = others.table(TRANSFER);
    let state = places(&mut top, address, &mut out);
    let handlers = runtime::translate(runtime, &state, &mut out);
    let hosts = image::translate(images, transfer, &handlers, &mut out);
    server::translate(server, &mut out);
    tasks_service(tasks.unwrap_or_default(), &mut out);
    if !lives {
        let text = "the plugin is off, and nothing says how it would run pods: cridge's defaults count";
        out.items.push(Item::new("disabled_plugins", Outcome::Default, text));
    }
    let mut items = out.items;
    items.extend(passed_over);
    Translation { settings: out.settings, items, hosts, questions }
}

/// containerd's folders and its socket; its folder of volatile state.
fn places(top: &mut Tree, address: Option<Leaf>, out: &mut Output) -> PathBuf {
    let mut section = Section::of(take(top, &["root", "state"]), out);
    let mut state = PathBuf::from("/run/containerd");
    for key in ["root", "state"] {
        if let Some((folder, leaf)) = section.text(key) {
            let own = Path::new(&folder).join(FOLDER).display().to_string();
            section.out.carry(leaf, &[key], own);
            if key == "state" {
                state = folder.into();
            }
        }
    }
    if let Some(leaf) = address {
        let value = leaf.value.clone();
        if value.as_str() != Some("") {
            out.carry(leaf, &["containerd", "socket"], value);
        }
    }
    if let Some(Node::Table(timeouts)) = top.remove("timeouts") {
        let why = "what cridge undoes has deadlines of its own: pods notice nothing";
        Section::of(timeouts, out).expect("io.containerd.timeout.cri.defercleanup", "1m0s", why);
        // The others are containerd's own.
    }
    state
}

fn tasks_service(tree: Tree, out: &mut Output) {
    let mut section = Section::of(tree, out);
    section.same_if_set("blockio_config_file", &["runtime", "blockio_config_file"]);
    let why =
        "cridge makes no RDT classes: make them in /sys/fs/resctrl, or pods that ask for one are refused";
    section.expect("rdt_config_file", "", why);
    // The rest of that service is containerd's own.
}

/// Where the plugins are of which only the node can tell whether there are some.
fn questions(others: &mut Section<'_>, disabled: &BTreeSet<String>, release: Release) -> Questions {
    let text = |tree: &Tree, key: &str, usual: &str| match tree.get(key) {
        Some(Node::Leaf(Leaf { value: Value::String(text), .. })) if !text.is_empty() => PathBuf::from(text),
        _ => PathBuf::from(usual),
    };
    let nri = others.table(NRI).unwrap_or_default();
    // 1.x has it off until somebody switches it on.
    let is_off = match nri.get("disable") {
        Some(Node::Leaf(leaf)) => leaf.value.as_bool().unwrap_or(false),
        _ => !release.is_2(),
    };
    let places = NriPlaces {
        plugins: text(&nri, "plugin_path", check::NRI_PLUGINS),
        settings: text(&nri, "plugin_config_path", check::NRI_SETTINGS),
        socket: text(&nri, "socket_path", check::NRI_SOCKET),
    };
    let verifier = others.table(VERIFIER).unwrap_or_default();
    let verifiers = text(&verifier, "bin_dir", check::VERIFIERS);
    for leaf in leaves(nri).into_iter().chain(leaves(verifier)) {
        others.out.as_default(leaf, "where nothing of it is in use, as it must be");
    }
    Questions { nri: (!is_off && !disabled.contains(NRI)).then_some(places), verifiers }
}
