//! A blob in containerd's content store, named and labelled as containerd's own pulls do it, so that its garbage
//! collection, `ctr` and the built-in plugin can go on with it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::lease::Share;
use crate::containerd::{ContainerdError, ContentWriter, Descriptor};
use crate::error::Kind;
use crate::id::{Digest, SnapshotKey};
use crate::registry::Reference;

/// Labels, by key.
pub type Labels = BTreeMap<String, String>;

/// The repositories of a registry that have the blob (containerd's `labels.LabelDistributionSource`).
const SOURCE: &str = "containerd.io/distribution.source.";
/// What garbage collection keeps because of a blob (containerd's docs/garbage-collection.md).
const REFERS: &str = "containerd.io/gc.ref.content.";
const REFERS_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";
/// The digest of a layer, unpacked.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Bytes of a label, key and value together (containerd's `labels.Validate`).
const MAX_LABEL: usize = 4096;
/// How often we look whether another has written a blob: at first, and at the least.
const LOCKED_RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What a blob is to its image: a part of its ingest's name, which all of containerd's clients share
/// (`remotes.MakeRefKey`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Index,
    Manifest,
    Config,
    Layer,
}

impl Role {
    /// The name under which the blob is written.
    pub fn ingest(self, digest: &Digest) -> String {
        let role = match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
        };
        format!("{role}-{digest}")
    }
}

/// The label that says where a blob came from.
pub fn source(reference: &Reference) -> Labels {
    Labels::from([(format!("{SOURCE}{}", reference.registry), reference.repository.clone())])
}

/// The labels by which an index keeps its manifests.
pub fn refers_to_manifests<'a>(manifests: impl IntoIterator<Item = &'a Digest>) -> Labels {
    let label = |(n, digest): (usize, &Digest)| (format!("{REFERS}m.{n}"), digest.to_string());
    manifests.into_iter().enumerate().map(label).collect()
}

/// The labels by which a manifest keeps its config and layers.
pub fn refers_to_parts<'a>(config: &Digest, layers: impl IntoIterator<Item = &'a Digest>) -> Labels {
    let label = |(n, digest): (usize, &Digest)| (format!("{REFERS}l.{n}"), digest.to_string());
    let mut labels: Labels = layers.into_iter().enumerate().map(label).collect();
    labels.insert(format!("{REFERS}config"), config.to_string());
    labels
}

/// The label by which a config keeps the unpacked layers.
pub fn refers_to_snapshot(snapshotter: &str, chain_id: &SnapshotKey) -> Labels {
    Labels::from([(format!("{REFERS_SNAPSHOT}{snapshotter}"), chain_id.to_string())])
}

/// The label that tells a layer's diff id.
pub fn uncompressed(diff_id: &Digest) -> Labels {
    Labels::from([(UNCOMPRESSED.to_owned(), diff_id.to_string())])
}

/// Opens the blob for writing, or takes the one that is there under the lease, with these labels added. Waits while
/// another pull or another process writes it.
pub async fn open(
    share: &Share,
    role: Role,
    blob: &Descriptor,
    labels: &Labels,
) -> Result<Option<ContentWriter>, ContainerdError> {
    let ingest = role.ingest(&blob.digest);
    let mut pause = LOCKED_RETRY.0;
    loop {
        match share.containerd().write_content(&ingest, &blob.digest, blob.size).await {
            Ok(writer) => return Ok(Some(writer)),
            Err(error) if error.kind() == Kind::AlreadyExists => {
                return add_labels(share, &blob.digest, labels).await.map(|()| None);
            }
            // Said by containerd itself, which is there.
            Err(error @ ContainerdError::Call { .. }) if error.kind() == Kind::Unavailable => {
                tracing::debug!(digest = %blob.digest, "another writes this blob; waiting");
                tokio::time::sleep(pause).await;
                pause = LOCKED_RETRY.1.min(pause * 2);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes a blob that is in memory.
pub async fn put(
    share: &Share,
    role: Role,
    blob: &Descriptor,
    bytes: Bytes,
    labels: &Labels,
) -> Result<(), ContainerdError> {
    let mut inherited = true;
    while let Some(mut writer) = open(share, role, blob, labels).await? {
        // Another namespace may have the blob, and then all is written; so it may be by an attempt that went wrong.
        let written =
            usize::try_from(writer.offset()).ok().filter(|&written| inherited && written <= bytes.len());
        if written.is_none() {
            writer.truncate().await?;
        }
        writer.write(bytes.slice(written.unwrap_or(0)..)).await?;
        match writer.commit(labels).await {
            Err(error) if inherited && error.kind() == Kind::FailedPrecondition => inherited = false,
            committed => return committed,
        }
    }
    Ok(())
}

/// Adds labels to a blob; sources of the same registry are listed, not replaced.
pub async fn add_labels(share: &Share, digest: &Digest, labels: &Labels) -> Result<(), ContainerdError> {
    let present = share.containerd().content_info(digest).await?.labels;
    let changed = merge(&present, labels);
    if changed.is_empty() { Ok(()) } else { share.containerd().label_content(digest, &changed).await }
}

/// The labels of `wanted` that `present` lacks, as they are to be set.
fn merge(present: &Labels, wanted: &Labels) -> Labels {
    let mut changed = Labels::new();
    for (key, value) in wanted {
        let value = match present.get(key) {
            Some(before) if before == value => continue,
            Some(before) if key.starts_with(SOURCE) => {
                let mut repositories: Vec<_> = before.split(',').filter(|name| !name.is_empty()).collect();
                if repositories.contains(&value.as_str()) {
                    continue;
                }
                repositories.push(value);
                repositories.sort_unstable();
                let listed = repositories.join(",");
                if key.len() + listed.len() > MAX_LABEL {
                    continue;
                }
                listed
            }
            _ => value.clone(),
        };
        changed.insert(key.clone(), value);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn sources_are_listed_and_the_rest_is_replaced() {
        let key = "containerd.io/distribution.source.docker.io";
        let present = labels(&[(key, "library/b,library/c"), ("other", "1")]);
        assert_eq!(
            merge(&present, &labels(&[(key, "library/a")])),
            labels(&[(key, "library/a,library/b,library/c")])
        );
        assert_eq!(merge(&present, &labels(&[(key, "library/c"), ("other", "1")])), Labels::new());
        assert_eq!(merge(&present, &labels(&[("other", "2")])), labels(&[("other", "2")]));
    }

    #[test]
    fn a_source_that_would_make_the_label_too_long_is_left_out() {
        let key = "containerd.io/distribution.source.docker.io";
        let present = labels(&[(key, &"x".repeat(4000))]);
        assert_eq!(merge(&present, &labels(&[(key, &"y".repeat(100))])), Labels::new());
    }

    #[test]
    fn references_are_spelled_as_containerd_does() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let index = refers_to_manifests([&a, &b]);
        assert_eq!(index["containerd.io/gc.ref.content.m.1"], b.to_string());
        let manifest = refers_to_parts(&a, [&b]);
        assert_eq!(manifest["containerd.io/gc.ref.content.config"], a.to_string());
        assert_eq!(manifest["containerd.io/gc.ref.content.l.0"], b.to_string());
        assert_eq!(Role::Layer.ingest(&a), format!("layer-{a}"));
    }
}
