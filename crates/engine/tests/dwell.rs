//! A case is filed once the object has stayed for the dwell, with everything that the record needs.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{CaseState, Effect, NotFiled, PlaceMethod, Rule};

#[test]
fn a_heap_that_stays_becomes_one_case_with_all_its_details() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    harness.heap_stays("gate", 0, 50);
    assert!(harness.opened().is_empty(), "50 s is not a minute");
    harness.heap_stays("gate", 60, 3600);

    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(0.0), at(60.0)));
    assert_eq!(
        (case.dwell, case.looks, case.looks_seen),
        (Duration::from_secs(60), 7, 7)
    );
    assert!((case.confidence - 0.8).abs() < 1e-6);
    assert_eq!((case.first_box, case.confirmed_box), (HEAP, HEAP));
    assert_eq!(case.located.cell.as_str(), "410105001001044");
    assert_eq!(case.located.method, PlaceMethod::CameraPoint);
    assert_eq!(case.dedup_key, "410105001001044/0102/view:gate");
    assert_eq!(case.id.as_str().len(), 26);
    let [open] = &harness.engine.open_cases().collect::<Vec<_>>()[..] else {
        panic!("one case is open")
    };
    assert_eq!((&open.id, open.state), (&case.id, CaseState::Filed));
    assert_eq!(harness.engine.last_seen(&case.id), Some(at(3600.0)), "it is still seen");
    harness.close();
}

#[test]
fn the_two_looks_of_a_case_are_pinned_when_they_are_judged() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    let first = harness.look("gate", 0.0, vec![garbage(0.8, HEAP)]);
    assert_eq!(
        first,
        [Effect::Pin {
            camera: "gate".into(),
            at: at(0.0)
        }]
    );
    harness.heap_stays("gate", 10, 50);
    let last = harness.look("gate", 60.0, vec![garbage(0.8, HEAP)]);
    assert_eq!(
        last[0],
        Effect::Pin {
            camera: "gate".into(),
            at: at(60.0)
        }
    );
    assert!(matches!(last[1], Effect::Open(_)));
    assert_eq!((last.len(), harness.pins()), (2, 0), "both are handed over");
}

#[test]
fn a_look_is_requested_when_the_dwell_is_reached() {
    let mut harness = Harness::new(plan(
        [("gate", fixed())],
        vec![Rule {
            dwell: Duration::from_secs(45),
            ..rule()
        }],
    ));
    for s in [0.0, 10.0, 20.0, 30.0] {
        harness.look("gate", s, vec![garbage(0.8, HEAP)]);
    }
    let asked = |effects: &[Effect]| {
        effects
            .iter()
            .filter(|e| matches!(e, Effect::Look { .. }))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(asked(&harness.effects).is_empty(), "the scheduled look comes first");
    let wanted = Effect::Look {
        camera: "gate".into(),
        by: at(45.0),
    };
    assert_eq!(harness.look("gate", 40.0, vec![garbage(0.8, HEAP)]), [wanted]);
    assert!(
        harness.look("gate", 43.0, vec![garbage(0.8, HEAP)]).is_empty(),
        "requested once per moment"
    );
    assert!(matches!(
        harness.look("gate", 45.0, vec![garbage(0.8, HEAP)])[..],
        [_, Effect::Open(_)]
    ));
}

#[test]
fn a_short_occlusion_does_not_matter() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    harness.heap_stays("gate", 0, 20);
    harness.look("gate", 30.0, vec![]);
    harness.look("gate", 40.0, vec![]);
    harness.heap_stays("gate", 50, 60);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(
        (case.dwell, case.looks, case.looks_seen),
        (Duration::from_secs(60), 7, 5)
    );
}

#[test]
fn scores_that_flicker_above_the_keep_score_are_one_case() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    for (i, s) in (0..3600).step_by(10).enumerate() {
        harness.look("gate", f64::from(s), vec![garbage([0.8, 0.31, 0.5, 0.35][i % 4], HEAP)]);
    }
    assert_eq!(harness.opened().len(), 1);
    assert!(harness.not_filed().is_empty(), "{:?}", harness.not_filed());
}

#[test]
fn an_object_found_by_two_models_is_one_object() {
    let mut harness = Harness::new(plan(
        [("gate", fixed())],
        vec![Rule {
            labels: vec!["garbage".into(), "overflow".into()],
            ..rule()
        }],
    ));
    for s in (0..=60).step_by(10) {
        let mut overflow = garbage(0.6, bbox(0.46, 0.5, 0.56, 0.61));
        overflow.label = "overflow".into();
        harness.look("gate", f64::from(s), vec![overflow, garbage(0.9, HEAP)]);
    }
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert!(
        (case.confidence - 0.9).abs() < 1e-6,
        "the box with the higher score is kept"
    );
    assert!(harness.not_filed().is_empty());
}

#[test]
fn an_object_seen_too_rarely_is_reported_and_not_filed() {
    // Seen in every third look: never three of five, and not counted as present two thirds of the time.
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    for s in (0..600).step_by(30) {
        harness.look("gate", f64::from(s), vec![garbage(0.8, HEAP)]);
        harness.look("gate", f64::from(s + 10), vec![]);
        harness.look("gate", f64::from(s + 20), vec![]);
    }
    assert!(harness.opened().is_empty());
    for s in (600..800).step_by(10) {
        harness.look("gate", f64::from(s), vec![]);
    }
    assert_eq!(harness.not_filed(), [NotFiled::SeenTooRarely]);
    assert_eq!(harness.pins(), 0);
}
