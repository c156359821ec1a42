//! How fast CPU time is used up: from two readings, the second taken because somebody asked.
//!
//! Invariant: there is one reading for each container or pod that is there, and none for others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Readings closer than this say more of the clock's ticks than of the load.
const SHORTEST: Duration = Duration::from_millis(100);
/// What was used longer ago is not "of late".
const LONGEST: Duration = Duration::from_secs(300);

/// The last readings, by container or pod id.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<String, Reading>>);

struct Reading {
    taken: Instant,
    cpu_ns: u64,
    /// Found when it was taken.
    rate: Option<u64>,
}

impl Rates {
    /// Nanoseconds of CPU time per second since the reading before this one; `None` until there are two. Readings of
    /// what is not `there` any more are dropped.
    pub fn note(&self, id: &str, taken: Instant, cpu_ns: u64, there: impl Fn(&str) -> bool) -> Option<u64> {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = readings.get_mut(id) else {
            readings.retain(|id, _| there(id));
            readings.insert(id.to_owned(), Reading { taken, cpu_ns, rate: None });
            return None;
        };
        let passed = taken.saturating_duration_since(last.taken);
        if passed < SHORTEST {
            return last.rate;
        }
        // A cgroup that was made anew begins at zero.
        let used = cpu_ns.checked_sub(last.cpu_ns).filter(|_| passed <= LONGEST);
        let per_second = |ns: u64| u128::from(ns) * 1_000_000_000 / passed.as_nanos();
        let rate = used.map(|ns| u64::try_from(per_second(ns)).unwrap_or(u64::MAX));
        *last = Reading { taken, cpu_ns, rate };
        rate
    }

    /// It runs no more.
    pub fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn all(_: &str) -> bool {
        true
    }

    #[test]
    fn two_readings_make_a_rate() {
        let (rates, start) = (Rates::default(), Instant::now());
        assert_eq!(rates.note("a", start, 1_000_000_000, all), None);
        assert_eq!(rates.note("a", start + 2 * SECOND, 4_000_000_000, all), Some(1_500_000_000));
        assert_eq!(rates.note("b", start, 5, all), None, "one's readings are not another's");
        assert_eq!(rates.note("a", start + 3 * SECOND, 4_000_000_000, all), Some(0));
    }

    #[test]
    fn callers_in_quick_succession_see_the_rate_of_before() {
        let (rates, start) = (Rates::default(), Instant::now());
        rates.note("a", start, 0, all);
        assert_eq!(rates.note("a", start + SHORTEST / 2, 50, all), None);
        assert_eq!(rates.note("a", start + SECOND, 100, all), Some(100));
        assert_eq!(rates.note("a", start + SECOND + SHORTEST / 2, 1_000_000, all), Some(100));
        // The time runs from the reading that counted, so that no caller can keep it from ever being new.
        assert_eq!(rates.note("a", start + 2 * SECOND, 1_100, all), Some(1_000));
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        let (rates, start) = (Rates::default(), Instant::now());
        rates.note("a", start, 1_000, all);
        assert_eq!(rates.note("a", start + SECOND, 10, all), None, "it was made anew");
        assert_eq!(rates.note("a", start + 2 * SECOND, 30, all), Some(20));
        assert_eq!(rates.note("a", start + 2 * SECOND + 2 * LONGEST, 40, all), None, "too long ago");
        rates.forget("a");
        assert_eq!(rates.note("a", start + 3 * LONGEST, 50, all), None);
    }

    #[test]
    fn readings_of_what_is_gone_are_dropped() {
        let (rates, start) = (Rates::default(), Instant::now());
        for n in 0..1000 {
            let id = n.to_string();
            rates.note(&id, start, 0, |other| other == id);
        }
        assert_eq!(rates.0.lock().unwrap().len(), 1, "only the last one's owner was there");
    }
}
