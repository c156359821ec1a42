//! Leases: what a step in the making holds is safe from garbage collection.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use containerd_client::services::v1 as api;

use super::call::{Call, Forgiving as _};
use super::convert::{ordered, timestamp};
use super::{Containerd, ContainerdError};
use crate::id::LeaseId;
use crate::time::Timestamp;

type Result<T> = std::result::Result<T, ContainerdError>;

/// The label by which containerd's garbage collection drops a lease (docs/garbage-collection.md), RFC 3339.
const EXPIRE_LABEL: &str = "containerd.io/gc.expire";

/// A lease as containerd keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseInfo {
    pub id: LeaseId,
    pub created_at: Timestamp,
    pub labels: BTreeMap<String, String>,
}

impl Containerd {
    /// Creates a lease; with `expires`, containerd drops it by itself after that time. An existing one is fine.
    pub async fn create_lease(&self, id: &LeaseId, expires: Option<Duration>) -> Result<()> {
        let expiry =
            |after| (EXPIRE_LABEL.to_owned(), Timestamp::from(SystemTime::now() + after).to_string());
        let request = api::CreateRequest {
            id: id.to_string(),
            labels: expires.map(expiry).into_iter().collect::<HashMap<_, _>>(),
        };
        let created = Call::record("create lease", id).run(self.calls().leases().create(request)).await;
        created.map(drop).or_there()
    }

    /// Ends a lease; one that is gone is fine.
    pub async fn delete_lease(&self, id: &LeaseId) -> Result<()> {
        let request = api::DeleteRequest { id: id.to_string(), sync: false };
        Call::record("delete lease", id).run(self.calls().leases().delete(request)).await.or_gone()
    }

    /// Ends a lease, and returns when garbage collection has taken what only it held; one that is gone is fine.
    pub async fn delete_lease_and_collect(&self, id: &LeaseId) -> Result<()> {
        let request = api::DeleteRequest { id: id.to_string(), sync: true };
        Call::record("delete lease", id).run(self.calls().leases().delete(request)).await.or_gone()
    }

    /// All leases of the namespace.
    pub async fn leases(&self) -> Result<Vec<LeaseInfo>> {
        let request = api::ListRequest { filters: Vec::new() };
        let answer = Call::record("list leases of", &self.namespace())
            .run(self.calls().leases().list(request))
            .await?;
        Ok(answer.leases.into_iter().map(LeaseInfo::from).collect())
    }
}

impl From<api::Lease> for LeaseInfo {
    fn from(lease: api::Lease) -> Self {
        Self {
            id: LeaseId::new(lease.id),
            created_at: timestamp(lease.created_at),
            labels: ordered(lease.labels),
        }
    }
}
