//! One flight per thing: whoever wants a blob or a layer that is on its way already waits for that one.
//!
//! A flight runs as a task of its own, so that the pull that began it may be cancelled while others wait for it; when
//! nobody waits any more, it is stopped.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::ImageError;
use super::lease::Share;
use crate::trace;

/// How a flight ended: with the lease that holds its result.
type Outcome = Result<Arc<Share>, Arc<ImageError>>;

/// The flights under way. `K` is what is fetched; `A` as whom.
pub struct Flights<K, A> {
    running: Mutex<HashMap<K, Weak<Flight<A>>>>,
}

struct Flight<A> {
    access: A,
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
}

impl<A> Drop for Flight<A> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Role {
    Leader,
    Follower,
}

impl<K: Eq + Hash + Clone, A: PartialEq + Clone> Flights<K, A> {
    pub fn new() -> Self {
        Self { running: Mutex::new(HashMap::new()) }
    }

    /// Has `start` done once for all who ask for `key` at the same time. Who finds it done by another does it again:
    /// `start` must be quick when there is nothing left to do, and claims the result for its own lease.
    ///
    /// A flight that failed with another's access says nothing about ours: then we try ourselves.
    pub async fn share<F>(&self, key: &K, access: &A, start: impl Fn() -> F) -> Result<(), ImageError>
    where
        F: Future<Output = Result<Arc<Share>, ImageError>> + Send + 'static,
    {
        // The other's lease lasts until the result is ours too.
        let mut _held = None;
        loop {
            let (flight, role) = self.board(key, access, &start);
            let mut outcome = flight.outcome.clone();
            let outcome = match outcome.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            match (outcome, role) {
                (Some(Ok(_)), Role::Leader) => return Ok(()),
                (Some(Ok(share)), Role::Follower) => _held = Some(share),
                (Some(Err(error)), Role::Follower) if flight.access != *access => {
                    tracing::debug!(%error, "another pull's attempt failed; trying with this one's access");
                }
                (Some(Err(error)), _) => return Err(ImageError::Shared(error)),
                (None, _) => {
                    return Err(ImageError::Stopped { what: "a shared download or unpacking".into() });
                }
            }
        }
    }

    fn board<F>(&self, key: &K, access: &A, start: impl Fn() -> F) -> (Arc<Flight<A>>, Role)
    where
        F: Future<Output = Result<Arc<Share>, ImageError>> + Send + 'static,
    {
        let mut running = self.lock();
        running.retain(|_, flight| flight.strong_count() > 0);
        let under_way = running.get(key).and_then(Weak::upgrade);
        if let Some(flight) = under_way.filter(|flight| flight.outcome.borrow().is_none()) {
            return (flight, Role::Follower);
        }
        let (done, outcome) = watch::channel(None);
        let work = start();
        let task = trace::spawn(async move {
            let outcome = work.await.map_err(Arc::new);
            // Nobody listens when all who waited are gone.
            let _ = done.send(Some(outcome));
        });
        let flight = Arc::new(Flight { access: access.clone(), outcome, task: task.abort_handle() });
        running.insert(key.clone(), Arc::downgrade(&flight));
        (flight, Role::Leader)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Weak<Flight<A>>>> {
        // A map of weak pointers is right whatever happened while it was locked.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    /// Work that counts its beginnings, waits to be let through, and may fail.
    #[derive(Default)]
    struct Work {
        begun: AtomicUsize,
        failures: AtomicUsize,
        gate: Option<Arc<Semaphore>>,
    }

    impl Work {
        fn start(self: &Arc<Self>) -> impl Future<Output = Result<Arc<Share>, ImageError>> + Send + 'static {
            let work = self.clone();
            async move {
                work.begun.fetch_add(1, Ordering::SeqCst);
                if let Some(gate) = &work.gate {
                    let _ = gate.acquire().await;
                }
                let fails = work
                    .failures
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                match fails {
                    Ok(_) => Err(ImageError::Stopped { what: "the test".into() }),
                    Err(_) => Ok(Arc::new(Share::of_nothing())),
                }
            }
        }

        fn gated(failures: usize) -> (Arc<Self>, Arc<Semaphore>) {
            let gate = Arc::new(Semaphore::new(0));
            let work = Self { failures: failures.into(), gate: Some(gate.clone()), ..Self::default() };
            (Arc::new(work), gate)
        }
    }

    #[tokio::test]
    async fn a_flight_goes_on_while_anybody_waits() {
        let (flights, (work, gate)) = (Flights::new(), Work::gated(0));
        let start = || work.start();
        let mut first = Box::pin(flights.share(&1, &"us", start));
        let mut second = Box::pin(flights.share(&1, &"us", start));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        gate.close();
        second.await.expect("done");
        // Once by the one who left, once to claim the result.
        assert_eq!(work.begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_flight_ends_when_nobody_waits() {
        let flights = Flights::new();
        let (alive, ended) = oneshot::channel::<()>();
        let alive = Mutex::new(Some(alive));
        let start = || {
            let alive = alive.lock().unwrap().take();
            async move {
                let _alive = alive;
                std::future::pending().await
            }
        };
        assert!(flights.share(&1, &(), start).now_or_never().is_none());
        // What the task held is dropped with it.
        assert!(ended.await.is_err());
    }

    #[tokio::test]
    async fn a_failure_is_shared_by_equals_alone() {
        let (flights, (work, gate)) = (Flights::new(), Work::gated(1));
        let start = || work.start();
        let mut first = Box::pin(flights.share(&1, &"us", start));
        let mut same = Box::pin(flights.share(&1, &"us", start));
        let mut other = Box::pin(flights.share(&1, &"them", start));
        for waiting in [&mut first, &mut same, &mut other] {
            assert!(waiting.now_or_never().is_none());
        }
        gate.close();
        assert!(first.await.is_err());
        assert!(same.await.is_err());
        other.await.expect("tried as themselves");
        assert_eq!(work.begun.load(Ordering::SeqCst), 2);
    }
}
