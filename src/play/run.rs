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
    /// A pod could not be run at all, or not be removed; why was shown.
    NotRun,
    /// The pods were left running.
    Left,
    TimedOut,
    /// By this signal.
    Interrupted {
        signal: i32,
    },
}

impl Outcome {
    /// What the process ends with: a container's code as it is, 124 after a timeout (as timeout(1)), 125 where
    /// nothing could be run (as `docker run` and its kin), 128 and the signal's number after a signal (as a shell).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded | Self::Left => 0,
            Self::Failed { code } => u8::try_from(code).unwrap_or(1),
            Self::TimedOut => 124,
            Self::NotRun => 125,
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// Plays all pods of the manifest side by side.
///
/// # Errors
/// When no pod was begun: the manifest is wrong, or no runtime answers.
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
    let ends = ends.into_iter().map(|end| match end {
        Ok(end) => end,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    });
    Ok(outcome(&ends.collect::<Vec<_>>(), cut_short))
}

/// The outcome of several pods: that one could not be run counts most, then why all were ended, then the first
/// failure in the order of the manifest.
fn outcome(ends: &[End], cut_short: Option<Outcome>) -> Outcome {
    let failed = ends.iter().find_map(|end| match end {
        End::Exited { code } if *code != 0 => Some(Outcome::Failed { code: *code }),
        _ => None,
    });
    if ends.contains(&End::NotRun) {
        return Outcome::NotRun;
    }
    let rest = if ends.contains(&End::Left) { Outcome::Left } else { Outcome::Succeeded };
    cut_short.or(failed).unwrap_or(rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_several_pods_is_the_worst() {
        let (good, bad, worse) = (End::Exited { code: 0 }, End::Exited { code: 3 }, End::Exited { code: 9 });
        let interrupted = Outcome::Interrupted { signal: 2 };
        let cases: [(&[End], Option<Outcome>, u8); 7] = [
            (&[good, good], None, 0),
            (&[good, bad, worse], None, 3),
            (&[End::Left, End::Left], None, 0),
            (&[End::Left, bad], None, 3),
            (&[bad, End::NotRun], None, 125),
            (&[End::Stopped, bad], Some(interrupted), 130),
            (&[End::Stopped], Some(Outcome::TimedOut), 124),
        ];
        for (ends, cut_short, code) in cases {
            assert_eq!(outcome(ends, cut_short).exit_code(), code, "{ends:?} {cut_short:?}");
        }
    }

    #[tokio::test]
    async fn a_timeout_asks_the_pods_to_end() {
        let stop = Stop::default();
        let (gently, at_once) = (stop.gently.clone(), stop.at_once.clone());
        let runs = async { gently.cancelled().await };
        let ((), by) = until_stopped(runs, &stop, Some(Duration::ZERO)).await;
        assert_eq!(by, Some(Outcome::TimedOut));
        assert!(!at_once.is_cancelled());
    }
}
