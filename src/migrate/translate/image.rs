//! Images and registries: `plugins."io.containerd.cri.v1.images"`, and the service that pulls in newer releases.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::migrate::duration::{never_if_zero, within};
use crate::migrate::hosts::{self, HostsFile};
use crate::migrate::release::Release;
use crate::migrate::tree::Tree;
use crate::migrate::walk::{Output, Section};

/// How long a pull may be without a byte.
const PROGRESS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 3600)];
/// Blobs at once.
const DOWNLOADS: [i64; 2] = [1, 64];
/// containerd's own pause images, by all names that they have had.
const PAUSES: [&str; 3] = ["registry.k8s.io/pause:", "k8s.gcr.io/pause:", "gcr.io/google_containers/pause:"];

pub(super) fn translate(
    tree: Tree,
    transfer: Option<Tree>,
    handlers: &BTreeSet<String>,
    out: &mut Output,
) -> Vec<HostsFile> {
    let mut section = Section::of(tree, out);
    let is_local = section.is_true("use_local_image_pull");
    let by_transfer = section.out.release >= Release(2, 1) && is_local.is_none();
    if let Some(leaf) = is_local {
        section.out.as_default(leaf, "cridge pulls by itself");
    }
    section.same_if_set("snapshotter", &["image", "snapshotter"]);
    section.same("discard_unpacked_layers", &["image", "discard_unpacked_layers"]);
    section.expect(
        "disable_snapshot_annotations",
        true,
        "snapshotters are not told of images: one that fetches layers when they are read gets them whole",
    );
    downloads(&mut section);
    pinned(&mut section);
    platforms(&mut section, handlers);
    section.expect("image_pull_with_sync_fs", false, "layers are unpacked by containerd as it sees fit");
    section.expect("stats_collect_period", 10, "cridge measures when somebody asks: pods notice nothing");
    section.expect(
        "concurrent_layer_fetch_buffer",
        0,
        "cridge fetches a layer in one piece: pulls may take longer",
    );
    if let Some(decryption) = section.table("image_decryption") {
        section.out.all_left(decryption, "cridge decrypts no images: one that is encrypted is refused");
    }
    let registry = section.table("registry").unwrap_or_default();
    let files = hosts::translate(registry, section.out);
    section.finish();
    if let Some(transfer) = transfer {
        pulls_of_its_own(transfer, by_transfer, out);
    }
    files
}

fn downloads(section: &mut Section<'_>) {
    if let Some((count, leaf)) = section.number("max_concurrent_downloads") {
        let carried = if count <= 0 { DOWNLOADS[1] } else { count.min(DOWNLOADS[1]) };
        let remark = if carried == count { "" } else { " (the most that cridge takes)" };
        section.out.carry_with(leaf, &["image", "max_concurrent_downloads"], carried, remark);
    }
    if let Some((duration, leaf)) = section.duration("image_pull_progress_timeout") {
        let (text, remark) = within(never_if_zero(duration), PROGRESS[0], PROGRESS[1]);
        section.out.carry_with(leaf, &["image", "pull_progress_timeout"], text, remark);
    }
}

fn pinned(section: &mut Section<'_>) {
    let Some(pinned) = section.table("pinned_images") else { return };
    let mut pinned = Section::of(pinned, section.out);
    if let Some((image, leaf)) = pinned.text("sandbox") {
        if PAUSES.iter().any(|pause| image.starts_with(pause)) {
            pinned.out.as_default(leaf, "cridge has its own built in, which needs no registry");
        } else {
            pinned.out.carry(leaf, &["image", "pause_image"], image);
        }
    }
    pinned.give_up("once it is pulled anew it is not pinned: the kubelet may remove it while unused");
}

/// Snapshotters by handler, as older releases have them; the handler's own counts.
fn platforms(section: &mut Section<'_>, handlers: &BTreeSet<String>) {
    let Some(platforms) = section.table("runtime_platforms") else { return };
    let mut platforms = Section::of(platforms, section.out);
    for (name, tree) in platforms.tables() {
        let mut platform = Section::of(tree, platforms.out);
        if let Some((snapshotter, leaf)) = platform.text("snapshotter") {
            if handlers.contains(&name) {
                platform.out.carry(leaf, &["runtime", "handlers", &name, "snapshotter"], snapshotter);
            } else {
                platform.out.left(leaf, "there is no such handler");
            }
        }
        if let Some((_, leaf)) = platform.text("platform") {
            platform.out.left(leaf, "cridge pulls for the platform of this node");
        }
        platform.finish();
    }
    platforms.finish();
}

/// Since 2.1 it pulls for the CRI, unless the plugin is told to.
fn pulls_of_its_own(tree: Tree, counts: bool, out: &mut Output) {
    const DOWNLOADS: [&str; 2] = ["image", "max_concurrent_downloads"];
    let mut section = Section::of(tree, out);
    if counts && !section.out.has(&DOWNLOADS) {
        section.same_if_set("max_concurrent_downloads", &DOWNLOADS);
    }
    // The rest is for clients of containerd's own.
}
