//! Versions of the CNI spec, as they order.

use std::fmt;

/// `major.minor.patch` of a `cniVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// What a configuration without `cniVersion` means (CNI spec 0.2.0).
    pub const OLDEST: Self = Self(0, 1, 0);
    /// Results list interfaces and addresses from here on.
    pub const LISTS: Self = Self(0, 3, 0);
    /// DEL gets `prevResult` from here on.
    pub const PREVIOUS_AT_DEL: Self = Self(0, 4, 0);
    /// Addresses carry no `version` from here on.
    pub const PLAIN_ADDRESSES: Self = Self(1, 0, 0);
    /// STATUS exists from here on; the newest that this program speaks.
    pub const STATUS: Self = Self(1, 1, 0);
    pub const NEWEST: Self = Self::STATUS;

    /// Missing parts are zero; an empty text is the oldest version.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::OLDEST);
        }
        let mut parts = [0; 3];
        for (n, part) in text.split('.').enumerate() {
            if !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *parts.get_mut(n)? = part.parse().ok()?;
        }
        Some(Self(parts[0], parts[1], parts[2]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("0.10.0") > version("0.4.0"));
        assert_eq!(version("1.0"), version("1.0.0"));
        assert_eq!(version(""), Version::OLDEST);
        assert_eq!(version("0.3.1").to_string(), "0.3.1");
        for bad in ["1.x", "1.0.0.0", "-1.0", "1..0", "+1", "99999999999"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
