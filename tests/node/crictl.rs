//! The field's own client, through a pod's whole life.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::cases;
use crate::harness::{Case, Node, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["crictl": a_pods_whole_life]
}

/// crictl, for the test's node. It ends with whoever holds it.
pub fn command(t: &Test, args: &[&str]) -> Command {
    command_on(t.node(), args)
}

/// The same, for any node.
fn command_on(node: &Node, args: &[&str]) -> Command {
    let mut command = Command::new(node.tool("crictl"));
    command
        .env("CRI_CONFIG_FILE", node.tool("crictl.yaml"))
        .arg("--runtime-endpoint")
        .arg(format!("unix://{}", node.socket().display()))
        .args(args)
        .kill_on_drop(true);
    command
}

/// Runs crictl on the test's node; what it printed.
async fn crictl(t: &Test, args: &[&str]) -> String {
    crictl_on(t.node(), args).await
}

/// Runs crictl on a node; what it printed.
pub async fn crictl_on(node: &Node, args: &[&str]) -> String {
    let output = command_on(node, args).output().await.expect("crictl can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "crictl {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn file(folder: &Path, name: &str, content: &Value) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

async fn a_pods_whole_life(t: Test) {
    const IMAGE: &str = "docker.io/library/busybox:1.36";
    let name = t.fresh_name("pod");
    let logs = t.folder().join("logs");
    let pod_file = file(
        t.folder(),
        "pod.json",
        &json!({
            "metadata": {"name": name, "namespace": "crictl", "uid": name, "attempt": 1},
            "labels": {"test": t.name()},
            "log_directory": logs,
            "linux": {},
        }),
    );
    let container_file = file(
        t.folder(),
        "container.json",
        &json!({
            "metadata": {"name": "app"},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", "trap 'exit 3' TERM; echo hello from crictl; while :; do sleep 0.1; done"],
            "log_path": "app.log",
            "linux": {},
        }),
    );
    crictl(&t, &["pull", IMAGE]).await;
    assert!(crictl(&t, &["images"]).await.contains("docker.io/library/busybox"));
    let pod = crictl(&t, &["runp", &pod_file]).await;
    let container = crictl(&t, &["create", &pod, &container_file, &pod_file]).await;
    assert_eq!(crictl(&t, &["start", &container]).await, container);

    let pods = parsed(&crictl(&t, &["pods", "-o", "json", "--id", &pod]).await);
    assert_eq!(pods["items"][0]["state"], "SANDBOX_READY");
    let listed = parsed(&crictl(&t, &["ps", "-o", "json", "--pod", &pod]).await);
    assert_eq!(listed["containers"][0]["id"], container.as_str());
    let told = parsed(&crictl(&t, &["inspect", &container]).await);
    assert_eq!(told["status"]["state"], "CONTAINER_RUNNING");
    assert!(told["info"]["pid"].as_u64().is_some_and(|pid| pid > 1), "{}", told["info"]);
    let told = parsed(&crictl(&t, &["inspectp", &pod]).await);
    assert!(told["status"]["network"]["ip"].as_str().unwrap().starts_with(&t.node().subnet));
    until("the log is written", || async {
        (crictl(&t, &["logs", &container]).await == "hello from crictl").then_some(())
    })
    .await;
    assert_eq!(crictl(&t, &["exec", "-s", &container, "echo", "said", "inside"]).await, "said inside");

    crictl(&t, &["stop", "--timeout", "30", &container]).await;
    let told = parsed(&crictl(&t, &["inspect", &container]).await);
    assert_eq!(
        (&told["status"]["state"], &told["status"]["exitCode"]),
        (&json!("CONTAINER_EXITED"), &json!(3))
    );
    crictl(&t, &["rm", &container]).await;
    crictl(&t, &["stopp", &pod]).await;
    crictl(&t, &["rmp", &pod]).await;
    assert_eq!(crictl(&t, &["pods", "-q", "--name", &name]).await, "");
}
