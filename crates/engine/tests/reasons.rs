//! Each candidate that does not become a case ends with exactly one reason, the most specific one.

use std::{sync::Arc, time::Duration};

use crate::engine_support::*;
use gridwatch_engine::{Input, LonLat, NotFiled, Rule, View, ZoneKind};

fn gate() -> Harness {
    Harness::new(plan([("gate", fixed())], vec![rule()]))
}

#[test]
fn left_before_its_dwell() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 30);
    for s in (40..=140).step_by(10) {
        harness.look("gate", f64::from(s), vec![]);
    }
    assert!(harness.not_filed().is_empty(), "110 s unseen may be a lorry in front");
    harness.look("gate", 150.0, vec![]);
    assert_eq!(
        (harness.not_filed(), harness.pins()),
        (vec![NotFiled::LeftBeforeDwell], 0)
    );
    harness.look("gate", 160.0, vec![]);
    assert_eq!(harness.not_filed().len(), 1, "reported once");
}

#[test]
fn a_moved_object_starts_over_from_where_it_is() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 40);
    // Two shifts of 0.4 diagonals: each is allowed between looks, together they are too far.
    let step = |n: f32| bbox(0.45 + n * 0.056, 0.5, 0.55 + n * 0.056, 0.6);
    harness.look("gate", 50.0, vec![garbage(0.8, step(1.0))]);
    assert!(harness.not_filed().is_empty());
    harness.look("gate", 60.0, vec![garbage(0.8, step(2.0))]);
    assert_eq!(harness.not_filed(), [NotFiled::Moved]);
    for s in (70..=120).step_by(10) {
        harness.look("gate", f64::from(s), vec![garbage(0.8, step(2.0))]);
    }
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(
        (case.first_seen_at, case.confirmed_at, case.first_box),
        (at(60.0), at(120.0), step(2.0))
    );
    harness.close();
}

#[test]
fn a_vendor_who_keeps_moving_is_not_filed() {
    let mut harness = gate();
    for n in 0..60u8 {
        let x = 0.05 + f32::from(n) * 0.014;
        harness.look(
            "gate",
            f64::from(n) * 10.0,
            vec![garbage(0.8, bbox(x, 0.5, x + 0.08, 0.62))],
        );
    }
    assert!(harness.opened().is_empty());
    assert!(harness.not_filed().iter().all(|r| *r == NotFiled::Moved));
    assert!(harness.not_filed().len() > 3);
    harness.close();
}

#[test]
fn a_detection_that_starts_no_candidate_is_reported_at_each_look() {
    let mut camera = fixed();
    camera.zones = vec![
        zone("pavement", ZoneKind::Watch, (0.0, 1.0), (0.5, 1.0)),
        zone("container", ZoneKind::Exclude, (0.8, 1.0), (0.5, 1.0)),
    ];
    let mut harness = Harness::new(plan([("gate", camera)], vec![rule()]));
    for s in [0.0, 10.0] {
        harness.look(
            "gate",
            s,
            vec![
                garbage(0.45, bbox(0.1, 0.5, 0.2, 0.7)),
                garbage(0.2, bbox(0.3, 0.5, 0.4, 0.7)),
                garbage(0.9, bbox(0.1, 0.1, 0.2, 0.3)),
                garbage(0.9, bbox(0.85, 0.5, 0.95, 0.7)),
                garbage(0.9, bbox(0.6, 0.6, 0.61, 0.61)),
                garbage(f32::NAN, bbox(0.5, 0.8, 0.6, 0.9)),
                garbage(0.9, bbox(f32::NAN, 0.8, 0.6, 0.9)),
            ],
        );
        harness.look("gate", s + 5.0, vec![]);
    }
    let mut reasons = harness.not_filed();
    reasons.sort();
    let twice = |reason, n: usize| vec![reason; 2 * n];
    let expected = [
        twice(NotFiled::ScoreTooLow, 3),
        twice(NotFiled::OutsideZones, 2),
        twice(NotFiled::TooSmall, 2),
    ];
    assert_eq!(reasons, expected.concat());
    assert_eq!(harness.pins(), 0);
}

#[test]
fn a_low_score_on_a_candidate_is_not_a_second_candidate() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 20);
    harness.look("gate", 30.0, vec![garbage(0.1, HEAP)]);
    harness.heap_stays("gate", 40, 60);
    assert!(harness.not_filed().is_empty(), "{:?}", harness.not_filed());
    assert_eq!(harness.opened()[0].looks_seen, 6, "but the look counts as missed");
}

#[test]
fn outside_the_grid_is_reported_once_while_it_stays() {
    let far = LonLat { lon: 113.7, lat: 34.7 };
    let mut harness = Harness::new(plan([("gate", fixed_at(far))], vec![rule()]));
    harness.heap_stays("gate", 0, 600);
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::OutsideGrid], 0));
    // With a new location it starts over.
    harness.apply(Input::Configured(Arc::new(plan([("gate", fixed())], vec![rule()]))));
    harness.heap_stays("gate", 610, 680);
    assert_eq!(harness.opened()[0].first_seen_at, at(610.0));
}

#[test]
fn a_long_outage_drops_a_cameras_tracks_and_pins() {
    let mut harness = gate();
    harness.heap_stays("gate", 0, 30);
    let deadline = harness.engine.next_deadline().expect("a picture is held");
    assert_eq!(deadline, at(3630.0));
    harness.apply(Input::Tick(at(3629.0)));
    assert_eq!((harness.not_filed(), harness.pins()), (vec![], 1));
    harness.apply(Input::Tick(deadline));
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::BlindTooLong], 0));
    assert_eq!(harness.engine.next_deadline(), None);
}

#[test]
fn a_long_dwell_outlasts_the_night() {
    let rubble = Rule {
        dwell: Duration::from_hours(24),
        max_gap: Duration::from_hours(2),
        forget_after: Duration::from_hours(6),
        ..rule()
    };
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rubble]));
    for hour in 0..60u32 {
        let view = if hour % 24 < 12 { View::Clear } else { View::Dark };
        harness.see("gate", f64::from(hour) * 3600.0, view, vec![garbage(0.8, HEAP)]);
    }
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(case.dwell, Duration::from_hours(24));
    assert_eq!(
        case.confirmed_at,
        at(50.0 * 3600.0),
        "11 h each of two days and 2 h of the third"
    );
}

#[test]
fn a_removed_rule_or_camera_ends_only_its_own_candidates() {
    let cameras = || {
        [
            ("gate", fixed()),
            (
                "kerb",
                fixed_at(LonLat {
                    lon: 113.6025,
                    lat: 34.7005,
                }),
            ),
        ]
    };
    let advert = Rule {
        id: "advert".into(),
        ..rule()
    };
    let mut harness = Harness::new(plan(cameras(), vec![rule(), advert]));
    harness.heap_stays("gate", 0, 30);
    harness.heap_stays("kerb", 0, 30);
    assert_eq!(harness.pins(), 4);
    harness.apply(Input::Configured(Arc::new(plan(cameras(), vec![rule()]))));
    assert_eq!(
        (harness.not_filed(), harness.pins()),
        (vec![NotFiled::Reconfigured; 2], 2)
    );
    harness.apply(Input::Configured(Arc::new(plan([("gate", fixed())], vec![rule()]))));
    assert_eq!(
        (harness.not_filed(), harness.pins()),
        (vec![NotFiled::Reconfigured; 3], 1)
    );
    harness.heap_stays("gate", 40, 60);
    assert_eq!(harness.opened()[0].first_seen_at, at(0.0), "the others continue");
}
