//! Second looks before filing: an object that the second look doubts is not filed, and one that could not get a second
//! look is not lost.

use crate::engine_support::{HEAP, Harness, at, fixed, fixed_at, garbage, plan, rule};
use gridwatch_engine::{Detection, Effect, Intake, LonLat, NotFiled, Plan, Rule, SecondLookScore};

/// A rule that needs a minute of presence and a second-look score of 0.4.
fn second_look_rule() -> Rule {
    Rule {
        second_look: Some(0.4),
        ..rule()
    }
}

fn street() -> Plan {
    plan([("gate", fixed())], vec![second_look_rule()])
}

/// The heap with this second-look score.
fn with_second_look(score: f32) -> Vec<Detection> {
    vec![Detection {
        second_looks: vec![SecondLookScore {
            rule: Some("garbage".into()),
            score,
        }],
        ..garbage(0.8, HEAP)
    }]
}

/// Looks every 10 s; each look after a second-look request has the given score. Returns the times of the requests.
fn look_and_answer(harness: &mut Harness, from: u32, to: u32, score: f32) -> Vec<u32> {
    let mut asked: Vec<u32> = Vec::new();
    for s in (from..=to).step_by(10) {
        let is_due = asked.last().is_some_and(|last| *last + 10 == s);
        let found = if is_due {
            with_second_look(score)
        } else {
            vec![garbage(0.8, HEAP)]
        };
        let effects = harness.look("gate", s.into(), found);
        let is_asking = |e: &Effect| {
            matches!(e, Effect::SecondLook { camera, rule, bbox }
                if camera.as_str() == "gate" && rule.as_str() == "garbage" && *bbox == HEAP)
        };
        if effects.iter().any(is_asking) {
            asked.push(s);
        }
    }
    asked
}

#[test]
fn an_object_confirmed_by_a_second_look_is_filed_without_delay() {
    let mut harness = Harness::new(street());
    let asked = look_and_answer(&mut harness, 0, 600, 0.7);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    assert_eq!(
        case.confirmed_at,
        at(60.0),
        "after the rule's minute, without an extra look"
    );
    assert_eq!(case.second_look_score, Some(0.7));
    assert!((case.confidence - 0.8).abs() < 1e-6, "the score of the normal looks");
    assert_eq!(asked, [50], "requested once");
    harness.close();
}

#[test]
fn a_doubted_object_is_not_filed_and_gets_another_second_look_after_a_dwell() {
    let mut harness = Harness::new(street());
    let asked = look_and_answer(&mut harness, 0, 190, 0.3);
    assert_eq!(asked, [50, 120, 190], "one dwell after each doubt");
    assert!(harness.opened().is_empty());
    assert_eq!(harness.not_filed(), [NotFiled::Doubted], "reported once");
    // Somebody had stood in front of it.
    let asked = look_and_answer(&mut harness, 200, 400, 0.9);
    assert_eq!(asked, [200]);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    assert_eq!((case.first_seen_at, case.second_look_score), (at(0.0), Some(0.9)));
    assert!(
        case.journal.iter().any(|n| n.reason.as_str() == "doubted"),
        "the journal has it: {:?}",
        case.journal
    );
    harness.close();
}

#[test]
fn a_nan_score_is_a_doubt() {
    let mut harness = Harness::new(street());
    look_and_answer(&mut harness, 0, 60, f32::NAN);
    assert!(harness.opened().is_empty());
    assert_eq!(harness.not_filed(), [NotFiled::Doubted]);
    harness.close();
}

#[test]
fn an_object_without_a_second_look_is_filed_after_some_looks() {
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 600);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    assert_eq!(
        (case.confirmed_at, case.second_look_score),
        (at(90.0), None),
        "after waiting for three looks"
    );
    harness.close();
}

#[test]
fn a_doubted_object_is_not_filed_just_because_no_second_look_follows() {
    let mut harness = Harness::new(street());
    look_and_answer(&mut harness, 0, 60, 0.3);
    assert_eq!(harness.not_filed(), [NotFiled::Doubted]);
    harness.heap_stays("gate", 70, 600);
    assert!(harness.opened().is_empty());
    harness.look("gate", 610.0, with_second_look(0.5));
    assert_eq!(harness.opened()[0].second_look_score, Some(0.5));
    harness.close();
}

#[test]
fn a_rule_that_requires_its_second_look_files_nothing_without_it() {
    let object = Rule {
        labels: vec!["object".into()],
        second_look_is_required: true,
        ..second_look_rule()
    };
    let mut harness = Harness::new(plan([("gate", fixed())], vec![object]));
    let see = |harness: &mut Harness, s: u32, score: Option<f32>| {
        let mut found = Detection::new("object", 0.8, HEAP);
        if let Some(score) = score {
            found.set_second_look(&"garbage".into(), score);
        }
        harness.look("gate", s.into(), vec![found]);
    };
    for s in (0..=600).step_by(10) {
        see(&mut harness, s, None);
    }
    assert!(harness.opened().is_empty());
    // It pauses for ten minutes after three unanswered requests.
    see(&mut harness, 610, Some(0.5));
    assert!(harness.opened().is_empty());
    for s in (620..=700).step_by(10) {
        see(&mut harness, s, None);
    }
    assert_eq!(harness.opened()[0].second_look_score, Some(0.5));
    harness.close();
}

#[test]
fn a_second_look_counts_for_the_rule_that_asked() {
    let mut harness = Harness::new(street());
    let mut found = garbage(0.8, HEAP);
    found.set_second_look(&"new-banner".into(), 0.9);
    for s in (0..=70).step_by(10) {
        harness.look("gate", s.into(), vec![found.clone()]);
    }
    assert!(harness.opened().is_empty(), "another rule's answer");
    found.set_second_look(&"garbage".into(), 0.6);
    harness.look("gate", 80.0, vec![found]);
    assert_eq!(harness.opened()[0].second_look_score, Some(0.6));
    harness.close();
}

#[test]
fn a_rule_without_second_looks_requests_none() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    assert_eq!(look_and_answer(&mut harness, 0, 50, 0.9), Vec::<u32>::new());
    // A second look taken for another rule on the same object.
    harness.look("gate", 60.0, with_second_look(0.0));
    assert_eq!(harness.opened()[0].second_look_score, None);
    harness.close();
}

#[test]
fn an_object_with_a_case_gets_no_second_look_by_the_next_camera() {
    let here = || {
        fixed_at(LonLat {
            lon: 113.6005,
            lat: 34.7005,
        })
    };
    let mut harness = Harness::new(plan([("gate", here()), ("corner", here())], vec![second_look_rule()]));
    look_and_answer(&mut harness, 0, 120, 0.9);
    assert_eq!(harness.opened().len(), 1);
    let mut asked = Vec::new();
    for s in (130..=300).step_by(10) {
        let effects = harness.look("corner", f64::from(s), vec![garbage(0.8, HEAP)]);
        asked.extend(effects.into_iter().filter(|e| matches!(e, Effect::SecondLook { .. })));
    }
    assert!(harness.not_filed().contains(&NotFiled::OpenCaseAtSite));
    assert!(
        asked.len() <= 1,
        "the case is only found once its dwell is reached: {asked:?}"
    );
    harness.close();
}

#[test]
fn a_waiting_candidate_keeps_its_second_look_over_a_restart() {
    let mut full = street();
    full.intake = Intake {
        per_camera_day: 0,
        per_box_day: 0,
        let_go_after: None,
    };
    let mut harness = Harness::new(full);
    assert_eq!(look_and_answer(&mut harness, 0, 300, 0.8), [50]);
    assert_eq!(harness.not_filed(), [NotFiled::OverDailyCap]);
    harness.restart(street(), |_| true);
    assert_eq!(look_and_answer(&mut harness, 310, 330, 0.0), Vec::<u32>::new());
    assert_eq!(harness.opened()[0].second_look_score, Some(0.8));
    harness.close();
}
