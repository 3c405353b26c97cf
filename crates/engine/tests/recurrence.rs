//! 回潮: a problem that comes back. At once after its case was closed, the platform is asked to reopen it, once; within a
//! week it is a new case that names the old one; later it is a new problem.

use crate::engine_support::{World, at, fixed, plan, rule};
use gridwatch_engine::{CaseId, CaseState, Effect, Input, NotFiled, Reply};

const MINUTE: u32 = 60;
const DAY: u32 = 24 * 3600;

fn world() -> World {
    World::new(plan([("gate", fixed())], vec![rule()]))
}

fn close(world: &mut World, case: &CaseId, seconds: u32) {
    world.apply(Input::Reply(Reply {
        case: case.clone(),
        state: CaseState::Closed,
        at: at(f64::from(seconds)),
        reason: None,
        due: None,
    }));
}

/// A heap from `from` on until it is filed; gives the newest case.
fn filed(world: &mut World, from: u32) -> CaseId {
    world.heap_stays("gate", from, from + 2 * MINUTE);
    world.opened().last().unwrap().id.clone()
}

/// Nothing there, long enough that the track is over.
fn cleared(world: &mut World, from: u32) {
    for s in (from..from + 5 * MINUTE).step_by(10) {
        world.look("gate", f64::from(s), Vec::new());
    }
}

fn reopened(world: &World) -> Vec<&CaseId> {
    world
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
fn a_heap_that_still_lies_there_when_its_case_is_closed_reopens_it_once() {
    let mut world = world();
    let case = filed(&mut world, 0);
    close(&mut world, &case, 130);
    world.heap_stays("gate", 140, 300);
    assert_eq!(reopened(&world), [&case]);
    assert_eq!(world.opened().len(), 1, "no second case");
    assert!(world.not_filed().contains(&NotFiled::CaseReopened));
    // The platform closes it once more, and it lies there still: it has been told, so this is another case.
    close(&mut world, &case, 310);
    world.heap_stays("gate", 320, 500);
    assert_eq!(reopened(&world).len(), 1);
    let again = world.opened()[1].recurrence.clone().unwrap();
    assert_eq!((again.of, again.count), (case, 1));
    world.close();
}

#[test]
fn a_vendor_who_comes_back_within_the_week_is_a_linked_case_and_the_third_time_counts_two() {
    let mut world = world();
    let first = filed(&mut world, 0);
    cleared(&mut world, 130);
    close(&mut world, &first, 500);
    let second = filed(&mut world, 500 + 6 * DAY);
    cleared(&mut world, 500 + 6 * DAY + 130);
    close(&mut world, &second, 500 + 6 * DAY + 500);
    let third = filed(&mut world, 500 + 8 * DAY);
    let cases = world.opened();
    assert_eq!(cases[0].recurrence, None);
    let link = |i: usize| cases[i].recurrence.clone().map(|r| (r.of, r.count)).unwrap();
    assert_eq!(link(1), (first, 1));
    assert_eq!(link(2), (second, 2));
    assert_eq!(
        cases[1].recurrence.clone().unwrap().since_close.as_secs(),
        u64::from(6 * DAY)
    );
    assert_eq!(third, cases[2].id);
    assert!(reopened(&world).is_empty());
    world.close();
}

#[test]
fn after_a_week_it_is_a_new_problem() {
    let mut world = world();
    let first = filed(&mut world, 0);
    cleared(&mut world, 130);
    close(&mut world, &first, 500);
    filed(&mut world, 501 + 7 * DAY);
    assert_eq!(world.opened()[1].recurrence, None);
    world.close();
}

#[test]
fn a_restart_changes_none_of_it() {
    let mut before = world();
    let case = filed(&mut before, 0);
    let mut after = world();
    let known = before.opened()[0].remembered(CaseState::Closed, at(130.0));
    after.apply(Input::Restored(known));
    after.heap_stays("gate", 140, 300);
    assert_eq!(reopened(&after), [&case]);

    let mut asked = before.opened()[0].remembered(CaseState::Closed, at(130.0));
    asked.was_reopened = true;
    let mut third = world();
    third.apply(Input::Restored(asked));
    third.heap_stays("gate", 140, 300);
    assert!(reopened(&third).is_empty());
    assert_eq!(third.opened()[0].recurrence.clone().unwrap().of, case);
}
