//! How rows become text: columns as wide as they have to be, times and sizes in one unit, colour for what asks for
//! attention. Pure.

use crate::time::Timestamp;

/// Digits of an id, as crictl shows it.
const ID: usize = 13;

/// Rows below a head. A row may be shorter than the head.
pub struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

/// One place in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// What it says to whoever looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// It may need attention.
    Warning,
    /// It does.
    Error,
}

/// Whether tones are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Yes,
    No,
}

impl Table {
    pub fn new(head: &'static [&'static str], rows: Vec<Vec<Cell>>) -> Self {
        Self { head, rows }
    }

    /// All of it, a line for each row.
    pub fn text(&self, colour: Colour) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.as_str());
            cells.chain([self.head[column]]).map(|text| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let head: Vec<_> = self.head.iter().map(|name| Cell::from(*name)).collect();
        let lines = std::iter::once(&head).chain(&self.rows).map(|row| line(row, &widths, colour));
        lines.collect()
    }
}

/// Without spaces at its end.
fn line(row: &[Cell], widths: &[usize], colour: Colour) -> String {
    let mut line = String::new();
    let mut gap = 0;
    for (cell, width) in row.iter().zip(widths) {
        if !cell.text.is_empty() {
            line.push_str(&" ".repeat(gap));
            gap = 0;
            line.push_str(&cell.shown(colour));
        }
        gap += width - cell.text.chars().count() + 2;
    }
    line.push('\n');
    line
}

impl Cell {
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    /// The text, in its colour (ECMA-48, SGR).
    fn shown(&self, colour: Colour) -> String {
        match (colour, self.tone) {
            (Colour::No, _) | (Colour::Yes, Tone::Plain) => self.text.clone(),
            (Colour::Yes, Tone::Warning) => format!("\x1b[33m{}\x1b[0m", self.text),
            (Colour::Yes, Tone::Error) => format!("\x1b[31m{}\x1b[0m", self.text),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// As much of an id as people need.
pub fn short(id: &str) -> String {
    let digits = id.rsplit_once(':').map_or(id, |(_, digits)| digits);
    digits.chars().take(ID).collect()
}

/// The text, or a dash where there is none.
pub fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// How long ago, in the largest unit that fits; nothing sensible of what is no time.
pub fn since(text: &str, now: Timestamp) -> String {
    let Ok(then) = humantime::parse_rfc3339(text) else { return "?".to_owned() };
    let then = Timestamp::from(then);
    lasting(u64::try_from((now.nanos() - then.nanos()) / 1_000_000_000).unwrap_or(0))
}

/// A time in seconds, likewise.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bytes in the largest binary unit that fits, with one digit behind the point: `1.5MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, power)| bytes >> power > 0) {
        None => format!("{bytes}B"),
        Some((unit, power)) => {
            let tenths = (u128::from(bytes) * 10) >> power;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = vec![
            vec!["a".into(), Cell::toned("bäd", Tone::Error), "c".into()],
            vec!["long".into(), "".into(), "".into()],
            vec!["x".into(), "".into(), "z".into()],
        ];
        let table = Table::new(&["ONE", "TWO", "THREE"], rows);
        assert_eq!(table.text(Colour::No), "ONE   TWO  THREE\na     bäd  c\nlong\nx          z\n");
        assert_eq!(
            table.text(Colour::Yes),
            "ONE   TWO  THREE\na     \x1b[31mbäd\x1b[0m  c\nlong\nx          z\n"
        );
    }

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp::from(humantime::parse_rfc3339("2026-01-03T00:00:00Z").unwrap());
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

    #[test]
    fn sizes_have_one_unit_and_one_digit_behind_the_point() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1_610_612_736, "1.5GiB"),
            (u64::MAX, "16777215.9TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn an_id_is_shown_without_its_algorithm() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789abc");
        assert_eq!(short("0123"), "0123");
    }
}
