//! Delays between connection attempts.

use std::time::Duration;

/// Exponential backoff with jitter: 0.25 s doubling to 30 s, each delay drawn from its upper half, so that boxes that
/// lost the same broker do not reconnect in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next delay.
    pub(super) fn next(&mut self) -> Duration {
        let whole = Duration::from_millis(250).saturating_mul(1 << self.failures.min(7));
        self.failures += 1;
        whole.min(Duration::from_secs(30)).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// After a success: the next delay is the shortest again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_30_s_and_no_further() {
        let mut backoff = Backoff::default();
        for failures in 0..100 {
            let whole = Duration::from_millis(250 * (1 << failures.min(7))).min(Duration::from_secs(30));
            let pause = backoff.next();
            assert!(whole / 2 <= pause && pause <= whole, "{failures}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(250));
    }
}
