//! Samples a rotated rectangle of a frame, upright and scaled, from the decoder's YUV planes into a network's input tensor.
//!
//! Upscaling interpolates bilinearly; downscaling averages several bilinear samples per target pixel. Outside the frame the edge
//! samples are repeated. No buffer of the size of the frame is allocated or copied.

use super::lines::LineBox;
use crate::manifest::Colour;
use gridwatch_frame::{Frame, Layout};

/// A rectangle of the picture and the target size it is sampled to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Crop {
    /// Top left corner, in pixels of the picture.
    pub(super) origin: [f32; 2],
    /// Step from one target column to the next, in pixels of the picture.
    pub(super) right: [f32; 2],
    /// Step from one target row to the next, in pixels of the picture.
    pub(super) down: [f32; 2],
    /// Target width in pixels.
    pub(super) width: usize,
    /// Target height in pixels.
    pub(super) height: usize,
}

/// Conversion of samples to the network's input values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Normalisation {
    /// Order of the channels.
    pub(super) colour: Colour,
    /// Subtracted from samples of 0..=255, per channel.
    pub(super) mean: [f32; 3],
    /// Divisor applied next, per channel.
    pub(super) std: [f32; 3],
}

impl Crop {
    /// An axis-aligned part of the picture (left, top, right, bottom in pixels), at `scale` target pixels per picture pixel.
    pub(super) fn of_part([x1, y1, x2, y2]: [u32; 4], scale: f32) -> Self {
        let side = |from: u32, to: u32| (((to - from) as f32 * scale).round() as usize).max(1);
        let (width, height) = (side(x1, x2), side(y1, y2));
        Self {
            origin: [x1 as f32, y1 as f32],
            right: [(x2 - x1) as f32 / width as f32, 0.0],
            down: [0.0, (y2 - y1) as f32 / height as f32],
            width,
            height,
        }
    }

    /// A line of text scaled to `height` pixels. Its width follows the aspect ratio up to `max_width`; longer lines are squeezed.
    pub(super) fn of_line(line: &LineBox, height: usize, max_width: usize) -> Self {
        let natural_width = (height as f32 * line.width / line.height).round() as usize;
        let width = natural_width.clamp(1, max_width);
        let (sin, cos) = line.angle.sin_cos();
        let (along, across) = (line.width / width as f32, line.height / height as f32);
        Self {
            origin: line.corners()[0],
            right: [cos * along, sin * along],
            down: [-sin * across, cos * across],
            width,
            height,
        }
    }

    /// Converts a point from target pixels to picture pixels.
    pub(super) fn in_picture(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [0, 1].map(|i| self.origin[i] + self.right[i] * x + self.down[i] * y)
    }

    /// Replaces `out` with a tensor `[3, rows, columns]`. Values to the right of and below the crop are zero. The frame must be
    /// [valid](Frame::validate).
    ///
    /// # Panics
    /// If the crop is wider than `columns` or higher than `rows`.
    pub(super) fn draw(
        &self,
        frame: &Frame,
        normalisation: &Normalisation,
        columns: usize,
        rows: usize,
        out: &mut Vec<f32>,
    ) {
        assert!(
            self.width <= columns && self.height <= rows,
            "the crop must fit into the tensor"
        );
        out.clear();
        out.resize(3 * columns * rows, 0.0);
        let (first, rest) = out.split_at_mut(columns * rows);
        let (second, third) = rest.split_at_mut(columns * rows);
        let k = frame.coefficients();
        let planes = Samples::of(frame);
        // Samples per target pixel: one per picture pixel that it covers.
        let steps = |v: [f32; 2]| (v[0].hypot(v[1]).ceil() as usize).max(1);
        let (across, down) = (steps(self.right), steps(self.down));
        let share = 1.0 / (across * down) as f32;
        for y in 0..self.height {
            let row = y * columns..y * columns + self.width;
            let targets = first[row.clone()]
                .iter_mut()
                .zip(&mut second[row.clone()])
                .zip(&mut third[row]);
            for (x, ((first, second), third)) in targets.enumerate() {
                let mut yuv = [0.0; 3];
                for j in 0..down {
                    for i in 0..across {
                        let part = |n: usize, of: usize| (n as f32 + 0.5) / of as f32;
                        let sample = planes.at(self.in_picture([x as f32 + part(i, across), y as f32 + part(j, down)]));
                        for (sum, v) in yuv.iter_mut().zip(sample) {
                            *sum += v * share;
                        }
                    }
                }
                let luma = (yuv[0] - k.y_offset) * k.y_scale;
                let (u, v) = (yuv[1] - 128.0, yuv[2] - 128.0);
                let rgb = [luma + k.rv * v, luma + k.gu * u + k.gv * v, luma + k.bu * u];
                let [a, b, c] = match normalisation.colour {
                    Colour::Rgb => rgb,
                    Colour::Bgr => [rgb[2], rgb[1], rgb[0]],
                };
                let scaled = |v: f32, i: usize| (v.clamp(0.0, 255.0) - normalisation.mean[i]) / normalisation.std[i];
                (*first, *second, *third) = (scaled(a, 0), scaled(b, 1), scaled(c, 2));
            }
        }
    }
}

/// Access to the Y, U and V samples in either plane layout.
struct Samples<'a> {
    luma: Channel<'a>,
    u: Channel<'a>,
    v: Channel<'a>,
}

struct Channel<'a> {
    data: &'a [u8],
    stride: usize,
    /// Bytes from one sample of a row to the next.
    step: usize,
    /// Column and row of the last sample.
    last: [usize; 2],
}

impl<'a> Samples<'a> {
    fn of(frame: &'a Frame) -> Self {
        let channel = |plane: usize, offset: usize, step: usize| {
            let (row, rows) = frame.plane_size(plane);
            let p = frame.planes[plane];
            Channel {
                data: &frame.data[p.offset + offset..],
                stride: p.stride,
                step,
                last: [row / step - 1, rows - 1],
            }
        };
        let (u, v) = match frame.layout {
            Layout::I420 => (channel(1, 0, 1), channel(2, 0, 1)),
            Layout::Nv12 => (channel(1, 0, 2), channel(1, 1, 2)),
        };
        Self {
            luma: channel(0, 0, 1),
            u,
            v,
        }
    }

    /// Y, U and V at a point of the picture. Sample values apply to pixel centres; a chroma sample covers 2×2 pixels.
    fn at(&self, [x, y]: [f32; 2]) -> [f32; 3] {
        let chroma = [x / 2.0 - 0.5, y / 2.0 - 0.5];
        [self.luma.at([x - 0.5, y - 0.5]), self.u.at(chroma), self.v.at(chroma)]
    }
}

impl Channel<'_> {
    /// Bilinear interpolation of the four nearest samples.
    fn at(&self, at: [f32; 2]) -> f32 {
        let axis = |i: usize| {
            let at = at[i].clamp(0.0, self.last[i] as f32);
            let low = at as usize;
            (low, (low + 1).min(self.last[i]), at - low as f32)
        };
        let (x0, x1, px) = axis(0);
        let (y0, y1, py) = axis(1);
        let sample = |x: usize, y: usize| f32::from(self.data[y * self.stride + x * self.step]);
        let upper = sample(x0, y0) + (sample(x1, y0) - sample(x0, y0)) * px;
        let lower = sample(x0, y1) + (sample(x1, y1) - sample(x0, y1)) * px;
        upper + (lower - upper) * py
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use jiff::Timestamp;

    use super::*;

    const PLAIN: Normalisation = Normalisation {
        colour: Colour::Rgb,
        mean: [0.0; 3],
        std: [1.0; 3],
    };

    fn slope() -> Frame {
        let picture = RgbImage::from_fn(80, 60, |x, y| Rgb([20 + x as u8 * 2, 30 + y as u8 * 3, 90]));
        Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH).unwrap()
    }

    fn drawn(crop: &Crop, frame: &Frame, columns: usize, rows: usize) -> Vec<f32> {
        let mut out = vec![7.0];
        crop.draw(frame, &PLAIN, columns, rows, &mut out);
        out
    }

    #[test]
    fn a_rotated_line_is_sampled_upright() {
        let frame = slope();
        for degrees in [0.0_f32, 15.0, -40.0, 80.0] {
            let line = LineBox {
                centre: [40.0, 30.0],
                width: 30.0,
                height: 10.0,
                angle: degrees.to_radians(),
                score: 1.0,
            };
            for high in [5, 10, 23] {
                let crop = Crop::of_line(&line, high, 1000);
                assert_eq!((crop.width, crop.height), (high * 3, high));
                let out = drawn(&crop, &frame, crop.width, high);
                let (sin, cos) = line.angle.sin_cos();
                for y in 0..high {
                    for x in 0..crop.width {
                        // The colours are linear in x and y, so the mean over a pixel equals the value at its centre.
                        let along = ((x as f32 + 0.5) / crop.width as f32 - 0.5) * 30.0;
                        let across = ((y as f32 + 0.5) / high as f32 - 0.5) * 10.0;
                        let (px, py) = (40.0 + along * cos - across * sin, 30.0 + along * sin + across * cos);
                        let expected = [20.0 + (px - 0.5) * 2.0, 30.0 + (py - 0.5) * 3.0, 90.0];
                        for (c, expected) in expected.into_iter().enumerate() {
                            let found = out[c * crop.width * high + y * crop.width + x];
                            assert!(
                                (found - expected).abs() < 4.0,
                                "{degrees}° {x},{y} {c}: {found} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_at_scale_one_equals_the_picture_and_the_padding_is_zero() {
        let frame = slope();
        let crop = Crop::of_part([10, 20, 42, 36], 1.0);
        let out = drawn(&crop, &frame, 64, 32);
        assert_eq!(out.len(), 3 * 64 * 32);
        let picture = frame.to_rgb().unwrap();
        for y in 0..32_usize {
            for x in 0..64_usize {
                let found = [0, 1, 2].map(|c| out[c * 64 * 32 + y * 64 + x]);
                if x < 32 && y < 16 {
                    let expected = picture.get_pixel(x as u32 + 10, y as u32 + 20).0;
                    let near = found.iter().zip(expected).all(|(f, e)| (f - f32::from(e)).abs() < 5.0);
                    assert!(near, "{x},{y}: {found:?} {expected:?}");
                } else {
                    assert_eq!(found, [0.0; 3]);
                }
            }
        }
        let wide = LineBox {
            centre: [40.0, 30.0],
            width: 70.0,
            height: 7.0,
            angle: 0.0,
            score: 1.0,
        };
        assert_eq!(Crop::of_line(&wide, 32, 64).width, 64);
    }

    #[test]
    fn channels_are_ordered_and_normalised_for_the_network() {
        let picture = RgbImage::from_pixel(32, 32, Rgb([200, 100, 50]));
        let frame = Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH).unwrap();
        let normalisation = Normalisation {
            colour: Colour::Bgr,
            mean: [10.0, 20.0, 30.0],
            std: [2.0, 4.0, 5.0],
        };
        let mut out = Vec::new();
        // Partly outside the picture, where the edge is repeated.
        Crop::of_part([16, 16, 48, 48], 0.25).draw(&frame, &normalisation, 8, 8, &mut out);
        for (channel, expected) in out.chunks_exact(64).zip([20.0, 20.0, 34.0]) {
            assert!(channel.iter().all(|v| (v - expected).abs() < 1.0), "{channel:?}");
        }
    }
}
