//! Whether the wall clock is believed: enough to sign cases with its time, and enough to delete evidence by its age.
//!
//! A pure state machine: the caller reads the clocks. Deleting asks for more than filing, because a wrong time of a case can
//! be explained later, but a deleted original is gone.

use std::{
    fmt,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::{message, message::Message};

/// No clock that is right shows an earlier time than this: 2026-01-01T00:00:00Z, when the program was written. A box without a
/// clock battery starts in 1970 or 2000.
const EARLIEST: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A difference between wall clock and monotonic clock from which it counts as a step: GA/T 832 allows evidence to be off by this
/// much. Synchronisation by slewing stays far below it from one reading to the next.
const STEP: SignedDuration = SignedDuration::from_secs(1);

/// The wall clock may be this much earlier than a time known to have passed: such a difference does not matter to a case.
const BEHIND: SignedDuration = SignedDuration::from_mins(1);

/// A box that was off may find its clock this much later than the newest time known to have passed.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// A doubted clock that has run this long without another step is believed.
const CONFIRMED_AFTER: Duration = Duration::from_hours(1);

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock.
    pub monotonic: Instant,
    /// Whether the kernel considers the wall clock synchronised ([`super::try_read`]).
    pub is_synchronised: bool,
}

impl ClockReading {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            monotonic: Instant::now(),
            is_synchronised: super::try_read().is_some(),
        }
    }
}

/// Why the wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDoubt {
    /// It shows a time before 2026.
    NotSet,
    /// It showed `wall` although `known` had passed.
    Behind {
        /// What the clock showed.
        wall: Timestamp,
        /// The latest time known to have passed.
        known: Timestamp,
    },
    /// It showed `wall`, more than a day after the latest time known to have passed.
    Ahead {
        /// What the clock showed.
        wall: Timestamp,
        /// The latest time known to have passed.
        known: Timestamp,
    },
    /// It was set by this much.
    Stepped(SignedDuration),
    /// Nothing keeps it right.
    NotSynchronised,
}

impl ClockDoubt {
    /// The doubt and its remedy as a sentence.
    pub fn message(&self) -> Message {
        let seconds = |at: &Timestamp| format!("{at:.0}");
        match self {
            Self::NotSet => message!(
                "the clock shows a time before {earliest}; synchronise it with chrony or systemd-timesyncd",
                earliest = EARLIEST.to_string()
            ),
            Self::Behind { wall, known } => message!(
                "the clock showed {wall}, earlier than the newest known time {known}; synchronise it with chrony or systemd-timesyncd, or wait until it has run for an hour without a step",
                wall = seconds(wall),
                known = seconds(known)
            ),
            Self::Ahead { wall, known } => message!(
                "the clock showed {wall}, more than a day after the newest known time {known}; synchronise it with chrony or systemd-timesyncd, or wait until it has run for an hour without a step",
                wall = seconds(wall),
                known = seconds(known)
            ),
            Self::Stepped(by) => message!(
                "the clock was set by {seconds} s; it is believed again once it has run for an hour without another step",
                seconds = format!("{:+.1}", by.as_secs_f64())
            ),
            Self::NotSynchronised => {
                "the clock is not synchronised; synchronise it with chrony or systemd-timesyncd".into()
            }
        }
    }
}

impl fmt::Display for ClockDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// The judgement of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAssessment {
    /// The wall clock was set by this much since the last reading.
    pub step: Option<SignedDuration>,
    /// Whether a case may be signed with this time. A synchronised clock may; so may one that is not, if the time fits what is
    /// known.
    pub filing: Result<(), ClockDoubt>,
    /// Whether evidence may be deleted for its age at this time: the clock is synchronised, and if it was ever doubted, it has
    /// run for an hour without a step since.
    pub deletion: Result<(), ClockDoubt>,
}

/// Judges the wall clock, reading by reading.
#[derive(Debug)]
pub struct ClockTrust {
    /// The latest time known to have passed.
    known: Option<Timestamp>,
    last: Option<ClockReading>,
    /// Why the clock is doubted, and since when.
    doubt: Option<(ClockDoubt, Instant)>,
}

impl ClockTrust {
    /// `newest` is the time of the newest record that was written with a believed clock; `None` if there is none yet.
    pub fn new(newest: Option<Timestamp>) -> Self {
        Self {
            known: newest,
            last: None,
            doubt: None,
        }
    }

    /// Judges a reading. Readings must be in order, and at most minutes apart.
    pub fn assess(&mut self, reading: ClockReading) -> ClockAssessment {
        let step = self.last.and_then(|last| step(last, reading));
        if self.last.is_none() || step.is_some() {
            let doubt = self.compare(reading.wall).or(step.map(ClockDoubt::Stepped));
            self.doubt = doubt.map(|doubt| (doubt, reading.monotonic));
        }
        self.last = Some(reading);
        self.doubt = self
            .doubt
            .filter(|(_, since)| reading.monotonic.saturating_duration_since(*since) < CONFIRMED_AFTER);
        let doubt = self.doubt.map(|(doubt, _)| doubt);
        let is_set = reading.wall >= EARLIEST;
        let filing = match doubt {
            _ if !is_set => Err(ClockDoubt::NotSet),
            Some(doubt @ (ClockDoubt::Behind { .. } | ClockDoubt::Ahead { .. })) if !reading.is_synchronised => {
                Err(doubt)
            }
            _ => Ok(()),
        };
        let deletion = match doubt {
            _ if filing.is_err() => filing,
            _ if !reading.is_synchronised => Err(ClockDoubt::NotSynchronised),
            Some(doubt) => Err(doubt),
            None => Ok(()),
        };
        if filing.is_ok() {
            self.known = Some(reading.wall);
        }
        ClockAssessment { step, filing, deletion }
    }

    fn compare(&self, wall: Timestamp) -> Option<ClockDoubt> {
        let known = self.known?;
        let later = wall.duration_since(known);
        if later > AHEAD {
            Some(ClockDoubt::Ahead { wall, known })
        } else if later < -BEHIND {
            Some(ClockDoubt::Behind { wall, known })
        } else {
            None
        }
    }
}

/// How much the wall clock was set between two readings.
fn step(before: ClockReading, after: ClockReading) -> Option<SignedDuration> {
    let elapsed = after.monotonic.saturating_duration_since(before.monotonic);
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
    let by = after.wall.duration_since(before.wall).saturating_sub(elapsed);
    (by.abs() >= STEP).then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;

    /// A box whose newest chain line is `chain` seconds after [`NOON`]; its clocks can be moved.
    struct Node {
        trust: ClockTrust,
        start: Instant,
        elapsed: i64,
        wall: i64,
        is_synchronised: bool,
    }

    /// 2026-06-01T12:00:00Z.
    const NOON: i64 = 1_780_315_200;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOON + second).unwrap()
    }

    impl Node {
        fn new(chain: Option<i64>, wall: i64, is_synchronised: bool) -> Self {
            Self {
                trust: ClockTrust::new(chain.map(at)),
                start: Instant::now(),
                elapsed: 0,
                wall,
                is_synchronised,
            }
        }

        fn read(&mut self) -> ClockAssessment {
            self.trust.assess(ClockReading {
                wall: at(self.wall),
                monotonic: self.start + Duration::from_secs(self.elapsed.unsigned_abs()),
                is_synchronised: self.is_synchronised,
            })
        }

        /// Lets time pass, with a reading every minute; returns the last one.
        fn pass(&mut self, seconds: i64) -> ClockAssessment {
            let mut last = None;
            for _ in 0..seconds / 60 {
                self.elapsed += 60;
                self.wall += 60;
                last = Some(self.read());
            }
            last.unwrap()
        }
    }

    fn shown(result: Result<(), ClockDoubt>) -> String {
        result.map_or_else(|doubt| doubt.to_string(), |()| String::new())
    }

    #[test]
    fn a_synchronised_clock_that_fits_the_chain_is_believed_at_once() {
        for chain in [None, Some(0), Some(-DAY + 60)] {
            let assessment = Node::new(chain, 0, true).read();
            assert_eq!((assessment.filing, assessment.deletion), (Ok(()), Ok(())), "{chain:?}");
        }
    }

    #[test]
    fn an_unsynchronised_clock_that_fits_the_chain_may_file_and_never_delete() {
        let mut node = Node::new(Some(-60), 0, false);
        assert_eq!(node.read().filing, Ok(()));
        assert_eq!(node.pass(3 * HOUR).deletion, Err(ClockDoubt::NotSynchronised));
    }

    #[test]
    fn a_clock_a_year_ahead_does_not_delete() {
        let mut node = Node::new(Some(0), YEAR, false);
        let first = node.read();
        assert!(matches!(first.filing, Err(ClockDoubt::Ahead { .. })), "{first:?}");
        assert!(matches!(first.deletion, Err(ClockDoubt::Ahead { .. })), "{first:?}");
        // A synchronised clock may file at once, but does not delete within the hour.
        node.is_synchronised = true;
        let later = node.pass(HOUR / 2);
        assert_eq!(later.filing, Ok(()));
        assert!(shown(later.deletion).contains("more than a day after"), "{later:?}");
        assert_eq!(node.pass(HOUR / 2).deletion, Ok(()));
    }

    #[test]
    fn a_clock_ahead_that_is_corrected_within_the_hour_never_deleted() {
        let mut node = Node::new(Some(0), YEAR, false);
        node.read();
        node.wall -= YEAR;
        node.is_synchronised = true;
        let corrected = node.read();
        assert_eq!(corrected.step, Some(SignedDuration::from_secs(-YEAR)));
        assert_eq!(corrected.filing, Ok(()));
        assert!(shown(corrected.deletion).contains("set by"), "{corrected:?}");
        assert!(node.pass(HOUR - 60).deletion.is_err());
        assert_eq!(node.pass(60).deletion, Ok(()));
    }

    #[test]
    fn a_step_while_running_suspends_deletion_and_holds_an_implausible_time() {
        let mut node = Node::new(None, 0, true);
        assert_eq!(node.pass(60).step, None);
        node.wall += YEAR;
        node.is_synchronised = false;
        let stepped = node.read();
        assert_eq!(stepped.step, Some(SignedDuration::from_secs(YEAR)));
        assert!(stepped.filing.is_err() && stepped.deletion.is_err(), "{stepped:?}");
        // Set back: the time fits what was known before the first step.
        node.wall -= YEAR;
        let back = node.read();
        assert_eq!(back.filing, Ok(()));
        node.is_synchronised = true;
        assert!(shown(node.read().deletion).contains("set by -31536000.0 s"), "{back:?}");
    }

    #[test]
    fn a_clock_set_back_holds_cases_until_it_is_synchronised_or_has_run_for_an_hour() {
        let mut node = Node::new(Some(0), -HOUR, false);
        assert!(shown(node.read().filing).contains("earlier than"), "{:?}", node.read());
        assert!(node.pass(HOUR - 60).filing.is_err());
        assert_eq!(node.pass(60).filing, Ok(()));
        let mut node = Node::new(Some(0), -HOUR, false);
        assert!(node.read().filing.is_err());
        node.is_synchronised = true;
        assert_eq!(node.read().filing, Ok(()));
    }

    #[test]
    fn a_clock_that_was_never_set_is_not_believed_however_long_it_runs() {
        let year_2000 = 946_684_800 - NOON;
        for is_synchronised in [false, true] {
            let mut node = Node::new(None, year_2000, is_synchronised);
            assert_eq!(node.read().filing, Err(ClockDoubt::NotSet));
            assert_eq!(node.pass(3 * HOUR).filing, Err(ClockDoubt::NotSet));
            // Once it is set, cases are filed; nothing is deleted for an hour.
            node.wall = 0;
            node.is_synchronised = true;
            let set = node.read();
            assert_eq!(set.filing, Ok(()));
            assert!(set.step.is_some() && set.deletion.is_err(), "{set:?}");
        }
    }

    #[test]
    fn slewing_is_not_a_step() {
        let mut node = Node::new(None, 0, true);
        for _ in 0..1000 {
            node.elapsed += 1;
            node.wall += 1;
            assert_eq!(node.read().step, None);
        }
    }
}
