//! What is done to containers.

use std::fs;
use std::time::Duration;

use k8s_cri::v1::{ContainerState, PodSandboxState};
use tonic::Status;

use super::scene::{Deed, Retry, Scene, Stage, again, works};
use crate::harness::{Container, ContainerBuilder, Pod, Shell, until};

/// What is to be created, and where.
impl Stage for (Pod, ContainerBuilder) {
    async fn usual(scene: &Scene) -> Self {
        let pod = scene.t.pod_on(&scene.node).run().await;
        let container = pod.container("app").shell("echo works");
        (pod, container)
    }
}

pub struct Create;

impl Deed for Create {
    const RETRY: Retry = Retry::Refused;

    type Stage = (Pod, ContainerBuilder);

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
pub struct Start;

impl Deed for Start {
    const RETRY: Retry = Retry::Refused;

    type Stage = Container;

    async fn prepare(&self, scene: &Scene) -> Container {
        let pod = scene.t.pod_on(&scene.node).run().await;
        pod.container("app").shell(&format!("echo works; {}", Shell::WAIT)).create().await
    }

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_start().await
    }

    async fn check(&self, scene: &Scene, container: Container) {
        if container.state().await == ContainerState::ContainerCreated {
            container.start().await;
        }
        let status = until("it runs, or is over", || async {
            let runs = container.log_text() == "works";
            let status = container.status().await;
            (runs || status.state() == ContainerState::ContainerExited).then_some(status)
        })
        .await;
        // By containerd's death a start may have failed, and by both's nobody knows whether it ran: it is not tried
        // again, and says so.
        if status.state() == ContainerState::ContainerExited {
            let told = (status.exit_code, status.reason.as_str());
            let unknown = scene.may_lose_codes() && told == (255, "Unknown");
            assert!(unknown || told == (128, "StartError"), "{status:?}");
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
pub struct RunAndEnd;

impl Deed for RunAndEnd {
    const RETRY: Retry = Retry::Refused;

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
            255 if scene.may_lose_codes() => assert_eq!(ended.reason, "Unknown", "{ended:?}"),
            _ => panic!("no such end: {ended:?}"),
        }
        // What was told stays.
        assert_eq!(container.status().await, ended);
    }
}

pub struct Stop;

impl Deed for Stop {
    const RETRY: Retry = Retry::Succeeds;

    type Stage = Container;

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.try_stop(60).await
    }

    async fn check(&self, scene: &Scene, container: Container) {
        again("StopContainer", || container.try_stop(60)).await;
        let ended = container.status().await;
        assert_eq!(ended.state(), ContainerState::ContainerExited, "{ended:?}");
        scene.has_code(&ended, 5);
        assert_eq!(container.pod.state().await, PodSandboxState::SandboxReady);
        works(&container.pod).await;
    }
}

pub struct Remove;

impl Deed for Remove {
    const RETRY: Retry = Retry::Succeeds;

    type Stage = Container;

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
