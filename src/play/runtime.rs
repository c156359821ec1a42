//! The CRI endpoint: one method for each call that a pod needs, each with its deadline.

use std::future::Future;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::PlayError;
use crate::endpoint;
use crate::proto::cri;
use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;

type Result<T> = std::result::Result<T, PlayError>;

/// The kubelet's own deadlines: 2 minutes, 4 for a sandbox, and what a container has left to live on top.
const DEADLINE: Duration = Duration::from_secs(2 * 60);
const SANDBOX_DEADLINE: Duration = Duration::from_secs(4 * 60);
/// The kubelet has none for a pull; an hour without an end is no progress to wait for.
const PULL_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// As much as any CRI client takes: lists and statuses of large nodes.
const LARGEST_ANSWER: usize = 16 << 20;

/// A connection to a CRI runtime. Cheap to clone; connects again after a loss.
#[derive(Clone, Debug)]
pub struct Runtime {
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Runtime {
    /// Connects, and asks who is there: name and version.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn connect(endpoint: &str) -> Result<(Self, String)> {
        let unreachable = |source| PlayError::Connect { endpoint: endpoint.to_owned(), source };
        let channel = endpoint::connect(endpoint).await.map_err(unreachable)?;
        let runtime = Self {
            pods: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            images: ImageServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER),
        };
        let request = cri::VersionRequest { version: "v1".into() };
        let version = async { runtime.pods.clone().version(request).await };
        let version = call("ask the version of", "the runtime", DEADLINE, version).await?;
        Ok((runtime, format!("{} {}", version.runtime_name, version.runtime_version)))
    }

    /// Makes and starts the pod's sandbox; its id.
    pub async fn run_pod(&self, config: &cri::PodSandboxConfig, handler: &str) -> Result<String> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let request =
            cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        let answer = async { self.pods.clone().run_pod_sandbox(request).await };
        let object = &format!("pod {name}");
        Ok(call("run", object, SANDBOX_DEADLINE, answer).await?.pod_sandbox_id)
    }

    /// The pod's first address; none with the node's network.
    pub async fn pod_ip(&self, id: &str) -> Result<Option<String>> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = async { self.pods.clone().pod_sandbox_status(request).await };
        let status = call("ask the status of", &format!("pod {id}"), DEADLINE, answer).await?.status;
        let network = status.and_then(|status| status.network);
        Ok(network.map(|network| network.ip).filter(|ip| !ip.is_empty()))
    }

    /// Sandboxes of the pod with this uid.
    pub async fn pods_of(&self, uid: &str) -> Result<Vec<String>> {
        let label_selector = [(super::translate::POD_UID.to_owned(), uid.to_owned())].into();
        let filter = cri::PodSandboxFilter { label_selector, ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let answer = async { self.pods.clone().list_pod_sandbox(request).await };
        let pods = call("list", "pods", DEADLINE, answer).await?.items;
        Ok(pods.into_iter().map(|pod| pod.id).collect())
    }

    /// Stops what runs in the pod, and takes its network down.
    pub async fn stop_pod(&self, id: &str) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let answer = async { self.pods.clone().stop_pod_sandbox(request).await };
        call("stop", &format!("pod {id}"), DEADLINE, answer).await.map(drop)
    }

    /// Removes the pod with its containers.
    pub async fn remove_pod(&self, id: &str) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let answer = async { self.pods.clone().remove_pod_sandbox(request).await };
        call("remove", &format!("pod {id}"), DEADLINE, answer).await.map(drop)
    }

    /// An image, if it is there.
    pub async fn image(&self, image: &cri::ImageSpec) -> Result<Option<cri::Image>> {
        let request = cri::ImageStatusRequest { image: Some(image.clone()), verbose: false };
        let answer = async { self.images.clone().image_status(request).await };
        let object = &format!("image {}", image.image);
        Ok(call("ask for", object, DEADLINE, answer).await?.image)
    }

    /// Pulls an image; what it is called afterwards.
    pub async fn pull(&self, image: &cri::ImageSpec, pod: &cri::PodSandboxConfig) -> Result<String> {
        let request = cri::PullImageRequest {
            image: Some(image.clone()),
            auth: None,
            sandbox_config: Some(pod.clone()),
        };
        let answer = async { self.images.clone().pull_image(request).await };
        let object = &format!("image {}", image.image);
        Ok(call("pull", object, PULL_DEADLINE, answer).await?.image_ref)
    }

    /// Makes a container; its id.
    pub async fn create(
        &self,
        pod_id: &str,
        config: cri::ContainerConfig,
        pod: &cri::PodSandboxConfig,
    ) -> Result<String> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod.clone()),
        };
        let answer = async { self.pods.clone().create_container(request).await };
        Ok(call("create", &format!("container {name}"), DEADLINE, answer).await?.container_id)
    }

    /// Starts the container of this id; `name` is for the error.
    pub async fn start(&self, id: &str, name: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        let answer = async { self.pods.clone().start_container(request).await };
        call("start", &format!("container {name}"), DEADLINE, answer).await.map(drop)
    }

    /// Asks a container to end, and ends it after `grace`.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        let answer = async { self.pods.clone().stop_container(request).await };
        call("stop", &format!("container {id}"), grace + DEADLINE, answer).await.map(drop)
    }

    pub async fn remove(&self, id: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        let answer = async { self.pods.clone().remove_container(request).await };
        call("remove", &format!("container {id}"), DEADLINE, answer).await.map(drop)
    }

    pub async fn status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = async { self.pods.clone().container_status(request).await };
        let object = format!("container {id}");
        let status = call("ask the status of", &object, DEADLINE, answer).await?.status;
        let empty = || Box::new(Status::new(Code::Internal, "the answer is empty"));
        status.ok_or_else(|| PlayError::Call { action: "ask the status of", object, status: empty() })
    }
}

async fn call<T>(
    action: &'static str,
    object: &str,
    limit: Duration,
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            Err(PlayError::Call { action, object: object.to_owned(), status: Box::new(status) })
        }
        Err(_) => Err(PlayError::Deadline { action, object: object.to_owned(), limit }),
    }
}
