//! The images that are there.

use std::sync::Arc;

use oci_spec::image::Config;

use super::ImageError;
use crate::config::ImageConfig;
use crate::containerd::{Containerd, Descriptor};
use crate::id::{ImageId, SnapshotKey};
use crate::proto::cri;
use crate::registry::Registry;
use crate::time::Timestamp;

/// An image for this node's platform.
#[derive(Clone, Debug)]
pub struct Image {
    pub id: ImageId,
    /// `registry/repository:tag` names, sorted.
    pub repo_tags: Vec<String>,
    /// `registry/repository@digest` names, sorted.
    pub repo_digests: Vec<String>,
    /// Index or manifest that the names point at.
    pub target: Descriptor,
    /// Chain ID of its layers: the parent of a container's snapshot.
    pub chain_id: SnapshotKey,
    /// Compressed bytes of the platform's manifest, config and layers.
    pub size: u64,
    /// Process defaults: entry point, env, user, volumes, labels.
    pub config: Config,
    pub pinned: bool,
}

/// The index of images and the way to more of them. Cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<()>);

/// A pull as the CRI asks for it.
#[derive(Clone, Debug)]
pub struct PullRequest<'a> {
    /// As the user wrote it.
    pub reference: &'a str,
    pub auth: Option<&'a cri::AuthConfig>,
    /// The handler's snapshotter; `None` for the default one.
    pub snapshotter: Option<&'a str>,
}

/// What the images' snapshots take of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemUsage {
    pub mountpoint: String,
    pub bytes: u64,
    pub inodes: u64,
    pub at: Timestamp,
}

impl Images {
    /// An empty index; `reload` fills it.
    pub fn new(config: ImageConfig, containerd: Containerd, registry: Registry) -> Self {
        let _ = (config, containerd, registry);
        unimplemented!()
    }

    /// Reads all of containerd's image records anew: at start, and after each reconnection. Foreign images are adopted
    /// (indexed; labelled as the CRI plugin does); a broken one is logged and left out.
    pub async fn reload(&self) -> Result<(), ImageError> {
        unimplemented!()
    }

    /// Reads one record anew, after an event on it.
    pub async fn refresh(&self, name: &str) -> Result<(), ImageError> {
        unimplemented!("{name}")
    }

    /// By id, unique id prefix, or any reference, normalised as docker does.
    pub fn find(&self, text: &str) -> Option<Arc<Image>> {
        unimplemented!("{text}")
    }

    pub fn all(&self) -> Vec<Arc<Image>> {
        unimplemented!()
    }

    /// Pulls and unpacks; equal pulls share their work blob by blob. Cancelled by dropping.
    pub async fn pull(&self, request: PullRequest<'_>) -> Result<Arc<Image>, ImageError> {
        unimplemented!("{request:?}")
    }

    /// Makes sure that the image's layers are unpacked in the snapshotter (they may be missing: imported without
    /// unpacking, or collected). Idempotent, and quick when they are.
    pub async fn ensure_unpacked(&self, image: &Image, snapshotter: &str) -> Result<(), ImageError> {
        unimplemented!("{image:?} {snapshotter}")
    }

    /// The image of pause containers: built in, or the configured one (pulled when missing); unpacked.
    pub async fn pause(&self, snapshotter: &str) -> Result<Arc<Image>, ImageError> {
        unimplemented!("{snapshotter}")
    }

    /// The pause image's name: `Status`' sandboxImage.
    pub fn pause_name(&self) -> &str {
        unimplemented!()
    }

    /// Removes every name of the image; one that is not there is fine. The pause image is refused.
    pub async fn remove(&self, text: &str) -> Result<(), ImageError> {
        unimplemented!("{text}")
    }

    /// What snapshots take, the default snapshotter first. Measured in the background, not per call.
    pub async fn filesystem_usage(&self) -> Result<Vec<FilesystemUsage>, ImageError> {
        unimplemented!()
    }
}
