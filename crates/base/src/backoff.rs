//! Delays between attempts to reconnect or resend.

use std::time::Duration;

/// Exponential backoff with jitter: the step doubles from `first` to `longest`, and each delay is drawn from the upper half
/// of the step, so that clients that failed together do not retry in step.
///
/// Pure: the caller draws the random number and sleeps.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff whose steps double from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The next delay. `jitter` is a random number in `0.0..=1.0`; 1.0 gives the full step, 0.0 half of it.
    pub fn next_delay(&mut self, jitter: f64) -> Duration {
        let step = self.step();
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * jitter)
    }

    /// The next delay after a connection that lasted for `lasted`.
    ///
    /// A connection of at least `healthy` resets the backoff, and so does one of ten times the current step, so that a peer
    /// that closes the connection every ten seconds does not end up with the longest delay.
    pub fn next_delay_after(&mut self, lasted: Duration, healthy: Duration, jitter: f64) -> Duration {
        if lasted >= healthy || lasted >= 10 * self.step() {
            self.reset();
        }
        self.next_delay(jitter)
    }

    /// After a success: the next delay is the shortest again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn step(&self) -> Duration {
        self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);
    const HEALTHY: Duration = Duration::from_secs(60);

    fn backoff() -> Backoff {
        Backoff::new(FIRST, LONGEST)
    }

    #[test]
    fn delays_double_to_the_longest_and_stay_there() {
        let mut backoff = backoff();
        let delays: Vec<_> = (0..200).map(|_| backoff.next_delay(1.0)).collect();
        assert_eq!(delays[..3], [FIRST, 2 * FIRST, 4 * FIRST]);
        assert!(delays.is_sorted());
        assert_eq!(delays[199], LONGEST);
    }

    #[test]
    fn jitter_covers_the_upper_half_of_the_step() {
        assert_eq!(backoff().next_delay(0.0), FIRST / 2);
        assert_eq!(backoff().next_delay(1.0), FIRST);
    }

    #[test]
    fn a_reset_starts_again_with_the_shortest_delay() {
        let mut backoff = backoff();
        for _ in 0..100 {
            backoff.next_delay(1.0);
        }
        backoff.reset();
        assert_eq!(backoff.next_delay(1.0), FIRST);
    }

    #[test]
    fn a_healthy_connection_resets() {
        let mut backoff = backoff();
        for _ in 0..20 {
            backoff.next_delay_after(Duration::ZERO, HEALTHY, 1.0);
        }
        let mut after = |lasted| backoff.next_delay_after(lasted, HEALTHY, 1.0);
        assert_eq!(after(Duration::from_secs(59)), LONGEST);
        assert_eq!(after(HEALTHY), FIRST);
    }

    #[test]
    fn a_connection_of_ten_times_the_step_resets() {
        let mut backoff = backoff();
        let mut after = |lasted| backoff.next_delay_after(lasted, HEALTHY, 1.0);
        assert_eq!(after(Duration::ZERO), FIRST);
        assert_eq!(after(10 * FIRST), 2 * FIRST);
        assert_eq!(after(20 * FIRST), 4 * FIRST);
        assert_eq!(after(80 * FIRST), FIRST);
    }
}
