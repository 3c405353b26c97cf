//! The worst of it on one page: the largest things that were not found, and the surest boxes where nothing is.

use std::fmt::Write;

use image::{Rgb, RgbImage, imageops};

use crate::cli::{Failure, detect, layer::Layer};
use gridwatch_base::error::Class;
use gridwatch_model::eval::{self, Corners, Picture, data::Labelled};

/// Pixels of a tile, and how many there are of each kind.
const TILE: u32 = 240;
const ACROSS: usize = 6;
const EACH: usize = 12;
/// Around the box so many times its sides are shown.
const AROUND: f64 = 2.2;

const THERE: Rgb<u8> = Rgb([90, 220, 110]);
const FOUND: Rgb<u8> = Rgb([255, 90, 60]);

struct Tile {
    picture: usize,
    corners: Corners,
    label: String,
    /// Of what was found; `None` of what was not.
    score: Option<f32>,
}

/// What the two kinds of tiles are, for people.
pub(in crate::cli) struct Words {
    pub(in crate::cli) missed: &'static str,
    pub(in crate::cli) wrong: &'static str,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            missed: "was not found",
            wrong: "is none",
        }
    }
}

/// The page, and what its tiles are, for people. `thresholds` has one for each label.
pub(in crate::cli) fn draw(
    set: &Labelled,
    pictures: &[Picture],
    thresholds: &[f32],
    labels: &[String],
    words: &Words,
) -> Result<(RgbImage, String), Failure> {
    let (mut missed, mut wrong) = (Vec::new(), Vec::new());
    for (i, picture) in pictures.iter().enumerate() {
        let judged = eval::judge(picture, thresholds);
        missed.extend(judged.missed.iter().map(|t| (t.area, i, *t)));
        wrong.extend(judged.wrong.iter().map(|g| (g.score, i, *g)));
    }
    missed.sort_by(|a, b| b.0.total_cmp(&a.0));
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
    let tiles: Vec<Tile> = missed
        .iter()
        .take(EACH)
        .map(|(_, i, truth)| Tile {
            picture: *i,
            corners: truth.corners,
            label: labels[truth.class].clone(),
            score: None,
        })
        .chain(wrong.iter().take(EACH).map(|(score, i, guess)| Tile {
            picture: *i,
            corners: guess.corners,
            label: labels[guess.class].clone(),
            score: Some(*score),
        }))
        .collect();
    let rows = tiles.len().div_ceil(ACROSS).max(1) as u32;
    let mut sheet = RgbImage::from_pixel(ACROSS as u32 * TILE, rows * TILE, Rgb([40; 3]));
    let mut told = String::from("\nOn the page, numbered:\n");
    for (n, tile) in tiles.iter().enumerate() {
        let path = &set.pictures[tile.picture].path;
        let unreadable = |e: detect::PictureError| Failure::new(Class::Data, format!("{}: {e}", path.display()));
        let whole = detect::upright(path).map_err(unreadable)?.into_rgb8();
        let drawn = drawn(&whole, &pictures[tile.picture], tile, thresholds, n + 1);
        let (x, y) = ((n % ACROSS) as i64, (n / ACROSS) as i64);
        imageops::replace(&mut sheet, &drawn, x * i64::from(TILE), y * i64::from(TILE));
        // Writing to a String cannot fail.
        let _ = match tile.score {
            None => writeln!(
                told,
                "{:>3}  {} {}  {}",
                n + 1,
                tile.label,
                words.missed,
                path.display()
            ),
            Some(score) => writeln!(
                told,
                "{:>3}  {} at {score:.2} {}  {}",
                n + 1,
                tile.label,
                words.wrong,
                path.display()
            ),
        };
    }
    Ok((sheet, told))
}

/// What is around the tile's box, with all that is there (green) and all that was found (red).
fn drawn(whole: &RgbImage, picture: &Picture, tile: &Tile, thresholds: &[f32], number: usize) -> RgbImage {
    let [x1, y1, x2, y2] = tile.corners;
    let side = ((x2 - x1).max(y2 - y1) * AROUND).max(64.0);
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
            let corners = [at(*x1, *y1), at(*x2, *y1), at(*x2, *y2), at(*x1, *y2)];
            for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
                layer.line(*from, *to, 1.0);
            }
        }
        layer
    };
    let there = boxes(&mut picture.truths.iter().map(|t| &t.corners));
    let counts = |g: &&eval::Guess| thresholds.get(g.class).is_some_and(|t| g.score >= *t);
    let found = boxes(&mut picture.guesses.iter().filter(counts).map(|g| &g.corners));
    let mut words = Layer::of(&drawn);
    words.text(&number.to_string(), (6.0, 6.0), 3.0);
    for (layer, colour) in [(there, THERE), (found, FOUND), (words, Rgb([255; 3]))] {
        layer.clone().grown().over(&mut drawn, Rgb([0; 3]), 0.6);
        layer.over(&mut drawn, colour, 1.0);
    }
    drawn
}
