//! A vendor rule on general-purpose labels: attended goods that stay. Waiting people, unattended goods and moving
//! vendors are not filed.

use std::time::Duration;

use crate::engine_support::{HERE, Harness, Pinhole, bbox, fixed, plan, rule, zone};
use gridwatch_engine::{
    Attended, BBox, CameraPlan, Detection, ExceptLabels, Label, NotFiled, Rule, ZoneKind, geometry::distance_m,
};

fn vendor() -> Rule {
    Rule {
        id: "vendor".into(),
        labels: ["umbrella", "table", "cart"].map(Into::into).to_vec(),
        dwell: Duration::from_secs(300),
        gather: 0.3,
        max_move: 0.5,
        max_move_m: Some(3.0),
        attended: Some(Attended {
            labels: vec!["person".into()],
            within: 1.0,
            share: 0.5,
            min_size: 0.0,
        }),
        ..rule()
    }
}

fn object(label: &str, bbox: BBox) -> Detection {
    Detection::new(label, 0.8, bbox)
}

const TABLE: BBox = BBox {
    x1: 0.40,
    y1: 0.60,
    x2: 0.50,
    y2: 0.70,
};

fn parasol() -> Detection {
    object("umbrella", bbox(0.40, 0.45, 0.52, 0.58))
}

fn seller(x: f32) -> Detection {
    object("person", bbox(x, 0.5, x + 0.05, 0.7))
}

fn harness() -> Harness {
    Harness::new(plan([("gate", fixed())], vec![vendor()]))
}

#[test]
fn the_parts_of_a_stall_are_one_case() {
    let mut harness = harness();
    for (i, s) in (0..=300).step_by(10).enumerate() {
        // The vendor walks around the stall and is away in every third look.
        let mut seen = vec![object("table", TABLE), parasol()];
        if i % 3 != 0 {
            seen.push(seller(0.5 + 0.02 * (i % 2) as f32));
        }
        harness.look("gate", f64::from(s), seen);
    }
    let cases = harness.opened();
    assert_eq!(cases.len(), 1);
    assert_eq!((cases[0].count, cases[0].area_m2), (2, None));
    assert_eq!(cases[0].confirmed_box, bbox(0.40, 0.45, 0.52, 0.70), "around both");
    harness.close();
}

#[test]
fn a_new_region_beside_a_stall_does_not_move_it() {
    let rule = Rule {
        labels: ["umbrella", "table", "object"].map(Into::into).to_vec(),
        ..vendor()
    };
    let zones = vec![
        zone("pavement", ZoneKind::Watch, (0.3, 0.6), (0.5, 0.72)),
        zone("road", ZoneKind::Watch, (0.3, 0.6), (0.73, 0.9)),
    ];
    let file = |region: BBox| {
        let camera = CameraPlan {
            zones: zones.clone(),
            ..fixed()
        };
        let mut harness = Harness::new(plan([("gate", camera)], vec![rule.clone()]));
        for s in (0..=300).step_by(10) {
            let region = Detection::new(Label::object(), 0.9, region);
            harness.look("gate", s.into(), vec![object("table", TABLE), region, seller(0.52)]);
        }
        let [case] = &harness.opened()[..] else {
            panic!("{:?}", harness.opened())
        };
        (case.confirmed_box, case.count, case.zone.clone())
    };
    let expected = (TABLE, 1, Some("pavement".into()));
    assert_eq!(file(bbox(0.49, 0.62, 0.54, 0.80)), expected, "beside it");
    assert_eq!(file(bbox(0.40, 0.60, 0.50, 0.74)), expected, "around it");
    let cloth = bbox(0.35, 0.55, 0.55, 0.71);
    let whole = (cloth, 2, Some("pavement".into()));
    assert_eq!(file(cloth), whole, "what was recognised is a detail of it");
}

#[test]
fn a_new_region_beside_an_object_lends_it_no_score() {
    let rule = Rule {
        labels: ["table", "object"].map(Into::into).to_vec(),
        ..vendor()
    };
    let file = |region: BBox| {
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule.clone()]));
        for s in (0..=300).step_by(10) {
            // Too low to start a candidate.
            let table = Detection::new("table", 0.4, TABLE);
            let region = Detection::new(Label::object(), 0.9, region);
            harness.look("gate", s.into(), vec![table, region, seller(0.52)]);
        }
        harness.opened().len()
    };
    assert_eq!(file(bbox(0.49, 0.62, 0.58, 0.70)), 0, "beside it");
    assert_eq!(file(bbox(0.39, 0.59, 0.51, 0.71)), 1, "the same thing");
}

#[test]
fn goods_that_nothing_recognises_must_stay_longer() {
    let filed_after_s = |label: &str| {
        let rule = Rule {
            labels: ["table", "object"].map(Into::into).to_vec(),
            unidentified_dwell: Some(Duration::from_mins(10)),
            ..vendor()
        };
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
        for s in (0..=900).step_by(10) {
            harness.look("gate", s.into(), vec![object(label, TABLE), seller(0.52)]);
        }
        harness.opened()[0].dwell.as_secs()
    };
    assert_eq!((filed_after_s("table"), filed_after_s("object")), (300, 600));
}

#[test]
fn luggage_is_small_beside_its_owner() {
    // The seller's box is twice as large as the table's.
    for (min_size, cases) in [(0.9, 1), (1.1, 0)] {
        let mut rule = vendor();
        rule.attended.as_mut().unwrap().min_size = min_size;
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
        for s in (0..=300).step_by(10) {
            harness.look("gate", s.into(), vec![object("table", TABLE), seller(0.52)]);
        }
        assert_eq!(harness.opened().len(), cases, "{min_size}");
        harness.close();
    }
}

#[test]
fn goods_that_people_only_pass_are_not_attended() {
    let file = |stays: bool| {
        let mut harness = harness();
        for (i, s) in (0..=400_u32).step_by(10).enumerate() {
            // Always somebody near it, and somebody else each time.
            let x = if stays { 0.52 } else { 0.36 + 0.06 * (i % 4) as f32 };
            harness.look("gate", s.into(), vec![object("table", TABLE), seller(x)]);
        }
        harness.opened().len()
    };
    assert_eq!((file(true), file(false)), (1, 0));
}

#[test]
fn what_is_taken_for_garbage_is_not_a_vendor() {
    let file = |garbage_in: usize, share: f32| {
        let rule = Rule {
            except_labels: Some(ExceptLabels {
                labels: vec!["garbage".into()],
                score: 0.5,
            }),
            present_share: 0.8,
            ..vendor()
        };
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
        for (i, s) in (0..=400_u32).step_by(10).enumerate() {
            let mut found = vec![object("table", TABLE), seller(0.52)];
            if i % 10 < garbage_in {
                let part = bbox(TABLE.x1, TABLE.y1, TABLE.x1 + share * 0.1, TABLE.y2);
                found.push(object("garbage", part));
            }
            harness.look("gate", s.into(), found);
        }
        harness.opened().len()
    };
    assert_eq!(file(1, 0.5), 1, "in one look of ten");
    assert_eq!(file(4, 0.5), 0, "in four of ten");
    assert_eq!(file(10, 0.25), 1, "a bag beside it");
}

#[test]
fn pieces_that_belong_together_are_large_enough_together() {
    for (gather, cases) in [(0.5, 1), (0.0, 0)] {
        let rule = Rule {
            gather,
            min_area: 0.008,
            attended: None,
            ..vendor()
        };
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule]));
        let pieces = || [bbox(0.40, 0.60, 0.45, 0.70), bbox(0.46, 0.60, 0.51, 0.70)];
        for s in (0..=300).step_by(10) {
            let found = pieces().map(|b| object("table", b)).to_vec();
            harness.look("gate", s.into(), found);
        }
        assert_eq!(harness.opened().len(), cases, "{gather}");
        harness.close();
    }
}

#[test]
fn waiting_people_and_unattended_goods_are_not_a_vendor() {
    let mut harness = harness();
    for s in (0..=900).step_by(10) {
        harness.look("gate", f64::from(s), vec![seller(0.1), seller(0.2)]);
    }
    assert!(harness.effects.len() <= 1, "{:?}", harness.effects);
    for s in (910..=1900).step_by(10) {
        // A passer-by now and then.
        let mut seen = vec![object("cart", TABLE)];
        if s % 50 == 0 {
            seen.push(seller(0.5));
        }
        harness.look("gate", f64::from(s), seen);
    }
    for s in (1910..=2100).step_by(10) {
        harness.look("gate", f64::from(s), Vec::new());
    }
    assert!(harness.opened().is_empty());
    assert_eq!(harness.not_filed(), [NotFiled::Unattended]);
    harness.close();
}

#[test]
fn a_calibrated_camera_measures_movement_in_metres() {
    let camera = Pinhole::towards_here((0.0, -18.0), 6.0);
    let walk = |metres_a_minute: f64| {
        let mut harness = Harness::new(plan([("gate", camera.plan(0.0))], vec![vendor()]));
        for s in (0..=400).step_by(10) {
            let east = -1.5 + metres_a_minute * f64::from(s) / 60.0;
            let cart = camera.frames((east, 0.0));
            let near = bbox(cart.x2, cart.y1, cart.x2 + 0.03, cart.y2);
            harness.look("gate", f64::from(s), vec![object("cart", cart), object("person", near)]);
        }
        harness
    };
    let still = walk(0.0);
    let case = still.opened()[0];
    assert!(distance_m(case.located.at, HERE) < 3.0);
    let area = case.area_m2.unwrap();
    assert!((2.0..3.2).contains(&area), "1.6 m wide: {area} m²");
    assert_eq!(walk(0.4).opened().len(), 1, "2.7 m in all");
    let strolling = walk(1.0);
    assert!(strolling.opened().is_empty());
    assert!(strolling.not_filed().contains(&NotFiled::Moved));
}

#[test]
fn a_heap_counts_by_its_area_or_its_number_of_bags() {
    let camera = Pinhole::towards_here((0.0, -18.0), 6.0);
    let heap = Rule {
        labels: vec!["bag".into()],
        min_area_m2: Some(4.0),
        min_count: Some(3),
        gather: 0.5,
        attended: None,
        ..rule()
    };
    let filed = |bags: &[(f64, f64)]| {
        let mut harness = Harness::new(plan([("gate", camera.plan(0.0))], vec![heap.clone()]));
        for s in (0..=120).step_by(10) {
            let seen = bags.iter().map(|at| object("bag", camera.frames(*at))).collect();
            harness.look("gate", f64::from(s), seen);
        }
        (
            harness.opened().len(),
            harness.not_filed().contains(&NotFiled::TooSmall),
        )
    };
    assert_eq!(filed(&[(0.0, 0.0)]), (0, true), "one of 2.6 m²");
    assert_eq!(filed(&[(-0.9, 0.0), (0.9, 0.0)]), (1, false), "3.4 m wide");
    assert_eq!(filed(&[(-0.2, 0.0), (0.0, 0.6), (0.2, 1.2)]), (1, false), "three bags");
}
