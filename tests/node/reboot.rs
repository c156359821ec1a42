//! A node that comes back from a power cut: all that it was told to run is known and over, addresses come back, and pods
//! are run again at the first try.

use std::fs;

use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;

use crate::cases;
use crate::harness::{Case, Node, NodeOptions, Test};

pub fn cases() -> Vec<Case> {
    cases!["reboot": ; cridge only: what_ran_is_over_and_runs_again]
}

/// The addresses that host-local has given out.
fn addresses(node: &Node) -> Vec<String> {
    let held = fs::read_dir(node.dir.join("cni/ipam").join(&node.bridge)).into_iter().flatten().flatten();
    let names = held.map(|lease| lease.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&node.subnet)).collect()
}

async fn what_ran_is_over_and_runs_again(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let builder = t.pod_on(&node);
    let pod = builder.run().await;
    let exited = pod.container("exited").shell("exit 3").start().await;
    let before = exited.exited().await;
    let running = pod.container("running").shell("echo up; exec sleep 1000").start().await;
    running.logs("up").await;
    let created = pod.container("created").create().await;
    let on_the_nodes_network = t.pod_on(&node).host_network().run().await;
    assert_eq!(addresses(&node), [pod.ip().await]);
    node.lose_power().await;
    node.start_containerd();
    node.start().await;
    node.in_step().await;
    for pod in [&pod, &on_the_nodes_network] {
        assert_eq!(pod.state().await, PodSandboxState::SandboxNotready);
    }
    assert_eq!(pod.ip().await, "");
    let ended = running.exited().await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (255, "Unknown"), "{ended:?}");
    assert_eq!(exited.status().await, before);
    assert_eq!(created.state().await, ContainerState::ContainerCreated);
    assert_eq!(running.log_text(), "up");
    // As the kubelet does it: the old ones are stopped, and others run before those are removed.
    pod.stop().await;
    assert_eq!(addresses(&node), [""; 0]);
    let next = t.pod_on(&node).run().await;
    assert_eq!(next.container("app").shell("echo works").output().await, "works");
    on_the_nodes_network.stop().await;
    on_the_nodes_network.remove().await;
    pod.remove().await;
    // Its name is free.
    assert_eq!(builder.run().await.container("app").shell("echo works").output().await, "works");
    // containerd looks for what a reboot has left of tasks once there are others: at its next start.
    node.end_containerd(Signal::TERM).await;
    node.start_containerd();
    node.in_step().await;
}
