use super::manifest::{self, Document, ImageConfiguration, chain_ids};
use super::platform::Platforms;
use crate::fuzz::fuzz;
use crate::id::Digest;

fn check(digest: &Digest) {
    assert!(digest.as_str().starts_with("sha256:") && crate::id::is_id(digest.hex()), "{digest}");
}

#[test]
fn no_manifest_does_harm() {
    let platforms = Platforms::host();
    fuzz("manifest", |input, _| match Document::parse(manifest::OCI_MANIFEST, input) {
        Ok(Document::Index(index)) => {
            let candidates = index.candidates(&platforms);
            assert!(candidates.len() <= index.manifests.len());
            candidates.iter().for_each(|child| check(&child.descriptor.digest));
        }
        Ok(Document::Manifest(manifest)) => {
            check(&manifest.config.digest);
            manifest.layers.iter().for_each(|layer| check(&layer.descriptor.digest));
        }
        Err(flaw) => assert!(flaw.to_string().len() < 4096),
    });
}

#[test]
fn no_config_does_harm() {
    fuzz("image-config", |input, _| {
        let Ok(configuration) = ImageConfiguration::parse(input) else { return };
        configuration.diff_ids.iter().for_each(check);
        assert_eq!(chain_ids(&configuration.diff_ids).len(), configuration.diff_ids.len());
    });
}
