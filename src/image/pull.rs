//! The plan of a pull: resolve the name, find the manifest for this node, fetch and unpack layer by layer, and only
//! then give the image its names.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt as _};

use super::blob::{self, Role};
use super::error::{Flaw, ImageError};
use super::fetch::Access;
use super::lease::Share;
use super::manifest::MAX_DOCUMENT;
use super::progress::{LayerStage, Place};
use super::record::{Pin, record};
use super::resolve::{Resolved, Source, resolve};
use super::store::Inner;
use super::unpack::{self, Layer};
use super::{Image, Images};
use crate::containerd::{ContainerdError, Descriptor};
use crate::proto::cri;
use crate::registry::{Manifest, Reference};
use crate::work::{About, Operation, Unrecorded, step};

const PULL: Operation = Operation::PullImage;

/// A pull as the CRI asks for it.
#[derive(Clone, Debug)]
pub struct PullRequest<'a> {
    /// As the user wrote it.
    pub reference: &'a str,
    pub auth: Option<&'a cri::AuthConfig>,
    /// The handler's snapshotter; `None` for the default one.
    pub snapshotter: Option<&'a str>,
}

impl Images {
    /// Pulls and unpacks; equal pulls share their work blob by blob. Cancelled by dropping.
    ///
    /// A failed pull leaves nothing behind.
    pub async fn pull(&self, request: PullRequest<'_>) -> Result<Arc<Image>, ImageError> {
        let about = About { image: Some(request.reference.to_owned()), ..Default::default() };
        Unrecorded::begin(PULL, &about).run(self.pull_uncounted(request)).await
    }

    async fn pull_uncounted(&self, request: PullRequest<'_>) -> Result<Arc<Image>, ImageError> {
        let inner = &*self.0;
        let reference: Reference = request.reference.parse()?;
        let snapshotter = request.snapshotter.unwrap_or(&inner.config.snapshotter);
        let image = reference.to_string();
        if inner.pause.is_built_in(&image) {
            return self.built_in_pause(snapshotter).await;
        }
        inner.usage.watch(snapshotter);
        let access =
            Access::new(reference, request.auth).map_err(|error| ImageError::registry(&image, error))?;
        let place = inner.board.begin(&image);
        let lease = step(PULL, "take a lease", inner.leases.take(&inner.containerd, &image)).await?;
        let pull = Pull { inner, share: lease.share().clone(), access, image, snapshotter, place };
        let named = pull.run().await;
        let image = pull.image;
        drop(pull.share);
        match named {
            Ok(names) => {
                step(PULL, "end the lease", lease.keep()).await;
                for name in &names {
                    self.refresh(name).await?;
                }
                self.find(&image).ok_or(ImageError::Removed { image })
            }
            Err(error) => {
                lease.give_up().await;
                Err(error)
            }
        }
    }
}

/// One pull under way.
struct Pull<'a> {
    inner: &'a Inner,
    share: Arc<Share>,
    access: Access,
    /// The reference, normalised.
    image: String,
    snapshotter: &'a str,
    place: Place,
}

impl Pull<'_> {
    /// The names that the image has got.
    async fn run(&self) -> Result<Vec<String>, ImageError> {
        let target = self.step("get the manifest", self.manifest(self.access.reference())).await?;
        let remote = Remote { pull: self, target: &target };
        let descriptor = described(&target);
        let resolved = self.step("get the config", resolve(&remote, &self.image, descriptor)).await?;
        self.layers(&resolved).await?;
        self.step("keep the manifest", self.keep_documents(&resolved)).await?;
        self.name(&resolved).await
    }

    /// One that others do not go on beside: the pull is told to be at it.
    fn step<T>(&self, name: &'static str, work: impl Future<Output = T>) -> impl Future<Output = T> {
        self.place.at(name);
        step(PULL, name, work)
    }

    async fn manifest(&self, reference: &Reference) -> Result<Manifest, ImageError> {
        let manifest = self.inner.registry.manifest(reference, self.access.credentials()).await;
        manifest.map_err(|error| ImageError::registry(&self.image, error))
    }

    /// Downloads what is not unpacked yet, all at once, and unpacks it in order.
    async fn layers(&self, resolved: &Resolved) -> Result<(), ImageError> {
        let layers = unpack::layers(resolved);
        let there =
            unpack::claim(&self.share, self.snapshotter, &layers).await.map_err(self.failed("unpack"))?;
        self.place.layers(&layers, there);
        self.place.at("fetch and unpack layers");
        let mut arriving: FuturesOrdered<_> =
            layers[there..].iter().map(|layer| self.fetch_layer(layer)).collect();
        while let Some(layer) = arriving.next().await {
            step(PULL, "unpack a layer", self.unpack(layer?)).await?;
        }
        Ok(())
    }

    async fn fetch_layer<'l>(&self, layer: &'l Layer) -> Result<&'l Layer, ImageError> {
        let fetched =
            self.inner.fetcher.fetch(&self.share, &self.access, Role::Layer, &layer.blob.descriptor);
        step(PULL, "fetch a layer", fetched).await?;
        self.place.layer(&layer.blob.descriptor.digest, LayerStage::Fetched);
        Ok(layer)
    }

    async fn unpack(&self, layer: &Layer) -> Result<(), ImageError> {
        let digest = &layer.blob.descriptor.digest;
        self.place.layer(digest, LayerStage::Unpacking);
        self.inner.unpacker.unpack(&self.share, self.snapshotter, &self.image, layer).await?;
        self.place.layer(digest, LayerStage::Unpacked);
        Ok(())
    }

    /// Writes index and manifest, and has each keep what is below it.
    async fn keep_documents(&self, resolved: &Resolved) -> Result<(), ImageError> {
        let config = &resolved.manifest.config.digest;
        let chain_id = resolved.chain_id();
        if !chain_id.as_str().is_empty() {
            let labels = blob::refers_to_snapshot(self.snapshotter, &chain_id);
            blob::add_labels(&self.share, config, &labels).await.map_err(self.failed("label"))?;
        }
        let layers = resolved.manifest.layers.iter().map(|layer| &layer.descriptor.digest);
        // Layers that nothing refers to are collected.
        let kept = layers.filter(|_| !self.inner.config.discard_unpacked_layers);
        let parts = blob::refers_to_parts(config, kept);
        for (n, passed) in resolved.trail.iter().enumerate().rev() {
            let is_manifest = n + 1 == resolved.trail.len();
            let role = if is_manifest { Role::Manifest } else { Role::Index };
            let mut labels = blob::source(self.access.reference());
            labels.extend(if is_manifest {
                parts.clone()
            } else {
                blob::refers_to_manifests(&passed.children)
            });
            let put = blob::put(&self.share, role, &passed.descriptor, passed.bytes.clone(), &labels);
            put.await.map_err(self.failed("store"))?;
        }
        Ok(())
    }

    /// Gives the image the names that the CRI plugin gives it.
    async fn name(&self, resolved: &Resolved) -> Result<Vec<String>, ImageError> {
        let reference = self.access.reference();
        // The descriptor of the trail's top has the right media type.
        let target = &resolved.trail[0].descriptor;
        let mut names = vec![
            reference.with_digest(&target.digest).to_string(),
            resolved.manifest.config.digest.to_string(),
        ];
        if !names.contains(&self.image) {
            names.push(self.image.clone());
        }
        let pin = if self.image == self.inner.pause.name() { Pin::Pinned } else { Pin::Collectable };
        for name in &names {
            let record = record(name, target, pin);
            let put = self.step("name the image", self.inner.containerd.put_image(&record)).await;
            put.map_err(self.failed("name"))?;
        }
        Ok(names)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(ContainerdError) -> ImageError {
        ImageError::containerd(action, &self.image)
    }
}

/// What the registry has below the pull's target.
struct Remote<'a> {
    pull: &'a Pull<'a>,
    target: &'a Manifest,
}

impl Source for Remote<'_> {
    async fn document(&self, wanted: &Descriptor) -> Result<Bytes, ImageError> {
        if wanted.digest == self.target.digest {
            return Ok(self.target.bytes.clone());
        }
        let reference = self.pull.access.reference().with_digest(&wanted.digest);
        let manifest = self.pull.manifest(&reference).await?;
        let (digest, size, got) = (wanted.digest.clone(), wanted.size, manifest.bytes.len() as u64);
        match got.cmp(&size) {
            std::cmp::Ordering::Equal => Ok(manifest.bytes),
            std::cmp::Ordering::Less => Err(self.refused(Flaw::Truncated { digest, got, size })),
            std::cmp::Ordering::Greater => Err(self.refused(Flaw::Oversize { digest, size })),
        }
    }

    async fn config(&self, wanted: &Descriptor) -> Result<Bytes, ImageError> {
        let Pull { inner, share, access, .. } = self.pull;
        inner.fetcher.fetch(share, access, Role::Config, wanted).await?;
        let read = share.containerd().read_content(&wanted.digest, MAX_DOCUMENT as usize);
        read.await.map_err(self.pull.failed("read"))
    }
}

impl Remote<'_> {
    fn refused(&self, flaw: Flaw) -> ImageError {
        ImageError::refused(&self.pull.image, flaw)
    }
}

fn described(manifest: &Manifest) -> Descriptor {
    Descriptor {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest.clone(),
        size: manifest.bytes.len() as u64,
        annotations: Default::default(),
    }
}
