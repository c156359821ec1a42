//! One of the two: a CRI endpoint, and the daemons behind it. The kubelet's calls in the kubelet's order.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{self as cri};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::daemon::Daemon;

/// Every container's image.
pub const BUSYBOX: &str = "docker.io/library/busybox:1.36";
/// Ends as soon as it is asked to.
const OBEDIENT: &str = "trap 'exit 0' TERM; sleep 3600 & wait";

pub struct Side {
    pub name: &'static str,
    /// containerd first.
    pub daemons: Vec<Daemon>,
    /// Where its pods' logs go.
    logs: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// A pod and its containers, by their ids.
pub struct Pod {
    pub id: String,
    pub config: cri::PodSandboxConfig,
}

impl Side {
    pub async fn builtin(dir: &Path) -> Result<Self> {
        let daemons = vec![Daemon::of_pid_file("containerd", &dir.join("containerd.pid"))?];
        Self::connect(crate::NAMES[0], dir, "containerd.sock", daemons).await
    }

    pub async fn cridge(dir: &Path) -> Result<Self> {
        let daemons = vec![
            Daemon::of_pid_file("containerd", &dir.join("containerd.pid"))?,
            Daemon::of_pid_file("cridge", &dir.join("cridge.pid"))?,
        ];
        Self::connect(crate::NAMES[1], dir, "cridge.sock", daemons).await
    }

    async fn connect(name: &'static str, dir: &Path, socket: &str, daemons: Vec<Daemon>) -> Result<Self> {
        let socket = dir.join(socket);
        let path = socket.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("{name} does not answer on {}", socket.display()))?;
        let (runtime, images) =
            (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
        Ok(Self { name, daemons, logs: dir.join("logs"), runtime, images })
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    fn pod_config(&self, name: &str) -> cri::PodSandboxConfig {
        let metadata = cri::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "bench".into(),
            attempt: 0,
        };
        cri::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            log_directory: self.logs.join(name).display().to_string(),
            dns_config: Some(cri::DnsConfig { servers: vec!["10.96.0.10".into()], ..Default::default() }),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/pod-{name}"),
                security_context: Some(Default::default()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn run_pod(&self, name: &str) -> Result<Pod> {
        let config = self.pod_config(name);
        let request =
            cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let answer = self.runtime().run_pod_sandbox(request).await.context("RunPodSandbox")?;
        Ok(Pod { id: answer.into_inner().pod_sandbox_id, config })
    }

    pub async fn create(&self, pod: &Pod, name: &str) -> Result<String> {
        self.create_with(pod, name, OBEDIENT).await
    }

    /// One that runs a script of its own.
    pub async fn create_with(&self, pod: &Pod, name: &str, script: &str) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(container_config(name, script)),
            sandbox_config: Some(pod.config.clone()),
        };
        let answer = self.runtime().create_container(request).await.context("CreateContainer")?;
        Ok(answer.into_inner().container_id)
    }

    pub async fn start(&self, container: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: container.into() };
        self.runtime().start_container(request).await.context("StartContainer")?;
        Ok(())
    }

    pub async fn exec(&self, container: &str) -> Result<()> {
        let request =
            cri::ExecSyncRequest { container_id: container.into(), cmd: vec!["true".into()], timeout: 30 };
        let answer = self.runtime().exec_sync(request).await.context("ExecSync")?.into_inner();
        anyhow::ensure!(answer.exit_code == 0, "`true` exited with {}", answer.exit_code);
        Ok(())
    }

    /// Where a client may run a script in the container, and hear it; or else have it hear the client.
    pub async fn exec_url(&self, container: &str, script: &str, stdin: bool) -> Result<String> {
        let request = cri::ExecRequest {
            container_id: container.into(),
            cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
            stdin,
            stdout: true,
            ..Default::default()
        };
        Ok(self.runtime().exec(request).await.context("Exec")?.into_inner().url)
    }

    /// Where a client may connect to a port of the pod.
    pub async fn forward_url(&self, pod: &Pod, port: i32) -> Result<String> {
        let request = cri::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![port] };
        Ok(self.runtime().port_forward(request).await.context("PortForward")?.into_inner().url)
    }

    pub async fn stop(&self, container: &str) -> Result<()> {
        let request = cri::StopContainerRequest { container_id: container.into(), timeout: 30 };
        self.runtime().stop_container(request).await.context("StopContainer")?;
        Ok(())
    }

    pub async fn remove(&self, container: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: container.into() };
        self.runtime().remove_container(request).await.context("RemoveContainer")?;
        Ok(())
    }

    pub async fn stop_pod(&self, pod: &Pod) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.runtime().stop_pod_sandbox(request).await.context("StopPodSandbox")?;
        Ok(())
    }

    pub async fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.runtime().remove_pod_sandbox(request).await.context("RemovePodSandbox")?;
        Ok(())
    }

    /// Whether it answers, and says so.
    pub async fn is_ready(&self) -> bool {
        let Ok(answer) = self.runtime().status(cri::StatusRequest { verbose: false }).await else {
            return false;
        };
        let status = answer.into_inner().status.unwrap_or_default();
        status.conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status)
    }

    pub async fn pods(&self) -> Result<Vec<cri::PodSandbox>> {
        let request = cri::ListPodSandboxRequest::default();
        Ok(self.runtime().list_pod_sandbox(request).await.context("ListPodSandbox")?.into_inner().items)
    }

    pub async fn containers(&self) -> Result<Vec<cri::Container>> {
        let request = cri::ListContainersRequest::default();
        Ok(self.runtime().list_containers(request).await.context("ListContainers")?.into_inner().containers)
    }

    pub async fn pod_status(&self, pod: &Pod) -> Result<()> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        self.runtime().pod_sandbox_status(request).await.context("PodSandboxStatus")?;
        Ok(())
    }

    pub async fn container_status(&self, container: &str) -> Result<()> {
        let request = cri::ContainerStatusRequest { container_id: container.into(), verbose: false };
        self.runtime().container_status(request).await.context("ContainerStatus")?;
        Ok(())
    }

    /// Of all containers.
    ///
    /// # Errors
    /// When one of these many has no figures: then it was not the same work.
    pub async fn stats(&self, containers: usize) -> Result<()> {
        let request = cri::ListContainerStatsRequest::default();
        let answer = self.runtime().list_container_stats(request).await.context("ListContainerStats")?;
        let measured =
            answer.into_inner().stats.into_iter().filter(|one| one.cpu.is_some() && one.memory.is_some());
        let measured = measured.count();
        anyhow::ensure!(measured == containers, "{}: stats of {measured}, not {containers}", self.name);
        Ok(())
    }

    pub async fn pull(&self, image: &str) -> Result<()> {
        let request = cri::PullImageRequest { image: Some(spec(image)), ..Default::default() };
        self.images.clone().pull_image(request).await.with_context(|| format!("PullImage {image}"))?;
        Ok(())
    }

    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let request = cri::RemoveImageRequest { image: Some(spec(image)) };
        self.images.clone().remove_image(request).await.with_context(|| format!("RemoveImage {image}"))?;
        Ok(())
    }
}

fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.into(), ..Default::default() }
}

fn container_config(name: &str, script: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(spec(BUSYBOX)),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(cri::LinuxContainerConfig {
            security_context: Some(Default::default()),
            resources: Some(cri::LinuxContainerResources {
                cpu_shares: 100,
                memory_limit_in_bytes: 64 << 20,
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}
