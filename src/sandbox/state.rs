//! What a sandbox is, and what may follow. Pure.

use super::Happening;
use crate::time::Timestamp;

/// A sandbox's state, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// On its way up: not listed.
    Starting,
    /// The pause runs.
    Ready { pid: u32 },
    /// The pause has ended, or never started. `at`: when, as far as known.
    NotReady { at: Timestamp },
    /// A teardown did not finish, or the record makes no sense: listed as not ready, for RemovePodSandbox to finish.
    Unknown,
}

impl SandboxState {
    /// What becomes of it when the pause is found to have ended.
    pub fn pause_ended(self, at: Timestamp) -> Self {
        match self {
            Self::Starting | Self::Ready { .. } => Self::NotReady { at },
            Self::NotReady { .. } | Self::Unknown => self,
        }
    }

    /// What becomes of it when everything that ran is down.
    pub fn torn_down(self, at: Timestamp) -> Self {
        match self {
            // One that was on its way up was never shown to anybody.
            Self::Starting | Self::NotReady { .. } => self,
            Self::Ready { .. } | Self::Unknown => Self::NotReady { at },
        }
    }

    /// The pause's pid while containers may join its namespaces.
    pub fn pause_pid(self) -> Option<u32> {
        match self {
            Self::Ready { pid } => Some(pid),
            Self::Starting | Self::NotReady { .. } | Self::Unknown => None,
        }
    }

    /// What has happened when it goes from this state to `next`. One that recovery finds dead was told of as stopped,
    /// or was not: it is told again.
    pub fn happenings(self, next: Self) -> &'static [Happening] {
        match (self, next) {
            (Self::Starting, Self::Ready { .. }) => &[Happening::Created, Happening::Started],
            (Self::Ready { .. } | Self::Unknown, Self::NotReady { .. }) => &[Happening::Stopped],
            _ => &[],
        }
    }

    /// In the words of a refusal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready { .. } => "ready",
            Self::NotReady { .. } => "not ready",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_never_becomes_ready_again() {
        let (early, late) = (Timestamp::from_nanos(1), Timestamp::from_nanos(2));
        let ended = SandboxState::Ready { pid: 7 }.pause_ended(early);
        assert_eq!(ended, SandboxState::NotReady { at: early });
        assert_eq!(ended.pause_ended(late), ended, "the first end stays");
        assert_eq!(ended.torn_down(late), ended);
    }

    #[test]
    fn only_a_finished_teardown_ends_unknown() {
        let at = Timestamp::from_nanos(1);
        assert_eq!(SandboxState::Unknown.pause_ended(at), SandboxState::Unknown);
        assert_eq!(SandboxState::Unknown.torn_down(at), SandboxState::NotReady { at });
    }

    #[test]
    fn a_life_is_told_of_once() {
        let at = Timestamp::from_nanos(1);
        let (ready, dead) = (SandboxState::Ready { pid: 7 }, SandboxState::NotReady { at });
        assert_eq!(SandboxState::Starting.happenings(ready), [Happening::Created, Happening::Started]);
        assert_eq!(ready.happenings(dead), [Happening::Stopped]);
        assert_eq!(dead.happenings(dead), []);
        assert_eq!(SandboxState::Unknown.happenings(ready), [], "it was told before the restart");
        assert_eq!(SandboxState::Starting.happenings(dead), [], "nobody was told that it lived");
    }

    #[test]
    fn containers_join_only_a_ready_one() {
        assert_eq!(SandboxState::Ready { pid: 7 }.pause_pid(), Some(7));
        for state in
            [SandboxState::Starting, SandboxState::NotReady { at: Timestamp::NEVER }, SandboxState::Unknown]
        {
            assert_eq!(state.pause_pid(), None);
        }
    }
}
