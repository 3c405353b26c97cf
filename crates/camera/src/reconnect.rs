//! When to connect to a camera again. Pure: the caller draws the random number and sleeps.

use std::time::Duration;

use gridwatch_base::backoff::Backoff;

/// First delay. A camera that only closed the connection is back at once; a rebooting one takes a minute anyway.
const FIRST: Duration = Duration::from_millis(300);
/// Longest step between the beginnings of two attempts, so that a camera is back within 10 s of a fault's end, the
/// connection and its first keyframe included.
const LONGEST: Duration = Duration::from_secs(6);
/// Least wait after an attempt, however long it took.
const LEAST: Duration = Duration::from_millis(150);
/// Refused logins after which the attempts become rare: some cameras lock a user for half an hour after five.
const REFUSED_TRIES: u32 = 3;
/// First wait after so many refused logins. It doubles up to [`LONGEST_REFUSED`].
const FIRST_REFUSED: Duration = Duration::from_secs(2 * 60);
/// Longest wait after a refused login.
const LONGEST_REFUSED: Duration = Duration::from_secs(30 * 60);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// A login was sent, and the camera refused it.
    LoginRefused,
    /// It had delivered pictures, however few.
    Delivered,
    /// Anything else, and a camera that was cut off because it sent too much.
    Failed,
}

/// When to try next.
#[derive(Debug)]
pub(super) struct RetrySchedule {
    failures: Backoff,
    refusals: Backoff,
    refused: u32,
}

impl RetrySchedule {
    pub(super) fn new() -> Self {
        Self {
            failures: Backoff::new(FIRST, LONGEST),
            refusals: Backoff::new(FIRST_REFUSED, LONGEST_REFUSED),
            refused: 0,
        }
    }

    /// The wait after an attempt that took so long. `jitter` is a random number in `0.0..=1.0`.
    pub(super) fn wait(&mut self, end: ConnectionEnd, took: Duration, jitter: f64) -> Duration {
        match end {
            ConnectionEnd::Delivered => {
                self.failures.reset();
                self.login_changed();
                self.failures.next_delay(jitter)
            }
            ConnectionEnd::LoginRefused => {
                self.refused = self.refused.saturating_add(1);
                if self.refused < REFUSED_TRIES {
                    self.failures.next_delay(jitter)
                } else {
                    self.refusals.next_delay(jitter)
                }
            }
            // An attempt that hung until its time limit was long enough a wait.
            ConnectionEnd::Failed => self.failures.next_delay(jitter).saturating_sub(took).max(LEAST),
        }
    }

    /// Other credentials than those that were refused: they get their own tries.
    pub(super) fn login_changed(&mut self) {
        self.refused = 0;
        self.refusals.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(end: ConnectionEnd, count: usize) -> Vec<Duration> {
        let mut schedule = RetrySchedule::new();
        (0..count).map(|_| schedule.wait(end, Duration::ZERO, 1.0)).collect()
    }

    #[test]
    fn failures_are_retried_within_seconds_for_ever() {
        let waits = waits(ConnectionEnd::Failed, 50);
        assert_eq!(waits[0], FIRST);
        assert!(waits.is_sorted() && waits[49] == LONGEST, "{waits:?}");
    }

    #[test]
    fn an_attempt_that_hung_counts_as_a_wait() {
        let mut schedule = RetrySchedule::new();
        for _ in 0..20 {
            schedule.wait(ConnectionEnd::Failed, Duration::ZERO, 1.0);
        }
        assert_eq!(
            schedule.wait(ConnectionEnd::Failed, Duration::from_secs(10), 1.0),
            LEAST
        );
        let short = schedule.wait(ConnectionEnd::Failed, Duration::from_secs(2), 1.0);
        assert_eq!(short, LONGEST - Duration::from_secs(2));
    }

    #[test]
    fn a_camera_that_delivered_starts_from_the_beginning() {
        let mut schedule = RetrySchedule::new();
        for _ in 0..20 {
            schedule.wait(ConnectionEnd::Failed, Duration::ZERO, 1.0);
        }
        assert_eq!(schedule.wait(ConnectionEnd::Delivered, Duration::ZERO, 1.0), FIRST);
        assert_eq!(schedule.wait(ConnectionEnd::Failed, Duration::ZERO, 1.0), 2 * FIRST);
    }

    #[test]
    fn after_three_refused_logins_minutes_pass_between_tries() {
        let waits = waits(ConnectionEnd::LoginRefused, 12);
        let minutes = |m: u64| Duration::from_secs(60 * m);
        assert!(waits[..2].iter().all(|w| *w < Duration::from_secs(1)), "{waits:?}");
        assert_eq!(waits[2..7], [2, 4, 8, 16, 30].map(minutes));
        assert_eq!(waits[11], minutes(30));
    }

    #[test]
    fn other_credentials_get_their_own_tries() {
        let mut schedule = RetrySchedule::new();
        for _ in 0..6 {
            schedule.wait(ConnectionEnd::LoginRefused, Duration::ZERO, 1.0);
        }
        schedule.login_changed();
        let wait = schedule.wait(ConnectionEnd::LoginRefused, Duration::ZERO, 1.0);
        assert!(wait < Duration::from_secs(10), "{wait:?}");
    }
}
