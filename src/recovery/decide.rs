//! What a container's known state and containerd's task say together. Pure.

use crate::container::ContainerState;
use crate::containerd::{Exit, TaskState};

/// What is to be done to make the two agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// They agree.
    Keep,
    /// No task yet: it gets streams to be started with.
    Prepare,
    /// It runs: read its output on.
    Resume,
    /// It runs, though nobody wrote that down.
    NoteRunning,
    /// It has ended so.
    NoteExit(Exit),
    /// Its task is gone: wait for the shim's last words, then count it as lost.
    AwaitLastWords,
    /// A task that was never started, or one of an ended container: it goes.
    EndTask,
}

/// Whether the container's streams are open in this process already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    Open,
    Closed,
}

pub(super) fn decide(known: &ContainerState, task: Option<TaskState>, streams: Streams) -> Action {
    use ContainerState as Known;
    let ended = match task {
        Some(TaskState::Stopped(exit)) => Some(exit),
        _ => None,
    };
    let runs = matches!(task, Some(TaskState::Running | TaskState::Pausing | TaskState::Paused));
    match (known, task, streams) {
        (Known::Creating, ..) => Action::Keep,
        (Known::Created, None, Streams::Open) => Action::Keep,
        (Known::Created, None, Streams::Closed) => Action::Prepare,
        // Another call of this daemon is starting it right now.
        (Known::Created, Some(TaskState::Created), Streams::Open) => Action::Keep,
        (Known::Created, Some(TaskState::Created), Streams::Closed) => Action::EndTask,
        (Known::Begun { .. }, Some(TaskState::Created), _) => Action::EndTask,
        (Known::Created | Known::Begun { .. } | Known::Unknown { .. }, Some(_), _) if runs => {
            Action::NoteRunning
        }
        (Known::Created, Some(_), _) => ended.map_or(Action::Keep, Action::NoteExit),
        (Known::Running { .. }, Some(_), Streams::Closed) if runs => Action::Resume,
        (Known::Running { .. }, Some(_), Streams::Open) if runs => Action::Keep,
        (Known::Begun { .. } | Known::Running { .. } | Known::Unknown { .. }, None, _) => {
            Action::AwaitLastWords
        }
        (Known::Begun { .. } | Known::Running { .. } | Known::Unknown { .. }, Some(_), _) => {
            ended.map_or(Action::Keep, Action::NoteExit)
        }
        (Known::Exited(_), None, _) => Action::Keep,
        (Known::Exited(_), Some(_), _) => Action::EndTask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Ending;
    use crate::time::Timestamp;

    #[test]
    fn every_pair_has_its_answer() {
        let at = Timestamp::from_nanos(5);
        let exit = Exit { code: 3, at };
        let begun = ContainerState::Begun { at };
        let running = ContainerState::Running { pid: 7, started_at: at };
        let unknown = ContainerState::Unknown { started_at: at };
        let exited = ContainerState::Exited(Ending {
            started_at: at,
            finished_at: at,
            code: 0,
            reason: String::new(),
            message: String::new(),
        });
        let stopped = Some(TaskState::Stopped(exit));
        let cases = [
            (&ContainerState::Created, None, Streams::Closed, Action::Prepare),
            (&ContainerState::Created, None, Streams::Open, Action::Keep),
            (&ContainerState::Created, Some(TaskState::Created), Streams::Closed, Action::EndTask),
            (&ContainerState::Created, Some(TaskState::Created), Streams::Open, Action::Keep),
            (&ContainerState::Created, Some(TaskState::Running), Streams::Closed, Action::NoteRunning),
            (&ContainerState::Created, stopped, Streams::Closed, Action::NoteExit(exit)),
            (&begun, Some(TaskState::Created), Streams::Closed, Action::EndTask),
            (&begun, Some(TaskState::Running), Streams::Closed, Action::NoteRunning),
            (&begun, None, Streams::Closed, Action::AwaitLastWords),
            (&begun, stopped, Streams::Closed, Action::NoteExit(exit)),
            (&running, Some(TaskState::Running), Streams::Closed, Action::Resume),
            (&running, Some(TaskState::Running), Streams::Open, Action::Keep),
            (&running, Some(TaskState::Paused), Streams::Closed, Action::Resume),
            (&running, stopped, Streams::Open, Action::NoteExit(exit)),
            (&running, None, Streams::Open, Action::AwaitLastWords),
            (&unknown, Some(TaskState::Running), Streams::Closed, Action::NoteRunning),
            (&unknown, None, Streams::Closed, Action::AwaitLastWords),
            (&unknown, stopped, Streams::Closed, Action::NoteExit(exit)),
            (&exited, None, Streams::Closed, Action::Keep),
            (&exited, Some(TaskState::Running), Streams::Closed, Action::EndTask),
            (&exited, stopped, Streams::Open, Action::EndTask),
        ];
        for (known, task, streams, action) in cases {
            assert_eq!(decide(known, task, streams), action, "{known:?} {task:?} {streams:?}");
        }
    }
}
