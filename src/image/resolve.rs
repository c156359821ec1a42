//! From what a name points at to the one manifest for this node, through however many indexes.
//!
//! The same walk goes over a registry (a pull) and over containerd's content (what is here already).

use std::sync::Arc;

use bytes::Bytes;

use super::error::{Flaw, ImageError};
use super::manifest::{Document, ImageConfiguration, MAX_DOCUMENT, Manifest, chain_ids};
use super::platform::Platforms;
use crate::containerd::{Containerd, Descriptor};
use crate::error::Kind;
use crate::id::{Digest, SnapshotKey};

/// Indexes within indexes. Builders write one level; registries' tools write two.
const MAX_DEPTH: usize = 4;
/// Documents read for one image: bounds what an index without platforms can make us fetch.
const MAX_MANIFESTS: usize = 32;

/// Where documents come from. What is returned has the descriptor's size; who serves it checks the digest.
pub trait Source: Sync {
    /// A manifest or index.
    fn document(&self, wanted: &Descriptor) -> impl Future<Output = Result<Bytes, ImageError>> + Send;
    /// An image's config.
    fn config(&self, wanted: &Descriptor) -> impl Future<Output = Result<Bytes, ImageError>> + Send;
}

/// A manifest or index that led to the image.
#[derive(Debug)]
pub struct Passed {
    pub descriptor: Descriptor,
    pub bytes: Bytes,
    /// The manifests that an index lists; empty for a manifest.
    pub children: Vec<Digest>,
}

/// An image for this node.
#[derive(Debug)]
pub struct Resolved {
    /// From the target down to the manifest.
    pub trail: Vec<Arc<Passed>>,
    pub manifest: Manifest,
    pub configuration: ImageConfiguration,
}

impl Resolved {
    /// Compressed bytes of manifest, config and layers.
    pub fn size(&self) -> u64 {
        let manifest = self.trail.last().map_or(0, |passed| passed.descriptor.size);
        let layers = self.manifest.layers.iter().map(|layer| layer.descriptor.size);
        layers.fold(manifest.saturating_add(self.manifest.config.size), u64::saturating_add)
    }

    /// The key of the topmost layer; empty, which stands for "no parent", where there is none.
    pub fn chain_id(&self) -> SnapshotKey {
        chain_ids(&self.configuration.diff_ids).pop().unwrap_or_else(|| SnapshotKey::new(""))
    }
}

/// A document that is still to be looked at.
struct Pending {
    descriptor: Descriptor,
    /// The indexes above it.
    trail: Vec<Arc<Passed>>,
    /// Whether the config must tell if it is for this node.
    unplaced: bool,
}

/// Finds this node's image below `target`. `image` is its name in errors.
pub async fn resolve<S: Source>(source: &S, image: &str, target: Descriptor) -> Result<Resolved, ImageError> {
    let refuse = |flaw| ImageError::refused(image, flaw);
    let platforms = Platforms::host();
    let mut offered = Vec::new();
    let mut missing = None;
    // A name that points at a manifest directly means that one, whatever it is for.
    let mut pending = vec![Pending { descriptor: target, trail: Vec::new(), unplaced: false }];
    let mut looked_at = 0;
    while let Some(Pending { mut descriptor, mut trail, unplaced }) = pending.pop() {
        looked_at += 1;
        if looked_at > MAX_MANIFESTS {
            return Err(refuse(Flaw::TooManyManifests { limit: MAX_MANIFESTS }));
        }
        bounded("a manifest", &descriptor).map_err(refuse)?;
        let bytes = match source.document(&descriptor).await {
            Ok(bytes) => bytes,
            // Another platform's manifest may be all that is here of an index.
            Err(error @ ImageError::Incomplete { .. }) => {
                missing.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let document = Document::parse(&descriptor.media_type, &bytes).map_err(refuse)?;
        descriptor.media_type = document.media_type().to_owned();
        match document {
            Document::Index(index) => {
                if trail.len() == MAX_DEPTH {
                    return Err(refuse(Flaw::TooDeep { limit: MAX_DEPTH }));
                }
                offered.extend(
                    index.manifests.iter().filter_map(|child| Some(child.platform.as_ref()?.to_string())),
                );
                let children = index.manifests.iter().map(|child| child.descriptor.digest.clone()).collect();
                trail.push(Arc::new(Passed { descriptor, bytes, children }));
                // The best is taken next: the last to be pushed.
                pending.extend(index.candidates(&platforms).into_iter().rev().map(|child| Pending {
                    descriptor: child.descriptor.clone(),
                    trail: trail.clone(),
                    unplaced: child.platform.is_none(),
                }));
            }
            Document::Manifest(manifest) => {
                bounded("a config", &manifest.config).map_err(refuse)?;
                let configuration = source.config(&manifest.config).await?;
                let configuration = ImageConfiguration::parse(&configuration).map_err(refuse)?;
                if unplaced && platforms.rank(&configuration.platform).is_none() {
                    offered.push(configuration.platform.to_string());
                    continue;
                }
                let (layers, diff_ids) = (manifest.layers.len(), configuration.diff_ids.len());
                if layers != diff_ids {
                    return Err(refuse(Flaw::LayerCount { layers, diff_ids }));
                }
                trail.push(Arc::new(Passed { descriptor, bytes, children: Vec::new() }));
                return Ok(Resolved { trail, manifest, configuration });
            }
        }
    }
    Err(missing.unwrap_or_else(|| {
        offered.sort();
        offered.dedup();
        refuse(Flaw::Platform { wanted: platforms.best().to_string(), offered })
    }))
}

fn bounded(what: &'static str, descriptor: &Descriptor) -> Result<(), Flaw> {
    if descriptor.size > MAX_DOCUMENT {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        return Err(Flaw::TooLarge { what, digest, size, limit: MAX_DOCUMENT });
    }
    Ok(())
}

/// What containerd has already.
pub struct Stored<'a> {
    pub containerd: &'a Containerd,
    pub image: &'a str,
}

impl Source for Stored<'_> {
    async fn document(&self, wanted: &Descriptor) -> Result<Bytes, ImageError> {
        match self.containerd.read_content(&wanted.digest, MAX_DOCUMENT as usize).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == Kind::NotFound => {
                Err(ImageError::Incomplete { image: self.image.to_owned(), digest: wanted.digest.clone() })
            }
            Err(error) => Err(ImageError::containerd("read", self.image)(error)),
        }
    }

    async fn config(&self, wanted: &Descriptor) -> Result<Bytes, ImageError> {
        self.document(wanted).await
    }
}
