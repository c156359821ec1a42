//! Indexes, manifests and image configs: read, checked, and nothing of them believed (OCI image spec; docker's
//! image manifest version 2, schema 2).

use std::collections::BTreeMap;

use oci_spec::image::Config;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Flaw;
use super::platform::{Platform, Platforms};
use crate::containerd::Descriptor;
use crate::id::{Digest, SnapshotKey};

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Bytes of a manifest, index or config: containerd's own limit for manifests (`images.MaxManifestSize`).
pub const MAX_DOCUMENT: u64 = 4 * 1048 * 1048;

/// A manifest or an index.
#[derive(Debug)]
pub enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// Manifests for several platforms.
#[derive(Debug)]
pub struct Index {
    pub media_type: String,
    pub manifests: Vec<Child>,
}

/// An entry of an index; builders may leave its platform out.
#[derive(Clone, Debug)]
pub struct Child {
    pub descriptor: Descriptor,
    pub platform: Option<Platform>,
}

/// One image: a config, and layers from the bottom up.
#[derive(Debug)]
pub struct Manifest {
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<LayerBlob>,
    pub annotations: BTreeMap<String, String>,
}

/// A layer as it is distributed.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerBlob {
    pub descriptor: Descriptor,
    pub compression: Compression,
}

/// How a layer's tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What is needed of an image's config.
#[derive(Debug)]
pub struct ImageConfiguration {
    pub platform: Platform,
    pub config: Config,
    /// Digests of the unpacked layers, from the bottom up.
    pub diff_ids: Vec<Digest>,
}

/// A document as JSON has it. All fields of all kinds, so that one which claims to be two things is seen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: i64,
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(flatten)]
    platform: Platform,
    config: Option<Config>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

impl Document {
    /// Reads a document; `media_type` is what the server or the parent calls it, used where it says nothing itself.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, Flaw> {
        let raw: RawDocument = read("its manifest", bytes)?;
        if raw.fs_layers.is_some() || raw.schema_version == 1 {
            return Err(Flaw::Schema1);
        }
        let stated = raw.media_type.unwrap_or_default();
        let media_type = if stated.is_empty() { media_type.to_owned() } else { stated };
        // A document that is an index to one reader and a manifest to another is refused (CVE-2021-41190).
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) => {
                let media_type =
                    named(media_type, [OCI_INDEX, DOCKER_LIST], [OCI_MANIFEST, DOCKER_MANIFEST])?;
                let manifests = manifests.into_iter().map(RawDescriptor::child).collect::<Result<_, _>>()?;
                Ok(Self::Index(Index { media_type, manifests }))
            }
            (None, Some(config), layers) => {
                let media_type =
                    named(media_type, [OCI_MANIFEST, DOCKER_MANIFEST], [OCI_INDEX, DOCKER_LIST])?;
                let layers = layers.unwrap_or_default();
                let layers = layers.into_iter().map(RawDescriptor::layer).collect::<Result<_, _>>()?;
                let annotations = raw.annotations.unwrap_or_default();
                Ok(Self::Manifest(Manifest { media_type, config: config.checked()?, layers, annotations }))
            }
            (None, None, _) => Err(Flaw::MediaType { media_type: told(&media_type) }),
            (Some(_), _, _) => Err(Flaw::Malformed {
                what: "its manifest",
                why: "it lists manifests and layers at once".to_owned(),
            }),
        }
    }

    pub fn media_type(&self) -> &str {
        match self {
            Self::Index(index) => &index.media_type,
            Self::Manifest(manifest) => &manifest.media_type,
        }
    }
}

/// The type under which containerd files a document: `media_type` where it is one of its kind's, the kind's OCI type
/// where it says nothing (`application/json`, as plain web servers have it); another kind's is refused.
fn named(media_type: String, own: [&str; 2], other: [&str; 2]) -> Result<String, Flaw> {
    if own.contains(&media_type.as_str()) {
        Ok(media_type)
    } else if other.contains(&media_type.as_str()) {
        Err(Flaw::Malformed {
            what: "its manifest",
            why: format!("it is not the {} that it is said to be", told(&media_type)),
        })
    } else {
        Ok(own[0].to_owned())
    }
}

impl Index {
    /// The entries that may hold this node's manifest, the best first; those that tell no platform come last.
    pub fn candidates(&self, platforms: &Platforms) -> Vec<&Child> {
        let rank = |child: &Child| match &child.platform {
            Some(platform) => platforms.rank(platform),
            None => Some(usize::MAX),
        };
        let mut fitting: Vec<_> =
            self.manifests.iter().filter_map(|child| rank(child).map(|rank| (rank, child))).collect();
        fitting.sort_by_key(|(rank, _)| *rank);
        fitting.into_iter().map(|(_, child)| child).collect()
    }
}

impl RawDescriptor {
    fn checked(self) -> Result<Descriptor, Flaw> {
        let digest = digest(&self.digest)?;
        Ok(Descriptor { media_type: self.media_type, digest, size: self.size, annotations: BTreeMap::new() })
    }

    fn child(mut self) -> Result<Child, Flaw> {
        let platform = self.platform.take();
        Ok(Child { descriptor: self.checked()?, platform })
    }

    fn layer(self) -> Result<LayerBlob, Flaw> {
        let descriptor = self.checked()?;
        let (media_type, digest) = (&descriptor.media_type, descriptor.digest.clone());
        if media_type.contains("nondistributable") || media_type.contains("rootfs.foreign") {
            return Err(Flaw::Foreign { digest, media_type: told(media_type) });
        }
        if media_type.ends_with("+encrypted") {
            return Err(Flaw::Encrypted { digest, media_type: told(media_type) });
        }
        let packed = [OCI_LAYER, DOCKER_LAYER].iter().find_map(|prefix| media_type.strip_prefix(prefix));
        let compression = match packed {
            Some("") => Compression::None,
            Some("+gzip" | ".gzip") => Compression::Gzip,
            Some("+zstd" | ".zstd") => Compression::Zstd,
            _ => return Err(Flaw::LayerType { digest, media_type: told(media_type) }),
        };
        Ok(LayerBlob { descriptor, compression })
    }
}

impl Compression {
    /// The layer's type as every containerd knows it (1.6 has no name for docker's zstd).
    pub fn media_type(self) -> String {
        match self {
            Self::None => OCI_LAYER.to_owned(),
            Self::Gzip => format!("{OCI_LAYER}+gzip"),
            Self::Zstd => format!("{OCI_LAYER}+zstd"),
        }
    }

    /// The most that so many bytes can unpack to: deflate turns 1 byte into 1032 at best (zlib's "Maximum Compression
    /// Factor"); a zstd block has 3 bytes of header and at most 128 KiB of content (RFC 8878, 3.1.1.2).
    pub fn at_most(self, packed: u64) -> u64 {
        match self {
            Self::None => packed,
            Self::Gzip => packed.saturating_mul(1032),
            Self::Zstd => packed.saturating_mul((128 << 10) / 3 + 1),
        }
    }
}

impl ImageConfiguration {
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let raw: RawConfiguration = read("its config", bytes)?;
        if raw.rootfs.kind != "layers" {
            let why = format!("its rootfs is of type {:?}, not layers", told(&raw.rootfs.kind));
            return Err(Flaw::Malformed { what: "its config", why });
        }
        let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
        let diff_ids = diff_ids.iter().map(|text| digest(text)).collect::<Result<_, _>>()?;
        Ok(Self { platform: raw.platform, config: raw.config.unwrap_or_default(), diff_ids })
    }
}

/// The chain IDs of layers, from the bottom up (OCI image spec, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<SnapshotKey> {
    let mut chain: Vec<SnapshotKey> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(SnapshotKey::new(next.as_str()));
    }
    chain
}

/// A digest out of a document. Only sha256: containerd's store verifies no other.
fn digest(text: &str) -> Result<Digest, Flaw> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match text.split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 && hex.bytes().all(lower_hex) => Ok(Digest::new(text)),
        Some(("sha384" | "sha512", _)) => Err(Flaw::Algorithm { digest: told(text) }),
        _ => {
            let why = format!("{:?} is no digest", told(text));
            Err(Flaw::Malformed { what: "a descriptor", why })
        }
    }
}

fn read<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Flaw> {
    serde_json::from_slice(bytes).map_err(|error| Flaw::Malformed { what, why: told(&error.to_string()) })
}

/// What of a document's words its errors repeat: they may be as long as it is.
fn told(text: &str) -> String {
    const MAX: usize = 140;
    text.chars().take(MAX).collect()
}

#[cfg(test)]
mod tests;
