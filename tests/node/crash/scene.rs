//! Who dies, during what, and what must hold afterwards.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use rustix::process::Signal;
use tonic::{Code, Status};

use crate::harness::{
    Container, Node, NodeOptions, Pod, PodBuilder, Test, left_on, processes, text_of, until,
};

/// How long containerd stays dead.
const AWAY: Duration = Duration::from_millis(300);

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Cridge,
    Containerd,
    /// Both daemons.
    Both,
    /// The pod's, and with it all that runs in the pod.
    Shim,
    /// The pod's pause: its containers run on.
    Pause,
}

/// A call, what is there before it, and what must hold after a death in the middle of it.
pub trait Deed {
    const RETRY: Retry;

    /// What the call is about.
    type Stage: Stage;

    async fn prepare(&self, scene: &Scene) -> Self::Stage {
        Self::Stage::usual(scene).await
    }

    /// The call.
    async fn act(&self, stage: &Self::Stage) -> Result<(), Status>;

    /// All is as it is told, and the call can be repeated. Called after a call that nothing disturbed as well.
    async fn check(&self, scene: &Scene, stage: Self::Stage);
}

/// What a call may be about.
pub trait Stage {
    /// As most calls want it.
    async fn usual(scene: &Scene) -> Self;
}

impl Stage for Arc<Node> {
    async fn usual(scene: &Scene) -> Self {
        scene.node.clone()
    }
}

/// A pod that is to be run.
impl Stage for PodBuilder {
    async fn usual(scene: &Scene) -> Self {
        scene.t.pod_on(&scene.node)
    }
}

/// In a pod with nothing else. It waits until it is told to end, and then ends with 5.
impl Stage for Container {
    async fn usual(scene: &Scene) -> Self {
        let pod = scene.t.pod_on(&scene.node).run().await;
        let app = pod.container("app").shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done");
        let app = app.start().await;
        app.logs("up").await;
        app
    }
}

/// What comes of the call's repeat when its pod has died.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Succeeds,
    /// It succeeds once the dead pod is removed.
    Afresh,
    Refused,
    /// It says nothing of the pod.
    Never,
}

pub struct Scene {
    pub t: Test,
    pub node: Arc<Node>,
    victim: Victim,
}

impl Scene {
    /// Has the victim die at each point of the deed, on a node of its own; all that went wrong is told together.
    pub async fn play<D: Deed>(t: Test, victim: Victim, deed: D) {
        let node = t.own_node(NodeOptions { points: true, ..Default::default() }).await;
        let scene = Self { t, node, victim };
        let points = scene.points_of(&deed).await;
        let (mut deaths, mut failures) = (0, Vec::new());
        for point in &points {
            match scene.die(point, &deed).await {
                Ok(died) => deaths += usize::from(died),
                Err(why) => failures.push(format!("{point}: {why}")),
            }
            if let Err(why) = AssertUnwindSafe(scene.leave()).catch_unwind().await {
                failures.push(format!("{point}, afterwards: {}", text_of(&*why)));
                break;
            }
        }
        eprintln!("{}: {deaths} deaths at {} points", scene.t.name(), points.len());
        assert!(failures.is_empty(), "of {} points:\n{}", points.len(), failures.join("\n"));
        assert!(deaths > 0, "nobody died at {points:?}");
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

    /// Whether anybody died there.
    async fn die<D: Deed>(&self, point: &str, deed: &D) -> Result<bool, String> {
        let dying = async {
            let stage = deed.prepare(self).await;
            let died = match self.victim {
                Victim::Cridge => self.cridge_dies(point, deed, &stage).await,
                Victim::Containerd | Victim::Both => self.containerd_dies(point, deed, &stage).await,
                Victim::Shim | Victim::Pause => {
                    if self.pod_dies(point, deed, &stage).await {
                        self.take_down(deed, &stage).await;
                        return true;
                    }
                    false
                }
            };
            self.node.in_step().await;
            self.addresses_are_held().await;
            deed.check(self, stage).await;
            died
        };
        AssertUnwindSafe(dying).catch_unwind().await.map_err(|why| text_of(&*why))
    }

    async fn cridge_dies<D: Deed>(&self, point: &str, deed: &D, stage: &D::Stage) -> bool {
        let points = self.node.points();
        points.die_at(point);
        let (answered, ()) = tokio::join!(deed.act(stage), self.node.died());
        points.disarm();
        assert!(answered.is_err(), "the call was answered by the dead");
        self.node.start().await;
        true
    }

    async fn containerd_dies<D: Deed>(&self, point: &str, deed: &D, stage: &D::Stage) -> bool {
        let points = self.node.points();
        points.hold_at(point);
        let killing = async {
            points.reached(point).await;
            self.node.end_containerd(Signal::KILL).await;
            if self.victim == Victim::Both {
                self.node.end(Signal::KILL).await;
            }
            points.disarm();
            // Whoever was held meets nobody for a while.
            tokio::time::sleep(AWAY).await;
            self.node.start_containerd();
            if self.victim == Victim::Both {
                self.node.start().await;
            }
        };
        let _ = tokio::join!(deed.act(stage), killing);
        true
    }

    /// Whether there was a pod to die.
    async fn pod_dies<D: Deed>(&self, point: &str, deed: &D, stage: &D::Stage) -> bool {
        let points = self.node.points();
        points.hold_at(point);
        let killing = async {
            points.reached(point).await;
            let victims = self.of_pod();
            victims.iter().for_each(|pid| processes::signal(*pid, Signal::KILL));
            points.disarm();
            !victims.is_empty()
        };
        tokio::join!(deed.act(stage), killing).1
    }

    /// The processes that die with a pod's shim, or its pause.
    fn of_pod(&self) -> Vec<u32> {
        let shims = processes::shims(&self.node);
        let shims = shims.into_iter().filter(|shim| !shim.is_starting());
        match self.victim {
            Victim::Pause => shims.flat_map(|shim| processes::of_container(&shim.id)).collect(),
            _ => shims.map(|shim| shim.pid).collect(),
        }
    }

    /// Nothing is told to run that does not, the dead can be taken down, and there is room for who comes next.
    async fn take_down<D: Deed>(&self, deed: &D, stage: &D::Stage) {
        let pods = self.t.pods_on(&self.node).await;
        for listed in &pods {
            let pod = self.t.pod_on(&self.node).known(&listed.id).await;
            until("the pod is not ready", || async {
                // Whoever removes it may be at work still.
                let status = pod.try_status().await.ok();
                status.is_none_or(|status| status.state() == PodSandboxState::SandboxNotready).then_some(())
            })
            .await;
            if self.victim == Victim::Shim {
                self.nothing_runs_in(&pod).await;
            }
        }
        match D::RETRY {
            Retry::Succeeds => again("the repeat", || deed.act(stage)).await,
            Retry::Refused => drop(deed.act(stage).await.expect_err("its pod is dead")),
            Retry::Afresh | Retry::Never => {}
        }
        self.leave().await;
        if D::RETRY == Retry::Afresh {
            deed.act(stage).await.expect("its name is free");
        }
        works(&self.t.pod_on(&self.node).run().await).await;
    }

    /// What a shim leaves behind may run on, and ends when it is told to.
    async fn nothing_runs_in(&self, pod: &Pod) {
        for listed in self.containers_of(pod).await {
            let container = pod.container("dead").known(&listed.id).await;
            // Whoever removes it may be at work still.
            until("it is stopped", || async {
                let stopped = container.try_stop(0).await;
                stopped.or_else(|s| if s.code() == Code::NotFound { Ok(()) } else { Err(s) }).ok()
            })
            .await;
        }
        let containers = until("nothing runs in the pod", || async {
            let containers = self.containers_of(pod).await;
            let rests = |container: &cri::Container| {
                matches!(
                    container.state(),
                    ContainerState::ContainerCreated | ContainerState::ContainerExited
                )
            };
            containers.iter().all(rests).then_some(containers)
        })
        .await;
        for listed in &containers {
            until("no process is left of it", || async {
                processes::of_container(&listed.id).is_empty().then_some(())
            })
            .await;
        }
        for listed in containers.iter().filter(|one| one.state() == ContainerState::ContainerExited) {
            let ended = pod.container("dead").known(&listed.id).await.status().await;
            // Its own end, a failed start, the kill of what a shim has left, or an end that nobody saw.
            assert!([0, 4, 5, 128, 137, 255].contains(&ended.exit_code), "{ended:?}");
        }
    }

    /// An address is shown by who holds it, and by nobody who has given it back.
    async fn addresses_are_held(&self) {
        let held = self.node.dir.join("cni/ipam").join(&self.node.bridge);
        for listed in self.t.pods_on(&self.node).await {
            let pod = self.t.pod_on(&self.node).known(&listed.id).await;
            let ip = pod.ip().await;
            assert!(ip.is_empty() || held.join(&ip).exists(), "{ip} is shown, and is anybody's");
        }
    }

    /// Removes what is there, as the kubelet would, and sees that nothing is left.
    async fn leave(&self) {
        self.node.points().disarm();
        if !self.node.dir.join("containerd.pid").exists() {
            self.node.start_containerd();
        }
        if self.node.server_pid().is_none() {
            self.node.start().await;
        }
        self.node.in_step().await;
        for pod in self.t.pods_on(&self.node).await {
            let pod = self.t.pod_on(&self.node).known(&pod.id).await;
            until("the pod is removed", || async { pod.try_remove().await.ok() }).await;
        }
        if matches!(self.victim, Victim::Containerd | Victim::Both) {
            self.remove_hidden_bundles();
        }
        let mut left = left_on(&self.node).await;
        if self.victim == Victim::Shim && !left.is_empty() {
            // containerd takes 5 s for what a dead shim has left, and no more until its next start.
            self.node.end_containerd(Signal::TERM).await;
            self.node.start_containerd();
            self.node.in_step().await;
            left = left_on(&self.node).await;
        }
        assert!(left.is_empty(), "{}", left.join("\n"));
    }

    /// containerd gives a bundle that it removes a name with a dot. One that was killed then never looks at it again.
    fn remove_hidden_bundles(&self) {
        let bundles = fs::read_dir(self.node.dir.join("state/io.containerd.runtime.v2.task/k8s.io"));
        for bundle in bundles.into_iter().flatten().flatten() {
            if bundle.file_name().to_string_lossy().starts_with('.') {
                let _ = fs::remove_dir_all(bundle.path());
            }
        }
    }

    pub async fn containers_of(&self, pod: &Pod) -> Vec<cri::Container> {
        let filter = Some(cri::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
        let listed = self.node.runtime().list_containers(cri::ListContainersRequest { filter }).await;
        listed.expect("ListContainers").into_inner().containers
    }

    /// Whether an end may have come that nobody was there to see.
    pub fn may_lose_codes(&self) -> bool {
        self.victim == Victim::Both
    }

    /// It ended with that code, or nobody can know.
    pub fn has_code(&self, ended: &cri::ContainerStatus, code: i32) {
        let lost = self.may_lose_codes() && (ended.exit_code, ended.reason.as_str()) == (255, "Unknown");
        assert!(lost || ended.exit_code == code, "should be {code}: {ended:?}");
    }
}

/// A container can be run in the pod.
pub async fn works(pod: &Pod) {
    let container = pod.container("works").shell("echo works").start().await;
    container.exited().await;
    assert_eq!(container.log_text(), "works");
    container.remove().await;
    // A pod of the same name has the same log.
    fs::remove_file(container.log_file()).unwrap();
}

/// The kubelet tries again until it succeeds: whoever lives may still be busy with what the dead one had asked for.
pub async fn again<Answer: Future<Output = Result<(), Status>>>(call: &str, try_it: impl Fn() -> Answer) {
    until(format!("{call} succeeds"), || async { try_it().await.ok() }).await;
}
