//! Why a pod does not go on: what is being done to it is seen while it lasts, and what failed afterwards.

use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1 as cri;
use serde_json::Value;
use tonic::{Code, Request};

use crate::cases;
use crate::cni::{set_mode, stub_network};
use crate::crictl::crictl_on;
use crate::harness::{Case, Node, NodeOptions, PodBuilder, Test, on_cridge, until};

pub fn cases() -> Vec<Case> {
    cases!["stuck": pods_are_shown_with_any_runtime; cridge only:
        a_pod_that_hangs_on_its_way_up_says_where,
        a_pod_that_hangs_on_its_way_down_says_where,
        a_stop_that_takes_its_time_says_so,
    ]
}

/// What a call may take that is to time out.
const IMPATIENT: Duration = Duration::from_secs(3);

async fn stub_node(t: &Test) -> Arc<Node> {
    t.own_node(NodeOptions { configure: Some(stub_network), ..Default::default() }).await
}

/// `cridge pods` against the node.
async fn cridge_pods(node: &Node, flags: &[&str]) -> String {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["pods", "--endpoint", &format!("unix://{}", node.socket().display())])
        .args(flags)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cridge pods: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The pod of this name, as `cridge pods -o json` has it.
async fn shown(node: &Node, name: &str) -> Value {
    let pods: Vec<Value> = serde_json::from_str(&cridge_pods(node, &["-o", "json"]).await).unwrap();
    pods.into_iter().find(|pod| pod["name"] == name).expect("the pod is shown")
}

/// The operations of a pod, as `crictl inspectp` has them.
async fn inspected(node: &Node, id: &str) -> Vec<Value> {
    let told: Value = serde_json::from_str(&crictl_on(node, &["inspectp", id]).await).unwrap();
    told["info"]["operations"].as_array().unwrap_or_else(|| panic!("no operations in {told}")).clone()
}

fn name_of(pod: &PodBuilder) -> String {
    pod.config.metadata.as_ref().unwrap().name.clone()
}

fn is_a_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| humantime::parse_rfc3339(text).is_ok())
}

async fn pods_are_shown_with_any_runtime(t: Test) {
    let pod = t.pod().run().await;
    pod.container("app").start().await;
    pod.container("other").create().await;
    let name = pod.config.metadata.as_ref().unwrap().name.clone();
    let row = shown(t.node(), &name).await;
    assert_eq!((&row["id"], &row["state"]), (&pod.id.clone().into(), &"ready".into()), "{row}");
    assert_eq!(row["containers"], serde_json::json!({"running": 1, "all": 2}));
    assert_eq!(row["operations"].as_array().unwrap().is_empty(), !on_cridge(), "{row}");
    let table = cridge_pods(t.node(), &[]).await;
    let line = table.lines().find(|line| line.contains(&name)).expect("a line of the pod");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        (words[0], words[3], words[5], &words[6..]),
        (&pod.id[..13], "Ready", "1/2", &["-", "-"][..]),
        "{table}"
    );
}

async fn a_pod_that_hangs_on_its_way_up_says_where(t: Test) {
    let node = stub_node(&t).await;
    set_mode(&node, "wait");
    let pod = t.pod_on(&node);
    let config = Some(pod.config.clone());
    let mut request = Request::new(cri::RunPodSandboxRequest { config, ..Default::default() });
    request.set_timeout(IMPATIENT);
    let late = node.runtime().run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    let place = format!("RunPodSandbox of node-tests/{}: attach the network for ", name_of(&pod));
    assert!(late.message().contains(&place), "should say where it hangs: {late:?}");
    // Another request for the name hears it as well.
    let other = pod.clone().with(|config| config.hostname = "another".into());
    let taken = other.try_run().await.map(|pod| pod.id).unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken:?}");
    assert!(taken.message().contains(", now at RunPodSandbox (attach the network for "), "{taken:?}");

    let row = shown(&node, &name_of(&pod)).await;
    assert_eq!(row["state"], "starting", "{row}");
    assert!(is_a_time(&row["createdAt"]), "{row}");
    let table = cridge_pods(&node, &[]).await;
    assert!(table.contains("RunPodSandbox: attach the network "), "{table}");
    let operations = inspected(&node, row["id"].as_str().unwrap()).await;
    assert_eq!(operations.len(), 1, "{operations:?}");
    let step = &operations[0]["steps"][0];
    assert_eq!(
        (&operations[0]["operation"], &step["step"]),
        (&"RunPodSandbox".into(), &"attach the network".into())
    );
    assert!(is_a_time(&operations[0]["since"]) && is_a_time(&step["since"]), "{operations:?}");

    set_mode(&node, "ok");
    let run = pod.run().await;
    assert_eq!(run.id, row["id"].as_str().unwrap(), "the repeat joins");
    let operations = inspected(&node, &run.id).await;
    assert!(is_a_time(&operations[0]["until"]) && operations[0]["error"].is_null(), "{operations:?}");
}

async fn a_pod_that_hangs_on_its_way_down_says_where(t: Test) {
    let node = stub_node(&t).await;
    let pod = t.pod_on(&node).run().await;
    set_mode(&node, "wait");
    let stop = || {
        let mut request = Request::new(cri::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() });
        request.set_timeout(IMPATIENT);
        let mut runtime = node.runtime();
        async move { runtime.stop_pod_sandbox(request).await }
    };
    let first = tokio::spawn(stop());
    until("the first is at the network", || async {
        let operations = inspected(&node, &pod.id).await;
        (operations[0]["steps"][0]["step"] == "detach the network").then_some(())
    })
    .await;
    let second = tokio::spawn(stop());
    let waits_for = until("the second waits", || async {
        let operations = inspected(&node, &pod.id).await;
        operations[0]["steps"][0]["waitsFor"].as_str().map(str::to_owned)
    })
    .await;
    assert!(waits_for.starts_with("StopPodSandbox (detach the network since "), "{waits_for}");
    for late in [first.await.unwrap(), second.await.unwrap()] {
        let late = late.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        assert!(late.message().contains(": detach the network for "), "{late:?}");
    }
    // What was given up is over at some time; it failed, and why is to be seen.
    set_mode(&node, "keep");
    until("it has failed", || async { pod.try_stop().await.is_err().then_some(()) }).await;
    pod.try_stop().await.unwrap_err();
    let operations = inspected(&node, &pod.id).await;
    assert!(operations[0]["error"].as_str().unwrap().contains("the cable is cut"), "{operations:?}");
    assert!(operations[0]["times"].as_u64().unwrap() >= 2, "{operations:?}");
    let table = cridge_pods(&node, &[]).await;
    assert!(table.contains("StopPodSandbox ") && table.contains("the cable is cut"), "{table}");
    set_mode(&node, "ok");
    pod.stop().await;
    assert!(!cridge_pods(&node, &[]).await.contains("the cable is cut"), "it has succeeded since");
}

async fn a_stop_that_takes_its_time_says_so(t: Test) {
    let pod = t.pod().run().await;
    let stubborn =
        pod.container("stubborn").shell("trap '' TERM; echo up; while :; do sleep 0.1; done").start().await;
    stubborn.logs("up").await;
    let stop = cri::StopContainerRequest { container_id: stubborn.id.clone(), timeout: 3600 };
    let mut request = Request::new(stop);
    request.set_timeout(IMPATIENT);
    let late = t.node().runtime().stop_container(request).await.unwrap_err();
    let name = pod.config.metadata.as_ref().unwrap().name.clone();
    let place =
        format!("StopContainer of stubborn in node-tests/{name}: wait for it to follow the stop signal for ");
    assert!(late.message().contains(&place), "{late:?}");
    let told: Value = serde_json::from_str(&crictl_on(t.node(), &["inspect", &stubborn.id]).await).unwrap();
    let operations = told["info"]["operations"].as_array().unwrap();
    assert_eq!(operations[0]["lastStep"], "wait for it to follow the stop signal", "{operations:?}");
    assert_eq!(operations[0]["error"], "it was broken off", "{operations:?}");
    stubborn.stop(0).await;
}
