//! What of a picture survives the light: the directions of its edges, and by which move two such fields agree best.
//!
//! Orientation correlation (Fitch, Kadyrov, Christmas, Kittler, BMVC 2002): each pixel is a complex number whose angle is
//! the direction of the gradient and whose length says only whether there is an edge. Here the angle is doubled (as in
//! Bigün & Granlund, ICCV 1987), so that an edge that turns from dark-on-bright to bright-on-dark, as between daylight and
//! infrared, stays the same. Blocks of the reference are correlated over a window of shifts, and the surfaces are added up
//! under each similarity (shift, turn, zoom): what moves by itself or stands in front votes for nothing in common.

use serde::{Deserialize, Serialize};

use super::super::Luma;

/// Pixels across of a field: edges of a street are a pixel or two wide there, and a sensor's noise is averaged away.
pub(super) const WIDTH: usize = 160;
/// Sides that a field's height may have: a stream of any shape is measured.
const HEIGHTS: (usize, usize) = (16, 320);
/// About this many pixels is a block wide and high: enough for a corner or two.
const BLOCK: usize = 20;
/// Numbers in a block's row.
const ROW: usize = 2 * BLOCK;
/// Every second row of a block is correlated: neighbours say the same.
const ROW_STEP: usize = 2;
/// Shifts of up to this many pixels are tried, 5 % of the width; what moved farther matches nothing, which is noticed too.
const REACH: i32 = 8;
/// Shifts along one axis.
const SPAN: i32 = 2 * REACH + 1;
const SHIFTS: usize = (SPAN * SPAN) as usize;
/// Turns and zooms that are tried, and their steps: half a step moves a corner by a pixel and a half, which the surfaces'
/// peaks are wide enough for.
const TURNS: i32 = 4;
const TURN_STEP: f32 = 2.0;
const ZOOMS: i32 = 3;
const ZOOM_STEP: f32 = 0.04;
/// Gradients weaker than this many grey levels a pixel are noise, whatever the picture.
const NOISE: f32 = 1.5;
/// A block with this much energy (edge pixels, of some 200) counts for half of one full of edges.
const HALF_ENERGY: f32 = 20.0;
/// A number's scale: 1.0 in a field.
pub(super) const ONE: i16 = 127;

/// The edges' directions at each pixel, 160 × `height`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    height: usize,
    /// Real and imaginary part in turn, row by row, each within ±[`ONE`].
    numbers: Vec<i16>,
}

/// By which move what the reference shows lies where it lies in the other picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// To the right, as a share of the picture's width.
    pub right: f32,
    /// Down, as a share of the picture's width.
    pub down: f32,
    /// Clockwise, degrees.
    pub turned: f32,
    /// How many times larger.
    pub zoomed: f32,
}

impl std::fmt::Display for Shift {
    /// `4.4 % of the width to the left, 1.2 % down, turned by 2°, 1.04 times as large`: what of it there is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let along = |share: f32, to: [&str; 2]| {
            let towards = to[usize::from(share < 0.0)];
            (share != 0.0).then(|| format!("{:.1} % of the width {towards}", share.abs() * 100.0))
        };
        let parts = [
            along(self.right, ["to the right", "to the left"]),
            along(self.down, ["down", "up"]),
            (self.turned != 0.0).then(|| {
                let way = if self.turned > 0.0 {
                    "clockwise"
                } else {
                    "counter-clockwise"
                };
                format!("turned by {}° {way}", self.turned.abs())
            }),
            (self.zoomed != 1.0).then(|| format!("{:.2} times as large", self.zoomed)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

impl Shift {
    fn of(x: i32, y: i32, turned: f32, zoomed: f32) -> Self {
        Self {
            right: x as f32 / WIDTH as f32,
            down: y as f32 / WIDTH as f32,
            turned,
            zoomed,
        }
    }
}

/// How well two fields agree, on a scale on which a picture agrees with itself by nearly 1 and two streets by less than 0.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// As the pictures lie, give or take what is tolerated.
    pub here: f32,
    /// Under the best other move.
    pub elsewhere: f32,
    /// That move.
    pub shift: Shift,
    /// The share of blocks in which both pictures have edges that could agree, 0..=1.
    pub structure: f32,
}

impl Field {
    /// The field of a small picture.
    pub fn of(luma: &Luma) -> Self {
        let height = (WIDTH * luma.height / luma.width).clamp(HEIGHTS.0, HEIGHTS.1);
        let small = luma.scaled(WIDTH, height);
        let at = |x: usize, y: usize| f32::from(small[y * WIDTH + x]);
        let mut gradients = vec![(0.0_f32, 0.0_f32); WIDTH * height];
        let mut sum = 0.0;
        for y in 1..height - 1 {
            for x in 1..WIDTH - 1 {
                // Sobel's.
                let [a, b, c] = [at(x - 1, y - 1), at(x, y - 1), at(x + 1, y - 1)];
                let [d, e] = [at(x - 1, y), at(x + 1, y)];
                let [f, g, h] = [at(x - 1, y + 1), at(x, y + 1), at(x + 1, y + 1)];
                let gx = (c + 2.0 * e + h - a - 2.0 * d - f) / 8.0;
                let gy = (f + 2.0 * g + h - a - 2.0 * b - c) / 8.0;
                sum += (gx * gx + gy * gy).sqrt();
                gradients[y * WIDTH + x] = (gx, gy);
            }
        }
        // By the picture's own mean gradient: half the light is half of every gradient, and changes nothing.
        let usual = (sum / gradients.len() as f32).max(NOISE);
        let numbers = gradients.iter().flat_map(|(gx, gy)| {
            let square = gx * gx + gy * gy;
            // (gx + i gy)² has twice the angle; its length is `square`, and is brought to 0..=1.
            let length = f32::from(ONE) / (square + usual * usual);
            [((gx * gx - gy * gy) * length) as i16, (2.0 * gx * gy * length) as i16]
        });
        Self {
            numbers: numbers.collect(),
            height,
        }
    }

    /// From numbers that [`Self::numbers`] gave; `None` where they are not those of a field.
    pub(super) fn from_numbers(numbers: Vec<i16>, height: usize) -> Option<Self> {
        let is_one = (HEIGHTS.0..=HEIGHTS.1).contains(&height)
            && numbers.len() == 2 * WIDTH * height
            && numbers.iter().all(|n| (-ONE..=ONE).contains(n));
        is_one.then_some(Self { height, numbers })
    }

    pub(super) fn numbers(&self) -> &[i16] {
        &self.numbers
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// How the other picture agrees with this, the reference; `None` where they do not have the same shape. A move that
    /// displaces no point of the picture by more than `tolerance`, as a share of its width, is none.
    pub fn agreement(&self, other: &Self, tolerance: f32) -> Option<Agreement> {
        (self.height == other.height).then(|| Surfaces::of(self, other).best(tolerance))
    }

    /// How like the other field this is as a whole, give or take [`JITTER`] pixels; -1..=1. A hundredth of the work of
    /// [`Self::agreement`], and says nothing by itself: uprights agree with any street. It says which of many to compare.
    pub(super) fn likeness(&self, other: &Self) -> f32 {
        if self.height != other.height {
            return -1.0;
        }
        let energy = |f: &Self| dot(&f.numbers, &f.numbers) as f32;
        let shifts = (-JITTER..=JITTER).flat_map(|x| (-JITTER..=JITTER).map(move |y| (x, y)));
        let best = shifts.map(|(x, y)| self.product(other, x, y)).fold(f32::MIN, f32::max);
        best / (energy(self) * energy(other)).sqrt().max(1.0)
    }

    /// Their product, with the other moved by so many pixels.
    fn product(&self, other: &Self, right: i32, down: i32) -> f32 {
        // A pixel is two numbers. Rows that the move wraps around differ by a pixel or two of 160: it is no matter.
        let by = (right + down * WIDTH as i32) * 2;
        let (from, to) = (by.max(0) as usize, (-by).max(0) as usize);
        let length = self.numbers.len() - from.max(to);
        dot(&self.numbers[from..][..length], &other.numbers[to..][..length]) as f32
    }

    /// The share of its blocks that have edges, 0..=1.
    pub(super) fn structure(&self) -> f32 {
        let weights = Block::all(self.height).map(|b| weight(self.energy(&b)));
        let (count, sum) = weights.fold((0, 0.0), |(count, sum), w| (count + 1, sum + w));
        sum / count as f32
    }

    /// Edge pixels in a block's correlated rows.
    fn energy(&self, block: &Block) -> f32 {
        let rows = block.rows().map(|y| &self.numbers[(y * WIDTH + block.x) * 2..][..ROW]);
        rows.map(|row| dot(row, row)).sum::<i32>() as f32 / SQUARE
    }
}

/// Pixels by which a mount sways.
const JITTER: i32 = 2;
/// What two ones multiply to.
const SQUARE: f32 = ONE as f32 * ONE as f32;

fn weight(energy: f32) -> f32 {
    energy / (energy + HALF_ENERGY)
}

/// Fits an `i32` for whole fields, too: the largest has 102,400 numbers within ±127.
#[inline]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// One block of the reference.
struct Block {
    x: usize,
    y: usize,
    height: usize,
}

impl Block {
    fn all(height: usize) -> impl Iterator<Item = Self> {
        let rows = ((height + BLOCK / 2) / BLOCK).max(1);
        let high = height / rows;
        (0..rows * (WIDTH / BLOCK)).map(move |i| Self {
            x: i % (WIDTH / BLOCK) * BLOCK,
            y: i / (WIDTH / BLOCK) * high,
            height: high,
        })
    }

    fn rows(&self) -> impl Iterator<Item = usize> + use<> {
        (self.y..self.y + self.height).step_by(ROW_STEP)
    }

    /// Its middle, from the picture's.
    fn middle(&self, height: usize) -> (f32, f32) {
        (
            (self.x as f32 + BLOCK as f32 / 2.0) - WIDTH as f32 / 2.0,
            (self.y as f32 + self.height as f32 / 2.0) - height as f32 / 2.0,
        )
    }
}

/// Each block's correlation over all shifts, less its mean: a street's uprights agree with any other street's.
struct Surfaces {
    height: usize,
    blocks: Vec<Block>,
    /// [`SHIFTS`] a block.
    values: Vec<f32>,
    /// What a picture that agrees everywhere could reach.
    most: f32,
    structure: f32,
}

impl Surfaces {
    fn of(reference: &Field, other: &Field) -> Self {
        let height = reference.height;
        let reach = REACH as usize;
        // Nothing lies beyond the rim.
        let stride = (WIDTH + 2 * reach) * 2;
        let mut padded = vec![0_i16; stride * (height + 2 * reach)];
        for (row, line) in other.numbers.chunks_exact(2 * WIDTH).enumerate() {
            padded[(row + reach) * stride + 2 * reach..][..2 * WIDTH].copy_from_slice(line);
        }
        let blocks: Vec<Block> = Block::all(height).collect();
        let mut values = Vec::with_capacity(blocks.len() * SHIFTS);
        let (mut most, mut structure) = (0.0, 0.0);
        let mut template: Vec<i16> = Vec::new();
        for block in &blocks {
            template.clear();
            for y in block.rows() {
                template.extend_from_slice(&reference.numbers[(y * WIDTH + block.x) * 2..][..ROW]);
            }
            let (mine, theirs) = (reference.energy(block), other.energy(block));
            let scale = 1.0 / ((mine * theirs).sqrt() + HALF_ENERGY) / SQUARE;
            let start = values.len();
            for dy in 0..SPAN as usize {
                for dx in 0..SPAN as usize {
                    let window = &padded[(block.y + dy) * stride + (block.x + dx) * 2..];
                    let rows = template.chunks_exact(ROW).zip(window.chunks(ROW_STEP * stride));
                    let sum: i32 = rows.map(|(a, b)| dot(a, &b[..ROW])).sum();
                    values.push(sum as f32 * scale);
                }
            }
            let mean = values[start..].iter().sum::<f32>() / SHIFTS as f32;
            values[start..].iter_mut().for_each(|v| *v -= mean);
            most += weight(mine);
            structure += weight(mine).min(weight(theirs));
        }
        Self {
            height,
            structure: structure / blocks.len() as f32,
            blocks,
            values,
            most: most.max(1.0),
        }
    }

    fn best(&self, tolerance: f32) -> Agreement {
        let tolerance = tolerance * WIDTH as f32;
        let corner = (WIDTH as f32 / 2.0).hypot(self.height as f32 / 2.0);
        let mut best = Agreement {
            here: f32::MIN,
            elsewhere: f32::MIN,
            shift: Shift::default(),
            structure: self.structure,
        };
        let mut sums = [0.0; SHIFTS];
        let shift = |i: i32| (i % SPAN - REACH, i / SPAN - REACH);
        let lengths: Vec<f32> = (0..SPAN * SPAN)
            .map(|i| (shift(i).0 as f32).hypot(shift(i).1 as f32))
            .collect();
        for turn in -TURNS..=TURNS {
            for zoom in -ZOOMS..=ZOOMS {
                let (turned, zoomed) = (turn as f32 * TURN_STEP, 1.0 + zoom as f32 * ZOOM_STEP);
                let (sin, cos) = turned.to_radians().sin_cos();
                let (cos, sin) = (cos * zoomed, sin * zoomed);
                self.add_up(cos, sin, &mut sums);
                let at_corner = (cos - 1.0).hypot(sin) * corner;
                for ((i, sum), length) in (0..).zip(&sums).zip(&lengths) {
                    if at_corner + length <= tolerance {
                        best.here = best.here.max(*sum);
                    } else if *sum > best.elsewhere {
                        let (x, y) = shift(i);
                        best.elsewhere = *sum;
                        best.shift = Shift::of(x, y, turned, zoomed);
                    }
                }
            }
        }
        best.here /= self.most;
        best.elsewhere /= self.most;
        best
    }

    /// For every shift: the sum over the blocks, each at the shift plus where a turn and zoom about the middle takes it.
    fn add_up(&self, cos: f32, sin: f32, sums: &mut [f32; SHIFTS]) {
        sums.fill(0.0);
        for (block, surface) in self.blocks.iter().zip(self.values.chunks_exact(SHIFTS)) {
            let (x, y) = block.middle(self.height);
            let right = (cos * x - sin * y - x).round() as i32;
            let down = (sin * x + cos * y - y).round() as i32;
            // Shifts that leave the block within reach.
            let (from, to) = (0.max(-right), SPAN.min(SPAN - right));
            if from >= to {
                continue;
            }
            for row in 0.max(-down)..SPAN.min(SPAN - down) {
                let sums = &mut sums[(row * SPAN + from) as usize..(row * SPAN + to) as usize];
                let first = ((row + down) * SPAN + from + right) as usize;
                for (sum, value) in sums.iter_mut().zip(&surface[first..]) {
                    *sum += value;
                }
            }
        }
    }
}
