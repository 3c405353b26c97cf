//! Signs on walls: new signs become cases, approved signs do not, and a view without a baseline files nothing.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{
    ApprovedSign, BBox, CameraPlan, Detection, LonLat, NotFiled, Place, PlaceMethod, Rule, Stands, Validity, ZoneKind,
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
/// A smaller approved sign next to it.
const NEIGHBOUR: BBox = BBox {
    x1: 0.51,
    y1: 0.2,
    x2: 0.62,
    y2: 0.3,
};
/// An empty part of the wall.
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
        text: None,
        label: "sign".into(),
        bbox: *bbox,
        valid: Validity::ALWAYS,
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
    Detection::new("sign", 0.8, bbox)
}

/// Looks until shortly after the dwell; `seen` gives the detections of each.
fn watch(camera: CameraPlan, seen: impl Fn(u32) -> Vec<Detection>) -> Harness {
    let mut harness = Harness::new(plan([("gate", camera)], vec![adverts()]));
    let looks = (DWELL_S / LOOK_EVERY_S) as u32 + 10;
    for n in 0..looks {
        harness.look("gate", f64::from(n) * LOOK_EVERY_S, seen(n));
    }
    harness
}

#[test]
fn a_new_sign_is_a_case_once_its_dwell_is_reached() {
    let harness = watch(camera(&[BOARD]), |_| vec![sign(BOARD), sign(BANNER)]);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(0.0), at(DWELL_S)));
    assert_eq!(case.confirmed_box, BANNER);
}

#[test]
fn an_approved_sign_is_not_filed_and_is_counted_at_each_look() {
    let mut harness = watch(camera(&[BOARD, NEIGHBOUR]), |_| vec![sign(BOARD), sign(NEIGHBOUR)]);
    assert!(harness.opened().is_empty());
    let looks = (DWELL_S / LOOK_EVERY_S) as usize + 10;
    assert_eq!(harness.not_filed(), vec![NotFiled::ApprovedSign; 2 * looks]);
    harness.close();
}

#[test]
fn a_sign_whose_permit_has_expired_is_new() {
    let today = at(0.0).to_zoned(jiff::tz::TimeZone::UTC).date();
    let opened = |until| {
        let mut camera = camera(&[BOARD]);
        for sign in camera.approved.iter_mut().flatten() {
            sign.valid.until = Some(until);
        }
        watch(camera, |_| vec![sign(BOARD)]).opened().len()
    };
    assert_eq!(opened(today), 0, "the last day is included");
    assert_eq!(opened(today.yesterday().unwrap()), 1);
}

/// The box of a sign across the street is off by a few pixels from look to look.
#[test]
fn jitter_does_not_turn_an_approved_sign_into_a_new_one() {
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
    let harness = watch(camera(&[BOARD, NEIGHBOUR]), |n| {
        vec![sign(shaken(n, BOARD)), sign(shaken(n + 5, NEIGHBOUR))]
    });
    assert!(harness.opened().is_empty());
    assert!(harness.not_filed().iter().all(|r| *r == NotFiled::ApprovedSign));
}

#[test]
fn a_poster_on_an_approved_board_is_new() {
    // 40 % of the board.
    let poster = BBox { x2: 0.32, ..BOARD };
    let harness = watch(camera(&[BOARD]), |_| vec![sign(BOARD), sign(poster)]);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!(case.confirmed_box, poster);
}

#[test]
fn a_banner_over_several_approved_signs_is_new() {
    // By IoU alone it would be the board: 0.3 of its 0.42 in width.
    let over_both = BBox { x2: 0.62, ..BOARD };
    assert!(BOARD.iou(&over_both) > 0.7);
    let harness = watch(camera(&[BOARD, NEIGHBOUR]), |_| vec![sign(over_both)]);
    assert_eq!(harness.opened().len(), 1, "{:?}", harness.effects);
}

#[test]
fn a_board_stays_approved_when_a_panel_of_it_is_recorded_too() {
    let panel = BBox { x1: 0.4, ..BOARD };
    let signs = approved(&[BOARD, panel]).unwrap_or_default();
    for bbox in [BOARD, panel] {
        assert!(is_approved(&signs, &"sign".into(), &bbox));
    }
}

#[test]
fn an_approved_sign_does_not_approve_another_label_at_its_place() {
    let signs = approved(&[BOARD]).unwrap_or_default();
    assert!(!is_approved(&signs, &"banner".into(), &BOARD));
}

#[test]
fn a_missing_baseline_files_nothing_and_an_empty_one_files_everything() {
    let unrecorded = watch(fixed(), |_| vec![sign(BOARD)]);
    assert!(unrecorded.opened().is_empty());
    assert!(unrecorded.not_filed().iter().all(|r| *r == NotFiled::NoBaseline));
    assert!(!unrecorded.not_filed().is_empty());
    let without_signs = watch(camera(&[]), |_| vec![sign(BOARD)]);
    assert_eq!(without_signs.opened().len(), 1);
}

#[test]
fn a_rule_without_the_exception_needs_no_baseline() {
    let plain = Rule {
        except_approved: false,
        dwell: Duration::from_secs(60),
        ..adverts()
    };
    let mut harness = Harness::new(plan([("gate", camera(&[BOARD]))], vec![plain]));
    for n in 0..=10 {
        harness.look("gate", f64::from(n) * 10.0, vec![sign(BOARD)]);
    }
    assert_eq!(harness.opened().len(), 1);
}

/// The foot of the sign lies on the wall below the zone; the calibration would put it on ground behind the wall.
#[test]
fn a_hanging_object_is_anchored_at_its_centre_and_located_at_the_views_point() {
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
    // Its centre is in the zone, its foot is not.
    let hung = BBox {
        x1: 0.4,
        y1: 0.45,
        x2: 0.6,
        y2: 0.7,
    };
    let harness = watch(gate.clone(), |_| vec![sign(hung)]);
    let [case] = harness.opened()[..] else {
        panic!("{:?}", harness.effects)
    };
    assert_eq!((case.located.at, case.located.method), (view, PlaceMethod::CameraPoint));
    assert_eq!(case.zone.as_ref().map(|z| z.as_str()), Some("front"));
    assert_eq!(case.area_m2, None, "hanging objects cover no ground");
    assert!(case.dedup_key.ends_with("/zone:gate:front"), "{}", case.dedup_key);

    // Under a rule for objects on the ground, the same box is outside the zone.
    let mut harness = Harness::new(plan(
        [("gate", gate)],
        vec![Rule {
            stands: Stands::Ground,
            ..adverts()
        }],
    ));
    harness.look("gate", 0.0, vec![sign(hung)]);
    assert_eq!(harness.not_filed(), [NotFiled::OutsideZones]);
}
