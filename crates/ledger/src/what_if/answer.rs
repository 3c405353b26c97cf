//! The answers of a [`WhatIf`](super::WhatIf).

use serde::Serialize;

use super::{Estimate, Threshold};
use crate::replay::{
    ReplayedCase,
    compare::{CaseChange, ChangeCounts},
};
use gridwatch_engine::{CaseId, RuleId};

/// A case in an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIfCase {
    /// The case.
    #[serde(flatten)]
    pub case: ReplayedCase,
    /// The really filed case about the same problem, whose pictures the store has.
    pub evidence: Option<CaseId>,
    /// Whether it is right, if people or the platform judged it.
    pub right: Option<bool>,
}

/// A case that comes, goes or shifts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIfChange {
    /// The change.
    #[serde(flatten)]
    pub change: CaseChange,
    /// The really filed case about the same problem, whose pictures the store has.
    pub evidence: Option<CaseId>,
    /// Whether it is right, if people or the platform judged it.
    pub right: Option<bool>,
}

/// What a rule set would have filed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIfAnswer {
    /// The cases, by time of confirmation.
    pub cases: Vec<WhatIfCase>,
    /// What comes and goes against the current configuration.
    pub changes: Vec<WhatIfChange>,
    /// Their numbers.
    pub against_current: ChangeCounts,
    /// What comes and goes against what was really filed.
    pub filed_changes: Vec<WhatIfChange>,
    /// Their numbers.
    pub against_filed: ChangeCounts,
    /// How right the cases of each rule are.
    pub rules: Vec<RuleScore>,
    /// Length of the time, days.
    pub days: f64,
    /// Really filed cases of which only the id is known, because their configuration was not kept; they are not compared.
    pub filed_unknown: usize,
    /// The rules that were judged again; the others file the same.
    pub judged: Vec<RuleId>,
}

/// How right the cases of one rule are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleScore {
    /// The rule.
    pub rule: RuleId,
    /// Its cases.
    pub cases: usize,
    /// Cases a day.
    pub per_day: f64,
    /// Cases that nobody has judged.
    pub unlabelled: usize,
    /// Share of right cases among the judged ones.
    pub precision: Option<Estimate>,
    /// Share of the known problems for which a case is filed.
    pub recall: Option<Estimate>,
}

/// A threshold's curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIfCurve {
    /// The rule.
    pub rule: RuleId,
    /// The threshold.
    pub threshold: Threshold,
    /// Its current value.
    pub current: f64,
    /// By value, in the order asked for.
    pub points: Vec<WhatIfPoint>,
    /// Index of the recommended point: of those precise enough the one with the highest recall; `None` without judged cases.
    pub chosen: Option<usize>,
    /// The recommended point reaches the precision asked for; if not, it is the most precise.
    pub is_precise_enough: bool,
}

/// One value on a curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIfPoint {
    /// The value.
    pub value: f64,
    /// What the rule files with it.
    #[serde(flatten)]
    pub score: RuleScore,
}
