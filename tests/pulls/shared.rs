//! Pulls that meet, break off and go away.

use std::sync::Arc;

use cridge::error::{Kind, chain};
use cridge::id::Digest;
use cridge::image::PullRequest;
use cridge::proto::cri::AuthConfig;
use futures::future::join_all;
use tokio::sync::Semaphore;

use super::fixture::{Fixture, Layer};
use super::node::soon;
use super::registry::Fault;
use super::{Place, pull, pulled};

pub async fn pulls_at_once_download_once(place: Place) {
    let images = place.images();
    let shared = Layer::of_file("shared", &place.salt);
    let mut fixtures = Vec::new();
    for name in ["one", "two"] {
        let own = Layer::of_file(name, &place.salt);
        let fixture = Fixture::new(name, vec![shared.clone(), own]);
        let pushed = fixture.push(&place.server);
        fixtures.push((fixture, pushed));
    }
    let pulls = (0..8).map(|n| {
        let images = images.clone();
        async move { pulled(&images, &format!("example.com/{}", ["one", "two"][n % 2])).await }
    });
    let pulled = soon(join_all(pulls)).await;
    for (n, image) in pulled.iter().enumerate() {
        assert_eq!(image.id.as_str(), fixtures[n % 2].1.id());
    }
    for (fixture, pushed) in &fixtures {
        for digest in fixture.layers.iter().map(Layer::digest).chain([Digest::of(&pushed.config)]) {
            assert_eq!(place.server.asked(&digest), [0], "{digest}");
        }
    }
    // Held by no lease any more, and yet not collected.
    assert!(place.containerd.leases().await.expect("a list").is_empty());
    place.collect().await;
    assert_eq!(place.containerd.snapshots("overlayfs").await.expect("a list").len(), 3);
    for (fixture, _) in &fixtures {
        place.containerd.content_info(&fixture.layers[0].digest()).await.expect("there");
    }
}

pub async fn a_stream_that_breaks_is_resumed(place: Place) {
    let layer = Layer::of_file("file", &place.salt);
    assert!(layer.bytes.len() > 3000, "{}", layer.bytes.len());
    place.server.fault(&layer.digest(), Fault::Cut { answers: 1, at: 3000 });
    Fixture::new("resumed", vec![layer.clone()]).push(&place.server);
    let images = place.images();
    let image = pulled(&images, "example.com/resumed").await;
    assert_eq!(place.file(&image, "file").await.as_deref(), Some(place.salt.as_str()));
    assert_eq!(place.server.asked(&layer.digest()), [0, 3000]);

    // What an earlier process left is gone on with; what proves wrong is thrown away.
    for (name, left) in [("half", None), ("garbage", Some(vec![b'x'; 2000]))] {
        let layer = Layer::of_file("file", &format!("{name} {}", place.salt));
        Fixture::new(name, vec![layer.clone()]).push(&place.server);
        let (digest, size) = (layer.digest(), layer.bytes.len() as u64);
        let written = left.clone().unwrap_or(layer.bytes[..2000].to_vec());
        let leased = place.leased().await;
        let mut writer =
            leased.write_content(&format!("layer-{digest}"), &digest, size).await.expect("a writer");
        writer.write(written.into()).await.expect("written");
        soon(async { while place.containerd.ingests(&[]).await.expect("a list")[0].offset < 2000 {} }).await;
        drop(writer);
        pulled(&images, &format!("example.com/{name}")).await;
        let asked = place.server.asked(&digest);
        assert_eq!(asked, if left.is_some() { vec![2000, 0] } else { vec![2000] }, "{name}");
    }
}

pub async fn another_pulls_credentials_are_not_ours(place: Place) {
    let images = place.images();
    let layer = Layer::of_file("file", &place.salt);
    let released = Arc::new(Semaphore::new(0));
    place.server.fault(&layer.digest(), Fault::Held(released.clone()));
    Fixture::new("private", vec![layer.clone()]).push(&place.server);
    // "us:secret"
    place.server.lock("private", "dXM6c2VjcmV0");
    let auth = AuthConfig { username: "us".into(), password: "secret".into(), ..Default::default() };
    let ours = tokio::spawn({
        let images = images.clone();
        async move {
            let request =
                PullRequest { reference: "example.com/private", auth: Some(&auth), snapshotter: None };
            images.pull(request).await.map_err(|error| chain(&error))
        }
    });
    soon(async {
        while place.server.asked(&layer.digest()).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let wrong = AuthConfig { username: "them".into(), password: "guessed".into(), ..Default::default() };
    for auth in [None, Some(&wrong)] {
        let request = PullRequest { reference: "example.com/private", auth, snapshotter: None };
        let error = images.pull(request).await.expect_err("not theirs");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(!chain(&error).contains("guessed"), "{}", chain(&error));
    }
    released.close();
    soon(ours).await.expect("it runs").expect("pulled");
    // It is here, and still not theirs.
    pull(&images, "example.com/private").await.expect_err("not theirs");
}

pub async fn a_cancelled_pull_stops_only_what_nobody_waits_for(place: Place) {
    let images = place.images();
    let layer = Layer::of_file("file", &place.salt);
    let released = Arc::new(Semaphore::new(0));
    place.server.fault(&layer.digest(), Fault::Held(released.clone()));
    let pushed = Fixture::new("waited-for", vec![layer.clone()]).push(&place.server);
    let start = || {
        let images = images.clone();
        tokio::spawn(
            async move { pull(&images, "example.com/waited-for").await.map_err(|error| chain(&error)) },
        )
    };
    let asked = |times: usize| {
        let (server, digest) = (&place.server, layer.digest());
        async move {
            while server.asked(&digest).len() < times {
                tokio::task::yield_now().await;
            }
        }
    };
    let leases = |count: usize| {
        let containerd = place.containerd.clone();
        async move { while containerd.leases().await.expect("a list").len() != count {} }
    };
    // Nobody else waits: all of it goes.
    let only = start();
    soon(asked(1)).await;
    only.abort();
    soon(leases(0)).await;
    // The lease goes first, what it held right after.
    soon(async { while !place.containerd.ingests(&[]).await.expect("a list").is_empty() {} }).await;
    let blobs = [layer.digest(), Digest::of(&pushed.config), Digest::of(&pushed.manifest)];
    place.assert_nothing_is_left(&blobs, "a cancelled pull").await;

    // Somebody does: the download that the cancelled one began goes on, or begins anew.
    let first = start();
    soon(asked(2)).await;
    let second = start();
    soon(leases(2)).await;
    first.abort();
    assert!(first.await.expect_err("cancelled").is_cancelled());
    released.close();
    soon(second).await.expect("it runs").expect("pulled");
    soon(leases(0)).await;
}
