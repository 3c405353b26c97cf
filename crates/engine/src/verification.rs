//! Whether the thing of a case is still there, where a crew says that it dealt with it or the platform asks （智能核查）.
//!
//! "Cleared" is a positive finding: clear looks in a row, over minutes, at a place that nothing hides and nothing lies at. "Still
//! present" is one, too. Whatever is neither is unverifiable: a view that is dark, blocked or moved gives no look that counts, and so
//! never says that something is gone. What could not be verified in time is said so once, and a verdict is still given when one can be.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{plus, since, types::Verification};

/// Of the looks that count the thing must have been seen in so many, one in: a detector misses things, and hardly ever sees a
/// thing for minutes where none is.
const MAX_LOOKS_PER_SIGHTING: u32 = 3;

/// Of the newest three looks two must have seen it, for the same reasons.
const NEWEST_MASK: u8 = 0b111;
const MIN_SEEN_OF_NEWEST: u32 = 2;

/// A place that is empty for this part of the time that a verdict takes may have been cleared just now.
const RESET_FRACTION: u32 = 5;

/// What a look shows of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// The thing, or one like it.
    Present,
    /// Something that may be a rest of it.
    Unclear,
    /// Nothing.
    Empty,
}

/// A question that waits for its answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct VerificationTally {
    /// Looks that counted, and those of them that saw the thing.
    all: (u32, u32),
    /// The same since a while in which the place was empty.
    lately: (u32, u32),
    /// The first of these.
    first: Option<Timestamp>,
    /// Whether each of the newest looks saw it, the newest last.
    newest: u8,
    /// The first and the number of the looks in a row, up to the newest, that showed nothing.
    empty: Option<(Timestamp, u32)>,
}

/// What the platform is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Seen.
    StillPresent,
    /// Seen to be gone.
    Cleared,
    /// Neither could be seen.
    Unverifiable,
}

impl Finding {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StillPresent => "still_present",
            Self::Cleared => "cleared",
            Self::Unverifiable => "unverifiable",
        }
    }
}

impl VerificationTally {
    /// A clear look at the place; what it decides.
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
                let is_often = seen.saturating_mul(MAX_LOOKS_PER_SIGHTING) >= looks && self.newest.count_ones() >= MIN_SEEN_OF_NEWEST;
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
                    // It may have been taken away: what was seen before does not make a thing of a false box now.
                    (self.first, self.lately) = (Some(start), (looks, 0));
                }
                is_long(start, looks, how.over).then_some(Finding::Cleared)
            }
        }
    }

    /// Looks that counted, and those of them that saw the thing.
    pub(super) fn counts(&self) -> (u32, u32) {
        self.all
    }
}

/// What the platform, or a crew, wants to know of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// When it was asked, or is to be.
    pub asked_at: Timestamp,
    /// It was said that this could not be verified in time.
    #[serde(default, rename = "is_told")]
    pub is_reported: bool,
}

impl Question {
    /// Asked at `at`.
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            asked_at: at,
            is_reported: false,
        }
    }

    /// When it is said that it could not be verified; `None` where it was said.
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

    /// The first verdict of looks every `every` seconds, and at which look.
    fn verdict(every: i64, seen: &[Occupancy]) -> Option<(usize, Finding)> {
        let mut tally = VerificationTally::default();
        seen.iter().enumerate().find_map(|(i, occupancy)| {
            let at = Timestamp::from_second(i as i64 * every).unwrap();
            tally.add_look(at, *occupancy, &how()).map(|finding| (i, finding))
        })
    }

    use Occupancy::{Unclear as D, Empty as E, Present as T};

    #[test]
    fn three_looks_over_ten_minutes_decide_and_fewer_or_shorter_do_not() {
        assert_eq!(verdict(300, &[E, E, E]), Some((2, Finding::Cleared)));
        assert_eq!(verdict(300, &[T, T, T]), Some((2, Finding::StillPresent)));
        assert_eq!(verdict(600, &[E, E]), None, "two looks");
        assert_eq!(verdict(10, &[E; 60]), None, "ten seconds short");
        assert_eq!(verdict(10, &[E; 61]), Some((60, Finding::Cleared)));
    }

    #[test]
    fn what_is_cleared_while_it_is_looked_at_is_cleared() {
        assert_eq!(verdict(300, &[T, E, E, E]), Some((3, Finding::Cleared)));
        assert_eq!(
            verdict(300, &[E, T, E, T]),
            Some((3, Finding::StillPresent)),
            "it was only hidden"
        );
    }

    #[test]
    fn a_false_box_now_and_then_neither_clears_nor_keeps() {
        let seen: Vec<Occupancy> = (0..200).map(|i| if i % 10 == 9 { T } else { E }).collect();
        assert_eq!(verdict(10, &seen), None);
        assert_eq!(verdict(120, &seen), Some((5, Finding::Cleared)), "slower looks");
        assert_eq!(verdict(300, &[D; 20]), None, "a rest is neither");
    }
}
