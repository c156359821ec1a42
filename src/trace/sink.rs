//! Where ended spans go: into a queue that somebody empties, or nowhere.
//!
//! Invariant: nobody waits for room in it. What finds none is lost, and counted.

use std::sync::{PoisonError, RwLock};

use tokio::sync::mpsc;

use super::Ended;
use crate::meter::Counter;

/// Those that a collector has taken.
pub static SENT: Counter = Counter::new();
/// Those that it has not: the queue was full, or nobody took them.
pub static LOST: Counter = Counter::new();

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// A queue for ended spans, and the share of calls that begin a trace of their own. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    pub queue: mpsc::Sender<Ended>,
    /// Of a million calls that come without a trace, so many begin one.
    pub sampled_per_million: u32,
}

/// From now on, what begins is told there; without a sink, nowhere.
pub fn tell(sink: Option<Sink>) {
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = sink;
}

impl Sink {
    pub(super) fn now() -> Option<Self> {
        SINK.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether any call begins a trace.
    pub(super) fn samples(&self) -> bool {
        self.sampled_per_million > 0
    }

    /// Whether this one does.
    pub(super) fn draw(&self) -> bool {
        rand::random_range(0..1_000_000) < self.sampled_per_million
    }

    pub(super) fn take(&self, ended: Ended) {
        if self.queue.try_send(ended).is_err() {
            LOST.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;

    #[test]
    fn who_finds_no_room_does_not_wait() {
        let (queue, mut told) = mpsc::channel(1);
        let sink = Sink { queue, sampled_per_million: 0 };
        let ended = recorded::ended();
        let lost = LOST.value();
        sink.take(ended.clone());
        sink.take(ended.clone());
        assert_eq!(told.try_recv().unwrap(), ended);
        assert!(told.try_recv().is_err() && LOST.value() > lost);
    }

    #[test]
    fn none_or_all_is_none_or_all() {
        let sink = |sampled_per_million| Sink { queue: mpsc::channel(1).0, sampled_per_million };
        for _ in 0..1000 {
            assert!(!sink(0).draw() && sink(1_000_000).draw());
        }
    }
}
