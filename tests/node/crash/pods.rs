//! What is done to whole pods.

use k8s_cri::v1 as cri;
use k8s_cri::v1::{ContainerState, PodSandboxState};
use tonic::Status;

use super::scene::{Deed, Retry, Scene, again, works};
use crate::harness::{BUSYBOX, Container, PodBuilder};

pub struct RunPod;

impl Deed for RunPod {
    const RETRY: Retry = Retry::Afresh;

    type Stage = PodBuilder;

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

pub struct StopPod;

impl Deed for StopPod {
    const RETRY: Retry = Retry::Succeeds;

    type Stage = Container;

    async fn act(&self, container: &Container) -> Result<(), Status> {
        container.pod.try_stop().await
    }

    async fn check(&self, scene: &Scene, container: Container) {
        let pod = &container.pod;
        again("StopPodSandbox", || pod.try_stop()).await;
        assert_eq!(pod.state().await, PodSandboxState::SandboxNotready);
        let ended = container.status().await;
        assert_eq!(ended.state(), ContainerState::ContainerExited, "{ended:?}");
        scene.has_code(&ended, 137);
        let refused = pod.container("late").try_create().await.map(|made| made.id);
        assert!(refused.is_err(), "no container is created in a stopped pod");
    }
}

pub struct RemovePod;

impl Deed for RemovePod {
    const RETRY: Retry = Retry::Succeeds;

    type Stage = Container;

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
