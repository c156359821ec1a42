//! What a container is, and what may follow. Pure.

use crate::containerd::Exit;
use crate::sandbox::Happening;
use crate::state::ContainerStatusFile;
use crate::time::Timestamp;

/// A container's state, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// On its way to CREATED: not listed.
    Creating,
    Created,
    /// A daemon began to start it, and did not live to tell what came of that: it may run, or have run.
    Begun {
        at: Timestamp,
    },
    Running {
        pid: u32,
        started_at: Timestamp,
    },
    Exited(Ending),
    /// Its status cannot be told: StopContainer ends it.
    Unknown {
        started_at: Timestamp,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Never, when the start failed before a process ran.
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub code: i32,
    /// A word for machines: `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// What StopContainer has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    /// It does not run.
    Nothing,
    /// Signal it and wait.
    Signal,
    /// End whatever there is, and note that.
    Reap,
}

/// A request that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is {state}, not {needed}")]
pub struct Denied {
    pub state: &'static str,
    pub needed: &'static str,
}

/// Whether the kernel's OOM killer struck in the container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomKilled {
    Yes,
    No,
}

/// Exit code of a container whose start failed, as the built-in plugin and docker have it.
const START_FAILED: i32 = 128;
/// Exit code of an end that nobody saw.
const UNSEEN: i32 = 255;

/// The reason of an end that nothing else is known of.
fn usual_reason(code: i32) -> &'static str {
    if code == 0 { "Completed" } else { "Error" }
}

impl ContainerState {
    /// StartContainer: only once, from CREATED.
    pub fn may_start(&self) -> Result<(), Denied> {
        match self {
            Self::Created => Ok(()),
            _ => Err(Denied { state: self.name(), needed: "created" }),
        }
    }

    /// Exec, log rotation and everything else that wants a process; its pid.
    pub fn running(&self) -> Result<u32, Denied> {
        match self {
            Self::Running { pid, .. } => Ok(*pid),
            _ => Err(Denied { state: self.name(), needed: "running" }),
        }
    }

    pub fn stop_step(&self) -> StopStep {
        match self {
            Self::Creating | Self::Created | Self::Exited(_) => StopStep::Nothing,
            Self::Running { .. } => StopStep::Signal,
            Self::Begun { .. } | Self::Unknown { .. } => StopStep::Reap,
        }
    }

    pub fn is_exited(&self) -> bool {
        matches!(self, Self::Exited(_))
    }

    /// The process has ended: not before it began, though a clock may say so that was set back. An end already noted
    /// stays.
    pub fn exited(&self, exit: Exit, oom: OomKilled) -> Self {
        let started_at = match self {
            Self::Exited(_) => return self.clone(),
            Self::Begun { at: started_at }
            | Self::Running { started_at, .. }
            | Self::Unknown { started_at } => *started_at,
            // Started by a daemon that did not live to write it down: it ran, but since when is not known.
            Self::Creating | Self::Created => exit.at,
        };
        let code = i32::try_from(exit.code).unwrap_or(UNSEEN);
        let reason = match oom {
            OomKilled::Yes => "OOMKilled",
            OomKilled::No => usual_reason(code),
        };
        Self::Exited(Ending {
            started_at,
            finished_at: exit.at.max(started_at),
            code,
            reason: reason.into(),
            message: String::new(),
        })
    }

    /// Its start failed.
    pub fn start_failed(&self, at: Timestamp, message: String) -> Self {
        match self {
            Self::Exited(_) => self.clone(),
            _ => Self::Exited(Ending {
                started_at: Timestamp::NEVER,
                finished_at: at,
                code: START_FAILED,
                reason: "StartError".into(),
                message,
            }),
        }
    }

    /// It is gone, and containerd knows nothing of how.
    pub fn lost(&self, at: Timestamp) -> Self {
        match self {
            Self::Exited(_) => self.clone(),
            Self::Begun { at: started_at }
            | Self::Running { started_at, .. }
            | Self::Unknown { started_at } => Self::Exited(Ending {
                started_at: *started_at,
                finished_at: at.max(*started_at),
                code: UNSEEN,
                reason: "Unknown".into(),
                message: "the container was gone when it was looked for; its exit code is not known".into(),
            }),
            Self::Creating | Self::Created => self.clone(),
        }
    }

    /// From what was written down.
    pub fn from_file(file: &ContainerStatusFile) -> Self {
        if file.finished_at.is_set() {
            // The built-in plugin writes down only what is unusual.
            let reason = if file.reason.is_empty() { usual_reason(file.exit_code) } else { &file.reason };
            Self::Exited(Ending {
                started_at: file.started_at,
                finished_at: file.finished_at,
                code: file.exit_code,
                reason: reason.to_owned(),
                message: file.message.clone(),
            })
        } else if file.started_at.is_set() {
            Self::Running { pid: file.pid, started_at: file.started_at }
        } else {
            Self::Created
        }
    }

    /// Into what is written down; `file` keeps all that is not the state's.
    pub fn to_file(&self, file: &mut ContainerStatusFile) {
        match self {
            Self::Creating | Self::Created | Self::Begun { .. } | Self::Unknown { .. } => {}
            Self::Running { pid, started_at } => {
                file.pid = *pid;
                file.started_at = *started_at;
            }
            Self::Exited(ending) => {
                file.pid = 0;
                file.started_at = ending.started_at;
                file.finished_at = ending.finished_at;
                file.exit_code = ending.code;
                file.reason = ending.reason.clone();
                file.message = ending.message.clone();
            }
        }
    }

    /// What has happened when it goes from this state to `next`.
    pub fn happenings(&self, next: &Self) -> &'static [Happening] {
        match (self, next) {
            (Self::Creating, Self::Created) => &[Happening::Created],
            (Self::Created | Self::Begun { .. }, Self::Running { .. }) => &[Happening::Started],
            (
                Self::Created | Self::Begun { .. } | Self::Running { .. } | Self::Unknown { .. },
                Self::Exited(_),
            ) => &[Happening::Stopped],
            _ => &[],
        }
    }

    /// In the words of a refusal.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating => "being created",
            Self::Created => "created",
            Self::Begun { .. } => "being started",
            Self::Running { .. } => "running",
            Self::Exited(_) => "exited",
            Self::Unknown { .. } => "in an unknown state",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exit(code: u32) -> Exit {
        Exit { code, at: Timestamp::from_nanos(9) }
    }

    const RUNNING: ContainerState = ContainerState::Running { pid: 7, started_at: Timestamp::from_nanos(5) };

    #[test]
    fn only_a_created_one_starts() {
        assert_eq!(ContainerState::Created.may_start(), Ok(()));
        let denied = RUNNING.may_start().unwrap_err();
        assert_eq!(denied.to_string(), "it is running, not created");
    }

    #[test]
    fn reasons_tell_how_it_ended() {
        for (code, oom, reason) in
            [(0, OomKilled::No, "Completed"), (3, OomKilled::No, "Error"), (137, OomKilled::Yes, "OOMKilled")]
        {
            let ContainerState::Exited(ending) = RUNNING.exited(exit(code), oom) else { panic!() };
            assert_eq!((ending.reason.as_str(), ending.code as u32), (reason, code));
            assert_eq!(ending.started_at, Timestamp::from_nanos(5));
        }
    }

    #[test]
    fn an_end_without_a_reason_has_the_usual_one() {
        for (exit_code, reason) in [(0, "Completed"), (3, "Error")] {
            let finished_at = Timestamp::from_nanos(9);
            let file = ContainerStatusFile { finished_at, exit_code, ..Default::default() };
            let ContainerState::Exited(ending) = ContainerState::from_file(&file) else { panic!() };
            assert_eq!(ending.reason, reason);
        }
    }

    #[test]
    fn a_life_is_told_of_once() {
        let ended = RUNNING.exited(exit(0), OomKilled::No);
        assert_eq!(ContainerState::Creating.happenings(&ContainerState::Created), [Happening::Created]);
        assert_eq!(ContainerState::Created.happenings(&RUNNING), [Happening::Started]);
        assert_eq!(RUNNING.happenings(&ended), [Happening::Stopped]);
        assert_eq!(ContainerState::Created.happenings(&ended), [Happening::Stopped], "its start failed");
        assert_eq!(ended.happenings(&ended), []);
        let unknown = ContainerState::Unknown { started_at: Timestamp::NEVER };
        assert_eq!(unknown.happenings(&RUNNING), [], "it was told before the restart");
        assert_eq!(ContainerState::Creating.happenings(&unknown), [], "nobody was told that it lived");
    }

    #[test]
    fn nothing_ends_before_it_began() {
        let early = Timestamp::from_nanos(1);
        for ended in [RUNNING.exited(Exit { code: 0, at: early }, OomKilled::No), RUNNING.lost(early)] {
            let ContainerState::Exited(ending) = ended else { panic!() };
            assert_eq!((ending.started_at.nanos(), ending.finished_at.nanos()), (5, 5));
        }
    }

    fn any_state() -> impl Strategy<Value = ContainerState> {
        let ending =
            (1..9i64, 9..99i64, any::<i32>(), "[A-Z][a-z]*").prop_map(|(start, end, code, reason)| Ending {
                started_at: Timestamp::from_nanos(start),
                finished_at: Timestamp::from_nanos(end),
                code,
                reason,
                message: String::new(),
            });
        prop_oneof![
            Just(ContainerState::Created),
            (1..99u32, 1..9i64)
                .prop_map(|(pid, at)| ContainerState::Running { pid, started_at: Timestamp::from_nanos(at) }),
            ending.prop_map(ContainerState::Exited),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_down_is_read_back(state in any_state()) {
            let mut file = ContainerStatusFile::default();
            state.to_file(&mut file);
            prop_assert_eq!(ContainerState::from_file(&file), state);
        }

        #[test]
        fn an_end_never_changes(state in any_state(), code in 0..300u32) {
            let ended = state.exited(exit(code), OomKilled::No);
            prop_assert!(ended.is_exited());
            prop_assert_eq!(ended.exited(exit(code + 1), OomKilled::Yes), ended.clone());
            prop_assert_eq!(ended.lost(Timestamp::now()), ended.clone());
            prop_assert_eq!(ended.start_failed(Timestamp::now(), "x".into()), ended.clone());
            prop_assert_eq!(ended.stop_step(), StopStep::Nothing);
            prop_assert!(ended.may_start().is_err());
        }
    }
}
