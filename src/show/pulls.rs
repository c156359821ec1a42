//! Each pull: how far, how fast, how long yet.

use super::ShowError;
use super::runtime::Runtime;
use super::table::{Cell, Table, Tone, lasting, or_dash, since, size};
use crate::image::progress::{LayerStage, PullReport};
use crate::time::Timestamp;

const HEAD: &[&str] = &["IMAGE", "AGE", "STAGE", "LAYERS", "BYTES", "RATE", "LEFT"];
/// Seconds without a byte, after which a download looks stuck.
const STALLED: i64 = 10;

/// Those under way, the oldest first. Another runtime tells of none.
pub async fn read(runtime: &Runtime) -> Result<Vec<PullReport>, ShowError> {
    runtime.told("pulls").await
}

pub fn table(pulls: &[PullReport], now: Timestamp) -> Table {
    Table::new(HEAD, pulls.iter().map(|pull| row(pull, now)).collect())
}

fn row(pull: &PullReport, now: Timestamp) -> Vec<Cell> {
    let unpacked = pull.layers.iter().filter(|layer| layer.stage == LayerStage::Unpacked).count();
    let known = !pull.layers.is_empty();
    let layers = if known { format!("{unpacked}/{}", pull.layers.len()) } else { String::new() };
    let bytes =
        if known { format!("{}/{}", size(pull.bytes), size(pull.total_bytes)) } else { String::new() };
    let rate = pull.bytes_per_second.filter(|_| pull.bytes < pull.total_bytes);
    vec![
        pull.image.as_str().into(),
        since(&pull.since, now).into(),
        pull.stage.as_str().into(),
        or_dash(layers).into(),
        or_dash(bytes).into(),
        or_dash(rate.map(|rate| format!("{}/s", size(rate))).unwrap_or_default()).into(),
        left(pull, now),
    ]
}

/// How long the rest will take at the rate so far; or for how long nothing has come.
pub fn left(pull: &PullReport, now: Timestamp) -> Cell {
    let last = pull.last_byte_at.as_ref().and_then(|at| humantime::parse_rfc3339(at).ok());
    let silent = last.map(|at| (now.nanos() - Timestamp::from(at).nanos()) / 1_000_000_000);
    if let Some(silent) = silent.filter(|silent| *silent >= STALLED) {
        let silent = lasting(silent.unsigned_abs());
        return Cell::toned(format!("unknown, no byte for {silent}"), Tone::Warning);
    }
    let rest = pull.total_bytes.saturating_sub(pull.bytes);
    let seconds = pull.bytes_per_second.filter(|rate| *rate > 0 && rest > 0).map(|rate| rest.div_ceil(rate));
    or_dash(seconds.map(lasting).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::super::table::Colour;
    use super::*;
    use crate::image::progress::LayerReport;

    fn pull(image: &str, last_byte_at: &str, bytes: u64) -> PullReport {
        let layer =
            |stage, bytes| LayerReport { digest: "sha256:0".into(), stage, bytes, total_bytes: 100 << 20 };
        PullReport {
            image: image.into(),
            since: "2026-01-01T00:00:00Z".into(),
            stage: "fetch and unpack layers".into(),
            bytes,
            total_bytes: 200 << 20,
            bytes_per_second: Some(5 << 20),
            last_byte_at: Some(last_byte_at.into()),
            layers: vec![
                layer(LayerStage::Unpacked, 100 << 20),
                layer(LayerStage::Fetching, bytes - (100 << 20)),
            ],
        }
    }

    #[test]
    fn a_pull_says_how_long_yet_or_that_it_is_stuck() {
        let begun = PullReport::begun("c", "2026-01-01T00:00:00Z");
        let pulls = [
            pull("a:1", "2026-01-01T00:00:19Z", 150 << 20),
            pull("b", "2026-01-01T00:00:01Z", 101 << 20),
            begun,
        ];
        let now = humantime::parse_rfc3339("2026-01-01T00:00:20Z").unwrap().into();
        let expected = "\
IMAGE  AGE  STAGE                    LAYERS  BYTES              RATE      LEFT
a:1    20s  fetch and unpack layers  1/2     150.0MiB/200.0MiB  5.0MiB/s  10s
b      20s  fetch and unpack layers  1/2     101.0MiB/200.0MiB  5.0MiB/s  unknown, no byte for 19s
c      20s  get the manifest         -       -                  -         -
";
        assert_eq!(table(&pulls, now).text(Colour::No), expected);
    }
}
