//! A description of a picture that does not depend on the light: the orientations of its edges. Finds the shift, rotation and
//! zoom with which two of them agree best.
//!
//! Orientation correlation (Fitch, Kadyrov, Christmas, Kittler, BMVC 2002): each pixel is a complex number whose angle is
//! the direction of the gradient and whose magnitude tells only whether there is an edge. Here the angle is doubled (as in
//! Bigün & Granlund, ICCV 1987), so that an edge that changes from dark-on-bright to bright-on-dark, as between daylight and
//! infrared, stays the same. Blocks of the reference are correlated over a window of shifts, and the correlation surfaces
//! are summed for each similarity transform. Moving and occluding objects have no transform in common.

use serde::{Deserialize, Serialize};

use super::super::Luma;

/// Width in pixels. The edges of a street are a pixel or two wide at this size, and sensor noise is averaged out.
pub(super) const WIDTH: usize = 160;
/// Least and greatest height in pixels, for streams of any aspect ratio.
const HEIGHTS: (usize, usize) = (16, 320);
/// Width of a block in pixels, and about its height: enough for a corner or two.
const BLOCK: usize = 20;
/// Numbers in a block's row.
const ROW: usize = 2 * BLOCK;
/// Only every second row of a block is correlated, because neighbouring rows are alike.
const ROW_STEP: usize = 2;
/// Largest shift that is tried, in pixels: 5 % of the width. A view displaced further matches nothing, which is detected too.
const REACH: i32 = 8;
/// Number of shifts along one axis.
const SPAN: i32 = 2 * REACH + 1;
const SHIFTS: usize = (SPAN * SPAN) as usize;
/// Rotations (degrees) and zooms that are tried: this many steps in each direction. Half a step moves a corner by one and
/// a half pixels, less than the width of the surfaces' peaks.
const TURNS: i32 = 4;
const TURN_STEP: f32 = 2.0;
const ZOOMS: i32 = 3;
const ZOOM_STEP: f32 = 0.04;
/// Gradients below this, in grey levels per pixel, are noise in any picture.
const NOISE: f32 = 1.5;
/// Energy (edge pixels, of about 200) at which a block has half the weight of one full of edges.
const HALF_ENERGY: f32 = 20.0;
/// The number that stands for 1.0.
pub(super) const ONE: i16 = 127;

/// The orientation of edges at each pixel, 160 × `height`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeField {
    height: usize,
    /// Real and imaginary parts alternating, row by row, each within ±[`ONE`].
    numbers: Vec<i16>,
}

/// The transform from the reference to another picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// Shift to the right, as a share of the picture's width.
    pub right: f32,
    /// Shift down, as a share of the picture's width.
    pub down: f32,
    /// Clockwise rotation in degrees.
    pub turned: f32,
    /// Scale factor.
    pub zoomed: f32,
}

impl std::fmt::Display for Shift {
    /// `4.4 % of the width to the left, 1.2 % down, turned by 2° clockwise, 1.04 times as large`, without the parts that are
    /// zero.
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

/// How well two edge fields agree. A picture agrees with itself by nearly 1, two different streets by less than 0.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Best agreement with a displacement within the tolerance.
    pub here: f32,
    /// Best agreement with a greater displacement.
    pub elsewhere: f32,
    /// The transform of `elsewhere`.
    pub shift: Shift,
    /// Share of blocks with edges in both pictures, 0..=1.
    pub structure: f32,
}

impl EdgeField {
    /// Computes the edge field of a small picture.
    pub fn of(luma: &Luma) -> Self {
        let height = (WIDTH * luma.height / luma.width).clamp(HEIGHTS.0, HEIGHTS.1);
        let small = luma.scaled(WIDTH, height);
        let at = |x: usize, y: usize| f32::from(small[y * WIDTH + x]);
        let mut gradients = vec![(0.0_f32, 0.0_f32); WIDTH * height];
        let mut sum = 0.0;
        for y in 1..height - 1 {
            for x in 1..WIDTH - 1 {
                // Sobel operator.
                let [a, b, c] = [at(x - 1, y - 1), at(x, y - 1), at(x + 1, y - 1)];
                let [d, e] = [at(x - 1, y), at(x + 1, y)];
                let [f, g, h] = [at(x - 1, y + 1), at(x, y + 1), at(x + 1, y + 1)];
                let gx = (c + 2.0 * e + h - a - 2.0 * d - f) / 8.0;
                let gy = (f + 2.0 * g + h - a - 2.0 * b - c) / 8.0;
                sum += (gx * gx + gy * gy).sqrt();
                gradients[y * WIDTH + x] = (gx, gy);
            }
        }
        // Relative to the picture's mean gradient, so that brightness and contrast cancel out.
        let usual = (sum / gradients.len() as f32).max(NOISE);
        let numbers = gradients.iter().flat_map(|(gx, gy)| {
            let square = gx * gx + gy * gy;
            // (gx + i gy)² has twice the angle. Its magnitude `square` is scaled to 0..=1.
            let length = f32::from(ONE) / (square + usual * usual);
            [((gx * gx - gy * gy) * length) as i16, (2.0 * gx * gy * length) as i16]
        });
        Self {
            numbers: numbers.collect(),
            height,
        }
    }

    /// Restores a field from its [`Self::numbers`]; `None` if they are invalid.
    pub(super) fn from_numbers(numbers: Vec<i16>, height: usize) -> Option<Self> {
        let is_valid = (HEIGHTS.0..=HEIGHTS.1).contains(&height)
            && numbers.len() == 2 * WIDTH * height
            && numbers.iter().all(|n| (-ONE..=ONE).contains(n));
        is_valid.then_some(Self { height, numbers })
    }

    pub(super) fn numbers(&self) -> &[i16] {
        &self.numbers
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// Compares another picture with this reference; `None` if their aspect ratios differ. `tolerance` is the largest
    /// displacement of any point, as a share of the picture's width, that counts as in place.
    pub fn agreement(&self, other: &Self, tolerance: f32) -> Option<Agreement> {
        (self.height == other.height).then(|| CorrelationSurfaces::of(self, other).best(tolerance))
    }

    /// Correlation of the whole fields, best of shifts up to [`JITTER`] pixels; -1..=1. Takes a hundredth of the time of
    /// [`Self::agreement`]. It ranks candidates but does not decide by itself, because vertical edges agree on any street.
    pub(super) fn similarity(&self, other: &Self) -> f32 {
        if self.height != other.height {
            return -1.0;
        }
        let energy = |f: &Self| dot(&f.numbers, &f.numbers) as f32;
        let shifts = (-JITTER..=JITTER).flat_map(|x| (-JITTER..=JITTER).map(move |y| (x, y)));
        let best = shifts.map(|(x, y)| self.product(other, x, y)).fold(f32::MIN, f32::max);
        best / (energy(self) * energy(other)).sqrt().max(1.0)
    }

    /// Scalar product with the other field shifted.
    fn product(&self, other: &Self, right: i32, down: i32) -> f32 {
        // A pixel is two numbers. Shifting wraps rows around by a pixel or two of 160, which is negligible.
        let by = (right + down * WIDTH as i32) * 2;
        let (from, to) = (by.max(0) as usize, (-by).max(0) as usize);
        let length = self.numbers.len() - from.max(to);
        dot(&self.numbers[from..][..length], &other.numbers[to..][..length]) as f32
    }

    /// Share of blocks with edges, 0..=1.
    pub(super) fn structure(&self) -> f32 {
        let weights = Block::all(self.height).map(|b| weight(self.energy(&b)));
        let (count, sum) = weights.fold((0, 0.0), |(count, sum), w| (count + 1, sum + w));
        sum / count as f32
    }

    /// Number of edge pixels in a block's correlated rows.
    fn energy(&self, block: &Block) -> f32 {
        let rows = block.rows().map(|y| &self.numbers[(y * WIDTH + block.x) * 2..][..ROW]);
        rows.map(|row| dot(row, row)).sum::<i32>() as f32 / SQUARE
    }
}

/// Sway of a mount, in pixels.
const JITTER: i32 = 2;
/// [`ONE`] squared.
const SQUARE: f32 = ONE as f32 * ONE as f32;

fn weight(energy: f32) -> f32 {
    energy / (energy + HALF_ENERGY)
}

/// Fits an `i32` even for whole fields: the largest has 102,400 numbers within ±127.
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

    /// Its centre, relative to the centre of the picture.
    fn centre(&self, height: usize) -> (f32, f32) {
        (
            (self.x as f32 + BLOCK as f32 / 2.0) - WIDTH as f32 / 2.0,
            (self.y as f32 + self.height as f32 / 2.0) - height as f32 / 2.0,
        )
    }
}

/// The correlation of each block over all shifts. The mean is subtracted, because vertical edges agree on any street.
struct CorrelationSurfaces {
    height: usize,
    blocks: Vec<Block>,
    /// [`SHIFTS`] values per block.
    values: Vec<f32>,
    /// The sum for a perfect agreement.
    perfect: f32,
    structure: f32,
}

impl CorrelationSurfaces {
    fn of(reference: &EdgeField, other: &EdgeField) -> Self {
        let height = reference.height;
        let reach = REACH as usize;
        // Zeros beyond the edge of the picture.
        let stride = (WIDTH + 2 * reach) * 2;
        let mut padded = vec![0_i16; stride * (height + 2 * reach)];
        for (row, line) in other.numbers.chunks_exact(2 * WIDTH).enumerate() {
            padded[(row + reach) * stride + 2 * reach..][..2 * WIDTH].copy_from_slice(line);
        }
        let blocks: Vec<Block> = Block::all(height).collect();
        let mut values = Vec::with_capacity(blocks.len() * SHIFTS);
        let (mut perfect, mut structure) = (0.0, 0.0);
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
            perfect += weight(mine);
            structure += weight(mine).min(weight(theirs));
        }
        Self {
            height,
            structure: structure / blocks.len() as f32,
            blocks,
            values,
            perfect: perfect.max(1.0),
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
                self.sum_up(cos, sin, &mut sums);
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
        best.here /= self.perfect;
        best.elsewhere /= self.perfect;
        best
    }

    /// Sums the surfaces of all blocks for every shift, each displaced by a rotation and zoom about the centre.
    fn sum_up(&self, cos: f32, sin: f32, sums: &mut [f32; SHIFTS]) {
        sums.fill(0.0);
        for (block, surface) in self.blocks.iter().zip(self.values.chunks_exact(SHIFTS)) {
            let (x, y) = block.centre(self.height);
            let right = (cos * x - sin * y - x).round() as i32;
            let down = (sin * x + cos * y - y).round() as i32;
            // Shifts for which the displaced block stays within reach.
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
