//! What is done to what containers say and are told.

use std::fs;

use k8s_cri::v1 as cri;
use k8s_cri::v1::ContainerState;
use tonic::Status;

use super::scene::{Deed, Retry, Scene, again};
use crate::harness::{Container, until};

pub struct Exec;

impl Deed for Exec {
    const RETRY: Retry = Retry::Never;

    type Stage = Container;

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

pub struct Rotate;

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
    const RETRY: Retry = Retry::Never;

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
