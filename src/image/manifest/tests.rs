use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn layer(media_type: &str) -> Value {
    json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": {"mediaType": "c", "digest": A, "size": 2},
        "layers": [{"mediaType": media_type, "digest": B, "size": 3}]})
}

fn parse(document: &Value) -> Result<Document, Flaw> {
    Document::parse("application/json", document.to_string().as_bytes())
}

#[test]
fn layers_of_every_packing_are_known() {
    for (media_type, packing) in [
        ("application/vnd.oci.image.layer.v1.tar", Compression::None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
        ("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::Zstd),
    ] {
        let Ok(Document::Manifest(manifest)) = parse(&layer(media_type)) else { panic!("{media_type}") };
        assert_eq!(manifest.layers[0].compression, packing);
        assert_eq!(manifest.media_type, DOCKER_MANIFEST);
    }
}

#[test]
fn layers_that_cannot_be_had_are_named() {
    let flaw = |media_type| parse(&layer(media_type)).expect_err("refused");
    let foreign = flaw("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    assert!(matches!(foreign, Flaw::Foreign { .. }) && foreign.to_string().contains(B));
    assert!(matches!(
        flaw("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        Flaw::Foreign { .. }
    ));
    assert!(matches!(flaw("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), Flaw::Encrypted { .. }));
    assert!(matches!(flaw("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), Flaw::LayerType { .. }));
}

#[test]
fn a_document_is_one_thing_only() {
    let both = json!({"schemaVersion": 2, "manifests": [], "config": {"digest": A, "size": 1}, "layers": []});
    assert!(matches!(parse(&both), Err(Flaw::Malformed { .. })));
    let disguised = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []});
    assert!(matches!(parse(&disguised), Err(Flaw::Malformed { .. })));
    let neither = json!({"schemaVersion": 2});
    assert!(matches!(parse(&neither), Err(Flaw::MediaType { .. })));
}

#[test]
fn schema_1_is_told_as_what_it_is() {
    assert_eq!(
        parse(&json!({"schemaVersion": 1, "fsLayers": [], "history": []})).expect_err("refused"),
        Flaw::Schema1
    );
}

#[test]
fn a_document_without_a_type_is_known_by_its_shape() {
    let index = parse(&json!({"schemaVersion": 2, "manifests": []})).expect("an index");
    assert_eq!(index.media_type(), OCI_INDEX);
    let mut manifest = layer(OCI_LAYER);
    manifest.as_object_mut().expect("an object").remove("mediaType");
    assert_eq!(parse(&manifest).expect("a manifest").media_type(), OCI_MANIFEST);
}

#[test]
fn only_sha256_is_taken() {
    let mut manifest = layer(OCI_LAYER);
    manifest["config"]["digest"] = json!(format!("sha512:{}", "a".repeat(128)));
    assert!(matches!(parse(&manifest), Err(Flaw::Algorithm { .. })));
    for wrong in ["", "sha256:", "sha256:abc", "sha256:../../etc", &A.to_uppercase(), "md5:0"] {
        manifest["config"]["digest"] = json!(wrong);
        assert!(matches!(parse(&manifest), Err(Flaw::Malformed { .. })), "{wrong}");
    }
    manifest["config"]["digest"] = json!(A);
    manifest["config"]["size"] = json!(-1);
    assert!(matches!(parse(&manifest), Err(Flaw::Malformed { .. })));
}

#[test]
fn the_best_platform_comes_first_and_the_unnamed_last() {
    let own = Platforms::host().best().architecture.clone();
    let entry = |digest: &str, platform: Value| json!({"digest": digest, "size": 1, "platform": platform});
    let document = json!({"manifests": [
        entry(A, Value::Null),
        entry(A, json!({"os": "windows", "architecture": own})),
        entry(B, json!({"os": "linux", "architecture": own, "os.version": "1"})),
        entry(A, json!({"os": "unknown", "architecture": "unknown"})),
    ]});
    let Ok(Document::Index(index)) = parse(&document) else { panic!("not an index") };
    let candidates = index.candidates(&Platforms::host());
    let digests: Vec<_> = candidates.iter().map(|child| child.descriptor.digest.as_str()).collect();
    assert_eq!(digests, [B, A]);
}

#[test]
fn chain_ids_are_those_of_the_specification() {
    let diff_ids = [Digest::new(A), Digest::new(B)];
    let chain = chain_ids(&diff_ids);
    assert_eq!(chain[0].as_str(), A);
    assert_eq!(chain[1].as_str(), Digest::of(format!("{A} {B}").as_bytes()).as_str());
    // What sha256sum says of the same line.
    assert_eq!(chain[1].as_str(), "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c");
    assert!(chain_ids(&[]).is_empty());
}

#[test]
fn a_config_as_docker_writes_it() {
    let config = json!({
        "architecture": "amd64", "os": "linux", "container": "x", "docker_version": "20.10",
        "config": {"User": "", "Env": ["A=b"], "Cmd": null, "Entrypoint": ["/e"], "ExposedPorts": {"80/tcp": {}},
            "Volumes": null, "Labels": null, "OnBuild": null, "ArgsEscaped": true, "StopSignal": "SIGQUIT"},
        "rootfs": {"type": "layers", "diff_ids": [A]}, "history": [{"empty_layer": true}],
    });
    let parsed = ImageConfiguration::parse(config.to_string().as_bytes()).expect("a config");
    assert_eq!(parsed.platform.to_string(), "linux/amd64");
    assert_eq!(parsed.diff_ids, [Digest::new(A)]);
    assert_eq!(parsed.config.entrypoint().as_deref(), Some(&["/e".to_owned()][..]));
    assert_eq!(parsed.config.stop_signal().as_deref(), Some("SIGQUIT"));
}

#[test]
fn an_artifact_is_no_image() {
    assert!(ImageConfiguration::parse(b"{}").is_err());
    let config = json!({"rootfs": {"type": "windows-layers", "diff_ids": []}});
    assert!(ImageConfiguration::parse(config.to_string().as_bytes()).is_err());
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(media_type in ".{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Document::parse(&media_type, &bytes);
        let _ = ImageConfiguration::parse(&bytes);
    }

    #[test]
    fn no_digest_or_size_makes_it_panic(text in ".{0,80}", size in any::<i128>(), media_type in "[a-z/.+]{0,80}") {
        let mut manifest = layer(&media_type);
        manifest["layers"][0]["digest"] = json!(text);
        let manifest = manifest.to_string().replace("\"size\":3", &format!("\"size\":{size}"));
        let _ = Document::parse("", manifest.as_bytes());
    }
}

#[test]
fn of_a_long_text_little_is_repeated() {
    let long = "x".repeat(1 << 20);
    let config = json!({"rootfs": {"type": long}}).to_string();
    let flaws = [
        parse(&json!({"mediaType": long})).expect_err("no kind"),
        parse(&json!({"schemaVersion": long})).expect_err("no number"),
        parse(&json!({"config": {"digest": long, "size": 1}})).expect_err("no digest"),
        parse(&layer(&long)).expect_err("no layer"),
        parse(&layer(&format!("{long}nondistributable"))).expect_err("elsewhere"),
        parse(&layer(&format!("{long}+encrypted"))).expect_err("encrypted"),
        ImageConfiguration::parse(config.as_bytes()).expect_err("no layers"),
    ];
    for flaw in flaws {
        assert!(flaw.to_string().len() < 1000, "{} bytes", flaw.to_string().len());
    }
}
