//! The content store and the names of images.

use std::collections::BTreeMap;

use bytes::Bytes;
use cridge::containerd::{Collect, Containerd, ContentWriter, Descriptor, ImageRecord};
use cridge::error::Kind;
use cridge::id::{Digest, LeaseId};
use cridge::time::Timestamp;

use crate::node::soon;
use crate::place::Place;

/// Not a multiple of any piece or buffer.
const ODD_SIZE: usize = (5 << 20) + 77;

/// Bytes that differ everywhere, so that a mistaken order or offset shows.
fn noise(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

/// Opens an ingest whose last writer may be on its way out.
async fn reopened(containerd: &Containerd, name: &str, digest: &Digest, size: u64) -> ContentWriter {
    soon(async {
        loop {
            match containerd.write_content(name, digest, size).await {
                Err(error) if error.kind() == Kind::Unavailable => tokio::task::yield_now().await,
                outcome => return outcome.unwrap(),
            }
        }
    })
    .await
}

pub async fn a_blob_is_written_and_read(place: Place) {
    let containerd = place.leased().await;
    let blob = noise(ODD_SIZE, 1);
    let digest = Digest::of(&blob);
    let mut writer = containerd.write_content("layer-1", &digest, blob.len() as u64).await.unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(blob.clone()).await.unwrap();
    assert_eq!(writer.offset(), blob.len() as u64);
    writer.commit(&labels(&[("a", "1"), ("b", "2")])).await.unwrap();

    let info = containerd.content_info(&digest).await.unwrap();
    assert_eq!((&info.digest, info.size), (&digest, blob.len() as u64));
    assert_eq!(info.labels, labels(&[("a", "1"), ("b", "2")]));
    assert!(info.created_at.is_set());

    containerd
        .label_content(&digest, &labels(&[("a", ""), ("containerd.io/gc.ref.content.0", "x")]))
        .await
        .unwrap();
    let info = containerd.content_info(&digest).await.unwrap();
    assert_eq!(info.labels, labels(&[("b", "2"), ("containerd.io/gc.ref.content.0", "x")]));

    assert_eq!(containerd.read_content(&digest, blob.len()).await.unwrap(), blob);
    let refused = containerd.read_content(&digest, blob.len() - 1).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::ResourceExhausted);

    let again = containerd.write_content("layer-1", &digest, blob.len() as u64).await.unwrap_err();
    assert_eq!(again.kind(), Kind::AlreadyExists);
    containerd.delete_content(&digest).await.unwrap();
    assert!(containerd.content_info(&digest).await.unwrap_err().is_not_found());
}

pub async fn an_interrupted_write_resumes(place: Place) {
    let containerd = place.leased().await;
    let blob = noise(ODD_SIZE, 2);
    let (digest, size) = (Digest::of(&blob), blob.len() as u64);
    let half = 3 << 20;
    let mut writer = containerd.write_content("resumed", &digest, size).await.unwrap();
    writer.write(blob.slice(..half)).await.unwrap();
    drop(writer);

    let mut writer = reopened(&containerd, "resumed", &digest, size).await;
    let kept = usize::try_from(writer.offset()).unwrap();
    assert!(kept <= half);
    let ingests = containerd.ingests(&["ref==resumed"]).await.unwrap();
    assert_eq!((ingests[0].name.as_str(), ingests[0].offset, ingests.len()), ("resumed", kept as u64, 1));
    writer.write(blob.slice(kept..)).await.unwrap();
    writer.truncate().await.unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(blob.slice(..half)).await.unwrap();
    writer.write(blob.slice(half..)).await.unwrap();
    writer.commit(&BTreeMap::new()).await.unwrap();
    assert_eq!(containerd.read_content(&digest, ODD_SIZE).await.unwrap(), blob);
    assert_eq!(containerd.ingests(&[]).await.unwrap(), []);
}

pub async fn an_ingest_has_one_writer(place: Place) {
    let containerd = place.leased().await;
    let blob = noise(1000, 3);
    let digest = Digest::of(&blob);
    let writer = containerd.write_content("held", &digest, 1000).await.unwrap();
    let error = containerd.write_content("held", &digest, 1000).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(!error.is_away(), "{error:?}");
    assert!(error.to_string().contains("locked"), "{error}");
    drop(writer);
    drop(reopened(&containerd, "held", &digest, 1000).await);
}

pub async fn a_wrong_digest_is_refused(place: Place) {
    let containerd = place.leased().await;
    let (promised, sent) = (noise(5000, 4), noise(5000, 5));
    let digest = Digest::of(&promised);
    let mut writer = containerd.write_content("liar", &digest, 5000).await.unwrap();
    writer.write(sent).await.unwrap();
    let error = writer.commit(&BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    assert!(containerd.content_info(&digest).await.unwrap_err().is_not_found());

    let mut short = containerd.write_content("short", &digest, 5000).await.unwrap();
    short.write(promised.slice(..4000)).await.unwrap();
    assert_eq!(short.commit(&BTreeMap::new()).await.unwrap_err().kind(), Kind::FailedPrecondition);

    for name in ["liar", "short"] {
        if let Err(error) = containerd.abort_ingest(name).await {
            assert!(error.is_not_found(), "{error}");
        }
    }
    assert_eq!(containerd.ingests(&[]).await.unwrap(), []);
    assert!(containerd.abort_ingest("liar").await.unwrap_err().is_not_found());
}

pub async fn a_blob_that_came_meanwhile_is_fine(place: Place) {
    let containerd = place.leased().await;
    let blob = noise(2 << 20, 6);
    let (digest, size) = (Digest::of(&blob), blob.len() as u64);
    let mut slow = containerd.write_content("slow", &digest, size).await.unwrap();
    let mut fast = containerd.write_content("fast", &digest, size).await.unwrap();
    slow.write(blob.clone()).await.unwrap();
    fast.write(blob.clone()).await.unwrap();
    fast.commit(&labels(&[("by", "fast")])).await.unwrap();
    slow.commit(&labels(&[("and", "slow")])).await.unwrap();
    let info = containerd.content_info(&digest).await.unwrap();
    assert_eq!(info.labels, labels(&[("and", "slow"), ("by", "fast")]));
}

pub async fn a_blob_of_another_namespace_wants_the_commit_alone(place: Place) {
    let containerd = place.leased().await;
    let other = Containerd::new(&place.node.socket(), "first-to-have-it");
    other.ensure_namespace().await.unwrap();
    let lease = LeaseId::new("test");
    other.create_lease(&lease, None).await.unwrap();
    let blob = noise(10_000, 7);
    let (digest, size) = (Digest::of(&blob), blob.len() as u64);
    let mut writer = other.leased(&lease).write_content("blob", &digest, size).await.unwrap();
    writer.write(blob.clone()).await.unwrap();
    writer.commit(&BTreeMap::new()).await.unwrap();

    assert!(containerd.content_info(&digest).await.unwrap_err().is_not_found());
    let writer = containerd.write_content("blob", &digest, size).await.unwrap();
    assert_eq!(writer.offset(), size);
    writer.commit(&labels(&[("a", "1")])).await.unwrap();
    assert_eq!(containerd.content_info(&digest).await.unwrap().labels, labels(&[("a", "1")]));
    assert_eq!(containerd.read_content(&digest, blob.len()).await.unwrap(), blob);
}

pub async fn images_name_blobs(place: Place) {
    let containerd = place.leased().await;
    let target = |seed| Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: Digest::of(&noise(10, seed)),
        size: 10,
        annotations: BTreeMap::new(),
    };
    let image = |seed, label: &str| ImageRecord {
        name: "registry.test/busybox:latest".into(),
        labels: labels(&[("io.cri-containerd.image", label)]),
        target: target(seed),
        created_at: Timestamp::NEVER,
    };
    containerd.put_image(&image(1, "managed")).await.unwrap();
    containerd.put_image(&image(2, "anew")).await.unwrap();
    let kept = containerd.image("registry.test/busybox:latest").await.unwrap();
    assert_eq!(kept, ImageRecord { created_at: kept.created_at, ..image(2, "anew") });
    assert!(kept.created_at.is_set());
    assert_eq!(containerd.images(&[]).await.unwrap(), std::slice::from_ref(&kept));
    assert_eq!(containerd.images(&["name==registry.test/busybox:latest"]).await.unwrap(), [kept]);
    assert_eq!(containerd.images(&["name==other"]).await.unwrap(), []);

    containerd.delete_image("registry.test/busybox:latest", Collect::Now).await.unwrap();
    let gone = containerd.delete_image("registry.test/busybox:latest", Collect::Later).await;
    assert!(gone.unwrap_err().is_not_found());
    assert!(containerd.image("registry.test/busybox:latest").await.unwrap_err().is_not_found());
}
