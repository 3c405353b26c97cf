//! Whether a camera looks where it did, on real pictures: by other light, behind other things, aimed elsewhere.

use crate::vision_support::*;
use gridwatch_engine::{Light, View};
use gridwatch_vision::{Aim, Change, Health, Kept, Luma, Shift, Verdict, ViewLimits};
use image::{RgbImage, imageops};
use jiff::{Timestamp, ToSpan};

/// A camera, its looks ten seconds apart.
struct Camera {
    aim: Aim,
    chance: fastrand::Rng,
    now: Timestamp,
}

impl Camera {
    fn new() -> Self {
        Self {
            aim: Aim::new(limits()),
            chance: fastrand::Rng::with_seed(3),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// One that has learned `picture`.
    fn aimed_at(picture: &RgbImage) -> Self {
        let mut camera = Self::new();
        let changes: Vec<_> = (0..3).map(|_| camera.look(picture).2).collect();
        assert_eq!(changes, [None, None, Some(Change::Learned)]);
        camera
    }

    fn look(&mut self, picture: &RgbImage) -> (View, Verdict, Option<Change>) {
        self.look_by(picture, Light::Day)
    }

    fn look_by(&mut self, picture: &RgbImage, light: Light) -> (View, Verdict, Option<Change>) {
        self.now += 10.seconds();
        let small = small(picture, self.now, &mut self.chance);
        let seen = self.aim.look(&small, self.now, light);
        (seen.view, seen.verdict, seen.change)
    }
}

#[test]
fn other_light_and_what_stands_in_front_leave_the_view_where_it_is() {
    let streets = PICTURES.map(street);
    for (i, name) in PICTURES.into_iter().enumerate() {
        let straight = seen(&streets[i], STRAIGHT);
        let other = &streets[(i + 1) % 4];
        let camera = Camera::aimed_at(&straight);
        let shaken = Aimed {
            right: 0.006,
            ..STRAIGHT
        };
        let changed = [
            ("as it is", straight.clone()),
            ("shaken", seen(&streets[i], shaken)),
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
            ("behind a bus", behind(&straight, other, 0.34)),
            (
                "behind a bus, at dusk",
                lit(&behind(&straight, other, 0.34), |_, _, v| v * 0.3),
            ),
            ("behind a long bus", behind(&straight, other, 0.5)),
        ];
        for (how, picture) in changed {
            let mut camera = Camera {
                aim: camera.aim.clone(),
                chance: fastrand::Rng::with_seed(5),
                ..Camera::new()
            };
            let (view, verdict, change) = camera.look(&picture);
            assert_eq!(
                (view, verdict, change),
                (View::Clear, Verdict::Here, None),
                "{name} {how}"
            );
        }
    }
}

#[test]
fn a_view_that_lies_elsewhere_is_blind_at_once_and_told_where_it_lies() {
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
        let camera = Camera::aimed_at(&seen(&street, STRAIGHT));
        for (aimed, wanted) in cases {
            for light in [|_, _, v| v, |x: f32, _, v| v * (0.3 + 0.5 * x)] {
                let mut camera = Camera {
                    aim: camera.aim.clone(),
                    ..Camera::new()
                };
                let (view, verdict, change) = camera.look(&lit(&seen(&street, aimed), light));
                assert_eq!((view, change), (View::Moved, None), "{name} {wanted}");
                let Verdict::Elsewhere(shift) = verdict else {
                    panic!("{name} {wanted}: {verdict:?}")
                };
                let off = [
                    (shift.right - wanted.right) / 0.01,
                    (shift.down - wanted.down) / 0.01,
                    (shift.turned - wanted.turned) / 1.5,
                    (shift.zoomed - wanted.zoomed) / 0.03,
                ];
                assert!(off.iter().all(|o| o.abs() < 1.0), "{name}: {shift} is not {wanted}");
            }
        }
    }
}

#[test]
fn another_street_is_blind_at_once() {
    let streets = PICTURES.map(street);
    for (i, name) in PICTURES.into_iter().enumerate() {
        let camera = Camera::aimed_at(&seen(&streets[i], STRAIGHT));
        for other in 0..4 {
            if other != i {
                let (_, height) = seen(&streets[i], STRAIGHT).dimensions();
                let other = imageops::resize(
                    &seen(&streets[other], STRAIGHT),
                    720,
                    height,
                    imageops::FilterType::Triangle,
                );
                let mut camera = Camera {
                    aim: camera.aim.clone(),
                    ..Camera::new()
                };
                let (view, verdict, _) = camera.look(&other);
                assert_eq!((view, verdict), (View::Moved, Verdict::Unlike), "{name}");
            }
        }
    }
}

/// What each look says of `pictures`, one after the other.
fn story(camera: &mut Camera, pictures: &[(&RgbImage, usize)]) -> Vec<(View, Option<Change>)> {
    let looks = pictures
        .iter()
        .flat_map(|(picture, times)| (0..*times).map(|_| *picture));
    looks
        .map(|picture| camera.look(picture))
        .map(|(view, _, change)| (view, change))
        .collect()
}

#[test]
fn a_move_is_told_when_several_looks_agree_and_so_is_the_way_back() {
    let street = street("signs");
    let (straight, panned) = (
        seen(&street, STRAIGHT),
        seen(
            &street,
            Aimed {
                right: 0.04,
                ..STRAIGHT
            },
        ),
    );
    let mut camera = Camera::aimed_at(&straight);
    // A gust is no move.
    let told = story(
        &mut camera,
        &[(&panned, 2), (&straight, 1), (&panned, 2), (&straight, 1)],
    );
    assert!(told.iter().all(|(_, change)| change.is_none()), "{told:?}");
    assert_eq!(told.iter().filter(|(view, _)| *view == View::Clear).count(), 2);

    let told = story(&mut camera, &[(&panned, 3)]);
    assert!(
        matches!(told[2], (View::Moved, Some(Change::Moved(Some(shift)))) if shift.right < -0.03),
        "{told:?}"
    );
    assert!(camera.aim.is_moved());
    // Until the view is back for good everything stays blind.
    let told = story(&mut camera, &[(&straight, 2), (&panned, 1), (&straight, 3)]);
    assert!(told[..5].iter().all(|t| *t == (View::Moved, None)), "{told:?}");
    assert_eq!(told[5], (View::Clear, Some(Change::Back)));
}

#[test]
fn a_lorry_before_the_lens_costs_its_own_looks_alone() {
    let straight = seen(&street("person"), STRAIGHT);
    let lorry = imageops::resize(
        &street("cars"),
        straight.width(),
        straight.height(),
        imageops::FilterType::Triangle,
    );
    let mut camera = Camera::aimed_at(&straight);
    let told = story(&mut camera, &[(&lorry, 8), (&straight, 1)]);
    assert!(told[..8].iter().all(|t| *t == (View::Moved, None)), "{told:?}");
    assert_eq!(told[8], (View::Clear, None));
    // One that stays is another view.
    let told = story(&mut camera, &[(&lorry, 9)]);
    assert_eq!(told[8], (View::Moved, Some(Change::Moved(None))));
}

#[test]
fn a_confirmed_view_is_learned_anew() {
    let street = street("bags");
    let (straight, panned) = (seen(&street, STRAIGHT), seen(&street, Aimed { right: 0.1, ..STRAIGHT }));
    let mut camera = Camera::aimed_at(&straight);
    story(&mut camera, &[(&panned, 9)]);
    assert!(camera.aim.is_moved());
    camera.aim.confirm();
    let told = story(&mut camera, &[(&panned, 4), (&straight, 1)]);
    let learned = (View::Clear, Some(Change::Learned));
    let clear = (View::Clear, None);
    assert_eq!(told, [clear, clear, learned, clear, (View::Moved, None)]);
}

#[test]
fn looks_that_do_not_agree_teach_nothing() {
    let views: Vec<RgbImage> = PICTURES
        .map(|name| imageops::resize(&seen(&street(name), STRAIGHT), 640, 360, imageops::FilterType::Triangle))
        .into();
    let mut camera = Camera::new();
    // A camera that tours, looked at once at each stop.
    let tour: Vec<(&RgbImage, usize)> = views.iter().cycle().take(12).map(|v| (v, 1)).collect();
    let told = story(&mut camera, &tour);
    assert_eq!(told[0], (View::Clear, None));
    assert!(told[1..].iter().all(|(view, _)| *view == View::Moved), "{told:?}");
    assert!(
        told.iter().any(|(_, change)| *change == Some(Change::Unsteady)),
        "{told:?}"
    );
    // Stopped, it is learned, and trusted once it is.
    let told = story(&mut camera, &[(&views[2], 5)]);
    assert_eq!(told.last(), Some(&(View::Clear, None)), "{told:?}");
}

#[test]
fn what_shows_nothing_tells_nothing() {
    let straight = seen(&street("cars"), STRAIGHT);
    let mut camera = Camera::aimed_at(&straight);
    // Fog: a few soft shapes, which health still calls clear.
    let height = small(&straight, camera.now, &mut camera.chance).height;
    let fog = Luma {
        width: 320,
        height,
        samples: (0..320 * height).map(|i| 120 + (i % 320 / 40 % 2) as u8).collect(),
    };
    for _ in 0..20 {
        let seen = camera.aim.look(&fog, camera.now, Light::Day);
        assert_eq!(
            (seen.view, seen.verdict, seen.change),
            (View::Blocked, Verdict::Untold, None)
        );
    }
    // A camera that was moved is not back because nothing can be seen.
    let panned = seen(
        &street("cars"),
        Aimed {
            right: 0.04,
            ..STRAIGHT
        },
    );
    story(&mut camera, &[(&panned, 3)]);
    assert_eq!(camera.aim.look(&fog, camera.now, Light::Day).view, View::Moved);
}

#[test]
fn the_first_night_is_held_against_the_day_and_learned() {
    let street = street("bags");
    let (day, night) = (seen(&street, STRAIGHT), |at| {
        lit(&seen(&street, at), |_, _, v| 250.0 - v * 0.8)
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
    assert_eq!(looks[2].2, Some(Change::Learned));
    assert_eq!(camera.aim.references().count(), 2);
    assert_eq!(camera.look_by(&panned, Light::Night).0, View::Moved, "moved at night");
}

#[test]
fn a_mount_that_sags_is_noticed_though_the_reference_follows_the_seasons() {
    let street = street("signs");
    let mut camera = Camera::aimed_at(&seen(&street, STRAIGHT));
    let mut picture = small(&seen(&street, STRAIGHT), camera.now, &mut camera.chance);
    // 0.2 % of the width a day, so that a reference that is renewed every ten minutes follows.
    let daily = 0.002;
    let mut noticed = None;
    for look in 0..144 * 20 {
        let down = -(look as f32) / 144.0 * daily;
        if look % 18 == 0 {
            picture = small(
                &seen(&street, Aimed { down, ..STRAIGHT }),
                camera.now,
                &mut camera.chance,
            );
        }
        camera.now += 10.minutes();
        let seen = camera.aim.look(&picture, camera.now, Light::Day);
        if let Some(Change::Moved(Some(shift))) = seen.change {
            noticed = Some((-down, shift.down));
            break;
        }
    }
    let (by, told) = noticed.unwrap();
    assert!(
        (0.012..0.022).contains(&by) && (told - by).abs() < 0.01,
        "{by}, told {told}"
    );
}

#[test]
fn a_parked_car_is_taken_in_and_the_view_still_known() {
    let street = street("person");
    let straight = seen(&street, STRAIGHT);
    let parked = behind(&straight, &seen(&crate::vision_support::street("cars"), STRAIGHT), 0.4);
    let mut camera = Camera::aimed_at(&straight);
    let agreement = |camera: &mut Camera, picture: &RgbImage| {
        let small = small(picture, camera.now, &mut camera.chance);
        let (_, reference) = camera.aim.references().next().unwrap();
        reference
            .agreement(&gridwatch_vision::Field::of(&small), &limits())
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
            .look(&seen(
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
fn a_view_outlives_a_restart_and_damage_to_its_file_is_noticed() {
    let street = street("cars");
    let straight = seen(&street, STRAIGHT);
    let camera = Camera::aimed_at(&straight);
    let mut camera = Camera {
        now: camera.now,
        ..camera
    };
    camera.look_by(&straight, Light::Night);
    let small = small(&straight, camera.now, &mut camera.chance);
    let kept = Kept {
        references: camera
            .aim
            .references()
            .map(|(light, r)| (light, r.clone(), small.clone()))
            .collect(),
    };
    let bytes = kept.to_bytes();
    assert_eq!(Kept::from_bytes(&bytes).unwrap(), kept);

    let mut again = Camera::new();
    for (light, reference, _) in Kept::from_bytes(&bytes).unwrap().references {
        again.aim.remember(light, reference);
    }
    assert_eq!(again.look(&straight).1, Verdict::Here);
    let panned = seen(
        &street,
        Aimed {
            right: 0.04,
            ..STRAIGHT
        },
    );
    assert_eq!(again.look(&panned).0, View::Moved, "moved while the box was off");
    // What was moved before the start is so until it is back.
    again.aim.stay_moved();
    let told = story(&mut again, &[(&straight, 3)]);
    assert_eq!(told[1], (View::Moved, None));
    assert_eq!(told[2], (View::Clear, Some(Change::Back)));

    for at in [0, 5, 20, 60, 500, bytes.len() / 2, bytes.len() - 5, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        assert!(Kept::from_bytes(&broken).is_err(), "byte {at}");
        assert!(Kept::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
}

/// People walk, stop and put things down before the demo's cameras, and the clips begin again.
#[cfg(feature = "gst")]
#[test]
fn the_demos_cameras_look_where_they_did() {
    for name in ["street-a", "street-b", "square-c"] {
        let file = format!("{}/demo/clips/{name}.mp4", env!("CARGO_MANIFEST_DIR"));
        let mut camera = Camera::new();
        let mut health = Health::new(ViewLimits::default());
        let mut looks = 0;
        for frame in gridwatch_camera::clip::frames(file.as_ref()).unwrap().step_by(10) {
            let frame = frame.unwrap();
            let small = health.look(&frame).unwrap().1.unwrap();
            let seen = camera.aim.look(&small, frame.captured_at, Light::Day);
            assert_eq!(seen.view, View::Clear, "{name} at {}: {seen:?}", frame.captured_at);
            looks += 1;
        }
        assert!(looks > 20, "{name}: {looks}");
    }
}

/// A resolution of another shape shows the view cut otherwise: zones, which are fractions of the picture, do not fit.
#[test]
fn a_stream_of_another_shape_is_another_view() {
    let straight = seen(&street("bags"), STRAIGHT);
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

/// Whatever shape a stream announces is compared, or it would take the worker down.
#[test]
fn any_shape_is_compared() {
    for (width, height) in [(1, 1), (2, 3), (320, 1), (1, 320), (320, 2), (63, 200), (320, 6912)] {
        let samples = (0..width * height).map(|i| (i * 31 % 255) as u8).collect();
        let luma = Luma { width, height, samples };
        let mut aim = Aim::new(limits());
        for second in 0..5 {
            let seen = aim.look(&luma, Timestamp::UNIX_EPOCH + i64::from(second).seconds(), Light::Day);
            assert_eq!(seen.view, View::Clear, "{width}×{height}");
        }
    }
}
