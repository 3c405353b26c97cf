//! The change map on a real street picture: what is put down is found, absorbed by rule only, and kept over restarts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use gridwatch_engine::{BBox, Detection};
use gridwatch_frame::Frame;
use gridwatch_vision::change::{
    ChangeBuffers, ChangeLook, ChangeMap, ChangeSettings, ChangeState, Occupant, occupants,
};
use image::{Rgb, RgbImage, imageops};
use jiff::{SignedDuration, Timestamp};

/// Looks after which the background is learned.
const LEARNED: u32 = 32;

fn open(name: &str) -> RgbImage {
    let path = format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"));
    image::open(path).unwrap().into_rgb8()
}

/// A street without anything that moves, as a camera of 960 × 540 pixels shows it.
fn street() -> RgbImage {
    imageops::resize(
        &open("demo/assets/facade_488.jpg"),
        960,
        540,
        imageops::FilterType::Triangle,
    )
}

/// The street with a bag whose box is returned.
fn with_bag(street: &RgbImage) -> (RgbImage, BBox) {
    let path = format!("{}/../../demo/assets/bag_0200.png", env!("CARGO_MANIFEST_DIR"));
    let bag = image::open(path).unwrap().into_rgba8();
    let bag = imageops::resize(&bag, 60, 60, imageops::FilterType::Triangle);
    let mut picture = image::DynamicImage::ImageRgb8(street.clone()).into_rgba8();
    imageops::overlay(&mut picture, &bag, 500, 440);
    let bbox = BBox {
        x1: 500.0 / 960.0,
        y1: 440.0 / 540.0,
        x2: 560.0 / 960.0,
        y2: 500.0 / 540.0,
    };
    (image::DynamicImage::ImageRgba8(picture).into_rgb8(), bbox)
}

/// A camera that looks every ten seconds.
struct Camera {
    map: ChangeMap,
    buffers: ChangeBuffers,
    at: Timestamp,
    random: fastrand::Rng,
}

impl Camera {
    fn new() -> Self {
        Self::with(ChangeSettings::default())
    }

    fn with(settings: ChangeSettings) -> Self {
        Self {
            map: ChangeMap::new(settings),
            buffers: ChangeBuffers::default(),
            at: Timestamp::from_second(1_760_000_000).unwrap(),
            random: fastrand::Rng::with_seed(3),
        }
    }

    fn look_with(&mut self, picture: &RgbImage, occupants: &[(BBox, Occupant)]) -> ChangeLook {
        let mut noisy = picture.clone();
        for v in noisy.iter_mut() {
            *v = v.saturating_add_signed(self.random.i8(-4..=4));
        }
        self.at += SignedDuration::from_secs(10);
        let frame = Frame::from_rgb(&noisy, self.at).unwrap();
        self.map.look(&frame, occupants, &mut self.buffers).unwrap()
    }

    fn look(&mut self, picture: &RgbImage) -> ChangeLook {
        self.look_with(picture, &[])
    }

    fn looks(&mut self, picture: &RgbImage, count: u32) -> ChangeLook {
        (1..count).for_each(|_| drop(self.look(picture)));
        self.look(picture)
    }
}

fn iou(a: &BBox, b: &BBox) -> f32 {
    let side = |a1: f32, a2: f32, b1: f32, b2: f32| (a2.min(b2) - a1.max(b1)).max(0.0);
    let area = |b: &BBox| (b.x2 - b.x1) * (b.y2 - b.y1);
    let both = side(a.x1, a.x2, b.x1, b.x2) * side(a.y1, a.y2, b.y1, b.y2);
    both / (area(a) + area(b) - both)
}

#[test]
fn a_bag_is_a_new_region_since_it_was_put_down_and_no_longer_when_it_was_taken_away() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let mut camera = Camera::new();
    assert_eq!((camera.map.looks_left(), camera.map.variants()), (30, 0));
    camera.looks(&street, 10);
    assert_eq!((camera.map.looks_left(), camera.map.variants()), (20, 1));
    let before = camera.looks(&street, LEARNED + 10);
    assert_eq!(camera.map.looks_left(), 0);
    assert_eq!(before.state, ChangeState::Judged);
    assert_eq!(before.regions, []);
    assert!(camera.map.new_share(&bag).unwrap().share < 0.05);
    let put_down = camera.at;
    let look = camera.looks(&picture, 8);
    let [region] = &look.regions[..] else {
        panic!("{:?}", look.regions)
    };
    assert!(iou(&region.bbox, &bag) > 0.5, "{region:?}");
    assert_eq!(region.since, put_down + SignedDuration::from_secs(10));
    assert_eq!(region.explained_by, None);
    let new = camera.map.new_share(&bag).unwrap();
    assert!(new.share > 0.5 && new.since == Some(region.since), "{new:?}");
    // A box beside it has nothing new.
    let beside = BBox {
        x1: bag.x1 - 0.2,
        x2: bag.x2 - 0.2,
        ..bag
    };
    assert!(camera.map.new_share(&beside).unwrap().share < 0.05);
    assert_eq!(camera.looks(&street, 4).regions, []);
    assert!(camera.map.new_share(&bag).unwrap().share < 0.05);
}

#[test]
fn exposure_and_sway_are_not_new() {
    let street = street();
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED);
    for i in 0..24_u32 {
        let mut picture = street.clone();
        let gain = 1.0 + 0.3 * (i as f32 / 3.0).sin();
        picture.iter_mut().for_each(|v| *v = (f32::from(*v) * gain) as u8);
        let (dx, dy) = (i64::from(i % 3), i64::from(i % 5) - 2);
        let mut swayed = picture.clone();
        imageops::replace(&mut swayed, &picture, dx, dy);
        let look = camera.look(&swayed);
        assert_eq!(look.regions, [], "look {i}");
        let expected = (dx as f32 / 960.0, dy as f32 / 960.0);
        assert!(
            (look.shift.0 - expected.0).abs() < 1e-3,
            "look {i}: {:?} {expected:?}",
            look.shift
        );
        assert!(
            (look.shift.1 - expected.1).abs() < 1e-3,
            "look {i}: {:?} {expected:?}",
            look.shift
        );
    }
}

#[test]
fn what_stays_is_absorbed_after_the_set_time_unless_a_case_is_open() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let settings = ChangeSettings {
        absorb_after: Duration::from_secs(3600),
        ..ChangeSettings::default()
    };
    let mut camera = Camera::with(settings);
    camera.looks(&street, LEARNED);
    camera.looks(&picture, 10);
    camera.map.hold(vec![bag]);
    camera.at += SignedDuration::from_hours(2);
    assert_eq!(camera.looks(&picture, 3).regions.len(), 1, "held");
    camera.map.absorb(&bag);
    assert_eq!(
        camera.looks(&picture, 3).regions.len(),
        1,
        "held against a request, too"
    );
    camera.map.hold(Vec::new());
    assert_eq!(camera.looks(&picture, LEARNED + 20).regions, []);
    // The bag is the background now: taking it away is new.
    assert!(!camera.looks(&street, 12).regions.is_empty());
}

#[test]
fn a_rejected_place_is_absorbed_at_once() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED);
    assert_eq!(camera.looks(&picture, 10).regions.len(), 1);
    camera.map.absorb(&bag);
    assert_eq!(
        camera
            .look(&picture)
            .regions
            .iter()
            .filter(|r| iou(&r.bbox, &bag) > 0.1)
            .count(),
        0
    );
    assert!(camera.map.new_share(&bag).is_none(), "it is being learned");
    assert_eq!(camera.looks(&picture, LEARNED + 10).regions, []);
    assert!(camera.map.new_share(&bag).unwrap().share < 0.1);
}

#[test]
fn a_vehicle_explains_a_region_and_people_are_not_learned() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let mut camera = Camera::new();
    // Someone stands at the place in most looks while the view is learned, and is found there.
    for i in 0..2 * LEARNED {
        if i % 3 == 0 {
            camera.look(&street);
        } else {
            camera.look_with(&picture, &[(bag, Occupant::Person)]);
        }
    }
    camera.looks(&street, LEARNED);
    assert!(
        camera.map.new_share(&bag).unwrap().share < 0.05,
        "the street was learned"
    );
    for _ in 0..10 {
        camera.look_with(&picture, &[(bag, Occupant::Vehicle)]);
    }
    let look = camera.look(&picture);
    let explained: Vec<_> = look.regions.iter().map(|r| r.explained_by).collect();
    assert_eq!(explained, [Some(Occupant::Vehicle)]);
}

/// The picture with a passer-by in `bbox`: a dark figure, another one in each look.
fn with_passer_by(picture: &RgbImage, bbox: &BBox, look: u32) -> RgbImage {
    let mut picture = picture.clone();
    let (w, h) = (picture.width() as f32, picture.height() as f32);
    for y in (bbox.y1 * h) as u32..(bbox.y2 * h) as u32 {
        for x in (bbox.x1 * w) as u32..(bbox.x2 * w) as u32 {
            let v = ((x * (3 + look) + y * (7 + look)) % 60) as u8;
            picture.put_pixel(x, y, Rgb([v, v / 2, v]));
        }
    }
    picture
}

#[test]
fn who_passes_a_thing_neither_explains_it_nor_makes_it_smaller() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED + 10);
    camera.looks(&picture, 8);
    for i in 0..60 {
        // In every fourth look somebody hides the bag or its right half.
        let x1 = if i % 8 == 0 { bag.x1 } else { (bag.x1 + bag.x2) / 2.0 };
        let person = BBox {
            x1,
            y1: 0.45,
            x2: x1 + 0.1,
            y2: 0.95,
        };
        let look = if i % 4 == 0 {
            camera.look_with(&with_passer_by(&picture, &person, i), &[(person, Occupant::Person)])
        } else {
            camera.look(&picture)
        };
        let [region] = &look.regions[..] else {
            panic!("look {i}: {:?}", look.regions)
        };
        assert_eq!(region.explained_by, None, "look {i}");
        assert!(iou(&region.bbox, &bag) > 0.45, "look {i}: {region:?}");
    }
}

#[test]
fn a_crowd_does_not_count_as_another_light() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED + 10);
    let crowd = BBox {
        x1: 0.0,
        y1: 0.2,
        x2: 0.45,
        y2: 1.0,
    };
    for i in 0..12 {
        let look = camera.look_with(&with_passer_by(&picture, &crowd, i), &[(crowd, Occupant::Person)]);
        assert_eq!(look.state, ChangeState::Judged, "look {i}");
    }
    let look = camera.look(&picture);
    assert!(look.regions.iter().any(|r| iou(&r.bbox, &bag) > 0.45), "{look:?}");
}

#[test]
fn a_bag_before_a_parked_car_is_not_the_car() {
    let street = street();
    let (picture, bag) = with_bag(&street);
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED);
    let car = BBox {
        x1: bag.x1 - 0.15,
        y1: bag.y1 - 0.12,
        x2: bag.x2 + 0.15,
        y2: bag.y2,
    };
    let mut look = camera.look_with(&picture, &[(car, Occupant::Vehicle)]);
    for _ in 0..10 {
        look = camera.look_with(&picture, &[(car, Occupant::Vehicle)]);
    }
    let explained: Vec<_> = look.regions.iter().map(|r| r.explained_by).collect();
    assert_eq!(explained, [None]);
}

#[test]
fn a_box_around_half_the_view_occupies_nothing() {
    let see = |x2: f32| {
        let bbox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2,
            y2: 1.0,
        };
        occupants(&[Detection::new("train", 0.9, bbox)]).len()
    };
    assert_eq!((see(0.39), see(0.5)), (1, 0));
}

#[test]
fn another_light_is_learned_as_a_variant_and_the_first_is_kept() {
    let street = street();
    // Infrared: no colour, lit from the camera.
    let night = RgbImage::from_fn(960, 540, |x, y| {
        let v = f32::from(street.get_pixel(x, y).0[0]);
        let away = ((x as f32 - 480.0) / 400.0).hypot((y as f32 - 350.0) / 220.0);
        Rgb([(v * (1.2 - away).max(0.25)) as u8; 3])
    });
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED);
    let one = camera.map.to_bytes().unwrap().len();
    let look = camera.looks(&night, LEARNED + 10);
    assert_eq!(look.state, ChangeState::Judged);
    assert_eq!(look.regions, []);
    // By day it is known at the first look.
    assert_eq!(camera.look(&street).state, ChangeState::Judged);
    let (picture, bag) = with_bag(&street);
    let look = camera.looks(&picture, 8);
    assert!(look.regions.iter().any(|r| iou(&r.bbox, &bag) > 0.5));
    let bytes = camera.map.to_bytes().unwrap().len();
    assert!(bytes > one + 400_000, "a variant was added");
    assert!(bytes - one <= 500_000, "{} bytes for a variant", bytes - one);
}

#[test]
fn a_map_survives_a_restart_and_a_damaged_file_is_refused() {
    let street = street();
    let (picture, _) = with_bag(&street);
    let mut camera = Camera::new();
    camera.looks(&street, LEARNED);
    let before = camera.looks(&picture, 8);
    let bytes = camera.map.to_bytes().unwrap();
    let mut restored = ChangeMap::new(ChangeSettings::default());
    restored.restore(&bytes).unwrap();
    assert_eq!(restored.to_bytes().unwrap(), bytes);
    camera.map = restored;
    let after = camera.looks(&picture, 3);
    assert_eq!(after.regions.len(), 1);
    assert_eq!(after.regions[0].since, before.regions[0].since);

    let mut fresh = ChangeMap::new(ChangeSettings::default());
    for length in [0, 3, 20, 4000, bytes.len() - 1] {
        assert!(fresh.restore(&bytes[..length]).is_err(), "{length}");
    }
    // A valid checksum does not make the content valid.
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..60 {
        let mut content = bytes[..bytes.len() - 4].to_vec();
        let at = random.usize(..400.min(content.len()));
        content[at] = random.u8(..);
        let sum = crc32fast::hash(&content);
        content.extend(sum.to_le_bytes());
        // Whatever it says: refused, or a map that can be looked with.
        if fresh.restore(&content).is_ok() {
            let frame = Frame::from_rgb(&street, camera.at).unwrap();
            fresh.look(&frame, &[], &mut ChangeBuffers::default()).unwrap();
        }
    }
    assert!(Camera::new().map.to_bytes().is_none());
}

#[test]
fn frames_of_any_size_are_looked_at() {
    for (width, height) in [(2, 2), (47, 300), (960, 16), (641, 361), (1280, 720), (352, 288)] {
        let mut camera = Camera::new();
        let picture = imageops::resize(&street(), width, height, imageops::FilterType::Triangle);
        for _ in 0..3 {
            let look = camera.look(&picture);
            assert_eq!(look.state, ChangeState::Learning, "{width}×{height}");
        }
        // The camera's stream changes its size.
        assert_eq!(camera.look(&street()).state, ChangeState::Learning);
    }
}
