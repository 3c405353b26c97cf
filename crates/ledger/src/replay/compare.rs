//! Which cases come and go between two replays of the same record, and why those that go are gone.
//!
//! A case's id is a hash of when it was first seen, so another threshold gives the same problem another id. What is the same
//! camera's, rule's and cell's at overlapping times is taken for the same problem, earlier or later.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ReplayedCase;
use gridwatch_engine::{Effect, NotFiled};

/// How far a candidate's end may lie from a case that is gone, to be told as its reason: a thing that left is told after the
/// rule's grace, which is minutes.
const MAX_REASON_DISTANCE: SignedDuration = SignedDuration::from_hours(1);

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum CaseChange {
    /// Only the new replay has it.
    New {
        /// It.
        case: ReplayedCase,
    },
    /// Only the old one had it.
    Gone {
        /// It.
        case: ReplayedCase,
        /// The reason nearest in time for which a candidate of that camera and rule was not filed.
        why: Option<LikelyReason>,
    },
    /// Both have it, at other times.
    Shifted {
        /// As it is now.
        case: ReplayedCase,
        /// As it was.
        was: ReplayedCase,
        /// Seconds by which it is confirmed later now.
        later_s: f64,
    },
}

/// Why a case may be gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LikelyReason {
    /// The engine's reason.
    pub reason: NotFiled,
    /// When the engine said so.
    pub at: Timestamp,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChangeCounts {
    /// The very same in both.
    pub same: u64,
    /// See [`CaseChange::Shifted`].
    pub shifted: u64,
    /// See [`CaseChange::New`].
    pub new: u64,
    /// See [`CaseChange::Gone`].
    pub gone: u64,
}

/// Compares while a replay runs. Holds the old cases, and of the new ones those that are not the very same.
#[derive(Debug)]
pub struct Comparison {
    old: BTreeMap<(String, String), Vec<OldCase>>,
    fresh: Vec<ReplayedCase>,
    same: u64,
}

#[derive(Debug)]
struct OldCase {
    case: ReplayedCase,
    is_same: bool,
    why: Option<LikelyReason>,
}

impl Comparison {
    /// Against these.
    pub fn new(old: impl IntoIterator<Item = ReplayedCase>) -> Self {
        let mut this = Self {
            old: BTreeMap::new(),
            fresh: Vec::new(),
            same: 0,
        };
        for case in old {
            let key = (case.camera.clone(), case.rule.clone());
            this.old.entry(key).or_default().push(OldCase {
                case,
                is_same: false,
                why: None,
            });
        }
        for cases in this.old.values_mut() {
            cases.sort_by(|a, b| (a.case.confirmed_at, &a.case.case_id).cmp(&(b.case.confirmed_at, &b.case.case_id)));
        }
        this
    }

    /// Takes what the new replay wants done.
    pub fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Open(case) => self.opened(ReplayedCase::from(&**case)),
                Effect::NotFiled {
                    camera,
                    rule,
                    reason,
                    at,
                } => self.not_filed(&(camera.to_string(), rule.to_string()), *reason, *at),
                _ => {}
            }
        }
    }

    fn opened(&mut self, case: ReplayedCase) {
        let key = (case.camera.clone(), case.rule.clone());
        let same = self
            .old
            .get_mut(&key)
            .and_then(|old| old.iter_mut().find(|o| o.case.case_id == case.case_id && !o.is_same));
        match same {
            Some(old) => {
                old.is_same = true;
                self.same += 1;
            }
            None => self.fresh.push(case),
        }
    }

    fn not_filed(&mut self, key: &(String, String), reason: NotFiled, at: Timestamp) {
        let Some(old) = self.old.get_mut(key) else { return };
        let first = old.partition_point(|o| o.case.confirmed_at < at.saturating_sub(MAX_REASON_DISTANCE).unwrap_or(Timestamp::MIN));
        for old in &mut old[first..] {
            let rank = |reason, at: Timestamp| (is_per_look(reason), at.duration_since(old.case.confirmed_at).abs());
            let here = rank(reason, at);
            if here.1 > MAX_REASON_DISTANCE {
                break;
            }
            if old.why.as_ref().is_none_or(|w| here < rank(w.reason, w.at)) {
                old.why = Some(LikelyReason { reason, at });
            }
        }
    }

    /// What came and went, by the time it was confirmed.
    pub fn finish(self) -> (Vec<CaseChange>, ChangeCounts) {
        let mut counts = ChangeCounts {
            same: self.same,
            ..ChangeCounts::default()
        };
        let mut gone: Vec<OldCase> = self.old.into_values().flatten().filter(|o| !o.is_same).collect();
        let mut changes = Vec::new();
        for case in self.fresh {
            let was = gone
                .iter()
                .enumerate()
                .filter(|(_, o)| is_same_problem(&o.case, &case))
                .min_by_key(|(_, o)| o.case.confirmed_at.duration_since(case.confirmed_at).abs())
                .map(|(i, _)| i);
            changes.push(match was {
                Some(i) => {
                    counts.shifted += 1;
                    let was = gone.remove(i).case;
                    let later_s = case.confirmed_at.duration_since(was.confirmed_at).as_secs_f64();
                    CaseChange::Shifted { case, was, later_s }
                }
                None => {
                    counts.new += 1;
                    CaseChange::New { case }
                }
            });
        }
        counts.gone = gone.len() as u64;
        changes.extend(gone.into_iter().map(|o| CaseChange::Gone {
            case: o.case,
            why: o.why,
        }));
        changes.sort_by(|a, b| {
            let key = |c: &CaseChange| {
                let (CaseChange::New { case } | CaseChange::Gone { case, .. } | CaseChange::Shifted { case, .. }) = c;
                (case.confirmed_at, case.case_id.clone())
            };
            key(a).cmp(&key(b))
        });
        (changes, counts)
    }
}

/// These are told of each look, whatever thing it saw; the others end a candidate, or hold it back.
fn is_per_look(reason: NotFiled) -> bool {
    matches!(
        reason,
        NotFiled::ScoreTooLow | NotFiled::OutsideZones | NotFiled::TooSmall
    )
}

/// True where both are of the same camera, rule and cell, and the times from first seen to confirmed overlap.
fn is_same_problem(a: &ReplayedCase, b: &ReplayedCase) -> bool {
    (&a.camera, &a.rule, &a.cell) == (&b.camera, &b.rule, &b.cell)
        && a.first_seen_at <= b.confirmed_at
        && b.first_seen_at <= a.confirmed_at
}
