//! Daily caps: cases over the cap wait for the next day, highest priority first, and are filed then if they are still
//! there.

use crate::engine_support;
use crate::engine_support::{Harness, at, bbox, fixed_at, garbage, no_cap, plan, rule};
use gridwatch_engine::{
    BBox, CaseState, Effect, Input, Intake, LonLat, NotFiled, Plan, Zone, ZoneKind, calendar::Calendar,
};
use jiff::tz::{TimeZone, offset};

const HOUR: u32 = 3600;

/// Two cameras 100 m apart, with four zones each.
fn streets(per_camera_day: u32, per_box_day: u32, zone: TimeZone) -> Plan {
    let camera = |lon| {
        let mut camera = fixed_at(LonLat { lon, lat: 34.7005 });
        camera.zones = (0..4).map(|n| place(n).1).collect();
        camera
    };
    Plan {
        intake: Intake {
            per_camera_day,
            per_box_day,
            let_go_after: None,
        },
        calendar: Calendar {
            zone,
            ..Calendar::default()
        },
        ..plan([("east", camera(113.6005)), ("west", camera(113.5994))], vec![rule()])
    }
}

/// The `n`th place of a view: a heap's box, and the zone around it.
fn place(n: u8) -> (BBox, Zone) {
    let x = 0.05 + 0.25 * f32::from(n);
    let zone = engine_support::zone(
        &format!("place-{n}"),
        ZoneKind::Watch,
        (f64::from(x) - 0.02, f64::from(x) + 0.12),
        (0.0, 1.0),
    );
    (bbox(x, 0.5, x + 0.1, 0.6), zone)
}

/// Looks every 10 s at heaps in the given places with the given scores.
fn stay(harness: &mut Harness, camera: &str, heaps: &[(u8, f32)], from: u32, to: u32) {
    for s in (from..=to).step_by(10) {
        let heaps = heaps.iter().map(|(n, score)| garbage(*score, place(*n).0)).collect();
        harness.look(camera, f64::from(s), heaps);
    }
}

fn filed(harness: &Harness) -> Vec<String> {
    let name = |c: &&gridwatch_engine::Case| format!("{}/{}", c.camera, c.zone.as_ref().unwrap());
    harness.opened().iter().map(name).collect()
}

/// Seconds from the start of the tests' clock (2025-06-15T15:06:40Z) to the next midnight.
const TO_MIDNIGHT: u32 = 8 * HOUR + 53 * 60 + 20;

#[test]
fn cases_over_a_cameras_cap_wait_and_the_highest_priority_is_filed_first_next_day() {
    let mut harness = Harness::new(streets(1, 100, TimeZone::UTC));
    stay(&mut harness, "east", &[(0, 0.9)], 0, 60);
    assert_eq!(filed(&harness), ["east/place-0"]);
    // Two more; the second has the higher score.
    stay(
        &mut harness,
        "east",
        &[(0, 0.9), (1, 0.6), (2, 0.8)],
        70,
        TO_MIDNIGHT - 10,
    );
    assert_eq!(filed(&harness).len(), 1);
    assert_eq!(harness.engine.waiting(), 2);
    let reasons = harness.not_filed();
    assert_eq!(
        reasons,
        [NotFiled::OverDailyCap; 2],
        "reported once each, however long they wait"
    );
    // The other camera has its own cap.
    stay(&mut harness, "west", &[(3, 0.6)], TO_MIDNIGHT - 100, TO_MIDNIGHT - 20);
    assert_eq!(filed(&harness), ["east/place-0", "west/place-3"]);
    stay(
        &mut harness,
        "east",
        &[(0, 0.9), (1, 0.6), (2, 0.8)],
        TO_MIDNIGHT,
        TO_MIDNIGHT + 30,
    );
    assert_eq!(filed(&harness), ["east/place-0", "west/place-3", "east/place-2"]);
    stay(
        &mut harness,
        "east",
        &[(0, 0.9), (1, 0.6), (2, 0.8)],
        TO_MIDNIGHT + 40,
        TO_MIDNIGHT + 24 * HOUR,
    );
    assert_eq!(filed(&harness).last().unwrap(), "east/place-1");
    harness.close();
}

#[test]
fn the_boxs_cap_is_shared_by_priority_across_cameras() {
    let mut harness = Harness::new(streets(100, 1, TimeZone::UTC));
    stay(&mut harness, "east", &[(0, 0.9)], 0, 60);
    for s in (70..TO_MIDNIGHT + 100).step_by(10) {
        // The east camera is looked at first and has the lower score.
        stay(&mut harness, "east", &[(0, 0.9), (1, 0.6)], s, s);
        stay(&mut harness, "west", &[(1, 0.8)], s + 1, s + 1);
    }
    assert_eq!(filed(&harness), ["east/place-0", "west/place-1"]);
    assert_eq!(harness.engine.waiting(), 1);
    harness.close();
}

#[test]
fn an_object_that_left_while_waiting_is_reported_and_not_filed() {
    let mut harness = Harness::new(streets(1, 100, TimeZone::UTC));
    stay(&mut harness, "east", &[(0, 0.9)], 0, 60);
    stay(&mut harness, "east", &[(0, 0.9), (1, 0.6)], 70, 600);
    stay(&mut harness, "east", &[(0, 0.9)], 610, 1200);
    assert_eq!(
        harness.not_filed(),
        [NotFiled::OverDailyCap, NotFiled::LeftWhileWaiting]
    );
    assert_eq!(harness.engine.waiting(), 0);
    harness.close();
}

#[test]
fn the_day_ends_at_local_midnight_and_a_restart_does_not_reset_it() {
    let east_of_greenwich = TimeZone::fixed(offset(8));
    let mut harness = Harness::new(streets(1, 100, east_of_greenwich.clone()));
    stay(&mut harness, "east", &[(0, 0.9)], 0, 60);
    let filed_today = harness.opened()[0].remembered(CaseState::Filed, at(60.0));

    let mut restarted = Harness::new(streets(1, 100, east_of_greenwich));
    restarted.apply(Input::Restored(filed_today));
    // It starts at 23:06 local time; the next day's cap applies from local midnight, not from UTC's.
    let to_midnight = 53 * 60 + 20;
    stay(&mut restarted, "east", &[(1, 0.9)], 100, to_midnight - 10);
    assert!(filed(&restarted).is_empty());
    stay(&mut restarted, "east", &[(1, 0.9)], to_midnight, to_midnight + 10);
    assert_eq!(filed(&restarted), ["east/place-1"]);
}

#[test]
fn without_a_cap_nothing_waits() {
    let mut harness = Harness::new(Plan {
        intake: no_cap(),
        ..streets(1, 1, TimeZone::UTC)
    });
    stay(&mut harness, "east", &[(0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9)], 0, 60);
    assert_eq!(filed(&harness).len(), 4);
    let opens = harness.effects.iter().filter(|e| matches!(e, Effect::Open(_))).count();
    assert_eq!(opens, 4);
}
