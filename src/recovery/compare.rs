//! Holds every entry against containerd's tasks, after a start or a gap in the events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::RecoveryError;
use super::decide::{Action, Streams, decide};
use crate::container::{Container, ContainerError, Containers, LAST_WORDS};
use crate::containerd::{Containerd, StdioPaths, TaskInfo, TaskState};
use crate::error::{Kind, chain};
use crate::io::Fifos;
use crate::sandbox::{Sandbox, SandboxState, Sandboxes};
use crate::time::Timestamp;

/// How long a shim may be too busy to tell its state, and when it is asked again.
const BUSY_SHIM: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Between two questions to a shim that nobody waits for any more.
const ASK_LATER: Duration = Duration::from_secs(1);
/// Entries worked on at once.
const SIDE_BY_SIDE: usize = 8;

/// containerd's tasks, by their containers' ids.
pub struct Tasks(HashMap<String, TaskInfo>);

impl Tasks {
    /// One of which containerd could not tell the state: a shim that is busy, as with a start that a dying daemon broke
    /// off, does not answer it in time.
    fn unclear(&self) -> Option<&str> {
        let unclear = self.0.values().find(|task| task.state == TaskState::Unknown);
        unclear.map(|task| task.container_id.as_str())
    }
}

/// Makes every pod agree with containerd's tasks. Call only after subscribing to events, so that an end which comes
/// between the two is seen by one or the other.
pub async fn compare_pods(containers: &Containers, containerd: &Containerd) -> Result<Tasks, RecoveryError> {
    let sandboxes = containers.sandboxes();
    // Before the tasks: what comes up meanwhile would seem to have none.
    let pods = sandboxes.all();
    let tasks = containerd.tasks().await?.into_iter();
    let tasks: HashMap<_, _> = tasks.map(|task| (task.container_id.clone(), task)).collect();
    for pod in pods {
        settle_sandbox(sandboxes, &pod, tasks.get(pod.id.as_str()));
    }
    Ok(Tasks(tasks))
}

/// The same for containers. Nothing may be concluded from a shim that does not answer, so it is asked again, with all
/// the others; and in the background at last. There, last words are waited for as well.
pub async fn compare_containers(
    containers: &Containers,
    containerd: &Containerd,
    mut tasks: Tasks,
) -> Result<(), RecoveryError> {
    let limit = Instant::now() + BUSY_SHIM;
    while let Some(unclear) = tasks.unclear() {
        if Instant::now() >= limit {
            tracing::warn!(task = unclear, "its shim does not answer: its state stays unknown");
            break;
        }
        tokio::time::sleep(ASK_AGAIN).await;
        tasks = compare_pods(containers, containerd).await?;
    }
    let Tasks(tasks) = tasks;
    futures::stream::iter(containers.all())
        .for_each_concurrent(SIDE_BY_SIDE, |container| {
            let task = tasks.get(container.id.as_str());
            async move {
                if let Err(error) = settle(containers, containerd, &container, task).await {
                    tracing::warn!(container = %container.id, "recovery: {}", chain(&error));
                }
            }
        })
        .await;
    containers.forget_kept_of_others();
    for task in tasks.into_values().filter(|task| task.state == TaskState::Unknown) {
        tokio::spawn(settle_when_told(containers.clone(), containerd.clone(), task.container_id));
    }
    Ok(())
}

/// Compares a pod's containers once more, whose pause containerd has let go of. Should that be because their shim is
/// dead, then nobody tells of their ends but this (`container/orphan.rs`).
pub async fn pause_deleted(containers: &Containers, containerd: &Containerd, pod: &str) {
    let Some(sandbox) = containers.sandboxes().entry(pod) else { return };
    let living = containers.made_of_pod(&sandbox.id).into_iter();
    let living = living.filter(|container| !container.facts().state.is_exited());
    let settling = living.map(|container| async move {
        // A start may be under way that found the shim alive. There is none after it, without a pause.
        drop(container.at_rest().await);
        settle_when_told(containers.clone(), containerd.clone(), container.id.to_string()).await;
    });
    futures::future::join_all(settling).await;
}

/// Asks a shim that does not answer until it does: all else is in step meanwhile.
async fn settle_when_told(containers: Containers, containerd: Containerd, id: String) {
    let is_known = || containers.sandboxes().entry(&id).is_some() || containers.entry(&id).is_some();
    let task = loop {
        tokio::time::sleep(ASK_LATER).await;
        match containerd.task(&id).await {
            Ok(task) if task.state == TaskState::Unknown => {}
            Ok(task) => break Some(task),
            Err(error) if error.is_not_found() => break None,
            // The next comparison decides.
            Err(error) if error.kind() == Kind::Unavailable || !is_known() => {
                return tracing::debug!(task = id, "its state stays unknown: {}", chain(&error));
            }
            Err(_) => {}
        }
    };
    if let Some(sandbox) = containers.sandboxes().entry(&id) {
        settle_sandbox(containers.sandboxes(), &sandbox, task.as_ref());
    }
    if let Some(container) = containers.entry(&id)
        && let Err(error) = settle(&containers, &containerd, &container, task.as_ref()).await
    {
        tracing::warn!(container = %container.id, "recovery: {}", chain(&error));
    }
}

fn settle_sandbox(sandboxes: &Sandboxes, sandbox: &Sandbox, task: Option<&TaskInfo>) {
    match (sandbox.state(), task.map(|task| task.state)) {
        // Its run was cut off before the caller heard of it, or its teardown half-way.
        (SandboxState::Unknown, Some(TaskState::Running | TaskState::Unknown)) if sandbox.lacks_network() => {
        }
        // Its shim does not answer, and the kernel does.
        (SandboxState::Unknown, Some(TaskState::Unknown)) => {
            if let Some(pid) = sandboxes.pause_seen(sandbox) {
                sandboxes.becomes(sandbox, |_| SandboxState::Ready { pid });
            }
        }
        (SandboxState::Unknown, Some(TaskState::Running | TaskState::Pausing | TaskState::Paused)) => {
            let pid = task.map_or(0, |task| task.pid);
            sandboxes.becomes(sandbox, |_| SandboxState::Ready { pid });
        }
        (SandboxState::Ready { .. }, Some(TaskState::Running | TaskState::Created)) => {}
        (SandboxState::Unknown | SandboxState::Ready { .. }, Some(TaskState::Stopped(exit))) => {
            sandboxes.becomes(sandbox, |_| SandboxState::NotReady { at: exit.at });
        }
        (SandboxState::Unknown | SandboxState::Ready { .. }, None) => {
            sandboxes.becomes(sandbox, |_| SandboxState::NotReady { at: Timestamp::now() });
        }
        _ => {}
    }
}

async fn settle(
    containers: &Containers,
    containerd: &Containerd,
    container: &Arc<Container>,
    task: Option<&TaskInfo>,
) -> Result<(), ContainerError> {
    let streams = if container.has_io().await { Streams::Open } else { Streams::Closed };
    match decide(&container.facts().state, task.map(|task| task.state), streams) {
        Action::Keep => Ok(()),
        Action::Prepare => containers.prepare_streams(container).await,
        Action::Resume => resume(containers, container, task).await,
        Action::NoteRunning => {
            resume(containers, container, task).await?;
            containers.found_running(container, task.map_or(0, |task| task.pid)).await
        }
        Action::NoteExit(exit) => {
            if streams == Streams::Closed {
                resume(containers, container, task).await?;
            }
            containers.exited(container, exit).await
        }
        Action::AwaitLastWords => {
            if streams == Streams::Closed {
                containers.read_kept(container).await?;
            }
            if let Some(exit) = containers.witnessed_end(container) {
                return containers.exited(container, exit).await;
            }
            tokio::spawn(await_last_words(containers.clone(), containerd.clone(), container.clone()));
            Ok(())
        }
        Action::EndTask => {
            if let Some(task) = task {
                containers.discard_task(container, task.pid).await;
                containers.never_begun(container).await?;
            }
            if container.facts().state.may_start().is_ok() {
                containers.prepare_streams(container).await
            } else {
                Ok(())
            }
        }
    }
}

/// Reads the task's output on, from the FIFOs that it was started with, and ends what was said to its commands.
async fn resume(
    containers: &Containers,
    container: &Arc<Container>,
    task: Option<&TaskInfo>,
) -> Result<(), ContainerError> {
    let Some(task) = task else { return Ok(()) };
    containers.witness(container, task.pid);
    containers.await_oom(container);
    let StdioPaths { stdin, stdout, stderr, terminal } = task.stdio.clone();
    containers.leave_commands(container);
    containers.read_into_log(container, Fifos::from_task(stdin, stdout, stderr, terminal)).await
}

/// Gives the event with the exit code time to come, then asks once more, then ends what may be left and counts the
/// container as lost.
async fn await_last_words(containers: Containers, containerd: Containerd, container: Arc<Container>) {
    if tokio::time::timeout(LAST_WORDS, container.ended()).await.is_ok() {
        return;
    }
    let settled = match containerd.task(container.id.as_str()).await {
        Ok(TaskInfo { state: TaskState::Stopped(exit), .. }) => containers.exited(&container, exit).await,
        Err(error) if error.is_not_found() => containers.end_untold(&container).await,
        // It came back, or containerd went away: the next comparison decides.
        _ => return,
    };
    if let Err(error) = settled {
        tracing::warn!(container = %container.id, "recovery: {}", chain(&error));
    }
}
