//! The content store: blobs by digest, written in pieces, resumable by the ingest's name.

use std::collections::BTreeMap;

use bytes::Bytes;

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

/// An open write. Dropped without commit, what was written stays for a resume, until `abort_ingest` or GC.
#[derive(Debug)]
pub struct ContentWriter(());

impl Containerd {
    pub async fn content_info(&self, digest: &Digest) -> Result<ContentInfo> {
        unimplemented!("{digest}")
    }

    /// A whole blob in memory; refused when larger than `limit` bytes.
    pub async fn read_content(&self, digest: &Digest, limit: usize) -> Result<Bytes> {
        unimplemented!("{digest} {limit}")
    }

    /// Sets these labels of a blob (an empty value removes one), leaving the others.
    pub async fn label_content(&self, digest: &Digest, labels: &BTreeMap<String, String>) -> Result<()> {
        unimplemented!("{digest} {labels:?}")
    }

    pub async fn delete_content(&self, digest: &Digest) -> Result<()> {
        unimplemented!("{digest}")
    }

    /// Opens (or resumes) the ingest `name`. `Kind::AlreadyExists` when the blob is there, `Kind::Unavailable` when
    /// another writer holds the ingest.
    pub async fn write_content(&self, name: &str, digest: &Digest, size: u64) -> Result<ContentWriter> {
        unimplemented!("{name} {digest} {size}")
    }

    /// Ingests whose name matches the filters.
    pub async fn ingests(&self, filters: &[&str]) -> Result<Vec<IngestStatus>> {
        unimplemented!("{filters:?}")
    }

    pub async fn abort_ingest(&self, name: &str) -> Result<()> {
        unimplemented!("{name}")
    }
}

impl ContentWriter {
    /// Bytes written so far: where to resume.
    pub fn offset(&self) -> u64 {
        unimplemented!()
    }

    /// Appends. Cut into messages that containerd takes; waits under back-pressure.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        unimplemented!("{}", data.len())
    }

    /// Throws away what was written, to begin at 0 again.
    pub async fn truncate(&mut self) -> Result<()> {
        unimplemented!()
    }

    /// Checks size and digest and makes the blob visible with its labels. An existing one is fine.
    pub async fn commit(self, labels: &BTreeMap<String, String>) -> Result<()> {
        unimplemented!("{labels:?}")
    }
}
