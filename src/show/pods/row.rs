//! A pod's line in the table. Pure.

use super::{Pod, PodState};
use crate::show::table::{Cell, Table, Tone, or_dash, short, since};
use crate::time::Timestamp;
use crate::work::OperationReport;

const HEAD: &[&str] = &["POD ID", "NAMESPACE", "POD", "STATE", "AGE", "CONTAINERS", "NOW", "LAST ERROR"];
/// Characters of an error, and operations of the column before it.
const MAX_ERROR: usize = 160;
const MAX_NOW: usize = 3;
/// Seconds after which an operation looks stuck.
const SLOW: i64 = 30;

/// All of it, with its head. `now` ages what it tells.
pub fn table(pods: &[Pod], now: Timestamp) -> Table {
    Table::new(HEAD, pods.iter().map(|pod| line(pod, now)).collect())
}

fn line(pod: &Pod, now: Timestamp) -> Vec<Cell> {
    let state = match pod.state {
        PodState::Starting => "Starting".into(),
        PodState::Ready => "Ready".into(),
        PodState::NotReady => Cell::toned("NotReady", Tone::Warning),
    };
    vec![
        short(&pod.id).into(),
        pod.namespace.as_str().into(),
        pod.name.as_str().into(),
        state,
        since(&pod.created_at, now).into(),
        format!("{}/{}", pod.containers.running, pod.containers.all).into(),
        Cell::toned(doing(&pod.operations, now), tone_of(&pod.operations, now)),
        failed(&pod.operations, now),
    ]
}

/// Whether one of those that go on takes long.
pub fn tone_of(operations: &[OperationReport], now: Timestamp) -> Tone {
    let is_slow = |one: &OperationReport| {
        let since = humantime::parse_rfc3339(&one.since).map(Timestamp::from);
        since.is_ok_and(|since| now.nanos() - since.nanos() > SLOW * 1_000_000_000)
    };
    let slow = operations.iter().any(|one| one.until.is_none() && is_slow(one));
    if slow { Tone::Warning } else { Tone::Plain }
}

/// What goes on: `RunPodSandbox: attach the network 19s`.
pub fn doing(operations: &[OperationReport], now: Timestamp) -> String {
    let running: Vec<_> = operations.iter().filter(|one| one.until.is_none()).collect();
    let told = running.iter().take(MAX_NOW).map(|one| {
        let steps = one.steps.iter().map(|step| {
            let waits_for =
                step.waits_for.as_ref().map(|other| format!(", that is {other}")).unwrap_or_default();
            format!("{} {}{waits_for}", step.step, since(&step.since, now))
        });
        match steps.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => format!("{} {}", name(one), since(&one.since, now)),
            steps => format!("{}: {steps}", name(one)),
        }
    });
    let more = running.len().saturating_sub(MAX_NOW);
    let more = (more > 0).then(|| format!("and {more} more"));
    or_dash(told.chain(more).collect::<Vec<_>>().join("; "))
}

/// The last failure, unless what failed has succeeded since: `StopPodSandbox 2m ago (3 times): cannot …`.
fn failed(operations: &[OperationReport], now: Timestamp) -> Cell {
    let last_of_its_kind = |at: usize, one: &OperationReport| {
        let same =
            |other: &&OperationReport| other.operation == one.operation && other.container == one.container;
        !operations[..at].iter().filter(same).any(|later| later.until.is_some() && later.error.is_none())
    };
    let failures =
        operations.iter().enumerate().filter(|(at, one)| one.error.is_some() && last_of_its_kind(*at, one));
    // Texts of RFC 3339 in UTC are in the order of their times.
    let Some((_, last)) = failures.max_by(|(_, a), (_, b)| a.until.cmp(&b.until)) else {
        return or_dash("").into();
    };
    let ago = last.until.as_deref().map(|until| since(until, now)).unwrap_or_default();
    let times = if last.times > 1 { format!(" ({} times)", last.times) } else { String::new() };
    let error = last.error.as_deref().unwrap_or_default().replace('\n', " ");
    Cell::toned(format!("{} {ago} ago{times}: {}", name(last), the_end_of(&error)), Tone::Error)
}

/// An error tells its cause last.
fn the_end_of(error: &str) -> String {
    let over = error.chars().count().saturating_sub(MAX_ERROR);
    let end: String = error.chars().skip(over).collect();
    if over > 0 { format!("…{end}") } else { end }
}

fn name(one: &OperationReport) -> String {
    match &one.container {
        Some(container) => format!("{} of {container}", one.operation),
        None => one.operation.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ContainerCount;
    use super::*;
    use crate::show::table::Colour;
    use crate::work::StepReport;

    fn operation(operation: &str, since: &str) -> OperationReport {
        OperationReport {
            operation: operation.into(),
            container: None,
            since: since.into(),
            steps: Vec::new(),
            until: None,
            error: None,
            last_step: None,
            times: 1,
        }
    }

    fn pod(name: &str, state: PodState, operations: Vec<OperationReport>) -> Pod {
        Pod {
            id: "0123456789abcdef".into(),
            namespace: "default".into(),
            name: name.into(),
            attempt: 0,
            state,
            created_at: "2026-01-01T00:00:00Z".into(),
            containers: ContainerCount { running: 1, all: 2 },
            operations,
        }
    }

    fn at(text: &str) -> Timestamp {
        humantime::parse_rfc3339(text).unwrap().into()
    }

    #[test]
    fn a_stuck_pod_is_seen_at_a_glance() {
        let step = StepReport {
            step: "attach the network".into(),
            since: "2026-01-01T00:00:01Z".into(),
            waits_for: None,
        };
        let run = OperationReport { steps: vec![step], ..operation("RunPodSandbox", "2026-01-01T00:00:00Z") };
        let failure = OperationReport {
            until: Some("2026-01-01T00:00:05Z".into()),
            error: Some("cannot do it".into()),
            times: 3,
            ..operation("StopPodSandbox", "2026-01-01T00:00:04Z")
        };
        let pods = [
            pod("web", PodState::Starting, vec![run]),
            pod("database", PodState::NotReady, vec![failure]),
            pod("idle", PodState::Ready, Vec::new()),
        ];
        let expected = "\
POD ID         NAMESPACE  POD       STATE     AGE  CONTAINERS  NOW                                    LAST ERROR
0123456789abc  default    web       Starting  20s  1/2         RunPodSandbox: attach the network 19s  -
0123456789abc  default    database  NotReady  20s  1/2         -                                      StopPodSandbox 15s ago (3 times): cannot do it
0123456789abc  default    idle      Ready     20s  1/2         -                                      -
";
        let now = at("2026-01-01T00:00:20Z");
        assert_eq!(table(&pods, now).text(Colour::No), expected);
        assert!(table(&pods, now).text(Colour::Yes).contains("\x1b[31mStopPodSandbox 15s ago"));
        assert_eq!(tone_of(&pods[0].operations, now), Tone::Plain);
        assert_eq!(tone_of(&pods[0].operations, at("2026-01-01T00:00:31Z")), Tone::Warning);
    }

    #[test]
    fn what_succeeded_since_is_no_error() {
        let ended = |name: &str, until: &str, error: Option<&str>| OperationReport {
            until: Some(until.into()),
            error: error.map(str::to_owned),
            ..operation(name, until)
        };
        let (first, second) = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z");
        let now = at("2026-01-01T00:00:03Z");
        let mended = [ended("StopPodSandbox", second, None), ended("StopPodSandbox", first, Some("no"))];
        assert_eq!(failed(&mended, now), "-".into());
        let of_container =
            OperationReport { container: Some("app".into()), ..ended("StopContainer", first, Some("no")) };
        let other = [ended("StopContainer", second, None), of_container];
        assert_eq!(failed(&other, now), Cell::toned("StopContainer of app 2s ago: no", Tone::Error));
        let long = [ended("StopPodSandbox", first, Some(&("ä\n".repeat(1000) + "the cause")))];
        let told = format!("{:?}", failed(&long, now));
        assert!(told.contains("\"StopPodSandbox 2s ago: …") && told.contains("ä the cause\""), "{told}");
    }
}
