//! Rules that require or prefer what appeared after the camera learned its view.

use crate::engine_support::{HEAP, Harness, at, bbox, fixed, garbage, plan, rule};
use gridwatch_engine::{Appeared, Detection, Input, Label, Newness, NotFiled, Observation, Rule, View};

const REQUIRED: Appeared = Appeared {
    new_start: 0.35,
    new_keep: None,
    old_start: None,
};
const PREFERRED: Appeared = Appeared {
    new_start: 0.35,
    new_keep: None,
    old_start: Some(0.7),
};

fn street(appeared: Appeared) -> Harness {
    let rule = Rule {
        appeared: Some(appeared),
        ..rule()
    };
    Harness::new(plan([("gate", fixed())], vec![rule]))
}

fn new(share: f32) -> Option<Newness> {
    let since = (share > 0.0).then(|| at(0.0));
    Some(Newness { share, since })
}

fn heap(score: f32, newness: Option<Newness>) -> Detection {
    Detection {
        newness,
        ..garbage(score, HEAP)
    }
}

fn stays(harness: &mut Harness, seen: &Detection, from: u32, to: u32) {
    for s in (from..=to).step_by(10) {
        harness.look("gate", s.into(), vec![seen.clone()]);
    }
}

/// Number of cases, and the reasons for none, after five minutes of `seen`.
fn filed(appeared: Appeared, seen: &Detection) -> (usize, Vec<NotFiled>) {
    let mut harness = street(appeared);
    stays(&mut harness, seen, 0, 300);
    let mut reasons = harness.not_filed();
    reasons.dedup();
    let cases = harness.opened().len();
    harness.close();
    (cases, reasons)
}

#[test]
fn what_is_required_to_be_new_starts_at_the_lower_score() {
    assert_eq!(filed(REQUIRED, &heap(0.36, new(0.8))), (1, vec![]));
    assert_eq!(filed(REQUIRED, &heap(0.34, new(0.8))), (0, vec![NotFiled::ScoreTooLow]));
    assert_eq!(
        filed(REQUIRED, &heap(0.36, new(0.25))),
        (1, vec![]),
        "a quarter of the box suffices"
    );
}

#[test]
fn what_was_there_before_starts_nothing_where_newness_is_required() {
    assert_eq!(filed(REQUIRED, &heap(0.95, new(0.24))), (0, vec![NotFiled::NotNew]));
    assert_eq!(
        filed(REQUIRED, &heap(0.95, None)),
        (0, vec![NotFiled::NotNew]),
        "a view that is not learned yet cannot tell"
    );
}

#[test]
fn what_was_there_before_needs_a_higher_score_where_newness_is_preferred() {
    assert_eq!(filed(PREFERRED, &heap(0.36, new(0.8))), (1, vec![]));
    assert_eq!(filed(PREFERRED, &heap(0.69, new(0.0))), (0, vec![NotFiled::NotNew]));
    assert_eq!(
        filed(PREFERRED, &heap(0.45, new(0.0))),
        (0, vec![NotFiled::ScoreTooLow])
    );
    assert_eq!(filed(PREFERRED, &heap(0.7, new(0.0))), (1, vec![]));
    assert_eq!(
        filed(PREFERRED, &heap(0.5, None)),
        (1, vec![]),
        "without a learned view, as if newness did not count"
    );
}

#[test]
fn a_candidate_goes_on_when_the_background_has_absorbed_its_object() {
    let mut harness = street(REQUIRED);
    stays(&mut harness, &heap(0.5, new(0.9)), 0, 30);
    stays(&mut harness, &heap(0.5, new(0.0)), 40, 120);
    assert_eq!(harness.opened().len(), 1);
    assert_eq!(harness.not_filed(), []);
    harness.close();
}

#[test]
fn an_object_that_becomes_new_starts_a_candidate() {
    let mut harness = street(REQUIRED);
    stays(&mut harness, &heap(0.5, new(0.0)), 0, 100);
    stays(&mut harness, &heap(0.5, new(0.6)), 110, 160);
    assert_eq!(harness.opened().len(), 0, "its dwell counts from then");
    stays(&mut harness, &heap(0.5, new(0.6)), 170, 170);
    assert_eq!(harness.opened().len(), 1);
    harness.close();
}

#[test]
fn one_new_bag_makes_a_heap_new() {
    let rule = Rule {
        appeared: Some(REQUIRED),
        gather: 1.0,
        ..rule()
    };
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
    let beside = Detection {
        newness: new(0.7),
        ..garbage(0.4, bbox(0.56, 0.5, 0.66, 0.6))
    };
    for s in (0..=60).step_by(10) {
        harness.look("gate", s.into(), vec![heap(0.8, new(0.0)), beside.clone()]);
    }
    assert_eq!(harness.opened().len(), 1);
    harness.close();
}

/// An unknown object is not gone because a look in another light could not tell what is new, although the rule has other labels.
#[test]
fn a_look_that_left_a_label_out_shows_no_absence() {
    let rule = Rule {
        labels: vec!["umbrella".into(), Label::object()],
        ..rule()
    };
    let object = Detection::new(Label::object(), 0.9, HEAP);
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
    for s in (0..=600).step_by(10) {
        let is_judged = !(30..=400).contains(&s);
        harness.apply(Input::Observed(Observation {
            camera: "gate".into(),
            at: at(s.into()),
            view: View::Clear,
            light: Default::default(),
            detections: is_judged.then(|| object.clone()).into_iter().collect(),
            not_searched: (!is_judged).then(Label::object).into_iter().collect(),
        }));
    }
    assert_eq!(harness.not_filed(), []);
    assert_eq!(harness.opened().len(), 1);
    harness.close();
}

/// A case is about an unidentified object if nearly all looks saw one; a single false box of a known label changes nothing, nor does a
/// snapshot of a version that did not count.
#[test]
fn a_case_tells_whether_its_object_was_recognised() {
    let opened = |known_every: Option<i32>| {
        let rule = Rule {
            labels: vec!["umbrella".into(), Label::object()],
            ..rule()
        };
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
        for i in 0..=60 {
            let is_known = known_every.is_some_and(|every| i % every == every / 2);
            let label = if is_known { "umbrella".into() } else { Label::object() };
            harness.look("gate", (i * 10).into(), vec![Detection::new(label, 0.9, HEAP)]);
        }
        let [case] = &harness.opened()[..] else {
            panic!("{:?}", harness.opened())
        };
        let is_unidentified = case.is_unidentified;
        harness.close();
        is_unidentified
    };
    assert!(opened(None));
    assert!(opened(Some(6)), "now and then a box of something that passes");
    assert!(!opened(Some(2)));
    assert!(!opened(Some(1)));
}

/// A text that decided tells what it is: a small ad with its number is not an unidentified object.
#[test]
fn an_object_whose_text_decided_is_identified() {
    let opened = |is_required: bool| {
        let rule = Rule {
            labels: vec![Label::object()],
            second_look: Some(0.5),
            second_look_is_required: is_required,
            ..rule()
        };
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
        for s in (0..=60).step_by(10) {
            let mut found = Detection::new(Label::object(), 0.9, HEAP);
            found.set_second_look(&"garbage".into(), 0.8);
            harness.look("gate", s.into(), vec![found]);
        }
        let is_unidentified = harness.opened()[0].is_unidentified;
        harness.close();
        is_unidentified
    };
    assert!(opened(false) && !opened(true));
}

/// A box of a known label on the same object tells what it is, whichever of the two has the higher score.
#[test]
fn a_recognised_duplicate_identifies_the_object() {
    let rule = Rule {
        labels: vec!["umbrella".into(), Label::object()],
        ..rule()
    };
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
    for s in (0..=600).step_by(10) {
        let both = [(Label::object(), 0.9), ("umbrella".into(), 0.6)];
        harness.look(
            "gate",
            s.into(),
            both.map(|(l, score)| Detection::new(l, score, HEAP)).to_vec(),
        );
    }
    assert_eq!(
        harness.opened().iter().map(|c| c.is_unidentified).collect::<Vec<_>>(),
        [false]
    );
    harness.close();
}

/// A network is less sure of something small; that it is new is evidence of its own. What was there before needs the usual scores.
#[test]
fn what_is_new_goes_on_and_passes_its_second_look_with_lower_scores() {
    let rule = Rule {
        appeared: Some(Appeared {
            new_start: 0.25,
            new_keep: Some(0.2),
            old_start: Some(0.7),
        }),
        second_look: Some(0.3),
        ..rule()
    };
    let file = |first: f32, then: f32, second_look: f32, newness: Option<Newness>| {
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule.clone()]));
        for s in (0..=120).step_by(10) {
            let mut seen = heap(if s == 0 { first } else { then }, newness);
            seen.set_second_look(&"garbage".into(), second_look);
            harness.look("gate", s.into(), vec![seen]);
        }
        harness.opened().len()
    };
    assert_eq!(file(0.26, 0.21, 0.21, new(0.8)), 1);
    assert_eq!(file(0.24, 0.21, 0.21, new(0.8)), 0, "too low to start");
    assert_eq!(file(0.26, 0.19, 0.21, new(0.8)), 0, "too low to go on");
    assert_eq!(file(0.26, 0.21, 0.19, new(0.8)), 0, "doubted");
    assert_eq!(file(0.75, 0.75, 0.21, new(0.0)), 0, "not new: doubted");
    assert_eq!(file(0.75, 0.25, 0.9, new(0.0)), 0, "not new: too low to go on");
}
