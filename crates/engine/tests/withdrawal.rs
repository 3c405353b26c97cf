//! Withdrawal: an open case without a reply for a week of clear looks, whose place has been empty for a day, is
//! withdrawn. Any doubt keeps the case.

use std::time::Duration;

use crate::engine_support::{HEAP, Harness, Pinhole, at, bbox, fixed, garbage, plan, rule, zone};
use gridwatch_engine::{
    CameraPlan, CaseId, CaseState, Effect, Input, Plan, Reason, Reply, Rule, View, ZoneKind,
    calendar::{Calendar, Days, Hours, Schedule, Window},
};

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
/// Rare looks keep a simulated week short.
const EVERY: u32 = 60;

/// A plan that withdraws after a week.
fn weekly(cameras: impl IntoIterator<Item = (&'static str, CameraPlan)>, rules: Vec<Rule>) -> Plan {
    let mut plan = plan(cameras, rules);
    plan.intake.let_go_after = Some(Duration::from_secs((7 * DAY).into()));
    plan
}

fn gate() -> Harness {
    Harness::new(weekly([("gate", fixed())], vec![rule()]))
}

/// When a heap that is there from 0 is filed; the silence starts then.
const FILED: u32 = 60;

/// A heap that is filed within two minutes from `from` and then disappears.
fn filed(harness: &mut Harness, camera: &str, from: u32) -> CaseId {
    harness.heap_stays(camera, from, from + 120);
    harness.opened().last().unwrap().id.clone()
}

/// Looks from `from` to before `to`.
fn look_until(harness: &mut Harness, camera: &str, from: u32, to: u32, view: View) {
    for s in (from..to).step_by(EVERY as usize) {
        harness.see(camera, f64::from(s), view, Vec::new());
    }
}

fn empty_until(harness: &mut Harness, camera: &str, from: u32, to: u32) {
    look_until(harness, camera, from, to, View::Clear);
}

fn reply(harness: &mut Harness, case: &CaseId, state: CaseState, seconds: u32) -> Vec<Effect> {
    harness.apply(Input::Reply(Reply {
        case: case.clone(),
        state,
        at: at(f64::from(seconds)),
        reason: None,
        due: None,
    }))
}

/// Withdrawn cases and when they were withdrawn.
fn withdrawn(harness: &Harness) -> Vec<(CaseId, jiff::Timestamp)> {
    harness
        .effects
        .iter()
        .filter_map(|e| match e {
            Effect::Revise {
                case,
                state: CaseState::Withdrawn,
                at,
                ..
            } => Some((case.clone(), *at)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_case_whose_place_is_empty_for_a_week_is_withdrawn_once_with_a_reason() {
    let mut harness = gate();
    let case = filed(&mut harness, "gate", 0);
    let week = 7 * DAY + FILED;
    empty_until(&mut harness, "gate", 180, week);
    assert_eq!(withdrawn(&harness), [], "one minute short");
    empty_until(&mut harness, "gate", week, 20 * DAY);
    assert_eq!(withdrawn(&harness), [(case.clone(), at(f64::from(week)))]);
    let why = harness.effects.iter().find_map(|e| match e {
        Effect::Revise { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(
        why,
        Some("The box withdrew the case: no answer from the platform for 7 days, and its place was seen empty.")
    );
    assert_eq!(harness.transitions.iter().filter(|r| **r == Reason::LetGo).count(), 1);
    assert_eq!(harness.engine.open_cases().count(), 0);
    harness.close();
}

#[test]
fn zero_days_never_withdraw() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 40 * DAY);
    assert_eq!(withdrawn(&harness), []);
}

#[test]
fn blind_looks_do_not_show_an_empty_place() {
    for view in [View::Dark, View::Blocked, View::Frozen, View::Moved, View::Damaged] {
        let mut harness = gate();
        filed(&mut harness, "gate", 0);
        look_until(&mut harness, "gate", 180, 20 * DAY, view);
        assert_eq!(withdrawn(&harness), [], "{view:?}");
    }
    // Nor do unobserved hours.
    let mut harness = gate();
    filed(&mut harness, "gate", 0);
    for day in 1..40 {
        empty_until(&mut harness, "gate", day * DAY, day * DAY + 2 * HOUR);
    }
    assert_eq!(withdrawn(&harness), [], "39 × 2 hours");
}

#[test]
fn only_the_rules_active_hours_count() {
    let night = Rule {
        hours: Hours {
            active: Some("night".into()),
            pause: None,
        },
        ..rule()
    };
    let window = Window {
        days: Days::DAILY,
        from: 15 * 60,
        to: 21 * 60,
        season: None,
    };
    let mut plan = weekly([("gate", fixed())], vec![night]);
    plan.calendar = Calendar {
        schedules: [("night".into(), Schedule { windows: vec![window] })].into(),
        ..Calendar::default()
    };
    // The tests' clock starts at 15:06:40.
    let mut harness = Harness::new(plan);
    filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 27 * DAY);
    assert_eq!(withdrawn(&harness), [], "27 × 6 hours");
    empty_until(&mut harness, "gate", 27 * DAY, 29 * DAY);
    assert_eq!(withdrawn(&harness).len(), 1);
}

#[test]
fn a_sighting_within_the_day_keeps_the_case() {
    let mut harness = gate();
    let case = filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 6 * DAY);
    // Each morning another heap at the site, gone an hour later.
    for day in 6..12 {
        harness.heap_stays("gate", day * DAY, day * DAY + HOUR);
        empty_until(&mut harness, "gate", day * DAY + HOUR + EVERY, (day + 1) * DAY);
    }
    assert_eq!(withdrawn(&harness), []);
    empty_until(&mut harness, "gate", 12 * DAY, 12 * DAY + HOUR);
    assert_eq!(withdrawn(&harness), [], "not yet a day");
    empty_until(&mut harness, "gate", 12 * DAY + HOUR, 12 * DAY + HOUR + 3 * EVERY);
    assert_eq!(
        withdrawn(&harness).len(),
        1,
        "silent for long, and empty for a day plus `forget_after`"
    );
    assert_eq!(withdrawn(&harness)[0].0, case);
    assert_eq!(harness.opened().len(), 1);
}

#[test]
fn a_stray_box_is_a_doubt_and_not_a_sighting() {
    // Found once a minute, too rarely to confirm: it may well be there.
    let glimpsed = |harness: &mut Harness, from: u32, to: u32, every: u32| {
        for s in (from..to).step_by(EVERY as usize) {
            let seen = if s % every == 0 {
                vec![garbage(0.4, HEAP)]
            } else {
                Vec::new()
            };
            harness.look("gate", f64::from(s), seen);
        }
    };
    let mut harness = gate();
    filed(&mut harness, "gate", 0);
    glimpsed(&mut harness, 180, 20 * DAY, 2 * EVERY);
    assert_eq!(withdrawn(&harness), []);
    // A false box every six hours costs two minutes (`forget_after`) each time.
    let mut harness = gate();
    filed(&mut harness, "gate", 0);
    glimpsed(&mut harness, 180, 8 * DAY, 6 * HOUR);
    assert_eq!(withdrawn(&harness).len(), 1);
    // Objects too small to count leave the same doubt.
    let mut harness = gate();
    filed(&mut harness, "gate", 0);
    for s in (180..9 * DAY).step_by(EVERY as usize) {
        let bag = bbox(0.489, 0.54, 0.511, 0.561);
        harness.look("gate", f64::from(s), vec![garbage(0.8, bag)]);
    }
    assert_eq!(withdrawn(&harness), []);
    // A box elsewhere does not matter.
    let mut harness = gate();
    filed(&mut harness, "gate", 0);
    for s in (180..8 * DAY).step_by(EVERY as usize) {
        harness.look("gate", f64::from(s), vec![garbage(0.4, bbox(0.1, 0.5, 0.2, 0.6))]);
    }
    assert_eq!(withdrawn(&harness).len(), 1);
}

#[test]
fn nothing_is_withdrawn_after_a_crews_report_or_a_verification_request() {
    use CaseState::{Accepted, Closed, Dispatched, Disposed, Rejected, VerifyRequested};
    for (state, may) in [
        (Accepted, true),
        (Dispatched, true),
        (Disposed, false),
        (VerifyRequested, false),
        (Rejected, false),
        (Closed, false),
    ] {
        let mut harness = gate();
        let case = filed(&mut harness, "gate", 0);
        reply(&mut harness, &case, state, 150);
        empty_until(&mut harness, "gate", 180, 20 * DAY);
        assert_eq!(withdrawn(&harness).len(), usize::from(may), "{state:?}");
    }
}

#[test]
fn a_reply_of_the_platform_restarts_the_week() {
    let mut harness = gate();
    let case = filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 6 * DAY);
    reply(&mut harness, &case, CaseState::Accepted, 6 * DAY);
    empty_until(&mut harness, "gate", 6 * DAY, 13 * DAY - HOUR);
    assert_eq!(withdrawn(&harness), []);
    empty_until(&mut harness, "gate", 13 * DAY - HOUR, 13 * DAY + HOUR);
    assert_eq!(withdrawn(&harness).len(), 1);
}

#[test]
fn a_sighting_by_another_camera_keeps_the_case() {
    let (one, other) = (
        Pinhole::towards_here((0.0, -18.0), 6.0),
        Pinhole::towards_here((16.0, 4.0), 7.0),
    );
    let mut harness = Harness::new(weekly(
        [("one", one.plan(0.0)), ("other", other.plan(0.0))],
        vec![rule()],
    ));
    let there = (0.4, 0.3);
    let seen = |camera: Pinhole| vec![garbage(0.8, camera.frames(there))];
    for s in (0..200).step_by(10) {
        harness.look("one", f64::from(s), seen(one));
    }
    // From now on the first camera sees an empty street, perhaps because something blocks its view.
    for s in (200..8 * DAY).step_by(EVERY as usize) {
        harness.look("one", f64::from(s), Vec::new());
        harness.look("other", f64::from(s) + 1.0, seen(other));
    }
    assert_eq!(harness.opened().len(), 1);
    assert_eq!(withdrawn(&harness), []);
    for s in (8 * DAY..16 * DAY).step_by(EVERY as usize) {
        harness.look("one", f64::from(s), Vec::new());
        harness.look("other", f64::from(s) + 1.0, Vec::new());
    }
    assert_eq!(withdrawn(&harness).len(), 1, "gone for both");
}

#[test]
fn a_re_aimed_camera_withdraws_nothing_until_it_sees_the_place_again() {
    let mut harness = gate();
    filed(&mut harness, "gate", 0);
    harness.apply(Input::Reaimed {
        camera: "gate".into(),
        at: at(150.0),
    });
    empty_until(&mut harness, "gate", 180, 20 * DAY);
    assert_eq!(withdrawn(&harness), []);
    // Until it has seen the object there again.
    harness.heap_stays("gate", 20 * DAY, 20 * DAY + 300);
    empty_until(&mut harness, "gate", 20 * DAY + 300, 28 * DAY);
    assert_eq!(withdrawn(&harness).len(), 1);
}

#[test]
fn a_recurrence_after_a_withdrawal_is_linked_and_reopens_nothing() {
    let mut harness = gate();
    let case = filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 7 * DAY + 300);
    assert_eq!(withdrawn(&harness).len(), 1);
    let again = filed(&mut harness, "gate", 7 * DAY + 300);
    let recurrence = harness.opened()[1].recurrence.clone().unwrap();
    assert_eq!((recurrence.of, recurrence.count), (case, 1));
    assert_eq!(
        recurrence.since_close,
        Duration::from_mins(4),
        "since the withdrawal, not since it left"
    );
    // Unanswered, it is withdrawn like the first; a fortnight later it is a new problem.
    empty_until(&mut harness, "gate", 7 * DAY + 480, 15 * DAY);
    assert_eq!(withdrawn(&harness)[1].0, again);
    empty_until(&mut harness, "gate", 15 * DAY, 29 * DAY);
    filed(&mut harness, "gate", 29 * DAY);
    assert_eq!(harness.opened()[2].recurrence, None);
}

#[test]
fn the_platform_may_only_close_a_withdrawn_case() {
    let mut harness = gate();
    let case = filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 8 * DAY);
    // A reply that crossed the withdrawal.
    let refused = reply(&mut harness, &case, CaseState::Accepted, 8 * DAY);
    assert!(matches!(refused[..], [Effect::ReplyRefused { .. }]), "{refused:?}");
    let closed = reply(&mut harness, &case, CaseState::Closed, 8 * DAY + 1);
    assert!(
        matches!(
            closed[..],
            [Effect::Revise {
                state: CaseState::Closed,
                ..
            }]
        ),
        "{closed:?}"
    );
}

#[test]
fn clock_changes_and_restarts_do_not_change_the_week() {
    let mut harness = gate();
    let case = filed(&mut harness, "gate", 0);
    empty_until(&mut harness, "gate", 180, 3 * DAY);
    // The clock is set forward by a year, which is a gap, and back again.
    empty_until(&mut harness, "gate", 365 * DAY, 366 * DAY);
    empty_until(&mut harness, "gate", 3 * DAY, 4 * DAY);
    harness.restart(weekly([("gate", fixed())], vec![rule()]), |_| true);
    empty_until(&mut harness, "gate", 4 * DAY, 6 * DAY);
    assert_eq!(withdrawn(&harness), [], "3 + 1 + 1 + 2 days");
    empty_until(&mut harness, "gate", 6 * DAY, 6 * DAY + HOUR);
    assert_eq!(withdrawn(&harness).len(), 1);
    assert_eq!(withdrawn(&harness)[0].0, case);
}

#[test]
fn a_case_without_its_rule_is_judged_by_one_rule_of_its_category() {
    let zoned = || {
        let mut camera = fixed();
        camera.zones = vec![zone("kerb", ZoneKind::Watch, (0.0, 1.0), (0.0, 1.0))];
        camera
    };
    let mut harness = Harness::new(weekly([("gate", zoned())], vec![rule()]));
    filed(&mut harness, "gate", 0);
    let renamed = |id: &str| Rule {
        id: id.into(),
        ..rule()
    };
    let two = || weekly([("gate", zoned())], vec![renamed("one"), renamed("two")]);
    harness.restart(two(), |_| true);
    empty_until(&mut harness, "gate", 180, 6 * DAY);
    assert_eq!(withdrawn(&harness), [], "two rules do not count the time twice");
    empty_until(&mut harness, "gate", 6 * DAY, 8 * DAY);
    assert_eq!(withdrawn(&harness).len(), 1);
}

#[test]
fn a_preset_that_is_empty_at_every_visit_withdraws_after_the_same_days() {
    let turning = CameraPlan {
        away: Duration::from_mins(10),
        ..fixed()
    };
    let mut harness = Harness::new(weekly([("ptz.north", turning)], vec![rule()]));
    let case = filed(&mut harness, "ptz.north", 0);
    let visits = (600..9 * DAY).step_by(600);
    for s in visits {
        harness.look("ptz.north", f64::from(s), Vec::new());
    }
    let [(taken, when)] = &withdrawn(&harness)[..] else {
        panic!("{:?}", harness.effects.last())
    };
    assert_eq!(*taken, case);
    let days = when.duration_since(at(0.0)).as_secs_f64() / f64::from(DAY);
    assert!((7.0..7.02).contains(&days), "{days}");
}
