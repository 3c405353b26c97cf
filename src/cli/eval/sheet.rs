//! Draws a contact sheet of the largest missed objects and the highest-scoring false boxes.

use std::fmt::Write;

use image::{Rgb, RgbImage, imageops};

use crate::cli::{Failure, layer::Layer, pictures};
use gridwatch_model::eval::{self, Corners, EvalPicture, data::LabelledSet};

/// Side of a tile, pixels.
const TILE: u32 = 240;
const COLUMNS: usize = 6;
/// Maximum tiles of each kind.
const TILES_EACH: usize = 12;
/// Side of the shown section, in multiples of the box's longer side.
const CONTEXT: f64 = 2.2;

const TRUE_BOX: Rgb<u8> = Rgb([90, 220, 110]);
const DETECTED_BOX: Rgb<u8> = Rgb([255, 90, 60]);

struct Tile {
    picture: usize,
    corners: Corners,
    label: String,
    /// The score of a false box; `None` for a missed object.
    score: Option<f32>,
}

/// The legend's text for each kind of tile.
pub(in crate::cli) struct Captions {
    pub(in crate::cli) missed: &'static str,
    pub(in crate::cli) wrong: &'static str,
}

impl Default for Captions {
    fn default() -> Self {
        Self {
            missed: "missed",
            wrong: "false",
        }
    }
}

/// Returns the sheet and a text legend of its numbered tiles. `thresholds` holds one value per label.
pub(in crate::cli) fn draw(
    set: &LabelledSet,
    pictures: &[EvalPicture],
    thresholds: &[f32],
    labels: &[String],
    captions: &Captions,
) -> Result<(RgbImage, String), Failure> {
    let (mut missed, mut wrong) = (Vec::new(), Vec::new());
    for (i, picture) in pictures.iter().enumerate() {
        let judged = eval::match_picture(picture, thresholds);
        missed.extend(judged.missed.iter().map(|t| (t.area, i, *t)));
        wrong.extend(judged.false_positives.iter().map(|g| (g.score, i, *g)));
    }
    missed.sort_by(|a, b| b.0.total_cmp(&a.0));
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
    let tiles: Vec<Tile> = missed
        .iter()
        .take(TILES_EACH)
        .map(|(_, i, truth)| Tile {
            picture: *i,
            corners: truth.corners,
            label: labels[truth.class].clone(),
            score: None,
        })
        .chain(wrong.iter().take(TILES_EACH).map(|(score, i, guess)| Tile {
            picture: *i,
            corners: guess.corners,
            label: labels[guess.class].clone(),
            score: Some(*score),
        }))
        .collect();
    let rows = tiles.len().div_ceil(COLUMNS).max(1) as u32;
    let mut sheet = RgbImage::from_pixel(COLUMNS as u32 * TILE, rows * TILE, Rgb([40; 3]));
    let mut legend = String::from("\nTiles by number:\n");
    for (n, tile) in tiles.iter().enumerate() {
        let path = &set.pictures[tile.picture].path;
        let whole = pictures::upright(path).map_err(|e| e.in_file(path))?.into_rgb8();
        let drawn = draw_tile(&whole, &pictures[tile.picture], tile, thresholds, n + 1);
        let (x, y) = ((n % COLUMNS) as i64, (n / COLUMNS) as i64);
        imageops::replace(&mut sheet, &drawn, x * i64::from(TILE), y * i64::from(TILE));
        // Writing to a String cannot fail.
        let _ = match tile.score {
            None => writeln!(
                legend,
                "{:>3}  {} {}  {}",
                n + 1,
                tile.label,
                captions.missed,
                path.display()
            ),
            Some(score) => writeln!(
                legend,
                "{:>3}  {} at {score:.2} {}  {}",
                n + 1,
                tile.label,
                captions.wrong,
                path.display()
            ),
        };
    }
    Ok((sheet, legend))
}

/// The section of the picture around the tile's box, with all true boxes (green) and all detections above the thresholds (red).
fn draw_tile(whole: &RgbImage, picture: &EvalPicture, tile: &Tile, thresholds: &[f32], number: usize) -> RgbImage {
    let [x1, y1, x2, y2] = tile.corners;
    let side = ((x2 - x1).max(y2 - y1) * CONTEXT).max(64.0);
    let (left, top) = ((x1 + x2 - side) / 2.0, (y1 + y2 - side) / 2.0);
    let scale = f64::from(TILE) / side;
    let mut drawn = RgbImage::from_fn(TILE, TILE, |x, y| {
        let (x, y) = (left + (f64::from(x) + 0.5) / scale, top + (f64::from(y) + 0.5) / scale);
        let is_inside = (0.0..f64::from(whole.width())).contains(&x) && (0.0..f64::from(whole.height())).contains(&y);
        if is_inside {
            *whole.get_pixel(x as u32, y as u32)
        } else {
            Rgb([40; 3])
        }
    });
    let boxes = |all: &mut dyn Iterator<Item = &Corners>| {
        let mut layer = Layer::of(&drawn);
        for [x1, y1, x2, y2] in all {
            let at = |x: f64, y: f64| ((x - left) * scale, (y - top) * scale);
            layer.polygon(&[at(*x1, *y1), at(*x2, *y1), at(*x2, *y2), at(*x1, *y2)], 1.0);
        }
        layer
    };
    let truths = boxes(&mut picture.truths.iter().map(|t| &t.corners));
    let is_above = |g: &&eval::Prediction| thresholds.get(g.class).is_some_and(|t| g.score >= *t);
    let detections = boxes(&mut picture.predictions.iter().filter(is_above).map(|g| &g.corners));
    let mut digits = Layer::of(&drawn);
    digits.text(&number.to_string(), (6.0, 6.0), 3.0);
    for (layer, colour) in [(truths, TRUE_BOX), (detections, DETECTED_BOX), (digits, Rgb([255; 3]))] {
        layer.over_outlined(&mut drawn, colour, 1, 0.6);
    }
    drawn
}
