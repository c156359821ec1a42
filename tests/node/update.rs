//! What changes while it is there: resources in cgroup, record and status, or in none of them; the node's network.

use std::path::Path;

use cridge::proto::cri as new;
use futures::future::join_all;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, LinuxContainerResources};
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::cases;
use crate::harness::cgroups::by_systemd;
use crate::harness::{Case, Container, ContainerBuilder, NodeOptions, Pod, Test, assert_field, until};

pub fn cases() -> Vec<Case> {
    cases!["update":
        a_running_container_gets_what_is_given,
        a_cpuset_alone_leaves_all_else,
        a_created_container_starts_with_the_new_values,
        an_ended_container_keeps_them_in_its_spec,
        many_at_once_end_as_one_of_them;
    cridge only:
        what_the_kernel_refuses_changes_nothing,
        new_values_outlive_the_death_of_cridge,
        the_oom_score_changes_in_every_process,
        an_empty_update_changes_nothing,
        hostile_updates,
        a_pods_resources_are_remembered,
        hostile_updates_of_pods,
        a_network_is_made_of_its_template,
    ]
}

const MIB: i64 = 1 << 20;

async fn try_update(
    app: &Container,
    change: impl FnOnce(&mut LinuxContainerResources),
) -> Result<(), Status> {
    let mut linux = LinuxContainerResources::default();
    change(&mut linux);
    let request = cri::UpdateContainerResourcesRequest {
        container_id: app.id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    app.pod.node.runtime().update_container_resources(request).await.map(drop)
}

async fn update(app: &Container, change: impl FnOnce(&mut LinuxContainerResources)) {
    try_update(app, change).await.expect("UpdateContainerResources");
}

/// A container with limits of every kind.
fn limited(pod: &Pod, name: &str) -> ContainerBuilder {
    pod.container(name).resources(|resources| {
        (resources.cpu_period, resources.cpu_quota, resources.cpu_shares) = (100_000, 50_000, 512);
        resources.memory_limit_in_bytes = 64 * MIB;
        resources.oom_score_adj = 300;
    })
}

/// What the kernel holds it to: (memory limit, CPU quota).
fn limits(app: &Container) -> (String, String) {
    let memory = app.cgroup_file("memory", "memory.limit_in_bytes", "memory.max");
    let quota = app.cgroup_file("cpu", "cpu.cfs_quota_us", "cpu.max");
    (memory, quota.split(' ').next().unwrap().to_owned())
}

fn limits_of(memory: i64, quota: i64) -> (String, String) {
    (memory.to_string(), quota.to_string())
}

async fn told(app: &Container) -> LinuxContainerResources {
    app.status().await.resources.unwrap().linux.unwrap()
}

/// All that is kept and told of a container's resources.
async fn known(app: &Container) -> (Value, LinuxContainerResources) {
    let spec = app.spec().await;
    let of_spec = json!([spec["linux"]["resources"], spec["process"]["oomScoreAdj"]]);
    (of_spec, told(app).await)
}

async fn a_running_container_gets_what_is_given(t: Test) {
    let app = limited(&t.pod().run().await, "app").start().await;
    assert_eq!(limits(&app), limits_of(64 * MIB, 50_000));
    update(&app, |r| (r.memory_limit_in_bytes, r.cpu_quota) = (128 * MIB, 20_000)).await;
    assert_eq!(limits(&app), limits_of(128 * MIB, 20_000));
    let told = told(&app).await;
    assert_eq!((told.memory_limit_in_bytes, told.cpu_quota), (128 * MIB, 20_000));
    assert_eq!((told.cpu_period, told.cpu_shares), (100_000, 512));
    let spec = app.spec().await;
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 128 * MIB);
    // Down again, which moves memory and swap in the other order.
    update(&app, |r| r.memory_limit_in_bytes = 32 * MIB).await;
    assert_eq!(limits(&app), limits_of(32 * MIB, 20_000));
    assert_eq!(app.sh("echo alive").await, "alive");
}

async fn a_cpuset_alone_leaves_all_else(t: Test) {
    const ALLOWED: &str = "sed -n 's/^Cpus_allowed_list:\t//p' /proc/1/status";
    let app = limited(&t.pod().run().await, "app").start().await;
    let everywhere = app.sh(ALLOWED).await;
    assert_ne!(everywhere, "0", "this machine has one processor: nothing can be seen on it");
    let (mut spec, mut status) = known(&app).await;
    // Word for word what the kubelet's CPU manager sends.
    update(&app, |r| r.cpuset_cpus = "0".into()).await;
    assert_eq!(app.sh(ALLOWED).await, "0");
    assert_eq!(limits(&app), limits_of(64 * MIB, 50_000));
    spec[0]["cpu"]["cpus"] = "0".into();
    status.cpuset_cpus = "0".into();
    assert_eq!(known(&app).await, (spec, status));
    // Its later words, when the processor is to be shared again.
    update(&app, |r| r.cpuset_cpus = everywhere.clone()).await;
    assert_eq!(app.sh(ALLOWED).await, everywhere);
}

async fn a_created_container_starts_with_the_new_values(t: Test) {
    let app = limited(&t.pod().run().await, "app").create().await;
    update(&app, |r| (r.memory_limit_in_bytes, r.cpuset_cpus) = (96 * MIB, "0".into())).await;
    assert_eq!(app.state().await, ContainerState::ContainerCreated);
    assert_eq!(told(&app).await.memory_limit_in_bytes, 96 * MIB);
    app.start().await;
    assert_eq!(limits(&app), limits_of(96 * MIB, 50_000));
    assert_eq!(app.cgroup_file("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
}

async fn an_ended_container_keeps_them_in_its_spec(t: Test) {
    let app = limited(&t.pod().run().await, "app").shell("exit 3").start().await;
    app.exited().await;
    update(&app, |r| r.memory_limit_in_bytes = 96 * MIB).await;
    let status = app.status().await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 3));
    assert_eq!(told(&app).await.memory_limit_in_bytes, 96 * MIB);
    assert_eq!(app.spec().await["linux"]["resources"]["memory"]["limit"], 96 * MIB);
}

async fn what_the_kernel_refuses_changes_nothing(t: Test) {
    let app = limited(&t.pod().run().await, "app").start().await;
    let (before, enforced) = (known(&app).await, limits(&app));
    // The kernel takes no quota below a millisecond, but systemd rounds it up; no processor that it does not have.
    if !by_systemd() {
        try_update(&app, |r| (r.memory_limit_in_bytes, r.cpu_quota) = (128 * MIB, 1)).await.unwrap_err();
    }
    let error = try_update(&app, |r| r.cpuset_cpus = "4000".into()).await.unwrap_err();
    assert!(error.message().contains("cpuset"), "should have the runtime's words: {error:?}");
    assert_eq!(known(&app).await, before);
    assert_eq!(limits(&app), enforced);
    // And nothing of them is in the way of what can be had.
    update(&app, |r| r.memory_limit_in_bytes = 80 * MIB).await;
    assert_eq!(limits(&app), limits_of(80 * MIB, 50_000));
}

async fn many_at_once_end_as_one_of_them(t: Test) {
    let app = limited(&t.pod().run().await, "app").start().await;
    let all = (0..8).map(|n| update(&app, move |r| r.memory_limit_in_bytes = (70 + n) * MIB));
    join_all(all).await;
    let last = told(&app).await.memory_limit_in_bytes;
    assert!((70 * MIB..78 * MIB).contains(&last), "{last}");
    assert_eq!(limits(&app).0, last.to_string());
    assert_eq!(app.spec().await["linux"]["resources"]["memory"]["limit"], last);
}

async fn new_values_outlive_the_death_of_cridge(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let (app, created) = (limited(&pod, "app").start().await, limited(&pod, "created").create().await);
    for container in [&app, &created] {
        update(container, |r| (r.memory_limit_in_bytes, r.oom_score_adj) = (128 * MIB, 500)).await;
    }
    let before = (known(&app).await, known(&created).await);
    node.end(Signal::KILL).await;
    // Not where they are read from: the record has them.
    for container in [&app, &created] {
        let file = node.server_dirs()[0].join("containers").join(&container.id).join("status");
        let mut status: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        status["Resources"] = json!({"linux": {"memory_limit_in_bytes": 1}});
        std::fs::write(&file, status.to_string()).unwrap();
    }
    node.start().await;
    until("containers are known again", || async { app.try_status().await.ok() }).await;
    assert_eq!((known(&app).await, known(&created).await), before);
    created.start().await;
    assert_eq!(limits(&created), limits_of(128 * MIB, 50_000));
    assert_eq!(created.sh("cat /proc/1/oom_score_adj").await, "500");
}

async fn the_oom_score_changes_in_every_process(t: Test) {
    // One child has chosen its own.
    let script = "sleep 111 & (echo 900 >/proc/self/oom_score_adj; exec sleep 222) & echo begun; wait";
    let app = limited(&t.pod().run().await, "app").shell(script).start().await;
    app.logs("begun").await;
    const SCORES: &str = "for what in sh 'sleep 111' 'sleep 222'; do \
                          cat /proc/$(pgrep -o -f \"^$what\")/oom_score_adj; done | tr '\\n' ' '";
    until("the child has its score", || async { (app.sh(SCORES).await == "300 300 900 ").then_some(()) })
        .await;
    update(&app, |r| r.oom_score_adj = 640).await;
    assert_eq!(app.sh(SCORES).await, "640 640 900 ");
    assert_eq!(told(&app).await.oom_score_adj, 640);
    // Taken back with what the runtime refuses.
    try_update(&app, |r| (r.oom_score_adj, r.cpuset_cpus) = (700, "4000".into())).await.unwrap_err();
    assert_eq!(app.sh(SCORES).await, "640 640 900 ");
}

async fn an_empty_update_changes_nothing(t: Test) {
    let app = limited(&t.pod().run().await, "app").start().await;
    let before = known(&app).await;
    update(&app, |_| {}).await;
    let request = cri::UpdateContainerResourcesRequest { container_id: app.id.clone(), ..Default::default() };
    app.pod.node.runtime().update_container_resources(request).await.unwrap();
    assert_eq!(known(&app).await, before);
    assert_eq!(limits(&app), limits_of(64 * MIB, 50_000));
}

async fn hostile_updates(t: Test) {
    let app = limited(&t.pod().run().await, "app").start().await;
    let before = known(&app).await;
    type Spoil = fn(&mut LinuxContainerResources);
    let spoilt: [(&str, Spoil); 13] = [
        ("linux.cpu_period", |r| r.cpu_period = -1),
        ("linux.cpu_quota", |r| r.cpu_quota = i64::MIN),
        ("linux.cpu_shares", |r| r.cpu_shares = i64::MIN),
        ("linux.memory_limit_in_bytes", |r| r.memory_limit_in_bytes = -2),
        ("linux.memory_swap_limit_in_bytes", |r| r.memory_swap_limit_in_bytes = MIB),
        ("linux.memory_swap_limit_in_bytes", |r| {
            (r.memory_limit_in_bytes, r.memory_swap_limit_in_bytes) = (128 * MIB, 127 * MIB);
        }),
        ("linux.oom_score_adj", |r| r.oom_score_adj = 1001),
        ("linux.oom_score_adj", |r| r.oom_score_adj = i64::MIN),
        ("linux.cpuset_cpus", |r| r.cpuset_cpus = "0\0".into()),
        ("linux.cpuset_cpus", |r| r.cpuset_cpus = "all".into()),
        ("linux.cpuset_mems", |r| r.cpuset_mems = "0;1".into()),
        ("linux.cpuset_mems", |r| r.cpuset_mems = "x".repeat(1 << 20)),
        ("linux.cpuset_cpus", |r| r.cpuset_cpus = "1,".repeat(1 << 19)),
    ];
    for (field, spoil) in spoilt {
        assert_field(&try_update(&app, spoil).await.expect_err(field), field);
    }
    let mut runtime = app.pod.node.runtime();
    let mut send = async |container_id: &str, change: fn(&mut cri::UpdateContainerResourcesRequest)| {
        let container_id = container_id.to_owned();
        let mut request = cri::UpdateContainerResourcesRequest { container_id, ..Default::default() };
        change(&mut request);
        runtime.update_container_resources(request).await.unwrap_err()
    };
    let windows: fn(&mut cri::UpdateContainerResourcesRequest) = |r| r.windows = Some(Default::default());
    assert_field(&send(&app.id, windows).await, "windows");
    assert_field(
        &send(&app.id, |r| drop(r.annotations.insert("k".into(), "v".repeat(1 << 20)))).await,
        "annotations",
    );
    for id in ["", "a\0b"] {
        assert_field(&send(id, |_| {}).await, "container_id");
    }
    let missing = send(&"0".repeat(64), |r| r.linux = Some(Default::default())).await;
    assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
    assert_eq!(known(&app).await, before);
    assert_eq!(limits(&app), limits_of(64 * MIB, 50_000));
}

/// What is told of a pod's resources: (overhead, resources).
pub async fn pod_resources(pod: &Pod) -> (Value, Value) {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let answer = pod.node.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
    let info: Value = serde_json::from_str(&answer.info["info"]).unwrap();
    (info["overhead"].clone(), info["resources"].clone())
}

pub fn memory(limit: i64) -> new::LinuxContainerResources {
    new::LinuxContainerResources { memory_limit_in_bytes: limit, ..Default::default() }
}

pub async fn try_update_pod(
    pod: &Pod,
    overhead: Option<new::LinuxContainerResources>,
    resources: Option<new::LinuxContainerResources>,
) -> Result<(), Status> {
    let pod_sandbox_id = pod.id.clone();
    let request = new::UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
    pod.node.newest().0.update_pod_sandbox_resources(request).await.map(drop)
}

async fn a_pods_resources_are_remembered(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let other = t.pod_on(&node).run().await;
    assert_eq!(pod_resources(&pod).await, (Value::Null, Value::Null));
    try_update_pod(&pod, Some(memory(5)), Some(memory(64 * MIB))).await.unwrap();
    let told = |overhead: i64, resources: i64| {
        let linux = |limit: i64| json!({"linux": {"memory_limit_in_bytes": limit}});
        (linux(overhead), linux(resources))
    };
    assert_eq!(pod_resources(&pod).await, told(5, 64 * MIB));
    // What is left out stays.
    try_update_pod(&pod, None, Some(memory(32 * MIB))).await.unwrap();
    assert_eq!(pod_resources(&pod).await, told(5, 32 * MIB));
    node.end(Signal::KILL).await;
    node.start().await;
    until("pods are known again", || async { pod.try_status().await.ok() }).await;
    assert_eq!(pod_resources(&pod).await, told(5, 32 * MIB));
    assert_eq!(pod_resources(&other).await, (Value::Null, Value::Null));
    // Of one that is stopped, too: the kubelet may be late.
    pod.stop().await;
    try_update_pod(&pod, Some(memory(6)), None).await.unwrap();
    assert_eq!(pod_resources(&pod).await, told(6, 32 * MIB));
}

async fn hostile_updates_of_pods(t: Test) {
    let pod = t.pod().run().await;
    let refused = async |overhead, resources| try_update_pod(&pod, overhead, resources).await.unwrap_err();
    assert_field(&refused(Some(memory(-2)), None).await, "overhead.memory_limit_in_bytes");
    assert_field(&refused(Some(memory(1)), Some(memory(i64::MIN))).await, "resources.memory_limit_in_bytes");
    let cpus = new::LinuxContainerResources { cpuset_cpus: "0\0".into(), ..Default::default() };
    assert_field(&refused(None, Some(cpus)).await, "resources.cpuset_cpus");
    let score = new::LinuxContainerResources { oom_score_adj: i64::MAX, ..Default::default() };
    assert_field(&refused(None, Some(score)).await, "resources.oom_score_adj");
    assert_eq!(pod_resources(&pod).await, (Value::Null, Value::Null));
    let elsewhere = Pod { id: "0".repeat(64), ..pod.clone() };
    let missing = try_update_pod(&elsewhere, None, Some(memory(1))).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
    let nobody = Pod { id: String::new(), ..pod.clone() };
    assert_field(&try_update_pod(&nobody, None, None).await.unwrap_err(), "pod_sandbox_id");
}

async fn a_network_is_made_of_its_template(t: Test) {
    // The node's own network, but for its addresses.
    let configure = |dir: &Path, config: &mut String| {
        let file = dir.join("cni/net.d/10-bridge.conflist");
        let mut list: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let ipam = json!({"type": "host-local", "ranges": "RANGES"});
        list["plugins"][0]["ipam"] = ipam;
        let ranges =
            "[{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{\"subnet\": \"{{$range}}\"}]{{end}}]";
        let template = list.to_string().replace("\"RANGES\"", ranges);
        std::fs::write(dir.join("template"), template).unwrap();
        std::fs::remove_file(file).unwrap();
        let key = format!("[network]\nconf_template = \"{}\"\n", dir.join("template").display());
        *config = config.replace("[network]\n", &key);
    };
    let node = t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await;
    let tell = async |pod_cidr: &str| {
        let network_config = Some(cri::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let runtime_config = Some(cri::RuntimeConfig { network_config });
        let request = cri::UpdateRuntimeConfigRequest { runtime_config };
        node.runtime().update_runtime_config(request).await.map(drop)
    };
    let folder = node.dir.join("cni/net.d");
    let files = || -> Vec<_> {
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(node.ready().await, Some((true, false)));
    let endless = "1".repeat(1 << 20);
    for bad in ["10.88.0.0", "10.88.0.0/99", "10.88.0.0/16,", "a\0b", "10.88.0.0/16\n", endless.as_str()] {
        assert_field(&tell(bad).await.unwrap_err(), "pod_cidr");
    }
    // A kubelet without a CIDR asks as well.
    tell("").await.unwrap();
    assert!(files().is_empty(), "{:?}", files());
    assert_eq!(node.ready().await, Some((true, false)));

    let template = node.dir.join("template");
    let good = std::fs::read_to_string(&template).unwrap();
    for (bad, word) in [("{{.Nope}}", "line 1"), ("{{.PodCIDR}}", "no network list")] {
        std::fs::write(&template, bad).unwrap();
        let error = tell("10.88.7.0/24").await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
        assert!(error.message().contains("template") && error.message().contains(word), "{error:?}");
    }
    assert!(files().is_empty(), "{:?}", files());
    std::fs::write(&template, good).unwrap();

    tell("10.88.7.0/24").await.unwrap();
    assert_eq!(files(), ["10-containerd-net.conflist"]);
    assert_eq!(node.ready().await, Some((true, true)));
    let pod = t.pod_on(&node).run().await;
    assert!(pod.ip().await.starts_with("10.88.7."), "{}", pod.ip().await);
    // What is there stays, whoever wrote it.
    tell("10.99.0.0/24").await.unwrap();
    let written = std::fs::read_to_string(folder.join("10-containerd-net.conflist")).unwrap();
    assert!(written.contains("10.88.7.0/24"), "{written}");
}
