//! The table: a line for each pod. Pure.

use super::{Pod, PodState};
use crate::time::Timestamp;
use crate::work::OperationReport;

const HEAD: [&str; 8] = ["POD ID", "NAMESPACE", "POD", "STATE", "AGE", "CONTAINERS", "NOW", "LAST ERROR"];
/// Digits of an id, as crictl shows it.
const ID: usize = 13;
/// Characters of an error, and operations of the column before it.
const MAX_ERROR: usize = 160;
const MAX_NOW: usize = 3;

/// All of it, with its head. `now` ages what it tells.
pub fn table(pods: &[Pod], now: Timestamp) -> String {
    let lines: Vec<_> =
        std::iter::once(HEAD.map(str::to_owned)).chain(pods.iter().map(|pod| line(pod, now))).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let padded: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn line(pod: &Pod, now: Timestamp) -> [String; HEAD.len()] {
    let state = match pod.state {
        PodState::Starting => "Starting",
        PodState::Ready => "Ready",
        PodState::NotReady => "NotReady",
    };
    [
        pod.id.chars().take(ID).collect(),
        pod.namespace.clone(),
        pod.name.clone(),
        state.to_owned(),
        since(&pod.created_at, now),
        format!("{}/{}", pod.containers.running, pod.containers.all),
        doing(&pod.operations, now),
        failed(&pod.operations, now),
    ]
}

/// What goes on: `RunPodSandbox: attach the network 19s`.
fn doing(operations: &[OperationReport], now: Timestamp) -> String {
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
fn failed(operations: &[OperationReport], now: Timestamp) -> String {
    let last_of_its_kind = |at: usize, one: &OperationReport| {
        let same =
            |other: &&OperationReport| other.operation == one.operation && other.container == one.container;
        !operations[..at].iter().filter(same).any(|later| later.until.is_some() && later.error.is_none())
    };
    let failures =
        operations.iter().enumerate().filter(|(at, one)| one.error.is_some() && last_of_its_kind(*at, one));
    // Texts of RFC 3339 in UTC are in the order of their times.
    let Some((_, last)) = failures.max_by(|(_, a), (_, b)| a.until.cmp(&b.until)) else {
        return or_dash(String::new());
    };
    let ago = last.until.as_deref().map(|until| since(until, now)).unwrap_or_default();
    let times = if last.times > 1 { format!(" ({} times)", last.times) } else { String::new() };
    let error = last.error.as_deref().unwrap_or_default().replace('\n', " ");
    format!("{} {ago} ago{times}: {}", name(last), the_end_of(&error))
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

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// How long ago, in the largest unit that fits; nothing sensible of what is no time.
fn since(text: &str, now: Timestamp) -> String {
    let Ok(then) = humantime::parse_rfc3339(text) else { return "?".to_owned() };
    let then = Timestamp::from(then);
    match (now.nanos() - then.nanos()).max(0) / 1_000_000_000 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ContainerCount;
    use super::*;
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
        assert_eq!(table(&pods, at("2026-01-01T00:00:20Z")), expected);
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
        assert_eq!(failed(&mended, now), "-");
        let of_container =
            OperationReport { container: Some("app".into()), ..ended("StopContainer", first, Some("no")) };
        let other = [ended("StopContainer", second, None), of_container];
        assert_eq!(failed(&other, now), "StopContainer of app 2s ago: no");
        let long = [ended("StopPodSandbox", first, Some(&("ä\n".repeat(1000) + "the cause")))];
        let told = failed(&long, now);
        assert!(told.starts_with("StopPodSandbox 2s ago: …") && told.ends_with("ä the cause"), "{told}");
    }

    #[test]
    fn ages_have_one_unit() {
        let now = at("2026-01-03T00:00:00Z");
        for (then, age) in [
            ("2026-01-03T00:00:00Z", "0s"),
            ("2026-01-04T00:00:00Z", "0s"),
            ("2026-01-02T23:58:01Z", "119s"),
            ("2026-01-02T23:58:00Z", "2m"),
            ("2026-01-02T22:00:00Z", "2h"),
            ("2026-01-01T00:00:00Z", "2d"),
            ("yesterday", "?"),
        ] {
            assert_eq!(since(then, now), age, "{then}");
        }
    }
}
