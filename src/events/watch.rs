//! One subscription, opened before a full comparison after every (re)connect, for as long as the daemon lives.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::InForce;
use crate::container::Containers;
use crate::containerd::{Containerd, ContainerdError, Event, EventStream, Exit};
use crate::error::chain;
use crate::fsck;
use crate::image::Images;
use crate::meter::{Counter, Histogram};
use crate::recovery::{self, RecoveryError};
use crate::sandbox;
use crate::time::Timestamp;

/// Shortest and longest wait before connecting again. A shim repeats the news of an end that containerd was not there
/// to hear, seconds apart and only until it is taken: whoever subscribes after that has missed the exit code for good.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// What part of the time since the loss passes before the next try.
const PATIENCE: u32 = 50;

/// How often everything was brought in step with containerd: once, and again after each loss of the connection.
pub static CONNECTS: Counter = Counter::new();
/// What passes between an event in containerd and its news here.
static LAG: Mutex<Histogram> = Mutex::new(Histogram::new());

/// How late containerd's events came, by the wall clock that both read.
pub fn lag_of_containerd() -> Histogram {
    LAG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn note_lag(published: Timestamp) {
    let nanos = Timestamp::now().nanos().saturating_sub(published.nanos());
    let late = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    LAG.lock().unwrap_or_else(PoisonError::into_inner).observe(late);
}

/// Whether containerd answers and everything is in step with it: `Status`' RuntimeReady.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Since the start, it is not known what there is: a pod's state is written down nowhere. The last error, if one was
    /// met.
    Starting(Option<String>),
    /// What there is is known, and which pods are ready, but not yet what became of their containers.
    Comparing,
    Up,
    /// The last error. What was there is known.
    Down(String),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(None) => f.write_str("containerd has not told yet what there is"),
            Self::Comparing => f.write_str("containers are being held against containerd's tasks"),
            Self::Up => f.write_str("in step with containerd"),
            Self::Starting(Some(error)) | Self::Down(error) => f.write_str(error),
        }
    }
}

/// Everything that follows containerd.
#[derive(Clone)]
pub struct Followers {
    pub config: InForce,
    pub containerd: Containerd,
    pub containers: Containers,
    pub images: Images,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(
        "containerd came back with its own CRI plugin ({0}) active: nothing is touched until it is disabled"
    )]
    TwoOwners(String),
    #[error("cannot follow containerd's events")]
    Events(#[from] ContainerdError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot read containerd's images")]
    Images(#[from] crate::image::ImageError),
}

/// Follows containerd until `stop`; `link` tells how that goes.
pub async fn watch(followers: Followers, link: watch::Sender<Link>, stop: CancellationToken) {
    let mut since = Instant::now();
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            lost = follow(&followers, &link) => lost,
        };
        if *link.borrow() == Link::Up {
            since = Instant::now();
        }
        let down = match &*link.borrow() {
            Link::Starting(_) => Link::Starting(Some(chain(&lost))),
            Link::Comparing | Link::Up | Link::Down(_) => Link::Down(chain(&lost)),
        };
        if link.send_replace(down.clone()) != down {
            tracing::warn!("{down}; trying until it succeeds");
        }
        let pause = (since.elapsed() / PATIENCE).clamp(RETRY.0, RETRY.1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Returns only by the loss of the connection.
async fn follow(followers: &Followers, link: &watch::Sender<Link>) -> Lost {
    // At the start the node's facts have just been learnt.
    let facts = if *link.borrow() == Link::Starting(None) { Facts::Fresh } else { Facts::Stale };
    let mut events = match catch_up(followers, link, facts).await {
        Ok(events) => events,
        Err(lost) => return lost,
    };
    CONNECTS.add(1);
    if link.send_replace(Link::Up) != Link::Up {
        tracing::info!("{}", Link::Up);
    }
    let Followers { config, containerd, containers, .. } = followers.clone();
    // Nobody waits for it, and it ends with the connection.
    let _fsck =
        AbortOnDropHandle::new(tokio::spawn(fsck::after_comparison(config.now(), containerd, containers)));
    loop {
        match events.next().await {
            Ok((published, event)) => {
                note_lag(published);
                route(followers, event);
            }
            Err(error) => return error.into(),
        }
    }
}

/// What is known of the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Facts {
    Fresh,
    /// From before the connection was lost.
    Stale,
}

/// Subscribes, then compares: what happens in between comes by one way or the other.
async fn catch_up(
    followers: &Followers,
    link: &watch::Sender<Link>,
    facts: Facts,
) -> Result<EventStream, Lost> {
    let Followers { containerd, containers, images, .. } = followers;
    if let Some(plugin) = containerd.cri_plugin().await? {
        return Err(Lost::TwoOwners(plugin));
    }
    containerd.ensure_namespace().await?;
    let events = containerd.subscribe().await?;
    if facts == Facts::Stale {
        match sandbox::load_facts(containerd).await {
            Ok(facts) => containers.sandboxes().set_node(facts),
            Err(error) => tracing::warn!("the node's facts stay as they were: {}", chain(&error)),
        }
    }
    containers.sandboxes().handlers().learn_features(containerd).await;
    images.reload().await?;
    recovery::load(containers, containerd).await?;
    // First: a shim that is at work on a checkpoint tells nothing of its tasks.
    containers.end_stale_checkpoints().await;
    let tasks = recovery::compare_pods(containers, containerd).await?;
    link.send_if_modified(|link| {
        let first = matches!(link, Link::Starting(_));
        if first {
            *link = Link::Comparing;
        }
        first
    });
    recovery::compare_containers(containers, containerd, tasks).await?;
    Ok(events)
}

/// Hands an event to whom it concerns, in a task of its own: one container's slow end must not hold up another's.
fn route(followers: &Followers, event: Event) {
    let followers = followers.clone();
    match event {
        Event::TaskExit { container_id, exec_id: None, pid, exit } => {
            tokio::spawn(async move { ended(&followers, &container_id, pid, exit).await });
        }
        Event::TaskDelete { container_id, pid, exit } => {
            tokio::spawn(async move {
                ended(&followers, &container_id, pid, exit).await;
                recovery::pause_deleted(&followers.containers, &followers.containerd, &container_id).await;
            });
        }
        Event::TaskExit { exec_id: Some(_), .. } => {}
        Event::TaskOom { container_id } => {
            if let Some(container) = followers.containers.entry(&container_id) {
                followers.containers.oom_seen(&container);
            }
        }
        Event::ImageCreated { name } | Event::ImageUpdated { name } | Event::ImageDeleted { name } => {
            tokio::spawn(async move {
                if let Err(error) = followers.images.refresh(&name).await {
                    tracing::warn!(image = name, "cannot look at a changed image: {}", chain(&error));
                }
            });
        }
    }
}

async fn ended(followers: &Followers, id: &str, pid: u32, exit: Exit) {
    let containers = &followers.containers;
    if let Some(container) = containers.entry(id) {
        if let Err(error) = containers.exit_told(&container, pid, exit).await {
            tracing::warn!(container = id, "its end: {}", chain(&error));
        }
    } else if let Some(sandbox) = containers.sandboxes().entry(id) {
        containers.sandboxes().pause_exited(&sandbox, exit);
    }
}
