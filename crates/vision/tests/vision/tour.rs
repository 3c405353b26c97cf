//! Recognises the presets of a touring camera, on real pictures.

use std::time::Duration;

use crate::support::*;
use gridwatch_engine::Light;
use gridwatch_vision::{Tour, TourChange, TourLook};
use image::{RgbImage, imageops};
use jiff::{Timestamp, ToSpan};

const AWAY: Duration = Duration::from_mins(10);

/// A touring camera with looks ten seconds apart.
struct Camera {
    tour: Tour,
    rng: fastrand::Rng,
    now: Timestamp,
}

fn learned(preset: usize) -> TourChange {
    TourChange::Learned { preset, replaced: true }
}

/// One view of each street, all of the same size.
fn views() -> Vec<RgbImage> {
    let resized = |p: RgbImage| imageops::resize(&p, 720, 540, imageops::FilterType::Triangle);
    PICTURES
        .iter()
        .map(|name| resized(view_of(&street(name), STRAIGHT)))
        .collect()
}

impl Camera {
    fn new(presets: usize) -> Self {
        Self {
            tour: Tour::new(limits(), presets, AWAY),
            rng: fastrand::Rng::with_seed(3),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// A camera that has learned these views as its presets.
    fn with_learned(views: &[RgbImage]) -> Self {
        let mut camera = Self::new(views.len());
        for (i, view) in views.iter().enumerate() {
            assert_eq!(camera.learn(i, view), [vec![], vec![], vec![learned(i)]]);
        }
        camera
    }

    fn look(&mut self, picture: &RgbImage) -> TourLook {
        self.now += 10.seconds();
        let small = small_luma(picture, self.now, &mut self.rng);
        self.tour.look(&small, self.now, Light::Day)
    }

    /// The changes at three looks after `view` was confirmed as the preset.
    fn learn(&mut self, preset: usize, view: &RgbImage) -> [Vec<TourChange>; 3] {
        self.tour.learn(preset);
        std::array::from_fn(|_| self.look(view).changes)
    }
}

#[test]
fn preset_is_recognised_in_other_light_and_partly_occluded() {
    let views = views();
    let mut camera = Camera::with_learned(&views);
    for (i, view) in views.iter().enumerate() {
        let other = &views[(i + 1) % views.len()];
        let changed = [
            view.clone(),
            lit(view, |_, _, v| v * 0.3),
            lit(view, |x, y, v| if x + y < 0.9 { v * 0.4 } else { v }),
            occluded(view, other, 0.34),
        ];
        for (how, picture) in changed.iter().enumerate() {
            let look = camera.look(picture);
            assert_eq!((look.preset, look.changes), (Some(i), vec![]), "{i}, {how}");
            assert_eq!(camera.tour.current_preset(), Some(i));
        }
    }
}

#[test]
fn looks_between_presets_belong_to_none() {
    let (streets, views) = (PICTURES.map(street), views());
    let mut camera = Camera::with_learned(&views[..3]);
    let on_the_way = (1..=4).map(|n| {
        let right = Aimed {
            right: 0.03 * n as f32,
            ..STRAIGHT
        };
        let picture = view_of(&streets[0], right);
        imageops::resize(&picture, 720, 540, imageops::FilterType::Triangle)
    });
    let nearer = view_of(&streets[1], Aimed { zoom: 1.3, ..STRAIGHT });
    let nearer = imageops::resize(&nearer, 720, 540, imageops::FilterType::Triangle);
    // A street that was never learned belongs to none either.
    for (n, picture) in on_the_way.chain([nearer, views[3].clone()]).enumerate() {
        let look = camera.look(&picture);
        assert_eq!((look.preset, look.changes), (None, vec![]), "{n}");
        assert_eq!(camera.tour.current_preset(), None);
    }
    assert_eq!(camera.look(&views[0]).preset, Some(0));
}

#[test]
fn presets_are_not_learned_without_a_confirmation() {
    let views = views();
    let mut camera = Camera::new(2);
    for view in views.iter().cycle().take(20) {
        assert_eq!(camera.look(view).preset, None);
    }
    assert!(!camera.tour.is_learned(0) && !camera.tour.is_learned(1));
}

#[test]
fn preset_keeps_its_old_view_until_looks_agree_on_a_new_one() {
    let views = views();
    let mut camera = Camera::with_learned(&views[..2]);
    // The camera continues its tour instead of staying at the preset.
    camera.tour.learn(1);
    let changes: Vec<TourChange> = (0..12).flat_map(|n| camera.look(&views[2 + n % 2]).changes).collect();
    assert_eq!(changes, [TourChange::Unsteady(1)]);
    assert_eq!(camera.look(&views[1]).preset, Some(1), "the old view stays valid");
    // It points at another preset.
    camera.tour.learn(1);
    assert_eq!(
        camera.look(&views[0]).changes,
        [TourChange::Same { preset: 1, other: 0 }]
    );
    assert_eq!(camera.look(&views[1]).preset, Some(1));
    // Held still, it is learned.
    let [.., changes] = camera.learn(1, &views[2]);
    assert_eq!(changes, [learned(1)]);
    assert_eq!(camera.look(&views[2]).preset, Some(1));
    assert_eq!(camera.look(&views[1]).preset, None);
}

#[test]
fn night_view_is_learned_while_the_day_view_matches() {
    let views = views();
    let mut camera = Camera::with_learned(&views[..2]);
    for n in 0..3 {
        camera.now += 10.seconds();
        let infrared = small_luma(&lit(&views[1], |_, _, v| v * 0.5), camera.now, &mut camera.rng);
        let look = camera.tour.look(&infrared, camera.now, Light::Night);
        assert_eq!((look.preset, look.should_save), (Some(1), (n == 2).then_some(1)));
    }
    let lights: Vec<Light> = camera.tour.references(1).map(|(light, _)| light).collect();
    assert_eq!(lights, [Light::Day, Light::Night]);
}

#[test]
fn confirmed_night_view_that_does_not_match_the_day_is_added() {
    let views = views();
    let mut camera = Camera::with_learned(&views[..2]);
    // As different from the day as another street.
    let night = |camera: &mut Camera| {
        camera.now += 10.seconds();
        let infrared = small_luma(&views[2], camera.now, &mut camera.rng);
        camera.tour.look(&infrared, camera.now, Light::Night)
    };
    assert_eq!(night(&mut camera).preset, None);
    camera.tour.learn(1);
    let look: Vec<TourLook> = (0..3).map(|_| night(&mut camera)).collect();
    let added = TourChange::Learned {
        preset: 1,
        replaced: false,
    };
    assert_eq!((&look[2].changes[..], look[2].should_save), (&[added][..], Some(1)));
    assert_eq!(night(&mut camera).preset, Some(1));
    assert_eq!(camera.look(&views[1]).preset, Some(1), "the day view stays valid");
    // Confirming a new day view discards the night view.
    let [.., changes] = camera.learn(1, &views[3]);
    assert_eq!(changes, [learned(1)]);
    assert_eq!(night(&mut camera).preset, None);
}

#[test]
fn missed_preset_and_its_return_are_reported_once() {
    let views = views();
    let mut camera = Camera::with_learned(&views[..2]);
    let begin = camera.now;
    let mut looks = Vec::new();
    for _ in 0..150 {
        looks.extend(camera.look(&views[0]).changes.into_iter().map(|c| (camera.now, c)));
    }
    let [(at, TourChange::Missed(1))] = looks[..] else {
        panic!("{looks:?}")
    };
    assert_eq!(at.duration_since(begin).as_secs(), 1210);
    assert!(!camera.tour.is_expected(1));
    let look = camera.look(&views[1]);
    assert_eq!((look.preset, look.changes), (Some(1), vec![TourChange::Back(1)]));
    assert!(camera.tour.is_expected(1));
}

#[test]
fn restored_references_recognise_presets() {
    let views = views();
    let before = Camera::with_learned(&views[..2]);
    let mut after = Camera::new(2);
    for preset in 0..2 {
        for (light, reference) in before.tour.references(preset) {
            after.tour.restore(preset, light, reference.clone());
        }
    }
    assert_eq!(after.look(&views[1]).preset, Some(1));
    assert_eq!(after.look(&views[0]).preset, Some(0));
    assert_eq!(after.look(&views[2]).preset, None);
}

#[test]
fn clock_set_back_does_not_report_missed_presets() {
    let views = views();
    let mut camera = Camera::with_learned(&views[..2]);
    camera.look(&views[1]);
    camera.now -= 3.hours();
    for _ in 0..110 {
        assert_eq!(camera.look(&views[0]).changes, []);
    }
    assert!(camera.now < Timestamp::UNIX_EPOCH);
    camera.look(&views[1]).preset.unwrap();
}
