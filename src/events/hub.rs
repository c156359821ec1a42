//! What happens to pods and containers, for whoever subscribes (CRI GetContainerEvents).
//!
//! Invariant: nobody who tells waits for anybody who listens. All subscribers read one bounded ring at their own pace,
//! and one that falls behind by the whole of it is cut off. A subscription knows nothing of containerd, and so outlives
//! its restarts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::container::{ContainerFacts, Containers};
use crate::error::Kind;
use crate::id::PodId;
use crate::meter::Counter;
use crate::sandbox::{Change, Happening, Sandbox, SandboxFacts};
use crate::time::Timestamp;

/// Events that a subscriber may be behind: the lives of a hundred pods and more.
const RING: usize = 1024;
/// What happens while nobody subscribes is kept for the next who does, as the built-in plugin does: a kubelet whose
/// stream broke off, with this daemon for one, misses nothing.
const KEPT: usize = 1024;
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// Events that were told, and subscribers that were cut off because they were too slow.
pub static TOLD: Counter = Counter::new();
pub static CUT_OFF: Counter = Counter::new();

/// What has happened, and what the whole pod was like then.
#[derive(Clone, Debug)]
pub struct PodEvent {
    pub happening: Happening,
    /// The sandbox's or the container's.
    pub id: String,
    /// Each event's is later than those before.
    pub at: Timestamp,
    /// `None` when the sandbox is not known any more.
    pub sandbox: Option<SandboxSnapshot>,
    /// The pod's, by their age.
    pub containers: Vec<Arc<ContainerFacts>>,
}

/// A sandbox at some moment.
#[derive(Clone, Debug)]
pub struct SandboxSnapshot {
    pub facts: Arc<SandboxFacts>,
    /// Whether its network namespace stood.
    pub has_network: bool,
}

impl From<&Sandbox> for SandboxSnapshot {
    fn from(sandbox: &Sandbox) -> Self {
        Self { facts: sandbox.facts(), has_network: sandbox.has_network() }
    }
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    #[error("{missed} events were not read in time and are lost: list what there is, and subscribe again")]
    TooSlow { missed: u64 },
    #[error("cridge is being stopped: subscribe again")]
    Stopping,
}

impl EventsError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::TooSlow { .. } => Kind::ResourceExhausted,
            Self::Stopping => Kind::Unavailable,
        }
    }
}

/// Between what happens and those who want to know. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    ring: broadcast::Sender<Arc<PodEvent>>,
    past: Mutex<Past>,
    over: CancellationToken,
}

#[derive(Default)]
struct Past {
    latest: Timestamp,
    /// Of the time since the last subscriber left.
    untold: VecDeque<Untold>,
}

/// Without the pod's statuses, which are looked up if anybody ever asks.
struct Untold {
    happening: Happening,
    id: String,
    pod: PodId,
    at: Timestamp,
    /// By a clock that nobody sets.
    kept: Instant,
}

/// One listener's place in the stream of events.
pub struct Subscription {
    untold: VecDeque<Arc<PodEvent>>,
    ring: broadcast::Receiver<Arc<PodEvent>>,
    over: CancellationToken,
}

impl Default for Hub {
    fn default() -> Self {
        let (ring, over) = (broadcast::Sender::new(RING), CancellationToken::new());
        Self(Arc::new(Inner { ring, past: Mutex::default(), over }))
    }
}

impl Hub {
    /// A hub that tells what happens to these containers and their pods.
    pub fn of(containers: &Containers) -> Self {
        let hub = Self::default();
        let told = hub.clone();
        containers.listen(move |containers, change| told.tell(containers, change));
        hub
    }

    /// Listens from now on, and to what has happened since the last subscriber left.
    pub fn subscribe(&self, containers: &Containers) -> Subscription {
        let mut past = self.past();
        let ring = self.0.ring.subscribe();
        past.forget_the_old();
        let untold = past.untold.drain(..).filter_map(|untold| untold.told(containers)).collect();
        Subscription { untold, ring, over: self.0.over.clone() }
    }

    /// Ends all subscriptions, and those to come.
    pub fn close(&self) {
        self.0.over.cancel();
    }

    /// How many listen.
    pub fn subscribers(&self) -> usize {
        self.0.ring.receiver_count()
    }

    /// By how many events the slowest of them is behind.
    pub fn lag(&self) -> usize {
        self.0.ring.len()
    }

    fn tell(&self, containers: &Containers, change: Change<'_>) {
        TOLD.add(1);
        let Change { happening, id, pod, sandbox } = change;
        let mut past = self.past();
        let at = past.next();
        let id = id.to_owned();
        if self.0.ring.receiver_count() == 0 {
            past.keep(Untold { happening, id, pod: pod.clone(), at, kept: Instant::now() });
            return;
        }
        let (sandbox, containers) = (sandbox.map(SandboxSnapshot::from), of_pod(containers, pod));
        // An error means that the last subscriber has just left.
        let _ = self.0.ring.send(Arc::new(PodEvent { happening, id, at, sandbox, containers }));
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.0.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    /// The time of the next event, though the clock may have been set back.
    fn next(&mut self) -> Timestamp {
        self.latest = Timestamp::now().max(Timestamp::from_nanos(self.latest.nanos() + 1));
        self.latest
    }

    fn keep(&mut self, untold: Untold) {
        self.forget_the_old();
        if self.untold.len() == KEPT {
            self.untold.pop_front();
        }
        self.untold.push_back(untold);
    }

    fn forget_the_old(&mut self) {
        while self.untold.front().is_some_and(|untold| untold.kept.elapsed() > KEPT_FOR) {
            self.untold.pop_front();
        }
    }
}

impl Untold {
    /// With the pod's statuses of now; nothing when the pod is gone, which leaves nothing to tell.
    fn told(self, containers: &Containers) -> Option<Arc<PodEvent>> {
        let Self { happening, id, pod, at, .. } = self;
        let sandbox = containers.sandboxes().entry(pod.as_str())?;
        let (sandbox, containers) = (Some(SandboxSnapshot::from(&*sandbox)), of_pod(containers, &pod));
        Some(Arc::new(PodEvent { happening, id, at, sandbox, containers }))
    }
}

fn of_pod(containers: &Containers, pod: &PodId) -> Vec<Arc<ContainerFacts>> {
    let mut facts: Vec<_> = containers.made_of_pod(pod).iter().map(|container| container.facts()).collect();
    facts.sort_by(|a, b| (a.file.created_at, &a.metadata.id).cmp(&(b.file.created_at, &b.metadata.id)));
    facts
}

impl Subscription {
    /// The next event. Nothing is lost when it is dropped before it is ready.
    ///
    /// # Errors
    /// This subscriber was too slow, or the daemon ends; what had happened before that is told first.
    pub async fn next(&mut self) -> Result<Arc<PodEvent>, EventsError> {
        if let Some(event) = self.untold.pop_front() {
            return Ok(event);
        }
        tokio::select! {
            biased;
            event = self.ring.recv() => event.map_err(|error| match error {
                RecvError::Lagged(missed) => {
                    CUT_OFF.add(1);
                    EventsError::TooSlow { missed }
                }
                RecvError::Closed => EventsError::Stopping,
            }),
            () = self.over.cancelled() => Err(EventsError::Stopping),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_stands_still_nor_goes_back() {
        let mut past = Past { latest: Timestamp::from_nanos(i64::MAX - 9), ..Past::default() };
        let times = [past.next(), past.next()].map(Timestamp::nanos);
        assert_eq!(times, [i64::MAX - 8, i64::MAX - 7]);
        assert!(Past::default().next() >= Timestamp::from_nanos(1));
    }

    fn untold(at: Timestamp) -> Untold {
        let (happening, id, pod) = (Happening::Stopped, "one".into(), PodId::generate());
        Untold { happening, id, pod, at, kept: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_hears_is_kept_within_bounds() {
        let mut past = Past::default();
        past.keep(untold(Timestamp::from_nanos(i64::MAX - 9)));
        // The clock was set back, and then far ahead.
        for at in [1, i64::MAX] {
            past.keep(untold(Timestamp::from_nanos(at)));
        }
        assert_eq!(past.untold.len(), 3, "what a clock says is no age");
        tokio::time::advance(2 * KEPT_FOR).await;
        past.keep(untold(Timestamp::now()));
        assert_eq!(past.untold.len(), 1, "what is old is forgotten");
        for _ in 0..2 * KEPT {
            let at = past.next();
            past.keep(untold(at));
        }
        assert_eq!(past.untold.len(), KEPT);
        assert_eq!(past.untold.back().map(|last| last.at), Some(past.latest), "the newest stays");
    }

    fn event(n: usize) -> Arc<PodEvent> {
        let at = Timestamp::from_nanos(n as i64);
        let (sandbox, containers) = (None, Vec::new());
        Arc::new(PodEvent { happening: Happening::Stopped, id: n.to_string(), at, sandbox, containers })
    }

    fn subscribe(hub: &Hub) -> Subscription {
        let (untold, ring, over) = (VecDeque::new(), hub.0.ring.subscribe(), hub.0.over.clone());
        Subscription { untold, ring, over }
    }

    #[tokio::test]
    async fn who_is_slow_is_cut_off_alone() {
        let hub = Hub::default();
        let (mut quick, mut slow) = (subscribe(&hub), subscribe(&hub));
        for n in 0..RING + 5 {
            hub.0.ring.send(event(n)).unwrap();
            assert_eq!(quick.next().await.unwrap().id, n.to_string());
        }
        let cut = slow.next().await.unwrap_err();
        assert_eq!(cut, EventsError::TooSlow { missed: 5 });
        assert_eq!(cut.kind(), Kind::ResourceExhausted);
    }

    #[tokio::test]
    async fn the_end_comes_after_what_has_happened() {
        let hub = Hub::default();
        let mut subscription = subscribe(&hub);
        hub.0.ring.send(event(1)).unwrap();
        hub.close();
        assert_eq!(subscription.next().await.unwrap().id, "1");
        assert_eq!(subscription.next().await.unwrap_err(), EventsError::Stopping);
        assert_eq!(subscribe(&hub).next().await.unwrap_err(), EventsError::Stopping);
    }
}
