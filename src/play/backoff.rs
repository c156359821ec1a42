//! How long a container that keeps ending is kept from starting: the kubelet's crash loop back-off.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// A life of this length makes the past forgotten.
const HEALTHY: Duration = Duration::from_secs(10 * 60);

/// The pause before the next start. The first restart comes at once.
#[derive(Debug, Default)]
pub struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// The pause after a life of this length: none, then 10 s, doubled each time up to 5 min.
    pub fn after(&mut self, life: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if life < HEALTHY => (last * 2).clamp(FIRST, LONGEST),
            _ => Duration::ZERO,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_container_has_lived_well() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<_> = (0..8).map(|_| back_off.after(short).as_secs()).collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.after(HEALTHY), Duration::ZERO);
        assert_eq!(back_off.after(short), FIRST);
    }
}
