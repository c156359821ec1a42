//! The images that are there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use oci_spec::image::Config;

use super::fetch::Fetcher;
use super::index::{Entry, Index};
use super::lease::Leases;
use super::pause::Pause;
use super::progress::Board;
use super::record::Pin;
use super::unpack::Unpacker;
use super::usage::Usage;
use super::{FilesystemUsage, ImageError, record};
use crate::config::ImageConfig;
use crate::containerd::{Containerd, Descriptor, ImageRecord};
use crate::error::chain;
use crate::id::{ImageId, SnapshotKey};
use crate::registry::Registry;

/// Records read at once when all of them are.
const READERS: usize = 8;

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
    /// Whether it was made of a checkpoint: its files are an archive's, not a container's root.
    pub checkpoint: bool,
}

impl Image {
    /// What a snapshot on this image builds on; an image without layers is nothing to build on.
    pub fn parent(&self) -> Option<&SnapshotKey> {
        Some(&self.chain_id).filter(|chain_id| !chain_id.as_str().is_empty())
    }
}

/// The index of images and the way to more of them. Cheap to clone.
#[derive(Clone)]
pub struct Images(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub config: ImageConfig,
    pub containerd: Containerd,
    pub registry: Registry,
    pub board: Board,
    pub fetcher: Fetcher,
    pub unpacker: Unpacker,
    pub leases: Leases,
    pub pause: Pause,
    pub usage: Usage,
    index: Mutex<Index>,
    /// Held while a record is read and entered, so that no older reading overwrites a newer one.
    reading: tokio::sync::Mutex<()>,
}

impl Images {
    /// An empty index; `reload` fills it.
    pub fn new(config: ImageConfig, containerd: Containerd, registry: Registry) -> Self {
        let board = Board::default();
        let (at_once, patience) = (config.max_concurrent_downloads, config.pull_progress_timeout);
        let fetcher = Fetcher::new(registry.clone(), board.clone(), at_once, patience);
        Self(Arc::new(Inner {
            board,
            fetcher,
            unpacker: Unpacker::new(config.max_layer_bytes),
            leases: Leases::default(),
            pause: Pause::new(config.pause_image.as_deref()),
            usage: Usage::new(containerd.clone(), &config.snapshotter),
            index: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            config,
            containerd,
            registry,
        }))
    }

    /// Reads all of containerd's image records anew: at start, and after each reconnection. Foreign images are adopted
    /// (indexed; labelled as the CRI plugin does); a broken one is logged and left out. Leases that an earlier process
    /// left behind are ended.
    pub async fn reload(&self) -> Result<(), ImageError> {
        let inner = &self.0;
        let failed = || ImageError::containerd("list", "records");
        inner.leases.end_stale(&inner.containerd).await.map_err(failed())?;
        inner.pause.forget();
        let _reading = inner.reading.lock().await;
        let records = inner.containerd.images(&[]).await.map_err(failed())?;
        let gone: Vec<String> = {
            let index = inner.index();
            let there = |name: &str| records.iter().any(|record| record.name == name);
            index.names().filter(|name| !there(name)).map(str::to_owned).collect()
        };
        for name in &gone {
            inner.index().remove(name);
        }
        futures::stream::iter(&records).for_each_concurrent(READERS, |record| inner.enter(record)).await;
        Ok(())
    }

    /// Reads one record anew, after an event on it or a change by us.
    pub async fn refresh(&self, name: &str) -> Result<(), ImageError> {
        let inner = &self.0;
        let _reading = inner.reading.lock().await;
        match inner.containerd.image(name).await {
            Ok(record) => inner.enter(&record).await,
            Err(error) if error.is_not_found() => inner.leave(name),
            Err(error) => return Err(ImageError::containerd("look at", name)(error)),
        }
        Ok(())
    }

    /// By id, unique id prefix, or any reference, normalised as docker does.
    pub fn find(&self, text: &str) -> Option<Arc<Image>> {
        self.0.index().find(text)
    }

    /// All images, by id.
    pub fn all(&self) -> Vec<Arc<Image>> {
        self.0.index().all()
    }

    /// How far the pulls under way are.
    pub fn pulls(&self) -> &Board {
        &self.0.board
    }

    /// What snapshots take, the default snapshotter first. Measured in the background, not per call; the first
    /// measurement is waited for.
    pub async fn filesystem_usage(&self) -> Result<Vec<FilesystemUsage>, ImageError> {
        self.0.usage.latest().await
    }

    /// What a container's writable layer takes, as last measured in the background; `None` before the first time.
    pub fn writable_layer(&self, snapshotter: &str, key: &SnapshotKey) -> Option<FilesystemUsage> {
        self.0.usage.of_active(snapshotter, key)
    }
}

impl Inner {
    pub fn index(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is one call that either happened or did not.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the index in line with a record. A broken image is as good as none.
    async fn enter(&self, record: &ImageRecord) {
        let known = self.index().by_target(&record.target.digest);
        let image = match known {
            Some(image) => image,
            None => match record::load(&self.containerd, &record.name, &record.target).await {
                Ok(image) => image,
                Err(error) => {
                    tracing::warn!(
                        image = record.name,
                        error = chain(&error),
                        "an image cannot be used; left out"
                    );
                    return self.leave(&record.name);
                }
            },
        };
        let id = image.id.clone();
        let pin = if record.name == self.pause.name() { Pin::Pinned } else { record::pin(record) };
        self.index().put(&record.name, Entry { image, pin });
        // Whether we may label it changes nothing about its use.
        if let Err(error) = record::adopt(&self.containerd, record, &id).await {
            tracing::warn!(
                image = record.name,
                error = chain(&error),
                "a foreign image could not be labelled"
            );
        }
    }

    fn leave(&self, name: &str) {
        if self.index().remove(name) && name == self.pause.name() {
            self.pause.forget();
        }
    }
}
