//! A pod's traffic shaping, from its annotations.

use std::collections::BTreeMap;

use crate::quantity;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// What Kubernetes takes for reasonable: 1 kbit/s to 1 Pbit/s.
const REASONABLE: std::ops::RangeInclusive<u128> = 1_000..=1_000_000_000_000_000;

/// Bits per second, from the `kubernetes.io/{ingress,egress}-bandwidth` annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    pub ingress: Option<u64>,
    pub egress: Option<u64>,
}

impl Bandwidth {
    /// Reads the pod annotations; `None` where neither is set.
    ///
    /// # Errors
    /// A sentence naming the annotation whose quantity is malformed or outside 1k..1P.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let bandwidth = Self { ingress: rate(annotations, INGRESS)?, egress: rate(annotations, EGRESS)? };
        Ok((bandwidth.ingress.is_some() || bandwidth.egress.is_some()).then_some(bandwidth))
    }
}

fn rate(annotations: &BTreeMap<String, String>, key: &str) -> Result<Option<u64>, String> {
    let Some(text) = annotations.get(key) else { return Ok(None) };
    let shown: String = text.chars().take(40).collect();
    let rate = quantity::parse(text).ok_or_else(|| {
        format!("annotation {key}: {shown:?} is not a quantity of bits per second, like 10M")
    })?;
    if !REASONABLE.contains(&rate) {
        return Err(format!("annotation {key}: {shown:?} is outside 1k..1P bits per second"));
    }
    Ok(u64::try_from(rate).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Bandwidth>, String> {
        Bandwidth::from_annotations(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn either_annotation_is_enough() {
        assert_eq!(of(&[("other", "1")]), Ok(None));
        assert_eq!(of(&[(INGRESS, "10M")]), Ok(Some(Bandwidth { ingress: Some(10_000_000), egress: None })));
        assert_eq!(of(&[(EGRESS, "1Ki")]), Ok(Some(Bandwidth { ingress: None, egress: Some(1024) })));
    }

    #[test]
    fn what_is_unreasonable_is_named() {
        for bad in ["999", "1001T", "0", "-5M", "fast", ""] {
            let text = of(&[(EGRESS, bad)]).unwrap_err();
            assert!(text.contains(EGRESS), "{text}");
        }
        assert!(of(&[(INGRESS, "1k")]).is_ok() && of(&[(INGRESS, "1P")]).is_ok());
    }
}
