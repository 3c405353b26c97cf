//! The trial of a new model version: compares its looks with those of the running version on the same frames, and decides whether it
//! may go live.
//!
//! Each label that a rule uses is judged by itself, at the score from which the rule counts it: a network that reports every class
//! everywhere at a low score is as blind as one that reports nothing, and one with swapped classes finds as much as before.
//!
//! A pure state machine without clock, session or thread. The caller passes the result and duration of each look of both versions;
//! [`Trial::look`] returns one [`TrialOutcome`]. A shadow run only counts; nothing but repeated errors ends it early.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::model_diff::{MATCH_IOU, ModelDiff, ScoreThresholds};
use gridwatch_engine::{Detection, Label};

/// Consecutive errors after which a model is considered broken: one may be caused by a frame, three different frames are not.
const MAX_CONSECUTIVE_ERRORS: u32 = 3;

/// Least number of looks in which the running model found a label before the new one is judged by it: one object that stays for ten
/// looks is little evidence, and a quiet street often shows no more.
const MIN_LOOKS_WITH_DETECTIONS: u32 = 10;

/// A trial ends early if the new model missed a label in at least this share of the looks in which the running one found it.
const BLIND_RATIO: f64 = 0.9;

/// At the end, it must have found the label in at least this share of them: the running model errs as well, but one that agrees in
/// fewer than half of the looks is another detector, which a person has to judge.
const MIN_FOUND_RATIO: f64 = 0.5;

/// A model reports too much if it finds more objects of a label than this per look that the running one does not find, and ...
const MAX_NEW_PER_LOOK: u64 = 3;

/// ... more than this many times what the running one finds. Bags that a better model tells apart stay below it.
const MAX_NEW_RATIO: u64 = 5;

/// Number of timed looks before latency is judged: the first looks of a session touch its memory for the first time.
const MIN_TIMED_LOOKS: usize = 20;

/// Latency is judged every so many looks, so that a long trial does not sort its times at every look.
const LATENCY_CHECK_INTERVAL: usize = 10;

/// Why a version without a self-test may not replace one that has one unless the operator asks for it.
pub const NO_SELF_TEST: &str = "it has no self-test, which the live version has, so nothing shows that its preprocessing, adapter \
    and labels are right; add one with `gridwatch model record`, or activate it unproven with `gridwatch model use --force`";

/// Criteria of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialTerms {
    /// Number of looks, at least 1.
    pub looks: u32,
    /// The labels that are judged, with their score thresholds: see [`score_thresholds`]. Other labels are compared at
    /// [`DEFAULT_THRESHOLD`](super::model_diff::DEFAULT_THRESHOLD), but not judged.
    pub thresholds: ScoreThresholds,
    /// Labels that only the trial can prove: see [`unproven_labels`]. Empty if the operator does not ask for proof.
    pub to_prove: BTreeSet<Label>,
    /// Maximum ratio of the new model's median time to the running one's.
    pub slower_at_most: f64,
    /// Maximum 95th percentile of the new model's time.
    pub budget: Duration,
    /// True for a shadow run, in which only errors are judged.
    pub is_shadow: bool,
}

/// Result of one model on one frame.
#[derive(Debug, Clone, Copy)]
pub enum LookOutcome<'a> {
    /// Detections and wall time of the look.
    Detections(&'a [Detection], Duration),
    /// The look failed; the text is the error.
    Failed(&'a str),
}

/// Outcome of a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialOutcome {
    /// The new version may go live; for a shadow run: all looks were taken.
    Pass,
    /// The new version is rejected.
    Fail(TrialFailure),
}

/// Reason why a version is rejected. Its text names the remedy.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialFailure {
    /// Repeated errors; holds the last one.
    Errors(String),
    /// It does not find what the running model finds.
    Blind {
        /// The label.
        label: Label,
        /// The score from which a rule counts it.
        threshold: f32,
        /// Looks in which the running model found it, and those in which the new one did not.
        finds: LabelFinds,
    },
    /// It reports far more than the running model.
    Flood {
        /// The label.
        label: Label,
        /// Objects that only the new model reported.
        only_new: u64,
        /// Objects that the running model found.
        old: u64,
        /// Looks of the trial.
        looks: u32,
    },
    /// Nothing shows that it finds these labels: the looks in which the running model found each were too few.
    Unproven(Vec<(Label, u32)>),
    /// Too slow compared with the running model.
    Slower {
        /// Median time of the new model.
        new_ms: f64,
        /// Median time of the running model.
        old_ms: f64,
        /// Maximum ratio.
        at_most: f64,
    },
    /// Slower than the latency budget.
    OverBudget {
        /// 95th percentile; before the end of the trial, the median.
        p95_ms: f64,
        /// Latency budget.
        budget_ms: f64,
    },
}

impl fmt::Display for TrialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors(text) => write!(f, "{MAX_CONSECUTIVE_ERRORS} looks in a row failed: {text}"),
            Self::Blind {
                label,
                threshold,
                finds: LabelFinds { found, missed },
            } => write!(
                f,
                "at the score of {threshold:.2} from which rules count {label:?}, it did not find it in {missed} of {found} looks in which the running model did; check its labels, channel order and scale (gridwatch model check)",
                label = label.as_str()
            ),
            Self::Flood {
                label,
                only_new,
                old,
                looks,
            } => write!(
                f,
                "it reported {only_new} objects as {label:?} in {looks} looks that the running model does not find, which found {old}; check its labels, scale and adapter (gridwatch model check)",
                label = label.as_str()
            ),
            Self::Unproven(labels) => {
                let finds = |(label, found): &(Label, u32)| {
                    let looks = if *found == 1 { "look" } else { "looks" };
                    format!("{:?} in {found} {looks}", label.as_str())
                };
                let finds: Vec<String> = labels.iter().map(finds).collect();
                write!(
                    f,
                    "cannot tell whether it works: the running model found {}, {MIN_LOOKS_WITH_DETECTIONS} looks each are needed, and no self-test of the new one shows it at the rules' scores; add pictures to its self-test (gridwatch model record), try it over more looks (registry.trial_looks), or activate it unproven with `gridwatch model use --force`",
                    finds.join(" and ")
                )
            }
            Self::Slower {
                new_ms,
                old_ms,
                at_most,
            } => write!(
                f,
                "a look takes {new_ms:.1} ms (median), {:.1} times the running model's {old_ms:.1} ms; registry.slower_at_most allows {at_most} times",
                new_ms / old_ms
            ),
            Self::OverBudget { p95_ms, budget_ms } => write!(
                f,
                "one look in twenty takes more than {p95_ms:.1} ms; registry.latency_budget allows {budget_ms:.0} ms"
            ),
        }
    }
}

/// Result of a trial or shadow run, as written to the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// Looks at which at least one model succeeded.
    pub looks: u32,
    /// Looks at which the new model failed.
    pub errors: u32,
    /// Looks in which the running model found a label that rules use, at their score.
    pub old_found: u32,
    /// Those in which the new model found none of them there.
    pub new_missed: u32,
    /// The same for each label.
    #[serde(default)]
    pub finds: BTreeMap<String, LabelFinds>,
    /// Time per look of the running model.
    pub old_ms: Latency,
    /// Time per look of the new model.
    pub new_ms: Latency,
    /// Differences in detections.
    pub differences: ModelDiff,
}

/// How often both models found a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelFinds {
    /// Looks in which the running model found it.
    pub found: u32,
    /// Those in which the new model did not find it at any of the same places.
    pub missed: u32,
}

/// Latency of many looks, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub median: f64,
    /// 95th percentile.
    pub p95: f64,
}

impl Latency {
    /// Percentiles of times in milliseconds; zero if there are none.
    pub fn of(mut all: Vec<f32>) -> Self {
        all.sort_by(f32::total_cmp);
        let at = |share: f64| match all.len() {
            0 => 0.0,
            n => f64::from(all[((n as f64 * share).ceil() as usize).clamp(1, n) - 1]),
        };
        Self {
            median: at(0.5),
            p95: at(0.95),
        }
    }
}

/// A trial in progress.
#[derive(Debug)]
pub struct Trial {
    terms: TrialTerms,
    looks: u32,
    errors: u32,
    consecutive_errors: u32,
    found: u32,
    missed: u32,
    finds: BTreeMap<Label, LabelFinds>,
    old_ms: Vec<f32>,
    new_ms: Vec<f32>,
    diff: ModelDiff,
    is_over: bool,
}

impl Trial {
    /// Starts a trial.
    pub fn new(terms: TrialTerms) -> Self {
        Self {
            terms,
            looks: 0,
            errors: 0,
            consecutive_errors: 0,
            found: 0,
            missed: 0,
            finds: BTreeMap::new(),
            old_ms: Vec::new(),
            new_ms: Vec::new(),
            diff: ModelDiff::default(),
            is_over: false,
        }
    }

    /// Adds one look of both models; returns the outcome once, when the trial ends. Later looks are ignored.
    pub fn look(
        &mut self,
        camera: &str,
        at: Timestamp,
        old: LookOutcome<'_>,
        new: LookOutcome<'_>,
    ) -> Option<TrialOutcome> {
        if self.is_over {
            return None;
        }
        let outcome = self.add(camera, at, old, new);
        self.is_over = outcome.is_some();
        outcome
    }

    /// Number of looks so far.
    pub fn looks(&self) -> u32 {
        self.looks
    }

    /// Report of the looks so far.
    pub fn report(&self) -> TrialReport {
        TrialReport {
            looks: self.looks,
            errors: self.errors,
            old_found: self.found,
            new_missed: self.missed,
            finds: self.finds.iter().map(|(l, f)| (l.as_str().to_owned(), *f)).collect(),
            old_ms: Latency::of(self.old_ms.clone()),
            new_ms: Latency::of(self.new_ms.clone()),
            differences: self.diff.clone(),
        }
    }

    fn add(&mut self, camera: &str, at: Timestamp, old: LookOutcome<'_>, new: LookOutcome<'_>) -> Option<TrialOutcome> {
        match (old, new) {
            // A frame on which both fail says nothing about either model.
            (LookOutcome::Failed(_), LookOutcome::Failed(_)) => return None,
            (LookOutcome::Detections(..), LookOutcome::Failed(error)) => {
                self.looks += 1;
                self.errors += 1;
                self.consecutive_errors += 1;
                if self.consecutive_errors >= MAX_CONSECUTIVE_ERRORS {
                    return Some(TrialOutcome::Fail(TrialFailure::Errors(error.to_owned())));
                }
            }
            (LookOutcome::Failed(_), LookOutcome::Detections(..)) => {
                self.looks += 1;
                self.consecutive_errors = 0;
            }
            (LookOutcome::Detections(old, old_took), LookOutcome::Detections(new, new_took)) => {
                self.looks += 1;
                self.consecutive_errors = 0;
                self.old_ms.push(old_took.as_secs_f32() * 1e3);
                self.new_ms.push(new_took.as_secs_f32() * 1e3);
                self.count_finds(old, new);
                self.diff.add(camera, Some(at), &self.terms.thresholds, old, new);
            }
        }
        self.judge()
    }

    /// Counts for each judged label whether both models found it in the same place.
    fn count_finds(&mut self, old: &[Detection], new: &[Detection]) {
        let (mut any_found, mut all_missed) = (false, true);
        for (label, threshold) in &self.terms.thresholds {
            let counts = |d: &&Detection| d.label == *label && d.score >= *threshold;
            let mut places = old.iter().filter(counts).peekable();
            if places.peek().is_none() {
                continue;
            }
            let is_found = places.any(|o| new.iter().filter(counts).any(|n| n.bbox.iou(&o.bbox) >= MATCH_IOU));
            let finds = self.finds.entry(label.clone()).or_default();
            finds.found += 1;
            finds.missed += u32::from(!is_found);
            (any_found, all_missed) = (true, all_missed && !is_found);
        }
        self.found += u32::from(any_found);
        self.missed += u32::from(any_found && all_missed);
    }

    fn judge(&self) -> Option<TrialOutcome> {
        let is_last = self.looks >= self.terms.looks;
        if is_last && self.new_ms.is_empty() {
            // The trial is shorter than the limit of consecutive errors, and every look failed.
            let reason = TrialFailure::Errors("no look succeeded".into());
            return Some(TrialOutcome::Fail(reason));
        }
        let timed = self.new_ms.len();
        let is_time_judged = is_last || (timed >= MIN_TIMED_LOOKS && timed.is_multiple_of(LATENCY_CHECK_INTERVAL));
        let failure = if self.terms.is_shadow {
            None
        } else {
            self.blind(is_last)
                .or_else(|| is_time_judged.then(|| self.too_slow(is_last)).flatten())
                .or_else(|| is_last.then(|| self.flood().or_else(|| self.unproven())).flatten())
        };
        match failure {
            Some(reason) => Some(TrialOutcome::Fail(reason)),
            None => is_last.then_some(TrialOutcome::Pass),
        }
    }

    /// The first label that the new model does not find.
    fn blind(&self, is_last: bool) -> Option<TrialFailure> {
        let most = if is_last { 1.0 - MIN_FOUND_RATIO } else { BLIND_RATIO };
        let is_blind = |finds: &LabelFinds| {
            let share = f64::from(finds.missed) / f64::from(finds.found.max(1));
            finds.found >= MIN_LOOKS_WITH_DETECTIONS && (share > most || share >= BLIND_RATIO)
        };
        let (label, finds) = self.finds.iter().find(|(_, finds)| is_blind(finds))?;
        Some(TrialFailure::Blind {
            threshold: self.terms.thresholds.get(label).copied().unwrap_or_default(),
            label: label.clone(),
            finds: *finds,
        })
    }

    /// The first label of which the new model reports far more than the running one.
    fn flood(&self) -> Option<TrialFailure> {
        self.terms.thresholds.keys().find_map(|label| {
            let diff = self.diff.labels.get(label.as_str())?;
            let old = diff.both + diff.only_old;
            let most = (MAX_NEW_PER_LOOK * u64::from(self.looks)).max(MAX_NEW_RATIO * old);
            (diff.only_new > most).then(|| TrialFailure::Flood {
                label: label.clone(),
                only_new: diff.only_new,
                old,
                looks: self.looks,
            })
        })
    }

    fn unproven(&self) -> Option<TrialFailure> {
        let found = |label: &Label| self.finds.get(label).map_or(0, |finds| finds.found);
        let rare = self.terms.to_prove.iter().map(|label| (label.clone(), found(label)));
        let rare: Vec<_> = rare.filter(|(_, n)| *n < MIN_LOOKS_WITH_DETECTIONS).collect();
        (!rare.is_empty()).then_some(TrialFailure::Unproven(rare))
    }

    fn too_slow(&self, is_last: bool) -> Option<TrialFailure> {
        let old = Latency::of(self.old_ms.clone());
        let new = Latency::of(self.new_ms.clone());
        let budget_ms = self.terms.budget.as_secs_f64() * 1e3;
        // Before the end, a few outliers would dominate the 95th percentile.
        let p95_ms = if is_last { new.p95 } else { new.median };
        if p95_ms > budget_ms {
            return Some(TrialFailure::OverBudget { p95_ms, budget_ms });
        }
        (old.median > 0.0 && new.median > old.median * self.terms.slower_at_most).then_some(TrialFailure::Slower {
            new_ms: new.median,
            old_ms: old.median,
            at_most: self.terms.slower_at_most,
        })
    }
}

/// The labels that a trial judges: those that both models have and a rule uses, each with the lowest score at which one counts it.
/// That is `start_score` for what a rule files, and `keep_score` for its attendants.
pub fn score_thresholds<'a>(
    old: &[Label],
    new: &[Label],
    rules: impl IntoIterator<Item = &'a gridwatch_engine::Rule>,
) -> ScoreThresholds {
    let mut thresholds = ScoreThresholds::new();
    for rule in rules {
        let files = rule.labels.iter().map(|l| (l, rule.day.start.min(rule.night.start)));
        let attends = rule.attended.iter().flat_map(|a| &a.labels);
        let attends = attends.map(|l| (l, rule.day.keep.min(rule.night.keep)));
        for (label, lowest) in files.chain(attends).filter(|(l, _)| old.contains(l) && new.contains(l)) {
            let threshold = thresholds.entry(label.clone()).or_insert(lowest);
            *threshold = threshold.min(lowest);
        }
    }
    thresholds
}

/// The labels that the new version's self-test does not show at their thresholds; `self_tested` holds the highest score of each label
/// in it.
pub fn unproven_labels(thresholds: &ScoreThresholds, self_tested: &ScoreThresholds) -> BTreeSet<Label> {
    let is_shown = |(label, least): &(&Label, &f32)| self_tested.get(*label).is_some_and(|score| score >= *least);
    let unproven = thresholds.iter().filter(|of| !is_shown(of));
    unproven.map(|(label, _)| label.clone()).collect()
}

/// Why a version may not go live without a trial, because no camera's looks could run it beside the live one.
pub fn untried(unproven: BTreeSet<Label>) -> Option<TrialFailure> {
    (!unproven.is_empty()).then(|| TrialFailure::Unproven(unproven.into_iter().map(|label| (label, 0)).collect()))
}

#[cfg(test)]
mod tests;
