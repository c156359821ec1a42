//! A whole run: manifest in, pods up, and an outcome when the last of them has ended or somebody has had enough.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::pod::{End, PodRun, Stop};
use super::runtime::Runtime;
use super::show::Show;
use super::translate::Node;
use super::{PlayError, read};

/// What to play, and where.
#[derive(Clone, Debug)]
pub struct Play {
    pub file: PathBuf,
    /// The CRI runtime's socket.
    pub endpoint: String,
    pub after: AfterStart,
    /// How long the run may take; then it is ended as by an interrupt.
    pub timeout: Option<Duration>,
    /// Where volumes are made, a folder for each pod.
    pub data_dir: PathBuf,
    /// Where the runtime is told to write logs, a folder for each pod.
    pub log_dir: PathBuf,
}

/// What to do once every container has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterStart {
    /// Show and restart until the pod has ended, then remove it.
    Follow,
    /// Leave it running as it is.
    Leave,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// A container ended with this code, the first that did not end with 0.
    Failed {
        code: i32,
    },
    /// The pods were left running.
    Left,
    TimedOut,
    /// By this signal.
    Interrupted {
        signal: i32,
    },
}

impl Outcome {
    /// What the process ends with: a container's code as it is, 124 after a timeout (as timeout(1)), 128 and the
    /// signal's number after a signal (as a shell).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded | Self::Left => 0,
            Self::Failed { code } => u8::try_from(code).unwrap_or(1),
            Self::TimedOut => 124,
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// Plays all pods of the manifest side by side.
///
/// # Errors
/// When a pod could not be run, as opposed to having failed by itself. All that was made is removed by then.
pub async fn play(play: Play) -> Result<Outcome, PlayError> {
    let text = std::fs::read_to_string(&play.file)
        .map_err(|source| PlayError::Read { path: play.file.clone(), source })?;
    let pods = read::pods(&text)?;
    let (runtime, version) = Runtime::connect(&play.endpoint).await?;
    let show = Arc::new(Show::new(&pods));
    let node = Arc::new(Node::load());
    let stop = Stop::default();
    let names: Vec<_> = pods.iter().map(|pod| pod.name.clone()).collect();
    show.state(&names.join(", "), &format!("on {version}"));
    let runs = pods.into_iter().map(|pod| {
        let run = PodRun::new(pod, &play, runtime.clone(), show.clone(), node.clone(), stop.clone());
        tokio::spawn(Arc::new(run).play(play.after))
    });
    let runs = join_all(runs.collect::<Vec<_>>());
    let (ends, cut_short) = until_stopped(runs, &stop, play.timeout).await;
    let mut outcome = Outcome::Succeeded;
    for end in ends {
        let end = end.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        outcome = match (outcome, end) {
            (Outcome::Succeeded, End::Exited { code }) if code != 0 => Outcome::Failed { code },
            (Outcome::Succeeded, End::Left) => Outcome::Left,
            _ => outcome,
        };
    }
    Ok(cut_short.unwrap_or(outcome))
}

/// Waits for the runs. The first signal, or the timeout, asks them to end; another signal makes them hurry.
async fn until_stopped<T>(
    runs: impl Future<Output = T>,
    stop: &Stop,
    timeout: Option<Duration>,
) -> (T, Option<Outcome>) {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()]
        .map(|kind| (kind.as_raw_value(), signal(kind).expect("both may be caught (signal(7))")));
    let mut cut_short = None;
    let mut deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    tokio::pin!(runs);
    loop {
        let [(_, interrupt), (_, terminate)] = &mut signals;
        let by = tokio::select! {
            ends = &mut runs => return (ends, cut_short),
            number = received(SignalKind::interrupt(), interrupt) => Outcome::Interrupted { signal: number },
            number = received(SignalKind::terminate(), terminate) => Outcome::Interrupted { signal: number },
            () = passed(&mut deadline) => {
                deadline = None;
                Outcome::TimedOut
            }
        };
        let token: &CancellationToken = if cut_short.is_none() { &stop.gently } else { &stop.at_once };
        token.cancel();
        cut_short = cut_short.or(Some(by));
    }
}

async fn received(kind: SignalKind, signal: &mut Signal) -> i32 {
    signal.recv().await;
    kind.as_raw_value()
}

async fn passed(deadline: &mut Option<std::pin::Pin<Box<tokio::time::Sleep>>>) {
    match deadline {
        Some(deadline) => deadline.await,
        None => std::future::pending().await,
    }
}
