//! Image records: names for manifests in the content store.

use std::collections::BTreeMap;

use containerd_client::services::v1 as api;

use super::call::Call;
use super::convert::{ordered, timestamp, unordered};
use super::{Containerd, ContainerdError};
use crate::id::Digest;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

/// A blob by type, digest and size (OCI image spec, "Content Descriptors").
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub annotations: BTreeMap<String, String>,
}

/// A name and what it points at.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRecord {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub target: Descriptor,
    pub created_at: Timestamp,
}

/// Whether a deletion waits for the garbage collection that it causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect {
    Later,
    Now,
}

impl Containerd {
    /// One record.
    pub async fn image(&self, name: &str) -> Result<ImageRecord> {
        let call = Call::record("look at image", &name);
        let answer = call.run(self.calls().images().get(api::GetImageRequest { name: name.into() })).await?;
        answer.image.map(ImageRecord::from).ok_or_else(|| call.malformed("there is no image in it"))
    }

    /// Records that match any of the filters (containerd's filter syntax), or all.
    pub async fn images(&self, filters: &[&str]) -> Result<Vec<ImageRecord>> {
        let request = api::ListImagesRequest { filters: filters.iter().map(ToString::to_string).collect() };
        let answer = Call::record("list images of", &self.namespace())
            .run(self.calls().images().list(request))
            .await?;
        Ok(answer.images.into_iter().map(ImageRecord::from).collect())
    }

    /// Creates the record, or replaces target and labels of the one there.
    pub async fn put_image(&self, image: &ImageRecord) -> Result<()> {
        let request = api::CreateImageRequest { image: Some(image.into()), ..Default::default() };
        let created =
            Call::record("create image", &image.name).run(self.calls().images().create(request)).await;
        match created {
            Err(error) if error.is_there_already() => self.update_image(image).await,
            outcome => outcome.map(drop),
        }
    }

    async fn update_image(&self, image: &ImageRecord) -> Result<()> {
        let paths = vec!["target".into(), "labels".into()];
        let request = api::UpdateImageRequest {
            image: Some(image.into()),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        Call::record("update image", &image.name).run(self.calls().images().update(request)).await.map(drop)
    }

    /// Removes the name.
    pub async fn delete_image(&self, name: &str, collect: Collect) -> Result<()> {
        let sync = collect == Collect::Now;
        let request = api::DeleteImageRequest { name: name.into(), sync, ..Default::default() };
        Call::work("delete image", &name).run(self.calls().images().delete(request)).await
    }
}

impl From<api::Image> for ImageRecord {
    fn from(image: api::Image) -> Self {
        Self {
            name: image.name,
            labels: ordered(image.labels),
            target: image.target.unwrap_or_default().into(),
            created_at: timestamp(image.created_at),
        }
    }
}

impl From<&ImageRecord> for api::Image {
    fn from(record: &ImageRecord) -> Self {
        Self {
            name: record.name.clone(),
            labels: unordered(&record.labels),
            target: Some((&record.target).into()),
            ..Default::default()
        }
    }
}
