//! A new model beside the one that decides, on the same pictures: is it fit to take over?
//!
//! A pure state machine: it has no clock, no session and no thread. Whoever runs the two tells it what each found and how long
//! it took, look by look; it answers once, with a [`TrialOutcome`]. As a shadow it never judges and only counts, but for errors,
//! which end that too.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::differ::{DEFAULT_THRESHOLD, ScoreThresholds, ModelDiff};
use gridwatch_engine::Detection;

/// Looks in a row that fail before a model is called broken: one may be a picture's fault, three of other pictures are not.
const MAX_CONSECUTIVE_ERRORS: u32 = 3;

/// A model is called blind after at least so many looks in which the other found something ...
const MIN_LOOKS_WITH_DETECTIONS: u32 = 10;

/// ... if in this share of them it found nothing of that at all.
const BLIND_RATIO: f64 = 0.9;

/// Latency are judged once there are so many: the first looks of a session touch its memory for the first time.
const MIN_TIMED_LOOKS: usize = 20;

/// Latency are judged so often, so that a long trial does not sort them at each look.
const LATENCY_CHECK_INTERVAL: usize = 10;

/// What a trial asks.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialTerms {
    /// For so many looks, 1 or more.
    pub looks: u32,
    /// From which score a label counts: what its rules ask for. Labels that only one of the two has are not in it and count from
    /// [`DEFAULT_THRESHOLD`]; they blind nobody.
    pub thresholds: ScoreThresholds,
    /// The new model's median time may be so many times the old one's.
    pub slower_at_most: f64,
    /// And 95 in 100 of its looks may take no longer than this.
    pub budget: Duration,
    /// It only runs beside: nothing but errors is judged.
    pub is_shadow: bool,
}

/// What one model made of one picture.
#[derive(Debug, Clone, Copy)]
pub enum LookOutcome<'a> {
    /// What it found, and the wall time that took.
    Detections(&'a [Detection], Duration),
    /// Why it found nothing: it failed, or its outputs were not finite numbers.
    Failed(&'a str),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialOutcome {
    /// Fit to take over; of a shadow: it saw what it was to see.
    Pass,
    /// Not, and why.
    Fail(TrialFailure),
}

/// Why a model is not fit. The text says what an operator can do.
#[derive(Debug, Clone, PartialEq)]
pub enum TrialFailure {
    /// It fails look after look.
    Errors(String),
    /// It does not find what the other finds.
    Blind {
        /// Looks in which the other found something that counts.
        found: u32,
        /// Those in which it found nothing of that.
        missed: u32,
    },
    /// Too slow against the other.
    Slower {
        /// Its median.
        new_ms: f64,
        /// The other's.
        old_ms: f64,
        /// What is allowed.
        at_most: f64,
    },
    /// Too slow in itself.
    OverBudget {
        /// 95 in 100 of its looks took no longer.
        p95_ms: f64,
        /// What is allowed.
        budget_ms: f64,
    },
}

impl fmt::Display for TrialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors(text) => write!(f, "it failed at {MAX_CONSECUTIVE_ERRORS} looks in a row: {text}"),
            Self::Blind { found, missed } => write!(
                f,
                "in {missed} of {found} looks it found nothing of what the running model found; see its labels, colour order and scale (gridwatch model check)"
            ),
            Self::Slower {
                new_ms,
                old_ms,
                at_most,
            } => write!(
                f,
                "its looks take {new_ms:.1} ms (median), {:.1} times the running model's {old_ms:.1} ms; at most {at_most} times is allowed (registry.slower_at_most)",
                new_ms / old_ms
            ),
            Self::OverBudget { p95_ms, budget_ms } => write!(
                f,
                "one in twenty of its looks takes more than {p95_ms:.1} ms; {budget_ms:.0} ms is allowed (registry.latency_budget)"
            ),
        }
    }
}

/// What was seen, for the journal and for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// Looks that both judged or tried to.
    pub looks: u32,
    /// Looks at which the new one failed.
    pub errors: u32,
    /// Looks in which the old one found something of the labels that both have.
    pub old_found: u32,
    /// Those in which the new one found nothing of that.
    pub new_missed: u32,
    /// Wall time of the old one's looks.
    pub old_ms: Latency,
    /// The same of the new one.
    pub new_ms: Latency,
    /// Where they differ.
    pub differences: ModelDiff,
}

/// Of many looks, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half took no longer.
    pub median: f64,
    /// 95 in 100 took no longer.
    pub p95: f64,
}

impl Latency {
    /// Of what was measured, in milliseconds; noughts of nothing.
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

/// A trial under way.
#[derive(Debug)]
pub struct Trial {
    terms: TrialTerms,
    looks: u32,
    errors: u32,
    in_a_row: u32,
    found: u32,
    missed: u32,
    old_ms: Vec<f32>,
    new_ms: Vec<f32>,
    tally: ModelDiff,
    is_over: bool,
}

impl Trial {
    /// Nothing was seen yet.
    pub fn new(terms: TrialTerms) -> Self {
        Self {
            terms,
            looks: 0,
            errors: 0,
            in_a_row: 0,
            found: 0,
            missed: 0,
            old_ms: Vec::new(),
            new_ms: Vec::new(),
            tally: ModelDiff::default(),
            is_over: false,
        }
    }

    /// Takes one look of both; `Some` once, when it is over. What comes after that changes nothing.
    pub fn look(&mut self, camera: &str, at: Timestamp, old: LookOutcome<'_>, new: LookOutcome<'_>) -> Option<TrialOutcome> {
        if self.is_over {
            return None;
        }
        let verdict = self.take(camera, at, old, new);
        self.is_over = verdict.is_some();
        verdict
    }

    /// Looks taken so far.
    pub fn looks(&self) -> u32 {
        self.looks
    }

    /// What was seen so far.
    pub fn report(&self) -> TrialReport {
        TrialReport {
            looks: self.looks,
            errors: self.errors,
            old_found: self.found,
            new_missed: self.missed,
            old_ms: Latency::of(self.old_ms.clone()),
            new_ms: Latency::of(self.new_ms.clone()),
            differences: self.tally.clone(),
        }
    }

    fn take(&mut self, camera: &str, at: Timestamp, old: LookOutcome<'_>, new: LookOutcome<'_>) -> Option<TrialOutcome> {
        match (old, new) {
            // A picture that neither can read says nothing of either.
            (LookOutcome::Failed(_), LookOutcome::Failed(_)) => return None,
            (LookOutcome::Detections(..), LookOutcome::Failed(why)) => {
                self.looks += 1;
                self.errors += 1;
                self.in_a_row += 1;
                if self.in_a_row >= MAX_CONSECUTIVE_ERRORS {
                    return Some(TrialOutcome::Fail(TrialFailure::Errors(why.to_owned())));
                }
            }
            (LookOutcome::Failed(_), LookOutcome::Detections(..)) => {
                self.looks += 1;
                self.in_a_row = 0;
            }
            (LookOutcome::Detections(old, old_took), LookOutcome::Detections(new, new_took)) => {
                self.looks += 1;
                self.in_a_row = 0;
                self.old_ms.push(old_took.as_secs_f32() * 1e3);
                self.new_ms.push(new_took.as_secs_f32() * 1e3);
                let counts = |d: &&Detection| self.terms.thresholds.get(&d.label).is_some_and(|bar| d.score >= *bar);
                let found: Vec<_> = old.iter().filter(counts).map(|d| &d.label).collect();
                if !found.is_empty() {
                    self.found += 1;
                    // At any score: one that is merely less sure is no blind one.
                    self.missed += u32::from(!new.iter().any(|d| found.contains(&&d.label)));
                }
                self.tally.add(camera, Some(at), &self.terms.thresholds, old, new);
            }
        }
        self.judge()
    }

    fn judge(&self) -> Option<TrialOutcome> {
        let is_last = self.looks >= self.terms.looks;
        if !self.terms.is_shadow {
            if self.found >= MIN_LOOKS_WITH_DETECTIONS && f64::from(self.missed) >= f64::from(self.found) * BLIND_RATIO {
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
                // Too short a trial to fail in a row, and all of it failed.
                return TrialOutcome::Fail(TrialFailure::Errors("no look of it succeeded".into()));
            }
            TrialOutcome::Pass
        })
    }

    fn too_slow(&self, is_last: bool) -> Option<TrialFailure> {
        let old = Latency::of(self.old_ms.clone());
        let new = Latency::of(self.new_ms.clone());
        let budget_ms = self.terms.budget.as_secs_f64() * 1e3;
        // Before the end a few stray looks would make a 95th percentile.
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

/// What counts for a trial: each label that both models have from the least score with which a rule begins, or [`DEFAULT_THRESHOLD`].
pub fn score_thresholds<'a>(
    old: &[gridwatch_engine::Label],
    new: &[gridwatch_engine::Label],
    rules: impl IntoIterator<Item = &'a gridwatch_engine::Rule>,
) -> ScoreThresholds {
    let mut thresholds = ScoreThresholds::new();
    for rule in rules {
        let least = rule.day.start.min(rule.night.start);
        for label in rule.labels.iter().filter(|l| old.contains(l) && new.contains(l)) {
            let bar = thresholds.entry(label.clone()).or_insert(least);
            *bar = bar.min(least);
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
        vec![Detection {
            label: "bag".into(),
            score,
            bbox: BBox {
                x1: 0.1,
                y1: 0.1,
                x2: 0.2,
                y2: 0.2,
            },
            appearance: None,
            number: None,
            closer: None,
        }]
    }

    /// Looks until it is over; gives the verdict and the number of looks that took.
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
            if let Some(verdict) = trial.look("gate", AT, old, new) {
                return (verdict, i);
            }
        }
        panic!("it never ended: {:?}", trial.report());
    }

    #[test]
    fn one_that_finds_the_same_as_fast_passes_after_its_looks() {
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
    fn one_that_fails_three_times_in_a_row_is_broken_and_one_that_stumbles_is_not() {
        let (verdict, looks) = run(terms(100), |_| (Ok(vec![]), Err(()), 10, 10));
        assert_eq!(
            (verdict, looks),
            (TrialOutcome::Fail(TrialFailure::Errors("not finite".into())), 3)
        );
        let stumbles = |i: u32| if i.is_multiple_of(3) { Ok(vec![]) } else { Err(()) };
        assert_eq!(run(terms(99), |i| (Ok(vec![]), stumbles(i), 10, 10)).0, TrialOutcome::Pass);
        let short = run(terms(2), |_| (Ok(vec![]), Err(()), 10, 10));
        assert!(matches!(short, (TrialOutcome::Fail(TrialFailure::Errors(_)), 2)), "{short:?}");
    }

    #[test]
    fn a_picture_that_neither_can_read_is_no_look() {
        let broken = |i: u32| if i <= 50 { Err(()) } else { Ok(vec![]) };
        assert_eq!(run(terms(10), |i| (broken(i), broken(i), 10, 10)), (TrialOutcome::Pass, 60));
    }

    #[test]
    fn one_that_finds_nothing_of_what_the_other_finds_is_blind() {
        let (verdict, looks) = run(terms(100), |_| (Ok(bag(0.9)), Ok(vec![]), 10, 10));
        assert_eq!(
            (verdict, looks),
            (TrialOutcome::Fail(TrialFailure::Blind { found: 10, missed: 10 }), 10)
        );
        // A thing that is there one look in nine takes that much longer to tell.
        let now_and_then = |i: u32| if i.is_multiple_of(9) { Ok(bag(0.9)) } else { Ok(vec![]) };
        assert_eq!(run(terms(100), |i| (now_and_then(i), Ok(vec![]), 10, 10)).1, 90);
    }

    #[test]
    fn one_that_is_less_sure_or_sees_less_of_what_is_not_asked_for_is_not_blind() {
        assert_eq!(
            run(terms(50), |_| (Ok(bag(0.9)), Ok(bag(0.2)), 10, 10)).0,
            TrialOutcome::Pass
        );
        assert_eq!(
            run(terms(50), |_| (Ok(bag(0.4)), Ok(vec![]), 10, 10)).0,
            TrialOutcome::Pass,
            "too unsure to count"
        );
        let half = |i: u32| if i.is_multiple_of(2) { Ok(bag(0.9)) } else { Ok(vec![]) };
        assert_eq!(run(terms(50), |i| (Ok(bag(0.9)), half(i), 10, 10)).0, TrialOutcome::Pass);
    }

    #[test]
    fn one_that_is_too_slow_is_told_before_the_end() {
        let (verdict, looks) = run(terms(1000), |_| (Ok(vec![]), Ok(vec![]), 10, 41));
        assert!(
            matches!(verdict, TrialOutcome::Fail(TrialFailure::Slower { .. })) && looks == 20,
            "{verdict:?} {looks}"
        );
        let (verdict, looks) = run(terms(1000), |_| (Ok(vec![]), Ok(vec![]), 400, 501));
        assert!(
            matches!(verdict, TrialOutcome::Fail(TrialFailure::OverBudget { .. })) && looks == 20,
            "{verdict:?} {looks}"
        );
        assert_eq!(run(terms(100), |_| (Ok(vec![]), Ok(vec![]), 10, 39)).0, TrialOutcome::Pass);
    }

    #[test]
    fn stray_slow_looks_break_the_budget_only_where_they_are_one_in_twenty() {
        let stray = |every: u32| {
            move |i: u32| {
                (
                    Ok(vec![]),
                    Ok(vec![]),
                    10,
                    if i.is_multiple_of(every) { 900 } else { 10 },
                )
            }
        };
        assert_eq!(run(terms(100), stray(25)).0, TrialOutcome::Pass);
        assert!(matches!(
            run(terms(100), stray(15)).0,
            TrialOutcome::Fail(TrialFailure::OverBudget { .. })
        ));
    }

    #[test]
    fn a_shadow_is_judged_by_nothing_but_errors() {
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
    fn times_are_of_the_looks_that_were_measured() {
        assert_eq!(Latency::of(vec![]), Latency::default());
        let times = Latency::of((1..=100).rev().map(|i| i as f32).collect());
        assert_eq!((times.median, times.p95), (50.0, 95.0));
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
        /// Whatever is seen: at most one verdict, never later than its looks, and a pass only after all of them.
        #[test]
        fn there_is_one_verdict_and_a_pass_takes_all_its_looks(
            wanted in 1..60u32,
            seen in prop::collection::vec((look(), look(), 1..100u32, 1..100u32), 0..200),
        ) {
            let mut trial = Trial::new(terms(wanted));
            let mut verdicts = Vec::new();
            let (mut in_a_row, mut worst_row, mut looks) = (0, 0, 0);
            for (old, new, old_ms, new_ms) in &seen {
                let found = |l: &Look| match l { Look::Finds(s) => bag(*s), _ => vec![] };
                let (of, nf) = (found(old), found(new));
                let old_seen = if matches!(old, Look::Fails) { LookOutcome::Failed("x") } else { LookOutcome::Detections(&of, MS * *old_ms) };
                let new_seen = if matches!(new, Look::Fails) { LookOutcome::Failed("y") } else { LookOutcome::Detections(&nf, MS * *new_ms) };
                if verdicts.is_empty() && !matches!((old, new), (Look::Fails, Look::Fails)) {
                    looks += 1;
                    in_a_row = if matches!(new, Look::Fails) { in_a_row + 1 } else { 0 };
                    worst_row = worst_row.max(in_a_row);
                }
                verdicts.extend(trial.look("gate", AT, old_seen, new_seen));
            }
            prop_assert!(verdicts.len() <= 1);
            prop_assert_eq!(trial.looks(), looks);
            prop_assert!(looks <= wanted);
            let report = trial.report();
            prop_assert!(report.new_missed <= report.old_found && report.errors <= report.looks);
            match verdicts.first() {
                Some(TrialOutcome::Pass) => {
                    prop_assert_eq!(looks, wanted);
                    prop_assert!(worst_row < MAX_CONSECUTIVE_ERRORS);
                    prop_assert!(report.old_found < MIN_LOOKS_WITH_DETECTIONS || f64::from(report.new_missed) < f64::from(report.old_found) * BLIND_RATIO);
                    prop_assert!(report.new_ms.p95 <= 500.0);
                }
                Some(TrialOutcome::Fail(TrialFailure::Errors(_))) => prop_assert!(worst_row == MAX_CONSECUTIVE_ERRORS || report.new_ms.median == 0.0),
                Some(TrialOutcome::Fail(TrialFailure::Blind { found, missed })) => prop_assert_eq!((*found, *missed), (report.old_found, report.new_missed)),
                Some(TrialOutcome::Fail(_)) => prop_assert!(report.new_ms.median > 0.0),
                None => prop_assert!(looks < wanted),
            }
        }
    }
}
