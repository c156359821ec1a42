//! Runtime handlers: what a RuntimeClass names is what its pods run by.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use k8s_cri::v1 as cri;
use serde_json::Value;

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, PodBuilder, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["handlers": ; cridge only:
        a_handlers_options_and_snapshotter_and_base_spec_are_its_pods,
        annotations_reach_the_runtime_by_the_handlers_patterns,
        a_handlers_pods_have_its_network,
        privileged_pods_have_the_devices_that_their_handler_gives,
        a_runtime_of_another_kind_tells_what_its_pods_use,
    ]
}

/// Answers each ADD with one address. A pod's device is not looked for.
const STUB: &str = r#"#!/bin/sh
case $CNI_COMMAND in
    ADD) cat >/dev/null; echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}],
        "ips": [{"address": "10.77.66.55/24", "interface": 0}]}' ;;
    *) cat >/dev/null ;;
esac
"#;

/// One handler for each thing that a handler can say. `DIR` is the node's folder, `SHIM` its release's shim.
const HANDLERS: &str = r#"
[runtime.handlers.own]
snapshotter = "native"
base_runtime_spec = "DIR/base.json"
options = { Root = "DIR/runc-own" }

[runtime.handlers.annotated]
pod_annotations = ["example.com/pod-*"]
container_annotations = ["example.com/[ab]"]

[runtime.handlers.network]
cni_conf_dir = "DIR/other.d"

[runtime.handlers.no-devices]
privileged_without_host_devices = true

[runtime.handlers.allowed]
privileged_without_host_devices = true
privileged_without_host_devices_all_devices_allowed = true

[runtime.handlers.machine]
runtime_type = "io.containerd.machine.v2"
runtime_path = "SHIM"
"#;

fn configure(dir: &Path, config: &mut String) {
    let base = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["FROM_BASE=yes"], "args": ["none"],
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4321, "soft": 1234}]
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                                 {"type": "network"}]}
    });
    std::fs::write(dir.join("base.json"), base.to_string()).unwrap();
    std::fs::create_dir(dir.join("other.d")).unwrap();
    let list = r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "stub"}]}"#;
    std::fs::write(dir.join("other.d/other.conflist"), list).unwrap();
    let stub = dir.join("stub");
    std::fs::create_dir(&stub).unwrap();
    std::fs::write(stub.join("stub"), STUB).unwrap();
    std::fs::set_permissions(stub.join("stub"), PermissionsExt::from_mode(0o755)).unwrap();
    *config = config.replace("bin_dirs = [", &format!("bin_dirs = [\"{}\", ", stub.display()));
    // containerd's binaries lie in a folder of their release, which only the test knows.
    let shim = dir.join("shim");
    let place = |text: &str| text.replace("DIR", &dir.display().to_string());
    config.push_str(&place(HANDLERS).replace("SHIM", &shim.display().to_string()));
}

async fn node(t: &Test) -> Arc<Node> {
    let node = t.own_node(NodeOptions { configure: Some(configure), ..Default::default() }).await;
    // A link, so that the configuration can name it before the release is known.
    std::os::unix::fs::symlink(node.program("containerd-shim-runc-v2"), node.dir.join("shim")).unwrap();
    node
}

fn pod_by(t: &Test, node: &Arc<Node>, handler: &str) -> PodBuilder {
    let mut pod = t.pod_on(node);
    pod.handler = handler.into();
    pod
}

/// A spec as it was given to the runtime.
async fn spec_of(container: &Container) -> Value {
    let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
    let info = container.pod.node.runtime().container_status(request).await.unwrap().into_inner().info;
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    info["runtimeSpec"].clone()
}

async fn spec_of_pause(pod: &Pod) -> Value {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let info = pod.node.runtime().pod_sandbox_status(request).await.unwrap().into_inner().info;
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    info["runtimeSpec"].clone()
}

async fn a_handlers_options_and_snapshotter_and_base_spec_are_its_pods(t: Test) {
    let node = node(&t).await;
    let pod = pod_by(&t, &node, "own").run().await;
    assert_eq!(pod.status().await.runtime_handler, "own");
    let app = pod.container("app").start().await;
    assert_eq!(app.sh("echo $FROM_BASE; ulimit -Sn; ulimit -Hn").await, "yes\n1234\n4321");
    // Every snapshot of this snapshotter is a folder; the usual one's are overlays.
    assert_ne!(app.sh("awk '$2 == \"/\" {print $3}' /proc/mounts | tail -n 1").await, "overlay");
    // runc's own folder, by its option Root.
    let runs = |id: &str| node.dir.join("runc-own/k8s.io").join(id).is_dir();
    assert!(runs(&app.id) && runs(&pod.id));
    // The default handler's pods have nothing of it.
    let plain = t.pod_on(&node).run().await.container("plain").start().await;
    assert_eq!(plain.sh("echo ${FROM_BASE:-no}").await, "no");
    assert!(!runs(&plain.id));
    plain.pod.remove().await;
    pod.remove().await;
}

async fn annotations_reach_the_runtime_by_the_handlers_patterns(t: Test) {
    let node = node(&t).await;
    let annotate = |keys: &[&str]| keys.iter().map(|key| (key.to_string(), "x".to_string())).collect();
    for (handler, passed) in [("annotated", true), ("", false)] {
        let pod = pod_by(&t, &node, handler)
            .with(|config| config.annotations = annotate(&["example.com/pod-1", "example.com/other"]));
        let pod = pod.run().await;
        let app = pod.container("app");
        let app = app.with(|config| config.annotations = annotate(&["example.com/a", "example.com/c"]));
        let app = app.start().await;
        let (of_pause, of_app) = (spec_of_pause(&pod).await, spec_of(&app).await);
        let has = |spec: &Value, key: &str| spec["annotations"].get(key).is_some();
        assert_eq!(has(&of_pause, "example.com/pod-1"), passed, "{handler:?}");
        assert_eq!(has(&of_app, "example.com/pod-1"), passed, "{handler:?}");
        assert_eq!(has(&of_app, "example.com/a"), passed, "{handler:?}");
        for key in ["example.com/other", "example.com/c"] {
            assert!(!has(&of_pause, key) && !has(&of_app, key), "{handler:?}: {key}");
        }
        pod.remove().await;
    }
}

async fn a_handlers_pods_have_its_network(t: Test) {
    let node = node(&t).await;
    let pod = pod_by(&t, &node, "network").run().await;
    assert_eq!(pod.ip().await, "10.77.66.55");
    let plain = t.pod_on(&node).run().await;
    assert!(plain.ip().await.starts_with(&node.subnet));
    plain.remove().await;
    pod.remove().await;
}

async fn privileged_pods_have_the_devices_that_their_handler_gives(t: Test) {
    let node = node(&t).await;
    // The kernel's log is a device of every node and of no container; 1 11 is its number.
    for (handler, seen, allowed) in [("", true, true), ("no-devices", false, false), ("allowed", false, true)]
    {
        let pod = pod_by(&t, &node, handler).security(|security| security.privileged = true).run().await;
        let app = pod.container("app").security(|security| security.privileged = true).start().await;
        assert_eq!(app.sh("[ -e /dev/kmsg ] && echo seen || echo none").await == "seen", seen, "{handler:?}");
        let opened = app.sh("mknod /own c 1 11 && (: </own) 2>/dev/null && echo opened || echo none").await;
        assert_eq!(opened == "opened", allowed, "{handler:?}");
        pod.remove().await;
    }
}

async fn a_runtime_of_another_kind_tells_what_its_pods_use(t: Test) {
    let node = node(&t).await;
    let pod = pod_by(&t, &node, "machine").run().await;
    let app = pod.container("app").resources(|resources| resources.memory_limit_in_bytes = 64 << 20);
    let app = app.shell("while :; do :; done").start().await;
    let idle = pod.container("idle").create().await;
    let stats = || async {
        let request = cri::ListContainerStatsRequest {
            filter: Some(cri::ContainerStatsFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() }),
        };
        node.runtime().list_container_stats(request).await.unwrap().into_inner().stats
    };
    let of = |stats: &[cri::ContainerStats], id: &str| {
        stats.iter().find(|stats| stats.attributes.as_ref().unwrap().id == id).unwrap().clone()
    };
    until("it uses CPU time", || async {
        let cpu = of(&stats().await, &app.id).cpu?;
        (cpu.usage_core_nano_seconds?.value > 0 && cpu.usage_nano_cores?.value > 0).then_some(())
    })
    .await;
    let all = stats().await;
    let memory = of(&all, &app.id).memory.unwrap();
    let (usage, available) = (memory.usage_bytes.unwrap().value, memory.available_bytes.unwrap().value);
    assert!(usage > 0 && available > 0 && available < 64 << 20, "{usage} of {available}");
    // No task, nothing used.
    assert_eq!(of(&all, &idle.id).cpu, None);
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let of_pod = node.runtime().pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    let linux = of_pod.linux.unwrap();
    assert!(linux.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(linux.process.unwrap().process_count.unwrap().value >= 1);
    let request = cri::ListPodSandboxMetricsRequest {};
    let metrics = node.runtime().list_pod_sandbox_metrics(request).await.unwrap().into_inner().pod_metrics;
    let of_pod = metrics.iter().find(|metrics| metrics.pod_sandbox_id == pod.id).expect("the pod");
    let [of_app] = &of_pod.container_metrics[..] else { panic!("one container runs: {of_pod:?}") };
    assert_eq!(of_app.container_id, app.id);
    let value = |name| of_app.metrics.iter().find(|metric| metric.name == name)?.value.as_ref();
    assert!(value("container_memory_usage_bytes").is_some_and(|value| value.value > 0), "{of_app:?}");
    assert!(value("container_processes").is_some_and(|value| value.value >= 1), "{of_app:?}");
    pod.remove().await;
}
