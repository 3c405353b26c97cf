//! How long the place of an open case has been looked at and found empty: when nobody ends a case, its place must be let go.
//!
//! Like a dwell, it is known time alone: between two consecutive clear looks of the camera that filed the case, while its rule
//! worked. What is blind, unwatched, moved or beyond a gap adds nothing, and no clock is asked, so a clock that is set changes
//! nothing either.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Of one open case. Begins anew whenever its thing is seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vacancy {
    empty: Duration,
    /// Of the time to come, so much does not count.
    doubt: Duration,
}

impl Vacancy {
    /// Nothing was there at the look that ended `step`.
    pub(super) fn passed(&mut self, step: Duration) {
        let doubted = step.min(self.doubt);
        self.doubt -= doubted;
        self.empty += step - doubted;
    }

    /// Something was there that may be the thing. One box is nearly always a false one, so it does not begin anew; but where
    /// each grace shows one, the thing may well be there, and no time counts.
    pub(super) fn doubted(&mut self, grace: Duration) {
        self.doubt = grace;
    }

    /// Known time for which the place was empty.
    pub(super) fn empty(&self) -> Duration {
        self.empty
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
        (0..100).for_each(|_| vacancy.passed(TEN));
        assert_eq!(vacancy.empty(), 100 * TEN);
        vacancy.doubted(GRACE);
        (0..100).for_each(|_| vacancy.passed(TEN));
        assert_eq!(vacancy.empty(), 194 * TEN);
        for _ in 0..100 {
            vacancy.doubted(GRACE);
            (0..6).for_each(|_| vacancy.passed(TEN));
        }
        assert_eq!(vacancy.empty(), 194 * TEN);
    }

    #[test]
    fn a_long_step_outlasts_a_doubt() {
        let mut vacancy = Vacancy::default();
        vacancy.doubted(GRACE);
        vacancy.passed(90 * TEN);
        assert_eq!(vacancy.empty(), 84 * TEN);
    }
}
