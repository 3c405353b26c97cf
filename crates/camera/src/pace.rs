//! Whether a stream's keyframes come often enough to live on them. Pure: time is passed in.

use std::time::Duration;

/// A gap that no look period makes shorter: smart codecs stretch a GOP to ten seconds and more, and live well.
const LEAST_LIMIT: Duration = Duration::from_secs(15);
/// Weight of the newest interval in the smoothed one: follows a changed GOP within a few keyframes.
const NEWEST: f64 = 0.3;

/// Keyframes of one connection, in time since it began.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    limit: Duration,
    last_key: Option<Duration>,
    interval: Option<Duration>,
    too_slow: bool,
}

impl Pace {
    /// For a camera that is looked at every `look_every`.
    pub(super) fn new(look_every: Duration) -> Self {
        Self {
            limit: LEAST_LIMIT.max(2 * look_every),
            last_key: None,
            interval: None,
            too_slow: false,
        }
    }

    /// An access unit arrived at `now`. True while keyframes are too rare.
    pub(super) fn frame(&mut self, now: Duration, key: bool) -> bool {
        let gap = now.saturating_sub(self.last_key.unwrap_or_default());
        if gap > self.limit {
            self.too_slow = true;
        }
        if key {
            if self.last_key.is_some() {
                self.interval = Some(match self.interval {
                    Some(old) => old.mul_f64(1.0 - NEWEST) + gap.mul_f64(NEWEST),
                    None => gap,
                });
                // Two keyframes within the limit of one another: they are back.
                if gap <= self.limit {
                    self.too_slow = false;
                }
            }
            self.last_key = Some(now);
        }
        self.too_slow
    }

    /// Smoothed interval between keyframes.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The longest gap that is lived with.
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
    fn a_ten_second_gop_is_no_reason() {
        let mut p = Pace::new(s(10.0));
        for i in 0..1000 {
            assert!(!p.frame(s(f64::from(i) * 0.04), i % 250 == 0));
        }
        assert_eq!(p.interval().map(|d| d.as_secs()), Some(10));
    }

    #[test]
    fn no_keyframe_at_all_is_noticed_after_the_limit() {
        let mut p = Pace::new(s(1.0));
        assert!(!p.frame(s(15.0), false));
        assert!(p.frame(s(15.1), false));
        assert!(Pace::new(s(60.0)).frame(s(121.0), false));
        assert!(!Pace::new(s(60.0)).frame(s(119.0), false));
    }

    #[test]
    fn keyframes_that_come_back_end_it() {
        let mut p = Pace::new(s(1.0));
        p.frame(s(0.0), true);
        assert!(p.frame(s(16.0), false));
        assert!(p.frame(s(40.0), true), "one swallow");
        assert!(p.frame(s(41.0), false));
        assert!(!p.frame(s(42.0), true));
    }
}
