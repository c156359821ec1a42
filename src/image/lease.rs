//! What a pull writes stays while the pull lasts, and goes with it when it fails.
//!
//! Content and snapshots are written under a lease of their own, so that containerd's garbage collection leaves them
//! alone before a name points at them. A failed pull ends its lease and waits for the collection: what no name and no
//! other lease holds is gone then, and what others use stays. Nothing of it is deleted by name.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ImageError;
use crate::containerd::{Containerd, ContainerdError};
use crate::error::chain;
use crate::id::LeaseId;
use crate::trace;

/// Our leases' names begin with it: what a crash left is known by it.
const PREFIX: &str = "cridge-image-";
/// After this containerd ends a lease by itself: the built-in plugin's figure.
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the end of a lease is waited for; it goes on behind that. Only an answer hangs on it, and a flight that
/// other pulls wait for too may hold the lease for long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The leases of this process.
#[derive(Clone, Default)]
pub struct Leases(Arc<Mutex<HashSet<LeaseId>>>);

/// A pull's own lease. Dropped without [`Lease::keep`], what it holds goes.
pub struct Lease {
    share: Arc<Share>,
    ended: JoinHandle<()>,
}

/// The lease as a flight holds it: it lasts as long as any of its shares.
pub struct Share {
    containerd: Containerd,
    kept: Arc<AtomicBool>,
    /// Dropped with the last share, which ends the lease.
    _alive: oneshot::Sender<std::convert::Infallible>,
}

impl Share {
    /// containerd, with what is written held by this lease.
    pub fn containerd(&self) -> &Containerd {
        &self.containerd
    }
}

#[cfg(test)]
impl Share {
    /// Of no lease at all.
    pub fn of_nothing() -> Self {
        let containerd = Containerd::new(std::path::Path::new("/nowhere"), "test");
        Self { containerd, kept: Arc::default(), _alive: oneshot::channel().0 }
    }
}

impl Leases {
    /// A new lease for work on an image.
    pub async fn take(&self, containerd: &Containerd, image: &str) -> Result<Lease, ImageError> {
        let id = LeaseId::new(format!("{PREFIX}{:016x}", rand::rng().random::<u64>()));
        self.lock().insert(id.clone());
        let (_alive, last_is_gone) = oneshot::channel();
        let kept = Arc::new(AtomicBool::new(false));
        let share = Arc::new(Share { containerd: containerd.leased(&id), kept: kept.clone(), _alive });
        // Ready before the lease is there: whoever waits for that may go away meanwhile.
        let ended = trace::spawn({
            let (leases, containerd, id) = (self.clone(), containerd.clone(), id.clone());
            async move {
                // Never sent to: it ends with the last share.
                let _ = last_is_gone.await;
                if let Err(error) = end(&containerd, &id, kept.load(Ordering::Acquire)).await {
                    tracing::warn!(lease = %id, error = chain(&error), "a lease could not be ended; it will expire");
                }
                leases.lock().remove(&id);
            }
        });
        let failed = ImageError::containerd("take a lease for", image);
        containerd.create_lease(&id, Some(EXPIRY)).await.map_err(failed)?;
        Ok(Lease { share, ended })
    }

    /// Ends the leases that an earlier process of ours left.
    pub async fn end_stale(&self, containerd: &Containerd) -> Result<(), ContainerdError> {
        for lease in containerd.leases().await? {
            let ours = lease.id.as_str().starts_with(PREFIX);
            if ours && !self.lock().contains(&lease.id) {
                tracing::info!(lease = %lease.id, "ending the lease of a pull that was interrupted");
                end(containerd, &lease.id, false).await?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<LeaseId>> {
        // A set of names is right whatever happened while it was locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Ends the lease: names hold what it held.
    pub async fn keep(self) {
        self.share.kept.store(true, Ordering::Release);
        self.give_up().await;
    }

    /// Ends the lease, and what only it held.
    pub async fn give_up(self) {
        drop(self.share);
        let _ = tokio::time::timeout(PATIENCE, self.ended).await;
    }
}

async fn end(containerd: &Containerd, id: &LeaseId, kept: bool) -> Result<(), ContainerdError> {
    if kept { containerd.delete_lease(id).await } else { containerd.delete_lease_and_collect(id).await }
}
