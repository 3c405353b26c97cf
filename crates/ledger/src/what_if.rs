//! What the last days would have filed under other thresholds: loads the recorded inputs once, then answers for a changed rule in a
//! fraction of a replay.
//!
//! The answers are those of a [`Replay`](crate::replay::Replay) under the changed plan over the same records, exactly; `run` says why.
//! Nothing here blocks on anything but the disk and the processor: call it from a thread that may, never from an async runtime.

mod answer;
mod clusters;
mod interference;
mod judge;
mod load;
mod result;
mod run;
mod score;
mod table;
mod threshold;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

pub use self::{
    answer::{RuleScore, WhatIfAnswer, WhatIfCase, WhatIfChange, WhatIfCurve, WhatIfPoint},
    score::Estimate,
    threshold::{Threshold, ThresholdError, ThresholdRange},
};
use self::{clusters::Clusters, judge::Judged, result::RunResult, table::LookTable};
use crate::{
    Damage, LedgerError,
    replay::{
        ReplayedCase, Window,
        compare::{Comparison, is_same_problem},
        tune::{CurvePoint, LabelsByCamera, ResolvedLabel, choose, labels::CaseLabel},
    },
};
use gridwatch_base::error::Class;
use gridwatch_engine::{CameraId, CaseId, Label, LonLat, Plan, Rule, RuleId};

/// Errors of a [`WhatIf`].
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// More than fits into memory.
    #[error("the recorded looks need more than {} MB of memory; choose fewer days", .limit >> 20)]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The ledger has no look in that time.
    #[error("the ledger has no look in that time")]
    Empty,
    /// No such rule.
    #[error("no rule has the id {id:?}")]
    UnknownRule {
        /// The id.
        id: RuleId,
    },
    /// A rule names a label that was not loaded.
    #[error(
        "rule {rule}: label {label:?} is of no rule in the current configuration, so it was not loaded; use `gridwatch replay`"
    )]
    NotLoaded {
        /// The rule.
        rule: RuleId,
        /// The label.
        label: Label,
    },
    /// A value that the threshold cannot have.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
}

impl WhatIfError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Ledger(e) => e.class(),
            Self::Cancelled => Class::Transient,
            Self::TooLarge { .. }
            | Self::Empty
            | Self::UnknownRule { .. }
            | Self::NotLoaded { .. }
            | Self::Threshold(_) => Class::Config,
        }
    }
}

/// How a long computation is watched and cancelled.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Set by another thread to end it with [`WhatIfError::Cancelled`] within some milliseconds.
    pub cancelled: &'a AtomicBool,
    /// Called with the finished share, 0..=1, from any of the threads that work.
    pub progress: &'a (dyn Fn(f64) + Sync),
}

impl Task<'_> {
    fn check(&self) -> Result<(), WhatIfError> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(WhatIfError::Cancelled),
            false => Ok(()),
        }
    }
}

/// The recorded inputs of some days, with what the current configuration makes of them.
#[derive(Debug)]
pub struct WhatIf {
    plan: Arc<Plan>,
    window: Window,
    table: LookTable,
    current: RunResult,
    /// Under the current configuration: all cameras are judged together then.
    are_caps_met: bool,
    clusters: Clusters,
    places: BTreeMap<CaseId, LonLat>,
    filed: Vec<ReplayedCase>,
    filed_unknown: usize,
    platform: BTreeMap<CaseId, bool>,
    people: RwLock<Vec<CaseLabel>>,
    damage: Vec<Damage>,
    days: f64,
}

/// What to load.
#[derive(Debug, Clone)]
pub struct WhatIfRequest<'a> {
    /// Folder of the ledger.
    pub ledger: &'a Path,
    /// The current configuration.
    pub plan: &'a Arc<Plan>,
    /// The time that is reported. A day before it is read as well.
    pub window: Window,
    /// Maximum memory of the recorded inputs, bytes; see [`WhatIf::MAX_BYTES`].
    pub max_bytes: usize,
}

/// A curve that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct CurveRequest<'a> {
    /// The rule, with its other thresholds as they are to be.
    pub rule: &'a Rule,
    /// The threshold that is varied.
    pub threshold: Threshold,
    /// The values to try.
    pub values: &'a [f64],
    /// Precision that the recommended value must reach, 0..=1.
    pub min_precision: f64,
    /// Limits what is counted, not what is judged.
    pub cameras: Option<&'a BTreeSet<CameraId>>,
}

impl WhatIf {
    /// A bound for a box with 4 GB of memory. A week of 32 cameras with a look every 10 s and four boxes in each takes 500 MB.
    pub const MAX_BYTES: usize = 1 << 30;

    /// Sets the judgements of people. They take precedence over those of the platform, which are in the ledger.
    pub fn set_labels(&self, labels: Vec<CaseLabel>) {
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = labels;
    }

    /// Memory of the recorded inputs, bytes.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Number of looks that are in memory.
    pub fn looks(&self) -> usize {
        self.table.looks.len()
    }

    /// Number of groups of cameras that are judged apart.
    #[cfg(test)]
    fn clusters(&self) -> usize {
        if self.are_caps_met { 1 } else { self.clusters.count() }
    }

    /// The configuration that everything is compared with.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Damaged files that were skipped.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Ground position of a case in any of the answers so far that the current configuration or the box filed.
    pub fn place(&self, case: &CaseId) -> Option<LonLat> {
        self.places.get(case).copied()
    }

    /// What the current configuration with `rules` in the place of those with the same ids would have filed. `cameras` limits what is
    /// reported, not what is judged: a site may be in the view of others.
    ///
    /// # Errors
    /// [`WhatIfError`].
    pub fn evaluate(
        &self,
        rules: &[Rule],
        cameras: Option<&BTreeSet<CameraId>>,
        task: Task<'_>,
    ) -> Result<WhatIfAnswer, WhatIfError> {
        let judged = self.judge(rules, task)?;
        Ok(self.answer(&judged, cameras))
    }

    /// What the current configuration with the rule of the request in the place of that with the same id files with each value of one of its
    /// thresholds. Runs on all cores.
    ///
    /// # Errors
    /// [`WhatIfError`].
    pub fn curve(&self, request: &CurveRequest<'_>, task: Task<'_>) -> Result<WhatIfCurve, WhatIfError> {
        let CurveRequest {
            rule: base,
            threshold,
            values,
            cameras,
            ..
        } = *request;
        let unknown = || WhatIfError::UnknownRule { id: base.id.clone() };
        let configured = self.plan.rules.iter().find(|r| r.id == base.id).ok_or_else(unknown)?;
        let absent = || ThresholdError::Absent {
            threshold,
            rule: base.id.to_string(),
        };
        let current = threshold.get(configured).ok_or_else(absent)?;
        let tried = values.iter().map(|value| {
            let mut rule = base.clone();
            threshold.set(&mut rule, *value).map(|()| rule)
        });
        let tried = tried.collect::<Result<Vec<Rule>, _>>()?;
        let labels = self.resolved_labels(cameras);
        let points = self.judge_each(&tried, task, |judged| {
            let cases = self.cases(judged, cameras);
            let cases: Vec<&ReplayedCase> = cases.into_iter().filter(|c| c.rule == base.id.as_str()).collect();
            score(&base.id, &cases, &labels, self.days)
        })?;
        let counts: Vec<CurvePoint> = points.iter().map(|(_, counts)| counts.clone()).collect();
        let chosen = choose(&counts, request.min_precision, |_| true);
        let points = values
            .iter()
            .zip(points)
            .map(|(value, (score, _))| WhatIfPoint { value: *value, score });
        Ok(WhatIfCurve {
            rule: base.id.clone(),
            threshold,
            current,
            points: points.collect(),
            chosen: chosen.as_ref().map(|c| c.index),
            is_precise_enough: chosen.is_some_and(|c| c.is_precise_enough),
        })
    }

    /// The reported cases, by time of confirmation.
    fn cases<'a>(&'a self, judged: &'a Judged, cameras: Option<&BTreeSet<CameraId>>) -> Vec<&'a ReplayedCase> {
        let is_judged = |case: &ReplayedCase| {
            judged
                .rules
                .iter()
                .any(|i| judged.plan.rules[*i].id.as_str() == case.rule)
        };
        let unchanged = self.current.cases.iter().filter(|case| !is_judged(case));
        let mut cases: Vec<_> = unchanged.chain(judged.result.iter().flat_map(|r| &r.cases)).collect();
        cases.retain(|case| self.is_reported(case, cameras));
        cases.sort_by_key(|case| (case.confirmed_at, &case.case_id));
        cases
    }

    fn is_reported(&self, case: &ReplayedCase, cameras: Option<&BTreeSet<CameraId>>) -> bool {
        let is_wanted = |all: &BTreeSet<CameraId>| all.iter().any(|id| id.as_str() == case.camera);
        self.window.contains(case.confirmed_at) && cameras.is_none_or(is_wanted)
    }

    fn answer(&self, judged: &Judged, cameras: Option<&BTreeSet<CameraId>>) -> WhatIfAnswer {
        let cases = self.cases(judged, cameras);
        let labels = self.resolved_labels(cameras);
        let known = LabelsByCamera::new(&labels);
        let right = |case: &ReplayedCase| known.nearest(case).map(|label| label.is_right);
        let filed = FiledCases::new(&self.filed);
        let evidence = |case: &ReplayedCase| filed.about(case);
        let reported = |all: &[ReplayedCase]| -> Vec<ReplayedCase> {
            all.iter()
                .filter(|case| self.is_reported(case, cameras))
                .cloned()
                .collect()
        };
        let compare = |old: Vec<ReplayedCase>| {
            let mut comparison = Comparison::new(old);
            for case in &cases {
                comparison.opened((*case).clone());
            }
            let is_judged = |rule: &RuleId| judged.rules.iter().any(|i| judged.plan.rules[*i].id == *rule);
            let unchanged = self.current.not_filed.iter().filter(|((_, rule), _)| !is_judged(rule));
            let tried = judged.result.iter().flat_map(|result| &result.not_filed);
            for ((camera, rule), reasons) in unchanged.chain(tried) {
                let key = (camera.to_string(), rule.to_string());
                for (reason, at) in reasons {
                    comparison.not_filed(&key, *reason, *at);
                }
            }
            let (changes, counts) = comparison.finish();
            let changes = changes.into_iter().map(|change| {
                let case = change.case();
                WhatIfChange {
                    evidence: evidence(case),
                    right: right(case),
                    change,
                }
            });
            (changes.collect(), counts)
        };
        let (changes, against_current) = compare(reported(&self.current.cases));
        let (filed_changes, against_filed) = compare(reported(&self.filed));
        let rules = judged.plan.rules.iter().map(|rule| {
            let of_rule: Vec<_> = cases.iter().copied().filter(|c| c.rule == rule.id.as_str()).collect();
            score(&rule.id, &of_rule, &labels, self.days).0
        });
        WhatIfAnswer {
            changes,
            against_current,
            filed_changes,
            against_filed,
            rules: rules.collect(),
            days: self.days,
            filed_unknown: self.filed_unknown,
            judged: judged.rules.iter().map(|i| judged.plan.rules[*i].id.clone()).collect(),
            cases: cases
                .iter()
                .map(|case| WhatIfCase {
                    case: (*case).clone(),
                    evidence: evidence(case),
                    right: right(case),
                })
                .collect(),
        }
    }

    /// The labels of the cameras that are reported: a problem that another one saw is not missed by these.
    fn resolved_labels(&self, cameras: Option<&BTreeSet<CameraId>>) -> Vec<ResolvedLabel> {
        let cases: Vec<&ReplayedCase> = self.filed.iter().chain(&self.current.cases).collect();
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let labels = score::labels(&people, &self.platform, &cases);
        let mut by_id: BTreeMap<&str, &ReplayedCase> = BTreeMap::new();
        for case in cases {
            by_id.entry(case.case_id.as_str()).or_insert(case);
        }
        labels
            .iter()
            .filter_map(|label| ResolvedLabel::among(label, &by_id))
            .filter(|label| cameras.is_none_or(|all| all.contains(&CameraId::from(label.camera.as_str()))))
            .collect()
    }
}

/// The really filed cases, to be found by what they are about.
struct FiledCases<'a> {
    by_id: BTreeMap<&'a CaseId, &'a ReplayedCase>,
    /// In the order in which they were filed.
    by_camera: BTreeMap<&'a str, Vec<&'a ReplayedCase>>,
}

impl<'a> FiledCases<'a> {
    fn new(filed: &'a [ReplayedCase]) -> Self {
        let mut by_camera: BTreeMap<&str, Vec<&ReplayedCase>> = BTreeMap::new();
        for case in filed {
            by_camera.entry(&case.camera).or_default().push(case);
        }
        Self {
            by_id: filed.iter().map(|case| (&case.case_id, case)).collect(),
            by_camera,
        }
    }

    /// The one about the same problem.
    fn about(&self, case: &ReplayedCase) -> Option<CaseId> {
        let of_camera = || self.by_camera.get(case.camera.as_str()).into_iter().flatten();
        let shifted = || of_camera().copied().find(|filed| is_same_problem(filed, case));
        let same = self.by_id.get(&case.case_id).copied();
        same.or_else(shifted).map(|filed| filed.case_id.clone())
    }
}

fn score(rule: &RuleId, cases: &[&ReplayedCase], labels: &[ResolvedLabel], days: f64) -> (RuleScore, CurvePoint) {
    let of_rule: Vec<&ResolvedLabel> = labels.iter().filter(|label| label.rule == rule.as_str()).collect();
    let counts = CurvePoint::new(0.0, cases, &of_rule);
    let judged = counts.right + counts.wrong;
    let score = RuleScore {
        rule: rule.clone(),
        cases: cases.len(),
        per_day: cases.len() as f64 / days,
        unlabelled: cases.len() - judged,
        precision: Estimate::new(counts.right as u64, judged as u64),
        recall: Estimate::new(counts.found as u64, counts.problems as u64),
    };
    (score, counts)
}

#[cfg(test)]
mod tests;
