//! Layers into snapshots: each once, on top of the one below, as its chain ID (OCI image spec, "Layer ChainID").
//!
//! containerd unpacks; a layer becomes visible under its chain ID only after its diff id has proved right.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use rand::RngExt as _;

use super::blob::{self, Labels};
use super::error::{Flaw, ImageError};
use super::flight::Flights;
use super::lease::Share;
use super::manifest::{LayerBlob, chain_ids};
use super::resolve::{Resolved, Stored, resolve};
use super::{Image, Images};
use crate::containerd::{Containerd, ContainerdError, Descriptor, SnapshotMount};
use crate::error::{Kind, chain};
use crate::id::{Digest, SnapshotKey};
use crate::time::Timestamp;

/// What an active snapshot is to become: containerd answers "already exists" where that is there (snapshots.md).
const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// How often the growth of a layer that might exceed its bound is looked at.
const WATCH: Duration = Duration::from_secs(1);

/// A layer, and its place in the image.
#[derive(Clone, Debug)]
pub struct Layer {
    pub blob: LayerBlob,
    pub diff_id: Digest,
    pub chain_id: SnapshotKey,
    pub parent: Option<SnapshotKey>,
}

/// The layers of an image, from the bottom up.
pub fn layers(image: &Resolved) -> Vec<Layer> {
    let chain = chain_ids(&image.configuration.diff_ids);
    let blobs = image.manifest.layers.iter().zip(&image.configuration.diff_ids);
    let layer = |(n, (blob, diff_id)): (usize, (&LayerBlob, &Digest))| Layer {
        blob: blob.clone(),
        diff_id: diff_id.clone(),
        chain_id: chain[n].clone(),
        parent: n.checked_sub(1).map(|below| chain[below].clone()),
    };
    blobs.enumerate().map(layer).collect()
}

/// Whether a snapshot of that key is there.
async fn is_there(
    containerd: &Containerd,
    snapshotter: &str,
    key: &SnapshotKey,
) -> Result<bool, ContainerdError> {
    match containerd.snapshot(snapshotter, key).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many layers, from the bottom up, are unpacked already; the lease holds them from now on.
pub async fn claim(share: &Share, snapshotter: &str, layers: &[Layer]) -> Result<usize, ContainerdError> {
    for (n, layer) in layers.iter().enumerate().rev() {
        if is_there(share.containerd(), snapshotter, &layer.chain_id).await? {
            // A layer keeps those below it.
            let held = hold(share, snapshotter, layer).await?;
            return Ok(if held { n + 1 } else { 0 });
        }
    }
    Ok(0)
}

/// Takes a layer that is there under the lease: containerd does so when it is asked to make it once more. `false` when
/// it has just been collected.
async fn hold(share: &Share, snapshotter: &str, layer: &Layer) -> Result<bool, ContainerdError> {
    let (key, labels) = (fresh_key(layer), becomes(layer));
    match share.containerd().prepare_snapshot(snapshotter, &key, layer.parent.as_ref(), &labels).await {
        Err(error) if error.kind() == Kind::AlreadyExists => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
        Ok(_) => share.containerd().remove_snapshot(snapshotter, &key).await.map(|()| false),
    }
}

/// The label of a snapshot that is to become a layer.
fn becomes(layer: &Layer) -> Labels {
    Labels::from([(SNAPSHOT_REF.to_owned(), layer.chain_id.to_string())])
}

/// The key of a layer's snapshot while it is being filled, as containerd's clients name it.
fn fresh_key(layer: &Layer) -> SnapshotKey {
    let nonce = URL_SAFE.encode(rand::rng().random::<[u8; 3]>());
    let nanos = Timestamp::now().nanos() % 1_000_000_000;
    SnapshotKey::new(format!("extract-{nanos}-{nonce} {}", layer.chain_id))
}

impl Images {
    /// Makes sure that the image's layers are unpacked in the snapshotter (they may be missing: imported without
    /// unpacking, or pulled for another snapshotter). Idempotent, and quick when they are.
    pub async fn ensure_unpacked(&self, image: &Image, snapshotter: &str) -> Result<(), ImageError> {
        let inner = &*self.0;
        let name = image.repo_tags.first().map_or(image.id.as_str(), String::as_str);
        let failed = || ImageError::containerd("unpack", name);
        inner.usage.watch(snapshotter);
        if image.chain_id.as_str().is_empty()
            || is_there(&inner.containerd, snapshotter, &image.chain_id).await.map_err(failed())?
        {
            return Ok(());
        }
        let lease = inner.leases.take(&inner.containerd, name).await?;
        let unpacked = self.unpack_stored(lease.share(), image, name, snapshotter).await;
        match unpacked {
            Ok(()) => lease.keep().await,
            Err(_) => lease.give_up().await,
        }
        unpacked
    }

    /// Unpacks out of the content store.
    async fn unpack_stored(
        &self,
        share: &Arc<Share>,
        image: &Image,
        name: &str,
        snapshotter: &str,
    ) -> Result<(), ImageError> {
        let failed = || ImageError::containerd("unpack", name);
        let stored = Stored { containerd: share.containerd(), image: name };
        let resolved = resolve(&stored, name, image.target.clone()).await?;
        let layers = layers(&resolved);
        let there = claim(share, snapshotter, &layers).await.map_err(failed())?;
        for layer in &layers[there..] {
            let digest = &layer.blob.descriptor.digest;
            match share.containerd().content_info(digest).await {
                Err(error) if error.is_not_found() => {
                    return Err(ImageError::Incomplete { image: name.to_owned(), digest: digest.clone() });
                }
                found => drop(found.map_err(failed())?),
            }
            self.0.unpacker.unpack(share, snapshotter, name, layer).await?;
        }
        let labels = blob::refers_to_snapshot(snapshotter, &image.chain_id);
        blob::add_labels(share, &resolved.manifest.config.digest, &labels).await.map_err(failed())
    }
}

/// Unpacking for all pulls.
pub struct Unpacker {
    flights: Flights<(String, SnapshotKey), ()>,
    max_layer_bytes: u64,
}

impl Unpacker {
    pub fn new(max_layer_bytes: u64) -> Self {
        Self { flights: Flights::new(), max_layer_bytes }
    }

    /// Has the layer's snapshot in the snapshotter, held by the lease. Its blob and the layer below must be there.
    pub async fn unpack(
        &self,
        share: &Arc<Share>,
        snapshotter: &str,
        image: &str,
        layer: &Layer,
    ) -> Result<(), ImageError> {
        let start = || {
            let extraction = Extraction {
                share: share.clone(),
                snapshotter: snapshotter.to_owned(),
                image: image.to_owned(),
                layer: layer.clone(),
                limit: self.max_layer_bytes,
            };
            extraction.run()
        };
        self.flights.share(&(snapshotter.to_owned(), layer.chain_id.clone()), &(), start).await
    }
}

/// One layer being unpacked.
struct Extraction {
    share: Arc<Share>,
    snapshotter: String,
    image: String,
    layer: Layer,
    limit: u64,
}

impl Extraction {
    async fn run(self) -> Result<Arc<Share>, ImageError> {
        let (key, labels) = (fresh_key(&self.layer), becomes(&self.layer));
        let prepared = self
            .containerd()
            .prepare_snapshot(&self.snapshotter, &key, self.layer.parent.as_ref(), &labels)
            .await;
        let mounts = match prepared {
            Ok(mounts) => mounts,
            // The layer itself is there, and held by the lease from now on.
            Err(error) if error.kind() == Kind::AlreadyExists => {
                return match is_there(self.containerd(), &self.snapshotter, &self.layer.chain_id).await {
                    Ok(true) => Ok(self.share),
                    Ok(false) => Err(self.failed()(error)),
                    Err(error) => Err(self.failed()(error)),
                };
            }
            Err(error) => return Err(self.failed()(error)),
        };
        match self.fill(&key, &mounts, &labels).await {
            Ok(()) => Ok(self.share),
            Err(error) => {
                self.remove(&key).await;
                Err(error)
            }
        }
    }

    /// Unpacks into the prepared snapshot, checks it, and gives it its name.
    async fn fill(
        &self,
        key: &SnapshotKey,
        mounts: &[SnapshotMount],
        labels: &Labels,
    ) -> Result<(), ImageError> {
        let unpacked = self.apply(key, mounts).await?;
        let layer = &self.layer.blob.descriptor.digest;
        if unpacked.digest != self.layer.diff_id {
            let (found, expected) = (unpacked.digest, self.layer.diff_id.clone());
            return Err(self.refused(Flaw::DiffId { layer: layer.clone(), found, expected }));
        }
        if unpacked.size > self.limit {
            return Err(self.refused(Flaw::Expansion { layer: layer.clone(), limit: self.limit }));
        }
        let name = &self.layer.chain_id;
        match self.containerd().commit_snapshot(&self.snapshotter, name, key, labels).await {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if error.kind() == Kind::AlreadyExists => self.remove(key).await,
            Err(error) => return Err(self.failed()(error)),
        }
        let labels = blob::uncompressed(&self.layer.diff_id);
        blob::add_labels(&self.share, layer, &labels).await.map_err(self.failed())
    }

    /// Has containerd unpack the layer, and stops it where it grows beyond the limit.
    ///
    /// Most layers could not reach it even at their format's best ratio. The others are watched by what they take on
    /// disk, which costs less than to decompress them twice; what slips through in a moment is found by its exact size
    /// before it gets a name.
    async fn apply(&self, key: &SnapshotKey, mounts: &[SnapshotMount]) -> Result<Descriptor, ImageError> {
        let LayerBlob { descriptor, compression } = &self.layer.blob;
        let layer = Descriptor { media_type: compression.media_type(), ..descriptor.clone() };
        let applied = self.containerd().apply_layer(&layer, mounts);
        let outgrown = || self.refused(Flaw::Expansion { layer: layer.digest.clone(), limit: self.limit });
        let applied = if compression.at_most(layer.size) <= self.limit {
            applied.await
        } else {
            tokio::select! {
                applied = applied => applied,
                () = self.outgrown(key) => return Err(outgrown()),
            }
        };
        applied.map_err(self.failed())
    }

    /// Returns when the snapshot takes more than the limit.
    async fn outgrown(&self, key: &SnapshotKey) {
        loop {
            tokio::time::sleep(WATCH).await;
            match self.containerd().snapshot_usage(&self.snapshotter, key).await {
                Ok(usage) if usage.bytes > self.limit => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%key, error = chain(&error), "a layer's growth was not measured")
                }
            }
        }
    }

    /// Removes the unfinished snapshot. One that stays goes with the lease.
    async fn remove(&self, key: &SnapshotKey) {
        if let Err(error) = self.containerd().remove_snapshot(&self.snapshotter, key).await
            && !error.is_not_found()
        {
            tracing::debug!(%key, error = chain(&error), "a snapshot was left to garbage collection");
        }
    }

    fn containerd(&self) -> &Containerd {
        self.share.containerd()
    }

    fn refused(&self, flaw: Flaw) -> ImageError {
        ImageError::refused(&self.image, flaw)
    }

    fn failed(&self) -> impl FnOnce(ContainerdError) -> ImageError {
        ImageError::containerd("unpack", &self.image)
    }
}
