//! Colour descriptor of a detection, by which the engine tracks it.

use super::{Frame, Layout};
use gridwatch_engine::{Appearance, BBox};

/// Samples per quarter, across and down. 64 samples average the noise out, and the cost stays negligible for a hundred
/// boxes.
const SAMPLES: usize = 8;

impl Frame {
    /// Mean luma and chroma of the four quarters of `bbox`; `None` if it lies outside the frame. The frame must be
    /// [valid](Self::validate).
    pub fn appearance(&self, bbox: &BBox) -> Option<Appearance> {
        let bbox = bbox.within_picture()?;
        let (w, h) = (self.width as usize, self.height as usize);
        let k = self.coefficients();
        let pixel = |from: f32, to: f32, step: usize, size: usize| {
            // The centres of 16 equal parts.
            let at = from + (to - from) * (step as f32 + 0.5) / (2 * SAMPLES) as f32;
            ((at * size as f32) as usize).min(size - 1)
        };
        let mut sums = [[0u32; 3]; 4];
        for row in 0..2 * SAMPLES {
            let y = pixel(bbox.y1, bbox.y2, row, h);
            let luma = self.y_row(y);
            for column in 0..2 * SAMPLES {
                let x = pixel(bbox.x1, bbox.x2, column, w);
                let (u, v) = match self.layout {
                    Layout::I420 => (self.row(1, y / 2)[x / 2], self.row(2, y / 2)[x / 2]),
                    Layout::Nv12 => {
                        let pair = &self.row(1, y / 2)[x / 2 * 2..][..2];
                        (pair[0], pair[1])
                    }
                };
                let sum = &mut sums[row / SAMPLES * 2 + column / SAMPLES];
                for (sum, sample) in sum.iter_mut().zip([luma[x], u, v]) {
                    *sum += u32::from(sample);
                }
            }
        }
        let mut means = [0; 12];
        for (means, sums) in means.chunks_exact_mut(3).zip(sums) {
            let [y, u, v] = sums.map(|sum| sum as f32 / (SAMPLES * SAMPLES) as f32);
            // `as` saturates.
            means.copy_from_slice(&[
                ((y - k.y_offset) * k.y_scale).round() as u8,
                u.round() as u8,
                v.round() as u8,
            ]);
        }
        Some(Appearance(means))
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn appearance_is_the_mean_colour_of_each_quarter() {
        let colours = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]];
        // The white border lies outside the box.
        let picture = RgbImage::from_fn(120, 80, |x, y| match (x, y) {
            (20..100, 20..60) => Rgb(colours[(usize::from(y >= 40)) * 2 + usize::from(x >= 60)]),
            _ => Rgb([255, 255, 255]),
        });
        let frame = Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH).unwrap();
        let bbox = BBox {
            x1: 20.0 / 120.0,
            y1: 0.25,
            x2: 100.0 / 120.0,
            y2: 0.75,
        };
        let Appearance(found) = frame.appearance(&bbox).unwrap();
        for (colour, found) in colours.iter().zip(found.chunks_exact(3)) {
            // RGB to YCbCr as in JFIF.
            let [r, g, b] = colour.map(f32::from);
            let expected = [
                0.299 * r + 0.587 * g + 0.114 * b,
                128.0 - 0.168_736 * r - 0.331_264 * g + 0.5 * b,
                128.0 + 0.5 * r - 0.418_688 * g - 0.081_312 * b,
            ];
            for (expected, found) in expected.iter().zip(found) {
                assert!(
                    (expected - f32::from(*found)).abs() <= 1.0,
                    "{colour:?}: {found}, {expected}"
                );
            }
        }
        let outside = BBox {
            x1: 1.5,
            x2: 1.7,
            ..bbox
        };
        assert_eq!(frame.appearance(&outside), None);
    }
}
