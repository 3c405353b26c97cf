//! An open case that nobody ends does not hold its place for ever: without a word of the platform for a week of clear looks, and
//! once its place has been empty for a day, the box takes it back. Whatever leaves a doubt keeps the case.

use std::time::Duration;

use crate::engine_support::{HEAP, Pinhole, World, at, bbox, fixed, garbage, plan, rule, zone};
use gridwatch_engine::{
    CameraPlan, CaseId, CaseState, Effect, Input, Plan, Reason, Reply, Rule, View, ZoneKind,
    calendar::{Calendar, Days, Hours, Schedule, Window},
};

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
/// Rare looks: a week of them is quickly told.
const EVERY: u32 = 60;

/// Lets go after a week.
fn weekly(cameras: impl IntoIterator<Item = (&'static str, CameraPlan)>, rules: Vec<Rule>) -> Plan {
    let mut plan = plan(cameras, rules);
    plan.intake.let_go_after = Some(Duration::from_secs((7 * DAY).into()));
    plan
}

fn gate() -> World {
    World::new(weekly([("gate", fixed())], vec![rule()]))
}

/// When a heap that lies there from 0 on is filed: no word of the platform from then on.
const FILED: u32 = 60;

/// A heap that is filed within two minutes from `from` on, and then is gone.
fn filed(world: &mut World, camera: &str, from: u32) -> CaseId {
    world.heap_stays(camera, from, from + 120);
    world.opened().last().unwrap().id.clone()
}

/// Looks from `from` to before `to`.
fn looks(world: &mut World, camera: &str, from: u32, to: u32, view: View) {
    for s in (from..to).step_by(EVERY as usize) {
        world.see(camera, f64::from(s), view, Vec::new());
    }
}

fn empty(world: &mut World, camera: &str, from: u32, to: u32) {
    looks(world, camera, from, to, View::Clear);
}

fn say(world: &mut World, case: &CaseId, state: CaseState, seconds: u32) -> Vec<Effect> {
    world.apply(Input::Reply(Reply {
        case: case.clone(),
        state,
        at: at(f64::from(seconds)),
        reason: None,
        due: None,
    }))
}

/// Which cases were taken back, and when.
fn taken_back(world: &World) -> Vec<(CaseId, jiff::Timestamp)> {
    world
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
fn a_place_that_is_empty_for_a_week_is_let_go_once_and_says_why() {
    let mut world = gate();
    let case = filed(&mut world, "gate", 0);
    let week = 7 * DAY + FILED;
    empty(&mut world, "gate", 180, week);
    assert_eq!(taken_back(&world), [], "a minute is missing");
    empty(&mut world, "gate", week, 20 * DAY);
    assert_eq!(taken_back(&world), [(case.clone(), at(f64::from(week)))]);
    let why = world.effects.iter().find_map(|e| match e {
        Effect::Revise { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(
        why,
        Some(
            "The box takes the case back: nobody had a word for it in 7 days, and its place has been seen to be empty."
        )
    );
    assert_eq!(world.turns.iter().filter(|r| **r == Reason::LetGo).count(), 1);
    assert_eq!(world.engine.open_cases().count(), 0);
    world.close();
}

#[test]
fn zero_days_are_never() {
    let mut world = World::new(plan([("gate", fixed())], vec![rule()]));
    filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 40 * DAY);
    assert_eq!(taken_back(&world), []);
}

#[test]
fn what_is_not_seen_clearly_is_not_seen_to_be_empty() {
    for view in [View::Dark, View::Blocked, View::Frozen, View::Moved, View::Damaged] {
        let mut world = gate();
        filed(&mut world, "gate", 0);
        looks(&mut world, "gate", 180, 20 * DAY, view);
        assert_eq!(taken_back(&world), [], "{view:?}");
    }
    // Nor where nobody looks, nor while the rule rests.
    let mut world = gate();
    filed(&mut world, "gate", 0);
    for day in 1..40 {
        empty(&mut world, "gate", day * DAY, day * DAY + 2 * HOUR);
    }
    assert_eq!(taken_back(&world), [], "39 × 2 hours");
}

#[test]
fn only_the_hours_in_which_the_rule_works_count() {
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
    // The tests begin at 15:06:40.
    let mut world = World::new(plan);
    filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 27 * DAY);
    assert_eq!(taken_back(&world), [], "27 × 6 hours");
    empty(&mut world, "gate", 27 * DAY, 29 * DAY);
    assert_eq!(taken_back(&world).len(), 1);
}

#[test]
fn what_was_seen_there_within_the_day_keeps_the_case() {
    let mut world = gate();
    let case = filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 6 * DAY);
    // Another heap at its site: an hour later it is gone as well, and so on each morning.
    for day in 6..12 {
        world.heap_stays("gate", day * DAY, day * DAY + HOUR);
        empty(&mut world, "gate", day * DAY + HOUR + EVERY, (day + 1) * DAY);
    }
    assert_eq!(taken_back(&world), []);
    empty(&mut world, "gate", 12 * DAY, 12 * DAY + HOUR);
    assert_eq!(taken_back(&world), [], "not yet a day");
    empty(&mut world, "gate", 12 * DAY + HOUR, 12 * DAY + HOUR + 3 * EVERY);
    assert_eq!(
        taken_back(&world).len(),
        1,
        "silent for long, and empty for a day and `forget_after`"
    );
    assert_eq!(taken_back(&world)[0].0, case);
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn a_box_now_and_then_is_a_doubt_and_no_sighting() {
    // Found once a minute, which never confirms it: it may well be there.
    let glimpsed = |world: &mut World, from: u32, to: u32, every: u32| {
        for s in (from..to).step_by(EVERY as usize) {
            let seen = if s % every == 0 {
                vec![garbage(0.4, HEAP)]
            } else {
                Vec::new()
            };
            world.look("gate", f64::from(s), seen);
        }
    };
    let mut world = gate();
    filed(&mut world, "gate", 0);
    glimpsed(&mut world, 180, 20 * DAY, 2 * EVERY);
    assert_eq!(taken_back(&world), []);
    // A false box every six hours costs two minutes (`forget_after`) of each.
    let mut world = gate();
    filed(&mut world, "gate", 0);
    glimpsed(&mut world, 180, 8 * DAY, 6 * HOUR);
    assert_eq!(taken_back(&world).len(), 1);
    // What is too small to count leaves the place no less in doubt.
    let mut world = gate();
    filed(&mut world, "gate", 0);
    for s in (180..9 * DAY).step_by(EVERY as usize) {
        let bag = bbox(0.489, 0.54, 0.511, 0.561);
        world.look("gate", f64::from(s), vec![garbage(0.8, bag)]);
    }
    assert_eq!(taken_back(&world), []);
    // One that lies elsewhere says nothing.
    let mut world = gate();
    filed(&mut world, "gate", 0);
    for s in (180..8 * DAY).step_by(EVERY as usize) {
        world.look("gate", f64::from(s), vec![garbage(0.4, bbox(0.1, 0.5, 0.2, 0.6))]);
    }
    assert_eq!(taken_back(&world).len(), 1);
}

#[test]
fn where_a_crew_has_spoken_or_the_platform_asks_the_box_does_not_speak_for_itself() {
    use CaseState::{Accepted, Closed, Dispatched, Disposed, Rejected, VerifyRequested};
    for (said, may) in [
        (Accepted, true),
        (Dispatched, true),
        (Disposed, false),
        (VerifyRequested, false),
        (Rejected, false),
        (Closed, false),
    ] {
        let mut world = gate();
        let case = filed(&mut world, "gate", 0);
        say(&mut world, &case, said, 150);
        empty(&mut world, "gate", 180, 20 * DAY);
        assert_eq!(taken_back(&world).len(), usize::from(may), "{said:?}");
    }
}

#[test]
fn a_word_of_the_platform_begins_the_week_anew() {
    let mut world = gate();
    let case = filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 6 * DAY);
    say(&mut world, &case, CaseState::Accepted, 6 * DAY);
    empty(&mut world, "gate", 6 * DAY, 13 * DAY - HOUR);
    assert_eq!(taken_back(&world), []);
    empty(&mut world, "gate", 13 * DAY - HOUR, 13 * DAY + HOUR);
    assert_eq!(taken_back(&world).len(), 1);
}

#[test]
fn another_camera_that_still_sees_it_keeps_it() {
    let (one, other) = (
        Pinhole::towards_here((0.0, -18.0), 6.0),
        Pinhole::towards_here((16.0, 4.0), 7.0),
    );
    let mut world = World::new(weekly(
        [("one", one.plan(0.0)), ("other", other.plan(0.0))],
        vec![rule()],
    ));
    let there = (0.4, 0.3);
    let seen = |camera: Pinhole| vec![garbage(0.8, camera.frames(there))];
    for s in (0..200).step_by(10) {
        world.look("one", f64::from(s), seen(one));
    }
    // From now on the first camera sees an empty street; a billboard may hang before it.
    for s in (200..8 * DAY).step_by(EVERY as usize) {
        world.look("one", f64::from(s), Vec::new());
        world.look("other", f64::from(s) + 1.0, seen(other));
    }
    assert_eq!(world.opened().len(), 1);
    assert_eq!(taken_back(&world), []);
    for s in (8 * DAY..16 * DAY).step_by(EVERY as usize) {
        world.look("one", f64::from(s), Vec::new());
        world.look("other", f64::from(s) + 1.0, Vec::new());
    }
    assert_eq!(taken_back(&world).len(), 1, "gone for both");
}

#[test]
fn a_camera_that_was_aimed_anew_does_not_tell_of_places_it_no_longer_sees() {
    let mut world = gate();
    filed(&mut world, "gate", 0);
    world.apply(Input::Reaimed {
        camera: "gate".into(),
        at: at(150.0),
    });
    empty(&mut world, "gate", 180, 20 * DAY);
    assert_eq!(taken_back(&world), []);
    // Until it has seen it there again.
    world.heap_stays("gate", 20 * DAY, 20 * DAY + 300);
    empty(&mut world, "gate", 20 * DAY + 300, 28 * DAY);
    assert_eq!(taken_back(&world).len(), 1);
}

#[test]
fn what_comes_back_within_the_week_names_the_case_that_was_taken_back_and_reopens_nothing() {
    let mut world = gate();
    let case = filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 7 * DAY + 300);
    assert_eq!(taken_back(&world).len(), 1);
    let again = filed(&mut world, "gate", 7 * DAY + 300);
    let recurrence = world.opened()[1].recurrence.clone().unwrap();
    assert_eq!((recurrence.of, recurrence.count), (case, 1));
    assert_eq!(
        recurrence.since_close,
        Duration::from_mins(4),
        "since it was taken back, not since it was gone"
    );
    // Left alone it is let go as the first was; a fortnight later it is a new problem.
    empty(&mut world, "gate", 7 * DAY + 480, 15 * DAY);
    assert_eq!(taken_back(&world)[1].0, again);
    empty(&mut world, "gate", 15 * DAY, 29 * DAY);
    filed(&mut world, "gate", 29 * DAY);
    assert_eq!(world.opened()[2].recurrence, None);
}

#[test]
fn the_platform_may_close_what_was_taken_back_and_nothing_else() {
    let mut world = gate();
    let case = filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 8 * DAY);
    // A clerk's answer that crossed the withdrawal.
    let refused = say(&mut world, &case, CaseState::Accepted, 8 * DAY);
    assert!(matches!(refused[..], [Effect::ReplyRefused { .. }]), "{refused:?}");
    let closed = say(&mut world, &case, CaseState::Closed, 8 * DAY + 1);
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
fn clocks_and_restarts_neither_shorten_the_week_nor_lengthen_it() {
    let mut world = gate();
    let case = filed(&mut world, "gate", 0);
    empty(&mut world, "gate", 180, 3 * DAY);
    // Set forward by a year, which is a gap, and back again.
    empty(&mut world, "gate", 365 * DAY, 366 * DAY);
    empty(&mut world, "gate", 3 * DAY, 4 * DAY);
    world.restart(weekly([("gate", fixed())], vec![rule()]), |_| true);
    empty(&mut world, "gate", 4 * DAY, 6 * DAY);
    assert_eq!(taken_back(&world), [], "3 + 1 + 1 + 2 days");
    empty(&mut world, "gate", 6 * DAY, 6 * DAY + HOUR);
    assert_eq!(taken_back(&world).len(), 1);
    assert_eq!(taken_back(&world)[0].0, case);
}

#[test]
fn a_case_whose_rule_is_gone_or_unknown_is_told_by_one_rule_of_its_category() {
    let zoned = || {
        let mut camera = fixed();
        camera.zones = vec![zone("kerb", ZoneKind::Watch, (0.0, 1.0), (0.0, 1.0))];
        camera
    };
    let mut world = World::new(weekly([("gate", zoned())], vec![rule()]));
    filed(&mut world, "gate", 0);
    let renamed = |id: &str| Rule {
        id: id.into(),
        ..rule()
    };
    let two = || weekly([("gate", zoned())], vec![renamed("one"), renamed("two")]);
    world.restart(two(), |_| true);
    empty(&mut world, "gate", 180, 6 * DAY);
    assert_eq!(taken_back(&world), [], "two rules are not twice the time");
    empty(&mut world, "gate", 6 * DAY, 8 * DAY);
    assert_eq!(taken_back(&world).len(), 1);
}

#[test]
fn a_preset_that_is_empty_at_every_visit_lets_go_in_the_same_days() {
    let turning = CameraPlan {
        away: Duration::from_mins(10),
        ..fixed()
    };
    let mut world = World::new(weekly([("ptz.north", turning)], vec![rule()]));
    let case = filed(&mut world, "ptz.north", 0);
    let visits = (600..9 * DAY).step_by(600);
    for s in visits {
        world.look("ptz.north", f64::from(s), Vec::new());
    }
    let [(taken, when)] = &taken_back(&world)[..] else {
        panic!("{:?}", world.effects.last())
    };
    assert_eq!(*taken, case);
    let days = when.duration_since(at(0.0)).as_secs_f64() / f64::from(DAY);
    assert!((7.0..7.02).contains(&days), "{days}");
}
