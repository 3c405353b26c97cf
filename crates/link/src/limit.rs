//! Limits on what other clients of the broker can make this box do: replies per case, and claims per box.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Replies about one case that are taken at once. A case has some ten in its life; a platform that was offline may send them
/// together, and repeat them.
const BURST: u32 = 20;

/// After a burst, one more reply about the case is taken per this time.
const REFILL: Duration = Duration::from_secs(30);

/// What happens to a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is taken.
    Taken,
    /// It is over the limit, as the first one since a reply about the case was taken.
    FirstOverLimit,
    /// It is over the limit like the one before.
    OverLimit,
}

/// A token bucket: so many at once, and one more per interval after that.
#[derive(Debug)]
pub(super) struct TokenBucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    refilled: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, to which one is added per `interval`, which must not be zero.
    pub(super) fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self {
            burst,
            interval,
            tokens: burst,
            refilled: now,
        }
    }

    /// Takes a token; false if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    fn is_full(&self) -> bool {
        self.tokens == self.burst
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(elapsed.as_nanos() / self.interval.as_nanos()).unwrap_or(self.burst);
        let more = more.min(self.burst);
        self.tokens = self.tokens.saturating_add(more).min(self.burst);
        self.refilled += self.interval * more;
        if self.is_full() {
            self.refilled = now;
        }
    }
}

/// Limits replies per case: a token bucket for each.
#[derive(Debug, Default)]
pub(super) struct ReplyLimit {
    cases: BTreeMap<String, CaseLimit>,
}

#[derive(Debug)]
struct CaseLimit {
    bucket: TokenBucket,
    is_over: bool,
}

impl ReplyLimit {
    /// Counts a reply about `case`, which must exist: the limit keeps a little for every case replied about lately.
    pub(super) fn admit(&mut self, case: &str, now: Instant) -> Admission {
        self.cases.retain(|id, limit| {
            limit.bucket.refill(now);
            !limit.bucket.is_full() || id == case
        });
        let limit = self.cases.entry(case.to_owned()).or_insert_with(|| CaseLimit {
            bucket: TokenBucket::new(BURST, REFILL, now),
            is_over: false,
        });
        let is_taken = limit.bucket.take(now);
        let was_over = std::mem::replace(&mut limit.is_over, !is_taken);
        match (is_taken, was_over) {
            (true, _) => Admission::Taken,
            (false, true) => Admission::OverLimit,
            (false, false) => Admission::FirstOverLimit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_about_one_case_is_limited_and_reported_once_and_delays_no_other_case() {
        let mut limit = ReplyLimit::default();
        let start = Instant::now();
        let taken = |limit: &mut ReplyLimit, case, at, n| {
            let replies: Vec<Admission> = (0..n).map(|_| limit.admit(case, at)).collect();
            let count = |what| replies.iter().filter(|a| **a == what).count();
            (count(Admission::Taken), count(Admission::FirstOverLimit))
        };
        assert_eq!(taken(&mut limit, "flooded", start, 3022), (BURST as usize, 1));
        assert_eq!(taken(&mut limit, "other", start, 5), (5, 0));
        // A minute later two more are taken, and the flood is reported once more.
        let minute = start + Duration::from_mins(1);
        assert_eq!(taken(&mut limit, "flooded", minute, 100), (2, 1));
        // After a quiet time nothing is kept about either.
        let later = start + Duration::from_hours(1);
        assert_eq!(taken(&mut limit, "third", later, 1), (1, 0));
        assert_eq!(limit.cases.len(), 1);
        assert_eq!(taken(&mut limit, "flooded", later, 100), (BURST as usize, 1));
    }

    #[test]
    fn replies_at_a_steady_pace_below_the_refill_are_all_taken() {
        let mut limit = ReplyLimit::default();
        let start = Instant::now();
        for n in 0..1000 {
            assert_eq!(limit.admit("case", start + REFILL * n), Admission::Taken, "{n}");
        }
    }
}
