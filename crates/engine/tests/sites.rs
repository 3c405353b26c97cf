//! One open case per category and site: across tracks, restarts and cameras.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{
    BBox, CaseState, Detection, Input, LonLat, NotFiled, PlaceMethod, Reply, Rule, ZoneKind,
    geometry::{LocalPlane, distance_m},
};

fn metres_from_here(east: f64, north: f64) -> LonLat {
    LocalPlane::at(HERE).lon_lat(east, north)
}

#[test]
fn a_heap_whose_track_was_lost_is_still_the_same_case() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    harness.heap_stays("gate", 0, 60);
    for s in (70..=400).step_by(10) {
        harness.look("gate", f64::from(s), vec![]);
    }
    harness.heap_stays("gate", 410, 900);
    assert_eq!(harness.opened().len(), 1);
    assert_eq!(
        harness.not_filed(),
        [NotFiled::OpenCaseAtSite],
        "reported once for the new track"
    );
    harness.close();
}

#[test]
fn a_restart_does_not_file_it_again() {
    let mut before = Harness::new(plan([("gate", fixed())], vec![rule()]));
    before.heap_stays("gate", 0, 60);
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    for case in before.engine.open_cases() {
        harness.apply(Input::Restored(case.clone()));
    }
    harness.heap_stays("gate", 70, 600);
    assert!(harness.opened().is_empty());
    assert_eq!(harness.not_filed(), [NotFiled::OpenCaseAtSite]);
    let id = &before.opened()[0].id;
    assert_eq!(harness.engine.last_seen(id), Some(at(600.0)));
}

#[test]
fn an_uncalibrated_view_is_one_site_unless_zones_divide_it() {
    let (left, right) = (bbox(0.1, 0.5, 0.2, 0.6), bbox(0.7, 0.5, 0.8, 0.6));
    let both = |harness: &mut Harness| {
        for s in (0..=120).step_by(10) {
            harness.look("gate", f64::from(s), vec![garbage(0.8, left), garbage(0.7, right)]);
        }
    };
    let mut whole = Harness::new(plan([("gate", fixed())], vec![rule()]));
    both(&mut whole);
    assert_eq!(
        (whole.opened().len(), whole.not_filed()),
        (1, vec![NotFiled::OpenCaseAtSite])
    );

    let mut camera = fixed();
    camera.zones = vec![
        zone("left", ZoneKind::Watch, (0.0, 0.5), (0.0, 1.0)),
        zone("right", ZoneKind::Watch, (0.5, 1.0), (0.0, 1.0)),
    ];
    let mut zoned = Harness::new(plan([("gate", camera)], vec![rule()]));
    both(&mut zoned);
    let keys: Vec<_> = zoned.opened().iter().map(|c| c.dedup_key.clone()).collect();
    assert_eq!(
        keys,
        [
            "410105001001044/0102/zone:gate:left",
            "410105001001044/0102/zone:gate:right"
        ]
    );
}

#[test]
fn cameras_that_may_see_the_same_place_share_a_case() {
    // Both places are known to 5 m, so up to 10 m apart they may be the same.
    for (apart, cases) in [(9.0, 1), (11.0, 2)] {
        let cameras = [("gate", fixed()), ("kerb", fixed_at(metres_from_here(apart, 0.0)))];
        let mut harness = Harness::new(plan(cameras, vec![rule()]));
        harness.heap_stays("gate", 0, 60);
        harness.heap_stays("kerb", 0, 60);
        assert_eq!(harness.opened().len(), cases, "{apart} m");
    }
}

#[test]
fn a_case_is_in_front_of_each_camera_that_sees_it_until_it_is_closed() {
    let far = metres_from_here(500.0, 0.0);
    let cameras = [
        ("gate", fixed()),
        ("kerb", fixed_at(metres_from_here(9.0, 0.0))),
        ("lane", fixed_at(far)),
    ];
    let mut harness = Harness::new(plan(cameras, vec![rule()]));
    harness.heap_stays("gate", 0, 60);
    harness.heap_stays("kerb", 0, 60);
    let id = harness.opened()[0].id.clone();
    let seen = |harness: &Harness, camera: &str| -> Vec<_> {
        let camera = camera.into();
        let found = harness.engine.boxes_at_cases(&camera);
        found.map(|(case, bbox)| (case.clone(), bbox)).collect()
    };
    for camera in ["gate", "kerb"] {
        assert_eq!(seen(&harness, camera), [(id.clone(), HEAP)], "{camera}");
    }
    assert_eq!(seen(&harness, "lane"), []);
    harness.apply(Input::Reply(Reply {
        case: id,
        state: CaseState::Closed,
        at: at(70.0),
        reason: None,
        due: None,
    }));
    assert_eq!(seen(&harness, "kerb"), []);
}

fn rubble() -> Rule {
    let mut rubble = Rule {
        id: "rubble".into(),
        labels: vec!["rubble".into()],
        ..rule()
    };
    rubble.category.code = "0103".into();
    rubble
}

#[test]
fn categories_do_not_share_a_case() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule(), rubble()]));
    let beside = BBox {
        x1: HEAP.x1 + 0.6 * (HEAP.x2 - HEAP.x1),
        x2: HEAP.x2 + 0.6 * (HEAP.x2 - HEAP.x1),
        ..HEAP
    };
    for s in (0..=60).step_by(10) {
        let found = vec![garbage(0.8, HEAP), Detection::new("rubble", 0.8, beside)];
        harness.look("gate", s.into(), found);
    }
    assert_eq!(harness.opened().len(), 2);
}

#[test]
fn one_thing_is_filed_under_one_category_at_a_time() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule(), rubble()]));
    let both = || vec![garbage(0.8, HEAP), Detection::new("rubble", 0.8, HEAP)];
    for s in (0..=100).step_by(10) {
        harness.look("gate", s.into(), both());
    }
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    let case = case.id.clone();
    assert!(harness.not_filed().contains(&NotFiled::FiledOtherwise));
    // The clerk rejects it as garbage; it is rubble.
    harness.apply(Input::Reply(Reply {
        case,
        state: CaseState::Rejected,
        at: at(110.0),
        reason: None,
        due: None,
    }));
    harness.look("gate", 120.0, both());
    let categories: Vec<&str> = harness.opened().iter().map(|c| c.category.code.as_str()).collect();
    assert_eq!(categories, ["0102", "0103"], "it has been there for long enough");
}

#[test]
fn a_case_keeps_its_first_cell_when_another_camera_sees_it_across_the_edge() {
    // The edge of cells 044 and 045 lies 0.0005° east of HERE.
    let edge = LonLat {
        lon: HERE.lon + 0.0005,
        lat: HERE.lat,
    };
    let plane = LocalPlane::at(edge);
    let cameras = [
        ("west", fixed_at(plane.lon_lat(-2.0, 0.0))),
        ("east", fixed_at(plane.lon_lat(2.0, 0.0))),
    ];
    let mut harness = Harness::new(plan(cameras, vec![rule()]));
    harness.heap_stays("east", 0, 60);
    harness.heap_stays("west", 0, 60);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    assert_eq!(case.located.cell.as_str(), "410105001001045");
}

#[test]
fn three_calibrated_cameras_around_one_heap_file_one_case_at_its_place() {
    let poles = [("a", (0.0, -18.0)), ("b", (16.0, 5.0)), ("c", (-9.0, 14.0))];
    let cameras = poles.map(|(id, pole)| (id, Pinhole::towards_here(pole, 6.0)));
    let plans = cameras.map(|(id, camera)| (id, camera.plan(0.002)));
    let mut harness = Harness::new(plan(plans, vec![rule()]));
    let heap = (1.0, 1.5);
    for s in (0..=300).step_by(10) {
        for (i, (id, camera)) in cameras.iter().enumerate() {
            harness.look(id, f64::from(s) + i as f64, vec![garbage(0.8, camera.frames(heap))]);
        }
    }
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.opened())
    };
    assert_eq!(harness.not_filed(), [NotFiled::OpenCaseAtSite; 2]);
    assert_eq!(case.located.method, PlaceMethod::Homography);
    let off = distance_m(case.located.at, metres_from_here(heap.0, heap.1));
    assert!(
        off <= 2.0 * case.located.uncertainty_m && off < 2.0,
        "{off} m of {}",
        case.located.uncertainty_m
    );
    assert!(
        case.dedup_key.starts_with("410105001001044/0102/ground:113.600"),
        "{}",
        case.dedup_key
    );
}

#[test]
fn two_heaps_twenty_metres_apart_in_one_calibrated_view_are_two_cases() {
    let camera = Pinhole::towards_here((0.0, -20.0), 8.0);
    let mut harness = Harness::new(plan([("a", camera.plan(0.0))], vec![rule()]));
    let boxes: [BBox; 2] = [camera.frames((-4.0, -6.0)), camera.frames((4.0, 12.0))];
    for s in (0..=300).step_by(10) {
        harness.look("a", f64::from(s), boxes.map(|b| garbage(0.8, b)).to_vec());
    }
    assert_eq!(harness.opened().len(), 2, "{:?}", harness.not_filed());
}

#[test]
fn a_location_too_uncertain_falls_back_to_the_views_own() {
    let camera = Pinhole::towards_here((0.0, -18.0), 6.0);
    let mut harness = Harness::new(plan([("a", camera.plan(0.0))], vec![rule()]));
    // Close to the horizon, where ground points are useless.
    for s in (0..=60).step_by(10) {
        harness.look("a", f64::from(s), vec![garbage(0.8, bbox(0.4, 0.0, 0.6, 0.02))]);
    }
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!((case.located.method, case.located.at), (PlaceMethod::CameraPoint, HERE));
    assert_eq!(case.located.uncertainty_m, 30.0);
    assert_eq!(case.dwell, Duration::from_secs(60));
}
