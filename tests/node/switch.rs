//! In place of containerd's own CRI plugin, and back: whoever serves the CRI, the pods are the same.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerEventType, ContainerState, PodSandboxState};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::cases;
use crate::fsck::{CGROUPS, fsck};
use crate::harness::cgroups::Parent;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, Server, Test, until};
use crate::image_volumes::{CONFIGURED, FORM, mounted, with_image};
use crate::restart::COUNT;
use crate::sessions::client;
use crate::update::{memory, pod_resources, try_update_pod};
use crate::users::in_own_users;

pub fn cases() -> Vec<Case> {
    cases!["switch": ; cridge only:
        pods_of_the_plugin_are_taken_over,
        pods_of_cridge_are_given_back,
        pods_go_there_and_back_and_there_again,
        pods_with_users_of_their_own_change_hands,
        images_in_pods_change_hands,
        a_pods_resources_change_hands,
        images_are_the_same_whoever_serves,
    ]
}

/// Ends with 7 as soon as there is a file.
const END: &str = "echo begun; until [ -e /data/go ]; do sleep 0.02; done; exit 7";
/// Tells of the end of its input, and waits.
const LISTEN: &str = "cat; echo deaf; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

async fn node(t: &Test, first: Server) -> Arc<Node> {
    t.own_node(NodeOptions { first: Some(first), ..Default::default() }).await
}

/// Pods of several kinds, with containers in every state.
struct Scene {
    t: Test,
    node: Arc<Node>,
    pod: Pod,
    created: Container,
    counting: Container,
    exited: Container,
    ending: Container,
    limited: Container,
    terminal: Container,
    listening: Container,
    /// Its containers see each other's processes; it has a cgroup of its own.
    shared: Pod,
    parent: Parent,
    host: Pod,
    stopped: Pod,
}

/// All that is told of the scene, by id.
#[derive(Default)]
struct Told {
    pods: BTreeMap<String, (cri::PodSandboxStatus, cri::PodSandbox)>,
    containers: BTreeMap<String, (cri::ContainerStatus, cri::Container)>,
}

impl Told {
    /// # Panics
    /// Where it differs, with what differs.
    fn assert_is(&self, before: &Self) {
        assert!(
            self.pods.keys().eq(before.pods.keys()) && self.containers.keys().eq(before.containers.keys())
        );
        for (id, pod) in &self.pods {
            assert_eq!(*pod, before.pods[id]);
        }
        for (id, container) in &self.containers {
            assert_eq!(*container, before.containers[id]);
        }
    }
}

impl Scene {
    async fn new(t: &Test, first: Server) -> Self {
        let node = node(t, first).await;
        let pod = t.pod_on(&node).with(|config| {
            config.annotations = [("note".to_owned(), "<&> kept".to_owned())].into();
            config.metadata.as_mut().unwrap().attempt = 2;
        });
        let pod = pod.run().await;
        let created = pod.container("created").shell("echo late").create().await;
        let counting = pod.container("counting").shell(COUNT).with(|config| {
            config.metadata.as_mut().unwrap().attempt = 3;
            config.annotations = [("restarts".to_owned(), "3".to_owned())].into();
        });
        let counting = counting.start().await;
        let exited = pod.container("exited").shell("exit 3").start().await;
        let ending = pod.container("ending").shell(END).mount(t.folder(), "/data").start().await;
        let limited = pod.container("limited").resources(|resources| {
            (resources.cpu_quota, resources.cpu_period) = (50_000, 100_000);
            resources.memory_limit_in_bytes = 64 << 20;
        });
        let limited = limited.start().await;
        limit(&limited, 96 << 20).await;
        let terminal = pod.container("terminal").with(|config| config.tty = true).start().await;
        let listening = pod.container("listening").shell(LISTEN).with(|config| config.stdin = true);
        let listening = listening.start().await;
        let parent = Parent::new(t);
        let shared = t.pod_on(&node).shared_pids().linux(|linux| linux.cgroup_parent = parent.name.clone());
        let shared = shared.run().await;
        for name in ["one", "two"] {
            shared.container(name).start().await;
        }
        let host = t.pod_on(&node).host_network().run().await;
        host.container("app").start().await;
        let stopped = t.pod_on(&node).run().await;
        stopped.container("app").start().await;
        stopped.stop().await;
        exited.exited().await;
        ending.logs("begun").await;
        counting.logs("10\n").await;
        let t = t.clone();
        Self {
            t,
            node,
            pod,
            created,
            counting,
            exited,
            ending,
            limited,
            terminal,
            listening,
            shared,
            parent,
            host,
            stopped,
        }
    }

    fn pods(&self) -> [&Pod; 4] {
        [&self.pod, &self.shared, &self.host, &self.stopped]
    }

    /// What is told by both the statuses and the lists, but of the container that ends meanwhile.
    async fn told(&self) -> Told {
        let mut told = Told::default();
        let mut runtime = self.node.runtime();
        for pod in self.pods() {
            let filter = Some(cri::PodSandboxFilter { id: pod.id.clone(), ..Default::default() });
            let rows = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter }).await.unwrap();
            let [row] = rows.into_inner().items.try_into().expect("one pod");
            told.pods.insert(pod.id.clone(), (pod.status().await, row));
            let filter = Some(cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
            let rows = runtime.list_containers(cri::ListContainersRequest { filter }).await.unwrap();
            for mut row in rows.into_inner().containers.into_iter().filter(|row| row.id != self.ending.id) {
                let request = cri::ContainerStatusRequest { container_id: row.id.clone(), verbose: false };
                let status = runtime.container_status(request).await.unwrap().into_inner().status;
                let mut status = status.expect("a status in the answer");
                if self.node.release != "2.4" {
                    // What only the newest plugin tells.
                    row.image_id.clear();
                    status.image_id.clear();
                    status.user = None;
                }
                told.containers.insert(row.id.clone(), (status, row));
            }
        }
        told
    }

    /// Has the other one serve the CRI; a container ends while nobody does, if that is asked for.
    async fn hand_over(&self, end: End) {
        let before = self.told().await;
        self.node
            .hand_over(async {
                if end == End::One {
                    std::fs::write(self.t.folder().join("go"), "").unwrap();
                    until("a container has ended", || async {
                        (!is_inhabited(&self.ending.id)).then_some(())
                    })
                    .await;
                }
            })
            .await;
        self.told().await.assert_is(&before);
    }

    /// Everything can be done to the pods that could be before.
    async fn check(&self) {
        let ended = self.ending.exited().await;
        // While neither of the two is there to hear it, the news of an end may be lost; containerd 1.6 keeps what has ended.
        let told = (ended.exit_code, ended.reason.as_str());
        assert!(told == (7, "Error") || told == (255, "Unknown") && self.node.release != "1.6", "{ended:?}");
        assert!(0 < ended.started_at && ended.started_at < ended.finished_at, "{ended:?}");
        assert_eq!(self.ending.log_text(), "begun");
        // Its input is still open: the shim holds the other end as well.
        assert_eq!(self.listening.log_text(), "");
        self.is_reached().await;
        self.is_measured().await;
        self.is_changed().await;
    }

    /// Commands, logs and streams.
    async fn is_reached(&self) {
        for container in [&self.counting, &self.limited, &self.terminal, &self.listening] {
            assert_eq!(container.sh("echo inside").await, "inside");
        }
        let address = self.counting.sh("ip -4 -o addr show eth0").await;
        assert!(address.contains(&format!(" {}/", self.pod.ip().await)), "{address}");
        let lines = self.counting.log().len();
        until("its log goes on", || async { (self.counting.log().len() > lines + 5).then_some(()) }).await;
        let request =
            cri::AttachRequest { container_id: self.counting.id.clone(), stdout: true, ..Default::default() };
        let url = self.node.runtime().attach(request).await.unwrap().into_inner().url;
        let mut client = client(&self.node, "exec", "spdy");
        let mut client = client.arg(url).stdin(Stdio::null()).spawn().unwrap();
        let mut heard = BufReader::new(client.stdout.take().unwrap()).lines();
        let number: u32 = heard.next_line().await.unwrap().expect("a line").parse().expect("a number");
        assert!(number > 10);
        client.kill().await.unwrap();
    }

    async fn is_measured(&self) {
        let request = cri::ContainerStatsRequest { container_id: self.counting.id.clone() };
        let stats = self.node.runtime().container_stats(request).await.unwrap().into_inner().stats.unwrap();
        let used = |value: Option<cri::UInt64Value>| value.expect("a figure").value;
        assert!(used(stats.cpu.unwrap().usage_core_nano_seconds) > 0);
        assert!(used(stats.memory.unwrap().working_set_bytes) > 0);
        if self.node.serves() == Server::Plugin && self.node.release == "1.6" {
            return;
        }
        let request = cri::ListPodSandboxStatsRequest {
            filter: Some(cri::PodSandboxStatsFilter { id: self.shared.id.clone(), ..Default::default() }),
        };
        let stats = self.node.runtime().list_pod_sandbox_stats(request).await.unwrap().into_inner().stats;
        let [stats] = stats.try_into().expect("the stats of one pod");
        assert_eq!(stats.linux.unwrap().containers.len(), 2);
    }

    /// Starts, stops and removals; what is told of them.
    async fn is_changed(&self) {
        limit(&self.limited, 80 << 20).await;
        let limit = self.limited.cgroup_file("memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(limit, (80 << 20).to_string());
        // Events are told of by 1.7 and later.
        let tells = self.node.serves() == Server::Cridge || self.node.release != "1.6";
        let told = tells.then(|| tokio::spawn(stop_is_told(self.counting.clone())));
        self.counting.stop(60).await;
        assert_eq!(self.counting.status().await.exit_code, 5);
        if let Some(told) = told {
            let told = tokio::time::timeout(Duration::from_secs(60), told).await;
            told.expect("the stop is told").unwrap();
        }
        self.created.start().await;
        assert_eq!(self.created.exited().await.exit_code, 0);
        assert_eq!(self.created.log_text(), "late");
        let taken = self.pod.container("limited").try_create().await.map(|made| made.id).unwrap_err();
        assert!(taken.message().contains(&self.limited.id), "{taken:?}");
        assert_eq!(self.pod.container("new").shell("echo new").output().await, "new");
        // The same namespaces, in which all see each other.
        let third = self.shared.container("three").start().await;
        until("it sees all of them", || async { (third.sh("pgrep -c -x sleep").await == "3").then_some(()) })
            .await;
        assert_eq!(self.host.container("new").shell("hostname").output().await, hostname());
        self.exited.remove().await;
        t_pods_work(&self.t, &self.node).await;
    }

    async fn remove(&self) {
        self.pod.stop().await;
        assert_eq!(self.pod.state().await, PodSandboxState::SandboxNotready);
        for pod in self.pods() {
            pod.remove().await;
        }
        until("the pod's cgroup is empty", || async { self.parent.is_empty().then_some(()) }).await;
        self.parent.remove();
    }

    /// The numbers in the log of the counting container.
    fn numbers(&self) -> Vec<u32> {
        self.counting.log().iter().map(|line| line.text.parse().expect("a whole line")).collect()
    }
}

/// Returns when an event tells that the container has stopped. The plugin answers with the first event, and not before.
async fn stop_is_told(container: Container) {
    let events = container.pod.node.runtime().get_container_events(cri::GetEventsRequest {}).await;
    let mut events = events.unwrap().into_inner();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let stopped = event.container_event_type() == ContainerEventType::ContainerStoppedEvent;
        if event.container_id == container.id && stopped {
            return;
        }
    }
    panic!("the events have ended");
}

/// What ends while nobody serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    One,
    Nothing,
}

async fn limit(container: &Container, memory: i64) {
    let linux = cri::LinuxContainerResources { memory_limit_in_bytes: memory, ..Default::default() };
    let request = cri::UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    container.pod.node.runtime().update_container_resources(request).await.expect("UpdateContainerResources");
}

/// Whether any process is in a container's cgroup.
fn is_inhabited(id: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read_to_string(process.path().join("cgroup")).is_ok_and(|groups| groups.contains(id))
    })
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

/// A pod of its own on the node, from run to removal.
async fn t_pods_work(t: &Test, node: &Arc<Node>) {
    let pod = t.pod_on(node).run().await;
    assert_eq!(pod.container("app").shell("echo works").output().await, "works");
    pod.remove().await;
}

async fn pods_of_the_plugin_are_taken_over(t: Test) {
    let scene = Scene::new(&t, Server::Plugin).await;
    scene.hand_over(End::One).await;
    scene.check().await;
    // What the plugin had read and not yet written is lost with it; from there on, all is there.
    let numbers = scene.numbers();
    let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(gaps <= 1 && numbers.is_sorted(), "{numbers:?}");
    scene.remove().await;
}

async fn pods_of_cridge_are_given_back(t: Test) {
    let scene = Scene::new(&t, Server::Cridge).await;
    scene.hand_over(End::One).await;
    scene.check().await;
    let numbers = scene.numbers();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{numbers:?}");
    scene.remove().await;
}

async fn pods_go_there_and_back_and_there_again(t: Test) {
    let scene = Scene::new(&t, Server::Plugin).await;
    for _ in 0..3 {
        scene.hand_over(End::Nothing).await;
        assert_eq!(scene.counting.state().await, ContainerState::ContainerRunning);
        t_pods_work(&t, &scene.node).await;
    }
    std::fs::write(t.folder().join("go"), "").unwrap();
    scene.check().await;
    scene.remove().await;
}

async fn pods_with_users_of_their_own_change_hands(t: Test) {
    // The plugin of 1.x makes none, or copies each image for them; it has to look after those that are there.
    let both = t.node().release.starts_with('2');
    let node = node(&t, if both { Server::Plugin } else { Server::Cridge }).await;
    let pod = in_own_users(t.pod_on(&node)).run().await;
    let app = pod.container("app").start().await;
    let users = app.sh("id -u; cat /proc/self/uid_map; readlink /proc/1/ns/user").await;
    for turn in 0..if both { 2 } else { 1 } {
        node.hand_over(async {}).await;
        assert_eq!(app.sh("id -u; cat /proc/self/uid_map; readlink /proc/1/ns/user").await, users);
        let other = pod.container(&format!("other-{turn}")).start().await;
        let of_other = other.sh("id -u; cat /proc/self/uid_map; readlink /proc/1/ns/user").await;
        // The plugin of 1.6 knows of no such pods: what it starts there has the node's users.
        assert_eq!(of_other == users, node.release != "1.6", "{of_other}");
    }
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 0);
    pod.remove().await;
}

async fn images_in_pods_change_hands(t: Test) {
    let both = t.node().release.starts_with('2');
    let node = node(&t, if both { Server::Plugin } else { Server::Cridge }).await;
    node.pull(FORM).await;
    let pod = t.pod_on(&node).run().await;
    let place = format!("image-volumes/{}/", pod.id);
    let app = with_image(pod.container("app"), FORM).start().await;
    for turn in 0..if both { 2 } else { 1 } {
        node.hand_over(async {}).await;
        assert_eq!(app.sh("cat /volume/form").await, "oci");
        if both {
            let other = with_image(pod.container(&format!("other-{turn}")), FORM).start().await;
            assert_eq!(other.sh("cat /volume/form").await, "oci");
        }
        assert_eq!(mounted(&place), 1);
    }
    pod.remove().await;
    if !both {
        // The plugin of 1.x knows of no such mounts, and leaves them to the next cridge; the lease and its snapshot stay.
        assert_eq!(mounted(&place), 1);
        node.hand_over(async {}).await;
        until("the mount is gone", || async { (mounted(&place) == 0).then_some(()) }).await;
        assert!(node.end(Signal::TERM).await.success());
        let _alone = CGROUPS.lock().await;
        assert_eq!(fsck(&node, &["--repair"]).await.code, Some(0));
        node.start().await;
    }
    assert_eq!(mounted(&place), 0);
}

async fn a_pods_resources_change_hands(t: Test) {
    // Older plugins keep what they do not know of.
    let both = t.node().release == "2.4";
    let node = node(&t, if both { Server::Plugin } else { Server::Cridge }).await;
    let pod = t.pod_on(&node).run().await;
    try_update_pod(&pod, Some(memory(5)), Some(memory(64 << 20))).await.unwrap();
    let told = pod_resources(&pod).await;
    assert_ne!(told.0, serde_json::Value::Null);
    node.hand_over(async {}).await;
    assert!(!both || pod_resources(&pod).await == told);
    node.hand_over(async {}).await;
    assert_eq!(pod_resources(&pod).await, told);
    pod.remove().await;
}

async fn images_are_the_same_whoever_serves(t: Test) {
    let node = node(&t, Server::Plugin).await;
    let form = node.pull(FORM).await;
    let by_plugin = images(&node).await;
    node.hand_over(async {}).await;
    assert_eq!(images(&node).await, by_plugin);
    // Brings the built-in pause along.
    let pod = t.pod_on(&node).run().await;
    let configured = node.pull(CONFIGURED).await;
    let by_cridge = images(&node).await;
    let pause = by_cridge.iter().find(|image| image.repo_tags[0].starts_with("cridge.local/pause"));
    assert!(pause.expect("the built-in pause").pinned || node.release == "1.6");
    node.hand_over(async {}).await;
    assert_eq!(images(&node).await, by_cridge);
    for (name, image, id) in [("one", FORM, &form), ("two", CONFIGURED, &configured)] {
        let app = pod.container(name).image(image).command(&["/bin/true"]);
        let app = app.try_create().await.expect("an image that is there whole");
        assert_eq!(&node.image(image).await.expect("an image").id, id);
        app.remove().await;
    }
    pod.remove().await;
}

/// Every image, in order of their ids; pinned or not where the plugin knows that.
async fn images(node: &Node) -> Vec<cri::Image> {
    let answer = node.images().list_images(cri::ListImagesRequest::default()).await.expect("ListImages");
    let mut images = answer.into_inner().images;
    images.sort_by(|one, other| one.id.cmp(&other.id));
    if node.release == "1.6" {
        images.iter_mut().for_each(|image| image.pinned = false);
    }
    images
}
