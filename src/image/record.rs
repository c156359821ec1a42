//! containerd's image records: how they are labelled, and what they are read as.

use std::sync::Arc;

use super::blob::Labels;
use super::resolve::{Resolved, Stored, resolve};
use super::{Image, ImageError};
use crate::containerd::{Containerd, ContainerdError, Descriptor, ImageRecord};
use crate::id::ImageId;
use crate::time::Timestamp;

/// Marks an image that the CRI knows of (containerd's `internal/cri/labels`).
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// Marks an image that the kubelet must not collect (the same).
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// Annotations that name the container whose checkpoint a manifest is made of: checkpointctl's, and CRI-O's own from
/// before.
const CHECKPOINTS: [&str; 2] =
    ["org.criu.checkpoint.container.name", "io.kubernetes.cri-o.annotations.checkpoint.name"];

/// Whether the kubelet may collect an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    Pinned,
    Collectable,
}

/// A record as the CRI plugin writes it.
pub fn record(name: &str, target: &Descriptor, pin: Pin) -> ImageRecord {
    let mut labels = labels([MANAGED]);
    if pin == Pin::Pinned {
        labels.extend(self::labels([PINNED]));
    }
    ImageRecord { name: name.to_owned(), labels, target: target.clone(), created_at: Timestamp::now() }
}

/// What the record says of its image. A label that was meant to pin it and does not is told of.
pub fn pin(record: &ImageRecord) -> Pin {
    for label in near_misses(&record.labels) {
        tracing::warn!(image = record.name, label, "this label pins nothing; {}={} does", PINNED.0, PINNED.1);
    }
    if has(record, PINNED) { Pin::Pinned } else { Pin::Collectable }
}

/// Makes a foreign record one of the CRI's: labelled, and known by its id too. What already is one stays as it is.
pub async fn adopt(
    containerd: &Containerd,
    record: &ImageRecord,
    id: &ImageId,
) -> Result<(), ContainerdError> {
    if has(record, MANAGED) {
        return Ok(());
    }
    if record.name != id.as_str() {
        containerd.put_image(&self::record(id.as_str(), &record.target, Pin::Collectable)).await?;
    }
    let mut adopted = record.clone();
    adopted.labels.extend(labels([MANAGED]));
    containerd.put_image(&adopted).await
}

/// Reads what a record names out of the content store.
pub async fn load(
    containerd: &Containerd,
    name: &str,
    target: &Descriptor,
) -> Result<Arc<Image>, ImageError> {
    let stored = Stored { containerd, image: name };
    let resolved = resolve(&stored, name, target.clone()).await?;
    Ok(Arc::new(image(target, resolved)))
}

/// Labels that somebody may have set to pin the image, and that do not.
fn near_misses(labels: &Labels) -> Vec<&str> {
    let meant = |(key, value): &(&String, &String)| {
        key.ends_with("pinned") && (key.as_str(), value.as_str()) != PINNED
    };
    labels.iter().filter(meant).map(|(key, _)| key.as_str()).collect()
}

fn image(target: &Descriptor, resolved: Resolved) -> Image {
    Image {
        id: ImageId::from(&resolved.manifest.config.digest),
        repo_tags: Vec::new(),
        repo_digests: Vec::new(),
        target: target.clone(),
        chain_id: resolved.chain_id(),
        size: resolved.size(),
        checkpoint: CHECKPOINTS.iter().any(|key| resolved.manifest.annotations.contains_key(*key)),
        config: resolved.configuration.config,
        pinned: false,
    }
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn has(record: &ImageRecord, (key, value): (&str, &str)) -> bool {
    record.labels.get(key).is_some_and(|found| found == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_pin_is_noticed() {
        let labels = labels([PINNED, ("io.cri-containerd.image.pinned", "pinned"), ("a", "b")]);
        assert_eq!(near_misses(&labels), ["io.cri-containerd.image.pinned"]);
        let labels = super::labels([("io.cri-containerd.pinned", "true")]);
        assert_eq!(near_misses(&labels), ["io.cri-containerd.pinned"]);
    }
}
