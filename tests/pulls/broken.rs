//! Images and registries that are not as they should be.

use std::time::Duration;

use cridge::config::ImageConfig;
use cridge::error::{Kind, chain};
use cridge::id::Digest;
use serde_json::{Value, json};

use super::fixture::{Fixture, Layer, OCI_INDEX, OCI_MANIFEST, Packing, archive, entry, gzip};
use super::registry::Fault;
use super::{Place, pull, pulled};

pub async fn a_broken_image_is_refused_and_leaves_nothing(place: Place) {
    let images = place.images_with(ImageConfig { max_layer_bytes: 1 << 20, ..ImageConfig::default() });
    let layer = |name: &str| Layer::of_file("file", &format!("{name} {}", place.salt));
    let (good, server) = (layer("good"), &place.server);
    let two = |name: &str, top: Layer| Fixture::new(name, vec![good.clone(), top]);

    let mut oversize = layer("oversize");
    oversize.size -= 1;
    let oversize = two("oversize", oversize);

    let swapped = two("swapped", layer("swapped"));
    let mut others = swapped.layers[1].bytes.clone();
    others[100] ^= 1;
    server.fault(&swapped.layers[1].digest(), Fault::Swapped(others));

    let short = two("short", layer("short"));
    let cut = short.layers[1].bytes[..1000].to_vec();
    server.fault(&short.layers[1].digest(), Fault::Swapped(cut));

    let mut diff_id = layer("diff id");
    diff_id.diff_id = Digest::of(b"something else");
    let diff_id = two("diff-id", diff_id);

    let mut truncated = layer("truncated");
    truncated.bytes.truncate(truncated.bytes.len() / 2);
    truncated.size = truncated.bytes.len();
    let truncated = two("truncated", truncated);

    let zeros = archive(&[entry("zeros", '0', &vec![0; 20 << 20], "")]);
    let bomb = two("bomb", Layer::new(&zeros, Packing::Gzip));
    let squeezed = two("squeezed", Layer::new(&zeros, Packing::Zstd));
    let plain = two("plain", Layer::new(&zeros, Packing::Plain));

    let mut foreign = layer("foreign");
    foreign.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    let foreign = two("foreign", foreign);
    let mut encrypted = layer("encrypted");
    encrypted.media_type += "+encrypted";
    let encrypted = two("encrypted", encrypted);

    let cases = [
        (oversize, "more than the"),
        (swapped, "another digest"),
        (short, "of bytes"),
        (diff_id, "not to"),
        (truncated, "unexpected EOF"),
        (bomb, "max_layer_bytes"),
        (squeezed, "max_layer_bytes"),
        (plain, "max_layer_bytes"),
        (foreign, "foreign"),
        (encrypted, "encrypted"),
    ];
    for (fixture, reason) in &cases {
        let pushed = fixture.push(server);
        let mut blobs: Vec<_> = fixture.layers.iter().map(Layer::digest).collect();
        blobs.extend([Digest::of(&pushed.config), Digest::of(&pushed.manifest)]);
        let name = &fixture.repository;
        let error = pull(&images, &format!("example.com/{name}")).await.expect_err(name);
        let text = chain(&error);
        let reason = if *reason == "of bytes" { "ended after" } else { reason };
        assert!(text.contains(reason) && text.contains(name.as_str()), "{name}: {text}");
        assert_ne!(error.kind(), Kind::Unavailable, "{name}: {text}");
        place.assert_nothing_is_left(&blobs, name).await;
    }

    for (name, manifest, reason) in documents(&place, &good) {
        let error = pull(&images, &format!("example.com/{name}")).await.expect_err(name);
        let text = chain(&error);
        assert!(text.contains(reason), "{name}: {text}");
        place.assert_nothing_is_left(&[Digest::of(&manifest), good.digest()], name).await;
    }
}

/// Manifests that are wrong before any layer matters: name, document, reason.
fn documents(place: &Place, good: &Layer) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let server = &place.server;
    let fixture = Fixture::new("deep", vec![good.clone()]);
    let mut deep = fixture.push(server).manifest;
    let mut media_type = OCI_MANIFEST;
    for _ in 0..6 {
        deep = fixture.push_index(server, OCI_INDEX, &[(media_type, &deep, Value::Null)]);
        media_type = OCI_INDEX;
    }

    let mut fixture = Fixture::new("count", vec![good.clone()]);
    let config = fixture.configuration();
    fixture.layers.push(good.clone());
    let count = fixture.manifest(&config).to_string().into_bytes();
    fixture.push_as(server, config, count.clone());

    let schema1 =
        json!({"schemaVersion": 1, "name": "old", "fsLayers": [], "history": []}).to_string().into_bytes();
    server.put_manifest(
        "schema1",
        "latest",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        &schema1,
    );
    let artifact = Fixture::new("artifact", vec![good.clone()]);
    let config = b"{}".to_vec();
    let chart = artifact.manifest(&config).to_string().into_bytes();
    artifact.push_as(server, config, chart.clone());
    vec![
        ("deep", deep, "nested deeper"),
        ("count", count, "2 layers and 1 diff ids"),
        ("schema1", schema1, "schema 1"),
        ("artifact", chart, "its config is malformed"),
    ]
}

pub async fn an_image_of_another_platform_says_which(place: Place) {
    let images = place.images();
    let fixture = Fixture::new("other", vec![Layer::of_file("file", &place.salt)]);
    let pushed = fixture.push(&place.server);
    let of = |os: &str, architecture: &str| json!({"os": os, "architecture": architecture});
    let below = [
        (OCI_MANIFEST, &pushed.manifest[..], of("linux", "s390x")),
        (OCI_MANIFEST, &pushed.manifest[..], of("windows", "amd64")),
    ];
    fixture.push_index(&place.server, OCI_INDEX, &below);
    let error = pull(&images, "example.com/other").await.expect_err("refused");
    assert_eq!(error.kind(), Kind::NotFound);
    let text = chain(&error);
    assert!(text.contains("linux/s390x, windows/amd64"), "{text}");
    place.assert_nothing_is_left(&[fixture.layers[0].digest()], "another platform").await;
    let error = pull(&images, "example.com/nowhere").await.expect_err("not there");
    assert_eq!(error.kind(), Kind::NotFound, "{}", chain(&error));
}

pub async fn a_layer_reaches_nothing_outside(place: Place) {
    let images = place.images();
    let marker = format!("escaped-{}", Digest::of(place.salt.as_bytes()).hex());
    let climbing = entry(&format!("../../../../{marker}"), '0', b"x", "");
    let absolute = entry(&format!("/{marker}"), '0', b"x", "");
    let through = [entry("way", '2', b"", "../../.."), entry(&format!("way/{marker}"), '0', b"x", "")];
    let [link, behind] = through;
    let hard = [entry("hard", '1', b"", "../../../../../../../../etc/hostname")];
    let [hard] = hard;
    for (n, entries) in
        [vec![climbing], vec![absolute], vec![link, behind], vec![hard]].into_iter().enumerate()
    {
        let tar = archive(&entries);
        let layer = Layer { bytes: gzip(&tar), ..Layer::new(&tar, Packing::Gzip) };
        let name = format!("escape{n}");
        Fixture::new(&name, vec![layer]).push(&place.server);
        // Some are refused, some end up inside; both are fine.
        let _ = pull(&images, &format!("example.com/{name}")).await;
    }
    let root = place.node.socket().parent().expect("a folder").to_owned();
    let found = std::process::Command::new("find").arg(root).args(["-name", &marker]).output().expect("find");
    let found = String::from_utf8(found.stdout).expect("paths");
    assert!(!found.is_empty(), "the absolute name is taken as one of the layer's");
    for path in found.lines() {
        let (_, inside) = path.split_once("/snapshots/").expect("in a snapshot");
        assert_eq!(inside.split('/').nth(1), Some("fs"), "{path}");
    }
    assert!(!std::path::Path::new("/").join(&marker).exists());
}

pub async fn a_silent_registry_is_given_up(place: Place) {
    let patience = Duration::from_millis(300);
    let images = place.images_with(ImageConfig { pull_progress_timeout: patience, ..ImageConfig::default() });
    let layer = Layer::of_file("file", &place.salt);
    place.server.fault(&layer.digest(), Fault::Silent);
    Fixture::new("silent", vec![layer.clone()]).push(&place.server);
    let error = pull(&images, "example.com/silent").await.expect_err("given up");
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    assert!(chain(&error).contains("no byte"), "{}", chain(&error));
    place.assert_nothing_is_left(&[layer.digest()], "a silent registry").await;

    // A registry that is away is told in the kubelet's own word.
    let nobody = cridge::registry::Registry::new(cridge::config::RegistryConfig {
        config_dirs: Vec::new(),
        headers: Default::default(),
    });
    let images = cridge::image::Images::new(ImageConfig::default(), place.containerd.clone(), nobody);
    let error = pull(&images, "127.0.0.1:9/away").await.expect_err("nobody is there");
    assert!(error.to_string().starts_with("RegistryUnavailable"), "{}", chain(&error));
    assert_eq!(error.kind(), Kind::Unavailable);
    let fine = Layer::of_file("file", &format!("fine {}", place.salt));
    Fixture::new("fine", vec![fine]).push(&place.server);
    pulled(&place.images(), "example.com/fine").await;
}
