//! Gradients of luma relative to the local brightness, and their compact form.
//!
//! A gradient is given in 1/16 of a percent of the mean luma around it, so that a change of exposure or a soft shadow hardly
//! changes it. Learned gradients are kept as one signed byte `s` with the value `s·|s|/4`: faint gradients of a pavement keep
//! a resolution below the sensor's noise, and strong ones a relative error of about 1 %.

use super::grid::Grid;

/// Units of a gradient in one percent of the local mean.
pub(super) const PER_PERCENT: f32 = 16.0;
/// The largest gradient: that of the largest byte.
const MAX: i16 = 4032;
/// Half the side of the window of the local mean, in pixels.
const REACH: usize = 4;
const WINDOW: usize = 2 * REACH + 1;
/// Added to the local mean, so that gradients in the dark are not mostly noise.
const DARK: usize = 20;

/// Horizontal and vertical gradients of one picture, row by row.
#[derive(Debug, Clone)]
pub(super) struct Gradients {
    pub(super) x: Vec<i16>,
    pub(super) y: Vec<i16>,
    smooth: Vec<i16>,
    padded: Vec<i16>,
    columns: Vec<u16>,
    factors: Vec<f32>,
}

/// Rounds to the nearest integer within ±2²². Adding 1.5·2²³ leaves the integer in the low bits of the mantissa: a conversion
/// that vectorises, where `as` checks for values out of range.
#[inline]
pub(super) fn round(value: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (value + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// The value of a stored byte, including fractions.
#[inline]
pub(super) fn decode_exactly(stored: i8) -> f32 {
    let s = f32::from(stored);
    s * s.abs() * 0.25
}

/// The value of a stored byte.
#[inline]
pub(super) fn decode(stored: i8) -> i16 {
    let s = i16::from(stored);
    s * s.abs() / 4
}

/// The byte nearest to a gradient.
#[inline]
pub(super) fn encode(gradient: f32) -> i8 {
    let root = (gradient.abs().min(f32::from(MAX)) * 4.0).sqrt();
    round(root.copysign(gradient)) as i8
}

/// One of the two bytes around a gradient, the upper one if `chance` (0..1) is below the fraction, so that the mean over many
/// updates keeps what a single one loses.
#[inline]
pub(super) fn encode_dithered(gradient: f32, chance: f32) -> i8 {
    let square = gradient.abs().min(f32::from(MAX)) * 4.0;
    // Rounded down; one too many of an exact square is harmless.
    let root = round(square.sqrt() - 0.499_99) as f32;
    let fraction = (square - root * root) / (2.0 * root + 1.0);
    let root = root + if fraction > chance { 1.0 } else { 0.0 };
    round(root.min(127.0).copysign(gradient)) as i8
}

impl Gradients {
    pub(super) fn new(grid: Grid) -> Self {
        let pixels = grid.pixels();
        Self {
            x: vec![0; pixels],
            y: vec![0; pixels],
            smooth: vec![0; pixels],
            padded: Vec::new(),
            columns: Vec::new(),
            factors: vec![0.0; grid.width],
        }
    }

    /// Computes the gradients of `luma`. Beyond the edges the picture is continued with its last samples.
    pub(super) fn compute(&mut self, luma: &[u8], grid: Grid) {
        self.smooth(luma, grid);
        let Grid { width, height, .. } = grid;
        self.columns.clear();
        self.columns.resize(width + 2 * REACH, 0);
        let row_of = |y: usize| &luma[y.min(height - 1) * width..][..width];
        let columns = &mut self.columns[REACH..REACH + width];
        for i in 0..WINDOW {
            for (sum, &sample) in columns.iter_mut().zip(row_of(i.saturating_sub(REACH))) {
                *sum += u16::from(sample);
            }
        }
        for y in 0..height {
            self.update_factors(width);
            let above = &self.smooth[y.saturating_sub(1) * width..][..width];
            let here = &self.smooth[y * width..][..width];
            let below = &self.smooth[(y + 1).min(height - 1) * width..][..width];
            let out = &mut self.y[y * width..][..width];
            for (((out, a), b), factor) in out.iter_mut().zip(above).zip(below).zip(&self.factors) {
                *out = scaled(b - a, *factor);
            }
            let out = &mut self.x[y * width..][..width];
            out[0] = scaled(here[1] - here[0], self.factors[0]);
            out[width - 1] = scaled(here[width - 1] - here[width - 2], self.factors[width - 1]);
            let inner = out[1..width - 1].iter_mut();
            for (((out, a), b), factor) in inner.zip(here).zip(&here[2..]).zip(&self.factors[1..]) {
                *out = scaled(b - a, *factor);
            }
            let (leaving, coming) = (row_of(y.saturating_sub(REACH)), row_of(y + REACH + 1));
            let columns = &mut self.columns[REACH..REACH + width];
            for ((sum, &old), &new) in columns.iter_mut().zip(leaving).zip(coming) {
                *sum = *sum + u16::from(new) - u16::from(old);
            }
        }
    }

    /// Smooths with the binomial filter 1-2-1 both ways; the sum, 16 times the mean, is kept.
    fn smooth(&mut self, luma: &[u8], grid: Grid) {
        let Grid { width, height, .. } = grid;
        self.padded.resize(width + 2, 0);
        for y in 0..height {
            let above = &luma[y.saturating_sub(1) * width..][..width];
            let here = &luma[y * width..][..width];
            let below = &luma[(y + 1).min(height - 1) * width..][..width];
            let padded = &mut self.padded[1..=width];
            for (((out, &a), &b), &c) in padded.iter_mut().zip(above).zip(here).zip(below) {
                *out = i16::from(a) + 2 * i16::from(b) + i16::from(c);
            }
            self.padded[0] = self.padded[1];
            self.padded[width + 1] = self.padded[width];
            let (left, middle, right) = (&self.padded[..width], &self.padded[1..], &self.padded[2..]);
            let out = &mut self.smooth[y * width..][..width];
            for (((out, a), b), c) in out.iter_mut().zip(left).zip(middle).zip(right) {
                *out = a + 2 * b + c;
            }
        }
    }

    /// The factor from a difference in the smoothed picture to a gradient, for each column of the current row.
    fn update_factors(&mut self, width: usize) {
        const SCALE: f32 = (WINDOW * WINDOW) as f32 * 100.0 * PER_PERCENT / 16.0;
        const BIAS: f32 = (WINDOW * WINDOW * DARK) as f32;
        let (first, last) = (self.columns[REACH], self.columns[REACH + width - 1]);
        self.columns[..REACH].fill(first);
        self.columns[REACH + width..].fill(last);
        let columns = &self.columns[..width + 2 * REACH];
        for (factor, window) in self.factors.iter_mut().zip(columns.windows(WINDOW)) {
            // At most 81 · 255.
            let sum: u16 = window.iter().sum();
            *factor = SCALE / (f32::from(sum) + BIAS);
        }
    }
}

#[inline]
fn scaled(difference: i16, factor: f32) -> i16 {
    let max = f32::from(MAX);
    round((f32::from(difference) * factor).clamp(-max, max)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_gradients_are_within_their_resolution() {
        for gradient in -4100..=4100 {
            let stored = f32::from(decode(encode(gradient as f32)));
            let expected = (gradient as f32).clamp(-4032.0, 4032.0);
            let step = (expected.abs() * 4.0).sqrt() / 4.0 + 1.0;
            assert!((stored - expected).abs() <= step, "{gradient}: {stored}");
        }
    }

    #[test]
    fn dithering_keeps_the_mean() {
        for gradient in [-3000.0, -77.3, -1.3, 0.0, 0.6, 10.1, 250.0_f32] {
            let n = 1000;
            let sum: f32 = (0..n)
                .map(|i| {
                    let s = f32::from(encode_dithered(gradient, (i as f32 + 0.5) / n as f32));
                    s * s.abs() / 4.0
                })
                .sum();
            let mean = sum / n as f32;
            assert!(
                (mean - gradient).abs() < 0.01 * gradient.abs() + 0.05,
                "{gradient}: {mean}"
            );
        }
    }

    #[test]
    fn gradients_do_not_depend_on_the_exposure() {
        let grid = Grid::of_cells(20, 20).unwrap();
        let luma = |gain: f32| -> Vec<u8> {
            let at = |i: usize| 100.0 + 60.0 * ((i % 60) as f32 / 7.0).sin() * ((i / 60) as f32 / 5.0).cos();
            (0..grid.pixels()).map(|i| (at(i) * gain) as u8).collect()
        };
        let (mut one, mut other) = (Gradients::new(grid), Gradients::new(grid));
        one.compute(&luma(1.0), grid);
        other.compute(&luma(0.7), grid);
        let norm = |plane: &[i16]| plane.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let difference: Vec<i16> = one.x.iter().zip(&other.x).map(|(a, b)| a - b).collect();
        assert!(norm(&difference) < 0.02 * norm(&one.x));
    }
}
