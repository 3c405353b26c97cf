//! When an open case may be withdrawn: the platform has been silent for long, and the place is empty.
//!
//! Like the dwell, both count observed time only: between two consecutive clear looks of the camera that filed the
//! case, while its rule is active. Blind, unobserved and re-aimed time adds nothing. No clock is read, so setting the
//! clock has no effect.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Observed time for which the place must have been empty: a full day, so that anything parked there overnight has left
/// and whatever comes next is another object. (A `cleared` verdict needs three clear looks over ten minutes.)
const MIN_EMPTY: Duration = Duration::from_hours(24);

/// Progress of one open case towards withdrawal. Starts over with each reply of the platform.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vacancy {
    /// Time without a reply.
    silent: Duration,
    /// Time with an empty place since the object was last seen.
    empty: Duration,
    /// Upcoming time that does not count as empty.
    doubt: Duration,
}

impl Vacancy {
    /// The look that ended `step` found nothing.
    pub(super) fn add_empty(&mut self, step: Duration) {
        let doubted = step.min(self.doubt);
        self.silent += step;
        self.doubt -= doubted;
        self.empty += step - doubted;
    }

    /// The look that ended `step` found something that may be the object. A single box is usually a false positive, so
    /// the empty time is kept; but if one appears in every `grace`, the object may well be there, and no time counts as
    /// empty.
    pub(super) fn add_doubtful(&mut self, step: Duration, grace: Duration) {
        self.silent += step;
        self.doubt = grace;
    }

    /// The object, or another one at its site, was seen.
    pub(super) fn reset_empty(&mut self) {
        (self.empty, self.doubt) = (Duration::ZERO, Duration::ZERO);
    }

    /// The least observed time until [`may_withdraw`](Self::may_withdraw).
    pub(super) fn least_time(&self, silence: Duration) -> Duration {
        let silent = silence.saturating_sub(self.silent);
        silent.max(silence.min(MIN_EMPTY).saturating_sub(self.empty))
    }

    /// True if the platform has been silent for `silence` and the place has been empty for long enough.
    pub(super) fn may_withdraw(&self, silence: Duration) -> bool {
        self.silent >= silence && self.empty >= silence.min(MIN_EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_mins(1);

    #[test]
    fn a_stray_box_costs_its_grace_and_one_in_every_grace_stops_the_count() {
        let mut vacancy = Vacancy::default();
        (0..100).for_each(|_| vacancy.add_empty(TEN));
        assert_eq!(vacancy.empty, 100 * TEN);
        vacancy.add_doubtful(TEN, GRACE);
        (0..100).for_each(|_| vacancy.add_empty(TEN));
        assert_eq!(vacancy.empty, 194 * TEN);
        for _ in 0..100 {
            vacancy.add_doubtful(TEN, GRACE);
            (0..6).for_each(|_| vacancy.add_empty(TEN));
        }
        assert_eq!(vacancy.empty, 194 * TEN);
        assert_eq!(vacancy.silent, 901 * TEN);
    }

    #[test]
    fn a_long_step_outlasts_the_grace() {
        let mut vacancy = Vacancy::default();
        vacancy.add_doubtful(TEN, GRACE);
        vacancy.add_empty(90 * TEN);
        assert_eq!(vacancy.empty, 84 * TEN);
    }

    #[test]
    fn silence_and_emptiness_are_both_required() {
        let hours = Duration::from_hours;
        let mut vacancy = Vacancy::default();
        vacancy.add_empty(hours(167));
        assert!(!vacancy.may_withdraw(hours(168)));
        vacancy.reset_empty();
        vacancy.add_empty(hours(23));
        assert!(!vacancy.may_withdraw(hours(168)), "an object was there yesterday");
        vacancy.add_empty(hours(1));
        assert!(vacancy.may_withdraw(hours(168)));
    }
}
