//! The trial of a new model version: compares its looks with those of the running version on the same frames, and decides whether it
//! may go live.
//!
//! A pure state machine without clock, session or thread. The caller passes the result and duration of each look of both versions;
//! [`Trial::look`] returns one [`TrialOutcome`]. A shadow run only counts; nothing but repeated errors ends it early.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::model_diff::{DEFAULT_THRESHOLD, ModelDiff, ScoreThresholds};
use gridwatch_engine::Detection;

/// Consecutive errors after which a model is considered broken: one may be caused by a frame, three different frames are not.
const MAX_CONSECUTIVE_ERRORS: u32 = 3;

/// A model is considered blind after at least this many looks in which the running one found something, if ...
const MIN_LOOKS_WITH_DETECTIONS: u32 = 10;

/// ... it found none of those labels in at least this share of them.
const BLIND_RATIO: f64 = 0.9;

/// Number of timed looks before latency is judged: the first looks of a session touch its memory for the first time.
const MIN_TIMED_LOOKS: usize = 20;

/// Latency is judged every so many looks, so that a long trial does not sort its times at every look.
const LATENCY_CHECK_INTERVAL: usize = 10;

/// Criteria of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialTerms {
    /// Number of looks, at least 1.
    pub looks: u32,
    /// Score thresholds of the labels that both models have, taken from the rules. Other labels use [`DEFAULT_THRESHOLD`] in the
    /// comparison and are ignored when judging blindness.
    pub thresholds: ScoreThresholds,
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
        /// Looks in which the running model found an object above its threshold.
        found: u32,
        /// Those in which the new model found none of its labels.
        missed: u32,
    },
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
            Self::Blind { found, missed } => write!(
                f,
                "it found nothing in {missed} of {found} looks in which the running model did; check its labels, channel order and scale (gridwatch model check)"
            ),
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
    /// Looks in which the running model found an object above its threshold.
    pub old_found: u32,
    /// Those in which the new model found none of the same labels, at any score.
    pub new_missed: u32,
    /// Time per look of the running model.
    pub old_ms: Latency,
    /// Time per look of the new model.
    pub new_ms: Latency,
    /// Differences in detections.
    pub differences: ModelDiff,
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
                let counts = |d: &&Detection| self.terms.thresholds.get(&d.label).is_some_and(|bar| d.score >= *bar);
                let found: Vec<_> = old.iter().filter(counts).map(|d| &d.label).collect();
                if !found.is_empty() {
                    self.found += 1;
                    // At any score: lower confidence is not blindness.
                    self.missed += u32::from(!new.iter().any(|d| found.contains(&&d.label)));
                }
                self.diff.add(camera, Some(at), &self.terms.thresholds, old, new);
            }
        }
        self.judge()
    }

    fn judge(&self) -> Option<TrialOutcome> {
        let is_last = self.looks >= self.terms.looks;
        if !self.terms.is_shadow {
            if self.found >= MIN_LOOKS_WITH_DETECTIONS && f64::from(self.missed) >= f64::from(self.found) * BLIND_RATIO
            {
                return Some(TrialOutcome::Fail(TrialFailure::Blind {
                    found: self.found,
                    missed: self.missed,
                }));
            }
            let timed = self.new_ms.len();
            if (is_last || (timed >= MIN_TIMED_LOOKS && timed.is_multiple_of(LATENCY_CHECK_INTERVAL)))
                && let Some(reason) = self.too_slow(is_last)
            {
                return Some(TrialOutcome::Fail(reason));
            }
        }
        is_last.then(|| {
            if self.new_ms.is_empty() {
                // The trial is shorter than the limit of consecutive errors, and every look failed.
                return TrialOutcome::Fail(TrialFailure::Errors("no look succeeded".into()));
            }
            TrialOutcome::Pass
        })
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

/// Score thresholds for a trial: for each label that both models have, the lowest `start_score` of its rules, else
/// [`DEFAULT_THRESHOLD`].
pub fn score_thresholds<'a>(
    old: &[gridwatch_engine::Label],
    new: &[gridwatch_engine::Label],
    rules: impl IntoIterator<Item = &'a gridwatch_engine::Rule>,
) -> ScoreThresholds {
    let mut thresholds = ScoreThresholds::new();
    for rule in rules {
        let lowest = rule.day.start.min(rule.night.start);
        for label in rule.labels.iter().filter(|l| old.contains(l) && new.contains(l)) {
            let threshold = thresholds.entry(label.clone()).or_insert(lowest);
            *threshold = threshold.min(lowest);
        }
    }
    for label in old.iter().filter(|l| new.contains(l)) {
        thresholds.entry(label.clone()).or_insert(DEFAULT_THRESHOLD);
    }
    thresholds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use gridwatch_engine::BBox;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;
    const MS: Duration = Duration::from_millis(1);

    fn terms(looks: u32) -> TrialTerms {
        TrialTerms {
            looks,
            thresholds: ScoreThresholds::from([("bag".into(), 0.5)]),
            slower_at_most: 4.0,
            budget: MS * 500,
            is_shadow: false,
        }
    }

    fn bag(score: f32) -> Vec<Detection> {
        let (x1, y1, x2, y2) = (0.1, 0.1, 0.2, 0.2);
        vec![Detection::new("bag", score, BBox { x1, y1, x2, y2 })]
    }

    /// Adds looks until the trial ends; returns the outcome and the number of calls.
    fn run(
        terms: TrialTerms,
        look: impl Fn(u32) -> (Result<Vec<Detection>, ()>, Result<Vec<Detection>, ()>, u32, u32),
    ) -> (TrialOutcome, u32) {
        let mut trial = Trial::new(terms);
        for i in 1..10_000 {
            let (old, new, old_ms, new_ms) = look(i);
            let old = match &old {
                Ok(found) => LookOutcome::Detections(found, MS * old_ms),
                Err(()) => LookOutcome::Failed("a broken picture"),
            };
            let new = match &new {
                Ok(found) => LookOutcome::Detections(found, MS * new_ms),
                Err(()) => LookOutcome::Failed("not finite"),
            };
            if let Some(outcome) = trial.look("gate", AT, old, new) {
                return (outcome, i);
            }
        }
        panic!("the trial never ended: {:?}", trial.report());
    }

    #[test]
    fn an_equal_model_passes_after_its_looks() {
        assert_eq!(
            run(terms(100), |_| (Ok(bag(0.9)), Ok(bag(0.8)), 10, 10)),
            (TrialOutcome::Pass, 100)
        );
        assert_eq!(
            run(terms(100), |_| (Ok(vec![]), Ok(vec![]), 10, 10)),
            (TrialOutcome::Pass, 100),
            "an empty street"
        );
    }

    #[test]
    fn three_consecutive_errors_fail_the_trial_and_occasional_ones_do_not() {
        let (outcome, looks) = run(terms(100), |_| (Ok(vec![]), Err(()), 10, 10));
        assert_eq!(
            (outcome, looks),
            (TrialOutcome::Fail(TrialFailure::Errors("not finite".into())), 3)
        );
        let sometimes_fails = |i: u32| if i.is_multiple_of(3) { Ok(vec![]) } else { Err(()) };
        assert_eq!(
            run(terms(99), |i| (Ok(vec![]), sometimes_fails(i), 10, 10)).0,
            TrialOutcome::Pass
        );
        let short = run(terms(2), |_| (Ok(vec![]), Err(()), 10, 10));
        assert!(
            matches!(short, (TrialOutcome::Fail(TrialFailure::Errors(_)), 2)),
            "{short:?}"
        );
    }

    #[test]
    fn a_frame_on_which_both_fail_does_not_count_as_a_look() {
        let broken = |i: u32| if i <= 50 { Err(()) } else { Ok(vec![]) };
        assert_eq!(
            run(terms(10), |i| (broken(i), broken(i), 10, 10)),
            (TrialOutcome::Pass, 60)
        );
    }

    #[test]
    fn a_model_that_finds_nothing_of_what_the_other_finds_is_blind() {
        let (outcome, looks) = run(terms(100), |_| (Ok(bag(0.9)), Ok(vec![]), 10, 10));
        assert_eq!(
            (outcome, looks),
            (TrialOutcome::Fail(TrialFailure::Blind { found: 10, missed: 10 }), 10)
        );
        // An object present in one look of nine takes nine times as long.
        let now_and_then = |i: u32| if i.is_multiple_of(9) { Ok(bag(0.9)) } else { Ok(vec![]) };
        assert_eq!(run(terms(100), |i| (now_and_then(i), Ok(vec![]), 10, 10)).1, 90);
    }

    #[test]
    fn lower_scores_and_misses_below_the_threshold_are_not_blindness() {
        assert_eq!(
            run(terms(50), |_| (Ok(bag(0.9)), Ok(bag(0.2)), 10, 10)).0,
            TrialOutcome::Pass
        );
        assert_eq!(
            run(terms(50), |_| (Ok(bag(0.4)), Ok(vec![]), 10, 10)).0,
            TrialOutcome::Pass,
            "below the threshold"
        );
        let half = |i: u32| if i.is_multiple_of(2) { Ok(bag(0.9)) } else { Ok(vec![]) };
        assert_eq!(
            run(terms(50), |i| (Ok(bag(0.9)), half(i), 10, 10)).0,
            TrialOutcome::Pass
        );
    }

    #[test]
    fn a_slow_model_fails_before_the_end() {
        let (outcome, looks) = run(terms(1000), |_| (Ok(vec![]), Ok(vec![]), 10, 41));
        assert!(
            matches!(outcome, TrialOutcome::Fail(TrialFailure::Slower { .. })) && looks == 20,
            "{outcome:?} {looks}"
        );
        let (outcome, looks) = run(terms(1000), |_| (Ok(vec![]), Ok(vec![]), 400, 501));
        assert!(
            matches!(outcome, TrialOutcome::Fail(TrialFailure::OverBudget { .. })) && looks == 20,
            "{outcome:?} {looks}"
        );
        assert_eq!(
            run(terms(100), |_| (Ok(vec![]), Ok(vec![]), 10, 39)).0,
            TrialOutcome::Pass
        );
    }

    #[test]
    fn slow_outliers_exceed_the_budget_only_if_they_are_one_in_twenty() {
        let outliers = |every: u32| {
            move |i: u32| {
                (
                    Ok(vec![]),
                    Ok(vec![]),
                    10,
                    if i.is_multiple_of(every) { 900 } else { 10 },
                )
            }
        };
        assert_eq!(run(terms(100), outliers(25)).0, TrialOutcome::Pass);
        assert!(matches!(
            run(terms(100), outliers(15)).0,
            TrialOutcome::Fail(TrialFailure::OverBudget { .. })
        ));
    }

    #[test]
    fn a_shadow_run_is_judged_by_errors_only() {
        let shadow = || TrialTerms {
            is_shadow: true,
            ..terms(100)
        };
        assert_eq!(
            run(shadow(), |_| (Ok(bag(0.9)), Ok(vec![]), 10, 5000)),
            (TrialOutcome::Pass, 100)
        );
        assert_eq!(run(shadow(), |_| (Ok(bag(0.9)), Err(()), 10, 10)).1, 3);
    }

    #[test]
    fn latency_percentiles_are_those_of_the_measured_times() {
        assert_eq!(Latency::of(vec![]), Latency::default());
        let latency = Latency::of((1..=100).rev().map(|i| i as f32).collect());
        assert_eq!((latency.median, latency.p95), (50.0, 95.0));
        assert_eq!(Latency::of(vec![7.0]), Latency { median: 7.0, p95: 7.0 });
    }

    #[derive(Debug, Clone)]
    enum Look {
        Fails,
        Finds(f32),
        Nothing,
    }

    fn look() -> impl Strategy<Value = Look> {
        prop_oneof![
            Just(Look::Fails),
            (0.0..1.0f32).prop_map(Look::Finds),
            Just(Look::Nothing)
        ]
    }

    proptest! {
        /// For any sequence of looks: at most one outcome, never after the last look, and a pass only after all looks.
        #[test]
        fn there_is_at_most_one_outcome_and_a_pass_takes_all_looks(
            planned in 1..60u32,
            sequence in prop::collection::vec((look(), look(), 1..100u32, 1..100u32), 0..200),
        ) {
            let mut trial = Trial::new(terms(planned));
            let mut outcomes = Vec::new();
            let (mut in_a_row, mut worst_row, mut looks) = (0, 0, 0);
            for (old, new, old_ms, new_ms) in &sequence {
                let found = |l: &Look| match l { Look::Finds(s) => bag(*s), _ => vec![] };
                let (of, nf) = (found(old), found(new));
                let old_seen = if matches!(old, Look::Fails) { LookOutcome::Failed("x") } else { LookOutcome::Detections(&of, MS * *old_ms) };
                let new_seen = if matches!(new, Look::Fails) { LookOutcome::Failed("y") } else { LookOutcome::Detections(&nf, MS * *new_ms) };
                if outcomes.is_empty() && !matches!((old, new), (Look::Fails, Look::Fails)) {
                    looks += 1;
                    in_a_row = if matches!(new, Look::Fails) { in_a_row + 1 } else { 0 };
                    worst_row = worst_row.max(in_a_row);
                }
                outcomes.extend(trial.look("gate", AT, old_seen, new_seen));
            }
            prop_assert!(outcomes.len() <= 1);
            prop_assert_eq!(trial.looks(), looks);
            prop_assert!(looks <= planned);
            let report = trial.report();
            prop_assert!(report.new_missed <= report.old_found && report.errors <= report.looks);
            match outcomes.first() {
                Some(TrialOutcome::Pass) => {
                    prop_assert_eq!(looks, planned);
                    prop_assert!(worst_row < MAX_CONSECUTIVE_ERRORS);
                    prop_assert!(report.old_found < MIN_LOOKS_WITH_DETECTIONS || f64::from(report.new_missed) < f64::from(report.old_found) * BLIND_RATIO);
                    prop_assert!(report.new_ms.p95 <= 500.0);
                }
                Some(TrialOutcome::Fail(TrialFailure::Errors(_))) => prop_assert!(worst_row == MAX_CONSECUTIVE_ERRORS || report.new_ms.median == 0.0),
                Some(TrialOutcome::Fail(TrialFailure::Blind { found, missed })) => prop_assert_eq!((*found, *missed), (report.old_found, report.new_missed)),
                Some(TrialOutcome::Fail(_)) => prop_assert!(report.new_ms.median > 0.0),
                None => prop_assert!(looks < planned),
            }
        }
    }
}
