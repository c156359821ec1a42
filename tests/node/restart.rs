//! Nothing is lost with a process: cridge, containerd or both end in peace or are killed, and all is as it was.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1::GetRequest;
use containerd_client::services::v1::tasks_client::TasksClient;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;
use tonic::Code;

use crate::cases;
use crate::harness::{Case, Container, Node, NodeOptions, Pod, Test, is_emulated, processes, request, until};

pub fn cases() -> Vec<Case> {
    cases!["restart": ; cridge only:
        all_outlives_the_end_of_cridge,
        all_outlives_the_death_of_cridge,
        all_outlives_the_end_of_containerd,
        all_outlives_the_death_of_containerd,
        all_outlives_the_death_of_both,
        a_pod_in_the_making_outlives_no_death,
        a_container_in_the_making_outlives_no_death,
        a_removal_is_finished_after_a_death,
        what_has_run_is_not_run_again,
        a_second_daemon_on_the_same_state_is_refused,
        a_pod_whose_pause_dies_is_not_ready,
        a_pod_whose_shim_dies_has_nothing_that_runs,
    ]
}

/// One pod with a container in each state, and one that ends when it is told to.
struct Scene {
    t: Test,
    node: Arc<Node>,
    pod: Pod,
    created: Container,
    counting: Container,
    exited: Container,
    ending: Container,
}

/// Writes a number a line, until it is stopped.
pub const COUNT: &str = "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
/// Ends with 7 as soon as there is a file.
const END: &str = "echo begun; until [ -e /data/go ]; do sleep 0.02; done; echo ended; exit 7";

impl Scene {
    async fn new(t: &Test) -> Self {
        let node = t.own_node(NodeOptions::default()).await;
        let pod = t.pod_on(&node).run().await;
        let created = pod.container("created").shell("echo late").create().await;
        let counting = pod.container("counting").shell(COUNT).start().await;
        let exited = pod.container("exited").shell("exit 3").start().await;
        let ending = pod.container("ending").shell(END).mount(t.folder(), "/data").start().await;
        exited.exited().await;
        ending.logs("begun").await;
        counting.logs("10\n").await;
        Self { t: t.clone(), node, pod, created, counting, exited, ending }
    }

    /// Has one container end now, while nobody looks.
    async fn end_one(&self) {
        let log_before = self.ending.log_text();
        std::fs::write(self.t.folder().join("go"), "").unwrap();
        let process = self.pid_of_ending().await;
        until("the container has ended", || async { (!process.is_dir()).then_some(()) }).await;
        assert_eq!(log_before, "begun");
    }

    async fn pid_of_ending(&self) -> std::path::PathBuf {
        // By its command, as neither daemon may be there to ask.
        let found = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|process| {
            std::fs::read_to_string(process.join("cgroup")).is_ok_and(|text| text.contains(&self.ending.id))
        });
        found.unwrap_or_else(|| std::path::PathBuf::from("/proc/0"))
    }

    /// All is as it was, the end in between is told as it was, and everything can be done that could.
    async fn check(&self, before: &[cri::ContainerStatus]) {
        let ended = self.ending.exited().await;
        // A shim repeats its words for some fifteen seconds: before that a containerd is back, unless it is emulated.
        let told = (ended.exit_code, ended.reason.as_str());
        assert!(told == (7, "Error") || told == (255, "Unknown") && is_emulated(), "{ended:?}");
        assert!(ended.started_at < ended.finished_at, "{ended:?}");
        // What it wrote last is a test of its own (absence.rs).
        assert!(self.ending.log_text().starts_with("begun"));
        for (container, before) in [&self.created, &self.counting, &self.exited].into_iter().zip(before) {
            assert_eq!(container.status().await, *before);
        }
        let status = self.pod.status().await;
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert!(!self.pod.ip().await.is_empty());
        // What ran goes on: exec, log, stop.
        assert_eq!(self.counting.sh("echo inside").await, "inside");
        let lines = self.counting.log().len();
        until("its log goes on", || async { (self.counting.log().len() > lines + 5).then_some(()) }).await;
        self.counting.stop(60).await;
        assert_eq!(self.counting.status().await.exit_code, 5);
        // What was created is started, and what is new is made.
        self.created.start().await;
        assert_eq!(self.created.exited().await.exit_code, 0);
        assert_eq!(self.created.log_text(), "late");
        let taken = self.pod.container("counting").try_create().await.map(|made| made.id).unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists);
        assert!(taken.message().contains(&self.counting.id), "{taken:?}");
        assert_eq!(self.pod.container("new").shell("echo new").output().await, "new");
        t_pods_work(&self.t, &self.node).await;
    }

    async fn before(&self) -> Vec<cri::ContainerStatus> {
        vec![self.created.status().await, self.counting.status().await, self.exited.status().await]
    }

    /// The numbers in the log of the counting container.
    fn numbers(&self) -> Vec<u32> {
        self.counting.log().iter().map(|line| line.text.parse().expect("a whole line")).collect()
    }
}

/// A pod of its own on the node, from run to removal.
async fn t_pods_work(t: &Test, node: &Arc<Node>) {
    let pod = t.pod_on(node).run().await;
    assert_eq!(pod.container("app").shell("echo works").output().await, "works");
    pod.remove().await;
}

async fn all_outlives_the_end_of_cridge(t: Test) {
    let scene = Scene::new(&t).await;
    let before = scene.before().await;
    assert!(scene.node.end(Signal::TERM).await.success());
    scene.end_one().await;
    scene.node.start().await;
    scene.check(&before).await;
    // Exactly once, over a restart in peace.
    let numbers = scene.numbers();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{numbers:?}");
}

async fn all_outlives_the_death_of_cridge(t: Test) {
    let scene = Scene::new(&t).await;
    let before = scene.before().await;
    scene.node.end(Signal::KILL).await;
    scene.end_one().await;
    scene.node.start().await;
    scene.check(&before).await;
    // Nothing is lost; what was written and not yet consumed may come twice.
    let mut numbers = scene.numbers();
    let written = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{numbers:?}");
    assert!(written - numbers.len() <= 200, "{written} lines for {} numbers", numbers.len());
}

async fn containerd_goes_and_comes(t: &Test, signal: Signal) {
    let scene = Scene::new(t).await;
    let before = scene.before().await;
    scene.node.end_containerd(signal).await;
    until("it is told that containerd is away", || async {
        (scene.node.ready().await.map(|(runtime, _)| runtime) == Some(false)).then_some(())
    })
    .await;
    // What is known is told, what cannot be done is refused.
    assert_eq!(scene.before().await, before);
    let refused = t.pod_on(&scene.node).try_run().await.map(|pod| pod.id).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    scene.end_one().await;
    scene.node.start_containerd();
    scene.node.in_step().await;
    scene.check(&before).await;
    let numbers = scene.numbers();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{numbers:?}");
}

async fn all_outlives_the_end_of_containerd(t: Test) {
    containerd_goes_and_comes(&t, Signal::TERM).await;
}

async fn all_outlives_the_death_of_containerd(t: Test) {
    containerd_goes_and_comes(&t, Signal::KILL).await;
}

async fn all_outlives_the_death_of_both(t: Test) {
    let scene = Scene::new(&t).await;
    let before = scene.before().await;
    scene.node.end_containerd(Signal::KILL).await;
    scene.node.end(Signal::KILL).await;
    scene.end_one().await;
    scene.node.start_containerd();
    scene.node.start().await;
    scene.node.in_step().await;
    // By now nobody may know how it ended; what is told then is that, and no made-up code.
    let ended = scene.ending.exited().await;
    let told = (ended.exit_code, ended.reason.as_str());
    assert!(told == (7, "Error") || told == (255, "Unknown"), "{ended:?}");
    for (container, before) in [&scene.created, &scene.counting, &scene.exited].into_iter().zip(&before) {
        assert_eq!(container.status().await, *before);
    }
    assert_eq!(scene.counting.sh("echo inside").await, "inside");
    t_pods_work(&t, &scene.node).await;
}

/// Moments of a call at which its server is killed: as it comes, and at the steps of some 100 ms of work.
const MOMENTS: [u64; 6] = [0, 15, 40, 70, 110, 170];

async fn ready_again(node: &Node) {
    node.start().await;
    node.in_step().await;
}

async fn a_pod_in_the_making_outlives_no_death(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    for moment in MOMENTS {
        let builder = t.pod_on(&node);
        let run = tokio::spawn({
            let builder = builder.clone();
            async move { builder.try_run().await.map(|pod| pod.id) }
        });
        tokio::time::sleep(Duration::from_millis(moment)).await;
        node.end(Signal::KILL).await;
        let answered = run.await.unwrap();
        ready_again(&node).await;
        // There whole, or gone, or to be removed; and then the name is free.
        for pod in t.pods_on(&node).await {
            let ready = pod.state() == PodSandboxState::SandboxReady;
            assert!(ready || answered.is_err(), "{pod:?} was answered with {answered:?}");
            let pod_sandbox_id = pod.id.clone();
            node.runtime().remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
        }
        let pod = builder.run().await;
        assert_eq!(pod.container("app").shell("echo works").output().await, "works");
        pod.remove().await;
    }
}

async fn a_container_in_the_making_outlives_no_death(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    for (n, moment) in MOMENTS.into_iter().enumerate() {
        let builder = pod.container(&format!("app-{n}")).shell("echo works; exit 4");
        let start = tokio::spawn({
            let builder = builder.clone();
            async move {
                let made = builder.try_create().await?;
                made.try_start().await.map(|()| made.id)
            }
        });
        tokio::time::sleep(Duration::from_millis(moment / 2)).await;
        node.end(Signal::KILL).await;
        let _ = start.await.unwrap();
        ready_again(&node).await;
        let filter = Some(cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
        let listed = node.runtime().list_containers(cri::ListContainersRequest { filter }).await.unwrap();
        for container in listed.into_inner().containers {
            let status = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            let status = node.runtime().container_status(status).await.unwrap().into_inner().status.unwrap();
            if status.state() == ContainerState::ContainerExited {
                assert!([4, 128].contains(&status.exit_code), "{status:?}");
            }
            let container_id = container.id.clone();
            node.runtime().remove_container(cri::RemoveContainerRequest { container_id }).await.unwrap();
        }
        let log = pod.config.log_directory.clone() + &format!("/app-{n}/0.log");
        let _ = std::fs::remove_file(log);
        assert_eq!(builder.output().await, "works");
    }
    assert_eq!(pod.state().await, PodSandboxState::SandboxReady);
}

async fn a_removal_is_finished_after_a_death(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    for moment in MOMENTS {
        let pod = t.pod_on(&node).run().await;
        pod.container("app").start().await;
        let remove = tokio::spawn({
            let pod = pod.clone();
            async move { pod.try_remove().await }
        });
        tokio::time::sleep(Duration::from_millis(moment)).await;
        node.end(Signal::KILL).await;
        let answered = remove.await.unwrap();
        ready_again(&node).await;
        assert!(answered.is_err() || t.pods_on(&node).await.is_empty());
        // containerd may still be busy with what the dead one had asked of it: the kubelet tries again.
        until("the pod is removed", || async { pod.try_remove().await.ok() }).await;
        assert_eq!(t.pods_on(&node).await, []);
    }
}

/// Not even where both daemons die before it is written down that it runs, and containerd lets go of what has ended.
async fn what_has_run_is_not_run_again(t: Test) {
    let node = t.own_node(NodeOptions { points: true, ..Default::default() }).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell("echo ran >>/data/ran; exit 4").mount(t.folder(), "/data");
    let app = app.create().await;
    let point = "StartContainer/start the task, done";
    node.points().hold_at(point);
    let dying = async {
        node.points().reached(point).await;
        until("it has ended", || async { processes::of_container(&app.id).is_empty().then_some(()) }).await;
        node.end_containerd(Signal::KILL).await;
        node.end(Signal::KILL).await;
        node.points().disarm();
    };
    let (started, ()) = tokio::join!(app.try_start(), dying);
    assert!(started.is_err(), "the call was answered by the dead");
    node.start_containerd();
    ready_again(&node).await;
    app.try_start().await.expect_err("it has run");
    let ended = app.exited().await;
    let told = (ended.exit_code, ended.reason.as_str());
    assert!([(4, "Error"), (255, "Unknown")].contains(&told), "{ended:?}");
    assert_eq!(std::fs::read_to_string(t.folder().join("ran")).unwrap(), "ran\n");
    pod.remove().await;
}

async fn a_second_daemon_on_the_same_state_is_refused(t: Test) {
    let node = t.own_node(NodeOptions { bare: true, ..Default::default() }).await;
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_cridge"))
        .args(["serve", "--config"])
        .arg(node.dir.join("cridge.toml"))
        .args(["--listen".into(), format!("unix://{}", node.dir.join("second.sock").display())])
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), second).await.expect("it ends").unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    let state = node.dir.join("cridge").display().to_string();
    assert!(text.contains(&state), "should name the folder: {text}");
    // The first one serves on.
    assert_eq!(node.ready().await, Some((true, true)));
}

async fn a_pod_whose_pause_dies_is_not_ready(t: Test) {
    let pod = t.pod().run().await;
    // Runs on, in a PID namespace of its own, and in the pause's shim.
    let container = pod.container("app").shell("sleep 1000").start().await;
    let mut tasks = TasksClient::new(t.node().containerd());
    let get = GetRequest { container_id: pod.id.clone(), ..Default::default() };
    let pid = tasks.get(request(get)).await.unwrap().into_inner().process.unwrap().pid;
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    until("the pod is not ready", || async {
        (pod.state().await == PodSandboxState::SandboxNotready).then_some(())
    })
    .await;
    assert_eq!(container.status().await.state(), ContainerState::ContainerRunning);
    // The kubelet takes it down, and its address comes back.
    pod.stop().await;
    pod.remove().await;
}

/// containerd from 2.0 to 2.3 tells of the pause's end, and of nothing else.
async fn a_pod_whose_shim_dies_has_nothing_that_runs(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    for is_seen in [true, false] {
        let pod = t.pod_on(&node).run().await;
        let waiting = pod.container("waiting").shell("exec sleep 1000").start().await;
        let ending = pod.container("ending").shell("exec sleep 1000").start().await;
        let created = pod.container("created").create().await;
        if !is_seen {
            node.end(Signal::KILL).await;
        }
        let shims = processes::shims(&node).into_iter().filter(|shim| shim.id == pod.id);
        shims.for_each(|shim| processes::signal(shim.pid, Signal::KILL));
        processes::of_container(&ending.id).into_iter().for_each(|pid| processes::signal(pid, Signal::KILL));
        if !is_seen {
            ready_again(&node).await;
        }
        until("the pod is not ready", || async {
            (pod.state().await == PodSandboxState::SandboxNotready).then_some(())
        })
        .await;
        for container in [&waiting, &ending] {
            let ended = container.exited().await;
            let told = (ended.exit_code, ended.reason.as_str());
            assert!([(137, "Error"), (255, "Unknown")].contains(&told), "{ended:?}");
            until("no process is left of it", || async {
                processes::of_container(&container.id).is_empty().then_some(())
            })
            .await;
        }
        assert_eq!(created.state().await, ContainerState::ContainerCreated);
        pod.remove().await;
    }
}
