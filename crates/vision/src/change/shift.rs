//! Small displacement of a look against the background, as of a mast that sways, and its compensation.
//!
//! The whole-pixel part is the nearest minimum of the clipped absolute difference of the gradients. The rest is solved for by
//! least squares on the linearised difference (Lucas & Kanade 1981), with weights that let moving and new things count little.

use super::{gradient::decode, grid::Grid};

/// Largest displacement that is compensated, in pixels. A view that is displaced further was moved.
const REACH: i32 = 5;
/// Distance of the pixels used from the edges.
const MARGIN: usize = REACH as usize + 2;
/// Only every eighth row is compared: some 15,000 pixels determine two numbers.
const ROW_STEP: usize = 8;
/// A larger difference of two gradients counts as this much: 25 % of the local mean.
const CLIP: i16 = 400;
/// Passes of the least squares.
const PASSES: usize = 2;
/// A displacement must explain at least this share of the difference; below, it is the noise's.
const MIN_GAIN: f32 = 0.02;
/// Displacements below this, in pixels, are not worth resampling for.
const NEGLIGIBLE: f32 = 0.06;

/// A displacement in pixels: what lies at `x`, `y` in the background lies at `x + right`, `y + down` in the look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Displacement {
    pub(super) right: f32,
    pub(super) down: f32,
}

impl Displacement {
    /// Its nearest whole pixels.
    pub(super) fn whole(self) -> (i32, i32) {
        (self.right.round() as i32, self.down.round() as i32)
    }

    pub(super) fn is_negligible(self) -> bool {
        self.right.abs() < NEGLIGIBLE && self.down.abs() < NEGLIGIBLE
    }
}

/// A pair of planes of gradients.
pub(super) struct Field<'a> {
    pub(super) x: &'a [i16],
    pub(super) y: &'a [i16],
}

/// Buffers for [`Registration::displacement`] and [`Registration::resample`].
#[derive(Debug, Clone, Default)]
pub(super) struct Registration {
    /// The background's sampled rows, decoded, with the row above and below each: x and y gradients.
    rows: [Vec<i16>; 2],
    padded: Vec<i16>,
    out: Vec<i16>,
}

/// The part of a row that is compared.
fn inner(width: usize) -> std::ops::Range<usize> {
    MARGIN..width - MARGIN
}

fn sampled_rows(grid: Grid) -> impl Iterator<Item = usize> {
    (MARGIN..grid.height - MARGIN).step_by(ROW_STEP)
}

impl Registration {
    /// Estimates the displacement of `look` against the background given by its stored gradients.
    pub(super) fn displacement(&mut self, look: &Field<'_>, background: [&[i8]; 2], grid: Grid) -> Displacement {
        let width = grid.width;
        for (rows, plane) in self.rows.iter_mut().zip(background) {
            rows.clear();
            for y in sampled_rows(grid) {
                rows.extend(plane[(y - 1) * width..(y + 2) * width].iter().map(|s| decode(*s)));
            }
        }
        let at_rest = self.difference(look, grid, 0, 0);
        let usual = at_rest as f32 / (sampled_rows(grid).count() * inner(width).len() * 2) as f32;
        // Most cameras stand still.
        match self.least_squares(look, grid, Displacement::default(), usual) {
            Some(step) if !step.is_negligible() => {}
            _ => return Displacement::default(),
        }
        let (x, y) = self.nearest_minimum(look, grid, at_rest);
        let mut t = Displacement {
            right: x as f32,
            down: y as f32,
        };
        for _ in 0..PASSES {
            let Some(step) = self.least_squares(look, grid, t, usual) else {
                return Displacement::default();
            };
            t.right = (t.right + step.right.clamp(-1.0, 1.0)).clamp(-REACH as f32, REACH as f32);
            t.down = (t.down + step.down.clamp(-1.0, 1.0)).clamp(-REACH as f32, REACH as f32);
        }
        let off = (t.right - x as f32).abs().max((t.down - y as f32).abs());
        let gain = 1.0 - self.interpolated_difference(look, grid, t) / (at_rest as f32).max(1.0);
        if gain < MIN_GAIN || off > 1.5 {
            Displacement::default()
        } else {
            t
        }
    }

    /// The whole-pixel displacement at the nearest minimum of the difference, downhill from no displacement.
    fn nearest_minimum(&self, look: &Field<'_>, grid: Grid, at_rest: u32) -> (i32, i32) {
        let (mut best, mut least) = ((0_i32, 0_i32), at_rest);
        for _ in 0..2 * REACH {
            let (x, y) = best;
            for (x, y) in [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)] {
                if x.abs().max(y.abs()) <= REACH {
                    let difference = self.difference(look, grid, x, y);
                    if difference < least {
                        (best, least) = ((x, y), difference);
                    }
                }
            }
            if best == (x, y) {
                return best;
            }
        }
        best
    }

    /// Sum of the clipped absolute differences at a whole-pixel displacement.
    fn difference(&self, look: &Field<'_>, grid: Grid, right: i32, down: i32) -> u32 {
        let width = grid.width;
        let mut sum = 0_u32;
        for (i, y) in sampled_rows(grid).enumerate() {
            let start = ((y as i32 + down) as usize * width + MARGIN).wrapping_add_signed(right as isize);
            for (rows, plane) in self.rows.iter().zip([look.x, look.y]) {
                let known = &rows[(3 * i + 1) * width..][inner(width)];
                let found = &plane[start..][..known.len()];
                let row: u32 = known
                    .iter()
                    .zip(found)
                    .map(|(a, b)| (a - b).abs().min(CLIP) as u32)
                    .sum();
                sum += row;
            }
        }
        sum
    }

    /// One pass of least squares at displacement `t`; `None` if the picture has too few edges in some direction. `usual` is
    /// the usual difference of two gradients.
    fn least_squares(&self, look: &Field<'_>, grid: Grid, t: Displacement, usual: f32) -> Option<Displacement> {
        let width = grid.width;
        let (interpolation, x0) = (Bilinear::at(t), t.right.floor() as isize);
        let weight_scale = 1.0 / (4.0 * usual * usual).max(1.0);
        let [mut xx, mut xy, mut yy, mut xe, mut ye] = [0.0_f32; 5];
        for (i, y) in sampled_rows(grid).enumerate() {
            let first = (y as isize + t.down.floor() as isize) as usize * width + MARGIN;
            let first = first.wrapping_add_signed(x0);
            for (rows, plane) in self.rows.iter().zip([look.x, look.y]) {
                let above = &rows[3 * i * width..][inner(width)];
                let here = &rows[(3 * i + 1) * width + MARGIN - 1..][..above.len() + 2];
                let below = &rows[(3 * i + 2) * width..][inner(width)];
                let n = above.len();
                let (a, b) = (&plane[first..][..n + 1], &plane[first + width..][..n + 1]);
                let [mut rxx, mut rxy, mut ryy, mut rxe, mut rye] = [[0.0_f32; LANES]; 5];
                for k in (0..n - LANES + 1).step_by(LANES) {
                    for l in 0..LANES {
                        let j = k + l;
                        let found = interpolation.between(a[j], a[j + 1], b[j], b[j + 1]);
                        let e = f32::from(here[j + 1]) - found;
                        let jx = f32::from(here[j + 2] - here[j]) * 0.5;
                        let jy = f32::from(below[j] - above[j]) * 0.5;
                        let w = 1.0 / (1.0 + e * e * weight_scale);
                        rxx[l] += w * jx * jx;
                        rxy[l] += w * jx * jy;
                        ryy[l] += w * jy * jy;
                        rxe[l] += w * jx * e;
                        rye[l] += w * jy * e;
                    }
                }
                let total = |lanes: [f32; LANES]| lanes.iter().sum::<f32>();
                xx += total(rxx);
                xy += total(rxy);
                yy += total(ryy);
                xe += total(rxe);
                ye += total(rye);
            }
        }
        let determinant = xx * yy - xy * xy;
        // Edges in one direction only leave the other undetermined.
        (determinant > 0.02 * xx * yy && determinant > 0.0).then(|| Displacement {
            right: (yy * xe - xy * ye) / determinant,
            down: (xx * ye - xy * xe) / determinant,
        })
    }

    /// Like [`Self::difference`], between pixels.
    fn interpolated_difference(&self, look: &Field<'_>, grid: Grid, t: Displacement) -> f32 {
        let width = grid.width;
        let interpolation = Bilinear::at(t);
        let mut sum = 0.0;
        for (i, y) in sampled_rows(grid).enumerate() {
            let first = (y as isize + t.down.floor() as isize) as usize * width + MARGIN;
            let first = first.wrapping_add_signed(t.right.floor() as isize);
            for (rows, plane) in self.rows.iter().zip([look.x, look.y]) {
                let known = &rows[(3 * i + 1) * width..][inner(width)];
                let n = known.len();
                let (a, b) = (&plane[first..][..n + 1], &plane[first + width..][..n + 1]);
                let differences = (0..n).map(|j| {
                    let found = interpolation.between(a[j], a[j + 1], b[j], b[j + 1]);
                    (f32::from(known[j]) - found).abs().min(f32::from(CLIP))
                });
                sum += differences.sum::<f32>();
            }
        }
        sum
    }

    /// Moves a plane of gradients back by `t`, in place.
    pub(super) fn resample(&mut self, plane: &mut Vec<i16>, grid: Grid, t: Displacement) {
        const ONE: f32 = 128.0;
        let Grid { width, height, .. } = grid;
        let (x0, y0) = (t.right.floor(), t.down.floor());
        let (fx, fy) = (((t.right - x0) * ONE) as i32, ((t.down - y0) * ONE) as i32);
        let pad = REACH as usize + 1;
        self.padded.resize(width + 2 * pad + 1, 0);
        self.out.resize(plane.len(), 0);
        let row = |y: i32| y.clamp(0, height as i32 - 1) as usize * width;
        for y in 0..height {
            let upper = &plane[row(y as i32 + y0 as i32)..][..width];
            let lower = &plane[row(y as i32 + y0 as i32 + 1)..][..width];
            let middle = &mut self.padded[pad..pad + width];
            for ((out, a), b) in middle.iter_mut().zip(upper).zip(lower) {
                *out = ((i32::from(*a) * (ONE as i32 - fy) + i32::from(*b) * fy) / ONE as i32) as i16;
            }
            let (first, last) = (self.padded[pad], self.padded[pad + width - 1]);
            self.padded[..pad].fill(first);
            self.padded[pad + width..].fill(last);
            let source = &self.padded[(pad as i32 + x0 as i32) as usize..];
            let out = &mut self.out[y * width..][..width];
            for ((out, a), b) in out.iter_mut().zip(source).zip(&source[1..]) {
                *out = ((i32::from(*a) * (ONE as i32 - fx) + i32::from(*b) * fx) / ONE as i32) as i16;
            }
        }
        std::mem::swap(plane, &mut self.out);
    }
}

/// Sums kept apart, so that the loop vectorises although float addition is not associative.
const LANES: usize = 8;

/// Weights of the four pixels around a point.
struct Bilinear([f32; 4]);

impl Bilinear {
    fn at(t: Displacement) -> Self {
        let (fx, fy) = (t.right - t.right.floor(), t.down - t.down.floor());
        Self([(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy])
    }

    #[inline]
    fn between(&self, a: i16, b: i16, c: i16, d: i16) -> f32 {
        let [wa, wb, wc, wd] = self.0;
        f32::from(a) * wa + f32::from(b) * wb + f32::from(c) * wc + f32::from(d) * wd
    }
}
