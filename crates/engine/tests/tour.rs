//! PTZ cameras: each preset is a camera of its own that is looked at now and then.

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

fn ptz(rule: Rule) -> Harness {
    Harness::new(plan([("ptz.north", preset())], vec![rule]))
}

/// The camera visits the preset at `s` for three looks.
fn visit(harness: &mut Harness, s: u32, is_there: bool) {
    for look in 0..3 {
        let seen = if is_there { vec![garbage(0.8, HEAP)] } else { vec![] };
        harness.look("ptz.north", f64::from(s + look * 10), seen);
    }
}

#[test]
fn an_object_seen_at_each_visit_was_there_in_between() {
    let mut harness = ptz(half_hour());
    for s in [0, 500, 1000, 1500] {
        visit(&mut harness, s, true);
        assert!(harness.opened().is_empty(), "{s}");
    }
    // Confirmed by the first look after 30 minutes.
    harness.look("ptz.north", 1800.0, vec![garbage(0.8, HEAP)]);
    let [case] = &harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(case.dwell, Duration::from_mins(30));
    assert_eq!(case.camera, CameraId::from("ptz.north"));
}

#[test]
fn a_miss_after_a_tour_is_a_flicker_and_not_ten_minutes_of_absence() {
    let mut harness = ptz(half_hour());
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
fn an_object_missing_for_a_whole_visit_has_left() {
    let mut harness = ptz(Rule {
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
fn time_away_beyond_the_tour_is_blind() {
    let mut harness = ptz(half_hour());
    visit(&mut harness, 0, true);
    // One second longer than a tour.
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
fn a_fixed_camera_has_outages_and_no_tours() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![half_hour()]));
    for s in [0, 500, 1000, 1500, 2000] {
        for look in 0..3 {
            harness.look("gate", f64::from(s + look * 10), vec![garbage(0.8, HEAP)]);
        }
    }
    assert!(harness.opened().is_empty());
}

#[test]
fn a_blind_look_during_the_tour_makes_its_time_blind() {
    let mut harness = ptz(half_hour());
    visit(&mut harness, 0, true);
    harness.see("ptz.north", 30.0, View::Blocked, vec![]);
    visit(&mut harness, 500, true);
    visit(&mut harness, 1000, true);
    visit(&mut harness, 1500, true);
    harness.look("ptz.north", 1800.0, vec![garbage(0.8, HEAP)]);
    assert!(harness.opened().is_empty(), "the time around the blind look is unknown");
}

#[test]
fn a_long_tour_extends_the_stale_time() {
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
fn all_presets_share_the_cameras_daily_cap() {
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
