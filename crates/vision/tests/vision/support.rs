//! Street pictures as a camera shows them: in other light, occluded, or with the camera moved.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use gridwatch_engine::View;
use gridwatch_frame::Frame;
use gridwatch_vision::{AimLimits, Health, Luma, ViewLimits};
use image::{RgbImage, imageops};
use jiff::Timestamp;

pub const PICTURES: [&str; 4] = ["bags", "cars", "person", "signs"];

pub fn street(name: &str) -> RgbImage {
    let path = format!(
        "{}/../../tests/fixtures/pictures/{name}.jpg",
        env!("CARGO_MANIFEST_DIR")
    );
    let picture = image::open(path).unwrap().into_rgb8();
    let height = 960 * picture.height() / picture.width();
    imageops::resize(&picture, 960, height, imageops::FilterType::Triangle)
}

/// The camera's aim relative to [`STRAIGHT`]: shifts as shares of the picture's width, degrees, and a zoom factor.
#[derive(Clone, Copy)]
pub struct Aimed {
    pub right: f32,
    pub down: f32,
    pub degrees: f32,
    pub zoom: f32,
}

pub const STRAIGHT: Aimed = Aimed {
    right: 0.0,
    down: 0.0,
    degrees: 0.0,
    zoom: 1.0,
};

/// What a camera with this aim shows of a street: three quarters of it, from the middle when straight.
pub fn view_of(street: &RgbImage, at: Aimed) -> RgbImage {
    let (w, h) = (street.width() as f32, street.height() as f32);
    let (wide, high) = (w * 0.75, h * 0.75);
    let (sin, cos) = at.degrees.to_radians().sin_cos();
    RgbImage::from_fn(wide as u32, high as u32, |x, y| {
        let (x, y) = ((x as f32 - wide / 2.0) / at.zoom, (y as f32 - high / 2.0) / at.zoom);
        let from = (
            (w / 2.0 + at.right * wide + cos * x - sin * y).clamp(0.0, w - 1.0),
            (h / 2.0 + at.down * wide + sin * x + cos * y).clamp(0.0, h - 1.0),
        );
        imageops::interpolate_bilinear(street, from.0, from.1).unwrap()
    })
}

/// Applies `light(x, y, value)` to every channel; x and y are fractions of the picture.
pub fn lit(picture: &RgbImage, light: impl Fn(f32, f32, f32) -> f32) -> RgbImage {
    let mut out = picture.clone();
    let (w, h) = (out.width() as f32, out.height() as f32);
    for (x, y, pixel) in out.enumerate_pixels_mut() {
        pixel.0 = pixel.0.map(|v| light(x as f32 / w, y as f32 / h, v.into()) as u8);
    }
    out
}

/// Covers the left `share` of the picture with `other`.
pub fn occluded(picture: &RgbImage, other: &RgbImage, share: f32) -> RgbImage {
    let mut out = picture.clone();
    let width = (picture.width() as f32 * share) as u32;
    let bus = imageops::crop_imm(other, 0, 0, width, other.height()).to_image();
    let bus = imageops::resize(&bus, width, picture.height(), imageops::FilterType::Triangle);
    imageops::replace(&mut out, &bus, 0, 0);
    out
}

/// The downscaled luma of the picture with sensor noise, as from [`Health::look`].
pub fn small_luma(picture: &RgbImage, at: Timestamp, rng: &mut fastrand::Rng) -> Luma {
    let mut noisy = picture.clone();
    for v in noisy.iter_mut() {
        *v = v.saturating_add_signed(rng.i8(-3..=3));
    }
    let frame = Frame::from_rgb(&noisy, at).unwrap();
    let (view, small) = Health::new(ViewLimits::default()).look(&frame).unwrap();
    assert_eq!(view, View::Clear);
    small.unwrap()
}

pub fn limits() -> AimLimits {
    AimLimits::from(&ViewLimits::default())
}
