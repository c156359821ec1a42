//! Samples of both sides, and what they come to.

use std::fmt;

use serde_json::{Value, json};

use crate::NAMES;

/// What a sample counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Mebibytes,
}

pub struct Row {
    pub name: String,
    pub unit: Unit,
    /// In the order of [`NAMES`]; a side may have none.
    pub samples: [Vec<f64>; 2],
}

impl Row {
    pub fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), unit, samples: Default::default() }
    }

    fn quantiles(&self, share: f64) -> [Option<f64>; 2] {
        [0, 1].map(|side: usize| quantile(&self.samples[side], share))
    }

    /// cridge's median in units of the built-in plugin's.
    pub fn ratio(&self) -> Option<f64> {
        let [builtin, cridge] = self.quantiles(0.5);
        Some(cridge? / builtin?)
    }
}

/// The nearest sample from above.
fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// A bound that cridge keeps.
struct Target {
    row: &'static str,
    what: Bound,
}

enum Bound {
    Ratio(f64),
    Mebibytes(f64),
}

const TARGETS: [Target; 7] = [
    Target { row: "RunPodSandbox", what: Bound::Ratio(0.7) },
    Target { row: "Exec of `true`", what: Bound::Ratio(1.0) },
    Target { row: "Exec, 256 MiB out", what: Bound::Ratio(0.67) },
    Target { row: "Exec, 256 MiB in", what: Bound::Ratio(0.67) },
    Target { row: "PortForward, 256 MiB out", what: Bound::Ratio(0.67) },
    Target { row: "ListContainerStats, 100 pods up", what: Bound::Ratio(0.1) },
    Target { row: "RSS of cridge, with 20 pods", what: Bound::Mebibytes(25.0) },
];

#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// The row of that name, made when it is first asked for.
    pub fn row(&mut self, name: &str, unit: Unit) -> &mut Row {
        let n = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.0.push(Row::new(name, unit));
            self.0.len() - 1
        });
        &mut self.0[n]
    }

    pub fn missed_targets(&self) -> bool {
        TARGETS.iter().any(|target| !self.outcome(target).1)
    }

    /// The target in words with what was measured, and whether it is kept.
    fn outcome(&self, target: &Target) -> (String, bool) {
        let row = self.0.iter().find(|row| row.name == target.row);
        let (found, limit, text) = match target.what {
            Bound::Ratio(limit) => (row.and_then(Row::ratio), limit, "ratio"),
            Bound::Mebibytes(limit) => (row.and_then(|row| row.quantiles(0.5)[1]), limit, "MiB"),
        };
        let Some(found) = found else { return (format!("{}: not measured", target.row), false) };
        let kept = found < limit;
        let verdict = if kept { "kept" } else { "MISSED" };
        (format!("{}: {text} {found:.2}, to be under {limit}: {verdict}", target.row), kept)
    }

    pub fn to_json(&self) -> Value {
        let rows = self.0.iter().map(|row| {
            let [median, p90] = [0.5, 0.9].map(|share| row.quantiles(share));
            let unit = match row.unit {
                Unit::Milliseconds => "ms",
                Unit::Mebibytes => "MiB",
            };
            let sides = [0, 1].map(
                |n: usize| json!({"median": median[n], "p90": p90[n], "samples": row.samples[n]}),
            );
            json!({"operation": row.name, "unit": unit, "ratio": row.ratio(), NAMES[0]: sides[0], NAMES[1]: sides[1]})
        });
        json!({"rows": rows.collect::<Vec<_>>()})
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        for (unit, title) in [(Unit::Milliseconds, "milliseconds"), (Unit::Mebibytes, "MiB")] {
            let [builtin, cridge] = NAMES;
            writeln!(f, "\n{title:<44} {builtin:>9} {cridge:>9} {:>7} {:>9} {:>9}", "ratio", "p90", "p90")?;
            for row in self.0.iter().filter(|row| row.unit == unit) {
                let ([builtin, cridge], p90) = (row.quantiles(0.5), row.quantiles(0.9));
                write!(
                    f,
                    "{:<44} {:>9} {:>9} {:>7}",
                    row.name,
                    cell(builtin),
                    cell(cridge),
                    cell(row.ratio())
                )?;
                match unit {
                    Unit::Milliseconds => writeln!(f, " {:>9} {:>9}", cell(p90[0]), cell(p90[1]))?,
                    Unit::Mebibytes => writeln!(f)?,
                }
            }
        }
        writeln!(f, "\ntargets")?;
        TARGETS.iter().try_for_each(|target| writeln!(f, "{}", self.outcome(target).0))
    }
}
