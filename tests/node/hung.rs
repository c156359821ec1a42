//! What hangs for ever: a shim, containerd, a disk, a process that no signal reaches. Whoever asks for it is told where it
//! hangs, and nobody else notices.

use std::fs;
use std::time::Duration;

use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;
use tonic::{Code, Request, Status};

use crate::cases;
use crate::harness::{
    Case, Container, Disk, Node, NodeOptions, Pod, Shell, Test, is_emulated, processes, until,
};
use crate::restart::COUNT;

pub fn cases() -> Vec<Case> {
    cases!["hung": ; cridge only:
        a_hung_shim_blocks_nobody_else,
        a_hung_shim_is_known_again_after_a_restart,
        a_hung_containerd_is_told_of,
        a_hung_disk_blocks_nobody_else,
        what_cannot_be_killed_is_told_of,
    ]
}

/// What a call may take that is to time out.
pub const IMPATIENT: Duration = Duration::from_secs(3);

/// A request with little time.
pub fn impatient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(IMPATIENT);
    request
}

/// Lists and statuses answer, pods and containers come and go, with a container of this pod's own among them.
pub async fn all_else_works(t: &Test, pod: &Pod) {
    let node = &pod.node;
    statuses_answer(node, pod).await;
    let app = pod.container("else").shell(&format!("echo works; {}", Shell::WAIT)).start().await;
    app.logs("works").await;
    assert_eq!(app.sh("echo inside").await, "inside");
    app.stop(60).await;
    app.remove().await;
    fs::remove_file(app.log_file()).unwrap();
    let next = t.pod_on(node).host_network().run().await;
    next.stop().await;
    next.remove().await;
}

/// Whatever is answered from memory, or from the kernel's files, is.
async fn statuses_answer(node: &Node, pod: &Pod) {
    let mut runtime = node.runtime();
    runtime.status(impatient(cri::StatusRequest::default())).await.expect("Status");
    let pods = runtime.list_pod_sandbox(impatient(cri::ListPodSandboxRequest::default())).await;
    let pods = pods.expect("ListPodSandbox").into_inner().items;
    assert!(pods.iter().any(|listed| listed.id == pod.id), "{pods:?}");
    for listed in &pods {
        let request =
            cri::PodSandboxStatusRequest { pod_sandbox_id: listed.id.clone(), ..Default::default() };
        runtime.pod_sandbox_status(impatient(request)).await.expect("PodSandboxStatus");
    }
    let containers = runtime.list_containers(impatient(cri::ListContainersRequest::default())).await;
    for listed in containers.expect("ListContainers").into_inner().containers {
        let request = cri::ContainerStatusRequest { container_id: listed.id, ..Default::default() };
        runtime.container_status(impatient(request)).await.expect("ContainerStatus");
    }
    runtime
        .list_container_stats(impatient(cri::ListContainerStatsRequest::default()))
        .await
        .expect("ListContainerStats");
    runtime
        .list_pod_sandbox_stats(impatient(cri::ListPodSandboxStatsRequest::default()))
        .await
        .expect("ListPodSandboxStats");
}

/// StopContainer, with little time for it.
async fn stopped_in_time(container: &Container, timeout: i64) -> Result<(), Status> {
    let request = cri::StopContainerRequest { container_id: container.id.clone(), timeout };
    container.pod.node.runtime().stop_container(impatient(request)).await.map(drop)
}

/// Says that the time is over, and where it went.
#[track_caller]
fn is_late(late: &Status, place: &str) {
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    assert!(late.message().contains(place), "should say where it hangs: {late:?}");
}

/// A process that is stopped, until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        processes::signal(pid, Signal::STOP);
        Self(pid)
    }

    fn shim_of(pod: &Pod) -> Self {
        let shims = processes::shims(&pod.node);
        Self::new(shims.into_iter().find(|shim| shim.id == pod.id).expect("a shim").pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        processes::signal(self.0, Signal::CONT);
    }
}

async fn a_hung_shim_blocks_nobody_else(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let [hung, other] = [t.pod_on(&node).run().await, t.pod_on(&node).run().await];
    let app = hung.container("app").shell(COUNT).start().await;
    app.logs("5\n").await;
    let shim = Stopped::shim_of(&hung);
    let name = &hung.config.metadata.as_ref().unwrap().name;
    let late = stopped_in_time(&app, 60).await.unwrap_err();
    is_late(&late, &format!("StopContainer of app in node-tests/{name}: send the stop signal for "));
    let exec = cri::ExecSyncRequest { container_id: app.id.clone(), cmd: vec!["true".into()], timeout: 0 };
    let late = node.runtime().exec_sync(impatient(exec)).await.unwrap_err();
    // Where answers take long, the client's own clock may be first.
    let cut_off = late.code() == Code::Cancelled && is_emulated();
    assert!(late.code() == Code::DeadlineExceeded || cut_off, "{late:?}");
    all_else_works(&t, &other).await;
    // As far as anybody knows, and true.
    assert_eq!(hung.state().await, PodSandboxState::SandboxReady);
    assert_eq!(app.state().await, ContainerState::ContainerRunning);
    drop(shim);
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 5);
}

async fn a_hung_shim_is_known_again_after_a_restart(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let [hung, other] = [t.pod_on(&node).run().await, t.pod_on(&node).run().await];
    let app = hung.container("app").shell(COUNT).start().await;
    app.logs("5\n").await;
    let shim = Stopped::shim_of(&hung);
    node.end(Signal::KILL).await;
    node.start().await;
    statuses_answer(&node, &other).await;
    // Its pause is there to be seen: a kubelet ends a pod that is not ready.
    assert_eq!(hung.state().await, PodSandboxState::SandboxReady);
    assert_eq!(app.state().await, ContainerState::ContainerRunning);
    node.in_step().await;
    all_else_works(&t, &other).await;
    // Begun before its container is known again, and this daemon's all the same.
    let counted = app.clone();
    let counting = async move { counted.sh("for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.3; done").await };
    let counting = tokio::spawn(counting);
    let io = node.server_dirs()[1].join("containers").join(&app.id).join("io");
    until("the command waits for the shim", || async {
        (std::fs::read_dir(&io).unwrap().count() > 1).then_some(())
    })
    .await;
    drop(shim);
    assert_eq!(counting.await.unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n9");
    assert_eq!(hung.state().await, PodSandboxState::SandboxReady);
    let lines = app.log().len();
    until("its log goes on", || async { (app.log().len() > lines + 5).then_some(()) }).await;
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 5);
    assert_eq!(hung.container("new").shell("echo works").output().await, "works");
}

async fn a_hung_containerd_is_told_of(t: Test) {
    let node = t.own_node(NodeOptions::default()).await;
    let pod = t.pod_on(&node).run().await;
    let app = pod.container("app").shell(COUNT).start().await;
    app.logs("5\n").await;
    let pid = fs::read_to_string(node.dir.join("containerd.pid")).unwrap();
    let containerd = Stopped::new(pid.trim().parse().unwrap());
    statuses_answer(&node, &pod).await;
    let late = stopped_in_time(&app, 60).await.unwrap_err();
    is_late(&late, ": send the stop signal for ");
    let next = t.pod_on(&node);
    let request = cri::RunPodSandboxRequest { config: Some(next.config.clone()), ..Default::default() };
    let late = node.runtime().run_pod_sandbox(impatient(request)).await.unwrap_err();
    is_late(&late, "RunPodSandbox of node-tests/");
    let lines = app.log().len();
    until("its log goes on", || async { (app.log().len() > lines + 5).then_some(()) }).await;
    drop(containerd);
    next.run().await;
    app.stop(60).await;
    assert_eq!(app.status().await.exit_code, 5);
}

async fn a_hung_disk_blocks_nobody_else(t: Test) {
    let pod = t.pod().run().await;
    let other = t.pod().run().await;
    let disk = Disk::freezable(&t.folder().join("disk"));
    disk.freeze();
    // What is to be mounted is not there yet, and made.
    let app = pod.container("app").shell("echo works").mount(disk.path.join("data"), "/data");
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(app.config.clone()),
        sandbox_config: Some(pod.config.clone()),
    };
    let late = t.node().runtime().create_container(impatient(request)).await.unwrap_err();
    is_late(&late, "look at mounts and devices for ");
    all_else_works(&t, &other).await;
    all_else_works(&t, &pod).await;
    disk.thaw();
    // The repeat joins.
    assert_eq!(app.output().await, "works");
    pod.remove().await;
}

async fn what_cannot_be_killed_is_told_of(t: Test) {
    let [pod, other] = [t.pod().run().await, t.pod().run().await];
    let disk = Disk::freezable(&t.folder().join("disk"));
    let script = "echo up; until [ -e /go/go ]; do sleep 0.02; done; exec touch /data/file";
    let app = pod.container("app").shell(script).mount(&disk.path, "/data").mount(t.folder(), "/go");
    let app = app.start().await;
    app.logs("up").await;
    disk.freeze();
    fs::write(t.folder().join("go"), "").unwrap();
    until("it sleeps for good", || async {
        let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        processes::of_container(&app.id).into_iter().any(|pid| stat(pid).contains("(touch) D")).then_some(())
    })
    .await;
    let (stopped, ()) = tokio::join!(app.try_stop(1), all_else_works(&t, &other));
    let told = "did not end within 30s of SIGKILL: a process of it may be in uninterruptible sleep";
    is_late(&stopped.unwrap_err(), told);
    assert_eq!(app.state().await, ContainerState::ContainerRunning);
    assert_eq!(pod.state().await, PodSandboxState::SandboxReady);
    disk.thaw();
    app.stop(1).await;
    assert_eq!(app.status().await.exit_code, 137);
    app.remove().await;
    pod.remove().await;
}
