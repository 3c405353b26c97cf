//! Recurrence（回潮）: within 30 minutes of closing, the platform is asked once to reopen the case; within a week it is a
//! new case linked to the old one; later it is a new problem.

use crate::engine_support::{Harness, at, fixed, plan, rule};
use gridwatch_engine::{CaseId, CaseState, Effect, Input, NotFiled, Reply};

const MINUTE: u32 = 60;
const DAY: u32 = 24 * 3600;

fn harness() -> Harness {
    Harness::new(plan([("gate", fixed())], vec![rule()]))
}

fn close(harness: &mut Harness, case: &CaseId, seconds: u32) {
    harness.apply(Input::Reply(Reply {
        case: case.clone(),
        state: CaseState::Closed,
        at: at(f64::from(seconds)),
        reason: None,
        due: None,
    }));
}

/// A heap from `from` until it is filed; returns its case.
fn filed(harness: &mut Harness, from: u32) -> CaseId {
    harness.heap_stays("gate", from, from + 2 * MINUTE);
    harness.opened().last().unwrap().id.clone()
}

/// An empty view for long enough that the track ends.
fn cleared(harness: &mut Harness, from: u32) {
    for s in (from..from + 5 * MINUTE).step_by(10) {
        harness.look("gate", f64::from(s), Vec::new());
    }
}

fn reopened(harness: &Harness) -> Vec<&CaseId> {
    harness
        .effects
        .iter()
        .filter_map(|e| match e {
            Effect::Revise {
                case,
                state: CaseState::Reopened,
                ..
            } => Some(case),
            _ => None,
        })
        .collect()
}

#[test]
fn a_heap_still_there_at_closing_reopens_its_case_once() {
    let mut harness = harness();
    let case = filed(&mut harness, 0);
    close(&mut harness, &case, 130);
    harness.heap_stays("gate", 140, 300);
    assert_eq!(reopened(&harness), [&case]);
    assert_eq!(harness.opened().len(), 1, "no second case");
    assert!(harness.not_filed().contains(&NotFiled::CaseReopened));
    // The platform closes it again while it is still there: the box has already asked once, so this is a new case.
    close(&mut harness, &case, 310);
    harness.heap_stays("gate", 320, 500);
    assert_eq!(reopened(&harness).len(), 1);
    let again = harness.opened()[1].recurrence.clone().unwrap();
    assert_eq!((again.of, again.count), (case, 1));
    harness.close();
}

#[test]
fn a_recurrence_within_the_week_is_linked_and_counted() {
    let mut harness = harness();
    let first = filed(&mut harness, 0);
    cleared(&mut harness, 130);
    close(&mut harness, &first, 500);
    let second = filed(&mut harness, 500 + 6 * DAY);
    cleared(&mut harness, 500 + 6 * DAY + 130);
    close(&mut harness, &second, 500 + 6 * DAY + 500);
    let third = filed(&mut harness, 500 + 8 * DAY);
    let cases = harness.opened();
    assert_eq!(cases[0].recurrence, None);
    let link = |i: usize| cases[i].recurrence.clone().map(|r| (r.of, r.count)).unwrap();
    assert_eq!(link(1), (first, 1));
    assert_eq!(link(2), (second, 2));
    assert_eq!(
        cases[1].recurrence.clone().unwrap().since_close.as_secs(),
        u64::from(6 * DAY)
    );
    assert_eq!(third, cases[2].id);
    assert!(reopened(&harness).is_empty());
    harness.close();
}

#[test]
fn after_a_week_it_is_a_new_problem() {
    let mut harness = harness();
    let first = filed(&mut harness, 0);
    cleared(&mut harness, 130);
    close(&mut harness, &first, 500);
    filed(&mut harness, 501 + 7 * DAY);
    assert_eq!(harness.opened()[1].recurrence, None);
    harness.close();
}

#[test]
fn recurrence_survives_a_restart() {
    let mut before = harness();
    let case = filed(&mut before, 0);
    let mut after = harness();
    let known = before.opened()[0].remembered(CaseState::Closed, at(130.0));
    after.apply(Input::Restored(known));
    after.heap_stays("gate", 140, 300);
    assert_eq!(reopened(&after), [&case]);

    let mut asked = before.opened()[0].remembered(CaseState::Closed, at(130.0));
    asked.was_reopened = true;
    let mut third = harness();
    third.apply(Input::Restored(asked));
    third.heap_stays("gate", 140, 300);
    assert!(reopened(&third).is_empty());
    assert_eq!(third.opened()[0].recurrence.clone().unwrap().of, case);
}
