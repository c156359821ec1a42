//! What there is: lists and their filters, names and who holds them, and what the node says of itself.

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{GetContainerRequest, GetRequest};
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use tonic::Code;

use crate::cases;
use crate::harness::{Case, Node, Pod, Test, code_of, on_cridge, request};

pub fn cases() -> Vec<Case> {
    cases!["lists":
        pods_by_id_state_and_label,
        containers_by_id_state_label_and_pod,
        an_ids_beginning_is_enough,
        lists_say_what_statuses_say,
        a_kubelets_start,
        cadvisor_finds_pods_and_containers,
        the_runtimes_configuration;
    cridge only:
        a_repeat_of_a_running_request_joins_it,
        a_repeat_of_a_running_creation_joins_it,
        a_listed_pods_name_is_taken,
        a_listed_containers_name_is_taken,
        what_is_gone_is_not_found,
        verbose_answers_are_json,
    ]
}

async fn pods(node: &Node, filter: cri::PodSandboxFilter) -> Vec<String> {
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    let pods = node.runtime().list_pod_sandbox(request).await.unwrap().into_inner().items;
    let mut ids: Vec<_> = pods.into_iter().map(|pod| pod.id).collect();
    ids.sort_unstable();
    ids
}

fn sorted(ids: &[&str]) -> Vec<String> {
    let mut ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
    ids.sort_unstable();
    ids
}

fn labels(words: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn pods_by_id_state_and_label(t: Test) {
    let front =
        t.pod().with(|config| config.labels.extend(labels(&[("tier", "front"), ("app", "one")]))).run().await;
    let back =
        t.pod().with(|config| config.labels.extend(labels(&[("tier", "back"), ("app", "one")]))).run().await;
    back.stop().await;
    let node = t.node();
    let mine = |more: &[(&str, &str)]| {
        let mut all = labels(&[("test", t.name())]);
        all.extend(labels(more));
        cri::PodSandboxFilter { label_selector: all, ..Default::default() }
    };
    let state = |state: PodSandboxState| Some(cri::PodSandboxStateValue { state: state as i32 });
    assert_eq!(pods(node, mine(&[])).await, sorted(&[&front.id, &back.id]));
    assert_eq!(pods(node, mine(&[("app", "one")])).await, sorted(&[&front.id, &back.id]));
    assert_eq!(pods(node, mine(&[("app", "one"), ("tier", "front")])).await, [front.id.as_str()]);
    assert_eq!(pods(node, mine(&[("tier", "fro")])).await, [""; 0]);
    let ready = cri::PodSandboxFilter { state: state(PodSandboxState::SandboxReady), ..mine(&[]) };
    assert_eq!(pods(node, ready).await, [front.id.as_str()]);
    let not_ready = cri::PodSandboxFilter { state: state(PodSandboxState::SandboxNotready), ..mine(&[]) };
    assert_eq!(pods(node, not_ready).await, [back.id.as_str()]);
    for id in [&back.id, &back.id[..20]] {
        let by_id = cri::PodSandboxFilter { id: id.to_owned(), ..Default::default() };
        assert_eq!(pods(node, by_id).await, [back.id.as_str()]);
    }
    let both = cri::PodSandboxFilter { id: back.id.clone(), ..mine(&[("tier", "front")]) };
    assert_eq!(pods(node, both).await, [""; 0]);
    let unknown = cri::PodSandboxFilter { id: "0".repeat(64), ..Default::default() };
    assert_eq!(pods(node, unknown).await, [""; 0]);
}

async fn containers(node: &Node, filter: cri::ContainerFilter) -> Vec<String> {
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let containers = node.runtime().list_containers(request).await.unwrap().into_inner().containers;
    let mut ids: Vec<_> = containers.into_iter().map(|container| container.id).collect();
    ids.sort_unstable();
    ids
}

async fn containers_by_id_state_label_and_pod(t: Test) {
    let (pod, other) = (t.pod().run().await, t.pod().run().await);
    let created = pod.container("created").create().await;
    let running =
        pod.container("running").with(|config| drop(config.labels.insert("app".into(), "web".into())));
    let running = running.start().await;
    let exited = pod.container("exited").shell("exit 0").start().await;
    exited.exited().await;
    let elsewhere = other.container("running").start().await;
    let of = |pod: &Pod| cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let node = t.node();
    assert_eq!(containers(node, of(&pod)).await, sorted(&[&created.id, &running.id, &exited.id]));
    assert_eq!(containers(node, of(&other)).await, [elsewhere.id.as_str()]);
    for (state, container) in [
        (ContainerState::ContainerCreated, &created),
        (ContainerState::ContainerRunning, &running),
        (ContainerState::ContainerExited, &exited),
    ] {
        let state = Some(cri::ContainerStateValue { state: state as i32 });
        assert_eq!(
            containers(node, cri::ContainerFilter { state, ..of(&pod) }).await,
            [container.id.as_str()]
        );
    }
    let app = cri::ContainerFilter { label_selector: labels(&[("app", "web")]), ..of(&pod) };
    assert_eq!(containers(node, app).await, [running.id.as_str()]);
    let by_id = cri::ContainerFilter { id: elsewhere.id[..30].to_owned(), ..Default::default() };
    assert_eq!(containers(node, by_id).await, [elsewhere.id.as_str()]);
    let nowhere = cri::ContainerFilter { id: elsewhere.id.clone(), ..of(&pod) };
    assert_eq!(containers(node, nowhere).await, [""; 0]);
}

async fn an_ids_beginning_is_enough(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let mut runtime = t.node().runtime();
    let pod_sandbox_id = pod.id[..24].to_owned();
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
    let status = runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.id, pod.id);
    let request = cri::ContainerStatusRequest { container_id: app.id[..24].to_owned(), verbose: false };
    let status = runtime.container_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.id, app.id);
}

/// A kubelet learns from the lists what has changed, and asks for no more of what seems not to have.
async fn lists_say_what_statuses_say(t: Test) {
    let pod = t.pod().with(|config| drop(config.annotations.insert("note".into(), "of the pod".into())));
    let pod = pod.run().await;
    let app = pod.container("app").with(|config| drop(config.annotations.insert("note".into(), "x".into())));
    let app = app.shell("exit 3").start().await;
    let status = app.exited().await;
    // All that there is: whoever asks for nothing in particular.
    let mut runtime = t.node().runtime();
    let listed = runtime.list_containers(cri::ListContainersRequest { filter: None }).await.unwrap();
    let one = listed.into_inner().containers.into_iter().find(|one| one.id == app.id).unwrap();
    assert_eq!(one.pod_sandbox_id, pod.id);
    assert_eq!((one.state, one.created_at), (status.state, status.created_at));
    assert_eq!((one.metadata, one.labels), (status.metadata, status.labels));
    assert_eq!(one.annotations, status.annotations);
    // Kubelets before 1.30 know the images in use by the reference, later ones by the id.
    assert!(one.image_ref.starts_with("sha256:"), "{}", one.image_ref);
    assert_eq!(one.image_id, status.image_id);
    assert!(!on_cridge() || one.image_ref == one.image_id);
    let listed = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: None }).await.unwrap();
    let one = listed.into_inner().items.into_iter().find(|one| one.id == pod.id).unwrap();
    let status = pod.status().await;
    assert_eq!((one.state, one.created_at), (status.state, status.created_at));
    assert_eq!((one.metadata, one.labels), (status.metadata, status.labels));
    assert_eq!((one.annotations, one.runtime_handler), (status.annotations, status.runtime_handler));
}

/// A kubelet passes over what it is told is gone; any other error has it look at the whole pod again.
async fn what_is_gone_is_not_found(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    pod.remove().await;
    let mut runtime = t.node().runtime();
    assert_eq!(pod.try_status().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(app.try_status().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(app.try_start().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(app.try_exec(&["true"], 0).await.unwrap_err().code(), Code::NotFound);
    let stats = cri::ContainerStatsRequest { container_id: app.id.clone() };
    assert_eq!(code_of(runtime.container_stats(stats).await).0, Code::NotFound);
    let stats = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    assert_eq!(code_of(runtime.pod_sandbox_stats(stats).await).0, Code::NotFound);
    // What is to be gone is.
    app.stop(0).await;
    app.remove().await;
    pod.stop().await;
    pod.remove().await;
}

/// The calls that it makes, in its order; it ends itself over nearly any error.
async fn a_kubelets_start(t: Test) {
    let mut runtime = t.node().runtime();
    for _ in 0..2 {
        let version = runtime.version(cri::VersionRequest { version: String::new() }).await;
        let version = version.unwrap().into_inner();
        assert_eq!(version.version, "0.1.0");
        assert_eq!(version.runtime_api_version, "v1");
        assert!(!version.runtime_name.is_empty() && !version.runtime_version.is_empty());
        t.node().images().image_fs_info(cri::ImageFsInfoRequest {}).await.unwrap();
        if on_cridge() || t.node().release != "1.6" {
            runtime.runtime_config(cri::RuntimeConfigRequest::default()).await.unwrap();
        }
    }
    let status = runtime.status(cri::StatusRequest::default()).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    for name in ["RuntimeReady", "NetworkReady"] {
        let condition = conditions.iter().find(|condition| condition.r#type == name).unwrap();
        assert!(condition.status, "{condition:?}");
    }
    let network = cri::NetworkConfig { pod_cidr: "10.88.0.0/16,fd00::/64".into() };
    let config = cri::RuntimeConfig { network_config: Some(network) };
    let request = cri::UpdateRuntimeConfigRequest { runtime_config: Some(config) };
    runtime.update_runtime_config(request).await.unwrap();
}

/// It dials containerd itself, and knows pods and containers by their records' labels and their cgroups' names.
async fn cadvisor_finds_pods_and_containers(t: Test) {
    let pod = t.pod().with(|config| {
        config
            .labels
            .extend(labels(&[("io.kubernetes.pod.name", "a-pod"), ("io.kubernetes.pod.uid", "u-1")]));
    });
    let pod = pod.run().await;
    let app = pod.container("app").with(|config| {
        config.labels.insert("io.kubernetes.container.name".into(), "app".into());
    });
    let app = app.start().await;
    for (id, kind, asked) in
        [(&pod.id, "sandbox", &pod.config.labels), (&app.id, "container", &app.config.labels)]
    {
        let get = GetContainerRequest { id: id.clone() };
        let record = ContainersClient::new(t.node().containerd()).get(request(get)).await.unwrap();
        let record = record.into_inner().container.unwrap();
        assert_eq!(record.labels["io.cri-containerd.kind"], kind);
        for (label, value) in asked {
            assert_eq!(record.labels.get(label), Some(value), "{label} of the {kind}");
        }
        let get = GetRequest { container_id: id.clone(), exec_id: String::new() };
        let task = TasksClient::new(t.node().containerd()).get(request(get)).await.unwrap();
        let pid = task.into_inner().process.unwrap().pid;
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let scope = format!("cri-containerd-{id}.scope");
        let named = |line: &str| line.rsplit('/').next().is_some_and(|name| name == id || name == scope);
        assert!(cgroups.lines().any(named), "{cgroups}");
    }
}

async fn the_runtimes_configuration(t: Test) {
    if !on_cridge() && t.node().release == "1.6" {
        return;
    }
    let answer = t.node().runtime().runtime_config(cri::RuntimeConfigRequest::default()).await.unwrap();
    let driver = answer.into_inner().linux.unwrap().cgroup_driver();
    let systemd = std::path::Path::new("/run/systemd/system").is_dir();
    let expected = if systemd { cri::CgroupDriver::Systemd } else { cri::CgroupDriver::Cgroupfs };
    // The built-in plugin's runc is told otherwise by its own default.
    assert!(!on_cridge() || driver == expected, "{driver:?}");
}

async fn verbose_answers_are_json(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let mut runtime = t.node().runtime();
    let status = runtime.status(cri::StatusRequest { verbose: true }).await.unwrap().into_inner();
    let handlers: Vec<_> = status.runtime_handlers.iter().map(|handler| handler.name.as_str()).collect();
    assert!(handlers.contains(&"") && handlers.contains(&"runc"), "{handlers:?}");
    assert!(status.features.unwrap().supplemental_groups_policy);
    for key in ["lastCNILoadStatus", "lastCNILoadStatus.default"] {
        assert_eq!(status.info[key], "OK");
    }
    let networks: serde_json::Value = serde_json::from_str(&status.info["cniconfig"]).unwrap();
    assert!(networks["Networks"][0]["Config"]["Name"].is_string(), "{networks}");
    let conditions: Vec<_> = status.status.unwrap().conditions.into_iter().map(|one| one.r#type).collect();
    assert_eq!(conditions, ["RuntimeReady", "NetworkReady", "ContainerdHasNoDeprecationWarnings"]);
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let of_pod = runtime.pod_sandbox_status(request).await.unwrap().into_inner();
    let request = cri::ContainerStatusRequest { container_id: app.id.clone(), verbose: true };
    let of_app = runtime.container_status(request).await.unwrap().into_inner();
    for (info, pid) in [(status.info, false), (of_pod.info, true), (of_app.info, true)] {
        assert!(!info.is_empty());
        for (key, text) in info.iter().filter(|(key, _)| !key.starts_with("lastCNILoadStatus")) {
            serde_json::from_str::<serde_json::Value>(text)
                .unwrap_or_else(|why| panic!("{key}: {why}: {text}"));
        }
        if pid {
            let told: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
            let pid = told["pid"].as_u64().expect("a pid, which tools look for");
            assert!(std::path::Path::new("/proc").join(pid.to_string()).is_dir());
            assert!(told["runtimeSpec"].is_object(), "{told}");
        }
    }
}

async fn a_repeat_of_a_running_request_joins_it(t: Test) {
    let pod = t.pod();
    let (one, two, three) = tokio::join!(pod.try_run(), pod.try_run(), pod.try_run());
    let ids = [one.unwrap().id, two.unwrap().id, three.unwrap().id];
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mine = cri::PodSandboxFilter { label_selector: labels(&[("test", t.name())]), ..Default::default() };
    assert_eq!(pods(t.node(), mine).await, ids[..1]);
    // Another pod of that name is not the same request.
    let other = t.pod();
    let different = other.clone().with(|config| drop(config.labels.insert("other".into(), "yes".into())));
    let (one, two) = tokio::join!(other.try_run(), different.try_run());
    let (made, refused) = match (one, two) {
        (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
        both => panic!("one of two should be refused: {:?}", both.0.is_ok()),
    };
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains(&made.id), "should name the holder: {refused:?}");
}

async fn a_repeat_of_a_running_creation_joins_it(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app");
    let (one, two) = tokio::join!(app.try_create(), app.try_create());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id, two.id);
    let of_pod = cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    assert_eq!(containers(t.node(), of_pod).await, [one.id.as_str()]);
}

async fn a_listed_pods_name_is_taken(t: Test) {
    let builder = t.pod();
    let pod = builder.run().await;
    pods(t.node(), cri::PodSandboxFilter::default()).await;
    let refused = builder.try_run().await.map(|pod| pod.id).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains(&pod.id), "should name the holder: {refused:?}");
    // The next attempt is another name, and the name is free after the removal.
    let next = builder.clone().with(|config| config.metadata.as_mut().unwrap().attempt = 1).run().await;
    pod.remove().await;
    let again = builder.run().await;
    assert!(again.id != pod.id && again.id != next.id);
}

async fn a_listed_containers_name_is_taken(t: Test) {
    let pod = t.pod().run().await;
    let builder = pod.container("app");
    let app = builder.create().await;
    containers(t.node(), cri::ContainerFilter::default()).await;
    let refused = builder.try_create().await.map(|app| app.id).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains(&app.id), "should name the holder: {refused:?}");
    app.remove().await;
    assert_ne!(builder.create().await.id, app.id);
    // Of a pod that there is not.
    let gone = cri::CreateContainerRequest {
        pod_sandbox_id: "0".repeat(64),
        config: Some(builder.config.clone()),
        sandbox_config: Some(pod.config.clone()),
    };
    let (code, text) = code_of(t.node().runtime().create_container(gone).await);
    assert_eq!(code, Code::NotFound, "{text}");
}
