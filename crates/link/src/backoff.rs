//! How long to wait before trying again.

use std::time::Duration;

/// Pauses that grow: 0.25 s, doubled to 30 s, each between half and whole, so that boxes that lost one broker do not
/// come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let whole = Duration::from_millis(250).saturating_mul(1 << self.failures.min(7));
        self.failures += 1;
        whole.min(Duration::from_secs(30)).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// It went well: the next pause is the shortest.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_never_beyond() {
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
