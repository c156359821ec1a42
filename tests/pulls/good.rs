//! Images that are as they should be.

use std::collections::BTreeMap;

use bytes::Bytes;
use cridge::containerd::{Descriptor, ImageRecord};
use cridge::error::Kind;
use cridge::id::{Digest, SnapshotKey};
use cridge::time::Timestamp;
use serde_json::{Value, json};

use super::fixture::{
    DOCKER_LIST, DOCKER_MANIFEST, Fixture, Layer, OCI_INDEX, OCI_MANIFEST, Packing, archive, entry, platform,
};
use super::{Place, pull, pulled};

pub async fn every_kind_of_manifest_and_layer_is_pulled(place: Place) {
    let images = place.images();
    let kinds = [
        ("oci", OCI_MANIFEST, None),
        ("docker", DOCKER_MANIFEST, None),
        ("index", OCI_MANIFEST, Some(OCI_INDEX)),
        ("list", DOCKER_MANIFEST, Some(DOCKER_LIST)),
    ];
    let packings = [("plain", Packing::Plain), ("gzip", Packing::Gzip), ("zstd", Packing::Zstd)];
    for (kind, manifest_type, index) in kinds {
        for (packed, packing) in packings {
            let content = format!("{kind} {packed} {}", place.salt);
            let below = Layer::of_file("below", &content);
            let mut layer = Layer::new(&archive(&[entry("file", '0', content.as_bytes(), "")]), packing);
            if manifest_type == DOCKER_MANIFEST {
                let suffix = layer.media_type.split_once('+').map(|(_, packing)| format!(".{packing}"));
                layer.media_type =
                    format!("application/vnd.docker.image.rootfs.diff.tar{}", suffix.unwrap_or_default());
            }
            let repository = format!("{kind}/{packed}");
            let fixture = Fixture { manifest_type, ..Fixture::new(&repository, vec![below, layer]) };
            let pushed = fixture.push(&place.server);
            let mut target = Digest::of(&pushed.manifest);
            if let Some(index) = index {
                let other = json!({"os": "linux", "architecture": "s390x"});
                let below =
                    [(manifest_type, &b"{}"[..], other), (manifest_type, &pushed.manifest, platform())];
                target = Digest::of(&fixture.push_index(&place.server, index, &below));
            }
            let image = pulled(&images, &format!("example.com/{repository}")).await;
            assert_eq!(image.id.as_str(), pushed.id(), "{repository}");
            assert_eq!(image.target.digest, target, "{repository}");
            assert_eq!(place.file(&image, "file").await.as_deref(), Some(content.as_str()), "{repository}");
            assert_eq!(place.file(&image, "below").await.as_deref(), Some(content.as_str()), "{repository}");
            assert_eq!(image.config.user().as_deref(), Some("1000"));
            let blobs: usize = fixture.layers.iter().map(|layer| layer.bytes.len()).sum();
            assert_eq!(image.size, (blobs + pushed.manifest.len() + pushed.config.len()) as u64);
            let by_digest = pulled(&images, &format!("example.com/{repository}@{target}")).await;
            assert_eq!(by_digest.id, image.id);
        }
    }
    // An index within an index, whose entries do not say what they are for.
    let fixture = Fixture::new("nested", vec![Layer::of_file("file", &place.salt)]);
    let pushed = fixture.push(&place.server);
    let inner =
        fixture.push_index(&place.server, OCI_INDEX, &[(OCI_MANIFEST, &pushed.manifest, Value::Null)]);
    fixture.push_index(&place.server, OCI_INDEX, &[(OCI_INDEX, &inner, Value::Null)]);
    assert_eq!(pulled(&images, "example.com/nested").await.id.as_str(), pushed.id());
}

pub async fn names_and_labels_are_the_plugins_own(place: Place) {
    let images = place.images();
    let fixture =
        Fixture::new("library/app", vec![Layer::of_file("a", &place.salt), Layer::of_file("b", &place.salt)]);
    let pushed = fixture.push(&place.server);
    let index = fixture.push_index(&place.server, OCI_INDEX, &[(OCI_MANIFEST, &pushed.manifest, platform())]);
    let image = pulled(&images, "app").await;

    let by_digest = format!("docker.io/library/app@{}", Digest::of(&index));
    assert_eq!(image.repo_tags, ["docker.io/library/app:latest"]);
    assert_eq!(image.repo_digests, [by_digest.as_str()]);
    let mut records = place.containerd.images(&[]).await.expect("a list");
    records.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, ["docker.io/library/app:latest", &by_digest, &pushed.id()]);
    for record in &records {
        assert_eq!(record.labels, BTreeMap::from([("io.cri-containerd.image".into(), "managed".into())]));
        assert_eq!((record.target.media_type.as_str(), record.target.size), (OCI_INDEX, index.len() as u64));
        assert!(images.find(&record.name).is_some_and(|found| found.id == image.id), "{}", record.name);
    }

    let labels = |bytes: Vec<u8>| {
        let containerd = place.containerd.clone();
        async move { containerd.content_info(&Digest::of(&bytes)).await.expect("there").labels }
    };
    let refers = "containerd.io/gc.ref.content";
    let source = "containerd.io/distribution.source.docker.io";
    let of_index = labels(index).await;
    assert_eq!(of_index[&format!("{refers}.m.0")], Digest::of(&pushed.manifest).to_string());
    assert_eq!(of_index[source], "library/app");
    let of_manifest = labels(pushed.manifest.clone()).await;
    assert_eq!(of_manifest[&format!("{refers}.config")], pushed.id());
    assert_eq!(of_manifest[&format!("{refers}.l.1")], fixture.layers[1].digest().to_string());
    let of_config = labels(pushed.config.clone()).await;
    assert_eq!(of_config["containerd.io/gc.ref.snapshot.overlayfs"], image.chain_id.to_string());
    let of_layer = labels(fixture.layers[0].bytes.clone()).await;
    assert_eq!(of_layer["containerd.io/uncompressed"], fixture.layers[0].diff_id.to_string());
    assert_eq!(of_layer[source], "library/app");

    assert!(place.containerd.leases().await.expect("a list").is_empty());
    assert!(place.containerd.ingests(&[]).await.expect("a list").is_empty());
    // Nothing but the two layers, which no lease holds any more.
    place.collect().await;
    let snapshots = place.containerd.snapshots("overlayfs").await.expect("a list");
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
}

pub async fn what_is_there_is_not_fetched_again(place: Place) {
    let base = Layer::of_file("base", &place.salt);
    let images = place.images();
    Fixture::new("one", vec![base.clone()]).push(&place.server);
    Fixture::new("two", vec![base.clone(), Layer::of_file("more", &place.salt)]).push(&place.server);
    for name in ["one", "two", "one", "two"] {
        pulled(&images, &format!("example.com/{name}")).await;
    }
    assert_eq!(place.server.asked(&base.digest()), [0]);
    assert_eq!(place.containerd.snapshots("overlayfs").await.expect("a list").len(), 2);
}

pub async fn a_removed_image_is_gone_altogether(place: Place) {
    let images = place.images();
    let layer = Layer::of_file("file", &place.salt);
    let pushed = Fixture::new("gone", vec![layer.clone()]).push(&place.server);
    let image = pulled(&images, "example.com/gone").await;
    let prefix = &image.id.as_str()[7..19];
    images.remove(prefix).await.expect("removed");
    assert!(images.find("example.com/gone").is_none() && images.all().is_empty());
    let blobs = [layer.digest(), Digest::of(&pushed.manifest), Digest::of(&pushed.config)];
    place.assert_nothing_is_left(&blobs, "a removed image").await;
    for text in [prefix, "example.com/gone", "never/there", ""] {
        images.remove(text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

pub async fn foreign_images_are_adopted_and_unpacked(place: Place) {
    let layer = Layer::of_file("file", &place.salt);
    let fixture = Fixture::new("imported", vec![layer.clone()]);
    let config = fixture.configuration();
    let manifest = fixture.manifest(&config).to_string().into_bytes();
    let refers = "containerd.io/gc.ref.content";
    let parts = BTreeMap::from([
        (format!("{refers}.config"), Digest::of(&config).to_string()),
        (format!("{refers}.l.0"), layer.digest().to_string()),
    ]);
    // As `ctr images import --no-unpack` leaves it.
    let leased = place.leased().await;
    for (bytes, labels) in [(&layer.bytes, BTreeMap::new()), (&config, BTreeMap::new()), (&manifest, parts)] {
        let digest = Digest::of(bytes);
        let mut writer =
            leased.write_content(digest.as_str(), &digest, bytes.len() as u64).await.expect("a writer");
        writer.write(Bytes::from(bytes.clone())).await.expect("written");
        writer.commit(&labels).await.expect("committed");
    }
    let record = |name: &str, digest: Digest| ImageRecord {
        name: name.into(),
        labels: BTreeMap::from([("mine".into(), "1".into())]),
        target: Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest,
            size: manifest.len() as u64,
            annotations: BTreeMap::new(),
        },
        created_at: Timestamp::NEVER,
    };
    let name = "example.com/imported:1";
    let broken = record("example.com/broken:1", Digest::of(b"never written"));
    place.containerd.put_image(&record(name, Digest::of(&manifest))).await.expect("a record");
    place.containerd.put_image(&broken).await.expect("a record");
    place.end_lease().await;

    let images = place.images();
    images.reload().await.expect("a list");
    let image = images.find(name).expect("adopted");
    assert_eq!(images.all().len(), 1);
    assert!(images.find(&broken.name).is_none());
    let labels = place.containerd.image(name).await.expect("a record").labels;
    assert_eq!((labels["mine"].as_str(), labels["io.cri-containerd.image"].as_str()), ("1", "managed"));
    place.containerd.image(image.id.as_str()).await.expect("a record by its id");

    let missing = place.containerd.snapshot("overlayfs", &image.chain_id).await;
    assert!(missing.is_err_and(|error| error.is_not_found()));
    for _ in 0..2 {
        images.ensure_unpacked(&image, "overlayfs").await.expect("unpacked");
    }
    place.collect().await;
    assert_eq!(place.file(&image, "file").await.as_deref(), Some(place.salt.as_str()));

    // What another client does is seen when we are told of it.
    place.containerd.delete_image(name, cridge::containerd::Collect::Later).await.expect("deleted");
    images.refresh(name).await.expect("a look");
    assert!(images.find(name).is_none());
    images.remove(&broken.name).await.expect("a broken one can be removed");
    assert!(place.containerd.image(&broken.name).await.is_err());
}

pub async fn the_pause_image_needs_no_registry(place: Place) {
    let images = place.images();
    let (one, two) = tokio::join!(images.pause("overlayfs"), images.pause("overlayfs"));
    let (image, same) = (one.expect("an image"), two.expect("an image"));
    assert_eq!(image.id, same.id);
    assert!(image.pinned);
    assert_eq!(image.config.user().as_deref(), Some("65535:65535"));
    place.collect().await;
    place.containerd.snapshot("overlayfs", &image.chain_id).await.expect("unpacked");
    let labels = place.containerd.image(images.pause_name()).await.expect("a record").labels;
    assert_eq!(labels["io.cri-containerd.pinned"], "pinned");

    let refused = images.remove(&image.id.as_str()[7..20]).await.expect_err("refused");
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    assert_eq!(pulled(&images, images.pause_name()).await.id, image.id);

    let later = place.images();
    later.reload().await.expect("a list");
    assert_eq!(later.pause("overlayfs").await.expect("an image").id, image.id);
    assert!(place.containerd.leases().await.expect("a list").is_empty());
}

pub async fn snapshots_are_measured(place: Place) {
    Fixture::new("some", vec![Layer::of_file("file", &place.salt)]).push(&place.server);
    let images = place.images();
    pull(&images, "example.com/some").await.expect("pulled");
    let usage = images.filesystem_usage().await.expect("measured");
    let [usage] = usage.as_slice() else { panic!("{usage:?}") };
    assert!(usage.mountpoint.ends_with("/io.containerd.snapshotter.v1.overlayfs"), "{usage:?}");
    assert!(std::path::Path::new(&usage.mountpoint).join("metadata.db").exists(), "{usage:?}");
    // The layer has a file of 64 KiB, and two inodes besides the root's.
    assert!(usage.bytes >= 1 << 16 && usage.inodes >= 3, "{usage:?}");
    let snapshot = place.containerd.snapshot_usage("overlayfs", &SnapshotKey::new("none")).await;
    assert!(snapshot.is_err_and(|error| error.is_not_found()));
}
