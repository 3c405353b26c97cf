//! Verifies whether the object of a case is still there, after a crew reports it fixed or the platform asks （智能核查）.
//!
//! "Cleared" is a positive finding: consecutive clear looks, over minutes, at an unobstructed and empty place. So is
//! "still present". Anything else is unverifiable: a dark, blocked or moved view yields no look that counts, so it
//! never clears a case. An expired question is reported once as unverifiable; a verdict still follows if one becomes
//! possible.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{plus, since, types::Verification};

/// The object must be seen in at least one of this many counted looks: a detector misses objects, but rarely sees one
/// for minutes where there is none.
const MAX_LOOKS_PER_SIGHTING: u32 = 3;

/// The newest three looks, of which two must have seen it, for the same reason.
const NEWEST_MASK: u8 = 0b111;
const MIN_SEEN_OF_NEWEST: u32 = 2;

/// A place that is empty for this fraction of the verdict's time may just have been cleared.
const RESET_FRACTION: u32 = 5;

/// What a look shows at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// The object, or one like it.
    Present,
    /// Something that may be a remainder of it.
    Unclear,
    /// Nothing.
    Empty,
}

/// The looks collected for an open question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct VerificationTally {
    /// Counted looks, and how many of them saw the object.
    all: (u32, u32),
    /// The same since the place was last empty for a while.
    lately: (u32, u32),
    /// The first of these looks.
    first: Option<Timestamp>,
    /// Whether each of the newest looks saw it, newest in bit 0.
    newest: u8,
    /// Start and number of the consecutive looks, up to the newest, that showed nothing.
    empty: Option<(Timestamp, u32)>,
}

/// Result of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The object was seen.
    StillPresent,
    /// The place was seen empty.
    Cleared,
    /// Neither could be established.
    Unverifiable,
}

impl Finding {
    /// The value used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StillPresent => "still_present",
            Self::Cleared => "cleared",
            Self::Unverifiable => "unverifiable",
        }
    }
}

impl VerificationTally {
    /// Adds a clear look at the place; returns the verdict if it decides one.
    pub(super) fn add_look(&mut self, at: Timestamp, occupancy: Occupancy, how: &Verification) -> Option<Finding> {
        let first = *self.first.get_or_insert(at);
        self.all.0 += 1;
        self.lately.0 += 1;
        self.newest = (self.newest << 1 | u8::from(occupancy == Occupancy::Present)) & NEWEST_MASK;
        let is_long = |start: Timestamp, looks: u32, over: Duration| looks >= how.looks && since(at, start) >= over;
        match occupancy {
            Occupancy::Present => {
                self.empty = None;
                self.all.1 += 1;
                self.lately.1 += 1;
                let (looks, seen) = self.lately;
                let is_often = seen.saturating_mul(MAX_LOOKS_PER_SIGHTING) >= looks
                    && self.newest.count_ones() >= MIN_SEEN_OF_NEWEST;
                (is_long(first, looks, how.over) && is_often).then_some(Finding::StillPresent)
            }
            Occupancy::Unclear => {
                self.empty = None;
                None
            }
            Occupancy::Empty => {
                let (start, looks) = self.empty.map_or((at, 1), |(start, looks)| (start, looks + 1));
                self.empty = Some((start, looks));
                if is_long(start, looks, how.over / RESET_FRACTION) {
                    // The object may have been removed: earlier sightings must not turn a false box into a verdict.
                    (self.first, self.lately) = (Some(start), (looks, 0));
                }
                is_long(start, looks, how.over).then_some(Finding::Cleared)
            }
        }
    }

    /// Counted looks, and how many of them saw the object.
    pub(super) fn counts(&self) -> (u32, u32) {
        self.all
    }
}

/// An open question about a case: is the object still there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// When it was asked, or becomes due.
    pub asked_at: Timestamp,
    /// It has been reported as unverifiable.
    #[serde(default, rename = "is_told")]
    pub is_reported: bool,
}

impl Question {
    /// A question asked at `at`.
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            asked_at: at,
            is_reported: false,
        }
    }

    /// When it expires as unverifiable; `None` once that has been reported.
    pub(super) fn deadline(&self, within: Duration) -> Option<Timestamp> {
        (!self.is_reported).then(|| plus(self.asked_at, within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how() -> Verification {
        Verification {
            looks: 3,
            over: Duration::from_mins(10),
            within: Duration::from_mins(60),
            hidden_by: Vec::new(),
        }
    }

    /// The first verdict and the index of its look, with one look every `every` seconds.
    fn verdict(every: i64, seen: &[Occupancy]) -> Option<(usize, Finding)> {
        let mut tally = VerificationTally::default();
        seen.iter().enumerate().find_map(|(i, occupancy)| {
            let at = Timestamp::from_second(i as i64 * every).unwrap();
            tally.add_look(at, *occupancy, &how()).map(|finding| (i, finding))
        })
    }

    use Occupancy::{Empty as E, Present as T, Unclear as D};

    #[test]
    fn three_looks_over_ten_minutes_decide_and_fewer_or_shorter_do_not() {
        assert_eq!(verdict(300, &[E, E, E]), Some((2, Finding::Cleared)));
        assert_eq!(verdict(300, &[T, T, T]), Some((2, Finding::StillPresent)));
        assert_eq!(verdict(600, &[E, E]), None, "two looks");
        assert_eq!(verdict(10, &[E; 60]), None, "ten seconds short");
        assert_eq!(verdict(10, &[E; 61]), Some((60, Finding::Cleared)));
    }

    #[test]
    fn clearance_is_noticed_while_looking() {
        assert_eq!(verdict(300, &[T, E, E, E]), Some((3, Finding::Cleared)));
        assert_eq!(
            verdict(300, &[E, T, E, T]),
            Some((3, Finding::StillPresent)),
            "only occluded"
        );
    }

    #[test]
    fn stray_false_boxes_decide_nothing() {
        let seen: Vec<Occupancy> = (0..200).map(|i| if i % 10 == 9 { T } else { E }).collect();
        assert_eq!(verdict(10, &seen), None);
        assert_eq!(verdict(120, &seen), Some((5, Finding::Cleared)), "slower looks");
        assert_eq!(verdict(300, &[D; 20]), None, "a remainder decides nothing");
    }
}
