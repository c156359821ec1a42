//! What is done to images.

use std::sync::Arc;

use k8s_cri::v1 as cri;
use tonic::Status;

use super::scene::{Deed, Retry, Scene, again};
use crate::harness::Node;

pub struct Pull;

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
    const RETRY: Retry = Retry::Never;

    type Stage = Arc<Node>;

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
