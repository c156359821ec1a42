//! A thousand containers that somebody has left: a daemon that comes knows them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::containers_client::ContainersClient;
use futures::StreamExt as _;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Test, request};

pub fn cases() -> Vec<Case> {
    cases!["crowd": ; cridge only: a_thousand_records_are_taken_in]
}

/// With three containers in each, a thousand records.
const PODS: usize = 250;
const EACH: usize = 3;
/// Calls at once.
const AT_ONCE: usize = 16;

/// A record to be copied, and what has to be another's in each copy.
struct Model {
    record: api::Container,
    /// With the container's name, as only it has it.
    words: Vec<String>,
}

impl Model {
    async fn of(node: &Node, id: &str, words: Vec<String>) -> Self {
        let get = api::GetContainerRequest { id: id.to_owned() };
        let answer = ContainersClient::new(node.containerd()).get(request(get)).await.unwrap();
        Self { record: answer.into_inner().container.unwrap(), words }
    }

    fn copy(&self, words: &[String]) -> api::Container {
        let replaced = |text: &str| {
            self.words.iter().zip(words).fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
        };
        let mut record = self.record.clone();
        (record.id, record.snapshot_key) = (replaced(&record.id), replaced(&record.snapshot_key));
        record.sandbox = replaced(&record.sandbox);
        for blob in record.extensions.values_mut().chain(&mut record.spec) {
            blob.value = replaced(std::str::from_utf8(&blob.value).unwrap()).into_bytes();
        }
        record
    }
}

fn id(number: usize) -> String {
    format!("{:064x}", number + 0xc0de_0000)
}

/// Puts the records of a crowd into containerd, with a status file for each container; the container's ids and codes.
async fn make(node: &Arc<Node>, app: &Container) -> BTreeMap<String, i32> {
    let pod_name = &app.pod.config.metadata.as_ref().unwrap().name;
    let words = vec![app.pod.id.clone(), app.id.clone(), pod_name.clone()];
    let pod = Model::of(node, &app.pod.id, words.clone()).await;
    let container = Model::of(node, &app.id, words).await;
    let status = fs::read_to_string(folder_of(node, &app.id).join("status")).unwrap();
    let (mut records, mut codes) = (Vec::new(), BTreeMap::new());
    for number in 0..PODS {
        let first = number * (EACH + 1);
        let name = format!("crowd-{number}");
        records.push(pod.copy(&[id(first), String::new(), name.clone()]));
        for other in 1..=EACH {
            let (id, code) = (id(first + other), (other * 7 + number % 50) as i32);
            // A name is one container's alone.
            let named = format!("{name}-{other}");
            records.push(container.copy(&[self::id(first), id.clone(), named]));
            fs::create_dir_all(folder_of(node, &id)).unwrap();
            let text = status.replace(r#""ExitCode":3"#, &format!(r#""ExitCode":{code}"#));
            fs::write(folder_of(node, &id).join("status"), text).unwrap();
            codes.insert(id, code);
        }
    }
    let create = |record: api::Container| {
        let mut containers = ContainersClient::new(node.containerd());
        async move {
            let create = api::CreateContainerRequest { container: Some(record) };
            containers.create(request(create)).await.unwrap();
        }
    };
    futures::stream::iter(records).for_each_concurrent(AT_ONCE, create).await;
    codes
}

fn folder_of(node: &Node, id: &str) -> PathBuf {
    node.server_dirs()[0].join("containers").join(id)
}

async fn a_thousand_records_are_taken_in(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    // On the node's network, so that there is nothing to detach.
    let pod = t.pod_on(&node).host_network().run().await;
    let app = pod.container("app").shell("exit 3").start().await;
    app.exited().await;
    node.end(Signal::TERM).await;
    let codes = make(&node, &app).await;
    let began = Instant::now();
    node.start().await;
    node.in_step().await;
    eprintln!("{}: {} records are taken in after {:?}", node.release, PODS * (EACH + 1), began.elapsed());

    let mut runtime = node.runtime();
    let pods =
        runtime.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
    assert_eq!(pods.len(), PODS + 1);
    let ready: Vec<_> = pods.iter().filter(|pod| pod.state() == PodSandboxState::SandboxReady).collect();
    assert!(ready.len() == 1 && ready[0].id == pod.id, "{ready:?}");
    let listed = runtime.list_containers(cri::ListContainersRequest::default()).await.unwrap();
    let listed = listed.into_inner().containers;
    assert_eq!(listed.len(), codes.len() + 1);
    assert!(listed.iter().all(|one| one.state() == ContainerState::ContainerExited), "all have ended");
    for (id, code) in codes.iter().step_by(25) {
        let status = cri::ContainerStatusRequest { container_id: id.clone(), verbose: false };
        let status = runtime.container_status(status).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.exit_code, *code);
    }
    assert_eq!(pod.container("new").shell("echo works").output().await, "works");
    let remove = |pod: cri::PodSandbox| {
        let mut runtime = node.runtime();
        async move {
            let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id };
            runtime.remove_pod_sandbox(request).await.expect("RemovePodSandbox");
        }
    };
    futures::stream::iter(pods).for_each_concurrent(AT_ONCE, remove).await;
}
