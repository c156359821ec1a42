//! Figures for Prometheus: what is told, by whose rules, and that it is what has happened.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use k8s_cri::v1 as cri;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::cases;
use crate::harness::{BUSYBOX, Case, Node, NodeOptions, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["metrics": ; cridge only:
        what_is_documented_is_told,
        what_happens_is_counted,
        a_lost_containerd_is_told,
        there_is_nothing_else,
    ]
}

/// A node that tells its figures on a socket.
pub async fn telling_node(t: &Test) -> Arc<Node> {
    let configure = |folder: &Path, config: &mut String| {
        config.push_str(&format!("\n[metrics]\nlisten = \"unix://{}/metrics.sock\"\n", folder.display()));
    };
    t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await
}

/// The answer to one request: its head and its body.
async fn ask(node: &Node, request: &str) -> (String, String) {
    let mut socket = UnixStream::connect(node.dir.join("metrics.sock")).await.expect("metrics are served");
    socket.write_all(format!("{request} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// All figures.
pub async fn figures(node: &Node) -> String {
    let (head, body) = ask(node, "GET /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    body
}

/// One figure, by its name and labels as they are written.
#[track_caller]
pub fn figure(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{page}"));
    value.parse().unwrap()
}

async fn what_is_documented_is_told(t: Test) {
    let node = telling_node(&t).await;
    let page = figures(&node).await;
    let told: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let documented: Vec<_> =
        rows.map(|(name, rest)| format!("{name} {}", rest.split(" | ").next().unwrap())).collect();
    assert_eq!(told, documented.iter().map(String::as_str).collect());

    let mut promtool = tokio::process::Command::new(t.node().tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be run");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).await.unwrap();
    let verdict = promtool.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&verdict.stderr);
    assert!(verdict.status.success() && text.trim().is_empty(), "{text}");
}

async fn what_happens_is_counted(t: Test) {
    let node = telling_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    let failing = pod.container("failing").shell("exit 3").start().await;
    failing.exited().await;
    let unknown = cri::ContainerStatusRequest { container_id: "nothing".into(), verbose: false };
    node.runtime().container_status(unknown).await.unwrap_err();
    // Its layers are here.
    node.pull(BUSYBOX).await;

    let page = figures(&node).await;
    let rpc = |call: &str, code: &str| {
        let service = if call == "PullImage" { "ImageService" } else { "RuntimeService" };
        format!("cridge_rpcs_total{{service=\"{service}\",method=\"{call}\",code=\"{code}\"}}")
    };
    let step = |operation: &str, step: &str| {
        format!("cridge_operation_step_duration_seconds_count{{operation=\"{operation}\",step=\"{step}\"}}")
    };
    let operation = |operation: &str, outcome: &str| {
        format!("cridge_operation_duration_seconds_count{{operation=\"{operation}\",outcome=\"{outcome}\"}}")
    };
    for (name, expected) in [
        (rpc("RunPodSandbox", "OK"), 1.0),
        (rpc("ContainerStatus", "NOT_FOUND"), 1.0),
        (rpc("PullImage", "OK"), 2.0),
        (operation("RunPodSandbox", "done"), 1.0),
        (operation("StartContainer", "done"), 1.0),
        (operation("PullImage", "done"), 2.0),
        (step("RunPodSandbox", "attach the network"), 1.0),
        (step("StartContainer", "create the task"), 1.0),
        ("cridge_pods{state=\"ready\"}".into(), 1.0),
        ("cridge_containers{state=\"exited\"}".into(), 1.0),
        ("cridge_container_exits_total{reason=\"Error\"}".into(), 1.0),
        ("cridge_image_pull_layers_total{source=\"registry\"}".into(), 1.0),
        ("cridge_image_pull_layers_total{source=\"node\"}".into(), 1.0),
        ("cridge_image_pulls_in_flight".into(), 0.0),
        ("cridge_image_downloads_in_flight".into(), 0.0),
        ("cridge_containerd_up".into(), 1.0),
        ("cridge_containerd_connects_total".into(), 1.0),
        ("cridge_event_subscribers".into(), 0.0),
    ] {
        assert_eq!(figure(&page, &name), expected, "{name}");
    }
    for name in ["cridge_image_pull_bytes_total", "cridge_events_total", "process_resident_memory_bytes"] {
        assert!(figure(&page, name) > 0.0, "{name}");
    }
    for name in ["node-tests", &pod.id, &failing.id, "busybox"] {
        assert!(!page.contains(name), "{name} must not be in\n{page}");
    }
}

async fn a_lost_containerd_is_told(t: Test) {
    let node = telling_node(&t).await;
    node.end_containerd(Signal::KILL).await;
    until("the loss is told", || async {
        (figure(&figures(&node).await, "cridge_containerd_up") == 0.0).then_some(())
    })
    .await;
    node.start_containerd();
    until("its return is told", || async {
        let page = figures(&node).await;
        let connects = figure(&page, "cridge_containerd_connects_total");
        (figure(&page, "cridge_containerd_up") == 1.0 && connects == 2.0).then_some(())
    })
    .await;
}

async fn there_is_nothing_else(t: Test) {
    let node = telling_node(&t).await;
    for (request, status) in [
        ("GET /", "404 "),
        ("GET /metrics/x", "404 "),
        ("POST /metrics", "404 "),
        ("DELETE /metrics", "405 "),
        ("nonsense", "400 "),
    ] {
        let (head, _) = ask(&node, request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
    }
    // Whoever says nothing keeps nobody from asking.
    let silent = UnixStream::connect(node.dir.join("metrics.sock")).await.unwrap();
    figures(&node).await;
    drop(silent);
    assert!(node.end(Signal::TERM).await.success());
    assert!(!node.dir.join("metrics.sock").exists(), "the socket goes with the daemon");
    node.start().await;
}
