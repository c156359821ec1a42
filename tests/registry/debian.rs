//! Against Debian's docker-registry.

use cridge::error::Kind;
use cridge::id::Digest;
use futures::TryStreamExt as _;

use crate::peers::{DockerRegistry, Doors, REPOSITORY, content};
use crate::{anonymous, reference, registry};

async fn bytes(blob: cridge::registry::Blob) -> Vec<u8> {
    blob.stream.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn an_anonymous_pull_over_plain_http() {
    let peer = DockerRegistry::start(&Doors::default());
    let (content, registry) = (content(), registry(&[]));
    let by_tag = reference(&format!("{}/{REPOSITORY}:v1", peer.address));

    let manifest = registry.manifest(&by_tag, &anonymous()).await.unwrap();
    assert_eq!(manifest.bytes, content.manifest);
    assert_eq!(manifest.digest, content.manifest_digest);
    assert_eq!(manifest.media_type, "application/vnd.oci.image.manifest.v1+json");

    let by_digest = by_tag.with_digest(&manifest.digest);
    assert_eq!(registry.manifest(&by_digest, &anonymous()).await.unwrap(), manifest);

    let blob = registry.blob(&by_tag, &content.blob_digest, 0, &anonymous()).await.unwrap();
    assert_eq!(blob.offset, 0);
    assert!(bytes(blob).await == content.blob);
}

#[tokio::test]
async fn a_blob_resumes_where_it_is_asked_to() {
    let peer = DockerRegistry::start(&Doors::default());
    let (content, registry) = (content(), registry(&[]));
    let image = reference(&format!("{}/{REPOSITORY}:v1", peer.address));
    let blob = registry.blob(&image, &content.blob_digest, 1_000_001, &anonymous()).await.unwrap();
    assert_eq!(blob.offset, 1_000_001);
    assert!(bytes(blob).await == content.blob[1_000_001..]);
    // From past its end it comes whole.
    let blob = registry.blob(&image, &content.blob_digest, 1 << 40, &anonymous()).await.unwrap();
    assert_eq!(blob.offset, 0);
    assert!(bytes(blob).await == content.blob);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_registrys_words() {
    let peer = DockerRegistry::start(&Doors::default());
    let registry = registry(&[]);
    content();
    let image = reference(&format!("{}/{REPOSITORY}:v2", peer.address));
    let error = registry.manifest(&image, &anonymous()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let base = format!("http://{}/v2/{REPOSITORY}", peer.address);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch the manifest of {image}: {base}/manifests/v2: 404 Not Found: \
             MANIFEST_UNKNOWN: manifest unknown"
        )
    );
    let nothing = Digest::of(b"nothing");
    let error = registry.blob(&image, &nothing, 0, &anonymous()).await.err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch blob {nothing} of {image}: {base}/blobs/{nothing}: 404 Not Found: \
             BLOB_UNKNOWN: blob unknown to registry"
        )
    );
}
