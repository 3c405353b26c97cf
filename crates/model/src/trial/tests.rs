//! The judgement of a trial, look by look.

use proptest::prelude::*;

use super::*;
use gridwatch_engine::BBox;

const AT: Timestamp = Timestamp::UNIX_EPOCH;
const MS: Duration = Duration::from_millis(1);

fn terms(looks: u32) -> TrialTerms {
    TrialTerms {
        looks,
        thresholds: ScoreThresholds::from([("bag".into(), 0.5)]),
        to_prove: BTreeSet::new(),
        slower_at_most: 4.0,
        budget: MS * 500,
        is_shadow: false,
    }
}

fn object(label: &str, score: f32, x1: f32) -> Detection {
    let (y1, x2, y2) = (0.1, x1 + 0.1, 0.2);
    Detection::new(label, score, BBox { x1, y1, x2, y2 })
}

fn bag(score: f32) -> Vec<Detection> {
    vec![object("bag", score, 0.1)]
}

/// Equal objects side by side, none of them where [`bag`] is.
fn bags(count: u32) -> Vec<Detection> {
    (0..count).map(|i| object("bag", 0.9, 0.25 + 0.12 * i as f32)).collect()
}

fn blind(label: &str, threshold: f32, found: u32, missed: u32) -> TrialOutcome {
    TrialOutcome::Fail(TrialFailure::Blind {
        label: label.into(),
        threshold,
        finds: LabelFinds { found, missed },
    })
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
    assert_eq!((outcome, looks), (blind("bag", 0.5, 10, 10), 10));
    // An object present in one look of nine takes nine times as long.
    let now_and_then = |i: u32| if i.is_multiple_of(9) { Ok(bag(0.9)) } else { Ok(vec![]) };
    assert_eq!(run(terms(100), |i| (now_and_then(i), Ok(vec![]), 10, 10)).1, 90);
}

#[test]
fn a_model_is_judged_at_the_score_from_which_rules_count() {
    assert_eq!(
        run(terms(50), |_| (Ok(bag(0.9)), Ok(bag(0.25)), 10, 10)),
        (blind("bag", 0.5, 10, 10), 10),
        "a score that no rule counts is worth nothing"
    );
    assert_eq!(
        run(terms(50), |_| (Ok(bag(0.9)), Ok(bag(0.51)), 10, 10)).0,
        TrialOutcome::Pass,
        "lower confidence is not blindness"
    );
    assert_eq!(
        run(terms(50), |_| (Ok(bag(0.4)), Ok(vec![]), 10, 10)).0,
        TrialOutcome::Pass,
        "the running model is not certain either"
    );
}

#[test]
fn a_model_that_finds_half_of_it_passes_and_one_that_finds_less_fails_at_the_end() {
    let every = |n: u32| move |i: u32| if i.is_multiple_of(n) { Ok(bag(0.9)) } else { Ok(vec![]) };
    assert_eq!(
        run(terms(50), |i| (Ok(bag(0.9)), every(2)(i), 10, 10)).0,
        TrialOutcome::Pass
    );
    assert_eq!(
        run(terms(60), |i| (Ok(bag(0.9)), every(3)(i), 10, 10)),
        (blind("bag", 0.5, 60, 40), 60)
    );
}

#[test]
fn an_object_elsewhere_is_not_the_one_that_was_found() {
    let (outcome, _) = run(terms(50), |_| (Ok(bag(0.9)), Ok(bags(1)), 10, 10));
    assert_eq!(outcome, blind("bag", 0.5, 10, 10));
}

#[test]
fn each_label_is_judged_by_itself_so_that_swapped_classes_are_found() {
    let two = || TrialTerms {
        thresholds: ScoreThresholds::from([("bag".into(), 0.5), ("bin".into(), 0.3)]),
        ..terms(50)
    };
    let both = |a: &str, b: &str| vec![object(a, 0.9, 0.1), object(b, 0.9, 0.5)];
    let swapped = run(two(), |_| (Ok(both("bag", "bin")), Ok(both("bin", "bag")), 10, 10));
    assert_eq!(swapped, (blind("bag", 0.5, 10, 10), 10));
    // Only one of the two classes is missing; the other one is found in every look.
    let one = run(two(), |_| (Ok(both("bag", "bin")), Ok(both("bag", "cat")), 10, 10));
    assert_eq!(one, (blind("bin", 0.3, 10, 10), 10));
    // A label that no rule uses may vanish.
    let unused = run(two(), |_| (Ok(both("bag", "cat")), Ok(bag(0.9)), 10, 10));
    assert_eq!(unused.0, TrialOutcome::Pass);
}

#[test]
fn a_model_that_reports_far_more_than_the_running_one_fails() {
    let with = |mut all: Vec<Detection>, more| {
        all.extend(bags(more));
        all
    };
    let (outcome, looks) = run(terms(20), |_| (Ok(bag(0.9)), Ok(with(bag(0.9), 6)), 10, 10));
    let flood = TrialFailure::Flood {
        label: "bag".into(),
        only_new: 120,
        old: 20,
        looks: 20,
    };
    assert_eq!((outcome, looks), (TrialOutcome::Fail(flood), 20));
    assert_eq!(
        run(terms(20), |_| (Ok(bag(0.9)), Ok(with(bag(0.9), 5)), 10, 10)).0,
        TrialOutcome::Pass,
        "bags of a heap, told apart"
    );
    assert_eq!(
        run(terms(20), |_| (Ok(vec![]), Ok(bags(3)), 10, 10)).0,
        TrialOutcome::Pass,
        "the running model may be the blind one"
    );
}

#[test]
fn too_few_finds_of_a_label_that_nothing_else_proves_cannot_tell() {
    let unproven = || TrialTerms {
        to_prove: BTreeSet::from(["bag".into()]),
        ..terms(50)
    };
    let until = |n: u32| move |i: u32| if i <= n { bag(0.9) } else { vec![] };
    let (outcome, looks) = run(unproven(), |i| (Ok(until(9)(i)), Ok(until(9)(i)), 10, 10));
    let reason = TrialFailure::Unproven(vec![("bag".into(), 9)]);
    assert_eq!(
        reason.to_string(),
        "cannot tell whether it works: the running model found \"bag\" in 9 looks, 10 looks each are needed, and no self-test of \
         the new one shows it at the rules' scores; add pictures to its self-test (gridwatch model record), try it over more looks \
         (registry.trial_looks), or activate it unproven with `gridwatch model use --force`"
    );
    assert_eq!((outcome, looks), (TrialOutcome::Fail(reason), 50));
    assert_eq!(
        run(unproven(), |i| (Ok(until(10)(i)), Ok(until(10)(i)), 10, 10)).0,
        TrialOutcome::Pass
    );
    assert_eq!(
        run(terms(50), |i| (Ok(until(9)(i)), Ok(until(9)(i)), 10, 10)).0,
        TrialOutcome::Pass,
        "its self-test proves it, or an operator asked for no proof"
    );
}

#[test]
fn a_self_test_proves_the_labels_that_it_shows_at_the_scores_of_the_rules() {
    let thresholds = ScoreThresholds::from([("bag".into(), 0.5), ("bin".into(), 0.3), ("sign".into(), 0.25)]);
    let shown = ScoreThresholds::from([("bag".into(), 0.49), ("bin".into(), 0.3)]);
    let unproven = unproven_labels(&thresholds, &shown);
    assert_eq!(unproven, BTreeSet::from(["bag".into(), "sign".into()]));
    assert_eq!(
        untried(unproven),
        Some(TrialFailure::Unproven(vec![("bag".into(), 0), ("sign".into(), 0)]))
    );
    assert_eq!(untried(BTreeSet::new()), None);
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
                prop_assert!(report.old_found < MIN_LOOKS_WITH_DETECTIONS || f64::from(report.new_missed) <= f64::from(report.old_found) * MIN_FOUND_RATIO);
                prop_assert!(report.new_ms.p95 <= 500.0);
            }
            Some(TrialOutcome::Fail(TrialFailure::Errors(_))) => prop_assert!(worst_row == MAX_CONSECUTIVE_ERRORS || report.new_ms.median == 0.0),
            Some(TrialOutcome::Fail(TrialFailure::Blind { finds, .. })) => prop_assert_eq!((finds.found, finds.missed), (report.old_found, report.new_missed)),
            Some(TrialOutcome::Fail(_)) => prop_assert!(report.new_ms.median > 0.0),
            None => prop_assert!(looks < planned),
        }
    }
}
