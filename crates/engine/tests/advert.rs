//! Signs on walls: what is new against the approved ones is a case, what was approved is none, and nobody guesses what a view
//! that was never recorded may show.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{
    ApprovedSign, BBox, CameraPlan, Detection, LonLat, NotFiled, Place, PlaceMethod, Rule, Stands, ZoneKind,
    is_approved,
};

const LOOK_EVERY_S: f64 = 60.0;
const DWELL_S: f64 = 2.0 * 3600.0;

/// A shop's board.
const BOARD: BBox = BBox {
    x1: 0.2,
    y1: 0.2,
    x2: 0.5,
    y2: 0.3,
};
/// A lawful neighbour's, smaller.
const NEIGHBOUR: BBox = BBox {
    x1: 0.51,
    y1: 0.2,
    x2: 0.62,
    y2: 0.3,
};
/// Where nothing hung before.
const BANNER: BBox = BBox {
    x1: 0.7,
    y1: 0.1,
    x2: 0.9,
    y2: 0.2,
};

fn adverts() -> Rule {
    Rule {
        id: "advert".into(),
        labels: vec!["sign".into()],
        dwell: Duration::from_secs(2 * 3600),
        stands: Stands::Wall,
        except_approved: true,
        forget_after: Duration::from_secs(600),
        max_gap: Duration::from_secs(300),
        ..rule()
    }
}

fn approved(signs: &[BBox]) -> Option<Vec<ApprovedSign>> {
    let sign = |bbox: &BBox| ApprovedSign {
        number: None,
        label: "sign".into(),
        bbox: *bbox,
    };
    Some(signs.iter().map(sign).collect())
}

fn camera(signs: &[BBox]) -> CameraPlan {
    CameraPlan {
        approved: approved(signs),
        ..fixed()
    }
}

fn sign(bbox: BBox) -> Detection {
    Detection {
        label: "sign".into(),
        ..garbage(0.8, bbox)
    }
}

/// Looks from the beginning until a little after the dwell, each showing what `seen` gives.
fn watch(camera: CameraPlan, seen: impl Fn(u32) -> Vec<Detection>) -> World {
    let mut world = World::new(plan([("gate", camera)], vec![adverts()]));
    let looks = (DWELL_S / LOOK_EVERY_S) as u32 + 10;
    for n in 0..looks {
        world.look("gate", f64::from(n) * LOOK_EVERY_S, seen(n));
    }
    world
}

#[test]
fn a_new_sign_is_a_case_when_its_dwell_is_over_and_not_before() {
    let world = watch(camera(&[BOARD]), |_| vec![sign(BOARD), sign(BANNER)]);
    let [case] = world.opened()[..] else {
        panic!("{:?}", world.effects)
    };
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(0.0), at(DWELL_S)));
    assert_eq!(case.confirmed_box, BANNER);
}

#[test]
fn an_approved_sign_is_none_and_is_counted_at_each_look() {
    let mut world = watch(camera(&[BOARD, NEIGHBOUR]), |_| vec![sign(BOARD), sign(NEIGHBOUR)]);
    assert!(world.opened().is_empty());
    let looks = (DWELL_S / LOOK_EVERY_S) as usize + 10;
    assert_eq!(world.not_filed(), vec![NotFiled::ApprovedSign; 2 * looks]);
    world.close();
}

/// The box of a sign at the far side of a street is off by some pixels each way from look to look.
#[test]
fn jitter_makes_no_approved_sign_a_new_one() {
    let shaken = |n: u32, bbox: BBox| {
        let off = |salt: u32, size: f32| (f64::from((n * 7 + salt * 13) % 21) as f32 / 10.0 - 1.0) * 0.12 * size;
        let (w, h) = (bbox.width() as f32, bbox.height() as f32);
        BBox {
            x1: bbox.x1 + off(0, w),
            y1: bbox.y1 + off(1, h),
            x2: bbox.x2 + off(2, w),
            y2: bbox.y2 + off(3, h),
        }
    };
    let world = watch(camera(&[BOARD, NEIGHBOUR]), |n| {
        vec![sign(shaken(n, BOARD)), sign(shaken(n + 5, NEIGHBOUR))]
    });
    assert!(world.opened().is_empty());
    assert!(world.not_filed().iter().all(|r| *r == NotFiled::ApprovedSign));
}

#[test]
fn a_poster_on_an_approved_board_is_new() {
    // 40 % of the board.
    let poster = BBox { x2: 0.32, ..BOARD };
    let world = watch(camera(&[BOARD]), |_| vec![sign(BOARD), sign(poster)]);
    let [case] = world.opened()[..] else {
        panic!("{:?}", world.effects)
    };
    assert_eq!(case.confirmed_box, poster);
}

#[test]
fn a_banner_over_several_approved_signs_is_new() {
    // By overlap alone it would be the board: 0.3 of its 0.42 across.
    let over_both = BBox { x2: 0.62, ..BOARD };
    assert!(BOARD.iou(&over_both) > 0.7);
    let world = watch(camera(&[BOARD, NEIGHBOUR]), |_| vec![sign(over_both)]);
    assert_eq!(world.opened().len(), 1, "{:?}", world.effects);
}

#[test]
fn a_panel_of_a_board_that_was_recorded_too_keeps_the_board_approved() {
    let panel = BBox { x1: 0.4, ..BOARD };
    let signs = approved(&[BOARD, panel]).unwrap_or_default();
    for bbox in [BOARD, panel] {
        assert!(is_approved(&signs, &"sign".into(), &bbox));
    }
}

#[test]
fn another_label_is_not_approved_by_the_sign_that_hung_there() {
    let signs = approved(&[BOARD]).unwrap_or_default();
    assert!(!is_approved(&signs, &"banner".into(), &BOARD));
}

#[test]
fn a_view_without_a_baseline_files_nothing_and_an_empty_one_is_no_such_view() {
    let unrecorded = watch(fixed(), |_| vec![sign(BOARD)]);
    assert!(unrecorded.opened().is_empty());
    assert!(unrecorded.not_filed().iter().all(|r| *r == NotFiled::NoBaseline));
    assert!(!unrecorded.not_filed().is_empty());
    let without_signs = watch(camera(&[]), |_| vec![sign(BOARD)]);
    assert_eq!(without_signs.opened().len(), 1);
}

#[test]
fn a_rule_that_excepts_nothing_asks_no_baseline() {
    let plain = Rule {
        except_approved: false,
        dwell: Duration::from_secs(60),
        ..adverts()
    };
    let mut world = World::new(plan([("gate", camera(&[BOARD]))], vec![plain]));
    for n in 0..=10 {
        world.look("gate", f64::from(n) * 10.0, vec![sign(BOARD)]);
    }
    assert_eq!(world.opened().len(), 1);
}

/// The foot of a sign lies on the wall below the zone, and through the calibration on ground behind the wall.
#[test]
fn what_hangs_is_where_its_middle_is_and_lies_at_the_views_place() {
    let pole = Pinhole::towards_here((0.0, -12.0), 6.0);
    let view = LonLat {
        lon: HERE.lon + 0.0001,
        ..HERE
    };
    let mut gate = pole.plan(0.0);
    let Place::Calibrated { fallback, .. } = &mut gate.place else {
        panic!("a calibrated camera")
    };
    fallback.at = view;
    gate.approved = approved(&[]);
    gate.zones = vec![zone("front", ZoneKind::Watch, (0.0, 1.0), (0.0, 0.6))];
    // Its middle is in the zone and its foot is not.
    let hung = BBox {
        x1: 0.4,
        y1: 0.45,
        x2: 0.6,
        y2: 0.7,
    };
    let world = watch(gate.clone(), |_| vec![sign(hung)]);
    let [case] = world.opened()[..] else {
        panic!("{:?}", world.effects)
    };
    assert_eq!((case.located.at, case.located.method), (view, PlaceMethod::CameraPoint));
    assert_eq!(case.zone.as_ref().map(|z| z.as_str()), Some("front"));
    assert_eq!(case.area_m2, None, "what does not stand covers no ground");
    assert!(case.dedup_key.ends_with("/zone:gate:front"), "{}", case.dedup_key);

    // The same box under a rule about things on the ground is outside.
    let mut world = World::new(plan(
        [("gate", gate)],
        vec![Rule {
            stands: Stands::Ground,
            ..adverts()
        }],
    ));
    world.look("gate", 0.0, vec![sign(hung)]);
    assert_eq!(world.not_filed(), [NotFiled::OutsideZones]);
}
