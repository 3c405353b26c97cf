//! Decides whether a stream's keyframes come often enough to decode nothing else. Pure: time is passed in.

use std::time::Duration;

/// Lower bound of the longest tolerated gap: smart codecs stretch a GOP to ten seconds and more.
const MIN_LIMIT: Duration = Duration::from_secs(15);
/// Weight of the newest interval in the moving average; it follows a changed GOP within a few keyframes.
const NEWEST_WEIGHT: f64 = 0.3;

fn limit_for(look_every: Duration) -> Duration {
    MIN_LIMIT.max(2 * look_every)
}

/// The keyframe interval of one connection. Times are since the connection began.
#[derive(Debug, Clone)]
pub(super) struct KeyframeCadence {
    limit: Duration,
    last_keyframe: Option<Duration>,
    interval: Option<Duration>,
    too_rare: bool,
}

impl KeyframeCadence {
    /// For a camera with the look period `look_every`.
    pub(super) fn new(look_every: Duration) -> Self {
        Self {
            limit: limit_for(look_every),
            last_keyframe: None,
            interval: None,
            too_rare: false,
        }
    }

    /// Judges by another look period from the next update on.
    pub(super) fn set_look_every(&mut self, look_every: Duration) {
        self.limit = limit_for(look_every);
    }

    /// Records that a complete keyframe, or anything else, arrived at `now`. Returns true while keyframes are too rare.
    pub(super) fn update(&mut self, now: Duration, is_keyframe: bool) -> bool {
        let gap = now.saturating_sub(self.last_keyframe.unwrap_or_default());
        if gap > self.limit {
            self.too_rare = true;
        }
        if is_keyframe {
            if self.last_keyframe.is_some() {
                self.interval = Some(match self.interval {
                    Some(old) => old.mul_f64(1.0 - NEWEST_WEIGHT) + gap.mul_f64(NEWEST_WEIGHT),
                    None => gap,
                });
                // One gap within the limit is enough to recover.
                if gap <= self.limit {
                    self.too_rare = false;
                }
            }
            self.last_keyframe = Some(now);
        }
        self.too_rare
    }

    /// Whether keyframes are too rare, by the newest update.
    pub(super) fn is_too_rare(&self) -> bool {
        self.too_rare
    }

    /// Smoothed interval between keyframes.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The longest gap between keyframes that is tolerated.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn ten_second_gop_is_tolerated() {
        let mut c = KeyframeCadence::new(s(10.0));
        for i in 0..1000 {
            assert!(!c.update(s(f64::from(i) * 0.04), i % 250 == 0));
        }
        assert_eq!(c.interval().map(|d| d.as_secs()), Some(10));
    }

    #[test]
    fn stream_without_keyframes_is_too_rare_after_the_limit() {
        let mut c = KeyframeCadence::new(s(1.0));
        assert!(!c.update(s(15.0), false));
        assert!(c.update(s(15.1), false));
        assert!(KeyframeCadence::new(s(60.0)).update(s(121.0), false));
        assert!(!KeyframeCadence::new(s(60.0)).update(s(119.0), false));
    }

    #[test]
    fn another_look_period_counts_at_once() {
        let mut c = KeyframeCadence::new(s(60.0));
        c.update(s(0.0), true);
        assert!(!c.update(s(100.0), false));
        c.set_look_every(s(1.0));
        assert!(c.update(s(100.1), false));
        c.set_look_every(s(60.0));
        assert!(!c.update(s(101.0), true));
    }

    #[test]
    fn two_keyframes_within_the_limit_recover() {
        let mut c = KeyframeCadence::new(s(1.0));
        c.update(s(0.0), true);
        assert!(c.update(s(16.0), false));
        assert!(c.update(s(40.0), true), "one keyframe is not enough");
        assert!(c.update(s(41.0), false));
        assert!(!c.update(s(42.0), true));
    }
}
