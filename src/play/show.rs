//! What a person sees: logs on standard output, states on standard error, each line under its container's name.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::manifest::Pod;

/// Colours that both dark and light terminals can show (ECMA-48 SGR): cyan, yellow, green, magenta, blue, red.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Whether names are coloured, on one of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Coloured,
    Plain,
}

impl Paint {
    /// On a terminal, unless the user has said no (no-color.org).
    fn of(output: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if output.is_terminal() && !refused { Self::Coloured } else { Self::Plain }
    }
}

/// The screen, shared by all pods of a run.
#[derive(Debug)]
pub struct Show {
    names: Vec<String>,
    width: usize,
    logs: Paint,
    states: Paint,
    pods: usize,
}

impl Show {
    pub fn new(pods: &[Pod]) -> Self {
        let pods_number = pods.len();
        let names: Vec<_> = pods
            .iter()
            .flat_map(|pod| pod.all_containers().map(|container| label(pods_number, pod, &container.name)))
            .chain(pods.iter().map(|pod| pod.name.clone()))
            .collect();
        Self {
            width: names.iter().map(|name| name.chars().count()).max().unwrap_or(0),
            names,
            logs: Paint::of(&std::io::stdout()),
            states: Paint::of(&std::io::stderr()),
            pods: pods_number,
        }
    }

    /// How a container is called on the screen.
    pub fn label(&self, pod: &Pod, container: &str) -> String {
        label(self.pods, pod, container)
    }

    /// A line of a container's log, byte for byte.
    pub fn log(&self, name: &str, text: &[u8]) {
        let mut line = format!("{} | ", self.head(name, self.logs)).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        // A reader that has gone away does not end the pod.
        let _ = std::io::stdout().lock().write_all(&line);
    }

    /// What has become of a pod or container.
    pub fn state(&self, name: &str, text: &str) {
        let line = format!("{} - {text}\n", self.head(name, self.states));
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn head(&self, name: &str, paint: Paint) -> String {
        let colour = self.names.iter().position(|other| other == name).unwrap_or(0) % COLOURS.len();
        let width = self.width;
        match paint {
            Paint::Plain => format!("{name:width$}"),
            Paint::Coloured => format!("\x1b[{}m{name:width$}\x1b[0m", COLOURS[colour]),
        }
    }
}

fn label(pods: usize, pod: &Pod, container: &str) -> String {
    if pods > 1 { format!("{}/{container}", pod.name) } else { container.to_owned() }
}

/// A duration as a person wants it: `85 ms`, `1.4 s`, `3 min`.
pub fn time(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        millis => format!("{} min", millis / 60_000),
    }
}

/// A size likewise.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let cases =
            [(85, "85 ms"), (999, "999 ms"), (1_400, "1.4 s"), (59_900, "59.9 s"), (200_000, "3 min")];
        for (millis, text) in cases {
            assert_eq!(time(Duration::from_millis(millis)), text);
        }
        assert_eq!(size(900), "900 B");
        assert_eq!(size(2_048), "2.0 KiB");
        assert_eq!(size(5 << 20), "5.0 MiB");
    }
}
