//! Small hand-built streets over an hour or a day.

use crate::engine_support::*;
use gridwatch_engine::{BBox, CaseId, CaseState, Detection, Input, LonLat, Reply, Rule, geometry::LocalPlane};

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;

/// Three cameras around `HERE`.
fn cameras() -> [(&'static str, Pinhole); 3] {
    [("east", (14.0, 2.0)), ("north", (-3.0, 15.0)), ("south", (-9.0, -12.0))]
        .map(|(id, pole)| (id, Pinhole::towards_here(pole, 6.0)))
}

/// A box off by up to 5 % of its size, deterministic in `n`.
fn jittered(b: BBox, n: u32) -> BBox {
    let off = |k: u32| ((n.wrapping_mul(2_654_435_761).rotate_left(k) % 1000) as f32 / 1000.0 - 0.5) * 0.1;
    let (w, h) = (b.x2 - b.x1, b.y2 - b.y1);
    bbox(
        b.x1 + off(3) * w,
        b.y1 + off(7) * h,
        b.x2 + off(11) * w,
        b.y2 + off(13) * h,
    )
}

/// A new engine with the store's cases restored.
fn restart(harness: &Harness, plan: gridwatch_engine::Plan) -> Harness {
    let mut next = Harness::new(plan);
    for case in harness.engine.remembered() {
        next.apply(Input::Restored(case.clone()));
    }
    next
}

#[test]
fn three_cameras_one_heap_eight_hours_and_five_restarts_are_one_case() {
    let plan_of = || plan(cameras().into_iter().map(|(id, p)| (id, p.plan(0.001))), vec![rule()]);
    let mut harness = Harness::new(plan_of());
    let (mut opened, mut starts) = (0, 0);
    for s in (0..8 * HOUR).step_by(10) {
        if s > 0 && s % (80 * 60) == 0 {
            opened += harness.opened().len();
            harness = restart(&harness, plan_of());
            starts += 1;
        }
        for (n, (id, camera)) in (0..).zip(cameras()) {
            // The cameras miss it in different looks, and a bus hides it from the south for ten minutes of every hour.
            let is_missed = (s / 10 + n) % 4 == 0 || (id == "south" && s % HOUR < 600);
            let heap = jittered(camera.frames((1.0, 1.5)), s + n);
            let seen = if is_missed { vec![] } else { vec![garbage(0.7, heap)] };
            harness.look(id, f64::from(s) + f64::from(n), seen);
        }
    }
    opened += harness.opened().len();
    assert_eq!((opened, starts), (1, 5));
}

#[test]
fn two_heaps_in_two_cells_are_two_cases() {
    // The street's cell ends 46 m east of its middle; one heap lies 6 m on either side of that edge.
    let edge = LocalPlane::at(HERE).metres(LonLat { lon: 113.601, ..HERE }).0;
    let camera = Pinhole {
        pole: (edge, -14.0),
        height_m: 6.0,
        heading: 0.0,
        tilt: 23.0,
    };
    let marks = [
        (-5.0, -3.0),
        (5.0, -3.0),
        (7.0, 6.0),
        (-7.0, 6.0),
        (0.0, 0.0),
        (3.0, 2.0),
    ];
    let marks = marks.map(|(east, north)| (edge + east, north));
    let mut harness = Harness::new(plan([("gate", camera.plan_on(&marks, 0.0))], vec![rule()]));
    for s in (0..=300).step_by(10) {
        let heaps = [-6.0, 6.0].map(|off| garbage(0.7, camera.frames((edge + off, 0.0))));
        harness.look("gate", f64::from(s), heaps.to_vec());
    }
    let mut cells: Vec<String> = harness.opened().iter().map(|c| c.located.cell.to_string()).collect();
    cells.sort();
    assert_eq!(cells, ["410105001001044", "410105001001045"]);
    harness.close();
}

#[test]
fn a_vendor_who_leaves_and_returns_next_week_is_a_linked_case() {
    let vendor = Rule {
        id: "vendor".into(),
        labels: vec!["umbrella".into()],
        dwell: std::time::Duration::from_secs(300),
        ..rule()
    };
    let mut harness = Harness::new(plan([("gate", fixed())], vec![vendor]));
    let stall = |score| Detection::new("umbrella", score, HEAP);
    let stand = |harness: &mut Harness, from: u32| -> CaseId {
        for s in (from..from + HOUR).step_by(10) {
            harness.look("gate", f64::from(s), vec![stall(0.7)]);
        }
        let filed = harness
            .opened()
            .last()
            .expect("the vendor stood for an hour")
            .id
            .clone();
        for s in (from + HOUR..from + 2 * HOUR).step_by(10) {
            harness.look("gate", f64::from(s), vec![]);
        }
        filed
    };
    let monday = stand(&mut harness, 0);
    harness.apply(Input::Reply(Reply {
        case: monday.clone(),
        state: CaseState::Closed,
        at: at(f64::from(2 * HOUR)),
        reason: None,
        due: None,
    }));
    stand(&mut harness, 6 * DAY);
    let cases = harness.opened();
    assert_eq!(cases.len(), 2);
    let link = cases[1].recurrence.as_ref().expect("linked to the earlier case");
    assert_eq!((&link.of, link.count), (&monday, 1));
}

#[test]
fn flickering_scores_and_minutes_of_occlusion_are_one_case() {
    let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
    for s in (0..=HOUR).step_by(10) {
        // Occluded for one minute in six; otherwise the score varies between 0.3 and 0.8.
        let score = 0.3 + 0.5 * ((s as f32 / 37.0).sin().abs());
        let seen = if s % 360 < 60 && s > 0 {
            vec![]
        } else {
            vec![garbage(score, jittered(HEAP, s))]
        };
        harness.look("gate", f64::from(s), seen);
    }
    assert_eq!(harness.opened().len(), 1, "{:?}", harness.not_filed());
    harness.close();
}
