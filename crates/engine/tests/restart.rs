//! Tracks and candidates survive a restart.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{Effect, Input, NotFiled, Reason, Resumed, Rule, Snapshot};

fn street() -> gridwatch_engine::Plan {
    plan([("gate", fixed())], vec![rule()])
}

#[test]
fn a_dwell_continues_after_a_restart() {
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 40);
    harness.restart(street(), |_| true);
    harness.heap_stays("gate", 60, 70);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(0.0), at(60.0)));
    assert_eq!(case.dwell, Duration::from_secs(60));
    let reasons: Vec<_> = case.journal.iter().map(|n| n.reason).collect();
    assert_eq!(reasons, [Reason::Appeared, Reason::Restarted, Reason::Confirmed]);
    harness.close();
}

#[test]
fn a_long_restart_is_blind_time() {
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 40);
    harness.restart(street(), |_| true);
    harness.heap_stays("gate", 640, 700);
    let case = harness.opened()[0];
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(0.0), at(660.0)));
    assert_eq!(case.dwell, Duration::from_secs(60));
    assert!(case.journal.iter().any(|n| n.reason == Reason::Blind && n.times == 1));
}

#[test]
fn a_candidate_whose_picture_is_lost_takes_another_and_keeps_its_dwell() {
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 50);
    harness.restart(street(), |_| false);
    assert_eq!(harness.pins(), 0);
    harness.heap_stays("gate", 60, 80);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(
        (case.first_seen_at, case.confirmed_at),
        (at(60.0), at(70.0)),
        "two pictures"
    );
    assert_eq!(case.dwell, Duration::from_secs(70), "the whole presence");
    harness.close();
}

#[test]
fn the_two_pictures_of_a_case_are_at_least_the_picture_interval_apart() {
    let street = || gridwatch_engine::Plan {
        picture_interval: Duration::from_secs(25),
        ..street()
    };
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 50);
    harness.restart(street(), |_| false);
    harness.heap_stays("gate", 60, 100);
    let case = harness.opened()[0];
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(60.0), at(90.0)));
}

#[test]
fn a_case_that_was_never_committed_is_filed_after_the_restart() {
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 60);
    assert_eq!(harness.opened().len(), 1);
    let snapshot: Snapshot = harness.engine.snapshot();
    // The store was full and never committed the case.
    let mut next = Harness::new(street());
    next.apply(Input::Resumed(Box::new(Resumed {
        snapshot,
        ..Resumed::default()
    })));
    assert_eq!(next.transitions, [Reason::Restarted, Reason::PictureLost]);
    next.heap_stays("gate", 70, 80);
    assert_eq!(next.opened().len(), 1);
    assert_eq!(next.opened()[0].dwell, Duration::from_secs(80));
}

#[test]
fn removed_rules_are_not_resumed() {
    let mut harness = Harness::new(street());
    harness.heap_stays("gate", 0, 40);
    let other = Rule {
        id: "other".into(),
        ..rule()
    };
    harness.restart(plan([("gate", fixed())], vec![other]), |_| true);
    harness.heap_stays("gate", 50, 100);
    assert!(harness.opened().is_empty(), "its dwell starts over");
    assert_eq!(harness.transitions.last(), Some(&Reason::Appeared));
    harness.close();
}

#[test]
fn an_open_case_is_not_filed_again_after_restarts() {
    let mut harness = Harness::new(street());
    for start in 0..5 {
        harness.heap_stays("gate", start * 3000, start * 3000 + 2900);
        harness.restart(street(), |_| start % 2 == 0);
    }
    assert_eq!(harness.opened().len(), 1);
    assert!(harness.not_filed().is_empty(), "{:?}", harness.not_filed());
    let unpinned = harness
        .effects
        .iter()
        .filter(|e| matches!(e, Effect::Unpin { .. }))
        .count();
    assert_eq!(unpinned, 0);
}

#[test]
fn candidates_over_the_cap_still_wait_after_a_restart() {
    let mut full = street();
    full.intake.per_box_day = 0;
    let mut harness = Harness::new(full.clone());
    harness.heap_stays("gate", 0, 60);
    assert_eq!(harness.not_filed(), [NotFiled::OverDailyCap]);
    harness.restart(full.clone(), |_| true);
    assert_eq!(harness.engine.waiting(), 1);
    harness.heap_stays("gate", 70, 100);
    assert_eq!(harness.not_filed(), [NotFiled::OverDailyCap], "reported once");
}
