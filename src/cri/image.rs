//! ImageService.

use tonic::{Request, Response, Status};

use super::batch::{Batches, batches};
use super::{convert, lists};
use crate::field;
use crate::image::{Images, PullRequest};
use crate::proto::cri;
use crate::sandbox::Handlers;

type Reply<T> = Result<Response<T>, Status>;

/// The service over the images.
pub struct ImageService {
    images: Images,
    handlers: Handlers,
}

impl ImageService {
    /// `handlers` choose the snapshotter that a pull unpacks for.
    pub fn new(images: Images, handlers: Handlers) -> Self {
        Self { images, handlers }
    }
}

/// The text of an image spec, which must be there.
fn reference(spec: Option<&cri::ImageSpec>) -> Result<&str, Status> {
    let spec = field::required("image", spec)?;
    field::name_of_image("image.image", &spec.image)?;
    Ok(&spec.image)
}

#[tonic::async_trait]
impl cri::image_service_server::ImageService for ImageService {
    async fn list_images(&self, request: Request<cri::ListImagesRequest>) -> Reply<cri::ListImagesResponse> {
        let images = lists::images(&self.images, request.into_inner().filter)?;
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Result<Batches<cri::StreamImagesResponse>, Status> {
        let images = lists::images(&self.images, request.into_inner().filter)?;
        Ok(batches(images, |images| cri::StreamImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Reply<cri::ImageStatusResponse> {
        let request = request.into_inner();
        let image = self.images.find(reference(request.image.as_ref())?);
        let mut info = std::collections::HashMap::new();
        if let (true, Some(image)) = (request.verbose, &image) {
            let told = serde_json::json!({
                "chainID": image.chain_id.as_str(),
                "imageSpec": {"config": image.config},
                "target": {"mediaType": image.target.media_type, "digest": image.target.digest.as_str()},
            });
            info.insert("info".to_owned(), told.to_string());
        }
        Ok(Response::new(cri::ImageStatusResponse { image: image.map(|image| convert::image(&image)), info }))
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Reply<cri::PullImageResponse> {
        let request = request.into_inner();
        let reference = reference(request.image.as_ref())?;
        let handler = request.image.as_ref().map(|image| image.runtime_handler.as_str()).unwrap_or_default();
        let snapshotter = self.handlers.find(handler)?.snapshotter;
        let pull = PullRequest { reference, auth: request.auth.as_ref(), snapshotter: Some(&snapshotter) };
        let image = self.images.pull(pull).await?;
        Ok(Response::new(cri::PullImageResponse { image_ref: image.id.to_string() }))
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Reply<cri::RemoveImageResponse> {
        let request = request.into_inner();
        self.images.remove(reference(request.image.as_ref())?).await?;
        Ok(Response::new(cri::RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<cri::ImageFsInfoRequest>) -> Reply<cri::ImageFsInfoResponse> {
        let usage: Vec<_> =
            self.images.filesystem_usage().await?.into_iter().map(convert::filesystem).collect();
        // Containers write to snapshots of the same filesystem as the images' own.
        let container_filesystems = usage.first().cloned().into_iter().collect();
        Ok(Response::new(cri::ImageFsInfoResponse { image_filesystems: usage, container_filesystems }))
    }
}
