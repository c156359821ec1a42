//! Work on a pod or a container: whose turn it is, and what is being done.
//!
//! ```text
//! operation.rs  what can be done, by the names of the CRI's calls
//! about.rs      what it is done to, for the log and for traces
//! record.rs     what goes on and what went before, bounded; and how it is told
//! timing.rs     how long each operation and step takes, whatever object it is of; and as spans of a trace
//! points.rs     where tests have the daemon die or wait: debug builds only
//! ```
//!
//! Each object has one [`Work`]: the lock that lets one operation at a time bring it up or down, and the record that
//! says why an operation has not ended yet. An operation goes on in steps, some of them side by side; each is noted for
//! as long as it lasts, also when its future is dropped. Invariant: whatever is begun ends in the record, and that never
//! outgrows its bounds.

mod about;
mod operation;
mod points;
mod record;
mod timing;

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::instrument::Instrument as _;

use crate::meter::Raised;
use crate::trace;
pub use about::About;
pub use operation::Operation;
use record::{Moment, Record};
pub use record::{OperationReport, StepReport};
use timing::Timer;
pub use timing::{Outcome, Timings, Unrecorded, timings, under_way};

/// Of one pod or container.
#[derive(Debug, Default)]
pub struct Work(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    turn: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
}

/// An operation under way. Cheap to clone; one whose last clone goes without an outcome was broken off.
#[derive(Clone, Debug)]
pub struct Op(Arc<Begun>);

#[derive(Debug)]
struct Begun {
    shared: Arc<Shared>,
    operation: Operation,
    serial: u64,
    /// For its lines in the log.
    span: tracing::Span,
    trace: trace::Span,
    _under_way: Raised<'static>,
}

/// The right to bring the object up or down, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    op: &'a Op,
    _lock: tokio::sync::MutexGuard<'a, ()>,
}

/// A step under way.
struct Step<'a> {
    op: &'a Op,
    serial: u64,
    timer: Timer,
}

impl Work {
    /// Begins an operation: it is in the record from now on.
    pub fn begin(&self, operation: Operation, about: &About) -> Op {
        let serial = self.0.record().begin(operation, Moment::now());
        let _under_way = timing::begun(operation);
        let (span, trace) = timing::spans(operation, about);
        Op(Arc::new(Begun { shared: self.0.clone(), operation, serial, span, trace, _under_way }))
    }

    /// Nobody has a turn until the guard goes.
    pub async fn rest(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    /// What goes on and what went before, the latest first.
    pub fn report(&self) -> Vec<OperationReport> {
        self.0.record().report()
    }

    /// What is being done now, for the end of a refusal: `, now at RunPodSandbox (attach the network for 19s)`; empty
    /// where nothing is.
    pub fn aside(&self) -> String {
        self.0.record().aside(Moment::now())
    }

    /// What is being done now, a sentence each: `RunPodSandbox of OBJECT: attach the network for 19s`.
    pub fn doing(&self, object: &str) -> Vec<String> {
        self.0.record().doing(object, Moment::now())
    }
}

impl Shared {
    /// No change of the record stops half-way, so a panic elsewhere does not spoil it.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Op {
    /// Does `work` as a step of the operation; what it comes to.
    pub fn step<T>(&self, name: &'static str, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let work = at_points(self.0.operation, name, work);
        async move {
            let step = self.enter(name);
            step.timer.within(work).await
        }
    }

    /// Waits until nobody else brings the object up or down.
    pub async fn turn(&self) -> Turn<'_> {
        let lock = &self.0.shared.turn;
        let lock = match lock.try_lock() {
            Ok(free) => free,
            Err(_) => {
                let _waiting = self.enter(record::WAIT);
                lock.lock().await
            }
        };
        self.0.shared.record().hold(self.0.serial, true);
        Turn { op: self, _lock: lock }
    }

    /// Does `work`, which is all that there is to it: what that comes to is how it ended.
    pub async fn run<T, E: Error + 'static>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.end(self.within(work).await)
    }

    /// Does `work` as a part of it, in another task for one.
    pub fn within<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        trace::within(self.0.trace.context(), work).instrument(self.0.span.clone())
    }

    /// Notes how it ended, and hands that on.
    pub fn end<T, E: Error + 'static>(&self, outcome: Result<T, E>) -> Result<T, E> {
        let told = outcome.as_ref().map(drop).map_err(|error| crate::error::chain(error));
        self.0.end(told);
        outcome
    }

    /// There was nothing to be done: nothing of it is kept.
    pub fn forget(&self) {
        self.0.shared.record().forget(self.0.serial);
        self.0.trace.forget();
    }

    fn enter(&self, name: &'static str) -> Step<'_> {
        let serial = self.0.shared.record().enter(self.0.serial, name, Moment::now());
        Step { op: self, serial, timer: Timer::start(self.0.operation, name, self.0.trace.part(name)) }
    }
}

impl Begun {
    /// The first to say how it ended is heard.
    fn end(&self, outcome: Result<(), String>) {
        let counted = if outcome.is_ok() { Outcome::Done } else { Outcome::Failed };
        let took = self.shared.record().end(self.serial, outcome, Moment::now());
        if let Some(took) = took {
            timing::ended(self.operation, counted, took);
        }
        timing::told(&self.trace, counted);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end(Err(record::BROKEN_OFF.to_owned()));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.op.0.shared.record().hold(self.op.0.serial, false);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.op.0.shared.record().leave(self.op.0.serial, self.serial);
    }
}

/// Does `work` as a step of an operation that nothing keeps a record of, such as a pull.
pub fn step<T>(
    operation: Operation,
    name: &'static str,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let work = at_points(operation, name, work);
    async move {
        let timer = Timer::start(operation, name, trace::Span::part_of_current(name));
        timer.within(work).await
    }
}

/// Does `work` between its two fail points.
fn at_points<T>(
    operation: Operation,
    name: &'static str,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    // On the heap: steps lie within steps, and whoever polls the outermost would need a stack for all of them.
    let work = Box::pin(work);
    async move {
        points::before(operation, name).await;
        let done = work.await;
        points::after(operation, name).await;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it broke")]
    struct Broke;

    fn steps(work: &Work) -> Vec<String> {
        let running = work.report().into_iter().filter(|one| one.until.is_none());
        running.flat_map(|one| one.steps).map(|step| step.step).collect()
    }

    #[tokio::test]
    async fn a_step_is_told_while_it_lasts() {
        let work = Work::default();
        let op = work.begin(Operation::RunPodSandbox, &About::default());
        let seen = op
            .step("attach the network", async {
                let both = tokio::join!(
                    op.step("create the task", async { steps(&work) }),
                    op.step("keep the metadata", async { steps(&work) })
                );
                both.1
            })
            .await;
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[0], "attach the network");
        assert!(steps(&work).is_empty());
        op.end(Ok::<_, Broke>(())).unwrap();
        assert!(work.report()[0].until.is_some());
    }

    #[tokio::test]
    async fn what_is_dropped_was_broken_off() {
        let work = Work::default();
        let stuck = async {
            let op = work.begin(Operation::StartContainer, &About::default());
            op.step("create the task", std::future::pending::<()>()).await;
        };
        assert!(futures::future::poll_immediate(Box::pin(stuck)).await.is_none());
        let told = &work.report()[0];
        assert_eq!(told.error.as_deref(), Some("it was broken off"));
        assert_eq!(told.last_step.as_deref(), Some("create the task"));
    }

    #[tokio::test]
    async fn who_waits_says_for_what() {
        let work = Work::default();
        let run = work.begin(Operation::RunPodSandbox, &About::default());
        let turn = run.turn().await;
        let stop = work.begin(Operation::StopPodSandbox, &About::default());
        let mut waiting = Box::pin(stop.turn());
        assert!(futures::future::poll_immediate(&mut waiting).await.is_none());
        run.step("attach the network", async {
            let told = work.report();
            let waits_for = told[0].steps[0].waits_for.clone().unwrap();
            assert!(waits_for.starts_with("RunPodSandbox (attach the network since "), "{waits_for}");
            let doing = work.doing("default/web");
            assert!(
                doing[0].starts_with("RunPodSandbox of default/web: attach the network for "),
                "{doing:?}"
            );
            assert!(
                doing[1].starts_with("StopPodSandbox of default/web: wait for its turn for "),
                "{doing:?}"
            );
        })
        .await;
        drop(turn);
        drop(waiting.await);
        assert!(steps(&work).is_empty());
    }

    #[tokio::test]
    async fn only_one_has_the_turn() {
        let work = Work::default();
        let (first, second) = (
            work.begin(Operation::StopContainer, &About::default()),
            work.begin(Operation::RemoveContainer, &About::default()),
        );
        let turn = first.turn().await;
        assert!(futures::future::poll_immediate(Box::pin(second.turn())).await.is_none());
        drop(turn);
        drop(second.turn().await);
    }
}
