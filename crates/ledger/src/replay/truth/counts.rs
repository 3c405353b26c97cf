//! The counts of an evaluation.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::replay::CaseNewness;

/// Counts, and the measures computed from them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EvaluationCounts {
    /// Cases about a problem, as a share of all cases; `None` without cases.
    pub precision: Option<f64>,
    /// Problems found, as a share of the expected ones; `None` if none was expected.
    pub recall: Option<f64>,
    /// Repeated cases, as a share of all cases; `None` without cases.
    pub repeated: Option<f64>,
    /// Cases evaluated.
    pub judged: u64,
    /// Cases about a problem, including repeated ones.
    pub right: u64,
    /// False cases.
    pub wrong: u64,
    /// Repeated cases.
    pub repeats: u64,
    /// Cases correctly linked to an earlier case of the same problem.
    pub recurrences: u64,
    /// Problems in the truth file.
    pub problems: u64,
    /// Expected problems: visible long enough to be filed.
    pub asked: u64,
    /// Expected problems for which a case was filed while they were present.
    pub found: u64,
    /// Expected problems for which none was filed.
    pub missed: u64,
    /// Problems that were visible long enough, but only while the open case of another problem covered their site.
    pub held: u64,
    /// False cases, by the description of the object.
    pub wrong_about: BTreeMap<String, u64>,
    /// Missed problems, by description.
    pub missed_kinds: BTreeMap<String, u64>,
}

/// The result of an evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// All rules together.
    #[serde(flatten)]
    pub all: EvaluationCounts,
    /// By rule. A problem counts for the first rule of its category.
    pub by_rule: BTreeMap<String, EvaluationCounts>,
    /// The cases of the rules with `appeared`; `None` if no look says how new anything is, or no rule asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newness: Option<NewnessCounts>,
}

/// Cases of rules with `appeared`, by how new their objects were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NewnessCounts {
    /// Of objects that appeared after the view was learned.
    pub new: JudgedCases,
    /// Of objects that were there when the view was learned.
    pub old: JudgedCases,
    /// At looks that could not tell.
    pub unknown: JudgedCases,
}

/// Cases, and those among them that are about a problem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct JudgedCases {
    /// Cases evaluated.
    pub judged: u64,
    /// Cases about a problem, including repeated ones.
    pub right: u64,
}

impl NewnessCounts {
    pub(super) fn count(&mut self, newness: CaseNewness, is_right: bool) {
        let cases = match newness {
            CaseNewness::New => &mut self.new,
            CaseNewness::Old => &mut self.old,
            CaseNewness::Unknown => &mut self.unknown,
        };
        cases.judged += 1;
        cases.right += u64::from(is_right);
    }
}

impl EvaluationCounts {
    pub(super) fn add(&mut self, other: &Self) {
        self.judged += other.judged;
        self.right += other.right;
        self.wrong += other.wrong;
        self.repeats += other.repeats;
        self.recurrences += other.recurrences;
        self.problems += other.problems;
        self.asked += other.asked;
        self.found += other.found;
        self.missed += other.missed;
        self.held += other.held;
        for (own, theirs) in [
            (&mut self.wrong_about, &other.wrong_about),
            (&mut self.missed_kinds, &other.missed_kinds),
        ] {
            for (kind, count) in theirs {
                *own.entry(kind.clone()).or_default() += count;
            }
        }
    }

    pub(super) fn shares(mut self) -> Self {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        self.precision = share(self.right, self.judged);
        self.recall = share(self.found, self.asked);
        self.repeated = share(self.repeats, self.judged);
        self
    }
}
