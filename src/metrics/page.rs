//! Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! Written by hand: it is a few lines, and OpenMetrics, which the library for Rust writes, is not what `promtool` checks.

use std::fmt::Display;
use std::fmt::Write as _;

use super::family::{Family, Kind};
use crate::meter::{BOUNDS, Histogram};

/// As HTTP calls it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures of a moment.
#[derive(Debug, Default)]
pub struct Page(String);

/// What a family has.
pub struct Samples<'a> {
    page: &'a mut String,
    family: &'static Family,
}

impl Page {
    /// Begins a family. One without samples is told as well.
    pub fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let Family { name, kind, help, .. } = family;
        let help = help.replace('\\', "\\\\");
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Samples { page: &mut self.0, family }
    }

    /// A figure without labels.
    pub fn single(&mut self, family: &'static Family, value: impl Display) {
        self.family(family).value(&[], value);
    }

    pub fn text(self) -> String {
        self.0
    }
}

impl Samples<'_> {
    /// One with these labels, in the family's order.
    pub fn value(&mut self, labels: &[&str], value: impl Display) {
        debug_assert!(self.family.kind != Kind::Histogram);
        self.line("", labels, None, value);
    }

    /// A histogram with these labels.
    pub fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        debug_assert!(self.family.kind == Kind::Histogram);
        for (bound, count) in BOUNDS.iter().zip(histogram.cumulative()) {
            self.line("_bucket", labels, Some(&seconds(*bound)), count);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count());
        self.line("_sum", labels, None, histogram.sum().as_secs_f64());
        self.line("_count", labels, None, histogram.count());
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: impl Display) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let named = self.family.labels.iter().zip(labels).map(|(name, value)| (*name, *value));
        let all = named.chain(bound.map(|bound| ("le", bound)));
        let all: Vec<_> = all.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let all = if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) };
        writeln!(self.page, "{}{suffix}{all} {value}", self.family.name).expect("a String takes all");
    }
}

/// A bound in the base unit.
fn seconds(millis: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // some minutes at most
    (millis as f64 / 1000.0).to_string()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::family;
    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_has_it() {
        let mut page = Page::default();
        page.single(&family::PULLS, 3);
        page.family(&family::EXITS).value(&["a \"b\"\\\n"], 1);
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(7));
        histogram.observe(Duration::from_secs(500));
        page.family(&family::STEP_SECONDS).histogram(&["RunPodSandbox", "attach the network"], &histogram);
        let text = page.text();
        for line in [
            "# TYPE cridge_image_pulls_in_flight gauge",
            "cridge_image_pulls_in_flight 3",
            r#"cridge_container_exits_total{reason="a \"b\"\\\n"} 1"#,
            r#"cridge_operation_step_duration_seconds_bucket{operation="RunPodSandbox",step="attach the network",le="0.005"} 0"#,
            r#"cridge_operation_step_duration_seconds_bucket{operation="RunPodSandbox",step="attach the network",le="0.01"} 1"#,
            r#"cridge_operation_step_duration_seconds_bucket{operation="RunPodSandbox",step="attach the network",le="120"} 1"#,
            r#"cridge_operation_step_duration_seconds_bucket{operation="RunPodSandbox",step="attach the network",le="+Inf"} 2"#,
            r#"cridge_operation_step_duration_seconds_sum{operation="RunPodSandbox",step="attach the network"} 500.007"#,
            r#"cridge_operation_step_duration_seconds_count{operation="RunPodSandbox",step="attach the network"} 2"#,
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
