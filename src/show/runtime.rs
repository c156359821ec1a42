//! The endpoint, and how it is asked.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::ShowError;
use crate::endpoint;
use crate::proto::cri;
use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;

/// How long a runtime may take for one answer: all of these come from its memory.
const DEADLINE: Duration = Duration::from_secs(30);
/// As much as any CRI client takes.
const LARGEST_ANSWER: usize = 16 << 20;

/// A runtime. Its clients are cheap to clone.
pub struct Runtime {
    pods: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Runtime {
    pub async fn connect(endpoint: &str) -> Result<Self, ShowError> {
        let channel = endpoint::connect(endpoint)
            .await
            .map_err(|source| ShowError::Connect { endpoint: endpoint.to_owned(), source })?;
        Ok(Self {
            pods: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER),
            images: ImageServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER),
        })
    }

    /// Its RuntimeService.
    pub fn pods(&self) -> RuntimeServiceClient<Channel> {
        self.pods.clone()
    }

    /// Its ImageService.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    /// What cridge's Status tells under a key of its own; nothing of another runtime.
    pub async fn told<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, ShowError> {
        let status = async { self.pods().status(cri::StatusRequest { verbose: true }).await };
        let info = call("tell its status", status).await?.info;
        let told = info.get(key).map(|json| serde_json::from_str(json));
        Ok(told.and_then(Result::ok).unwrap_or_default())
    }
}

/// Awaits one answer.
pub async fn call<T>(
    action: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ShowError> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(ShowError::Call { action, status: Box::new(status) }),
        Err(_) => Err(ShowError::Deadline { action, limit: DEADLINE }),
    }
}
