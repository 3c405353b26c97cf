//! Draws detections into a picture.

use image::{Rgb, RgbImage};

use crate::cli::layer::Layer;
use gridwatch_engine::Detection;

/// Colours assigned to the labels in alphabetical order, repeating.
const COLOURS: [Rgb<u8>; 6] = [
    Rgb([255, 214, 0]),
    Rgb([0, 200, 255]),
    Rgb([255, 105, 180]),
    Rgb([120, 255, 80]),
    Rgb([255, 140, 0]),
    Rgb([200, 160, 255]),
];

/// Draws each detection's box and score, one colour per label.
pub(super) fn draw(picture: &mut RgbImage, found: &[Detection]) {
    let mut labels: Vec<&str> = found.iter().map(|d| d.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    let size = (w / 640.0).clamp(1.0, 4.0);
    for (label, colour) in labels.iter().zip(COLOURS.iter().cycle()) {
        let mut layer = Layer::of(picture);
        for d in found.iter().filter(|d| d.label.as_str() == *label) {
            let [x1, y1, x2, y2] = [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].map(f64::from);
            let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)].map(|(x, y)| (x * w, y * h));
            layer.polygon(&corners, size);
            let top = (y1 * h - 9.0 * size).max(2.0);
            layer.text(&format!("{:.2}", d.score), ((x1 * w).max(2.0), top), size);
        }
        layer.over_outlined(picture, *colour, 1, 0.7);
    }
}
