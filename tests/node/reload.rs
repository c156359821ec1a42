//! A configuration that changes while cridge serves: all of it takes effect, or nothing.

use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;

use crate::cases;
use crate::harness::{Case, Node, NodeOptions, Test, until};
use crate::metrics::{figure, figures, telling_node};

pub fn cases() -> Vec<Case> {
    cases!["reload": ; cridge only:
        a_changed_file_takes_effect,
        a_hangup_has_the_file_read,
        a_wrong_file_changes_nothing,
        what_needs_a_restart_is_named,
        figures_move_to_another_place,
        the_log_tells_more_from_now_on,
    ]
}

const TAKEN: &str = "cridge_config_reloads_total{outcome=\"taken\"}";
const REFUSED: &str = "cridge_config_reloads_total{outcome=\"refused\"}";
const PENDING: &str = "cridge_config_restart_pending_keys";
/// A handler that works as runc does.
const HANDLER: &str = "\n[runtime.handlers.another]\n";

/// Changes the node's file; what it was before.
fn change(node: &Node, change: impl FnOnce(&mut String)) -> String {
    let file = node.dir.join("cridge.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut after = before.clone();
    change(&mut after);
    std::fs::write(file, after).unwrap();
    before
}

pub fn hang_up(node: &Node) {
    let pid = node.server_pid().and_then(|pid| Pid::from_raw(pid as i32)).expect("a server that runs");
    kill_process(pid, Signal::HUP).unwrap();
}

/// Waits until a figure is as expected.
async fn told(node: &Node, name: &str, expected: f64) {
    until(format!("{name} is {expected}"), || async {
        (figure(&figures(node).await, name) == expected).then_some(())
    })
    .await;
}

async fn runs_with(t: &Test, node: &Arc<Node>, handler: &str) -> Result<(), tonic::Status> {
    let mut pod = t.pod_on(node);
    pod.handler = handler.to_owned();
    pod.try_run().await.map(drop)
}

async fn a_changed_file_takes_effect(t: Test) {
    let node = telling_node(&t).await;
    let unknown = runs_with(&t, &node, "another").await.unwrap_err();
    assert!(unknown.message().contains("another"), "{unknown:?}");
    change(&node, |text| text.push_str(HANDLER));
    // Nobody says so: it is looked at.
    told(&node, TAKEN, 1.0).await;
    runs_with(&t, &node, "another").await.expect("the handler is known now");
    assert_eq!(figure(&figures(&node).await, PENDING), 0.0);
    let log = node.log_tail(1000);
    assert!(log.contains("in force now: runtime.handlers"), "{log}");
}

async fn a_hangup_has_the_file_read(t: Test) {
    let node = telling_node(&t).await;
    hang_up(&node);
    told(&node, TAKEN, 1.0).await;
    assert!(node.log_tail(1000).contains("read again: nothing changes"));
    let pod = t.pod_on(&node).run().await;
    // Its network is found where it is now.
    let moved = node.dir.join("cni/moved.d");
    std::fs::create_dir_all(&moved).unwrap();
    let was = node.dir.join("cni/net.d");
    for entry in std::fs::read_dir(&was).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, moved.join(path.file_name().unwrap())).unwrap();
    }
    let before =
        change(&node, |text| *text = text.replace(&was.display().to_string(), &moved.display().to_string()));
    hang_up(&node);
    told(&node, TAKEN, 2.0).await;
    std::fs::remove_dir_all(&was).unwrap();
    assert_eq!(node.ready().await, Some((true, true)));
    pod.stop().await;
    t.pod_on(&node).run().await;
    std::fs::rename(&moved, &was).unwrap();
    change(&node, |text| *text = before);
    hang_up(&node);
    told(&node, TAKEN, 3.0).await;
}

async fn a_wrong_file_changes_nothing(t: Test) {
    let node = telling_node(&t).await;
    let spec = t.folder().join("no-spec.json");
    std::fs::write(&spec, "nonsense").unwrap();
    let base = format!("{HANDLER}base_runtime_spec = \"{}\"\n", spec.display());
    let taken_place = format!("{HANDLER}[metrics]\nlisten = \"unix://{}\"\n", node.socket().display());
    for (refused, (wrong, why)) in [
        ("\nnonsense = [", "the configuration is wrong"),
        (
            "\n[image]\nmax_concurrent_downloads = 0\n[runtime.handlers.another]\n",
            "image.max_concurrent_downloads",
        ),
        // What only shows when it is tried.
        (base.as_str(), "is not an OCI spec"),
        (taken_place.as_str(), "something answers on"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = change(&node, |text| {
            if wrong.contains("[metrics]") {
                *text = text.split("[metrics]").next().unwrap().to_owned();
            }
            text.push_str(wrong);
        });
        hang_up(&node);
        told(&node, REFUSED, (refused + 1) as f64).await;
        let log = node.log_tail(1000);
        let line = log.lines().rev().find(|line| line.contains("the configuration stays as it is"));
        assert!(line.is_some_and(|line| line.contains(why)), "{wrong}: {line:?}");
        assert!(runs_with(&t, &node, "another").await.is_err(), "{wrong}: half of it is in force");
        runs_with(&t, &node, "").await.expect("all is as before");
        change(&node, |text| *text = before);
        hang_up(&node);
        told(&node, TAKEN, (refused + 1) as f64).await;
    }
}

async fn what_needs_a_restart_is_named(t: Test) {
    let node = telling_node(&t).await;
    let before = change(&node, |text| {
        text.push_str(&format!("\n[streaming]\nidle_timeout = \"7m\"\n{HANDLER}"));
    });
    hang_up(&node);
    told(&node, TAKEN, 1.0).await;
    assert_eq!(figure(&figures(&node).await, PENDING), 1.0);
    let log = node.log_tail(1000);
    assert!(log.contains("needs a restart: streaming.idle_timeout"), "{log}");
    runs_with(&t, &node, "another").await.expect("the rest is in force");
    change(&node, |text| *text = before);
    hang_up(&node);
    told(&node, PENDING, 0.0).await;
}

async fn figures_move_to_another_place(t: Test) {
    let node = telling_node(&t).await;
    change(&node, |text| *text = text.replace("metrics.sock", "elsewhere.sock"));
    hang_up(&node);
    let elsewhere = node.dir.join("elsewhere.sock");
    until("they are elsewhere", || async { UnixStream::connect(&elsewhere).await.ok().map(drop) }).await;
    let there = node.dir.join("metrics.sock");
    until("they are not where they were", || async { (!there.exists()).then_some(()) }).await;
    change(&node, |text| *text = text.split("[metrics]").next().unwrap().to_owned());
    hang_up(&node);
    until("they are nowhere", || async { (!elsewhere.exists()).then_some(()) }).await;
}

async fn the_log_tells_more_from_now_on(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    // The node's own has a flag, which beats the file.
    assert!(node.end(Signal::TERM).await.success());
    let level = |level: &str| {
        change(&node, |text| {
            *text = text.split("\n[log]").next().unwrap().to_owned();
            text.push_str(&format!("\n[log]\nlevel = \"{level}\"\n"));
        })
    };
    level("warn");
    let log = t.folder().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut cridge = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["serve", "--config"])
        .arg(node.dir.join("cridge.toml"))
        .stdin(Stdio::null())
        .stderr(file)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("it serves", || node.ready()).await;
    let lines = |wanted: &str| {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains(wanted)).count()
    };
    assert_eq!((lines("level=info"), lines("level=debug")), (0, 0));
    level("info,cridge::containerd=debug");
    let pid = Pid::from_raw(cridge.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until("the log tells of it", || async { (lines("in force now: log.level") == 1).then_some(()) }).await;
    node.runtime().status(k8s_cri::v1::StatusRequest { verbose: true }).await.unwrap();
    until("it tells more", || async { (lines("level=debug target=cridge::containerd") > 0).then_some(()) })
        .await;
    kill_process(pid, Signal::TERM).unwrap();
    assert!(cridge.wait().await.unwrap().success());
    node.start().await;
}
