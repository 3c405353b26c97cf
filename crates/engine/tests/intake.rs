//! Clerks have two minutes for a case: what is over the day's number waits for the next day, the surest and longest there
//! first, and is filed then if it is still there.

use crate::engine_support;
use crate::engine_support::{World, at, bbox, fixed_at, garbage, no_cap, plan, rule};
use gridwatch_engine::{
    BBox, CaseState, Effect, Input, Intake, LonLat, NotFiled, Plan, Zone, ZoneKind, calendar::Calendar,
};
use jiff::tz::{TimeZone, offset};

const HOUR: u32 = 3600;

/// Two cameras 100 m apart, with four drawn places each.
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

/// The `n`th place of a view: a heap there, and the zone drawn around it.
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
fn stay(world: &mut World, camera: &str, heaps: &[(u8, f32)], from: u32, to: u32) {
    for s in (from..=to).step_by(10) {
        let heaps = heaps.iter().map(|(n, score)| garbage(*score, place(*n).0)).collect();
        world.look(camera, f64::from(s), heaps);
    }
}

fn filed(world: &World) -> Vec<String> {
    let name = |c: &&gridwatch_engine::Case| format!("{}/{}", c.camera, c.zone.as_ref().unwrap());
    world.opened().iter().map(name).collect()
}

/// Seconds from the tests' beginning (2025-06-15T15:06:40Z) to the next midnight.
const TO_MIDNIGHT: u32 = 8 * HOUR + 53 * 60 + 20;

#[test]
fn what_is_over_a_cameras_number_waits_and_the_heaviest_goes_first_next_day() {
    let mut world = World::new(streets(1, 100, TimeZone::UTC));
    stay(&mut world, "east", &[(0, 0.9)], 0, 60);
    assert_eq!(filed(&world), ["east/place-0"]);
    // Two more; the second is surer.
    stay(
        &mut world,
        "east",
        &[(0, 0.9), (1, 0.6), (2, 0.8)],
        70,
        TO_MIDNIGHT - 10,
    );
    assert_eq!(filed(&world).len(), 1);
    assert_eq!(world.engine.waiting(), 2);
    let said = world.not_filed();
    assert_eq!(said, [NotFiled::OverDailyCap; 2], "once each, however long they wait");
    // The other camera has its own number.
    stay(&mut world, "west", &[(3, 0.6)], TO_MIDNIGHT - 100, TO_MIDNIGHT - 20);
    assert_eq!(filed(&world), ["east/place-0", "west/place-3"]);
    stay(
        &mut world,
        "east",
        &[(0, 0.9), (1, 0.6), (2, 0.8)],
        TO_MIDNIGHT,
        TO_MIDNIGHT + 30,
    );
    assert_eq!(filed(&world), ["east/place-0", "west/place-3", "east/place-2"]);
    stay(
        &mut world,
        "east",
        &[(0, 0.9), (1, 0.6), (2, 0.8)],
        TO_MIDNIGHT + 40,
        TO_MIDNIGHT + 24 * HOUR,
    );
    assert_eq!(filed(&world).last().unwrap(), "east/place-1");
    world.close();
}

#[test]
fn the_boxs_number_is_shared_by_weight_across_cameras() {
    let mut world = World::new(streets(100, 1, TimeZone::UTC));
    stay(&mut world, "east", &[(0, 0.9)], 0, 60);
    for s in (70..TO_MIDNIGHT + 100).step_by(10) {
        // East is looked at first, and is less sure.
        stay(&mut world, "east", &[(0, 0.9), (1, 0.6)], s, s);
        stay(&mut world, "west", &[(1, 0.8)], s + 1, s + 1);
    }
    assert_eq!(filed(&world), ["east/place-0", "west/place-1"]);
    assert_eq!(world.engine.waiting(), 1);
    world.close();
}

#[test]
fn what_left_while_it_waited_is_not_filed_and_says_so() {
    let mut world = World::new(streets(1, 100, TimeZone::UTC));
    stay(&mut world, "east", &[(0, 0.9)], 0, 60);
    stay(&mut world, "east", &[(0, 0.9), (1, 0.6)], 70, 600);
    stay(&mut world, "east", &[(0, 0.9)], 610, 1200);
    assert_eq!(world.not_filed(), [NotFiled::OverDailyCap, NotFiled::LeftWhileWaiting]);
    assert_eq!(world.engine.waiting(), 0);
    world.close();
}

#[test]
fn the_day_ends_at_the_citys_midnight_and_a_restart_does_not_begin_it_anew() {
    let east_of_greenwich = TimeZone::fixed(offset(8));
    let mut world = World::new(streets(1, 100, east_of_greenwich.clone()));
    stay(&mut world, "east", &[(0, 0.9)], 0, 60);
    let filed_today = world.opened()[0].remembered(CaseState::Filed, at(60.0));

    let mut restarted = World::new(streets(1, 100, east_of_greenwich));
    restarted.apply(Input::Restored(filed_today));
    // 23:06 local time when it began; the next day's number is there from 00:00 on, not from UTC's.
    let to_midnight = 53 * 60 + 20;
    stay(&mut restarted, "east", &[(1, 0.9)], 100, to_midnight - 10);
    assert!(filed(&restarted).is_empty());
    stay(&mut restarted, "east", &[(1, 0.9)], to_midnight, to_midnight + 10);
    assert_eq!(filed(&restarted), ["east/place-1"]);
}

#[test]
fn without_a_number_nothing_waits() {
    let mut world = World::new(Plan {
        intake: no_cap(),
        ..streets(1, 1, TimeZone::UTC)
    });
    stay(&mut world, "east", &[(0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9)], 0, 60);
    assert_eq!(filed(&world).len(), 4);
    let opens = world.effects.iter().filter(|e| matches!(e, Effect::Open(_))).count();
    assert_eq!(opens, 4);
}
