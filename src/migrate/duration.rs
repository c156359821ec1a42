//! Durations as Go writes them (`time.ParseDuration`): `1h30m`, `1.5s`, `250ms`.

use std::time::Duration;

/// Nanoseconds of each unit.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// `None` for what is no duration, or a negative one.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds += number.parse::<f64>().ok()? * factor;
        rest = behind;
    }
    // Go's are whole nanoseconds in 63 bits.
    (nanoseconds < i64::MAX as f64).then(|| Duration::from_secs_f64(nanoseconds / 1e9))
}

/// Where 0 means that there is no limit.
pub(super) fn never_if_zero(duration: Duration) -> Duration {
    if duration.is_zero() { Duration::MAX } else { duration }
}

/// The nearest that lies within the bounds, in words, with a remark where it is another.
pub(super) fn within(duration: Duration, from: Duration, to: Duration) -> (String, &'static str) {
    let remark = match duration {
        duration if duration < from => " (the shortest that cridge takes)",
        duration if duration > to => " (the longest that cridge takes)",
        _ => "",
    };
    (humantime::format_duration(duration.clamp(from, to)).to_string(), remark)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("4h0m0s", Some(Duration::from_secs(4 * 3600))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("1h2m3s4ms", Some(Duration::from_millis(3_723_004))),
            ("-1s", None),
            ("5", None),
            ("1 s", None),
            ("", None),
            ("s", None),
            ("1.2.3s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-zµ.+-]{0,24}") {
            let _ = parse(&text);
        }
    }
}
