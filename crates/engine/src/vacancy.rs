//! When the place of an open case may be let go: nobody has had a word for the case for long, and nothing is there any more.
//!
//! Like a dwell, both are known time alone: between two consecutive clear looks of the camera that filed the case, while its
//! rule worked. What is blind, unwatched, moved or beyond a gap adds nothing, and no clock is asked, so a clock that is set
//! changes nothing either.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Known time for which a place must have been empty: a day and a night, so that whatever parks there overnight has left, and
/// what comes next is another thing. (For "cleared" the domain asks three clear looks over ten minutes.)
const MIN_EMPTY: Duration = Duration::from_hours(24);

/// Of one open case. Begins anew with each word of the platform.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vacancy {
    /// Without a word.
    silent: Duration,
    /// With nothing there, since its thing was last seen.
    empty: Duration,
    /// Of the time to come, so much is not known to be empty.
    doubt: Duration,
}

impl Vacancy {
    /// Nothing was there at the look that ended `step`.
    pub(super) fn add_empty(&mut self, step: Duration) {
        let doubted = step.min(self.doubt);
        self.silent += step;
        self.doubt -= doubted;
        self.empty += step - doubted;
    }

    /// Something was there, at the look that ended `step`, that may be the thing. One box is nearly always a false one, so it
    /// does not begin anew; but where each grace shows one, the thing may well be there, and none of the time is empty.
    pub(super) fn add_doubtful(&mut self, step: Duration, grace: Duration) {
        self.silent += step;
        self.doubt = grace;
    }

    /// Its thing was seen, or another at its site.
    pub(super) fn reset_empty(&mut self) {
        (self.empty, self.doubt) = (Duration::ZERO, Duration::ZERO);
    }

    /// True where nobody had a word for `silence`, and the place is empty for long enough.
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
    fn a_box_now_and_then_costs_its_grace_and_one_in_each_grace_holds() {
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
    fn a_long_step_outlasts_a_doubt() {
        let mut vacancy = Vacancy::default();
        vacancy.add_doubtful(TEN, GRACE);
        vacancy.add_empty(90 * TEN);
        assert_eq!(vacancy.empty, 84 * TEN);
    }

    #[test]
    fn both_silence_and_emptiness_are_asked() {
        let hours = Duration::from_hours;
        let mut vacancy = Vacancy::default();
        vacancy.add_empty(hours(167));
        assert!(!vacancy.may_withdraw(hours(168)));
        vacancy.reset_empty();
        vacancy.add_empty(hours(23));
        assert!(!vacancy.may_withdraw(hours(168)), "a thing was there yesterday");
        vacancy.add_empty(hours(1));
        assert!(vacancy.may_withdraw(hours(168)));
    }
}
