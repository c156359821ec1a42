//! How long operations and their steps took: by their names alone for whoever watches the node, and whatever pod it was;
//! and each as a span of the trace in which it was asked for.
//!
//! Invariant: the names are those in the source, so there is no more of them than that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::instrument::Instrument as _;

use super::{About, Operation};
use crate::meter::{Histogram, Level, Raised};
use crate::trace::{self, Context};

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

/// What an operation's lines in the log have, and what is told of it in a trace.
pub(super) fn spans(operation: Operation, about: &About) -> (tracing::Span, trace::Span) {
    let trace = trace::Span::begin(operation.name(), trace::Kind::Internal, trace::current());
    trace.note(|| about.attributes());
    let recorded = trace.context().filter(|context| context.sampled);
    let span = about.span(operation, recorded.map(|Context { trace, .. }| format!("{trace:032x}")));
    (span, trace)
}

/// It has ended in its trace as well.
pub(super) fn told(trace: &trace::Span, outcome: Outcome) {
    if outcome == Outcome::Failed {
        trace.fail();
    }
    trace.end();
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
    trace: trace::Span,
}

impl Timer {
    pub fn start(operation: Operation, step: &'static str, trace: trace::Span) -> Self {
        Self { operation, step, began: Instant::now(), trace }
    }

    /// Does `work`, which is what is timed.
    pub fn within<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        trace::within(self.trace.context(), work)
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
    span: tracing::Span,
    trace: trace::Span,
    _under_way: Raised<'static>,
}

impl Unrecorded {
    pub fn begin(operation: Operation, about: &About) -> Self {
        let _under_way = begun(operation);
        let (span, trace) = spans(operation, about);
        Self { operation, began: Instant::now(), outcome: Outcome::Failed, span, trace, _under_way }
    }

    /// Does `work`, which is all that there is to it: what that comes to is how it ended.
    pub async fn run<T, E>(mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let outcome = trace::within(self.trace.context(), work).instrument(self.span.clone()).await;
        self.outcome = if outcome.is_ok() { Outcome::Done } else { Outcome::Failed };
        outcome
    }
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        ended(self.operation, self.outcome, self.began.elapsed());
        told(&self.trace, self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Work, step};
    use super::*;

    // The tests of a process share what is counted: each has an operation to itself.

    #[test]
    fn an_operation_is_counted_once_by_its_outcome() {
        let work = Work::default();
        for outcome in [Ok(()), Err(std::io::Error::other("no"))] {
            let op = work.begin(Operation::CheckpointPod, &About::default());
            assert_eq!(under_way(Operation::CheckpointPod), 1);
            let _ = op.end(outcome);
        }
        drop(work.begin(Operation::CheckpointPod, &About::default()));
        work.begin(Operation::CheckpointPod, &About::default()).forget();
        assert_eq!(under_way(Operation::CheckpointPod), 0);
        let counts = |outcome| timings().operations[&(Operation::CheckpointPod, outcome)].count();
        assert_eq!((counts(Outcome::Done), counts(Outcome::Failed)), (1, 2));
    }

    #[tokio::test]
    async fn all_of_it_is_told_in_its_callers_trace() {
        const OPERATION: Operation = Operation::ReopenContainerLog;
        let caller = trace::recorded::caller();
        let about = About { pod: Some("default/web".into()), ..Default::default() };
        let fails = async {
            let op = Work::default().begin(OPERATION, &about);
            let inner = step(OPERATION, "inner", async {});
            let failed = op.run(async {
                op.step("outer", inner).await;
                Err::<(), _>(std::io::Error::other("no"))
            });
            failed.await.unwrap_err();
            Work::default().begin(OPERATION, &about).forget();
        };
        trace::within(Some(caller.clone()), fails).await;
        let told = trace::recorded::of(&caller);
        let of = |name: &str| told.iter().find(|span| span.name == name).unwrap();
        let (inner, outer, operation) = (of("inner"), of("outer"), of(OPERATION.name()));
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(inner.parent, Some(outer.context.span));
        assert_eq!(outer.parent, Some(operation.context.span));
        assert_eq!((operation.parent, operation.failed), (Some(caller.span), true));
        let text = |text: &str| trace::Value::Text(text.into());
        let expected = [("k8s.namespace.name", text("default")), ("k8s.pod.name", text("web"))];
        assert_eq!(operation.attributes, expected);
    }

    #[tokio::test]
    async fn a_step_is_counted_once_wherever_it_is_one() {
        let work = Work::default();
        let op = work.begin(Operation::UpdatePodSandboxResources, &About::default());
        op.step("a", step(Operation::UpdatePodSandboxResources, "b", async {})).await;
        let broken_off = op.step("a", std::future::pending::<()>());
        assert!(futures::future::poll_immediate(Box::pin(broken_off)).await.is_none());
        let steps = timings().steps;
        let count = |step| steps[&(Operation::UpdatePodSandboxResources, step)].count();
        assert_eq!((count("a"), count("b")), (2, 1));
    }
}
