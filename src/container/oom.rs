//! Whether the OOM killer ended a container. containerd tells of most such ends, and the container's own cgroup counts
//! them. But systemd removes a scope with its last process, and the shim may then be too late as well: so the cgroup
//! above is asked whether it has counted one meanwhile (v2, where it counts for all below).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::state::OomKilled;
use super::{Container, Containers};
use crate::containerd::Exit;
use crate::linux::cgroup;

/// 128 + SIGKILL: what a process ends with that the OOM killer struck.
const KILLED: u32 = 137;
/// As many as no cgroup counts: whatever it has counted, none of it is new.
const NOT_KNOWN: u64 = u64::MAX;

/// What is known of it while the container runs.
#[derive(Debug)]
pub(super) struct Oom {
    /// containerd told of a kill in its cgroup.
    told: AtomicBool,
    /// SIGKILL came from here, and so not from the OOM killer.
    killed: AtomicBool,
    /// Kills in the cgroup above that were not this container's end.
    before: AtomicU64,
}

impl Default for Oom {
    fn default() -> Self {
        Self { told: false.into(), killed: false.into(), before: NOT_KNOWN.into() }
    }
}

impl Oom {
    /// SIGKILL is about to be sent.
    pub fn expect_kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// Whatever the cgroup above has counted by now was not this container's end. Call while it lives.
    fn count_from_now(&self, cgroups_path: &str) {
        self.before.store(cgroup::oom_kills_above(cgroups_path).unwrap_or(NOT_KNOWN), Ordering::Relaxed);
    }

    fn has_struck(&self, cgroups_path: &str) -> bool {
        let killed = self.killed.load(Ordering::Relaxed);
        let above = || cgroup::oom_kills_above(cgroups_path).ok().filter(|_| !killed);
        struck(cgroup::oom_kills(cgroups_path).ok(), above, self.before.load(Ordering::Relaxed))
    }
}

/// By the kills in the container's own cgroup, or else by new ones in the one above, which is asked only then.
fn struck(own: Option<u64>, above: impl FnOnce() -> Option<u64>, before: u64) -> bool {
    own.map_or_else(|| above().is_some_and(|kills| kills > before), |kills| kills > 0)
}

impl Containers {
    /// containerd saw the OOM killer in the container's cgroup: its end will be told as that.
    pub fn oom_seen(&self, container: &Container) {
        container.oom.told.store(true, Ordering::Relaxed);
    }

    /// From here on a kill in the cgroup above may be this container's end.
    pub fn await_oom(&self, container: &Container) {
        container.oom.count_from_now(&container.facts().cgroups_path);
    }

    pub(super) fn oom_killed(&self, container: &Container, exit: Exit) -> OomKilled {
        let told = container.oom.told.load(Ordering::Relaxed);
        let path = container.facts().cgroups_path.clone();
        if !told && (exit.code != KILLED || path.is_empty() || !container.oom.has_struck(&path)) {
            return OomKilled::No;
        }
        // The kill that this one ended by is no other's of the pod.
        for other in self.of_pod(&container.pod).iter().filter(|other| other.facts().state.running().is_ok())
        {
            self.await_oom(other);
        }
        OomKilled::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_cgroup_has_the_word_and_then_the_one_above() {
        for (own, above, before, expected) in [
            (Some(0), Some(7), 0, false),
            (Some(1), None, NOT_KNOWN, true),
            (None, Some(7), 7, false),
            (None, Some(8), 7, true),
            (None, Some(8), NOT_KNOWN, false),
            (None, None, 0, false),
        ] {
            assert_eq!(struck(own, || above, before), expected, "{own:?} {above:?} {before}");
        }
    }
}
