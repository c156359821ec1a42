//! What is answered while pods come and go: no error, whatever is there throughout, and nothing that is gone.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, future};
use k8s_cri::v1 as cri;
use tonic::Code;

use crate::cases;
use crate::harness::cgroups::Parent;
use crate::harness::{Case, Container, Node, NodeOptions, Test};

pub fn cases() -> Vec<Case> {
    cases!["churn": ; cridge only:
        lists_are_true_while_pods_come_and_go,
        a_dying_container_is_measured_or_gone,
    ]
}

/// Pods that come and go, and how many are there at a time.
const PODS: usize = 50;
const AT_ONCE: usize = 6;

/// What is there beyond doubt, and what is gone beyond doubt.
#[derive(Clone, Default)]
struct Known {
    there: HashSet<String>,
    gone: HashSet<String>,
}

type Books = Arc<Mutex<Known>>;

impl Known {
    /// Of what was known before and after a list was asked for: what it must have, and what it must not have.
    fn check(&self, after: &Self, what: &str, listed: Vec<String>) {
        let ids: HashSet<_> = listed.iter().cloned().collect();
        assert_eq!(ids.len(), listed.len(), "{what} has a row twice");
        let throughout = self.there.intersection(&after.there);
        let missing: Vec<_> = throughout.filter(|id| !ids.contains(*id)).collect();
        assert!(missing.is_empty(), "{what} leaves out {missing:?}");
        let stale: Vec<_> = self.gone.intersection(&ids).collect();
        assert!(stale.is_empty(), "{what} has {stale:?}, which had been removed");
    }
}

/// One list after the other, each held against what is known of those that it is about.
async fn look(node: &Node, pods: &Books, containers: &Books) {
    let mut runtime = node.runtime();
    let known = || (pods.lock().unwrap().clone(), containers.lock().unwrap().clone());

    let before = known();
    let rows =
        runtime.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
    assert!(rows.iter().all(|row| row.metadata.is_some() && row.created_at > 0), "{rows:?}");
    before.0.check(&known().0, "ListPodSandbox", rows.into_iter().map(|row| row.id).collect());

    let before = known();
    let answer = runtime.list_containers(cri::ListContainersRequest::default()).await.unwrap();
    let rows = answer.into_inner().containers;
    assert!(rows.iter().all(|row| !row.image_ref.is_empty() && row.created_at > 0), "{rows:?}");
    before.1.check(&known().1, "ListContainers", rows.into_iter().map(|row| row.id).collect());

    let before = known();
    let answer = runtime.list_container_stats(cri::ListContainerStatsRequest::default()).await.unwrap();
    let ids = answer.into_inner().stats.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
    before.1.check(&known().1, "ListContainerStats", ids);

    let before = known();
    let answer = runtime.list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default()).await.unwrap();
    let ids = answer.into_inner().stats.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
    before.0.check(&known().0, "ListPodSandboxStats", ids);

    let before = known();
    let request = cri::ListPodSandboxMetricsRequest::default();
    let answer = runtime.list_pod_sandbox_metrics(request).await.unwrap();
    let ids = answer.into_inner().pod_metrics.into_iter().map(|metrics| metrics.pod_sandbox_id).collect();
    before.0.check(&known().0, "ListPodSandboxMetrics", ids);
}

async fn lists_are_true_while_pods_come_and_go(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let (pods, containers) = (Books::default(), Books::default());
    let over = AtomicBool::new(false);
    let churn = async {
        let lives = futures::stream::iter(0..PODS).map(|n| one_life(&t, &node, n, &pods, &containers));
        lives.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        over.store(true, Ordering::Relaxed);
    };
    let looking = async {
        while !over.load(Ordering::Relaxed) {
            look(&node, &pods, &containers).await;
        }
    };
    future::join(churn, looking).await;
    look(&node, &pods, &containers).await;
    assert_eq!(pods.lock().unwrap().gone.len(), PODS);
    let left = node.runtime().list_containers(cri::ListContainersRequest::default()).await.unwrap();
    assert_eq!(left.into_inner().containers, []);
}

/// A pod that runs, stands still for some other's time, and goes: every second one all at once, without a stop.
async fn one_life(t: &Test, node: &Arc<Node>, n: usize, pods: &Books, containers: &Books) {
    let pod = t.pod_on(node).run().await;
    pods.lock().unwrap().there.insert(pod.id.clone());
    let app = pod.container("app").start().await;
    containers.lock().unwrap().there.insert(app.id.clone());
    app.sh("true").await;
    let leave = |books: &Books, id: &str| books.lock().unwrap().there.remove(id);
    let left = |books: &Books, id: &str| books.lock().unwrap().gone.insert(id.to_owned());
    if n.is_multiple_of(2) {
        app.stop(0).await;
        leave(containers, &app.id);
        app.remove().await;
        left(containers, &app.id);
    }
    leave(containers, &app.id);
    leave(pods, &pod.id);
    pod.remove().await;
    left(containers, &app.id);
    left(pods, &pod.id);
}

/// Deaths that are looked at from start to removal.
const DEATHS: usize = 10;

async fn a_dying_container_is_measured_or_gone(t: Test) {
    let parent = Parent::new(&t);
    let pod = t.pod().linux(|linux| linux.cgroup_parent = parent.name.clone()).run().await;
    for n in 0..DEATHS {
        let app = pod.container(&format!("app-{n}")).shell("sleep 0.0$((RANDOM % 9))").create().await;
        let removed = AtomicBool::new(false);
        let life = async {
            app.start().await;
            app.exited().await;
            app.remove().await;
            removed.store(true, Ordering::Relaxed);
        };
        let looking = async {
            while !removed.load(Ordering::Relaxed) {
                measure(&app).await;
            }
        };
        future::join(life, looking).await;
    }
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let stats = t.node().runtime().pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert_eq!(stats.linux.unwrap().containers, []);
    pod.remove().await;
    parent.remove();
}

/// Whole figures or none, the container's own; or it is not there.
async fn measure(app: &Container) {
    let mut runtime = app.pod.node.runtime();
    match runtime.container_stats(cri::ContainerStatsRequest { container_id: app.id.clone() }).await {
        Ok(answer) => {
            let stats = answer.into_inner().stats.unwrap();
            assert_eq!(stats.attributes.unwrap().id, app.id);
            if let Some(cpu) = stats.cpu {
                assert!(cpu.timestamp > 0 && cpu.usage_core_nano_seconds.is_some(), "{cpu:?}");
            }
            if let Some(memory) = stats.memory {
                assert!(memory.timestamp > 0 && memory.working_set_bytes.is_some(), "{memory:?}");
            }
        }
        Err(status) => assert_eq!(status.code(), Code::NotFound, "{status:?}"),
    }
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: app.pod.id.clone() };
    let stats = runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    let linux = stats.linux.unwrap();
    assert!(linux.cpu.is_some() && linux.memory.is_some(), "the pod lives on: {linux:?}");
}
