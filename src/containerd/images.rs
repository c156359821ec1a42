//! Image records: names for manifests in the content store.

use std::collections::BTreeMap;

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
    pub async fn image(&self, name: &str) -> Result<ImageRecord> {
        unimplemented!("{name}")
    }

    pub async fn images(&self, filters: &[&str]) -> Result<Vec<ImageRecord>> {
        unimplemented!("{filters:?}")
    }

    /// Creates the record, or replaces target and labels of the one there.
    pub async fn put_image(&self, image: &ImageRecord) -> Result<()> {
        unimplemented!("{image:?}")
    }

    /// Removes the name.
    pub async fn delete_image(&self, name: &str, collect: Collect) -> Result<()> {
        unimplemented!("{name} {collect:?}")
    }
}
