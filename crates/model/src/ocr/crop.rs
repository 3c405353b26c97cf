//! A piece of a picture, turned upright and scaled, straight from the decoder's YUV planes into a network's input tensor.
//!
//! Enlarging interpolates between the four nearest samples; shrinking averages as many of those as there are pixels between
//! two targets. Beyond the picture its edge goes on. Nothing the size of the picture is allocated or copied.

use super::lines::LineBox;
use gridwatch_frame::{Frame, Layout};
use crate::manifest::Colour;

/// A rectangle of the picture, and how many pixels it becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Its left top corner, pixels from the picture's.
    pub origin: [f32; 2],
    /// From one target pixel to the next, in pixels of the picture.
    pub right: [f32; 2],
    /// From one target row to the next, in pixels of the picture.
    pub down: [f32; 2],
    /// Target pixels across.
    pub width: usize,
    /// Target pixels down.
    pub height: usize,
}

/// How values become the network's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Order of the channels.
    pub colour: Colour,
    /// Subtracted, on a scale of 0..=255.
    pub mean: [f32; 3],
    /// Then divided by.
    pub std: [f32; 3],
}

impl Crop {
    /// An upright part of the picture, left, top, right and bottom in its pixels, at `scale` target pixels for one of it.
    pub fn of_part([x1, y1, x2, y2]: [u32; 4], scale: f32) -> Self {
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

    /// A line of text, `height` pixels high and as wide as it then is, but at most `widest`: what is longer is squeezed.
    pub fn of_line(line: &LineBox, height: usize, widest: usize) -> Self {
        let wanted = (height as f32 * line.width / line.height).round() as usize;
        let width = wanted.clamp(1, widest);
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

    /// Where a point of the target, in its pixels, lies in the picture.
    pub fn in_picture(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [0, 1].map(|i| self.origin[i] + self.right[i] * x + self.down[i] * y)
    }

    /// Writes `[3, rows, columns]` into `out`, which holds nothing else then; what lies right of or below the crop is zero.
    /// The frame must be [valid](Frame::validate).
    ///
    /// # Panics
    /// If the crop is wider than `columns` or higher than `rows`.
    pub fn draw(&self, frame: &Frame, scaling: &Normalisation, columns: usize, rows: usize, out: &mut Vec<f32>) {
        assert!(
            self.width <= columns && self.height <= rows,
            "a tensor that the crop fits in"
        );
        out.clear();
        out.resize(3 * columns * rows, 0.0);
        let (first, rest) = out.split_at_mut(columns * rows);
        let (second, third) = rest.split_at_mut(columns * rows);
        let k = frame.coefficients();
        let planes = Samples::of(frame);
        // Between two targets lie so many pixels: all of them are asked.
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
                let [a, b, c] = match scaling.colour {
                    Colour::Rgb => rgb,
                    Colour::Bgr => [rgb[2], rgb[1], rgb[0]],
                };
                let scaled = |v: f32, i: usize| (v.clamp(0.0, 255.0) - scaling.mean[i]) / scaling.std[i];
                (*first, *second, *third) = (scaled(a, 0), scaled(b, 1), scaled(c, 2));
            }
        }
    }
}

/// The three channels' samples, wherever they lie.
struct Samples<'a> {
    luma: Channel<'a>,
    u: Channel<'a>,
    v: Channel<'a>,
}

struct Channel<'a> {
    data: &'a [u8],
    stride: usize,
    /// Bytes from one sample to the next.
    step: usize,
    /// The last sample's column and row.
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

    /// Y, U and V at a point of the picture; a sample's value is that of its middle. A chroma sample covers 2×2 pixels.
    fn at(&self, [x, y]: [f32; 2]) -> [f32; 3] {
        let chroma = [x / 2.0 - 0.5, y / 2.0 - 0.5];
        [self.luma.at([x - 0.5, y - 0.5]), self.u.at(chroma), self.v.at(chroma)]
    }
}

impl Channel<'_> {
    /// Between the four samples around.
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
    fn a_turned_line_comes_out_upright() {
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
                        // The picture's colours are linear in x and y, so their mean over a pixel is that of its middle.
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
    fn a_part_at_its_own_scale_is_the_picture_and_what_surrounds_it_is_zero() {
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
    fn channels_are_ordered_and_scaled_as_the_network_wants_them() {
        let picture = RgbImage::from_pixel(32, 32, Rgb([200, 100, 50]));
        let frame = Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH).unwrap();
        let scaling = Normalisation {
            colour: Colour::Bgr,
            mean: [10.0, 20.0, 30.0],
            std: [2.0, 4.0, 5.0],
        };
        let mut out = Vec::new();
        // Partly outside: its edge goes on.
        Crop::of_part([16, 16, 48, 48], 0.25).draw(&frame, &scaling, 8, 8, &mut out);
        for (channel, expected) in out.chunks_exact(64).zip([20.0, 20.0, 34.0]) {
            assert!(channel.iter().all(|v| (v - expected).abs() < 1.0), "{channel:?}");
        }
    }
}
