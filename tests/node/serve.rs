//! The daemon as a service: its socket, what it tells systemd, and what it refuses to run beside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;

use crate::cases;
use crate::harness::{Case, NodeOptions, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["serve": ; cridge only:
        only_its_group_may_speak_to_it,
        systemd_is_told_of_its_start_its_life_and_its_end,
        it_does_not_run_beside_the_built_in_plugin,
        labels_that_the_node_cannot_give_are_told_at_the_start,
        what_an_operation_logs_says_whose_pod_it_is_about,
    ]
}

async fn only_its_group_may_speak_to_it(t: Test) {
    let mode = std::fs::metadata(t.node().socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

async fn systemd_is_told_of_its_start_its_life_and_its_end(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    assert!(node.end(Signal::TERM).await.success());
    let path = node.dir.join("notify.sock");
    let told = UnixDatagram::bind(&path).unwrap();
    let next = async || {
        let mut text = [0; 256];
        let length = tokio::time::timeout(Duration::from_secs(60), told.recv(&mut text));
        let length = length.await.expect("systemd is told something").unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    let mut cridge = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["serve", "--config"])
        .arg(node.dir.join("cridge.toml"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    assert_eq!(next().await, "READY=1");
    assert_eq!(next().await, "WATCHDOG=1");
    assert_eq!(next().await, "WATCHDOG=1");
    assert_eq!(node.ready().await, Some((true, true)));
    let pid = Pid::from_raw(cridge.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    until("systemd is told of the end", || async { (next().await == "STOPPING=1").then_some(()) }).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), cridge.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
    node.start().await;
}

async fn labels_that_the_node_cannot_give_are_told_at_the_start(t: Test) {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return;
    }
    let config = t.folder().join("cridge.toml");
    std::fs::write(&config, "[runtime]\nenable_selinux = true\n").unwrap();
    let mut serve = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"));
    let output = serve.args(["serve", "--config"]).arg(config).stdin(Stdio::null()).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("runtime.enable_selinux") && text.contains("runs without SELinux"), "{text}");
}

async fn what_an_operation_logs_says_whose_pod_it_is_about(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    app.stop(0).await;
    let lines = t.node().log_of(&[pod.id.clone(), app.id.clone()]);
    let name = &pod.config.metadata.as_ref().unwrap().name;
    let of_pod = format!(" pod=node-tests/{name} pod_id={}", pod.id);
    let of_container = format!("{of_pod} container_name=app container_id={}", app.id);
    for (operation, about) in [
        ("RunPodSandbox", &of_pod),
        ("CreateContainer", &of_container),
        ("StartContainer", &of_container),
        ("StopContainer", &of_container),
    ] {
        let of_it: Vec<_> = lines.iter().filter(|line| line.contains(&format!(" op={operation} "))).collect();
        assert!(!of_it.is_empty(), "nothing is logged of {operation}");
        for line in of_it {
            assert!(line.contains(about.as_str()), "{operation}: {line}");
        }
    }
}

async fn it_does_not_run_beside_the_built_in_plugin(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    assert!(node.end(Signal::TERM).await.success());
    node.end_containerd(Signal::TERM).await;
    node.start_containerd_with_plugin();
    let serve = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["serve", "--config"])
        .arg(node.dir.join("cridge.toml"))
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), serve).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("io.containerd.grpc.v1.cri") && text.contains("disabled_plugins"), "{text}");
    assert!(!node.socket().exists(), "it must not have begun to serve");
    node.end_containerd(Signal::TERM).await;
    node.start_containerd();
    node.start().await;
}
