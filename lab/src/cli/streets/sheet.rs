//! Draws a contact sheet of what went wrong.

use image::{Rgb, RgbImage, imageops};

use crate::newness::streets::{Mistake, MistakeKind};
use gridwatch::cli::layer::Layer;

const COLUMNS: u32 = 3;
const TILE: (u32, u32) = (480, 270);
const MAX_TILES: usize = 30;

/// The first mistakes, each with its number in the list and its box: red for a false or repeated case, yellow for a missed problem.
pub(super) fn draw(mistakes: &[Mistake]) -> RgbImage {
    let shown = &mistakes[..mistakes.len().min(MAX_TILES)];
    let rows = (shown.len() as u32).div_ceil(COLUMNS).max(1);
    let mut sheet = RgbImage::from_pixel(COLUMNS * TILE.0, rows * TILE.1, Rgb([40; 3]));
    for (n, mistake) in shown.iter().enumerate() {
        let mut tile = imageops::resize(&mistake.picture, TILE.0, TILE.1, imageops::FilterType::Triangle);
        let colour = match mistake.kind {
            MistakeKind::Missed => Rgb([255, 214, 0]),
            MistakeKind::False | MistakeKind::Repeated => Rgb([255, 90, 60]),
        };
        let mut layer = Layer::of(&tile);
        let at = |x: f32, y: f32| (f64::from(x) * f64::from(TILE.0), f64::from(y) * f64::from(TILE.1));
        let b = &mistake.bbox;
        layer.polygon(&[at(b.x1, b.y1), at(b.x2, b.y1), at(b.x2, b.y2), at(b.x1, b.y2)], 1.5);
        layer.over_outlined(&mut tile, colour, 1, 0.6);
        let mut digits = Layer::of(&tile);
        digits.text(&(n + 1).to_string(), (6.0, 6.0), 3.0);
        digits.over_outlined(&mut tile, Rgb([255; 3]), 1, 0.6);
        let (x, y) = (n as u32 % COLUMNS * TILE.0, n as u32 / COLUMNS * TILE.1);
        imageops::replace(&mut sheet, &tile, x.into(), y.into());
    }
    sheet
}
