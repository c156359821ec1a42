//! CNI plugins that do what they should not, and networks that go away: told in words that help, and nothing is left of
//! the attempt. A plugin that hangs holds up its own pod alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1 as cri;
use tonic::Code;

use crate::cases;
use crate::errors::{listed, refused};
use crate::harness::{Case, Node, NodeOptions, PodBuilder, Test, until};
use crate::hung::all_else_works;

pub fn cases() -> Vec<Case> {
    cases!["cni": ; cridge only:
        a_failing_network_leaves_nothing,
        a_hanging_network_is_ended,
        a_hanging_network_blocks_nobody_else,
        a_plugin_that_cannot_say_whether_it_is_ready_is_told,
        nonsense_for_an_answer_leaves_nothing,
        nonsense_at_the_end_does_not_matter,
        a_network_that_cannot_be_taken_down_keeps_the_pod,
        a_network_without_configuration_is_told_and_comes_back,
        a_network_without_its_folder_is_told_and_comes_back,
        a_network_without_its_plugin_is_told_and_comes_back,
        a_namespace_that_was_unmounted_is_no_network,
    ]
}

/// A CNI plugin that does as `stub/mode` says, or `stub/mode-POD` for a pod, and notes its calls in `stub/calls`.
const STUB: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$CNI_COMMAND $CNI_CONTAINERID" >>"$here/calls"
cat >/dev/null
pod=${CNI_ARGS##*K8S_POD_NAME=}
file=$here/mode-${pod%%;*}
[ -e "$file" ] || file=$here/mode
mode=$(cat "$file")
while [ "$mode" = wait ]; do sleep 0.05; mode=$(cat "$file"); done
answer() {
    echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}],
        "ips": [{"address": "10.1.2.3/24", "interface": 0}]}'
}
case "$CNI_COMMAND $mode" in
    "VERSION "*) echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}' ;;
    "ADD fail" | "DEL keep") echo '{"cniVersion": "1.0.0", "code": 999, "msg": "the cable is cut"}'; exit 1 ;;
    "ADD hang") sleep 98765 & sleep 98765 ;;
    "STATUS mute") sleep 98765 ;;
    "ADD crash") echo '{"cniVersion": "1.0.0", "ips": ['; kill -SEGV $$ ;;
    "ADD babble") echo 'Segmentation fault (core dumped)' ;;
    "ADD twice") answer; answer ;;
    "DEL babble") echo 'no JSON at all' ;;
    "ADD "*) answer ;;
esac
"#;

/// Has a node's pods have the stub's network.
pub fn stub_network(dir: &Path, config: &mut String) {
    let stub = dir.join("stub");
    fs::create_dir(&stub).unwrap();
    fs::write(stub.join("stub"), STUB).unwrap();
    fs::set_permissions(stub.join("stub"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(stub.join("mode"), "ok").unwrap();
    let list = r#"{"cniVersion": "1.0.0", "name": "stub", "plugins": [{"type": "stub"}]}"#;
    fs::write(dir.join("cni/net.d/00-stub.conflist"), list).unwrap();
    *config = config.replace("bin_dirs = [", &format!("bin_dirs = [\"{}\", ", stub.display()));
}

/// Such a node, with little patience.
async fn stub_node(t: &Test) -> Arc<Node> {
    let options = NodeOptions { configure: Some(impatient_stub_network), bare: true, ..Default::default() };
    t.own_node(options).await
}

fn impatient_stub_network(dir: &Path, config: &mut String) {
    stub_network(dir, config);
    *config = config.replace("[network]\n", "[network]\nplugin_timeout = \"2s\"\n");
}

/// What the stub does from now on: `wait` until it is told otherwise, among others.
pub fn set_mode(node: &Node, mode: &str) {
    fs::write(node.dir.join("stub/mode"), mode).unwrap();
}

fn calls(node: &Node, command: &str) -> usize {
    let calls = fs::read_to_string(node.dir.join("stub/calls")).unwrap_or_default();
    calls.lines().filter(|line| line.starts_with(command)).count()
}

/// What the stub does for one pod.
fn set_mode_of(node: &Node, pod: &PodBuilder, mode: &str) {
    let name = &pod.config.metadata.as_ref().unwrap().name;
    fs::write(node.dir.join(format!("stub/mode-{name}")), mode).unwrap();
}

/// What the server says of a network that is not ready.
async fn why_not_ready(node: &Node) -> String {
    until("the network is not ready", || async {
        let answer = node.runtime().status(cri::StatusRequest::default()).await.ok()?.into_inner();
        let conditions = answer.status?.conditions;
        assert!(conditions.iter().any(|one| one.r#type == "RuntimeReady" && one.status), "{conditions:?}");
        let network = conditions.into_iter().find(|one| one.r#type == "NetworkReady")?;
        (!network.status).then_some(network.message)
    })
    .await
}

async fn a_hanging_network_blocks_nobody_else(t: Test) {
    let node = t.own_node(NodeOptions { configure: Some(stub_network), ..Default::default() }).await;
    let other = t.pod_on(&node).run().await;
    let hung = t.pod_on(&node);
    set_mode_of(&node, &hung, "wait");
    let running = tokio::spawn({
        let hung = hung.clone();
        async move { hung.try_run().await.map(|pod| pod.id) }
    });
    until("the plugin is at work", || async { (calls(&node, "ADD") == 2).then_some(()) }).await;
    all_else_works(&t, &other).await;
    assert!(!running.is_finished());
    set_mode_of(&node, &hung, "ok");
    let id = running.await.unwrap().expect("RunPodSandbox");
    let pod = hung.known(&id).await;
    // The same on its way down.
    set_mode_of(&node, &hung, "wait");
    let stopping = tokio::spawn({
        let pod = pod.clone();
        async move { pod.try_stop().await }
    });
    until("the plugin is at work", || async { (calls(&node, &format!("DEL {id}")) == 1).then_some(()) })
        .await;
    all_else_works(&t, &other).await;
    assert!(!stopping.is_finished());
    set_mode_of(&node, &hung, "ok");
    stopping.await.unwrap().expect("StopPodSandbox");
}

async fn a_plugin_that_cannot_say_whether_it_is_ready_is_told(t: Test) {
    let configure = |dir: &Path, config: &mut String| {
        impatient_stub_network(dir, config);
        // The first version whose plugins are asked.
        let list = dir.join("cni/net.d/00-stub.conflist");
        fs::write(&list, fs::read_to_string(&list).unwrap().replace("1.0.0", "1.1.0")).unwrap();
    };
    let options = NodeOptions { configure: Some(configure), bare: true, ..Default::default() };
    let node = t.own_node(options).await;
    set_mode(&node, "mute");
    let why = why_not_ready(&node).await;
    let told = "STATUS of CNI plugin \"stub\" for network \"stub\" did not end within 2s and was killed";
    assert!(why.contains(told), "{why}");
    // Whether it can attach is another question.
    t.pod_on(&node).run().await;
    set_mode(&node, "ok");
    node.in_step().await;
}

async fn nonsense_for_an_answer_leaves_nothing(t: Test) {
    let node = stub_node(&t).await;
    let pod = t.pod_on(&node);
    let failed = "ADD of CNI plugin \"stub\" for network \"stub\"";
    for (mode, told) in
        [("crash", "signal"), ("babble", "gave no valid result"), ("twice", "gave no valid result")]
    {
        set_mode(&node, mode);
        let before = calls(&node, "DEL");
        let error = refused(&pod).await;
        assert_eq!(error.code(), Code::Internal, "{mode}: {error:?}");
        assert!(error.message().contains(failed) && error.message().contains(told), "{mode}: {error:?}");
        assert!(calls(&node, "DEL") > before, "{mode}: what it may have made is taken back");
        assert!(listed(&t, &node).await.is_empty(), "{mode}");
        assert_eq!(fs::read_dir(node.dir.join("cni/cache/results")).unwrap().count(), 0, "{mode}");
    }
    set_mode(&node, "ok");
    let pod = pod.run().await;
    assert_eq!(pod.ip().await, "10.1.2.3");
}

async fn nonsense_at_the_end_does_not_matter(t: Test) {
    let node = stub_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    set_mode(&node, "babble");
    pod.stop().await;
    pod.remove().await;
}

/// What of a network's is taken away and brought back while pods are there.
async fn comes_and_goes(t: &Test, node: &Arc<Node>, thing: PathBuf, cached: bool) {
    let [stopped, kept] = [t.pod_on(node).run().await, t.pod_on(node).run().await];
    let aside = node.dir.join("aside");
    fs::rename(&thing, &aside).unwrap();
    let why = why_not_ready(node).await;
    let name = thing.file_name().unwrap().to_str().unwrap();
    assert!(why.contains(name), "should name {name}: {why}");
    assert!(refused(&t.pod_on(node)).await.message().contains(name));
    all_else_works(t, &t.pod_on(node).host_network().run().await).await;
    if cached {
        // What the cache tells is enough.
        stopped.stop().await;
        stopped.remove().await;
    } else {
        // Nobody else can give its address back.
        let error = stopped.try_stop().await.unwrap_err();
        assert!(error.message().contains(name), "{error:?}");
        let told = listed(t, node).await;
        assert!(told.contains(&stopped.id), "it is there for the kubelet's next try");
    }
    fs::rename(&aside, &thing).unwrap();
    node.in_step().await;
    for pod in [stopped, kept] {
        pod.stop().await;
        pod.remove().await;
    }
    t.pod_on(node).run().await;
}

async fn a_network_without_its_folder_is_told_and_comes_back(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let folder = node.dir.join("cni/net.d");
    comes_and_goes(&t, &node, folder, true).await;
}

async fn a_network_without_its_plugin_is_told_and_comes_back(t: Test) {
    let options = NodeOptions { configure: Some(impatient_stub_network), ..Default::default() };
    let node = t.own_node(options).await;
    let plugin = node.dir.join("stub/stub");
    comes_and_goes(&t, &node, plugin, false).await;
}

async fn a_namespace_that_was_unmounted_is_no_network(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    let pods = [t.pod_on(&node).run().await, t.pod_on(&node).run().await];
    let address = node.dir.join("cni/ipam").join(&node.bridge).join(pods[1].ip().await);
    for pin in fs::read_dir(node.netns_dir()).unwrap() {
        let unmounted = std::process::Command::new("umount").arg(pin.unwrap().path()).status();
        assert!(unmounted.unwrap().success());
    }
    assert_eq!(pods[0].ip().await, "", "nobody can reach it there");
    pods[0].stop().await;
    pods[0].remove().await;
    // Who takes it in now cannot have anything run in it.
    node.end(rustix::process::Signal::KILL).await;
    node.start().await;
    node.in_step().await;
    assert_eq!(pods[1].state().await, cri::PodSandboxState::SandboxNotready);
    pods[1].stop().await;
    pods[1].remove().await;
    assert!(!address.exists(), "its address is given back");
}

async fn a_failing_network_leaves_nothing(t: Test) {
    let node = stub_node(&t).await;
    set_mode(&node, "fail");
    let pod = t.pod_on(&node);
    let error = refused(&pod).await;
    assert!(error.message().contains("the cable is cut"), "should have the plugin's words: {error:?}");
    assert!(calls(&node, "DEL") >= 1, "DEL comes after a failed ADD too");
    assert!(listed(&t, &node).await.is_empty());
    // The name is free at once.
    refused(&pod).await;
    set_mode(&node, "ok");
    let pod = pod.run().await;
    assert_eq!(pod.ip().await, "10.1.2.3");
}

async fn a_hanging_network_is_ended(t: Test) {
    let node = stub_node(&t).await;
    set_mode(&node, "hang");
    let pod = t.pod_on(&node);
    let error = refused(&pod).await;
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    let told = "ADD of CNI plugin \"stub\" for network \"stub\" did not end within 2s and was killed";
    assert!(error.message().contains(told), "{error:?}");
    until("the plugin and its child are gone", || async {
        let hangs = fs::read_dir("/proc").unwrap().flatten().any(|process| {
            fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0098765\0")
        });
        (!hangs).then_some(())
    })
    .await;
    assert!(listed(&t, &node).await.is_empty());
    set_mode(&node, "ok");
    pod.run().await;
}

async fn a_network_that_cannot_be_taken_down_keeps_the_pod(t: Test) {
    let node = stub_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    set_mode(&node, "keep");
    let error = pod.try_stop().await.unwrap_err();
    assert!(error.message().contains("the cable is cut"), "{error:?}");
    pod.try_remove().await.expect_err("its address is not given back");
    // The kubelet sees it, and tries again.
    assert_eq!(listed(&t, &node).await, [pod.id.as_str()]);
    assert_eq!(pod.state().await, cri::PodSandboxState::SandboxNotready);
    set_mode(&node, "ok");
    pod.stop().await;
    pod.remove().await;
    assert!(listed(&t, &node).await.is_empty());
}

async fn a_network_without_configuration_is_told_and_comes_back(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let file = node.dir.join("cni/net.d/10-bridge.conflist");
    let aside = node.dir.join("10-bridge.conflist");
    fs::rename(&file, &aside).unwrap();
    until("the network is not ready", || async { (node.ready().await == Some((true, false))).then_some(()) })
        .await;
    let error = refused(&t.pod_on(&node)).await;
    let folder = node.dir.join("cni/net.d").display().to_string();
    assert!(error.message().contains(&folder), "should name the folder: {error:?}");
    // A pod on the node's network needs none, and what was attached is detached all the same.
    t.pod_on(&node).host_network().run().await;
    pod.stop().await;
    pod.remove().await;
    fs::rename(&aside, &file).unwrap();
    node.in_step().await;
    t.pod_on(&node).run().await;
}
