//! The content store: blobs by digest, written in pieces, resumable by the ingest's name.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use containerd_client::services::v1 as api;
use tokio::io::AsyncWriteExt as _;

use super::call::Call;
use super::convert::{bytes, ordered, timestamp, unordered};
use super::{Containerd, ContainerdError};
use crate::id::Digest;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

/// A stored blob.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentInfo {
    pub digest: Digest,
    pub size: u64,
    pub created_at: Timestamp,
    pub labels: BTreeMap<String, String>,
}

/// A blob being written.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestStatus {
    pub name: String,
    pub offset: u64,
    pub total: u64,
    pub updated_at: Timestamp,
}

impl Containerd {
    /// One blob's record.
    pub async fn content_info(&self, digest: &Digest) -> Result<ContentInfo> {
        let call = Call::record("look at blob", digest);
        let request = api::InfoRequest { digest: digest.to_string() };
        let answer = call.run(self.calls().content().info(request)).await?;
        answer.info.map(ContentInfo::from).ok_or_else(|| call.malformed("there is no blob in it"))
    }

    /// A whole blob in memory; refused when larger than `limit` bytes.
    ///
    /// # Errors
    /// `Kind::ResourceExhausted` at that limit, besides the usual ones.
    pub async fn read_content(&self, digest: &Digest, limit: usize) -> Result<Bytes> {
        let call = Call::record("read blob", digest);
        // One byte more tells a blob that is too long from one that just fits.
        let size = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let request = api::ReadContentRequest { digest: digest.to_string(), offset: 0, size };
        let blob = call.bounded(async {
            let mut pieces = self.calls().content().read(request).await?.into_inner();
            let mut blob = BytesMut::new();
            while let Some(piece) = pieces.message().await? {
                blob.extend_from_slice(&piece.data);
            }
            Ok(blob.freeze())
        });
        let blob = blob.await?;
        if blob.len() > limit { Err(call.too_large(limit)) } else { Ok(blob) }
    }

    /// Writes a blob to `sink`, piece by piece. As long as it takes: cancel by dropping.
    pub async fn copy_content(
        &self,
        digest: &Digest,
        sink: &mut (impl tokio::io::AsyncWrite + Unpin + Send),
    ) -> Result<()> {
        let call = Call::endless("read blob", digest);
        let request = api::ReadContentRequest { digest: digest.to_string(), ..Default::default() };
        let copied = call.bounded(async {
            let mut pieces = self.streams().content().read(request).await?.into_inner();
            while let Some(piece) = pieces.message().await? {
                sink.write_all(&piece.data)
                    .await
                    .map_err(|error| tonic::Status::internal(error.to_string()))?;
            }
            sink.flush().await.map_err(|error| tonic::Status::internal(error.to_string()))
        });
        copied.await
    }

    /// Sets these labels of a blob (an empty value removes one), leaving the others.
    pub async fn label_content(&self, digest: &Digest, labels: &BTreeMap<String, String>) -> Result<()> {
        if labels.is_empty() {
            return Ok(());
        }
        let info = api::Info { digest: digest.to_string(), labels: unordered(labels), ..Default::default() };
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let request =
            api::UpdateRequest { info: Some(info), update_mask: Some(prost_types::FieldMask { paths }) };
        Call::record("label blob", digest).run(self.calls().content().update(request)).await.map(drop)
    }

    /// Removes a blob from the namespace.
    pub async fn delete_content(&self, digest: &Digest) -> Result<()> {
        let request = api::DeleteContentRequest { digest: digest.to_string() };
        Call::record("delete blob", digest).run(self.calls().content().delete(request)).await
    }

    /// Ingests whose name matches the filters (containerd's filter syntax: `ref==…`), or all.
    pub async fn ingests(&self, filters: &[&str]) -> Result<Vec<IngestStatus>> {
        let request = api::ListStatusesRequest { filters: filters.iter().map(ToString::to_string).collect() };
        let namespace = self.namespace();
        let call = Call::record("list ingests of", &namespace);
        let answer = call.run(self.calls().content().list_statuses(request)).await?;
        Ok(answer.statuses.into_iter().map(IngestStatus::from).collect())
    }

    /// Throws away what was written under this name.
    pub async fn abort_ingest(&self, name: &str) -> Result<()> {
        let request = api::AbortRequest { r#ref: name.into() };
        Call::record("abort ingest", &name).run(self.calls().content().abort(request)).await
    }
}

impl From<api::Info> for ContentInfo {
    fn from(info: api::Info) -> Self {
        Self {
            digest: Digest::new(info.digest),
            size: bytes(info.size),
            created_at: timestamp(info.created_at),
            labels: ordered(info.labels),
        }
    }
}

impl From<api::Status> for IngestStatus {
    fn from(status: api::Status) -> Self {
        Self {
            name: status.r#ref,
            offset: bytes(status.offset),
            total: bytes(status.total),
            updated_at: timestamp(status.updated_at),
        }
    }
}
