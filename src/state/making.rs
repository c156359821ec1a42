//! Joins repeated requests to the one that still runs.
//!
//! A kubelet whose call timed out asks again for the same thing. While the first call's work goes on, the repeat joins
//! it; once it is done, the repeat gets its result, until the id is known to somebody. A different request for the
//! same name is refused, naming the holder.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::names::{Names, Taken};
use crate::trace;

type Flights<Id, Request, Error> = Arc<Mutex<HashMap<String, Flight<Id, Request, Error>>>>;
/// `None` while the work goes on.
type Outcome<Error> = watch::Receiver<Option<Result<(), Arc<Error>>>>;

/// Objects being made, by name. `Request` is compared whole.
#[derive(Debug)]
pub struct Making<Id, Request, Error> {
    names: Arc<Names<Id>>,
    flights: Flights<Id, Request, Error>,
}

#[derive(Debug)]
struct Flight<Id, Request, Error> {
    id: Id,
    request: Request,
    outcome: Outcome<Error>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError<Error: std::error::Error + 'static> {
    #[error(transparent)]
    Taken(#[from] Taken),
    /// The work's own error, shared by all who joined.
    #[error(transparent)]
    Failed(Arc<Error>),
    /// The work's task ended without an outcome: it panicked, or the daemon is going down.
    #[error("the work on {0:?} was broken off")]
    BrokenOff(String),
}

impl<Id, Request, Error> Making<Id, Request, Error>
where
    Id: Clone + PartialEq + AsRef<str> + Send + Sync + 'static,
    Request: PartialEq + Send + Sync + 'static,
    Error: std::error::Error + Send + Sync + 'static,
{
    /// Takes and checks names in `names`, which outlive the making.
    pub fn new(names: Arc<Names<Id>>) -> Self {
        Self { names, flights: Arc::default() }
    }

    /// Makes the object `id` by `work`, or joins the equal request that is making it already; the id that it has.
    ///
    /// The work runs in a task of its own: a caller that goes away does not stop it. It must give the name back
    /// itself if it fails and leaves nothing behind.
    pub async fn make<Work>(
        &self,
        name: &str,
        request: Request,
        id: Id,
        work: Work,
    ) -> Result<Id, MakeError<Error>>
    where
        Work: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (id, mut outcome) = self.join_or_start(name, request, id, work)?;
        let done = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match done {
            Ok(Some(Ok(()))) => {
                self.known(name);
                Ok(id)
            }
            Ok(Some(Err(error))) => Err(MakeError::Failed(error)),
            Ok(None) | Err(_) => Err(MakeError::BrokenOff(name.to_owned())),
        }
    }

    /// Somebody has seen the object of that name: a further request for it is a conflict.
    pub fn known(&self, name: &str) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(name).is_some_and(|flight| flight.outcome.borrow().is_some()) {
            flights.remove(name);
        }
    }

    /// Whether the object of that name is still being made: such a one is not listed.
    pub fn is_running(&self, name: &str) -> bool {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.get(name).is_some_and(|flight| flight.outcome.borrow().is_none())
    }

    fn join_or_start<Work>(
        &self,
        name: &str,
        request: Request,
        id: Id,
        work: Work,
    ) -> Result<(Id, Outcome<Error>), Taken>
    where
        Work: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(name) {
            return if flight.request == request {
                Ok((flight.id.clone(), flight.outcome.clone()))
            } else {
                Err(Taken { name: name.to_owned(), holder: flight.id.as_ref().to_owned() })
            };
        }
        self.names.reserve(name, &id)?;
        let (sender, outcome) = watch::channel(None);
        flights.insert(name.to_owned(), Flight { id: id.clone(), request, outcome: outcome.clone() });
        let mut landing = Landing { flights: self.flights.clone(), name: name.to_owned(), made: false };
        trace::spawn(async move {
            let result = work.await.map_err(Arc::new);
            landing.made = result.is_ok();
            drop(landing);
            sender.send_replace(Some(result));
        });
        Ok((id, outcome))
    }
}

/// Ends a flight that did not succeed, by failure or by panic.
struct Landing<Id, Request, Error> {
    flights: Flights<Id, Request, Error>,
    name: String,
    made: bool,
}

impl<Id, Request, Error> Drop for Landing<Id, Request, Error> {
    fn drop(&mut self) {
        if !self.made {
            self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PodId;

    #[derive(Debug, thiserror::Error)]
    #[error("it broke")]
    struct Broke;

    fn making() -> Making<PodId, u32, Broke> {
        Making::new(Arc::default())
    }

    #[tokio::test]
    async fn an_equal_request_joins_the_running_one() {
        let making = making();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let first = PodId::generate();
        let a = making.make("web", 1, first.clone(), async {
            let _ = wait.await;
            Ok(())
        });
        let b = making.make("web", 1, PodId::generate(), async { panic!("must join") });
        let (a, b, _) = tokio::join!(a, b, async {
            tokio::task::yield_now().await;
            assert!(making.is_running("web"));
            go.send(())
        });
        assert_eq!(a.unwrap(), first);
        assert_eq!(b.unwrap(), first);
    }

    #[tokio::test]
    async fn a_different_request_is_refused_and_told_who_holds_the_name() {
        let making = making();
        let holder = PodId::generate();
        making.make("web", 1, holder.clone(), async { Ok(()) }).await.unwrap();
        let error = making.make("web", 2, PodId::generate(), async { Ok(()) }).await.unwrap_err();
        assert!(error.to_string().contains(holder.as_str()), "{error}");
    }

    #[tokio::test]
    async fn a_result_nobody_saw_is_handed_over_until_it_is_known() {
        let making = making();
        let first = PodId::generate();
        {
            let call = making.make("web", 1, first.clone(), async { Ok(()) });
            let gone = tokio::time::timeout(std::time::Duration::ZERO, async {
                tokio::pin!(call);
                futures::future::poll_immediate(&mut call).await;
                std::future::pending::<()>().await;
            });
            assert!(gone.await.is_err());
        }
        while making.is_running("web") {
            tokio::task::yield_now().await;
        }
        let again = making.make("web", 1, PodId::generate(), async { Ok(()) }).await.unwrap();
        assert_eq!(again, first);
        let third = making.make("web", 1, PodId::generate(), async { Ok(()) }).await;
        assert!(matches!(third, Err(MakeError::Taken(_))), "{third:?}");
    }

    #[tokio::test]
    async fn after_a_failure_it_starts_clean() {
        let names = Arc::<Names<PodId>>::default();
        let making = Making::new(names.clone());
        let first = PodId::generate();
        let work = {
            let (names, id) = (names.clone(), first.clone());
            async move {
                names.release("web", &id);
                Err(Broke)
            }
        };
        let error = making.make("web", 1, first.clone(), work).await.unwrap_err();
        assert_eq!(error.to_string(), "it broke");
        let second = PodId::generate();
        assert_eq!(making.make("web", 1, second.clone(), async { Ok(()) }).await.unwrap(), second);
    }

    #[tokio::test]
    async fn a_panic_frees_the_flight() {
        let making = making();
        let first = PodId::generate();
        let error = making.make("web", 1, first.clone(), async { panic!("bug") }).await.unwrap_err();
        assert!(matches!(error, MakeError::BrokenOff(_)), "{error:?}");
        assert!(!making.is_running("web"));
    }
}
