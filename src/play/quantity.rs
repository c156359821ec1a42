//! Kubernetes' resource quantities: `500m`, `1.5`, `64Mi`, `2e3` (API conventions, "Resource quantities").

use std::str::FromStr;

/// An amount, exact to a thousand-millionth; finer parts are rounded up, as Kubernetes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// What a text that is no quantity must be instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a quantity such as \"500m\", \"0.5\" or \"64Mi\", not negative")]
pub struct NotAQuantity;

const NANO: i128 = 1_000_000_000;
/// Suffixes and what they multiply by, in thousand-millionths.
const SUFFIXES: [(&str, i128); 16] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", NANO),
    ("k", NANO * 1_000),
    ("M", NANO * 1_000_000),
    ("G", NANO * 1_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("E", NANO * 1_000_000_000_000_000_000),
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
    ("Ei", NANO << 60),
];
/// Digits of a quantity that is taken: so many that nothing below overflows, and more than any node's memory needs.
const MOST_DIGITS: usize = 18;

impl Quantity {
    /// Thousandths, rounded up: how CPUs are counted.
    pub fn milli(self) -> i64 {
        ceil_div(self.nanos, NANO / 1_000)
    }

    /// Whole units, rounded up: how memory is counted.
    pub fn units(self) -> i64 {
        ceil_div(self.nanos, NANO)
    }

    /// Whether there is any of it.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > MOST_DIGITS {
            return Err(NotAQuantity);
        }
        let digits: i128 = digits.parse().map_err(|_| NotAQuantity)?;
        let scaled = digits.checked_mul(scale(suffix)?).ok_or(NotAQuantity)?;
        let parts = 10i128.pow(fraction.len().try_into().map_err(|_| NotAQuantity)?);
        Ok(Self { nanos: scaled / parts + i128::from(scaled % parts > 0) })
    }
}

fn scale(suffix: &str) -> Result<i128, NotAQuantity> {
    if let Some((_, scale)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok(*scale);
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
    match exponent.parse::<i32>() {
        Ok(exponent @ 0..=18) => Ok(NANO * 10i128.pow(exponent.unsigned_abs())),
        Ok(exponent @ -9..=-1) => Ok(NANO / 10i128.pow(exponent.unsigned_abs())),
        _ => Err(NotAQuantity),
    }
}

fn ceil_div(nanos: i128, unit: i128) -> i64 {
    i64::try_from((nanos + unit - 1) / unit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_written_forms_are_read() {
        let cases = [
            ("500m", 500, 1),
            ("0.5", 500, 1),
            (".5", 500, 1),
            ("2", 2_000, 2),
            ("1e3", 1_000_000, 1_000),
            ("1E-1", 100, 1),
            ("100u", 1, 1),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("1E", i64::MAX, 1_000_000_000_000_000_000),
            ("0", 0, 0),
        ];
        for (text, milli, units) in cases {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!((quantity.milli(), quantity.units()), (milli, units), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-1", "Mi", "1 Mi", "1mi", "1K", "1..2", "1e99", "1e", "0x10", "1234567890123456789"]
        {
            assert_eq!(text.parse::<Quantity>(), Err(NotAQuantity), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9.eEkKmMuniGTP+-]{0,24}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn order_follows_the_number(a in 0..1_000_000u64, b in 0..1_000_000u64, suffix in 0..SUFFIXES.len()) {
            let parse = |n: u64| format!("{n}{}", SUFFIXES[suffix].0).parse::<Quantity>().unwrap();
            prop_assert_eq!(parse(a).cmp(&parse(b)), a.cmp(&b));
        }

        #[test]
        fn milli_and_units_agree(n in 0..1_000_000i64) {
            prop_assert_eq!(format!("{n}").parse::<Quantity>().unwrap().milli(), n * 1_000);
            prop_assert_eq!(format!("{n}m").parse::<Quantity>().unwrap().units(), (n + 999) / 1_000);
        }
    }
}
