//! The daemon's own look, after every comparison with containerd: what a death amid a call has left for sure goes, all
//! else is told of.
//!
//! What goes: folders that no pod or container has, with the mounts in them, and shims that containerd has lost. The rest
//! is `cridge fsck --repair`'s: nobody waits for it, and an operator may want to see it first.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::judge::{Kind, Orphan, Thing, Verdict, judge};
use super::seen::Making;
use super::{Fsck, FsckError};
use crate::config::Config;
use crate::container::{Containers, LAST_WORDS};
use crate::containerd::{Containerd, Shim};
use crate::error::chain;

/// How long containerd may be at work on a call that was broken off by the caller's death, until a shim that comes of it
/// is seen as one.
const BREAKING_OFF: Duration = Duration::from_secs(5);
/// Between two looks at such a shim.
const AGAIN: Duration = Duration::from_secs(1);

/// What this daemon's looks have found.
static FINDINGS: Mutex<Findings> = Mutex::new(Findings { left: BTreeMap::new(), removed: BTreeMap::new() });

/// What belongs to nobody, by its kind.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What the last look has left for `cridge fsck --repair`.
    pub left: BTreeMap<Kind, u64>,
    /// What all looks have removed.
    pub removed: BTreeMap<Kind, u64>,
}

impl Findings {
    fn note_removed(&mut self, kind: Kind) {
        *self.removed.entry(kind).or_default() += 1;
    }
}

/// What is known now. Nothing of it is half done after a panic.
pub fn findings() -> MutexGuard<'static, Findings> {
    FINDINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at all that is here, and once more for shims. Ends when those that are lost have ended, too.
pub async fn after_comparison(config: Arc<Config>, containerd: Containerd, containers: Containers) {
    let handlers = containers.sandboxes().handlers().clone();
    let fsck = Fsck { config, containerd, handlers };
    let first = match fsck.look_of_daemon(&containers).await {
        Ok(verdict) => verdict,
        Err(error) => return tracing::warn!("what belongs to nobody is not known: {}", chain(&error)),
    };
    fsck.tell_and_remove(&first).await;
    let late = async {
        sleep(BREAKING_OFF).await;
        match fsck.look_of_daemon(&containers).await {
            Ok(verdict) => fsck.end_all_lost(&verdict, &containers).await,
            Err(error) => tracing::warn!("whether a shim is lost is not known: {}", chain(&error)),
        }
    };
    tokio::join!(fsck.end_all_lost(&first, &containers), late);
    tracing::debug!("fsck: no shim is lost any more");
}

/// Whether a folder's removal takes the mount along.
fn is_in(mount: &std::path::Path, other: &Orphan) -> bool {
    matches!(&other.thing, Thing::Folder { path, .. } if mount.starts_with(path))
}

impl Fsck {
    async fn look_of_daemon(&self, containers: &Containers) -> Result<Verdict, FsckError> {
        // The ids are asked for last: whatever was seen, and is being made or removed here, is among them or gone.
        let known = || {
            let ids = containers.sandboxes().ids().into_iter().map(|id| id.to_string());
            let ids = ids.chain(containers.ids().into_iter().map(|id| id.to_string()));
            Making::These(ids.collect::<HashSet<_>>())
        };
        Ok(judge(&self.look(known).await?))
    }

    async fn tell_and_remove(&self, verdict: &Verdict) {
        for note in &verdict.notes {
            tracing::info!("fsck: {note}");
        }
        let mut left: BTreeMap<Kind, u64> = BTreeMap::new();
        for orphan in &verdict.orphans {
            match &orphan.thing {
                Thing::Shim(_) => {}
                Thing::Folder { .. } => self.remove_and_tell(orphan).await,
                Thing::Mount { path, .. } if verdict.orphans.iter().any(|other| is_in(path, other)) => {}
                thing => {
                    tracing::debug!("{} {thing} belongs to nobody: {}", thing.kind(), orphan.why);
                    *left.entry(thing.kind()).or_default() += 1;
                }
            }
        }
        findings().left.clone_from(&left);
        if !left.is_empty() {
            let counts: Vec<_> = left.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            tracing::warn!(
                "some things belong to nobody, `cridge fsck` tells of each: {}",
                counts.join(", ")
            );
        }
    }

    async fn end_all_lost(&self, verdict: &Verdict, containers: &Containers) {
        let shims = verdict.orphans.iter().filter_map(|orphan| match &orphan.thing {
            Thing::Shim(shim) => Some(self.end_lost(shim, containers)),
            _ => None,
        });
        futures::future::join_all(shims).await;
    }

    async fn remove_and_tell(&self, orphan: &Orphan) {
        match self.remove(&orphan.thing).await {
            Ok(()) => {
                findings().note_removed(orphan.thing.kind());
                tracing::info!("removed {} {}: {}", orphan.thing.kind(), orphan.thing, orphan.why);
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(
                    "{} {} belongs to nobody, but stays: {error}",
                    orphan.thing.kind(),
                    orphan.thing
                );
            }
        }
    }

    /// Ends a shim that has no task, once it can have nothing to say and nobody is at work on its pod.
    async fn end_lost(&self, shim: &Shim, containers: &Containers) {
        let begun = Instant::now();
        loop {
            match self.is_over(shim, containers, begun.elapsed() > LAST_WORDS).await {
                Ok(Some(ended)) => {
                    if ended {
                        findings().note_removed(Kind::Shim);
                        tracing::info!(pid = shim.pid, id = shim.id, "ended a shim that containerd has lost");
                    }
                    return;
                }
                Ok(None) => sleep(AGAIN).await,
                Err(error) => {
                    tracing::warn!(pid = shim.pid, id = shim.id, "a lost shim stays: {}", chain(&error));
                    return;
                }
            }
        }
    }

    /// Whether it was ended, or has a task and stays; `None` while nothing is decided.
    async fn is_over(
        &self,
        shim: &Shim,
        containers: &Containers,
        is_silent: bool,
    ) -> Result<Option<bool>, FsckError> {
        let id = shim.id.as_str();
        let (sandbox, container) = (containers.sandboxes().entry(id), containers.entry(id));
        let _pod_rests = match &sandbox {
            Some(sandbox) => Some(sandbox.at_rest().await),
            None => None,
        };
        let _container_rests = match &container {
            Some(container) => Some(container.at_rest().await),
            None => None,
        };
        if self.has_task(id).await? {
            return Ok(Some(false));
        }
        if self.has_record(id).await? && !is_silent {
            return Ok(None);
        }
        shim.end().await?;
        Ok(Some(true))
    }
}
