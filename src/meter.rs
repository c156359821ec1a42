//! What is counted: plain numbers, which their modules touch and know nothing more of. What they are called, and who
//! gets to see them, is the affair of `metrics` alone.
//!
//! Invariant: counting takes no memory that grows with pods, and never fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What only grows, from zero at the daemon's start.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are just now.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

/// One more, until it is dropped.
#[derive(Debug)]
pub struct Raised<'a>(&'a Level);

impl Level {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more, for as long as the guard lives.
    pub fn raise(&self) -> Raised<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Raised(self)
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upper bounds of a histogram's buckets, in milliseconds: from an answer out of memory to what has an operator look.
pub const BOUNDS: [u64; 14] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 120_000];

/// How long something took, each time. Plain data: whoever shares it has a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By the first bound that is not below; beyond the last one in the last.
    buckets: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub const fn new() -> Self {
        Self { buckets: [0; BOUNDS.len() + 1], sum: Duration::ZERO }
    }

    pub fn observe(&mut self, took: Duration) {
        let at = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < took);
        self.buckets[at] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of it together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many took no longer than each of [`BOUNDS`].
    pub fn cumulative(&self) -> impl Iterator<Item = u64> {
        let below = self.buckets[..BOUNDS.len()].iter();
        below.scan(0, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_falls_with_its_guards() {
        let level = Level::new();
        let (first, second) = (level.raise(), level.raise());
        drop(first);
        assert_eq!(level.value(), 1);
        drop(second);
        assert_eq!(level.value(), 0);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        for micros in [0, 1000, 1001, 5000, 200_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative[..3], [2, 4, 4]);
        assert_eq!(cumulative.last(), Some(&4), "beyond the last bound");
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum(), Duration::from_micros(200_007_001));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_in_between(millis in proptest::collection::vec(0_u64..200_000, 0..50)) {
            let mut histogram = Histogram::default();
            millis.iter().for_each(|one| histogram.observe(Duration::from_millis(*one)));
            for (bound, count) in BOUNDS.iter().zip(histogram.cumulative()) {
                let expected = millis.iter().filter(|one| *one <= bound).count();
                proptest::prop_assert_eq!(count, expected as u64);
            }
            proptest::prop_assert_eq!(histogram.count(), millis.len() as u64);
        }
    }
}
