//! Detects moved cameras, on real pictures: in other light, occluded, or with the camera aimed elsewhere.

use crate::support::*;
use gridwatch_engine::{Light, View};
use gridwatch_vision::{Aim, AimChange, Health, Luma, SavedView, Shift, ViewLimits, ViewMatch};
use image::{RgbImage, imageops};
use jiff::{Timestamp, ToSpan};

/// A fixed camera with looks ten seconds apart.
struct Camera {
    aim: Aim,
    rng: fastrand::Rng,
    now: Timestamp,
}

impl Camera {
    fn new() -> Self {
        Self {
            aim: Aim::new(limits()),
            rng: fastrand::Rng::with_seed(3),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// A camera that has learned `picture`.
    fn aimed_at(picture: &RgbImage) -> Self {
        let mut camera = Self::new();
        let changes: Vec<_> = (0..3).map(|_| camera.look(picture).2).collect();
        assert_eq!(changes, [None, None, Some(AimChange::Learned)]);
        camera
    }

    fn look(&mut self, picture: &RgbImage) -> (View, ViewMatch, Option<AimChange>) {
        self.look_by(picture, Light::Day)
    }

    fn look_by(&mut self, picture: &RgbImage, light: Light) -> (View, ViewMatch, Option<AimChange>) {
        self.now += 10.seconds();
        let small = small_luma(picture, self.now, &mut self.rng);
        let look = self.aim.look(&small, self.now, light);
        (look.view, look.matched, look.change)
    }
}

#[test]
fn view_is_in_place_in_other_light_and_partly_occluded() {
    let streets = PICTURES.map(street);
    for (i, name) in PICTURES.into_iter().enumerate() {
        let straight = view_of(&streets[i], STRAIGHT);
        let other = &streets[(i + 1) % 4];
        let camera = Camera::aimed_at(&straight);
        let shaken = Aimed {
            right: 0.006,
            ..STRAIGHT
        };
        let changed = [
            ("as it is", straight.clone()),
            ("shaken", view_of(&streets[i], shaken)),
            ("at dusk", lit(&straight, |_, _, v| v * 0.2)),
            ("in haze", lit(&straight, |_, _, v| v * 0.2 + 140.0)),
            ("inverted", lit(&straight, |_, _, v| 255.0 - v)),
            (
                "half in shadow",
                lit(&straight, |x, y, v| if x + y < 0.9 { v * 0.4 } else { v }),
            ),
            (
                "by a lamp",
                lit(&straight, |x, y, v| {
                    v * (0.08 + 0.7 * (-6.0 * ((x - 0.3).powi(2) + (y - 0.5).powi(2))).exp())
                }),
            ),
            ("behind a bus", occluded(&straight, other, 0.34)),
            (
                "behind a bus, at dusk",
                lit(&occluded(&straight, other, 0.34), |_, _, v| v * 0.3),
            ),
            ("behind a long bus", occluded(&straight, other, 0.5)),
        ];
        for (how, picture) in changed {
            let mut camera = Camera {
                aim: camera.aim.clone(),
                rng: fastrand::Rng::with_seed(5),
                ..Camera::new()
            };
            let (view, matched, change) = camera.look(&picture);
            assert_eq!(
                (view, matched, change),
                (View::Clear, ViewMatch::InPlace, None),
                "{name} {how}"
            );
        }
    }
}

#[test]
fn displaced_view_is_moved_at_once_and_its_displacement_is_measured() {
    let cases = [
        (
            Aimed {
                right: 0.03,
                ..STRAIGHT
            },
            Shift {
                right: -0.03,
                zoomed: 1.0,
                ..Shift::default()
            },
        ),
        (
            Aimed {
                down: -0.03,
                ..STRAIGHT
            },
            Shift {
                down: 0.03,
                zoomed: 1.0,
                ..Shift::default()
            },
        ),
        (
            Aimed {
                right: -0.05,
                down: 0.02,
                ..STRAIGHT
            },
            Shift {
                right: 0.05,
                down: -0.02,
                zoomed: 1.0,
                turned: 0.0,
            },
        ),
        (
            Aimed {
                degrees: 2.0,
                ..STRAIGHT
            },
            Shift {
                turned: -2.0,
                zoomed: 1.0,
                ..Shift::default()
            },
        ),
        (
            Aimed {
                degrees: -4.0,
                ..STRAIGHT
            },
            Shift {
                turned: 4.0,
                zoomed: 1.0,
                ..Shift::default()
            },
        ),
        (
            Aimed { zoom: 1.05, ..STRAIGHT },
            Shift {
                zoomed: 1.05,
                ..Shift::default()
            },
        ),
        (
            Aimed { zoom: 0.92, ..STRAIGHT },
            Shift {
                zoomed: 0.92,
                ..Shift::default()
            },
        ),
    ];
    for name in PICTURES {
        let street = street(name);
        let camera = Camera::aimed_at(&view_of(&street, STRAIGHT));
        for (aimed, expected) in cases {
            for light in [|_, _, v| v, |x: f32, _, v| v * (0.3 + 0.5 * x)] {
                let mut camera = Camera {
                    aim: camera.aim.clone(),
                    ..Camera::new()
                };
                let (view, matched, change) = camera.look(&lit(&view_of(&street, aimed), light));
                assert_eq!((view, change), (View::Moved, None), "{name} {expected}");
                let ViewMatch::Shifted(shift) = matched else {
                    panic!("{name} {expected}: {matched:?}")
                };
                let off = [
                    (shift.right - expected.right) / 0.01,
                    (shift.down - expected.down) / 0.01,
                    (shift.turned - expected.turned) / 1.5,
                    (shift.zoomed - expected.zoomed) / 0.03,
                ];
                assert!(off.iter().all(|o| o.abs() < 1.0), "{name}: {shift} is not {expected}");
            }
        }
    }
}

#[test]
fn another_street_is_moved_at_once() {
    let streets = PICTURES.map(street);
    for (i, name) in PICTURES.into_iter().enumerate() {
        let camera = Camera::aimed_at(&view_of(&streets[i], STRAIGHT));
        for other in 0..4 {
            if other != i {
                let (_, height) = view_of(&streets[i], STRAIGHT).dimensions();
                let other = imageops::resize(
                    &view_of(&streets[other], STRAIGHT),
                    720,
                    height,
                    imageops::FilterType::Triangle,
                );
                let mut camera = Camera {
                    aim: camera.aim.clone(),
                    ..Camera::new()
                };
                let (view, matched, _) = camera.look(&other);
                assert_eq!((view, matched), (View::Moved, ViewMatch::Different), "{name}");
            }
        }
    }
}

/// The view and the change at each look; every picture is repeated the given number of times.
fn take_looks(camera: &mut Camera, pictures: &[(&RgbImage, usize)]) -> Vec<(View, Option<AimChange>)> {
    let looks = pictures
        .iter()
        .flat_map(|(picture, times)| (0..*times).map(|_| *picture));
    looks
        .map(|picture| camera.look(picture))
        .map(|(view, _, change)| (view, change))
        .collect()
}

#[test]
fn move_and_return_are_reported_after_several_looks() {
    let street = street("signs");
    let (straight, panned) = (
        view_of(&street, STRAIGHT),
        view_of(
            &street,
            Aimed {
                right: 0.04,
                ..STRAIGHT
            },
        ),
    );
    let mut camera = Camera::aimed_at(&straight);
    // A gust of wind is not a move.
    let looks = take_looks(
        &mut camera,
        &[(&panned, 2), (&straight, 1), (&panned, 2), (&straight, 1)],
    );
    assert!(looks.iter().all(|(_, change)| change.is_none()), "{looks:?}");
    assert_eq!(looks.iter().filter(|(view, _)| *view == View::Clear).count(), 2);

    let looks = take_looks(&mut camera, &[(&panned, 3)]);
    assert!(
        matches!(looks[2], (View::Moved, Some(AimChange::Moved(Some(shift)))) if shift.right < -0.03),
        "{looks:?}"
    );
    assert!(camera.aim.is_moved());
    // The camera counts as moved until the view is back for several looks.
    let looks = take_looks(&mut camera, &[(&straight, 2), (&panned, 1), (&straight, 3)]);
    assert!(looks[..5].iter().all(|t| *t == (View::Moved, None)), "{looks:?}");
    assert_eq!(looks[5], (View::Clear, Some(AimChange::Back)));
}

#[test]
fn lorry_in_front_of_the_camera_costs_only_its_own_looks() {
    let straight = view_of(&street("person"), STRAIGHT);
    let lorry = imageops::resize(
        &street("cars"),
        straight.width(),
        straight.height(),
        imageops::FilterType::Triangle,
    );
    let mut camera = Camera::aimed_at(&straight);
    let looks = take_looks(&mut camera, &[(&lorry, 8), (&straight, 1)]);
    assert!(looks[..8].iter().all(|t| *t == (View::Moved, None)), "{looks:?}");
    assert_eq!(looks[8], (View::Clear, None));
    // A lorry that stays counts as a move.
    let looks = take_looks(&mut camera, &[(&lorry, 9)]);
    assert_eq!(looks[8], (View::Moved, Some(AimChange::Moved(None))));
}

#[test]
fn confirmed_view_is_learned() {
    let street = street("bags");
    let (straight, panned) = (
        view_of(&street, STRAIGHT),
        view_of(&street, Aimed { right: 0.1, ..STRAIGHT }),
    );
    let mut camera = Camera::aimed_at(&straight);
    take_looks(&mut camera, &[(&panned, 9)]);
    assert!(camera.aim.is_moved());
    camera.aim.confirm();
    let looks = take_looks(&mut camera, &[(&panned, 4), (&straight, 1)]);
    let learned = (View::Clear, Some(AimChange::Learned));
    let clear = (View::Clear, None);
    assert_eq!(looks, [clear, clear, learned, clear, (View::Moved, None)]);
}

#[test]
fn looks_that_disagree_are_not_learned() {
    let views: Vec<RgbImage> = PICTURES
        .map(|name| {
            imageops::resize(
                &view_of(&street(name), STRAIGHT),
                640,
                360,
                imageops::FilterType::Triangle,
            )
        })
        .into();
    let mut camera = Camera::new();
    // A touring camera with one look per stop.
    let tour: Vec<(&RgbImage, usize)> = views.iter().cycle().take(12).map(|v| (v, 1)).collect();
    let looks = take_looks(&mut camera, &tour);
    assert_eq!(looks[0], (View::Clear, None));
    assert!(looks[1..].iter().all(|(view, _)| *view == View::Moved), "{looks:?}");
    assert!(
        looks.iter().any(|(_, change)| *change == Some(AimChange::Unsteady)),
        "{looks:?}"
    );
    // Once it stops, the view is learned.
    let looks = take_looks(&mut camera, &[(&views[2], 5)]);
    assert_eq!(looks.last(), Some(&(View::Clear, None)), "{looks:?}");
}

#[test]
fn fog_is_blocked_and_changes_nothing() {
    let straight = view_of(&street("cars"), STRAIGHT);
    let mut camera = Camera::aimed_at(&straight);
    // Fog: a few soft shapes, which still pass the health check.
    let height = small_luma(&straight, camera.now, &mut camera.rng).height;
    let fog = Luma {
        width: 320,
        height,
        samples: (0..320 * height).map(|i| 120 + (i % 320 / 40 % 2) as u8).collect(),
    };
    for _ in 0..20 {
        let look = camera.aim.look(&fog, camera.now, Light::Day);
        assert_eq!(
            (look.view, look.matched, look.change),
            (View::Blocked, ViewMatch::Unclear, None)
        );
    }
    // Fog does not bring a moved camera back.
    let panned = view_of(
        &street("cars"),
        Aimed {
            right: 0.04,
            ..STRAIGHT
        },
    );
    take_looks(&mut camera, &[(&panned, 3)]);
    assert_eq!(camera.aim.look(&fog, camera.now, Light::Day).view, View::Moved);
}

#[test]
fn first_night_is_compared_with_the_day_and_learned() {
    let street = street("bags");
    let (day, night) = (view_of(&street, STRAIGHT), |at| {
        lit(&view_of(&street, at), |_, _, v| 250.0 - v * 0.8)
    });
    let mut camera = Camera::aimed_at(&day);
    let panned = night(Aimed {
        right: 0.04,
        ..STRAIGHT
    });
    assert_eq!(
        camera.look_by(&panned, Light::Night).0,
        View::Moved,
        "moved before dusk"
    );
    let straight = night(STRAIGHT);
    let looks: Vec<_> = (0..3).map(|_| camera.look_by(&straight, Light::Night)).collect();
    assert!(looks.iter().all(|(view, ..)| *view == View::Clear), "{looks:?}");
    assert_eq!(looks[2].2, Some(AimChange::Learned));
    assert_eq!(camera.aim.references().count(), 2);
    assert_eq!(camera.look_by(&panned, Light::Night).0, View::Moved, "moved at night");
}

#[test]
fn slowly_sagging_mount_is_detected_although_the_reference_is_updated() {
    let street = street("signs");
    let mut camera = Camera::aimed_at(&view_of(&street, STRAIGHT));
    let mut picture = small_luma(&view_of(&street, STRAIGHT), camera.now, &mut camera.rng);
    // 0.2 % of the width per day, slow enough for the updated mean to follow.
    let daily = 0.002;
    let mut detected = None;
    for look in 0..72 * 20 {
        let down = -(look as f32) / 72.0 * daily;
        if look % 9 == 0 {
            picture = small_luma(
                &view_of(&street, Aimed { down, ..STRAIGHT }),
                camera.now,
                &mut camera.rng,
            );
        }
        camera.now += 20.minutes();
        let look = camera.aim.look(&picture, camera.now, Light::Day);
        if let Some(AimChange::Moved(Some(shift))) = look.change {
            detected = Some((-down, shift.down));
            break;
        }
    }
    let (sagged, measured) = detected.unwrap();
    assert!(
        (0.012..0.022).contains(&sagged) && (measured - sagged).abs() < 0.01,
        "{sagged}, measured {measured}"
    );
}

#[test]
fn parked_car_enters_the_reference_and_the_view_still_matches() {
    let street = street("person");
    let straight = view_of(&street, STRAIGHT);
    let parked = occluded(&straight, &view_of(&crate::support::street("cars"), STRAIGHT), 0.4);
    let mut camera = Camera::aimed_at(&straight);
    let agreement = |camera: &mut Camera, picture: &RgbImage| {
        let small = small_luma(picture, camera.now, &mut camera.rng);
        let (_, reference) = camera.aim.references().next().unwrap();
        reference
            .agreement(&gridwatch_vision::EdgeField::of(&small), &limits())
            .unwrap()
            .here
    };
    let before = agreement(&mut camera, &parked);
    for _ in 0..300 {
        camera.now += 10.minutes();
        assert_eq!(camera.look(&parked).0, View::Clear);
    }
    assert!(agreement(&mut camera, &parked) > before + 0.1);
    assert_eq!(camera.look(&straight).0, View::Clear, "it drove away");
    assert_eq!(
        camera
            .look(&view_of(
                &street,
                Aimed {
                    right: 0.03,
                    ..STRAIGHT
                }
            ))
            .0,
        View::Moved
    );
}

#[test]
fn saved_view_is_restored_and_a_damaged_file_is_rejected() {
    let street = street("cars");
    let straight = view_of(&street, STRAIGHT);
    let camera = Camera::aimed_at(&straight);
    let mut camera = Camera {
        now: camera.now,
        ..camera
    };
    camera.look_by(&straight, Light::Night);
    let small = small_luma(&straight, camera.now, &mut camera.rng);
    let saved = SavedView {
        references: camera
            .aim
            .references()
            .map(|(light, r)| (light, r.clone(), small.clone()))
            .collect(),
    };
    let bytes = saved.to_bytes();
    assert_eq!(SavedView::from_bytes(&bytes).unwrap(), saved);

    let mut restored = Camera::new();
    for (light, reference, _) in SavedView::from_bytes(&bytes).unwrap().references {
        restored.aim.restore(light, reference);
    }
    assert_eq!(restored.look(&straight).1, ViewMatch::InPlace);
    let panned = view_of(
        &street,
        Aimed {
            right: 0.04,
            ..STRAIGHT
        },
    );
    assert_eq!(restored.look(&panned).0, View::Moved, "moved while the box was off");
    // A camera that was moved before the start stays moved until it is back.
    restored.aim.restore_moved();
    let looks = take_looks(&mut restored, &[(&straight, 3)]);
    assert_eq!(looks[1], (View::Moved, None));
    assert_eq!(looks[2], (View::Clear, Some(AimChange::Back)));

    for at in [0, 5, 20, 60, 500, bytes.len() / 2, bytes.len() - 5, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        assert!(SavedView::from_bytes(&broken).is_err(), "byte {at}");
        assert!(SavedView::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
}

/// People walk, stop and put things down in front of the demo's cameras, and the clips are looped.
#[test]
fn demo_clips_are_in_place() {
    for name in ["street-a", "street-b", "square-c"] {
        let file = format!("{}/../../demo/clips/{name}.mp4", env!("CARGO_MANIFEST_DIR"));
        let mut camera = Camera::new();
        let mut health = Health::new(ViewLimits::default());
        let mut looks = 0;
        for frame in gridwatch_camera::clip::frames(file.as_ref()).unwrap().step_by(10) {
            let frame = frame.unwrap();
            let small = health.look(&frame).unwrap().1.unwrap();
            let look = camera.aim.look(&small, frame.captured_at, Light::Day);
            assert_eq!(look.view, View::Clear, "{name} at {}: {look:?}", frame.captured_at);
            looks += 1;
        }
        assert!(looks > 20, "{name}: {looks}");
    }
}

/// With another aspect ratio the view is cropped differently, so zones, which are fractions of the picture, do not fit.
#[test]
fn another_aspect_ratio_is_another_view() {
    let straight = view_of(&street("bags"), STRAIGHT);
    let mut camera = Camera::aimed_at(&straight);
    let larger = imageops::resize(
        &straight,
        straight.width() * 2,
        straight.height() * 2,
        imageops::FilterType::Triangle,
    );
    assert_eq!(camera.look(&larger).0, View::Clear);
    let cut = imageops::crop_imm(&straight, 0, 0, straight.width(), straight.height() * 3 / 4).to_image();
    assert_eq!(camera.look(&cut).0, View::Moved);
}

/// A stream may announce any size; none may panic.
#[test]
fn any_frame_size_is_compared() {
    for (width, height) in [(1, 1), (2, 3), (320, 1), (1, 320), (320, 2), (63, 200), (320, 6912)] {
        let samples = (0..width * height).map(|i| (i * 31 % 255) as u8).collect();
        let luma = Luma { width, height, samples };
        let mut aim = Aim::new(limits());
        for second in 0..5 {
            let look = aim.look(&luma, Timestamp::UNIX_EPOCH + i64::from(second).seconds(), Light::Day);
            assert_eq!(look.view, View::Clear, "{width}×{height}");
        }
    }
}
