//! Points in time, as the CRI counts them: nanoseconds since 1970, zero for "not yet".

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01 UTC. The default, zero, means "has not happened".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// What stands for "has not happened".
    pub const NEVER: Self = Self(0);

    /// The present.
    pub fn now() -> Self {
        clock::now().into()
    }

    /// From nanoseconds since 1970.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From a protobuf timestamp's seconds and nanoseconds.
    pub fn from_parts(seconds: i64, nanos: i32) -> Self {
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into()))
    }

    /// Nanoseconds since 1970.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whether it has happened.
    pub const fn is_set(self) -> bool {
        self.0 != 0
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with nine decimals, as in the lines of a container's log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_nanos(self.0.max(0).unsigned_abs());
        humantime::format_rfc3339_nanos(time).fmt(f)
    }
}

#[cfg(not(debug_assertions))]
mod clock {
    use std::time::SystemTime;

    pub fn now() -> SystemTime {
        SystemTime::now()
    }
}

/// Wall clocks are set, and not only by people. Tests do so to one daemon alone: in the folder that `CRIDGE_POINTS` names
/// (`work/points.rs`), the file `clock` has by how many seconds it goes wrong.
#[cfg(debug_assertions)]
mod clock {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::time::{Duration, SystemTime};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("CRIDGE_POINTS").map(|folder| PathBuf::from(folder).join("clock")));

    pub fn now() -> SystemTime {
        let set = FILE.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let wrong: i64 = set.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or_default();
        let by = Duration::from_secs(wrong.unsigned_abs());
        if wrong < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_rfc_3339() {
        let time = Timestamp::from_parts(1_700_000_000, 5);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.000000005Z");
    }
}
