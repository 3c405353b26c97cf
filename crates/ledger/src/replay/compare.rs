//! Compares the cases of two replays of the same ledger: which are new, which are gone, and the likely reason for the
//! latter.
//!
//! A case id is a hash of the time of the first sighting, so another threshold gives the same problem another id. Cases
//! of the same camera, rule and cell with overlapping times are therefore taken for the same problem, shifted in time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ReplayedCase;
use gridwatch_engine::{Effect, NotFiled};

/// A candidate that ended within this time of a case that is gone may be the reason for it: the end is reported after
/// the grace of the rule, which is minutes.
const MAX_REASON_DISTANCE: SignedDuration = SignedDuration::from_hours(1);

/// The difference in a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum CaseChange {
    /// Only in the new replay.
    New {
        /// The case.
        case: ReplayedCase,
    },
    /// Only in the old replay.
    Gone {
        /// The case.
        case: ReplayedCase,
        /// Why the nearest candidate in time, of that camera and rule, was not filed.
        why: Option<LikelyReason>,
    },
    /// In both, at different times.
    Shifted {
        /// The case in the new replay.
        case: ReplayedCase,
        /// The case in the old replay.
        was: ReplayedCase,
        /// Delay of the confirmation in the new replay, in seconds.
        later_s: f64,
    },
}

impl CaseChange {
    /// The case; of a shifted one that of the new replay.
    pub fn case(&self) -> &ReplayedCase {
        let (Self::New { case } | Self::Gone { case, .. } | Self::Shifted { case, .. }) = self;
        case
    }
}

/// The likely reason for a case being gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LikelyReason {
    /// The engine's reason.
    pub reason: NotFiled,
    /// Time at which the engine gave it.
    pub at: Timestamp,
}

/// Number of cases by difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChangeCounts {
    /// Identical in both.
    pub same: u64,
    /// See [`CaseChange::Shifted`].
    pub shifted: u64,
    /// See [`CaseChange::New`].
    pub new: u64,
    /// See [`CaseChange::Gone`].
    pub gone: u64,
}

/// Compares during a replay. Keeps the old cases in memory, and the new ones that have no identical counterpart.
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
    /// A comparison with these cases.
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

    /// Takes the effects of the new replay.
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

    pub(crate) fn opened(&mut self, case: ReplayedCase) {
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

    pub(crate) fn not_filed(&mut self, key: &(String, String), reason: NotFiled, at: Timestamp) {
        let Some(old) = self.old.get_mut(key) else { return };
        let first = old.partition_point(|o| {
            o.case.confirmed_at < at.saturating_sub(MAX_REASON_DISTANCE).unwrap_or(Timestamp::MIN)
        });
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

    /// The differences, ordered by time of confirmation.
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
            let key = |c: &CaseChange| (c.case().confirmed_at, c.case().case_id.clone());
            key(a).cmp(&key(b))
        });
        (changes, counts)
    }
}

/// These reasons are given for single looks, whatever they show; the others end or delay a candidate.
fn is_per_look(reason: NotFiled) -> bool {
    matches!(
        reason,
        NotFiled::ScoreTooLow | NotFiled::OutsideZones | NotFiled::TooSmall
    )
}

/// True if both have the same camera, rule and cell, and their times from first sighting to confirmation overlap.
pub(crate) fn is_same_problem(a: &ReplayedCase, b: &ReplayedCase) -> bool {
    (&a.camera, &a.rule, &a.cell) == (&b.camera, &b.rule, &b.cell)
        && a.first_seen_at <= b.confirmed_at
        && b.first_seen_at <= a.confirmed_at
}
