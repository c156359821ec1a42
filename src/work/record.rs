//! What goes on and what went before: pure data, bounded, and how it is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Operation;
use crate::time::Timestamp;

/// Operations that have ended, at most; and those under way that are told of.
const KEPT: usize = 16;
const TOLD: usize = 16;
/// Bytes of an error.
const MAX_ERROR: usize = 1 << 10;
/// The step of whoever waits for another operation.
pub(super) const WAIT: &str = "wait for its turn";

/// What is told of an operation that went away without an outcome.
pub(super) const BROKEN_OFF: &str = "it was broken off";

/// The present, by the clock that people read and by the one that never jumps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: Timestamp,
    clock: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Self { at: Timestamp::now(), clock: Instant::now() }
    }

    /// In whole seconds, or less than one as it is.
    fn until(self, later: Self) -> humantime::FormattedDuration {
        let passed = later.clock.saturating_duration_since(self.clock);
        let whole = if passed < Duration::from_secs(1) {
            Duration::from_millis(u64::from(passed.subsec_millis()))
        } else {
            Duration::from_secs(passed.as_secs())
        };
        humantime::format_duration(whole)
    }
}

/// The operations of one object.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Of operations and steps alike.
    next: u64,
    running: Vec<Running>,
    /// The latest last.
    past: VecDeque<Past>,
}

#[derive(Debug)]
struct Running {
    serial: u64,
    operation: Operation,
    since: Moment,
    /// Those that go on side by side.
    steps: Vec<Step>,
    /// The step that was left last.
    last_step: Option<&'static str>,
    /// It has the object's turn.
    holds: bool,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    serial: u64,
    name: &'static str,
    since: Moment,
}

#[derive(Debug)]
struct Past {
    operation: Operation,
    since: Moment,
    until: Moment,
    /// Where a failure came from.
    last_step: Option<&'static str>,
    outcome: Result<(), String>,
    /// How often it ended so, one after the other.
    times: u64,
}

/// An operation, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationReport {
    pub operation: String,
    /// In a pod's report, the container's name where it is one of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// RFC 3339, as all times here.
    pub since: String,
    /// Under way now; none between two steps, and after its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
    /// When it ended; `None` while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why it failed; `None` where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of one that failed: the step that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_step: Option<String>,
    /// How often it ended so, one after the other; the times are the last one's.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
}

/// A step under way, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    pub step: String,
    pub since: String,
    /// Of one that waits for another operation: which, and where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

fn once() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_once(times: &u64) -> bool {
    *times == 1
}

impl Record {
    pub fn begin(&mut self, operation: Operation, now: Moment) -> u64 {
        let serial = self.serial();
        let running =
            Running { serial, operation, since: now, steps: Vec::new(), last_step: None, holds: false };
        self.running.push(running);
        serial
    }

    pub fn enter(&mut self, operation: u64, name: &'static str, now: Moment) -> u64 {
        let serial = self.serial();
        if let Some(running) = self.running(operation) {
            running.steps.push(Step { serial, name, since: now });
        }
        serial
    }

    pub fn leave(&mut self, operation: u64, step: u64) {
        let Some(running) = self.running(operation) else { return };
        if let Some(at) = running.steps.iter().position(|one| one.serial == step) {
            running.last_step = Some(running.steps.remove(at).name);
        }
    }

    pub fn hold(&mut self, operation: u64, holds: bool) {
        if let Some(running) = self.running(operation) {
            running.holds = holds;
        }
    }

    /// How long it took; `None` where it has ended before.
    pub fn end(&mut self, operation: u64, outcome: Result<(), String>, now: Moment) -> Option<Duration> {
        let ended = self.take(operation)?;
        let took = now.clock.saturating_duration_since(ended.since.clock);
        self.keep(ended, outcome, now);
        Some(took)
    }

    fn keep(&mut self, ended: Running, outcome: Result<(), String>, now: Moment) {
        let routine = ended.operation.is_routine();
        if routine {
            if outcome.is_ok() {
                return;
            }
            self.past.retain(|past| past.operation != ended.operation);
        }
        let outcome = outcome.map_err(bounded);
        match self.past.back_mut() {
            Some(last) if last.operation == ended.operation && last.outcome == outcome => {
                (last.since, last.until) = (ended.since, now);
                last.times += 1;
            }
            _ => {
                let Running { operation, since, last_step, .. } = ended;
                let last_step = last_step.filter(|_| outcome.is_err());
                self.past.push_back(Past { operation, since, until: now, last_step, outcome, times: 1 });
            }
        }
        if self.past.len() > KEPT {
            self.past.pop_front();
        }
    }

    pub fn forget(&mut self, operation: u64) {
        self.take(operation);
    }

    pub fn report(&self) -> Vec<OperationReport> {
        let running = self.running.iter().rev().take(TOLD).map(|running| OperationReport {
            steps: running.steps.iter().map(|step| self.step_report(*step)).collect(),
            ..report(running.operation, running.since)
        });
        let past = self.past.iter().rev().map(|past| OperationReport {
            until: Some(past.until.at.to_string()),
            error: past.outcome.as_ref().err().cloned(),
            last_step: past.last_step.map(str::to_owned),
            times: past.times,
            ..report(past.operation, past.since)
        });
        running.chain(past).collect()
    }

    pub fn doing(&self, object: &str, now: Moment) -> Vec<String> {
        let told = self.running.iter().take(TOLD).map(|running| {
            let name = running.operation.name();
            match running.place(now) {
                None => format!("{name} of {object} for {}", running.since.until(now)),
                Some(steps) => format!("{name} of {object}: {steps}"),
            }
        });
        told.collect()
    }

    pub fn aside(&self, now: Moment) -> String {
        let told = self.running.iter().take(TOLD).map(|running| match running.place(now) {
            None => format!("{} for {}", running.operation.name(), running.since.until(now)),
            Some(steps) => format!("{} ({steps})", running.operation.name()),
        });
        match told.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => none,
            told => format!(", now at {told}"),
        }
    }

    fn step_report(&self, step: Step) -> StepReport {
        let holder = || {
            let holder = self.running.iter().find(|running| running.holds)?;
            let name = holder.operation.name();
            Some(match holder.steps.first() {
                Some(step) => format!("{name} ({} since {})", step.name, step.since.at),
                None => format!("{name} (since {})", holder.since.at),
            })
        };
        StepReport {
            step: step.name.to_owned(),
            since: step.since.at.to_string(),
            waits_for: if step.name == WAIT { holder() } else { None },
        }
    }

    fn serial(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn running(&mut self, serial: u64) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.serial == serial)
    }

    fn take(&mut self, serial: u64) -> Option<Running> {
        let at = self.running.iter().position(|running| running.serial == serial)?;
        Some(self.running.remove(at))
    }
}

impl Running {
    /// The steps under way, and for how long they have been.
    fn place(&self, now: Moment) -> Option<String> {
        let steps = self.steps.iter().map(|step| format!("{} for {}", step.name, step.since.until(now)));
        let steps = steps.collect::<Vec<_>>().join(", ");
        (!steps.is_empty()).then_some(steps)
    }
}

fn report(operation: Operation, since: Moment) -> OperationReport {
    OperationReport {
        operation: operation.name().to_owned(),
        container: None,
        since: since.at.to_string(),
        steps: Vec::new(),
        until: None,
        error: None,
        last_step: None,
        times: 1,
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_ERROR {
        let end = (0..=MAX_ERROR).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(record: &mut Record, operation: Operation, outcome: Result<(), &str>) {
        let serial = record.begin(operation, Moment::now());
        record.end(serial, outcome.map_err(str::to_owned), Moment::now());
    }

    fn told(record: &Record) -> Vec<(String, Option<String>, u64)> {
        record.report().into_iter().map(|one| (one.operation, one.error, one.times)).collect()
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_go() {
        let mut record = Record::default();
        for n in 0..40 {
            ended(&mut record, Operation::StopPodSandbox, Err(&format!("error {n}")));
        }
        let told = told(&record);
        assert_eq!(told.len(), KEPT);
        assert_eq!(told[0].1.as_deref(), Some("error 39"));
    }

    #[test]
    fn what_repeats_itself_takes_one_place() {
        let mut record = Record::default();
        ended(&mut record, Operation::RunPodSandbox, Ok(()));
        for _ in 0..7 {
            ended(&mut record, Operation::StopPodSandbox, Err("no"));
        }
        ended(&mut record, Operation::StopPodSandbox, Ok(()));
        let stop = || "StopPodSandbox".to_owned();
        assert_eq!(
            told(&record),
            [(stop(), None, 1), (stop(), Some("no".into()), 7), ("RunPodSandbox".into(), None, 1)]
        );
    }

    #[test]
    fn routine_leaves_its_last_failure_alone() {
        let mut record = Record::default();
        for n in 0..40 {
            ended(&mut record, Operation::ExecSync, Err(&format!("probe {n}")));
            ended(&mut record, Operation::ExecSync, Ok(()));
            ended(&mut record, Operation::StartContainer, Ok(()));
        }
        let mut told = told(&record);
        told.retain(|(operation, ..)| operation == "ExecSync");
        assert_eq!(told, [("ExecSync".to_owned(), Some("probe 39".to_owned()), 1)]);
    }

    #[test]
    fn texts_and_crowds_are_bounded() {
        let mut record = Record::default();
        ended(&mut record, Operation::StartContainer, Err(&"ä".repeat(1 << 20)));
        assert!(record.report()[0].error.as_ref().unwrap().len() <= MAX_ERROR + '…'.len_utf8());
        for _ in 0..1000 {
            record.begin(Operation::ExecSync, Moment::now());
        }
        assert_eq!(record.report().len(), TOLD + 1);
        assert_eq!(record.doing("x", Moment::now()).len(), TOLD);
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let mut record = Record::default();
        ended(&mut record, Operation::StopPodSandbox, Err("no"));
        ended(&mut record, Operation::StopPodSandbox, Err("no"));
        let serial = record.begin(Operation::RemovePodSandbox, Moment::now());
        record.enter(serial, "detach the network", Moment::now());
        let report = record.report();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Vec<OperationReport>>(&text).unwrap(), report, "{text}");
        assert!(text.contains(r#""steps":[{"step":"detach the network","since":""#), "{text}");
    }
}
