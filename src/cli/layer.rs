//! Anti-aliased lines, arrows and digits for the pictures that commands draw.

use image::{Rgb, RgbImage};

/// Coverage of each pixel, 0..=1, by strokes of one colour. Overlapping strokes take the maximum and do not darken each other.
#[derive(Clone)]
pub struct Layer {
    width: usize,
    height: usize,
    cover: Vec<f32>,
}

impl Layer {
    /// An empty layer of the size of `picture`.
    pub fn of(picture: &RgbImage) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Self {
            width,
            height,
            cover: vec![0.0; width * height],
        }
    }

    /// Draws a line with round ends, `2 * half` pixels wide.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), half: f64) {
        let margin = half + 1.0;
        let span = |a: f64, b: f64, size: usize| {
            let start = (a.min(b) - margin).floor().max(0.0) as usize;
            start..((a.max(b) + margin).ceil().max(0.0) as usize).min(size)
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let squared = dx * dx + dy * dy;
        for y in span(from.1, to.1, self.height) {
            for x in span(from.0, to.0, self.width) {
                let (px, py) = (x as f64 + 0.5 - from.0, y as f64 + 0.5 - from.1);
                let along = if squared > 0.0 {
                    ((px * dx + py * dy) / squared).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let distance = (px - along * dx).hypot(py - along * dy);
                let cover = (half + 0.5 - distance).clamp(0.0, 1.0) as f32;
                let pixel = &mut self.cover[y * self.width + x];
                *pixel = pixel.max(cover);
            }
        }
    }

    /// Draws the closed polygon through `corners`.
    pub fn polygon(&mut self, corners: &[(f64, f64)], half: f64) {
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            self.line(*from, *to, half);
        }
    }

    /// Draws a circle.
    pub(super) fn ring(&mut self, centre: (f64, f64), radius: f64, half: f64) {
        let corner = |i: u32| {
            let (sin, cos) = (f64::from(i) / 24.0 * std::f64::consts::TAU).sin_cos();
            (centre.0 + radius * cos, centre.1 + radius * sin)
        };
        for i in 0..24 {
            self.line(corner(i), corner(i + 1), half);
        }
    }

    /// Fills a square, given its top left corner.
    fn square(&mut self, (left, top): (f64, f64), size: f64) {
        let span = |from: f64, size: f64, limit: usize| {
            let start = from.round().max(0.0) as usize;
            start..((from + size).round().max(0.0) as usize).min(limit)
        };
        for y in span(top, size, self.height) {
            for x in span(left, size, self.width) {
                self.cover[y * self.width + x] = 1.0;
            }
        }
    }

    /// Draws an arrow, `unit` being its line's half width; nothing if it is shorter than 2 px, the accuracy of a mouse click.
    pub(super) fn arrow(&mut self, from: (f64, f64), to: (f64, f64), unit: f64) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        if length < 2.0 {
            return;
        }
        self.line(from, to, unit);
        let (x, y) = (dx / length, dy / length);
        let head = (5.0 * unit).min(length);
        for side in [-0.6, 0.6] {
            let end = (to.0 - head * (x - side * y), to.1 - head * (y + side * x));
            self.line(to, end, unit);
        }
    }

    /// Draws digits, `-`, `:` and `.` in a 3×5 font of `dot`-pixel squares, from the top left. Any other character becomes a point.
    pub fn text(&mut self, text: &str, (left, top): (f64, f64), dot: f64) {
        for (n, character) in text.chars().enumerate() {
            // One bit per dot, row by row from the top left.
            let dots: u16 = match character {
                '0' => 0b111_101_101_101_111,
                '1' => 0b010_110_010_010_111,
                '2' => 0b111_001_111_100_111,
                '3' => 0b111_001_111_001_111,
                '4' => 0b101_101_111_001_001,
                '5' => 0b111_100_111_001_111,
                '6' => 0b111_100_111_101_111,
                '7' => 0b111_001_001_001_001,
                '8' => 0b111_101_111_101_111,
                '9' => 0b111_101_111_001_111,
                '-' => 0b000_000_111_000_000,
                ':' => 0b000_010_000_010_000,
                ' ' => 0,
                _ => 0b000_000_000_000_010,
            };
            for i in (0..15).filter(|i| dots >> (14 - i) & 1 == 1) {
                let x = left + (n as f64 * 4.0 + f64::from(i % 3)) * dot;
                let y = top + f64::from(i / 3) * dot;
                self.square((x, y), dot);
            }
        }
    }

    /// Blends the strokes into `picture` in `colour`, with a black outline of `outline_px` pixels and the opacity
    /// `outline_strength`, 0..=1.
    pub fn over_outlined(&self, picture: &mut RgbImage, colour: Rgb<u8>, outline_px: u32, outline_strength: f32) {
        let outline = (0..outline_px).fold(self.clone(), |layer, _| layer.grown());
        outline.over(picture, Rgb([0; 3]), outline_strength);
        self.over(picture, colour, 1.0);
    }

    /// Dilated by one pixel.
    pub(super) fn grown(self) -> Self {
        let Self { width, height, cover } = self;
        let mut grown = cover.clone();
        for y in 0..height {
            for x in 0..width {
                let here = cover[y * width + x];
                if here == 0.0 {
                    continue;
                }
                for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                    for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                        let pixel = &mut grown[near_y * width + near_x];
                        *pixel = pixel.max(here);
                    }
                }
            }
        }
        Self {
            width,
            height,
            cover: grown,
        }
    }

    /// Blends `colour` into `picture` with the opacity `strength`, 0..=1.
    pub fn over(&self, picture: &mut RgbImage, colour: Rgb<u8>, strength: f32) {
        for (pixel, cover) in picture.pixels_mut().zip(&self.cover).filter(|(_, c)| **c > 0.0) {
            for (value, target) in pixel.0.iter_mut().zip(colour.0) {
                let alpha = cover * strength;
                *value = (f32::from(*value) * (1.0 - alpha) + f32::from(target) * alpha).round() as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strokes_outside_the_picture_are_clipped() {
        const RED: Rgb<u8> = Rgb([255, 40, 40]);
        let mut picture = RgbImage::new(20, 10);
        let mut layer = Layer::of(&picture);
        layer.line((-50.0, 5.0), (70.0, 5.0), 1.0);
        layer.arrow((5.0, -30.0), (5.0, 90.0), 1.0);
        layer.text("-12.5", (15.0, 8.0), 3.0);
        layer.grown().over(&mut picture, RED, 1.0);
        assert_eq!(picture.get_pixel(19, 5), &RED);
        assert_eq!(picture.get_pixel(10, 1), &Rgb([0, 0, 0]));
    }
}
