//! RuntimeService.

use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::batch::{Batches, batches};
use super::events::{Events, events};
use super::request::{checked_command, id, seconds};
use super::{convert, lists, stats, verbose};
use crate::config::{CgroupDriver, InForce};
use crate::container::Containers;
use crate::containerd::Containerd;
use crate::events::{Hub, Link};
use crate::field;
use crate::image::Images;
use crate::network::PodCidrs;
use crate::pod;
use crate::proto::cri;
use crate::sandbox::Sandboxes;
use crate::stats::Stats;
use crate::streaming::Streaming;

type Reply<T> = Result<Response<T>, Status>;

/// The version of the runtime API that kubelets insist on, since 2016.
const KUBE_API_VERSION: &str = "0.1.0";
/// Longest list of pod CIDRs taken; a node has two at most.
const MAX_CIDRS: usize = 1024;

/// The service over the domain.
pub struct RuntimeService {
    pub config: InForce,
    pub containerd: Containerd,
    pub containers: Containers,
    pub images: Images,
    pub stats: Stats,
    pub link: watch::Receiver<Link>,
    pub hub: Hub,
    pub streaming: Streaming,
}

impl RuntimeService {
    pub(super) fn sandboxes(&self) -> &Sandboxes {
        self.containers.sandboxes()
    }
}

#[tonic::async_trait]
impl cri::runtime_service_server::RuntimeService for RuntimeService {
    async fn version(&self, _: Request<cri::VersionRequest>) -> Reply<cri::VersionResponse> {
        Ok(Response::new(cri::VersionResponse {
            version: KUBE_API_VERSION.into(),
            runtime_name: env!("CARGO_PKG_NAME").into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn status(&self, request: Request<cri::StatusRequest>) -> Reply<cri::StatusResponse> {
        let conditions = self.conditions().await;
        let handlers = self.sandboxes().handlers();
        let info = if request.into_inner().verbose {
            verbose::runtime(&self.config.now(), &self.containers, &self.images, &self.containerd).await
        } else {
            Default::default()
        };
        Ok(Response::new(cri::StatusResponse {
            status: Some(cri::RuntimeStatus { conditions }),
            info,
            runtime_handlers: handlers.describe(),
            features: Some(cri::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: true,
                mount_options: true,
            }),
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<cri::RuntimeConfigRequest>,
    ) -> Reply<cri::RuntimeConfigResponse> {
        let driver = match self.config.now().runtime.cgroup_driver {
            Some(CgroupDriver::Systemd) => cri::CgroupDriver::Systemd,
            Some(CgroupDriver::Cgroupfs) | None => cri::CgroupDriver::Cgroupfs,
        };
        let linux = Some(cri::LinuxRuntimeConfiguration { cgroup_driver: driver.into() });
        Ok(Response::new(cri::RuntimeConfigResponse { linux }))
    }

    /// The node's pod CIDR, which only a CNI template has a use for.
    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Reply<cri::UpdateRuntimeConfigResponse> {
        const FIELD: &str = "runtime_config.network_config.pod_cidr";
        let config = request.into_inner().runtime_config.unwrap_or_default();
        let cidr = config.network_config.unwrap_or_default().pod_cidr;
        field::line(FIELD, &cidr, MAX_CIDRS)?;
        if !cidr.is_empty() {
            let cidrs = PodCidrs::parse(&cidr).map_err(|why| field::error(FIELD, why))?;
            let generated = self.sandboxes().handlers().default_handler().networks.generate(&cidrs).await?;
            tracing::info!(cidr, generated, "the node's pod CIDR");
        }
        Ok(Response::new(cri::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<cri::RunPodSandboxRequest>,
    ) -> Reply<cri::RunPodSandboxResponse> {
        let id = self.sandboxes().run(self.asked(request)).await?;
        Ok(Response::new(cri::RunPodSandboxResponse { pod_sandbox_id: id.to_string() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Reply<cri::StopPodSandboxResponse> {
        pod::stop(&self.containers, id("pod_sandbox_id", &self.asked(request).pod_sandbox_id)?).await?;
        Ok(Response::new(cri::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Reply<cri::RemovePodSandboxResponse> {
        pod::remove(&self.containers, id("pod_sandbox_id", &self.asked(request).pod_sandbox_id)?).await?;
        Ok(Response::new(cri::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Reply<cri::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        // For people, one in the making as well: they want to know why.
        let making = request.verbose.then(|| self.sandboxes().entry(id)).flatten();
        let sandbox = making.map_or_else(|| self.sandboxes().find(id), Ok)?;
        let info = if request.verbose {
            verbose::sandbox(&sandbox, &self.containers, &self.containerd).await
        } else {
            Default::default()
        };
        let status = Some(convert::sandbox_status(&sandbox.facts(), sandbox.has_network()));
        Ok(Response::new(cri::PodSandboxStatusResponse { status, info, ..Default::default() }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<cri::UpdatePodSandboxResourcesResponse> {
        let request = self.asked(request);
        let sandbox = self.sandboxes().find(id("pod_sandbox_id", &request.pod_sandbox_id)?)?;
        self.sandboxes().update(sandbox, request).await?;
        Ok(Response::new(cri::UpdatePodSandboxResourcesResponse {}))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Reply<cri::ListPodSandboxResponse> {
        let items = lists::pods(self.sandboxes(), request.into_inner().filter);
        Ok(Response::new(cri::ListPodSandboxResponse { items }))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Result<Batches<cri::StreamPodSandboxesResponse>, Status> {
        let items = lists::pods(self.sandboxes(), request.into_inner().filter);
        Ok(batches(items, |pod_sandboxes| cri::StreamPodSandboxesResponse { pod_sandboxes }))
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Reply<cri::CreateContainerResponse> {
        let request = self.asked(request);
        id("pod_sandbox_id", &request.pod_sandbox_id)?;
        let id = self.containers.create(request).await?;
        Ok(Response::new(cri::CreateContainerResponse { container_id: id.to_string() }))
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Reply<cri::StartContainerResponse> {
        self.containers.start(id("container_id", &self.asked(request).container_id)?).await?;
        Ok(Response::new(cri::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<cri::StopContainerRequest>,
    ) -> Reply<cri::StopContainerResponse> {
        let request = self.asked(request);
        let grace = seconds("timeout", request.timeout)?;
        match self.containers.find(id("container_id", &request.container_id)?) {
            Ok(container) => self.containers.stop(&container, grace).await?,
            Err(crate::container::ContainerError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Response::new(cri::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Reply<cri::RemoveContainerResponse> {
        match self.containers.find(id("container_id", &self.asked(request).container_id)?) {
            Ok(container) => self.containers.remove(&container).await?,
            Err(crate::container::ContainerError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Response::new(cri::RemoveContainerResponse {}))
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Reply<cri::ContainerStatusResponse> {
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        let making = request.verbose.then(|| self.containers.entry(id)).flatten();
        let container = making.map_or_else(|| self.containers.find(id), Ok)?;
        let info = if request.verbose {
            verbose::container(&container, &self.containerd).await
        } else {
            Default::default()
        };
        let status = Some(convert::container_status(&container.facts(), &self.images));
        Ok(Response::new(cri::ContainerStatusResponse { status, info }))
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Reply<cri::ListContainersResponse> {
        let containers = lists::containers(&self.containers, &self.images, request.into_inner().filter);
        Ok(Response::new(cri::ListContainersResponse { containers }))
    }

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Result<Batches<cri::StreamContainersResponse>, Status> {
        let containers = lists::containers(&self.containers, &self.images, request.into_inner().filter);
        Ok(batches(containers, |containers| cri::StreamContainersResponse { containers }))
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Reply<cri::UpdateContainerResourcesResponse> {
        let request = self.asked(request);
        let container = self.containers.find(id("container_id", &request.container_id)?)?;
        self.containers.update(container, request).await?;
        Ok(Response::new(cri::UpdateContainerResourcesResponse {}))
    }

    async fn exec_sync(&self, request: Request<cri::ExecSyncRequest>) -> Reply<cri::ExecSyncResponse> {
        let request = self.asked(request);
        let limit = seconds("timeout", request.timeout)?;
        checked_command(&request.cmd)?;
        let container = self.containers.find(id("container_id", &request.container_id)?)?;
        let timeout = (!limit.is_zero()).then_some(limit);
        let output = self.containers.exec_sync(container, request.cmd, timeout).await?;
        let (stdout, stderr, exit_code) = (output.stdout, output.stderr, output.code);
        Ok(Response::new(cri::ExecSyncResponse { stdout, stderr, exit_code }))
    }

    async fn exec(&self, request: Request<cri::ExecRequest>) -> Reply<cri::ExecResponse> {
        let url = self.exec_url(request.into_inner())?;
        Ok(Response::new(cri::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<cri::AttachRequest>) -> Reply<cri::AttachResponse> {
        let url = self.attach_url(request.into_inner())?;
        Ok(Response::new(cri::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<cri::PortForwardRequest>,
    ) -> Reply<cri::PortForwardResponse> {
        let url = self.port_forward_url(request.into_inner())?;
        Ok(Response::new(cri::PortForwardResponse { url }))
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Reply<cri::ReopenContainerLogResponse> {
        let container = self.containers.find(id("container_id", &self.asked(request).container_id)?)?;
        self.containers.reopen_log(&container).await?;
        Ok(Response::new(cri::ReopenContainerLogResponse {}))
    }

    async fn get_container_events(&self, _: Request<cri::GetEventsRequest>) -> Result<Events, Status> {
        Ok(events(self.hub.subscribe(&self.containers), self.images.clone()))
    }

    async fn checkpoint_container(
        &self,
        request: Request<cri::CheckpointContainerRequest>,
    ) -> Reply<cri::CheckpointContainerResponse> {
        self.note_subject(&request);
        let (metadata, _, request) = request.into_parts();
        Ok(Response::new(self.checkpoint(metadata, request).await?))
    }

    async fn checkpoint_pod(
        &self,
        request: Request<cri::CheckpointPodRequest>,
    ) -> Reply<cri::CheckpointPodResponse> {
        self.note_subject(&request);
        let (metadata, _, request) = request.into_parts();
        Ok(Response::new(self.pod_checkpoint(metadata, request).await?))
    }

    async fn restore_pod(&self, request: Request<cri::RestorePodRequest>) -> Reply<cri::RestorePodResponse> {
        self.note_subject(&request);
        let (metadata, _, request) = request.into_parts();
        Ok(Response::new(self.pod_restore(metadata, request).await?))
    }

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Reply<cri::ContainerStatsResponse> {
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        let stats = Some(stats::container(&self.stats, &self.containers, id).await?);
        Ok(Response::new(cri::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Reply<cri::ListContainerStatsResponse> {
        let stats = stats::containers(&self.stats, &self.containers, request.into_inner().filter).await?;
        Ok(Response::new(cri::ListContainerStatsResponse { stats }))
    }

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Result<Batches<cri::StreamContainerStatsResponse>, Status> {
        let stats = stats::containers(&self.stats, &self.containers, request.into_inner().filter).await?;
        Ok(batches(stats, |container_stats| cri::StreamContainerStatsResponse { container_stats }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Reply<cri::PodSandboxStatsResponse> {
        let request = request.into_inner();
        let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        let stats = Some(stats::pod(&self.stats, &self.containers, id).await?);
        Ok(Response::new(cri::PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Reply<cri::ListPodSandboxStatsResponse> {
        let stats = stats::pods(&self.stats, &self.containers, request.into_inner().filter).await?;
        Ok(Response::new(cri::ListPodSandboxStatsResponse { stats }))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Result<Batches<cri::StreamPodSandboxStatsResponse>, Status> {
        let stats = stats::pods(&self.stats, &self.containers, request.into_inner().filter).await?;
        Ok(batches(stats, |pod_sandbox_stats| cri::StreamPodSandboxStatsResponse { pod_sandbox_stats }))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Reply<cri::ListMetricDescriptorsResponse> {
        let descriptors = crate::stats::descriptors();
        Ok(Response::new(cri::ListMetricDescriptorsResponse { descriptors }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Reply<cri::ListPodSandboxMetricsResponse> {
        let pod_metrics = self.stats.metrics().await?;
        Ok(Response::new(cri::ListPodSandboxMetricsResponse { pod_metrics }))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Result<Batches<cri::StreamPodSandboxMetricsResponse>, Status> {
        let wrap = |pod_sandbox_metrics| cri::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
        Ok(batches(self.stats.metrics().await?, wrap))
    }
}
