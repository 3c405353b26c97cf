//! A camera that transitions: each preset is a camera of its own, looked at now and then.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{CameraId, CameraPlan, Input, Intake, NotFiled, Plan, Rule, View};

const TOUR: u32 = 600;

fn preset() -> CameraPlan {
    CameraPlan {
        away: Duration::from_secs(TOUR.into()),
        ..fixed()
    }
}

fn half_hour() -> Rule {
    Rule {
        dwell: Duration::from_mins(30),
        ..rule()
    }
}

fn turning(rule: Rule) -> Harness {
    Harness::new(plan([("ptz.north", preset())], vec![rule]))
}

/// The camera comes by at `s` for three looks.
fn visit(harness: &mut Harness, s: u32, is_there: bool) {
    for look in 0..3 {
        let seen = if is_there { vec![garbage(0.8, HEAP)] } else { vec![] };
        harness.look("ptz.north", f64::from(s + look * 10), seen);
    }
}

#[test]
fn what_is_there_at_each_visit_was_there_between_them() {
    let mut harness = turning(half_hour());
    for s in [0, 500, 1000, 1500] {
        visit(&mut harness, s, true);
        assert!(harness.opened().is_empty(), "{s}");
    }
    // The first look after 30 minutes, and not before.
    harness.look("ptz.north", 1800.0, vec![garbage(0.8, HEAP)]);
    let [case] = &harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(case.dwell, Duration::from_mins(30));
    assert_eq!(case.camera, CameraId::from("ptz.north"));
}

#[test]
fn a_miss_after_the_way_round_is_a_flicker_and_not_ten_minutes_of_absence() {
    let mut harness = turning(half_hour());
    visit(&mut harness, 0, true);
    for s in [500, 1000, 1500] {
        harness.look("ptz.north", f64::from(s), vec![]);
        for look in 1..5 {
            harness.look("ptz.north", f64::from(s + look * 10), vec![garbage(0.8, HEAP)]);
        }
    }
    for look in 0..3 {
        harness.look("ptz.north", f64::from(1800 + look * 10), vec![garbage(0.8, HEAP)]);
    }
    assert_eq!(harness.opened().len(), 1, "{:?}", harness.effects);
    assert_eq!(harness.opened()[0].dwell, Duration::from_mins(30));
}

#[test]
fn what_is_gone_through_a_whole_visit_has_left() {
    let mut harness = turning(Rule {
        forget_after: Duration::from_secs(30),
        ..half_hour()
    });
    visit(&mut harness, 0, true);
    for look in 0..4 {
        harness.look("ptz.north", f64::from(500 + look * 10), vec![]);
    }
    assert_eq!(harness.not_filed(), [NotFiled::LeftBeforeDwell]);
}

#[test]
fn a_camera_that_stays_away_for_longer_than_its_tour_knows_nothing_of_that_time() {
    let mut harness = turning(half_hour());
    visit(&mut harness, 0, true);
    // One second more than a tour.
    for s in [20 + TOUR + 1, 2 * (20 + TOUR + 1), 3 * (20 + TOUR + 1)] {
        visit(&mut harness, s, true);
    }
    harness.look(
        "ptz.north",
        f64::from(3 * (20 + TOUR + 1) + 30),
        vec![garbage(0.8, HEAP)],
    );
    assert!(harness.opened().is_empty(), "20 s a visit");
    assert!(harness.not_filed().is_empty());
}

#[test]
fn a_camera_that_stays_where_it_is_has_outages_and_no_tours() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![half_hour()]));
    for s in [0, 500, 1000, 1500, 2000] {
        for look in 0..3 {
            harness.look("gate", f64::from(s + look * 10), vec![garbage(0.8, HEAP)]);
        }
    }
    assert!(harness.opened().is_empty());
}

#[test]
fn blind_time_on_the_way_changes_nothing() {
    let mut harness = turning(half_hour());
    visit(&mut harness, 0, true);
    harness.see("ptz.north", 30.0, View::Blocked, vec![]);
    visit(&mut harness, 500, true);
    visit(&mut harness, 1000, true);
    visit(&mut harness, 1500, true);
    harness.look("ptz.north", 1800.0, vec![garbage(0.8, HEAP)]);
    assert!(harness.opened().is_empty(), "the time around the blind look is unknown");
}

#[test]
fn a_long_tour_outlasts_the_hour_after_which_what_is_unseen_is_void() {
    let long = CameraPlan {
        away: Duration::from_hours(2),
        ..fixed()
    };
    let mut harness = Harness::new(plan([("ptz.north", long)], vec![half_hour()]));
    visit(&mut harness, 0, true);
    harness.apply(Input::Tick(at(7000.0)));
    visit(&mut harness, 7200, true);
    assert_eq!(harness.opened().len(), 1);
    assert!(harness.not_filed().is_empty());
}

#[test]
fn all_presets_share_the_cameras_day() {
    let two = [("ptz.north", 0.0), ("ptz.south", 0.002), ("ptz", 0.004)].map(|(id, east)| {
        let mut place = HERE;
        place.lon += east;
        (id, fixed_at(place))
    });
    let mut harness = Harness::new(Plan {
        intake: Intake {
            per_camera_day: 2,
            ..no_cap()
        },
        ..plan(two, vec![rule()])
    });
    for s in (0..=80).step_by(10) {
        for id in ["ptz.north", "ptz.south", "ptz"] {
            harness.look(id, f64::from(s), vec![garbage(0.8, HEAP)]);
        }
    }
    assert_eq!(harness.opened().len(), 2);
    assert_eq!(harness.engine.waiting(), 1);
}
