//! A case after filing, and what its state means for an object that is still there.

use crate::engine_support::*;
use gridwatch_engine::{CaseId, CaseState, Effect, Input, NotFiled, Reply};

/// A heap whose case was filed at 60 s.
fn filed() -> (Harness, CaseId) {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    harness.heap_stays("gate", 0, 60);
    let id = harness.opened()[0].id.clone();
    (harness, id)
}

fn reply(harness: &mut Harness, case: &CaseId, state: CaseState, seconds: f64) -> Vec<Effect> {
    harness.apply(Input::Reply(Reply {
        case: case.clone(),
        state,
        at: at(seconds),
        reason: None,
        due: None,
    }))
}

#[test]
fn replies_are_revisions_with_their_reason() {
    let (mut harness, case) = filed();
    let reason = Some("证据不足".to_owned());
    let effects = harness.apply(Input::Reply(Reply {
        case: case.clone(),
        state: CaseState::Rejected,
        at: at(70.0),
        reason,
        due: None,
    }));
    let expected = Effect::Revise {
        case,
        state: CaseState::Rejected,
        at: at(70.0),
        reason: "The platform rejected the case. Reason given: 证据不足".into(),
    };
    assert_eq!(effects, [expected]);
}

#[test]
fn a_repeated_reply_changes_nothing() {
    let (mut harness, case) = filed();
    assert_eq!(reply(&mut harness, &case, CaseState::Accepted, 70.0).len(), 1);
    assert!(reply(&mut harness, &case, CaseState::Accepted, 80.0).is_empty());
    assert_eq!(harness.engine.open_cases().next().unwrap().at, at(70.0));
}

#[test]
fn an_illegal_reply_is_rejected_and_changes_nothing() {
    let (mut harness, case) = filed();
    reply(&mut harness, &case, CaseState::Dispatched, 70.0);
    let [
        Effect::ReplyRefused {
            known, reply: state, ..
        },
    ] = &reply(&mut harness, &case, CaseState::Accepted, 80.0)[..]
    else {
        panic!("{:?}", harness.effects.last());
    };
    assert_eq!((*known, *state), (Some(CaseState::Dispatched), CaseState::Accepted));
    assert_eq!(harness.engine.open_cases().next().unwrap().state, CaseState::Dispatched);
    let unknown = CaseId::from("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert!(matches!(
        reply(&mut harness, &unknown, CaseState::Accepted, 90.0)[..],
        [Effect::ReplyRefused { known: None, .. }]
    ));
}

#[test]
fn an_object_still_there_after_closing_reopens_its_case_after_its_dwell() {
    let (mut harness, case) = filed();
    reply(&mut harness, &case, CaseState::Closed, 65.0);
    harness.heap_stays("gate", 70, 120);
    assert_eq!(harness.engine.open_cases().count(), 0, "its dwell starts over");
    harness.heap_stays("gate", 130, 130);
    let open: Vec<_> = harness.engine.open_cases().collect();
    assert_eq!(
        (open.len(), &open[0].id, open[0].state),
        (1, &case, CaseState::Reopened)
    );
    assert_eq!(harness.opened().len(), 1);
    harness.close();
}

#[test]
fn a_reopened_case_holds_its_site_again() {
    let (mut harness, case) = filed();
    reply(&mut harness, &case, CaseState::Closed, 65.0);
    reply(&mut harness, &case, CaseState::Reopened, 68.0);
    harness.heap_stays("gate", 70, 600);
    assert_eq!(harness.opened().len(), 1);
    assert!(harness.not_filed().is_empty(), "the track never left its case");
}

#[test]
fn a_rejected_object_is_not_filed_again_while_it_stays() {
    let (mut harness, case) = filed();
    reply(&mut harness, &case, CaseState::Rejected, 65.0);
    harness.heap_stays("gate", 70, 3600);
    assert_eq!(
        (harness.opened().len(), harness.not_filed()),
        (1, vec![NotFiled::RejectedBefore])
    );
    assert_eq!(harness.pins(), 0);
    // Elsewhere in the view it is another object.
    for s in (3610..=3670).step_by(10) {
        harness.look("gate", f64::from(s), vec![garbage(0.8, bbox(0.1, 0.7, 0.2, 0.8))]);
    }
    assert_eq!(harness.opened().len(), 2);
}

#[test]
fn a_rejection_survives_restarts_until_a_month_after_the_last_sighting() {
    let (before, case) = filed();
    let mut restored = before.engine.open_cases().next().unwrap().clone();
    restored.state = CaseState::Rejected;
    const DAY: u32 = 86_400;
    for (day, cases) in [(1, 0), (29, 0), (31, 1)] {
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
        harness.apply(Input::Restored(restored.clone()));
        harness.heap_stays("gate", day * DAY, day * DAY + 120);
        assert_eq!(harness.opened().len(), cases, "day {day}");
    }
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    harness.apply(Input::Restored(restored));
    for day in [10, 20, 30, 40, 50] {
        harness.heap_stays("gate", day * DAY, day * DAY + 120);
        harness.apply(Input::Tick(at(f64::from(day * DAY + 200))));
    }
    assert!(harness.opened().is_empty(), "each sighting renews it");
    assert_eq!(harness.engine.last_seen(&case), Some(at(f64::from(50 * DAY + 120))));
}

#[test]
fn a_problem_with_another_case_number_is_not_filed_again() {
    let (mut harness, case) = filed();
    reply(&mut harness, &case, CaseState::DuplicateOf, 65.0);
    harness.heap_stays("gate", 70, 3600);
    assert_eq!(
        (harness.opened().len(), harness.not_filed()),
        (1, vec![NotFiled::KnownOtherwise])
    );
}

#[test]
fn a_case_without_evidence_is_retried_after_a_back_off() {
    let (mut harness, case) = filed();
    assert_eq!(
        harness.apply(Input::EvidenceFailed { case: case.clone() }),
        [Effect::NotFiled {
            camera: "gate".into(),
            rule: "garbage".into(),
            reason: NotFiled::EvidenceFailed,
            at: at(60.0)
        }]
    );
    assert_eq!(harness.engine.open_cases().count(), 0);
    assert!(
        harness.apply(Input::EvidenceFailed { case: case.clone() }).is_empty(),
        "already reported"
    );
    harness.heap_stays("gate", 70, 80);
    assert_eq!(
        (harness.opened().len(), harness.pins()),
        (1, 1),
        "a new first picture is held"
    );
    harness.heap_stays("gate", 90, 200);
    let [_, second] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(
        (second.first_seen_at, second.confirmed_at),
        (at(70.0), at(90.0)),
        "three looks after the failure"
    );
    assert_eq!(second.dwell.as_secs(), 90, "its presence is kept");
    assert_ne!(second.id, case);
    harness.close();
}

#[test]
fn another_camera_may_provide_the_evidence() {
    let mut harness = Harness::new(plan([("gate", fixed()), ("kerb", fixed())], vec![rule()]));
    harness.heap_stays("gate", 0, 60);
    harness.heap_stays("kerb", 0, 65);
    let case = harness.opened()[0].id.clone();
    harness.apply(Input::EvidenceFailed { case });
    // The first camera is offline now.
    harness.heap_stays("kerb", 70, 200);
    let [_, second] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(second.camera.as_str(), "kerb");
}
