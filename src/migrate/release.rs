//! Which containerd reads the files: what it makes of them depends on its release.

use std::fmt;
use std::str::FromStr;

/// Major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// The oldest that reads files of this version, where nobody says which it is.
    pub(super) fn of_version(version: u32) -> Self {
        match version {
            ..=2 => Self(1, 7),
            3 => Self(2, 1),
            _ => Self(2, 3),
        }
    }

    /// Whether it has the CRI plugin in three parts, and merges the sections of several files key by key.
    pub(super) fn is_2(self) -> bool {
        self >= Self(2, 0)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('.').and_then(|(major, minor)| Some((major, minor.split('.').next()?)));
        let parsed = numbers.and_then(|(major, minor)| Some(Self(major.parse().ok()?, minor.parse().ok()?)));
        parsed.filter(|release| *release >= Self(1, 6)).ok_or_else(|| "must be the like of 1.7 or 2.1".into())
    }
}
