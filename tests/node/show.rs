//! `cridge pulls`, `images` and `top`: what an operator sees of a node.

use serde_json::Value;

use crate::cases;
use crate::harness::{BUSYBOX, Case, Node, NodeOptions, Test, on_cridge, until};

pub fn cases() -> Vec<Case> {
    cases!["show": what_pods_use_is_shown, images_are_shown; cridge only: a_pull_says_how_far_it_is]
}

/// A command of cridge's against the node.
async fn cridge(node: &Node, command: &str, flags: &[&str]) -> String {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args([command, "--endpoint", &format!("unix://{}", node.socket().display())])
        .args(flags)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cridge {command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

async fn json(node: &Node, command: &str) -> Vec<Value> {
    serde_json::from_str(&cridge(node, command, &["-o", "json"]).await).unwrap()
}

async fn what_pods_use_is_shown(t: Test) {
    let pod = t.pod().run().await;
    let busy = pod.container("busy").shell("while :; do :; done").start().await;
    let of_pod = async || json(t.node(), "top").await.into_iter().find(|row| row["id"] == pod.id.as_str());
    let row = until("its use is known", || async {
        let row = of_pod().await?;
        // A rate comes of two readings.
        row["containers"][0]["cpuNanoCores"].as_u64().filter(|nanos| *nanos > 1_000_000)?;
        Some(row)
    })
    .await;
    assert_eq!((&row["state"], &row["containers"][0]["name"]), (&"ready".into(), &"busy".into()), "{row}");
    assert!(row["containers"][0]["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{row}");
    let table = cridge(t.node(), "top", &[]).await;
    let name = row["name"].as_str().unwrap();
    let lines: Vec<_> = table.lines().filter(|line| line.contains(name)).collect();
    assert_eq!(lines.len(), 2, "a line for the pod and one for the container: {table}");
    assert!(lines[1].split_whitespace().any(|word| word == "busy"), "{table}");
    assert!(!table.contains('\x1b'), "no colour where nobody looks on: {table:?}");
    busy.stop(0).await;
}

async fn images_are_shown(t: Test) {
    let id = t.node().pull(BUSYBOX).await;
    let images = json(t.node(), "images").await;
    let image = images.iter().find(|image| image["id"] == id.as_str()).expect("the image is shown");
    assert!(image["repoTags"].as_array().unwrap().contains(&BUSYBOX.into()), "{image}");
    let table = cridge(t.node(), "images", &[]).await;
    let line = table.lines().find(|line| line.starts_with(BUSYBOX)).expect("a line of the image");
    assert!(line.contains(&id.rsplit(':').next().unwrap()[..13]), "{table}");
    if !on_cridge() {
        assert_eq!(cridge(t.node(), "pulls", &["-o", "json"]).await.trim(), "[]");
    }
}

async fn a_pull_says_how_far_it_is(t: Test) {
    const UNPACK: &str = "PullImage/unpack a layer";
    let node = t.own_node(NodeOptions { bare: true, points: true, ..Default::default() }).await;
    assert_eq!(cridge(&node, "pulls", &["-o", "json"]).await.trim(), "[]");
    node.points().hold_at(UNPACK);
    let pulling = tokio::spawn({
        let node = node.clone();
        async move { node.pull(BUSYBOX).await }
    });
    node.points().reached(UNPACK).await;
    let pulls = json(&node, "pulls").await;
    assert_eq!(pulls.len(), 1, "{pulls:?}");
    let pull = &pulls[0];
    assert_eq!(
        (&pull["image"], &pull["stage"]),
        (&BUSYBOX.into(), &"fetch and unpack layers".into()),
        "{pull}"
    );
    // All of it is here, and none of it unpacked.
    assert!(pull["totalBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{pull}");
    assert_eq!(
        (&pull["bytes"], &pull["layers"][0]["stage"]),
        (&pull["totalBytes"], &"fetched".into()),
        "{pull}"
    );
    let table = cridge(&node, "pulls", &[]).await;
    assert!(table.contains(BUSYBOX) && table.contains(" 0/1 "), "{table}");
    let images = cridge(&node, "images", &[]).await;
    assert!(
        images.lines().any(|line| line.starts_with(BUSYBOX) && line.contains("pulling, 100%")),
        "{images}"
    );
    node.points().disarm();
    pulling.await.unwrap();
    assert_eq!(cridge(&node, "pulls", &["-o", "json"]).await.trim(), "[]");
    let images = cridge(&node, "images", &[]).await;
    assert!(!images.contains("pulling"), "{images}");
}
