//! Images on real containerds, the oldest release and the newest (tests/support/releases.rs), from a registry of our own.

mod broken;
mod fixture;
mod good;
#[path = "../support/node.rs"]
mod node;
mod registry;
#[path = "../support/releases.rs"]
mod releases;
mod shared;

use std::process::ExitCode;
use std::sync::Arc;

use cridge::config::ImageConfig;
use cridge::containerd::Containerd;
use cridge::error::chain;
use cridge::id::{Digest, LeaseId, SnapshotKey};
use cridge::image::{Image, ImageError, Images, PullRequest};

use node::Node;
use registry::Server;
use releases::Corner;

fn main() -> ExitCode {
    releases::run(releases::trials! {
        good::every_kind_of_manifest_and_layer_is_pulled,
        good::names_and_labels_are_the_plugins_own,
        good::what_is_there_is_not_fetched_again,
        good::a_removed_image_is_gone_altogether,
        good::foreign_images_are_adopted_and_unpacked,
        good::the_pause_image_needs_no_registry,
        good::snapshots_are_measured,
        broken::a_broken_image_is_refused_and_leaves_nothing,
        broken::an_image_of_another_platform_says_which,
        broken::a_layer_reaches_nothing_outside,
        broken::a_silent_registry_is_given_up,
        shared::pulls_at_once_download_once,
        shared::a_stream_that_breaks_is_resumed,
        shared::another_pulls_credentials_are_not_ours,
        shared::a_cancelled_pull_stops_only_what_nobody_waits_for,
    })
}

/// A test's own namespace on a node, and its own registry.
pub struct Place {
    pub node: Arc<Node>,
    pub containerd: Containerd,
    pub server: Server,
    /// Makes this test's images unlike any other's.
    pub salt: String,
}

impl Corner for Place {
    async fn new(node: Arc<Node>, name: &str) -> Self {
        let containerd = Containerd::new(&node.socket(), &name.replace('_', "-"));
        containerd.ensure_namespace().await.expect("a namespace");
        let salt = format!("{name} {}", node.release);
        Self { node, containerd, server: Server::start().await, salt }
    }
}

impl Place {
    pub fn images(&self) -> Images {
        self.images_with(ImageConfig::default())
    }

    pub fn images_with(&self, config: ImageConfig) -> Images {
        Images::new(config, self.containerd.clone(), self.server.client())
    }

    /// containerd, with what is written kept until [`Place::end_lease`].
    pub async fn leased(&self) -> Containerd {
        let lease = LeaseId::new("test");
        self.containerd.create_lease(&lease, None).await.expect("a lease");
        self.containerd.leased(&lease)
    }

    pub async fn end_lease(&self) {
        self.containerd.delete_lease(&LeaseId::new("test")).await.expect("deleted");
    }

    /// Has containerd collect what nothing refers to.
    pub async fn collect(&self) {
        let lease = LeaseId::new("collect");
        self.containerd.create_lease(&lease, None).await.expect("a lease");
        self.containerd.delete_lease_and_collect(&lease).await.expect("deleted");
    }

    /// Whether this namespace is as empty as it was, all these blobs included.
    pub async fn assert_nothing_is_left(&self, blobs: &[Digest], of: &str) {
        let names: Vec<_> =
            self.containerd.images(&[]).await.expect("a list").into_iter().map(|i| i.name).collect();
        assert!(names.is_empty(), "{of}: {names:?}");
        let ingests = self.containerd.ingests(&[]).await.expect("a list");
        assert!(ingests.is_empty(), "{of}: {ingests:?}");
        let snapshots = self.containerd.snapshots("overlayfs").await.expect("a list");
        assert!(snapshots.is_empty(), "{of}: {snapshots:?}");
        let leases = self.containerd.leases().await.expect("a list");
        assert!(leases.is_empty(), "{of}: {leases:?}");
        for digest in blobs {
            let info = self.containerd.content_info(digest).await;
            assert!(info.as_ref().is_err_and(|error| error.is_not_found()), "{of}: {info:?}");
        }
    }

    /// A file of an unpacked image, looked up in its layers from the top.
    pub async fn file(&self, image: &Image, path: &str) -> Option<String> {
        let (key, leased) = (SnapshotKey::new("look"), self.leased().await);
        let mounts = leased.view_snapshot("overlayfs", &key, Some(&image.chain_id)).await.expect("a view");
        leased.remove_snapshot("overlayfs", &key).await.expect("removed");
        self.end_lease().await;
        let lower = mounts[0].options.iter().find_map(|option| option.strip_prefix("lowerdir="));
        let folders = lower.unwrap_or(&mounts[0].source);
        folders.split(':').find_map(|folder| std::fs::read_to_string(format!("{folder}/{path}")).ok())
    }
}

pub async fn pull(images: &Images, reference: &str) -> Result<Arc<Image>, ImageError> {
    images.pull(PullRequest { reference, auth: None, snapshotter: None }).await
}

pub async fn pulled(images: &Images, reference: &str) -> Arc<Image> {
    pull(images, reference).await.unwrap_or_else(|error| panic!("{reference}: {}", chain(&error)))
}
