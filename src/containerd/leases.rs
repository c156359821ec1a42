//! Leases: what a step in the making holds is safe from garbage collection.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Containerd, ContainerdError};
use crate::id::LeaseId;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

#[derive(Clone, Debug, PartialEq)]
pub struct LeaseInfo {
    pub id: LeaseId,
    pub created_at: Timestamp,
    pub labels: BTreeMap<String, String>,
}

impl Containerd {
    /// Creates a lease; with `expires`, containerd drops it by itself after that time. An existing one is fine.
    pub async fn create_lease(&self, id: &LeaseId, expires: Option<Duration>) -> Result<()> {
        unimplemented!("{id} {expires:?}")
    }

    /// Ends a lease; one that is gone is fine.
    pub async fn delete_lease(&self, id: &LeaseId) -> Result<()> {
        unimplemented!("{id}")
    }

    pub async fn leases(&self) -> Result<Vec<LeaseInfo>> {
        unimplemented!()
    }
}
