//! How long operations and their steps took, by their names alone: for whoever watches the node, and whatever pod it was.
//!
//! Invariant: the names are those in the source, so there is no more of them than that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Operation;
use crate::meter::{Histogram, Level, Raised};

/// Of the daemon's life.
static TIMINGS: Mutex<Timings> = Mutex::new(Timings { operations: BTreeMap::new(), steps: BTreeMap::new() });
/// Under way, by their place among the operations.
static UNDER_WAY: [Level; Operation::ALL.len()] = [const { Level::new() }; Operation::ALL.len()];

/// How operations went.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// Those that ended, with their outcome.
    pub operations: BTreeMap<(Operation, Outcome), Histogram>,
    /// Whatever came of them.
    pub steps: BTreeMap<(Operation, &'static str), Histogram>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    Failed,
}

/// What there is now.
pub fn timings() -> Timings {
    lock().clone()
}

/// How many of them are under way.
pub fn under_way(operation: Operation) -> u64 {
    UNDER_WAY[operation as usize].value()
}

pub(super) fn begun(operation: Operation) -> Raised<'static> {
    UNDER_WAY[operation as usize].raise()
}

pub(super) fn ended(operation: Operation, outcome: Outcome, took: Duration) {
    lock().operations.entry((operation, outcome)).or_default().observe(took);
}

/// Nothing of what it keeps is half done after a panic.
fn lock() -> MutexGuard<'static, Timings> {
    TIMINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A step under way, counted when it is left, also by being dropped.
pub(super) struct Timer {
    operation: Operation,
    step: &'static str,
    began: Instant,
}

impl Timer {
    pub fn start(operation: Operation, step: &'static str) -> Self {
        Self { operation, step, began: Instant::now() }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        lock().steps.entry((self.operation, self.step)).or_default().observe(took);
    }
}

/// An operation that nothing keeps a record of, such as a pull: counted like the others. Dropped without an outcome, it
/// was broken off.
pub struct Unrecorded {
    operation: Operation,
    began: Instant,
    outcome: Outcome,
    _under_way: Raised<'static>,
}

impl Unrecorded {
    pub fn begin(operation: Operation) -> Self {
        let _under_way = begun(operation);
        Self { operation, began: Instant::now(), outcome: Outcome::Failed, _under_way }
    }

    /// Notes how it ended, and hands that on.
    pub fn end<T, E>(mut self, outcome: Result<T, E>) -> Result<T, E> {
        self.outcome = if outcome.is_ok() { Outcome::Done } else { Outcome::Failed };
        outcome
    }
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        ended(self.operation, self.outcome, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use tracing::Span;

    use super::super::{Work, step};
    use super::*;

    // The tests of a process share what is counted: each has an operation to itself.

    #[test]
    fn an_operation_is_counted_once_by_its_outcome() {
        let work = Work::default();
        for outcome in [Ok(()), Err(std::io::Error::other("no"))] {
            let op = work.begin(Operation::CheckpointPod, Span::none());
            assert_eq!(under_way(Operation::CheckpointPod), 1);
            let _ = op.end(outcome);
        }
        drop(work.begin(Operation::CheckpointPod, Span::none()));
        work.begin(Operation::CheckpointPod, Span::none()).forget();
        assert_eq!(under_way(Operation::CheckpointPod), 0);
        let counts = |outcome| timings().operations[&(Operation::CheckpointPod, outcome)].count();
        assert_eq!((counts(Outcome::Done), counts(Outcome::Failed)), (1, 2));
    }

    #[tokio::test]
    async fn a_step_is_counted_once_wherever_it_is_one() {
        let work = Work::default();
        let op = work.begin(Operation::UpdatePodSandboxResources, Span::none());
        op.step("a", step(Operation::UpdatePodSandboxResources, "b", async {})).await;
        let broken_off = op.step("a", std::future::pending::<()>());
        assert!(futures::future::poll_immediate(Box::pin(broken_off)).await.is_none());
        let steps = timings().steps;
        let count = |step| steps[&(Operation::UpdatePodSandboxResources, step)].count();
        assert_eq!((count("a"), count("b")), (2, 1));
    }
}
