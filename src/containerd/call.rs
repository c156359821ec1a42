//! How every call is made: with a name for its errors, and an end to its wait.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use tonic::{Response, Status, Streaming};

use super::ContainerdError;
use crate::meter::Histogram;

/// For what is a transaction of containerd's database, or a look at it.
const RECORD_DEADLINE: Duration = Duration::from_secs(30);
/// For what runs a shim, flushes a blob or walks a directory tree.
const WORK_DEADLINE: Duration = Duration::from_secs(120);

/// How long containerd took to answer, whatever it answered: looks and changes in its database, and work.
static ANSWERS: [Mutex<Histogram>; 2] = [const { Mutex::new(Histogram::new()) }; 2];

/// What it takes to answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// A look at containerd's database, or a transaction.
    Record,
    /// A shim that is run, a blob that is flushed, a directory tree that is walked.
    Work,
}

/// How long containerd took for calls of a kind.
pub fn answers(kind: CallKind) -> Histogram {
    ANSWERS[kind as usize].lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// One call: what it does, to what, and how long the answer may take.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    action: &'static str,
    object: &'a (dyn Display + Sync),
    limit: Option<Duration>,
    kind: CallKind,
}

impl<'a> Call<'a> {
    /// Reads or writes a record.
    pub(super) fn record(action: &'static str, object: &'a (impl Display + Sync)) -> Self {
        Self { action, object, limit: Some(RECORD_DEADLINE), kind: CallKind::Record }
    }

    /// Has containerd do something in the world.
    pub(super) fn work(action: &'static str, object: &'a (impl Display + Sync)) -> Self {
        Self { action, object, limit: Some(WORK_DEADLINE), kind: CallKind::Work }
    }

    /// Has a limit of its own.
    pub(super) fn within(action: &'static str, object: &'a (impl Display + Sync), limit: Duration) -> Self {
        Self { action, object, limit: Some(limit), kind: CallKind::Work }
    }

    /// Takes as long as it takes; the caller cancels it by dropping it.
    pub(super) fn endless(action: &'static str, object: &'a (impl Display + Sync)) -> Self {
        Self { action, object, limit: None, kind: CallKind::Work }
    }

    /// Awaits the answer.
    pub(super) async fn run<T>(
        self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ContainerdError> {
        self.bounded(answer).await.map(Response::into_inner)
    }

    /// Awaits a streamed answer to its end, within the one deadline.
    pub(super) async fn collect<T>(
        self,
        answer: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Vec<T>, ContainerdError> {
        self.bounded(async { answer.await?.into_inner().try_collect().await }).await
    }

    /// Awaits any exchange with containerd.
    pub(super) async fn bounded<T>(
        self,
        exchange: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, ContainerdError> {
        let began = Instant::now();
        let outcome = match self.limit {
            None => Ok(exchange.await),
            Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|_| self.late(limit)),
        };
        let took = began.elapsed();
        // What waits for the world to change says nothing of containerd.
        if self.limit.is_some() {
            ANSWERS[self.kind as usize].lock().unwrap_or_else(PoisonError::into_inner).observe(took);
        }
        tracing::debug!(?took, "{} {}", self.action, self.object);
        outcome?.map_err(|status| self.failed(status))
    }

    /// The error of a status.
    pub(super) fn failed(self, status: Status) -> ContainerdError {
        ContainerdError::from_status(self.action, self.object.to_string(), status)
    }

    /// The error of a stream that ended where more was to come.
    pub(super) fn cut_off(self) -> ContainerdError {
        ContainerdError::cut_off(self.action, self.object.to_string())
    }

    /// The error of an answer that makes no sense.
    pub(super) fn malformed(self, why: impl Into<String>) -> ContainerdError {
        ContainerdError::Malformed { action: self.action, object: self.object.to_string(), why: why.into() }
    }

    /// The error of an answer beyond the caller's bound.
    pub(super) fn too_large(self, limit: usize) -> ContainerdError {
        ContainerdError::TooLarge { action: self.action, object: self.object.to_string(), limit }
    }

    fn late(self, limit: Duration) -> ContainerdError {
        ContainerdError::Deadline { action: self.action, object: self.object.to_string(), limit }
    }
}

/// What is fine when it is not there (a teardown), or there already (a setup).
pub(super) trait Forgiving {
    fn or_gone(self) -> Self;
    fn or_there(self) -> Self;
}

impl Forgiving for Result<(), ContainerdError> {
    fn or_gone(self) -> Self {
        self.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }

    fn or_there(self) -> Self {
        self.or_else(|error| if error.is_there_already() { Ok(()) } else { Err(error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_not_waited_for() {
        let began = tokio::time::Instant::now();
        let answer = std::future::pending::<Result<Response<()>, Status>>();
        let error = Call::record("look at container", &"c").run(answer).await.unwrap_err();
        assert_eq!(error.to_string(), "containerd did not look at container c within 30s");
        assert_eq!(error.kind(), Kind::DeadlineExceeded);
        assert_eq!(began.elapsed(), RECORD_DEADLINE);
    }

    #[test]
    fn a_teardown_forgives_absence_alone() {
        let outcome = |code| Call::record("delete lease", &"l").failed(Status::new(code, ""));
        assert!(Err(outcome(tonic::Code::NotFound)).or_gone().is_ok());
        assert!(Err(outcome(tonic::Code::AlreadyExists)).or_gone().is_err());
        assert!(Err(outcome(tonic::Code::AlreadyExists)).or_there().is_ok());
        assert!(Err(outcome(tonic::Code::NotFound)).or_there().is_err());
    }
}
