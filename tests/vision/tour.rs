//! At which of its presets a camera that turns stands, on real pictures.

use std::time::Duration;

use crate::vision_support::*;
use gridwatch_engine::Light;
use gridwatch_vision::{Stood, Tour, TourChange};
use image::{RgbImage, imageops};
use jiff::{Timestamp, ToSpan};

const AWAY: Duration = Duration::from_mins(10);

/// A camera that turns, its looks ten seconds apart.
struct Camera {
    tour: Tour,
    chance: fastrand::Rng,
    now: Timestamp,
}

fn learned(preset: usize) -> TourChange {
    TourChange::Learned { preset, is_anew: true }
}

/// One view of each street; all pictures of a camera have one size.
fn views() -> Vec<RgbImage> {
    let resized = |p: RgbImage| imageops::resize(&p, 720, 540, imageops::FilterType::Triangle);
    PICTURES
        .iter()
        .map(|name| resized(seen(&street(name), STRAIGHT)))
        .collect()
}

impl Camera {
    fn new(presets: usize) -> Self {
        Self {
            tour: Tour::new(limits(), presets, AWAY),
            chance: fastrand::Rng::with_seed(3),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// One that knows the first views by sight.
    fn knowing(views: &[RgbImage]) -> Self {
        let mut camera = Self::new(views.len());
        for (i, view) in views.iter().enumerate() {
            assert_eq!(camera.shown(i, view), [vec![], vec![], vec![learned(i)]]);
        }
        camera
    }

    fn look(&mut self, picture: &RgbImage) -> Stood {
        self.now += 10.seconds();
        let small = small(picture, self.now, &mut self.chance);
        self.tour.look(&small, self.now, Light::Day)
    }

    /// What becomes known while a person says that `view` is the preset.
    fn shown(&mut self, preset: usize, view: &RgbImage) -> [Vec<TourChange>; 3] {
        self.tour.learn(preset);
        std::array::from_fn(|_| self.look(view).changes)
    }
}

#[test]
fn each_preset_is_recognised_by_other_light_and_behind_other_things() {
    let views = views();
    let mut camera = Camera::knowing(&views);
    for (i, view) in views.iter().enumerate() {
        let other = &views[(i + 1) % views.len()];
        let changed = [
            view.clone(),
            lit(view, |_, _, v| v * 0.3),
            lit(view, |x, y, v| if x + y < 0.9 { v * 0.4 } else { v }),
            behind(view, other, 0.34),
        ];
        for (how, picture) in changed.iter().enumerate() {
            let stood = camera.look(picture);
            assert_eq!((stood.preset, stood.changes), (Some(i), vec![]), "{i}, {how}");
            assert_eq!(camera.tour.stands_at(), Some(i));
        }
    }
}

#[test]
fn what_is_seen_on_the_way_is_of_no_preset() {
    let (streets, views) = (PICTURES.map(street), views());
    let mut camera = Camera::knowing(&views[..3]);
    let on_the_way = (1..=4).map(|n| {
        let right = Aimed {
            right: 0.03 * n as f32,
            ..STRAIGHT
        };
        let picture = seen(&streets[0], right);
        imageops::resize(&picture, 720, 540, imageops::FilterType::Triangle)
    });
    let nearer = seen(&streets[1], Aimed { zoom: 1.3, ..STRAIGHT });
    let nearer = imageops::resize(&nearer, 720, 540, imageops::FilterType::Triangle);
    // Nor is a street that it was never shown.
    for (n, picture) in on_the_way.chain([nearer, views[3].clone()]).enumerate() {
        let stood = camera.look(&picture);
        assert_eq!((stood.preset, stood.changes), (None, vec![]), "{n}");
        assert_eq!(camera.tour.stands_at(), None);
    }
    assert_eq!(camera.look(&views[0]).preset, Some(0));
}

#[test]
fn nothing_is_learned_of_a_preset_that_nobody_shows() {
    let views = views();
    let mut camera = Camera::new(2);
    for view in views.iter().cycle().take(20) {
        assert_eq!(camera.look(view).preset, None);
    }
    assert!(!camera.tour.is_known(0) && !camera.tour.is_known(1));
}

#[test]
fn a_preset_is_learned_from_looks_that_agree_and_keeps_the_old_view_until_then() {
    let views = views();
    let mut camera = Camera::knowing(&views[..2]);
    // The camera goes on with its tour while it should show the preset.
    camera.tour.learn(1);
    let changes: Vec<TourChange> = (0..12).flat_map(|n| camera.look(&views[2 + n % 2]).changes).collect();
    assert_eq!(changes, [TourChange::Unsteady(1)]);
    assert_eq!(camera.look(&views[1]).preset, Some(1), "what was learned holds");
    // It stands at another one.
    camera.tour.learn(1);
    assert_eq!(
        camera.look(&views[0]).changes,
        [TourChange::Same { preset: 1, other: 0 }]
    );
    assert_eq!(camera.look(&views[1]).preset, Some(1));
    // Held still, it is learned anew.
    let [.., changes] = camera.shown(1, &views[2]);
    assert_eq!(changes, [learned(1)]);
    assert_eq!(camera.look(&views[2]).preset, Some(1));
    assert_eq!(camera.look(&views[1]).preset, None);
}

#[test]
fn the_night_of_a_known_preset_is_learned_by_its_day() {
    let views = views();
    let mut camera = Camera::knowing(&views[..2]);
    for n in 0..3 {
        camera.now += 10.seconds();
        let infrared = small(&lit(&views[1], |_, _, v| v * 0.5), camera.now, &mut camera.chance);
        let stood = camera.tour.look(&infrared, camera.now, Light::Night);
        assert_eq!((stood.preset, stood.to_keep), (Some(1), (n == 2).then_some(1)));
    }
    let lights: Vec<Light> = camera.tour.references(1).map(|(light, _)| light).collect();
    assert_eq!(lights, [Light::Day, Light::Night]);
}

#[test]
fn a_night_that_shows_nothing_of_the_day_is_added_to_it() {
    let views = views();
    let mut camera = Camera::knowing(&views[..2]);
    // As far from the day as another street is.
    let night = |camera: &mut Camera| {
        camera.now += 10.seconds();
        let infrared = small(&views[2], camera.now, &mut camera.chance);
        camera.tour.look(&infrared, camera.now, Light::Night)
    };
    assert_eq!(night(&mut camera).preset, None);
    camera.tour.learn(1);
    let stood: Vec<Stood> = (0..3).map(|_| night(&mut camera)).collect();
    let added = TourChange::Learned {
        preset: 1,
        is_anew: false,
    };
    assert_eq!((&stood[2].changes[..], stood[2].to_keep), (&[added][..], Some(1)));
    assert_eq!(night(&mut camera).preset, Some(1));
    assert_eq!(camera.look(&views[1]).preset, Some(1), "the day still holds");
    // Shown anew by day, the night is of the view before.
    let [.., changes] = camera.shown(1, &views[3]);
    assert_eq!(changes, [learned(1)]);
    assert_eq!(night(&mut camera).preset, None);
}

#[test]
fn a_preset_that_does_not_come_for_two_tours_is_told_once_and_so_is_its_return() {
    let views = views();
    let mut camera = Camera::knowing(&views[..2]);
    let begin = camera.now;
    let mut told = Vec::new();
    for _ in 0..150 {
        told.extend(camera.look(&views[0]).changes.into_iter().map(|c| (camera.now, c)));
    }
    let [(at, TourChange::Missed(1))] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(at.duration_since(begin).as_secs(), 1210);
    assert!(!camera.tour.is_awaited(1));
    let stood = camera.look(&views[1]);
    assert_eq!((stood.preset, stood.changes), (Some(1), vec![TourChange::Back(1)]));
    assert!(camera.tour.is_awaited(1));
}

#[test]
fn what_was_learned_is_taken_up_by_the_next_run() {
    let views = views();
    let before = Camera::knowing(&views[..2]);
    let mut after = Camera::new(2);
    for preset in 0..2 {
        for (light, reference) in before.tour.references(preset) {
            after.tour.remember(preset, light, reference.clone());
        }
    }
    assert_eq!(after.look(&views[1]).preset, Some(1));
    assert_eq!(after.look(&views[0]).preset, Some(0));
    assert_eq!(after.look(&views[2]).preset, None);
}

#[test]
fn a_clock_that_is_set_back_misses_nothing() {
    let views = views();
    let mut camera = Camera::knowing(&views[..2]);
    camera.look(&views[1]);
    camera.now -= 3.hours();
    for _ in 0..110 {
        assert_eq!(camera.look(&views[0]).changes, []);
    }
    assert!(camera.now < Timestamp::UNIX_EPOCH);
    camera.look(&views[1]).preset.unwrap();
}
