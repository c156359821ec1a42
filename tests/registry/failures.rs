//! Servers that are busy, broken or lying.

use cridge::error::Kind;
use cridge::id::Digest;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::scripted::{Reply, Scripted};
use crate::{MANIFEST, anonymous, manifest, reference, registry};

fn image(peer: &Scripted) -> String {
    format!("{}/a:v1", peer.address)
}

async fn manifest_of(peer: &Scripted) -> Result<cridge::registry::Manifest, cridge::registry::RegistryError> {
    registry(&[]).manifest(&reference(&image(peer)), &anonymous()).await
}

/// The text of a failure at this peer's only host.
fn failed(peer: &Scripted, cause: &str) -> String {
    format!("cannot fetch the manifest of {}: {}/v2/a/manifests/v1: {cause}", image(peer), peer.url())
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    for status in [408, 429, 500, 502, 503, 504] {
        let peer = Scripted::start(move |_, before| match before {
            0 => Reply::new(status, "").with("Retry-After", "0"),
            1 => Reply::new(200, "{").promising(9),
            _ => manifest(),
        })
        .await;
        assert_eq!(manifest_of(&peer).await.unwrap().bytes, MANIFEST, "{status}");
        assert_eq!(peer.seen().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn what_stays_is_told_of_after_five_attempts() {
    let peer = Scripted::start(|_, _| {
        Reply::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
            .with("Retry-After", "0")
    })
    .await;
    let error = manifest_of(&peer).await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(
        error.to_string(),
        failed(&peer, "5 attempts, the last: 429 Too Many Requests: TOOMANYREQUESTS: slow down")
    );
    assert_eq!(peer.seen().len(), 5);
}

#[tokio::test]
async fn what_asks_for_an_hour_is_left_alone() {
    let peer = Scripted::start(|_, _| Reply::new(429, "").with("Retry-After", "3600")).await;
    let error = manifest_of(&peer).await.unwrap_err();
    assert_eq!(error.to_string(), failed(&peer, "429 Too Many Requests; it asks to wait for 1h"));
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn what_cannot_pass_is_asked_once() {
    for (status, text, kind) in [
        (400, "400 Bad Request: no", Kind::FailedPrecondition),
        (404, "404 Not Found: no", Kind::NotFound),
        (501, "501 Not Implemented: no", Kind::Unavailable),
    ] {
        let peer = Scripted::start(move |_, _| Reply::new(status, "no")).await;
        let error = manifest_of(&peer).await.unwrap_err();
        assert_eq!((error.to_string(), error.kind()), (failed(&peer, text), kind));
        assert_eq!(peer.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unavailable() {
    let peer = Scripted::start(|_, _| manifest()).await;
    let (address, image) = (peer.address, image(&peer));
    drop(peer);
    let error = registry(&[]).manifest(&reference(&image), &anonymous()).await.unwrap_err();
    assert!(error.is_unavailable());
    let start = format!(
        "cannot fetch the manifest of {image}: http://{address}/v2/a/manifests/v1: 5 attempts, the last: the request failed: "
    );
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
}

#[tokio::test]
async fn a_manifest_has_a_bound() {
    const LIMIT: usize = 4 << 20;
    let big = format!("{MANIFEST}{}", " ".repeat(LIMIT));
    let told = Scripted::start({
        let big = big.clone();
        move |_, _| Reply::new(200, big.clone())
    });
    let untold = Scripted::start(move |_, _| Reply::new(200, big.clone()).untold());
    for peer in [told.await, untold.await] {
        let error = manifest_of(&peer).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
        assert_eq!(error.to_string(), failed(&peer, "the manifest is larger than 4194304 bytes"));
        assert_eq!(peer.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says() {
    let asked = Digest::of(b"something else");
    let peer = Scripted::start(|_, _| manifest()).await;
    let image = reference(&image(&peer)).with_digest(&asked);
    let error = registry(&[]).manifest(&image, &anonymous()).await.unwrap_err();
    let got = Digest::of(MANIFEST.as_bytes());
    let wrong = format!("what came has the digest {got} where {asked} was asked for or announced");
    let url = format!("{}/v2/a/manifests/{asked}", peer.url());
    assert_eq!(error.to_string(), format!("cannot fetch the manifest of {image}: {url}: {wrong}"));
    assert_eq!(error.kind(), Kind::FailedPrecondition);

    let announced = asked.to_string();
    let lying =
        Scripted::start(move |_, _| manifest().with("Docker-Content-Digest", announced.clone())).await;
    assert_eq!(manifest_of(&lying).await.unwrap_err().to_string(), failed(&lying, &wrong));

    let sha512 = "b5c2e1fbe4b4f4f34a9a8b0a5a4b7c0f";
    let odd = Scripted::start(move |_, _| manifest().with("Docker-Content-Digest", sha512)).await;
    assert_eq!(manifest_of(&odd).await.unwrap().digest, got, "what is no digest announces none");
}

#[tokio::test]
async fn a_sha512_reference_is_checked_and_kept() {
    use sha2::Digest as _;
    let digest = Digest::new(format!("sha512:{}", hex::encode(sha2::Sha512::digest(MANIFEST))));
    let peer = Scripted::start(|_, _| manifest()).await;
    let image = reference(&image(&peer)).with_digest(&digest);
    assert_eq!(registry(&[]).manifest(&image, &anonymous()).await.unwrap().digest, digest);
    let other = Digest::new(format!("sha512:{}", "0".repeat(128)));
    registry(&[]).manifest(&image.with_digest(&other), &anonymous()).await.unwrap_err();
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    for (body, cause) in [
        ("<html>", "the answer cannot be used: it is no manifest, as it is not a JSON object"),
        ("{}", "the answer cannot be used: its media type is nowhere said"),
    ] {
        let peer = Scripted::start(move |_, _| Reply::new(200, body)).await;
        assert_eq!(manifest_of(&peer).await.unwrap_err().to_string(), failed(&peer, cause));
    }
}

#[tokio::test]
async fn a_blob_that_breaks_off_says_where() {
    let peer = Scripted::start(|request, _| match request.header("range") {
        None => Reply::new(200, "01234").promising(10),
        Some(range) => {
            assert_eq!(range, "bytes=5-");
            Reply::new(206, "56789").with("Content-Range", "bytes 5-9/10")
        }
    })
    .await;
    let (registry, image, digest) = (registry(&[]), reference(&image(&peer)), Digest::of(b"0123456789"));
    let mut blob = registry.blob(&image, &digest, 0, &anonymous()).await.unwrap();
    let mut read = Vec::new();
    let error = loop {
        match blob.stream.next().await.expect("an error ends it") {
            Ok(bytes) => read.extend_from_slice(&bytes),
            Err(error) => break error,
        }
    };
    assert_eq!((read.as_slice(), error.kind()), (&b"01234"[..], Kind::Unavailable));
    assert_eq!(error.to_string(), format!("{}/v2/a/blobs/{digest} broke off at byte 5", peer.url()));
    let rest = registry.blob(&image, &digest, 5, &anonymous()).await.unwrap();
    assert_eq!(rest.offset, 5);
    assert_eq!(rest.stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"56789");
}

#[tokio::test]
async fn ranges_may_be_ignored_but_not_mistaken() {
    let digest = Digest::of(b"0123456789");
    let ignores = Scripted::start(|_, _| Reply::new(200, "0123456789")).await;
    let blob = registry(&[]).blob(&reference(&image(&ignores)), &digest, 5, &anonymous()).await.unwrap();
    assert_eq!(blob.offset, 0);
    assert_eq!(blob.stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"0123456789");

    for range in ["bytes 4-9/10", "5-9", "bytes */10", ""] {
        let mistakes =
            Scripted::start(move |_, _| Reply::new(206, "456789").with("Content-Range", range)).await;
        let error = registry(&[]).blob(&reference(&image(&mistakes)), &digest, 5, &anonymous()).await.err();
        let error = error.expect(range).to_string();
        assert!(error.ends_with("it is another part of the blob than was asked for"), "{error}");
    }
}

#[tokio::test]
async fn a_hostile_digest_asks_nobody() {
    let peer = Scripted::start(|_, _| manifest()).await;
    let image = reference(&image(&peer));
    let error =
        registry(&[]).blob(&image, &Digest::new("sha256:../../x"), 0, &anonymous()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the manifest of {image} names a blob \"sha256:../../x\": \
             its digest has not the length or letters of its algorithm"
        )
    );
    assert!(peer.seen().is_empty());
}

#[tokio::test]
async fn redirects_end() {
    let peer = Scripted::start(|_, _| Reply::new(302, "").with("Location", "/again")).await;
    let error = manifest_of(&peer).await.unwrap_err().to_string();
    assert_eq!(error, failed(&peer, "the answer cannot be used: it leads through more than 10 redirects"));
    assert_eq!(peer.seen().len(), 11);
    for nowhere in ["ftp://a/b", "http://"] {
        let peer = Scripted::start(move |_, _| Reply::new(302, "").with("Location", nowhere)).await;
        let error = manifest_of(&peer).await.unwrap_err().to_string();
        assert_eq!(error, failed(&peer, "the answer cannot be used: it is a redirect to nowhere"));
    }
}
