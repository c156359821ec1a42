//! Kubernetes' `resource.Quantity`, as far as whole numbers go: `10M`, `1.5Gi`, `2e6`.

/// Digits that a quantity may have: so many that every product below fits 128 bits.
const MAX_DIGITS: usize = 18;

/// The value, rounded up to a whole number as `Quantity.Value` does; `None` when the text is no quantity, negative,
/// or longer than any sensible one.
pub fn parse(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches('0');
    let digits = whole.len() + fraction.len();
    if !number.bytes().any(|b| b.is_ascii_digit()) || fraction.contains('.') || digits > MAX_DIGITS {
        return None;
    }
    let mantissa: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let (times, over) = scale(suffix)?;
    let places = u32::try_from(fraction.len()).ok()?;
    Some((mantissa * times).div_ceil(over * 10u128.pow(places)))
}

/// What a suffix multiplies with and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1u128 << (10 * power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

fn decimal(exponent: i32) -> Option<(u128, u128)> {
    let power = 10u128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.unsigned_abs() <= 18)?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_scale_and_fractions_round_up() {
        for (text, value) in [
            ("1", 1),
            ("10M", 10_000_000),
            ("1.5k", 1500),
            ("1Ki", 1024),
            ("0.5Mi", 524_288),
            ("1P", 1_000_000_000_000_000),
            ("1Ei", 1 << 60),
            ("2e6", 2_000_000),
            ("2E6", 2_000_000),
            ("3E", 3_000_000_000_000_000_000),
            ("1500e-3", 2),
            ("1001m", 2),
            ("+5", 5),
            ("007", 7),
            (".5", 1),
            ("5.", 5),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "k",
            ".",
            "-1",
            "1 k",
            "1K",
            "1kk",
            "1.2.3",
            "1e",
            "1e99",
            "٣",
            "0x10",
            "9999999999999999999",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn near_quantities_do_not_panic(text in "[+-]?[0-9]{0,20}[.]?[0-9]{0,20}([eE][+-]?[0-9]{0,12}|[numkMGTPE]i?)?") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_numbers_are_themselves(n in 0u64..1_000_000_000_000_000_000) {
            prop_assert_eq!(parse(&n.to_string()), Some(n.into()));
        }
    }
}
