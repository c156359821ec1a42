//! What the files say together: merged as the containerd that reads them merges them, and with the CRI plugin's keys in
//! the three parts that its newest releases have.
//!
//! 1.x takes each plugin's section whole from the last file that has it, and understands all files in one version. 2.x
//! brings each file to the newest version by itself, and then merges the sections key by key.

use std::collections::BTreeSet;

use toml::Value;

use super::files::File;
use super::release::Release;
use super::report::Item;
use super::tree::{Leaf, Node, Over, Tree, lay, leaves, planted, take, take_table};

/// The plugin's name, and that of the one part that still has it.
pub(super) const CRI: &str = "io.containerd.grpc.v1.cri";
pub(super) const RUNTIME: &str = "io.containerd.cri.v1.runtime";
pub(super) const IMAGES: &str = "io.containerd.cri.v1.images";

/// The server's own section, since version 4.
const GRPC_SERVER: &str = "io.containerd.server.v1.grpc";

/// Why containerd 1.x makes nothing of a key.
const UNREAD_FULL: &str = "containerd 1.x reads full names only from files with version = 2: nothing changes";
const UNREAD_SHORT: &str = "containerd reads short names only from files of version 1: nothing changes";
const NOT_YET: &str = "containerd 1.x has no such section: nothing changes";
const REPLACED: &str = "containerd 1.x takes a section whole from the last file that has it: nothing changes";

/// Why 2.x does not.
const LOST: &str =
    "containerd 2 loses it in a file of version 1 or 2 that names no runtimes: nothing changes";
const OVERRULED: &str = "another file or section says otherwise, and counts: nothing changes";

/// What pods depend on, by parts of the plugins' names.
const OF_PODS: [&str; 4] = ["cri", "nri", "image-verifier", "tasks-service"];

/// Keys of the whole plugin that its image part has today.
const OF_IMAGES: [&str; 6] = [
    "registry",
    "image_decryption",
    "max_concurrent_downloads",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "stats_collect_period",
];
/// Keys of its table `containerd` that the image part has today.
const OF_SNAPSHOTS: [&str; 3] = ["snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"];
/// Keys that are the server's.
const OF_SERVER: [&str; 6] = [
    "disable_tcp_service",
    "stream_server_address",
    "stream_server_port",
    "stream_idle_timeout",
    "enable_tls_streaming",
    "x509_key_pair_streaming",
];

/// What the files say together.
#[derive(Default)]
pub(super) struct Sections {
    /// All that belongs to no plugin.
    pub top: Tree,
    pub runtime: Tree,
    pub images: Tree,
    pub server: Tree,
    /// The other plugins, by their full names.
    pub others: Tree,
    /// Plugins that are off, by their full names.
    pub disabled: BTreeSet<String>,
    /// What this containerd passes over as a whole.
    pub passed_over: Vec<Item>,
}

impl Sections {
    /// The files must be in the order in which they are read.
    pub fn of(files: Vec<File>, release: Release) -> Self {
        let mut sections = Self::default();
        // 1.x takes the version of the last file that has one for that of all.
        let last = files.iter().rev().find(|file| file.table.contains_key("version"));
        let version = last.map_or(1, |file| file.version);
        for (place, file) in files.into_iter().enumerate() {
            let origin = if place == 0 { String::new() } else { format!(" ({})", file.path.display()) };
            let mut tree = planted(file.table, "", &origin);
            let plugins = take_table(&mut tree, "plugins").unwrap_or_default();
            sections.disable(&tree, release);
            drop(lay(tree, Over::WhatIsSet, &mut sections.top));
            if release.is_2() {
                sections.take_2(plugins, file.version, release);
            } else {
                sections.take_1(plugins, version);
            }
        }
        if !release.is_2() {
            let whole = take_table(&mut sections.others, CRI).unwrap_or_default();
            let Parts { runtime, images, server } = Parts::of(whole);
            (sections.runtime, sections.images, sections.server) = (runtime, images, server);
            let parts = take(&mut sections.others, &[RUNTIME, IMAGES]);
            sections.pass_over(leaves(parts), NOT_YET);
        }
        sections
    }

    /// Whether the CRI plugin runs.
    pub fn is_on(&self) -> bool {
        !self.disabled.contains(CRI)
    }

    /// containerd's socket, where the files name one.
    pub fn address(&self) -> Option<Leaf> {
        let table = |tree: &Tree, name: &str| match tree.get(name) {
            Some(Node::Table(table)) => table.get("address").cloned(),
            _ => None,
        };
        match table(&self.others, GRPC_SERVER).or_else(|| table(&self.top, "grpc")) {
            Some(Node::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }

    fn disable(&mut self, tree: &Tree, release: Release) {
        if let Some(Node::Leaf(Leaf { value: Value::Array(list), .. })) = tree.get("disabled_plugins") {
            let names = list.iter().filter_map(Value::as_str);
            self.disabled.extend(names.map(|name| full_name(name, release)));
        }
    }

    fn take_1(&mut self, plugins: Tree, version: u32) {
        for (name, section) in plugins {
            // A file of version 1 has short names, one of version 2 full ones, and neither has the other's.
            let is_read = name.contains('.') == (version > 1);
            match section {
                Node::Table(section) if !is_read => {
                    let why = if version > 1 { UNREAD_SHORT } else { UNREAD_FULL };
                    self.pass_over(leaves(section), why);
                }
                section => {
                    let earlier = self.others.insert(full_name(&name, Release(1, 0)), section);
                    if let Some(Node::Table(earlier)) = earlier {
                        self.pass_over(leaves(earlier), REPLACED);
                    }
                }
            }
        }
    }

    fn pass_over(&mut self, leaves: Vec<Leaf>, why: &str) {
        self.passed_over.extend(leaves.into_iter().map(|leaf| Item::left(leaf.from, why)));
    }

    fn take_2(&mut self, plugins: Tree, version: u32, release: Release) {
        let (mut named, mut overruled) = (Tree::new(), Vec::new());
        for (name, section) in plugins {
            match section {
                Node::Table(section) if version > 1 && !name.contains('.') => {
                    self.pass_over(leaves(section), UNREAD_SHORT);
                }
                section => {
                    let one = Tree::from([(full_name(&name, release), section)]);
                    overruled.extend(lay(one, Over::Everything, &mut named));
                }
            }
        }
        // The parts came with version 3; later releases look for them in files of version 3 as well.
        if (version < 3 || release >= Release(2, 3) && version == 3)
            && let Some(whole) = take_table(&mut named, CRI)
        {
            let mut parts = Parts::of(whole);
            self.pass_over(parts.lose_snapshots(), LOST);
            overruled.extend(parts.put_into_file(&mut named));
        }
        for (name, into) in
            [(RUNTIME, &mut self.runtime), (IMAGES, &mut self.images), (CRI, &mut self.server)]
        {
            overruled.extend(lay(take_table(&mut named, name).unwrap_or_default(), Over::Everything, into));
        }
        overruled.extend(lay(named, Over::Everything, &mut self.others));
        overruled.retain(|leaf| OF_PODS.iter().any(|plugin| leaf.from.contains(plugin)));
        self.pass_over(overruled, OVERRULED);
    }
}

/// The plugin's full name for a short one of version 1.
fn full_name(name: &str, release: Release) -> String {
    match name {
        "cri" => CRI.into(),
        "nri" if !release.is_2() => "io.containerd.nri.v1.nri".into(),
        name if !name.contains('.') && name.ends_with("-service") => {
            format!("io.containerd.service.v1.{name}")
        }
        name => name.into(),
    }
}

/// The whole plugin's section, taken apart.
struct Parts {
    runtime: Tree,
    images: Tree,
    server: Tree,
}

impl Parts {
    fn of(mut whole: Tree) -> Self {
        let (mut images, server) = (take(&mut whole, &OF_IMAGES), take(&mut whole, &OF_SERVER));
        if let Some(Node::Table(containerd)) = whole.get_mut("containerd") {
            images.append(&mut take(containerd, &OF_SNAPSHOTS));
        }
        if let Some(image) = whole.remove("sandbox_image") {
            images.insert("pinned_images".into(), Node::Table(Tree::from([("sandbox".into(), image)])));
        }
        Self { runtime: whole, images, server }
    }

    /// 2.x forgets what an older file says of snapshots where it says nothing of runtimes (plugins/cri/images,
    /// migrateConfig).
    fn lose_snapshots(&mut self) -> Vec<Leaf> {
        let has_runtimes = match self.runtime.get("containerd") {
            Some(Node::Table(containerd)) => containerd.contains_key("runtimes"),
            _ => false,
        };
        if has_runtimes { Vec::new() } else { leaves(take(&mut self.images, &OF_SNAPSHOTS)) }
    }

    /// Beside what the same file has in the parts already: of the image part the older section's keys count, of the
    /// runtime part the newer's. Returns what does not count.
    fn put_into_file(self, plugins: &mut Tree) -> Vec<Leaf> {
        let (mut runtime, mut images) = (self.runtime, take_table(plugins, IMAGES).unwrap_or_default());
        let newer = take_table(plugins, RUNTIME).unwrap_or_default();
        let mut overruled = lay(newer, Over::Everything, &mut runtime);
        overruled.extend(lay(self.images, Over::Everything, &mut images));
        for (name, part) in [(RUNTIME, runtime), (IMAGES, images), (CRI, self.server)] {
            plugins.insert(name.into(), Node::Table(part));
        }
        overruled
    }
}
