//! What is told in tests: all of a process share the one sink, and each looks for the trace of its own caller.

use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Context, Ended, Kind, Sink, tell};
use crate::time::Timestamp;

static TOLD: LazyLock<Mutex<(mpsc::Receiver<Ended>, Vec<Ended>)>> = LazyLock::new(|| {
    let (queue, told) = mpsc::channel(1 << 16);
    tell(Some(Sink { queue, sampled_per_million: 0 }));
    Mutex::new((told, Vec::new()))
});

/// Somebody who has begun a trace that is recorded.
pub fn caller() -> Context {
    LazyLock::force(&TOLD);
    Context::root(true)
}

/// What was told of the caller's trace, in the order of the ends.
pub fn of(caller: &Context) -> Vec<Ended> {
    let mut told = TOLD.lock().unwrap();
    let (queue, all) = &mut *told;
    while let Ok(ended) = queue.try_recv() {
        all.push(ended);
    }
    all.iter().filter(|ended| ended.context.trace == caller.trace).cloned().collect()
}

/// Something that was done, of which there is nothing to tell.
pub fn ended() -> Ended {
    Ended {
        name: "a",
        kind: Kind::Internal,
        context: Context::root(true),
        parent: None,
        began: Timestamp::now(),
        took: Duration::ZERO,
        attributes: Vec::new(),
        failed: false,
    }
}
