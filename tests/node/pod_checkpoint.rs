//! Pods' checkpoints: all of a pod at one moment, and all of it back, or nothing. By a client of our own declarations:
//! others' do not know these calls yet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cridge::proto::cri as ours;
use k8s_cri::v1::ContainerState;
use ours::runtime_service_client::RuntimeServiceClient;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cases;
use crate::checkpoint::{CONNECTED, COUNTER, count, counts_beyond, names_in};
use crate::harness::{Case, Container, ContainerBuilder, Criu, Node, NodeOptions, PodBuilder, Test};

pub fn cases() -> Vec<Case> {
    cases!["pod-checkpoint":;
    cridge only:
        a_pod_goes_on_and_comes_back,
        a_request_that_cannot_be_met_changes_nothing,
        when_one_cannot_be_taken_all_go_on,
        within_its_deadline_everything_goes_on,
        a_restore_that_fails_leaves_nothing,
    ]
}

fn client(node: &Node) -> RuntimeServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", node.socket().display()));
    RuntimeServiceClient::new(endpoint.expect("a socket's path").connect_lazy())
}

/// The same message in the other declaration.
fn translated<From: Message, To: Message + Default>(message: &From) -> To {
    To::decode(message.encode_to_vec().as_slice()).expect("one wire format")
}

fn request(containers: &[&Container], output: &Path) -> ours::CheckpointPodRequest {
    ours::CheckpointPodRequest {
        pod_sandbox_id: containers[0].pod.id.clone(),
        output_path: output.display().to_string(),
        container_ids: containers.iter().map(|container| container.id.clone()).collect(),
        options: HashMap::new(),
    }
}

fn folder(t: &Test, name: &str) -> PathBuf {
    let folder = t.folder().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

fn restore_request(
    pod: &PodBuilder,
    containers: &[&ContainerBuilder],
    from: &Path,
) -> ours::RestorePodRequest {
    ours::RestorePodRequest {
        checkpoint_path: from.display().to_string(),
        config: Some(translated(&pod.config)),
        runtime_handler: String::new(),
        options: HashMap::new(),
        container_configs: containers.iter().map(|container| translated(&container.config)).collect(),
    }
}

async fn pods_of(t: &Test) -> usize {
    use k8s_cri::v1 as cri;
    let filter = cri::PodSandboxFilter {
        label_selector: [("test".to_owned(), t.name().to_owned())].into(),
        ..Default::default()
    };
    let list = cri::ListPodSandboxRequest { filter: Some(filter) };
    t.node().runtime().list_pod_sandbox(list).await.expect("ListPodSandbox").into_inner().items.len()
}

async fn a_pod_goes_on_and_comes_back(t: Test) {
    let first = t.pod();
    let pod = first.run().await;
    let (one, two) = (
        pod.container("one").shell(&format!("echo one >/mine; {COUNTER}")),
        pod.container("two").shell(&format!("echo two >/mine; {COUNTER}")),
    );
    let (a, b) = (one.start().await, two.start().await);
    // Not chosen, so neither paused nor part of it.
    let bystander = pod.container("bystander").shell(COUNTER).start().await;
    for container in [&a, &b] {
        counts_beyond(container, 5).await;
    }
    let output = folder(&t, "pod");
    let before = [count(&a), count(&b)];
    client(t.node()).checkpoint_pod(request(&[&a, &b], &output)).await.expect("CheckpointPod");
    for container in [&a, &b, &bystander] {
        let now = count(container);
        counts_beyond(container, now + 3).await;
    }
    let names = names_in(&output);
    assert_eq!(names, [PathBuf::from("containers"), PathBuf::from("pod.options")]);
    pod.stop().await;
    pod.remove().await;

    let second = t.pod();
    let request = restore_request(&second, &[&two, &one], &output);
    let made = client(t.node()).restore_pod(request).await.expect("RestorePod").into_inner();
    let pod = second.known(&made.pod_sandbox_id).await;
    let of = |name: &str| {
        made.restored_containers.iter().find(|made| made.name == name).expect("both").container_id.clone()
    };
    let again = [pod.container("one").known(&of("one")).await, pod.container("two").known(&of("two")).await];
    assert_eq!(made.restored_containers.len(), 2);
    // What it came out of is of no more use.
    std::fs::remove_dir_all(&output).unwrap();
    for (container, before) in again.iter().zip(before) {
        assert_eq!(container.state().await, ContainerState::ContainerCreated);
        assert_eq!(container.log(), [], "it has not run yet");
        container.start().await;
        counts_beyond(container, before + 3).await;
        assert!(container.log()[0].text.parse::<u64>().unwrap() > before);
    }
    assert_eq!([again[0].sh("cat /mine").await, again[1].sh("cat /mine").await], ["one", "two"]);
}

async fn a_request_that_cannot_be_met_changes_nothing(t: Test) {
    let pod = t.pod().run().await;
    let other = t.pod().run().await;
    let app = pod.container("app").shell(COUNTER).start().await;
    let strange = other.container("strange").start().await;
    let ended = pod.container("ended").shell("true").start().await;
    ended.exited().await;
    let (empty, full) = (folder(&t, "empty"), folder(&t, "full"));
    std::fs::write(full.join("mine"), "x").unwrap();
    type Spoil<'a> = Box<dyn Fn(&mut ours::CheckpointPodRequest) + Send + Sync + 'a>;
    let cases: [(Code, &str, Spoil); 10] = [
        (Code::InvalidArgument, "container_ids: ", Box::new(|r| r.container_ids.clear())),
        (Code::InvalidArgument, "container_ids[1]: ", Box::new(|r| r.container_ids.push(app.id.clone()))),
        (Code::InvalidArgument, "container_ids[1]: ", Box::new(|r| r.container_ids.push(strange.id.clone()))),
        (Code::NotFound, "container \"nobody\"", Box::new(|r| r.container_ids.push("nobody".into()))),
        (Code::FailedPrecondition, "", Box::new(|r| r.container_ids.push(ended.id.clone()))),
        (
            Code::InvalidArgument,
            "options[\"x\"]: ",
            Box::new(|r| drop(r.options.insert("x".into(), "y".into()))),
        ),
        (Code::InvalidArgument, "output_path: ", Box::new(|r| r.output_path = full.display().to_string())),
        (Code::InvalidArgument, "output_path: ", Box::new(|r| r.output_path = "/no/such/folder".into())),
        (Code::InvalidArgument, "output_path: ", Box::new(|r| r.output_path = "relative".into())),
        (Code::NotFound, "pod sandbox \"nobody\"", Box::new(|r| r.pod_sandbox_id = "nobody".into())),
    ];
    for (code, text, spoil) in cases {
        let mut asked = request(&[&app], &empty);
        spoil(&mut asked);
        let refused = client(t.node()).checkpoint_pod(asked).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{text}: {refused:?}");
        assert!(refused.message().starts_with(text), "{text}: {refused:?}");
        assert_eq!((names_in(&empty).len(), names_in(&full).len()), (0, 1), "{refused:?}");
    }
    let now = count(&app);
    counts_beyond(&app, now + 3).await;
}

async fn when_one_cannot_be_taken_all_go_on(t: Test) {
    let pod = t.pod().run().await;
    let sound = pod.container("sound").shell(COUNTER).start().await;
    let connected = pod.container("connected").shell(&format!("{CONNECTED}; {COUNTER}")).start().await;
    counts_beyond(&connected, 3).await;
    let output = folder(&t, "pod");
    let refused =
        client(t.node()).checkpoint_pod(request(&[&sound, &connected], &output)).await.map(drop).unwrap_err();
    assert!(refused.message().contains("onnected TCP socket"), "{refused:?}");
    assert!(refused.message().contains(&connected.id), "it says whose: {refused:?}");
    assert_eq!(names_in(&output), [] as [PathBuf; 0]);
    for container in [&sound, &connected] {
        let now = count(container);
        counts_beyond(container, now + 3).await;
    }
}

async fn within_its_deadline_everything_goes_on(t: Test) {
    let node = t.own_node(NodeOptions { criu: Criu::Stuck, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let (one, two) = (
        pod.container("one").shell(COUNTER).start().await,
        pod.container("two").shell(COUNTER).start().await,
    );
    counts_beyond(&two, 3).await;
    let output = folder(&t, "pod");
    let mut asked = tonic::Request::new(request(&[&one, &two], &output));
    asked.set_timeout(std::time::Duration::from_secs(60));
    // A caller that goes away ends it as well; this one waits for the answer.
    asked.metadata_mut().insert("grpc-timeout", "2S".parse().unwrap());
    let late: Status = client(&node).checkpoint_pod(asked).await.map(drop).unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    for container in [&one, &two] {
        let now = count(container);
        counts_beyond(container, now + 3).await;
    }
    crate::harness::until("the folder is empty", || async { names_in(&output).is_empty().then_some(()) })
        .await;
}

async fn a_restore_that_fails_leaves_nothing(t: Test) {
    let first = t.pod();
    let pod = first.run().await;
    let (one, two) = (pod.container("one").shell(COUNTER), pod.container("two").shell(COUNTER));
    let (a, b) = (one.start().await, two.start().await);
    counts_beyond(&b, 1).await;
    let output = folder(&t, "pod");
    client(t.node()).checkpoint_pod(request(&[&a, &b], &output)).await.expect("CheckpointPod");
    pod.stop().await;
    pod.remove().await;

    let second = t.pod();
    let changed = two.clone().shell("another script");
    let environment = two.clone().with(|config| {
        config.envs.push(k8s_cri::v1::KeyValue { key: "NEW".into(), ..Default::default() });
    });
    let unknown = two.clone().with(|config| config.metadata.as_mut().unwrap().name = "three".into());
    let sound = || restore_request(&second, &[&one, &two], &output);
    let with = |containers: &[&ContainerBuilder]| restore_request(&second, containers, &output);
    let cases = [
        (Code::InvalidArgument, "container_configs[1] cannot be restored: ", with(&[&one, &changed])),
        (Code::InvalidArgument, "container_configs[1] cannot be restored: ", with(&[&one, &environment])),
        (Code::InvalidArgument, "container_configs: there is none for container \"two\"", with(&[&one])),
        (Code::InvalidArgument, "container_configs: ", with(&[&one, &unknown])),
        (Code::InvalidArgument, "container_configs: is required", with(&[])),
        (Code::InvalidArgument, "container_configs[1].metadata.name: ", with(&[&one, &one])),
        (Code::InvalidArgument, "config: is required", ours::RestorePodRequest { config: None, ..sound() }),
        (
            Code::InvalidArgument,
            "options[\"x\"]: ",
            ours::RestorePodRequest { options: [("x".to_owned(), String::new())].into(), ..sound() },
        ),
        (
            Code::InvalidArgument,
            "",
            ours::RestorePodRequest { runtime_handler: "nobody's".into(), ..sound() },
        ),
        (
            Code::InvalidArgument,
            "",
            ours::RestorePodRequest { checkpoint_path: t.folder().display().to_string(), ..sound() },
        ),
    ];
    for (code, text, asked) in cases {
        let refused = client(t.node()).restore_pod(asked).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{text}: {refused:?}");
        assert!(refused.message().starts_with(text), "{text}: {refused:?}");
        assert_eq!(pods_of(&t).await, 0, "{refused:?}");
    }
    // The checkpoint is as good as it was, and the name free.
    let made = client(t.node()).restore_pod(sound()).await.expect("RestorePod").into_inner();
    second.known(&made.pod_sandbox_id).await;
    assert_eq!(pods_of(&t).await, 1);
}
