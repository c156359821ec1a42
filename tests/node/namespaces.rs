//! Whose processes, network and IPC a container sees: its own, its pod's, another container's, the node's.

use k8s_cri::v1::NamespaceMode;

use crate::cases;
use crate::harness::{Case, Container, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["namespaces":
        a_container_sees_its_own_processes_alone,
        in_a_pods_pid_namespace_containers_see_each_other,
        a_target_containers_processes_are_seen,
        a_target_that_is_not_there_is_refused,
        on_the_nodes_pid_namespace_all_is_seen,
        on_the_nodes_network,
        on_the_nodes_ipc;
    cridge only:
        a_target_that_has_ended_is_refused_by_the_start,
    ]
}

/// The namespace of a container's first process.
async fn namespace(of: &Container, kind: &str) -> String {
    of.sh(&format!("readlink /proc/self/ns/{kind}")).await
}

fn of_node(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

async fn a_container_sees_its_own_processes_alone(t: Test) {
    let pod = t.pod().run().await;
    pod.container("other").shell("exec sleep 12345").start().await;
    let app = pod.container("app").shell("echo I am $$; exec sleep 3600").start().await;
    app.logs("I am 1").await;
    assert_eq!(app.sh("pgrep -f 'sleep 1234[5]' || echo none").await, "none");
}

async fn in_a_pods_pid_namespace_containers_see_each_other(t: Test) {
    let pod = t.pod().shared_pids().run().await;
    let other = pod.container("other").shell("exec sleep 12345").start().await;
    let app = pod.container("app").start().await;
    assert_eq!(namespace(&app, "pid").await, namespace(&other, "pid").await);
    until("the other's process is seen", || async {
        (app.sh("pgrep -f 'sleep 1234[5]' || echo none").await != "none").then_some(())
    })
    .await;
}

async fn a_target_containers_processes_are_seen(t: Test) {
    let pod = t.pod().run().await;
    let target = pod.container("target").shell("echo begun; exec sleep 12345").start().await;
    target.logs("begun").await;
    let debugger = pod.container("debugger").pids(NamespaceMode::Target, &target.id).start().await;
    assert_eq!(namespace(&debugger, "pid").await, namespace(&target, "pid").await);
    until("the target's process is the first", || async {
        (debugger.sh("pgrep -f 'sleep 1234[5]' || true").await == "1").then_some(())
    })
    .await;
}

async fn a_target_that_is_not_there_is_refused(t: Test) {
    let pod = t.pod().run().await;
    let elsewhere = t.pod().run().await.container("elsewhere").start().await;
    let missing = "0".repeat(64);
    for target in [missing.as_str(), &elsewhere.id] {
        let debugger = pod.container("debugger").pids(NamespaceMode::Target, target);
        let refused = debugger.try_create().await.map(|made| made.id).unwrap_err();
        assert!(refused.message().contains(&target[..12]), "should name the target: {refused:?}");
    }
}

async fn a_target_that_has_ended_is_refused_by_the_start(t: Test) {
    let pod = t.pod().run().await;
    let target = pod.container("target").start().await;
    let debugger = pod.container("debugger").pids(NamespaceMode::Target, &target.id).create().await;
    target.stop(0).await;
    debugger.try_start().await.expect_err("the target has ended");
}

async fn on_the_nodes_pid_namespace_all_is_seen(t: Test) {
    let pod = t.pod().namespaces(|namespaces| namespaces.pid = NamespaceMode::Node as i32).run().await;
    let app = pod.container("app").start().await;
    assert_eq!(namespace(&app, "pid").await, of_node("pid"));
    let own = std::process::id();
    assert_eq!(app.sh(&format!("[ -d /proc/{own} ] && echo seen")).await, "seen");
    // A child that its container leaves behind ends with the container.
    let parent = pod.container("parent").shell("sleep 54321 & exec sleep 3600").start().await;
    parent.stop(0).await;
    until("the child has ended too", || async {
        (app.sh("pgrep -f 'sleep 5432[1]' || echo none").await == "none").then_some(())
    })
    .await;
}

async fn on_the_nodes_network(t: Test) {
    let pod = t.pod().host_network().run().await;
    let app = pod.container("app").start().await;
    assert_eq!(namespace(&app, "net").await, of_node("net"));
    // The node's name goes with its network.
    assert_eq!(namespace(&app, "uts").await, of_node("uts"));
    assert_eq!(pod.ip().await, "");
    assert!(app.sh("ip link").await.contains(&t.node().bridge));
}

async fn on_the_nodes_ipc(t: Test) {
    let pod = t.pod().namespaces(|namespaces| namespaces.ipc = NamespaceMode::Node as i32).run().await;
    let app = pod.container("app").start().await;
    assert_eq!(namespace(&app, "ipc").await, of_node("ipc"));
    let file = format!("/dev/shm/{}", t.fresh_name("letter"));
    std::fs::write(&file, "from the node\n").unwrap();
    let read = app.sh(&format!("cat {file}")).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(read, "from the node");
}
