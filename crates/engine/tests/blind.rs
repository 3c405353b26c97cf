//! Blind time is neither absence nor presence.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{Input, NotFiled, View};

const BLIND: [View; 6] = [
    View::Dark,
    View::Blurred,
    View::Blocked,
    View::Frozen,
    View::Damaged,
    View::Moved,
];

fn gate() -> Harness {
    Harness::new(plan([("gate", fixed())], vec![rule()]))
}

#[test]
fn blind_looks_add_nothing_whatever_the_models_detect() {
    for view in BLIND {
        let mut harness = gate();
        harness.heap_stays("gate", 0, 30);
        for s in (40..=1000).step_by(10) {
            harness.see("gate", f64::from(s), view, vec![garbage(0.9, HEAP)]);
        }
        assert!(harness.opened().is_empty(), "{view:?} is not presence");
        assert!(harness.not_filed().is_empty(), "{view:?} is not absence");
        harness.heap_stays("gate", 1010, 1030);
        assert!(harness.opened().is_empty(), "30 s before and 20 s after");
        harness.heap_stays("gate", 1040, 1040);
        assert_eq!(harness.opened()[0].dwell, Duration::from_secs(60));
        assert_eq!(harness.opened()[0].looks, 8, "clear looks only");
    }
}

#[test]
fn an_outage_adds_nothing() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 30);
    harness.heap_stays("gate", 121, 141);
    assert!(harness.opened().is_empty(), "91 s without a look are an outage");
    harness.heap_stays("gate", 151, 151);
    assert_eq!(harness.opened()[0].dwell, Duration::from_secs(60));
}

#[test]
fn one_damaged_picture_costs_the_time_around_it_and_no_more() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 20);
    harness.see("gate", 30.0, View::Damaged, vec![]);
    harness.heap_stays("gate", 40, 70);
    assert!(harness.opened().is_empty());
    harness.heap_stays("gate", 80, 80);
    assert_eq!(harness.opened().len(), 1);
}

#[test]
fn forgetting_waits_while_the_camera_is_blind() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 30);
    for s in (40..=130).step_by(10) {
        harness.look("gate", f64::from(s), vec![]);
    }
    for s in (140..=1000).step_by(10) {
        harness.see("gate", f64::from(s), View::Dark, vec![]);
    }
    harness.look("gate", 1010.0, vec![]);
    harness.look("gate", 1020.0, vec![]);
    assert!(harness.not_filed().is_empty(), "110 s of clear looks without it");
    harness.look("gate", 1030.0, vec![]);
    assert_eq!(harness.not_filed(), [NotFiled::LeftBeforeDwell]);
}

#[test]
fn a_look_that_comes_late_or_twice_is_ignored() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 50);
    assert!(harness.look("gate", 50.0, vec![garbage(0.8, HEAP)]).is_empty());
    assert!(harness.look("gate", 35.0, vec![]).is_empty());
    harness.heap_stays("gate", 60, 60);
    assert_eq!(harness.opened()[0].looks, 7);
}

#[test]
fn a_clock_set_back_restarts_all_candidates() {
    let mut harness = gate();
    harness.heap_stays("gate", 1000, 1050);
    harness.heap_stays("gate", 0, 50);
    assert!(harness.opened().is_empty(), "times of the old clock are void");
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::BlindTooLong], 1));
    harness.heap_stays("gate", 60, 60);
    let case = harness.opened()[0];
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(0.0), at(60.0)));
    harness.close();
}

#[test]
fn a_re_aimed_camera_restarts_and_keeps_its_open_cases() {
    let mut harness = gate();
    let reaimed = |camera: &str, seconds| Input::Reaimed {
        camera: camera.into(),
        at: at(seconds),
    };
    harness.heap_stays("gate", 0, 50);
    harness.apply(reaimed("unknown", 55.0));
    assert!(harness.not_filed().is_empty());
    harness.apply(reaimed("gate", 56.0));
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::Reaimed], 0));
    harness.heap_stays("gate", 60, 110);
    assert!(harness.opened().is_empty(), "50 s of the new view");
    harness.heap_stays("gate", 120, 120);
    let case = harness.opened()[0];
    assert_eq!((case.first_seen_at, case.dwell), (at(60.0), Duration::from_secs(60)));
    harness.apply(reaimed("gate", 121.0));
    assert_eq!(harness.not_filed().len(), 1, "a filed object is not a candidate");
    assert_eq!(harness.engine.open_cases().count(), 1);
    harness.close();
}

#[test]
fn a_clock_set_forward_adds_nothing() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 30);
    harness.heap_stays("gate", 3000, 3020);
    assert!(harness.opened().is_empty());
    harness.heap_stays("gate", 3030, 3030);
    assert_eq!(harness.opened()[0].dwell, Duration::from_secs(60));
}

#[test]
fn unknown_cameras_and_looks_before_the_plan_have_no_effect() {
    let mut harness = gate();
    for s in (0..300).step_by(10) {
        assert!(
            harness
                .look("unknown", f64::from(s), vec![garbage(0.9, HEAP)])
                .is_empty()
        );
    }
    assert_eq!(harness.engine.next_deadline(), None);
}
