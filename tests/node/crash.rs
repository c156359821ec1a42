//! A daemon dies at every step of every call, one by one: afterwards all is as it is told, the call can be repeated, and
//! nothing is left.
//!
//! The steps are found out by doing the call once, so that there is no list to keep: cridge's own record of what it does
//! has a point before and after each.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;
use tonic::Status;

use crate::cases;
use crate::harness::{
    BUSYBOX, Case, Container, ContainerBuilder, Node, NodeOptions, Pod, PodBuilder, Shell, Test, left_on,
    text_of, until,
};

pub fn cases() -> Vec<Case> {
    let mut cases = cases!["crash": ; cridge only:
        cridge_dies_while_a_pod_is_run,
        cridge_dies_while_a_container_is_created,
        cridge_dies_while_a_container_is_started,
        cridge_dies_while_a_container_runs_and_ends,
        cridge_dies_while_a_container_is_stopped,
        cridge_dies_while_a_container_is_removed,
        cridge_dies_while_a_pod_is_stopped,
        cridge_dies_while_a_pod_is_removed,
        cridge_dies_while_an_image_is_pulled,
        cridge_dies_while_a_command_is_run,
        cridge_dies_while_a_log_is_rotated,
    ];
    // Twice as long, for containerd takes its time to come back.
    if std::env::var_os("CRIDGE_NODE_SOAK").is_some() {
        cases.extend(cases!["crash": ; cridge only:
            containerd_dies_while_a_pod_is_run,
            containerd_dies_while_a_container_is_created,
            containerd_dies_while_a_container_is_started,
            containerd_dies_while_a_container_runs_and_ends,
            containerd_dies_while_a_container_is_stopped,
            containerd_dies_while_a_container_is_removed,
            containerd_dies_while_a_pod_is_stopped,
            containerd_dies_while_a_pod_is_removed,
            containerd_dies_while_an_image_is_pulled,
            containerd_dies_while_a_command_is_run,
            containerd_dies_while_a_log_is_rotated,
        ]);
    }
    cases
}

/// How long containerd stays dead.
const AWAY: Duration = Duration::from_millis(300);

/// Who dies.
#[derive(Clone, Copy)]
enum Victim {
    Cridge,
    Containerd,
}

/// A call, what is there before it, and what must hold after a death in the middle of it.
trait Deed {
    /// What the call is about.
    type Stage;

    async fn prepare(&self, scene: &Scene) -> Self::Stage;

    /// The call.
    async fn act(&self, stage: &Self::Stage) -> Result<(), Status>;

    /// All is as it is told, and the call can be repeated. Called after a call that nothing disturbed as well.
    async fn check(&self, scene: &Scene, stage: Self::Stage);
}

struct Scene {
    t: Test,
    node: Arc<Node>,
}

impl Scene {
    /// Has the victim die at each point of the deed, on a node of its own; all that went wrong is told together.
    async fn play<D: Deed>(t: Test, victim: Victim, deed: D) {
        let node = t.own_node(NodeOptions { points: true, ..Default::default() }).await;
        let scene = Self { t, node };
        let points = scene.points_of(&deed).await;
        assert!(!points.is_empty(), "the call passes no point");
        let mut failures = Vec::new();
        for point in &points {
            if let Err(why) = scene.die(victim, point, &deed).await {
                failures.push(format!("{point}: {why}"));
            }
            if let Err(why) = AssertUnwindSafe(scene.leave()).catch_unwind().await {
                failures.push(format!("{point}, afterwards: {}", text_of(&*why)));
                break;
            }
        }
        eprintln!("{}: {} points", scene.t.name(), points.len());
        assert!(failures.is_empty(), "of {} points:\n{}", points.len(), failures.join("\n"));
    }

    /// What the call passes when nothing disturbs it.
    async fn points_of<D: Deed>(&self, deed: &D) -> Vec<String> {
        let stage = deed.prepare(self).await;
        let points = self.node.points();
        points.forget();
        deed.act(&stage).await.expect("a call that nothing disturbs");
        let passed = points.passed();
        deed.check(self, stage).await;
        self.leave().await;
        passed
    }

    async fn die<D: Deed>(&self, victim: Victim, point: &str, deed: &D) -> Result<(), String> {
        let dying = async {
            let stage = deed.prepare(self).await;
            let points = self.node.points();
            match victim {
                Victim::Cridge => {
                    points.die_at(point);
                    let (answered, ()) = tokio::join!(deed.act(&stage), self.node.died());
                    points.disarm();
                    assert!(answered.is_err(), "the call was answered by the dead");
                    self.node.start().await;
                }
                Victim::Containerd => {
                    points.hold_at(point);
                    let killing = async {
                        points.reached(point).await;
                        self.node.end_containerd(Signal::KILL).await;
                        points.disarm();
                        // Whoever was held meets nobody for a while.
                        tokio::time::sleep(AWAY).await;
                        self.node.start_containerd();
                    };
                    let _ = tokio::join!(deed.act(&stage), killing);
                }
            }
            self.in_step().await;
            deed.check(self, stage).await;
        };
        AssertUnwindSafe(dying).catch_unwind().await.map_err(|why| text_of(&*why))
    }

    async fn in_step(&self) {
        until("all is in step", || async { (self.node.ready().await == Some((true, true))).then_some(()) })
            .await;
    }

    /// Removes what is there, as the kubelet would, and sees that nothing is left.
    async fn leave(&self) {
        self.node.points().disarm();
        if self.node.server_pid().is_none() {
            self.node.start().await;
        }
        if !self.node.dir.join("containerd.pid").exists() {
            self.node.start_containerd();
        }
        self.in_step().await;
        for pod in self.t.pods_on(&self.node).await {
            let pod = self.t.pod_on(&self.node).known(&pod.id).await;
            until("the pod is removed", || async { pod.try_remove().await.ok() }).await;
        }
        let left = left_on(&self.node).await;
        assert!(left.is_empty(), "{}", left.join("\n"));
    }

    async fn containers_of(&self, pod: &Pod) -> Vec<cri::Container> {
        let filter = Some(cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
        let listed = self.node.runtime().list_containers(cri::ListContainersRequest { filter }).await;
        listed.expect("ListContainers").into_inner().containers
    }

    /// A pod with one container that waits until it is told to end, and then ends with 5.
    async fn with_container(&self) -> Container {
        let pod = self.t.pod_on(&self.node).run().await;
        let app = pod.container("app").shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done");
        let app = app.start().await;
        app.logs("up").await;
        app
    }
}

/// A container can be run in the pod.
async fn works(pod: &Pod) {
    let container = pod.container("works").shell("echo works").start().await;
    container.exited().await;
    assert_eq!(container.log_text(), "works");
    container.remove().await;
    // A pod of the same name has the same log.
    fs::remove_file(container.log_file()).unwrap();
}

/// The kubelet tries again until it succeeds: whoever lives may still be busy with what the dead one had asked for.
async fn again<Answer: Future<Output = Result<(), Status>>>(call: &str, try_it: impl Fn() -> Answer) {
    until(format!("{call} succeeds"), || async { try_it().await.ok() }).await;
}

struct RunPod;

impl Deed for RunPod {
    type Stage = PodBuilder;

    async fn prepare(&self, scene: &Scene) -> PodBuilder {
        scene.t.pod_on(&scene.node)
    }

    async fn act(&self, pod: &PodBuilder) -> Result<(), Status> {
        pod.try_run().await.map(drop)
    }

    async fn check(&self, scene: &Scene, builder: PodBuilder) {
        // There whole, or to be removed, or gone; then the name is free.
        for listed in scene.t.pods_on(&scene.node).await {
            let pod = builder.known(&listed.id).await;
            if listed.state() == PodSandboxState::SandboxReady {
                assert!(pod.ip().await.starts_with(&scene.node.subnet), "a ready pod has an address");
                works(&pod).await;
            }
            again("StopPodSandbox", || pod.try_stop()).await;
            assert_eq!(pod.state().await, PodSandboxState::SandboxNotready);
            again("RemovePodSandbox", || pod.try_remove()).await;
        }
        let pod = match builder.try_run().await {
            // containerd's overlays, killed in the middle of making one, let none be made until one was removed.
            Err(status) if status.message().contains("file exists") => {
                let image = Some(cri::ImageSpec { image: BUSYBOX.into(), ..Default::default() });
                let mut images = scene.node.images();
                images.remove_image(cri::RemoveImageRequest { image }).await.expect("RemoveImage");
                scene.node.pull(BUSYBOX).await;
                builder.run().await
            }
            other => other.expect("RunPodSandbox"),
        };
        works(&pod).await;
    }
}

struct Create;

impl Deed for Create {
    type Stage = (Pod, ContainerBuilder);

    async fn prepare(&self, scene: &Scene) -> Self::Stage {
        let pod = scene.t.pod_on(&scene.node).run().await;
        let container = pod.container("app").shell("echo works");
        (pod, container)
    }

    async fn act(&self, (_, container): &Self::Stage) -> Result<(), Status> {
        container.try_create().await.map(drop)
    }

    async fn check(&self, scene: &Scene, (pod, builder): Self::Stage) {
        assert_eq!(pod.state().await, PodSandboxState::SandboxReady);
        for listed in scene.containers_of(&pod).await {
            let container = builder.known(&listed.id).await;
            if listed.state() == ContainerState::ContainerCreated {
                container.start().await;
                assert_eq!(container.exited().await.exit_code, 0);
            }
            again("RemoveContainer", || container.try_remove()).await;
            let _ = fs::remove_file(container.log_file());
        }
        assert_eq!(builder.output().await, "works");
    }
}

/// One that runs on.
struct Start;

impl Deed for Start {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        let pod = scene.t.pod_on(&scene.node).run().await;
        pod.container("app").shell(&format!("echo works; {}", Shell::WAIT)).create().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_start().await
    }

    async fn check(&self, _: &Scene, container: Container) {
        if container.state().await == ContainerState::ContainerCreated {
            container.start().await;
        }
        // By containerd's death a start may have failed; it is not tried again, and says so.
        let status = container.status().await;
        if status.state() == ContainerState::ContainerExited {
            assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"), "{status:?}");
            return;
        }
        assert_eq!(status.state(), ContainerState::ContainerRunning, "{status:?}");
        container.logs("works").await;
        assert_eq!(container.log_text(), "works", "it ran once");
        assert_eq!(container.sh("echo inside").await, "inside");
        container.stop(60).await;
        assert_eq!(container.status().await.exit_code, 0);
    }
}

/// One that ends by itself at once.
struct RunAndEnd;

impl Deed for RunAndEnd {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        let pod = scene.t.pod_on(&scene.node).run().await;
        let ran = scene.t.folder().join("ran");
        let _ = fs::remove_dir_all(&ran);
        fs::create_dir(&ran).unwrap();
        pod.container("app").shell("echo ran >>/ran/ran; exit 4").mount(ran, "/ran").create().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_start().await?;
        loop {
            if container.try_status().await?.state() == ContainerState::ContainerExited {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn check(&self, scene: &Scene, container: Container) {
        if container.state().await == ContainerState::ContainerCreated {
            container.start().await;
        }
        let ended = container.exited().await;
        let ran = fs::read_to_string(scene.t.folder().join("ran/ran")).unwrap_or_default();
        match ended.exit_code {
            4 => assert_eq!((ended.reason.as_str(), ran.as_str()), ("Error", "ran\n"), "{ended:?}"),
            // By containerd's death.
            128 => assert_eq!((ended.reason.as_str(), ran.as_str()), ("StartError", ""), "{ended:?}"),
            _ => panic!("no such end: {ended:?}"),
        }
        // What was told stays.
        assert_eq!(container.status().await, ended);
    }
}

struct Stop;

impl Deed for Stop {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        scene.with_container().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_stop(60).await
    }

    async fn check(&self, _: &Scene, container: Container) {
        again("StopContainer", || container.try_stop(60)).await;
        let ended = container.status().await;
        assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 5), "{ended:?}");
        assert_eq!(container.pod.state().await, PodSandboxState::SandboxReady);
        works(&container.pod).await;
    }
}

struct Remove;

impl Deed for Remove {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        scene.with_container().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_remove().await
    }

    async fn check(&self, scene: &Scene, container: Container) {
        again("RemoveContainer", || container.try_remove()).await;
        assert_eq!(scene.containers_of(&container.pod).await, []);
        let _ = fs::remove_file(container.log_file());
        // Its name is free.
        assert_eq!(container.pod.container("app").shell("echo works").output().await, "works");
    }
}

struct StopPod;

impl Deed for StopPod {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        scene.with_container().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.pod.try_stop().await
    }

    async fn check(&self, _: &Scene, container: Container) {
        let pod = &container.pod;
        again("StopPodSandbox", || pod.try_stop()).await;
        assert_eq!(pod.state().await, PodSandboxState::SandboxNotready);
        let ended = container.status().await;
        assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 137), "{ended:?}");
        let refused = pod.container("late").try_create().await.map(|made| made.id);
        assert!(refused.is_err(), "no container is created in a stopped pod");
    }
}

struct RemovePod;

impl Deed for RemovePod {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        scene.with_container().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.pod.try_remove().await
    }

    async fn check(&self, scene: &Scene, container: Container) {
        let pod = &container.pod;
        again("RemovePodSandbox", || pod.try_remove()).await;
        assert_eq!(scene.t.pods_on(&scene.node).await, []);
        assert_eq!(scene.containers_of(pod).await, []);
    }
}

struct Pull;

impl Pull {
    const IMAGE: &str = "docker.io/cridge-tests/oci:1";

    fn spec() -> Option<cri::ImageSpec> {
        Some(cri::ImageSpec { image: Self::IMAGE.into(), ..Default::default() })
    }

    async fn pull(node: &Node) -> Result<(), Status> {
        let request = cri::PullImageRequest { image: Self::spec(), ..Default::default() };
        node.images().pull_image(request).await.map(drop)
    }
}

impl Deed for Pull {
    type Stage = Arc<Node>;

    async fn prepare(&self, scene: &Scene) -> Arc<Node> {
        scene.node.clone()
    }

    async fn act(&self, node: &Arc<Node>) -> Result<(), Status> {
        Self::pull(node).await
    }

    async fn check(&self, _: &Scene, node: Arc<Node>) {
        again("PullImage", || Self::pull(&node)).await;
        assert!(node.image(Self::IMAGE).await.is_some());
        let request = cri::RemoveImageRequest { image: Self::spec() };
        node.images().remove_image(request).await.expect("RemoveImage");
        assert_eq!(node.image(Self::IMAGE).await, None);
    }
}

struct Exec;

impl Deed for Exec {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        scene.with_container().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_exec(&["echo", "inside"], 0).await.map(drop)
    }

    async fn check(&self, scene: &Scene, container: Container) {
        assert_eq!(container.state().await, ContainerState::ContainerRunning);
        assert_eq!(container.sh("echo inside").await, "inside");
        // The command that was broken off is reaped.
        let [_, state] = scene.node.server_dirs();
        let streams = state.join("containers").join(&container.id).join("io");
        until("only the container's own streams are there", || async {
            // Each command's are in a folder of their own.
            let folders = fs::read_dir(&streams).unwrap().map(|folder| folder.unwrap().path());
            let mut names = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
            names.all(|name| name.file_name().to_string_lossy().starts_with(&container.id)).then_some(())
        })
        .await;
    }
}

struct Rotate;

impl Rotate {
    async fn reopen(container: &Container) -> Result<(), Status> {
        let request = cri::ReopenContainerLogRequest { container_id: container.id.clone() };
        container.pod.node.runtime().reopen_container_log(request).await.map(drop)
    }

    /// The numbers in a log's lines.
    fn numbers(container: &Container) -> Vec<u32> {
        container.log().iter().map(|line| line.text.parse().expect("a whole line")).collect()
    }
}

impl Deed for Rotate {
    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        let pod = scene.t.pod_on(&scene.node).run().await;
        let script = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
        let container = pod.container("app").shell(script).start().await;
        container.logs("5\n").await;
        container
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        let log = container.log_file();
        fs::rename(&log, log.with_extension("old")).unwrap();
        Self::reopen(container).await
    }

    async fn check(&self, _: &Scene, mut container: Container) {
        again("ReopenContainerLog", || Self::reopen(&container)).await;
        until("the new log grows", || async { (container.log().len() > 5).then_some(()) }).await;
        container.stop(60).await;
        let new = Self::numbers(&container);
        container.config.log_path = container.config.log_path.replace(".log", ".old");
        let mut all = Self::numbers(&container);
        all.extend(new);
        all.sort_unstable();
        all.dedup();
        assert!(all.iter().copied().eq(1..=all.len() as u32), "no number is lost: {all:?}");
    }
}

macro_rules! deaths {
    ($($cridge:ident $containerd:ident $deed:expr;)*) => {
        $(
            async fn $cridge(t: Test) {
                Scene::play(t, Victim::Cridge, $deed).await;
            }
            async fn $containerd(t: Test) {
                Scene::play(t, Victim::Containerd, $deed).await;
            }
        )*
    };
}

deaths! {
    cridge_dies_while_a_pod_is_run containerd_dies_while_a_pod_is_run RunPod;
    cridge_dies_while_a_container_is_created containerd_dies_while_a_container_is_created Create;
    cridge_dies_while_a_container_is_started containerd_dies_while_a_container_is_started Start;
    cridge_dies_while_a_container_runs_and_ends containerd_dies_while_a_container_runs_and_ends RunAndEnd;
    cridge_dies_while_a_container_is_stopped containerd_dies_while_a_container_is_stopped Stop;
    cridge_dies_while_a_container_is_removed containerd_dies_while_a_container_is_removed Remove;
    cridge_dies_while_a_pod_is_stopped containerd_dies_while_a_pod_is_stopped StopPod;
    cridge_dies_while_a_pod_is_removed containerd_dies_while_a_pod_is_removed RemovePod;
    cridge_dies_while_an_image_is_pulled containerd_dies_while_an_image_is_pulled Pull;
    cridge_dies_while_a_command_is_run containerd_dies_while_a_command_is_run Exec;
    cridge_dies_while_a_log_is_rotated containerd_dies_while_a_log_is_rotated Rotate;
}
