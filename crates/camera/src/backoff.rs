//! How long to wait before a camera is tried again. Pure: the caller sleeps.

use std::time::Duration;

/// First wait. A camera that only hung up is back at once; a rebooting one takes a minute anyway.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait. A camera that comes back is seen within half a minute.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that held this long was healthy.
const HEALTHY: Duration = Duration::from_secs(60);

/// Doubling waits with jitter, so that the cameras behind one switch do not all come back in one instant.
#[derive(Debug, Clone, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait, after a connection that brought pictures for `live`. `chance` is in `0.0..1.0`.
    ///
    /// A minute of health starts anew, and so does ten times the wait it cost: a camera that hangs up every ten
    /// seconds is away for half of one, not for thirty.
    pub(super) fn failed(&mut self, live: Duration, chance: f64) -> Duration {
        if live >= HEALTHY || live >= 10 * self.base() {
            self.failures = 0;
        }
        let base = self.base();
        self.failures = self.failures.saturating_add(1);
        base.mul_f64(0.5 + 0.5 * chance)
    }

    fn base(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_stay_there() {
        let mut b = Backoff::default();
        let waits: Vec<_> = (0..200).map(|_| b.failed(Duration::ZERO, 1.0)).collect();
        assert_eq!(waits[0], FIRST);
        assert_eq!(waits[1], 2 * FIRST);
        assert!(waits.is_sorted());
        assert_eq!(waits[199], LONGEST);
    }

    #[test]
    fn jitter_is_half_of_the_wait() {
        assert_eq!(Backoff::default().failed(Duration::ZERO, 0.0), FIRST.mul_f64(0.5));
    }

    #[test]
    fn health_starts_anew() {
        let mut b = Backoff::default();
        for _ in 0..20 {
            b.failed(Duration::ZERO, 1.0);
        }
        assert_eq!(b.failed(Duration::from_secs(59), 1.0), LONGEST);
        assert_eq!(b.failed(HEALTHY, 1.0), FIRST);
        assert_eq!(b.failed(10 * FIRST, 1.0), 2 * FIRST);
        assert_eq!(b.failed(20 * FIRST, 1.0), 4 * FIRST);
        assert_eq!(b.failed(80 * FIRST, 1.0), FIRST, "ten times its wait");
    }
}
