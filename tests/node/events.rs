//! GetContainerEvents: what a kubelet with EventedPLEG stands on.

use std::sync::{Arc, Mutex};

use containerd_client::services::v1::GetRequest;
use containerd_client::services::v1::tasks_client::TasksClient;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_cri::v1 as cri;
use k8s_cri::v1::ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
    ContainerStoppedEvent as Stopped,
};
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ContainerEventType, ContainerState, PodSandboxState};
use rustix::process::{Pid, Signal, kill_process};
use tonic::{Code, Status};

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, Test, request, until};

pub fn cases() -> Vec<Case> {
    cases!["events": ; cridge only:
        a_pods_life_is_told_in_order,
        every_subscriber_hears_the_same,
        who_never_reads_delays_nobody_and_is_cut_off,
        a_death_is_told_with_its_code,
        a_pauses_death_is_told,
        a_stream_outlives_containerd,
        the_end_of_cridge_ends_it,
        a_death_that_nobody_saw_is_told_to_the_next_who_asks,
    ]
}

pub type Event = cri::ContainerEventResponse;

/// A subscriber that reads.
pub struct Ear {
    heard: Arc<Mutex<Vec<Event>>>,
    reading: tokio::task::JoinHandle<Result<(), Status>>,
}

impl Ear {
    pub async fn at(node: &Node) -> Self {
        let stream = node.runtime().get_container_events(cri::GetEventsRequest {}).await;
        let mut stream = stream.expect("GetContainerEvents").into_inner();
        let heard = Arc::<Mutex<Vec<Event>>>::default();
        let reading = tokio::spawn({
            let heard = heard.clone();
            async move {
                while let Some(event) = stream.try_next().await? {
                    heard.lock().unwrap().push(event);
                }
                Ok(())
            }
        });
        Self { heard, reading }
    }

    /// What it has heard of a pod.
    pub fn of(&self, pod: &Pod) -> Vec<Event> {
        let of_pod = |event: &&Event| event.pod_sandbox_status.as_ref().is_some_and(|s| s.id == pod.id);
        self.heard.lock().unwrap().iter().filter(of_pod).cloned().collect()
    }

    /// What it has heard of a pod, once that has been told.
    #[track_caller]
    fn up_to(&self, pod: &Pod, id: &str, what: ContainerEventType) -> impl Future<Output = Vec<Event>> {
        until(format!("{what:?} of {id} is told"), move || async move {
            let events = self.of(pod);
            let told = events.iter().any(|e| e.container_id == id && e.container_event_type() == what);
            told.then_some(events)
        })
    }
}

fn outline(events: &[Event]) -> Vec<(&str, ContainerEventType)> {
    events.iter().map(|event| (event.container_id.as_str(), event.container_event_type())).collect()
}

fn status_of<'a>(event: &'a Event, container: &Container) -> &'a cri::ContainerStatus {
    let statuses = &event.containers_statuses;
    statuses.iter().find(|status| status.id == container.id).expect("the status of every container")
}

async fn a_pods_life_is_told_in_order(t: Test) {
    let ear = Ear::at(t.node()).await;
    let pod = t.pod().run().await;
    let first = pod.container("first").create().await;
    let second = pod.container("second").create().await;
    first.start().await;
    second.start().await;
    let (status, running) = (pod.status().await, first.status().await);
    second.stop(0).await;
    second.remove().await;
    pod.stop().await;
    pod.remove().await;
    let events = ear.up_to(&pod, &pod.id, Deleted).await;
    let (p, a, b) = (pod.id.as_str(), first.id.as_str(), second.id.as_str());
    assert_eq!(
        outline(&events),
        [
            (p, Created),
            (p, Started),
            (a, Created),
            (b, Created),
            (a, Started),
            (b, Started),
            (b, Stopped),
            (b, Deleted),
            (a, Stopped),
            (p, Stopped),
            (a, Deleted),
            (p, Deleted),
        ]
    );
    assert!(events.windows(2).all(|pair| pair[0].created_at < pair[1].created_at), "{events:?}");
    // The pod as it was then, with all of its containers.
    assert_eq!(events[0].containers_statuses, []);
    assert_eq!(events[0].pod_sandbox_status.as_ref(), Some(&status));
    assert_eq!(events[3].containers_statuses.len(), 2);
    assert_eq!(status_of(&events[3], &second).state(), ContainerState::ContainerCreated);
    assert_eq!(*status_of(&events[4], &first), running);
    assert_eq!(status_of(&events[4], &second).state(), ContainerState::ContainerCreated);
    assert_eq!(status_of(&events[6], &second).exit_code, 137);
    assert_eq!(events[7].containers_statuses.len(), 1, "what is deleted is not there any more");
    let ended = events[9].pod_sandbox_status.as_ref().unwrap();
    assert_eq!(ended.state(), PodSandboxState::SandboxNotready);
    assert_eq!(events[11].pod_sandbox_status.as_ref().unwrap().metadata, status.metadata);
}

async fn every_subscriber_hears_the_same(t: Test) {
    let first = Ear::at(t.node()).await;
    let ears = futures::future::join_all((0..5).map(|_| Ear::at(t.node()))).await;
    let pod = t.pod().run().await;
    pod.container("app").start().await;
    // Whoever leaves is no matter to the others.
    first.reading.abort();
    pod.remove().await;
    let told = ears[0].up_to(&pod, &pod.id, Deleted).await;
    assert_eq!(told.len(), 8, "{:?}", outline(&told));
    for ear in &ears {
        assert_eq!(ear.up_to(&pod, &pod.id, Deleted).await, told);
    }
}

/// More events than a subscriber may be behind.
const FLOOD: usize = 1100;

async fn who_never_reads_delays_nobody_and_is_cut_off(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    // Of a client that takes little unread.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", node.socket().display()));
    let channel = endpoint.unwrap().initial_stream_window_size(65_535).connect_lazy();
    let asked = RuntimeServiceClient::new(channel).get_container_events(cri::GetEventsRequest {}).await;
    let mut deaf = asked.unwrap().into_inner();
    let ear = Ear::at(&node).await;
    let note = ("note".to_owned(), "x".repeat(100_000));
    let pod = t.pod_on(&node).with(|config| config.annotations.extend([note])).run().await;
    pod.container("app").start().await;
    let comings = futures::stream::iter(0..FLOOD / 2).for_each_concurrent(8, |n| {
        let (pod, node) = (pod.clone(), node.clone());
        async move {
            let request = cri::CreateContainerRequest {
                pod_sandbox_id: pod.id.clone(),
                config: Some(pod.container(&format!("c{n}")).config),
                sandbox_config: Some(pod.config.clone()),
            };
            let id = node.runtime().create_container(request).await.unwrap().into_inner().container_id;
            let request = cri::RemoveContainerRequest { container_id: id };
            node.runtime().remove_container(request).await.unwrap();
        }
    });
    comings.await;
    let other = t.pod_on(&node).run().await;
    other.container("app").start().await;
    other.remove().await;
    pod.remove().await;
    let told = ear.up_to(&pod, &pod.id, Deleted).await;
    assert_eq!(told.len(), FLOOD / 2 * 2 + 8, "who reads hears it all");
    let cut = loop {
        match deaf.message().await {
            Ok(event) => assert!(event.is_some(), "the stream ended as if that were all"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::ResourceExhausted, "{cut:?}");
    assert!(cut.message().contains("subscribe again"), "should say what to do: {cut:?}");
}

async fn a_death_is_told_with_its_code(t: Test) {
    let ear = Ear::at(t.node()).await;
    let pod = t.pod().run().await;
    let hungry = pod.container("hungry").shell("tail /dev/zero").resources(|resources| {
        resources.memory_limit_in_bytes = 32 << 20;
        resources.memory_swap_limit_in_bytes = 32 << 20;
    });
    let failing = pod.container("failing").shell("exit 3");
    let killed = pod.container("killed").shell("kill -KILL $$");
    // No process kills the first one of its own namespace.
    let killed = killed.pids(cri::NamespaceMode::Node, "");
    for (app, code, reason) in [(hungry, 137, "OOMKilled"), (failing, 3, "Error"), (killed, 137, "Error")] {
        let app = app.start().await;
        let told = ear.up_to(&pod, &app.id, Stopped).await;
        let status = status_of(told.last().unwrap(), &app);
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{status:?}");
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!(*status, app.status().await);
    }
}

async fn a_pauses_death_is_told(t: Test) {
    let ear = Ear::at(t.node()).await;
    let pod = t.pod().run().await;
    let app = pod.container("app").start().await;
    let get = GetRequest { container_id: pod.id.clone(), ..Default::default() };
    let task = TasksClient::new(t.node().containerd()).get(request(get)).await.unwrap().into_inner();
    let pid = Pid::from_raw(task.process.unwrap().pid as i32).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let told = ear.up_to(&pod, &pod.id, Stopped).await;
    let last = told.last().unwrap();
    assert_eq!(last.pod_sandbox_status.as_ref().unwrap().state(), PodSandboxState::SandboxNotready);
    assert_eq!(last.containers_statuses, [app.status().await]);
}

async fn a_stream_outlives_containerd(t: Test) {
    for signal in [Signal::TERM, Signal::KILL] {
        let node = t.own_node(NodeOptions::default()).await;
        let ear = Ear::at(&node).await;
        let pod = t.pod_on(&node).run().await;
        let (before, after) = (t.folder().join("before"), t.folder().join("after"));
        let app = |name: &str| {
            let script = format!("until [ -e /data/{name} ]; do sleep 0.02; done; exit 7");
            pod.container(name).shell(&script).mount(t.folder(), "/data")
        };
        let first = app("before").start().await;
        let second = app("after").start().await;
        node.end_containerd(signal).await;
        std::fs::write(&before, "").unwrap();
        node.start_containerd();
        let told = ear.up_to(&pod, &first.id, Stopped).await;
        // With its code, or as lost: that is a test of its own.
        assert_eq!(*status_of(told.last().unwrap(), &first), first.status().await);
        node.in_step().await;
        std::fs::write(&after, "").unwrap();
        let told = ear.up_to(&pod, &second.id, Stopped).await;
        assert_eq!(status_of(told.last().unwrap(), &second).exit_code, 7);
        assert!(!ear.reading.is_finished(), "the kubelet gives up on a stream that breaks five times");
        pod.remove().await;
        let (p, a, b) = (pod.id.as_str(), first.id.as_str(), second.id.as_str());
        let told = ear.up_to(&pod, &pod.id, Deleted).await;
        let told = outline(&told);
        let stops = told.iter().filter(|(_, what)| *what == Stopped).map(|(id, _)| *id);
        assert_eq!(stops.collect::<Vec<_>>(), [a, b, p], "each death is told once");
        std::fs::remove_file(before).unwrap();
        std::fs::remove_file(after).unwrap();
    }
}

async fn the_end_of_cridge_ends_it(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    let ear = Ear::at(&node).await;
    assert!(node.end(Signal::TERM).await.success());
    let ended = ear.reading.await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    assert!(ended.message().contains("being stopped"), "{ended:?}");
    let log = node.log_tail(5);
    assert!(!log.contains("still under way"), "it must not hold up the drain: {log}");
    node.start().await;
}

async fn a_death_that_nobody_saw_is_told_to_the_next_who_asks(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let script = "until [ -e /data/go ]; do sleep 0.02; done; exit 7";
    let app = pod.container("app").shell(script).mount(t.folder(), "/data").start().await;
    assert!(node.end(Signal::TERM).await.success());
    std::fs::write(t.folder().join("go"), "").unwrap();
    node.start().await;
    app.exited().await;
    let ear = Ear::at(&node).await;
    let told = ear.up_to(&pod, &app.id, Stopped).await;
    assert_eq!(outline(&told), [(app.id.as_str(), Stopped)]);
    assert_eq!(*status_of(&told[0], &app), app.status().await);
    // It is told once.
    let late = Ear::at(&node).await;
    pod.remove().await;
    let told = late.up_to(&pod, &pod.id, Deleted).await;
    let (p, a) = (pod.id.as_str(), app.id.as_str());
    assert_eq!(outline(&told), [(a, Deleted), (p, Stopped), (p, Deleted)]);
}
