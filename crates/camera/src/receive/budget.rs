//! What one camera may send, and how long it may occupy the receive thread at a time. Pure: time is passed in.

use std::time::{Duration, Instant};

/// Most bytes a second, on average: 200 Mb/s. 4K with keyframes only stays under 100 Mb/s.
pub const MAX_BYTES_PER_SECOND: u32 = 25_000_000;
/// Most RTP packets a second, on average: 200 Mb/s in packets of 1 kB.
pub const MAX_PACKETS_PER_SECOND: u32 = 25_000;
/// So many seconds of either may come at once, as cameras send what they buffered after a connection.
const BURST_SECONDS: f64 = 2.0;
/// Longest time for which a camera is served before the others get their turn.
const TURN: Duration = Duration::from_millis(1);

/// A token bucket.
#[derive(Debug)]
struct Allowance {
    per_second: f64,
    left: f64,
}

impl Allowance {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second * BURST_SECONDS,
        }
    }

    fn refill(&mut self, elapsed: Duration) {
        let most = self.per_second * BURST_SECONDS;
        self.left = (self.left + elapsed.as_secs_f64() * self.per_second).min(most);
    }

    /// Returns false if more is spent than is left.
    fn spend(&mut self, count: u64) -> bool {
        self.left -= count as f64;
        self.left >= 0.0
    }
}

/// What a camera sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overspent {
    pub(super) what: &'static str,
    pub(super) limit: u32,
}

/// What one connection may still send.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Allowance,
    packets: Allowance,
    refilled_at: Instant,
    turn_began: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bytes: Allowance::new(MAX_BYTES_PER_SECOND),
            packets: Allowance::new(MAX_PACKETS_PER_SECOND),
            refilled_at: now,
            turn_began: now,
        }
    }

    /// Takes what arrived from the budget.
    ///
    /// # Errors
    /// The camera sends too much.
    pub(super) fn spend(&mut self, bytes: u64, packets: u64, now: Instant) -> Result<(), Overspent> {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        self.refilled_at = now;
        self.bytes.refill(elapsed);
        self.packets.refill(elapsed);
        let overspent = |what, limit| Err(Overspent { what, limit });
        if !self.packets.spend(packets) {
            return overspent("packets", MAX_PACKETS_PER_SECOND);
        }
        if !self.bytes.spend(bytes) {
            return overspent("bytes", MAX_BYTES_PER_SECOND);
        }
        Ok(())
    }

    /// The camera is served again after a pause.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.turn_began = now;
    }

    /// The others have waited long enough.
    pub(super) fn is_turn_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.turn_began) >= TURN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(
            budget.spend(40_000_000, 40_000, now),
            Ok(()),
            "buffered for two seconds"
        );
        let flood = budget.spend(1_000, 20_000, now).unwrap_err();
        assert_eq!((flood.what, flood.limit), ("packets", MAX_PACKETS_PER_SECOND));
        let mut budget = Budget::new(now);
        assert_eq!(budget.spend(60_000_000, 1, now).unwrap_err().what, "bytes");
    }

    #[test]
    fn a_rate_below_the_limit_passes_for_ever() {
        let mut now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..10_000 {
            now += Duration::from_millis(10);
            assert_eq!(budget.spend(240_000, 240, now), Ok(()));
        }
    }

    #[test]
    fn a_turn_ends_after_a_millisecond() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert!(!budget.is_turn_over(now + Duration::from_micros(999)));
        assert!(budget.is_turn_over(now + TURN));
        budget.begin_turn(now + TURN);
        assert!(!budget.is_turn_over(now + TURN));
    }
}
