//! View health on real pictures, unchanged and as if at night, out of focus, covered or frozen.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use gridwatch_engine::View;
use gridwatch_frame::Frame;
use gridwatch_vision::{Health, Measures, ViewLimits as Thresholds};
use image::{RgbImage, imageops};
use jiff::{Timestamp, ToSpan};

const PICTURES: [&str; 4] = ["bags", "cars", "person", "signs"];

/// At the size of a camera's frame, because noise is per camera pixel.
fn picture(name: &str) -> RgbImage {
    let path = format!(
        "{}/../../tests/fixtures/pictures/{name}.jpg",
        env!("CARGO_MANIFEST_DIR")
    );
    let picture = image::open(path).unwrap().into_rgb8();
    let height = 1280 * picture.height() / picture.width();
    imageops::resize(&picture, 1280, height, imageops::FilterType::Triangle)
}

/// Applies `change` to each value and adds sensor noise (standard deviation about 2).
fn changed(picture: &RgbImage, change: impl Fn(f32) -> f32) -> RgbImage {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut out = picture.clone();
    for v in out.iter_mut() {
        let noise = (rng.f32() + rng.f32() + rng.f32() + rng.f32() - 2.0) * 3.5;
        *v = (change(f32::from(*v)) + noise).round() as u8;
    }
    out
}

fn frame(picture: &RgbImage, second: i64) -> Frame {
    Frame::from_rgb(picture, Timestamp::UNIX_EPOCH + second.seconds()).unwrap()
}

fn judge(picture: &RgbImage) -> View {
    let mut health = Health::new(Thresholds::default());
    let view = health.judge(&frame(picture, 0)).unwrap();
    println!("{view:?} {:?}", health.measures());
    view
}

#[test]
fn visible_street_is_clear() {
    for name in PICTURES {
        let picture = picture(name);
        assert_eq!(judge(&picture), View::Clear, "{name}");
        // Dusk, and a lit street at night: dim and noisy, but usable.
        assert_eq!(judge(&changed(&picture, |v| v * 0.35)), View::Clear, "{name} at dusk");
        assert_eq!(judge(&changed(&picture, |v| v * 0.15)), View::Clear, "{name} at night");
        // Haze reduces contrast but keeps structure.
        assert_eq!(
            judge(&changed(&picture, |v| v * 0.2 + 140.0)),
            View::Clear,
            "{name} in haze"
        );
    }
}

#[test]
fn dark_picture_is_dark() {
    for name in PICTURES {
        assert_eq!(judge(&changed(&picture(name), |v| v * 0.03)), View::Dark, "{name}");
    }
}

#[test]
fn picture_out_of_focus_is_blurred() {
    for name in PICTURES {
        let picture = picture(name);
        let sigma = picture.width() as f32 * 0.03;
        assert_eq!(
            judge(&changed(&imageops::fast_blur(&picture, sigma), |v| v)),
            View::Blurred,
            "{name}"
        );
    }
}

#[test]
fn covered_lens_is_blocked() {
    for name in PICTURES {
        let (w, h) = picture(name).dimensions();
        // Tape, a leaf or a wall: a uniform tone, or a gradient.
        let flat = RgbImage::from_pixel(w, h, image::Rgb([90; 3]));
        assert_eq!(judge(&changed(&flat, |v| v)), View::Blocked, "{name}");
        let graded = RgbImage::from_fn(w, h, |x, _| image::Rgb([(40 + x * 35 / w) as u8; 3]));
        assert_eq!(judge(&changed(&graded, |v| v)), View::Blocked, "{name}");
    }
}

#[test]
fn repeated_identical_frames_are_frozen() {
    let picture = picture("cars");
    let thresholds = Thresholds {
        frozen_after: 3,
        ..Thresholds::default()
    };
    let mut health = Health::new(thresholds);
    let still = frame(&picture, 0);
    // The same keyframe looked at again does not count.
    for _ in 0..5 {
        assert_eq!(health.judge(&still).unwrap(), View::Clear);
    }
    assert_eq!(health.judge(&frame(&picture, 1)).unwrap(), View::Clear);
    assert_eq!(health.judge(&frame(&picture, 2)).unwrap(), View::Frozen);
    assert_eq!(health.judge(&frame(&picture, 3)).unwrap(), View::Frozen);
    // A different frame ends the freeze and restarts the count.
    assert_eq!(health.judge(&frame(&changed(&picture, |v| v), 4)).unwrap(), View::Clear);
    assert_eq!(health.judge(&frame(&picture, 5)).unwrap(), View::Clear);
    assert_eq!(health.judge(&frame(&picture, 6)).unwrap(), View::Clear);
    assert_eq!(health.judge(&frame(&picture, 7)).unwrap(), View::Frozen);
    // Frozen takes precedence over dark.
    let night = RgbImage::new(64, 64);
    let views: Vec<_> = (8..12).map(|s| health.judge(&frame(&night, s)).unwrap()).collect();
    assert_eq!(views, [View::Dark, View::Dark, View::Frozen, View::Frozen]);
}

/// Row padding, a missing padding of the last row, and the range.
#[test]
fn measures_do_not_depend_on_the_memory_layout() {
    let picture = picture("person");
    let plain = frame(&picture, 0);
    let mut padded = plain.clone();
    let (w, h) = (plain.width as usize, plain.height as usize);
    let stride = w + 32;
    let mut data = vec![255; stride * h];
    for y in 0..h {
        data[y * stride..][..w].copy_from_slice(plain.y_row(y));
    }
    data.truncate(stride * h - 32);
    let chroma = data.len();
    data.extend_from_slice(&plain.data[w * h..]);
    padded.planes[0].stride = stride;
    padded.planes[1].offset += chroma - w * h;
    padded.planes[2].offset += chroma - w * h;
    padded.data = data.into();
    let measure = |frame: &Frame| {
        let mut health = Health::new(Thresholds::default());
        assert_eq!(health.judge(frame).unwrap(), View::Clear);
        health.measures().unwrap()
    };
    assert_eq!(measure(&padded), measure(&plain));

    // The same picture in limited range is measured on the full range.
    let mut limited = plain.clone();
    limited.full_range = false;
    limited.data = plain
        .data
        .iter()
        .map(|&v| (16.0 + f32::from(v) * 219.0 / 255.0).round() as u8)
        .collect();
    let (a, b) = (measure(&limited), measure(&plain));
    assert!((a.mean - b.mean).abs() < 0.5, "{a:?} {b:?}");
    assert!((a.deviation.unwrap() - b.deviation.unwrap()).abs() < 0.5, "{a:?} {b:?}");
}

/// A stream may announce any size; none may panic.
#[test]
fn any_frame_size_is_measured() {
    for (width, height) in [
        (2, 2),
        (2, 3),
        (3, 2),
        (2, 3000),
        (3000, 2),
        (5, 7),
        (319, 2),
        (1919, 1079),
        (100, 2161),
    ] {
        let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 31 + y * 17) as u8; 3]));
        let mut tight = frame(&picture, 0);
        // The luma plane ends with the buffer.
        let luma = tight.data.slice(..(tight.width * tight.height) as usize);
        let chroma = tight.data.slice(luma.len()..);
        tight.planes[1].offset = 0;
        tight.planes[2].offset -= luma.len();
        tight.planes[0].offset = chroma.len();
        tight.data = [chroma, luma].concat().into();
        let mut health = Health::new(Thresholds::default());
        health.judge(&tight).unwrap();
        let Measures {
            mean,
            texture,
            deviation,
        } = health.measures().unwrap();
        assert!((0.0..=255.0).contains(&mean), "{width}×{height}: {mean}");
        assert!(texture.unwrap() >= 0.0 && deviation.unwrap() >= 0.0, "{width}×{height}");
    }
}
