//! Decoded frames: planar or semi-planar 4:2:0 YUV, shared without copying.
//!
//! A frame holds the decoder's own buffer (see [`Bytes::from_owner`]). Letterboxing, view health and evidence read the YUV
//! planes directly; only [`Frame::to_rgb`], for evidence, converts a whole frame to RGB.

mod appearance;
mod picture;
mod shrink;

use bytes::Bytes;
use image::RgbImage;
use jiff::Timestamp;

pub use self::picture::open_upright;
use gridwatch_base::error::Class;

/// Memory layout of the chroma samples. Both layouts are 4:2:0 with 8 bits per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Three planes: Y, U, V.
    I420,
    /// Two planes: Y, then U and V interleaved. The output of hardware decoders.
    Nv12,
}

/// Matrix coefficients for the conversion to RGB (ITU-R BT.601-7 §2.5.1, BT.709-6 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// Standard definition. Also assumed below 720 lines if the stream does not state its matrix.
    Bt601,
    /// High definition.
    Bt709,
}

/// One plane inside [`Frame::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Byte offset of the first row in the buffer.
    pub offset: usize,
    /// Bytes from one row to the next; at least the length of a row.
    pub stride: usize,
}

/// A decoded frame.
#[derive(Clone)]
pub struct Frame {
    /// Width in pixels, at least 2.
    pub width: u32,
    /// Height in pixels, at least 2.
    pub height: u32,
    /// Memory layout of the planes.
    pub layout: Layout,
    /// Matrix coefficients for the conversion to RGB.
    pub matrix: Matrix,
    /// Y spans 0..=255 if true, 16..=235 if false.
    pub full_range: bool,
    /// Y, U, V for I420; Y, UV and an unused third for NV12.
    pub planes: [Plane; 3],
    /// The buffer that holds all planes.
    pub data: Bytes,
    /// Wall clock time at which the frame arrived.
    pub captured_at: Timestamp,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Frame {}×{} {:?} at {}",
            self.width, self.height, self.layout, self.captured_at
        )
    }
}

/// Why a frame is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Width or height out of range.
    #[error("invalid frame size {width}×{height}; width and height must lie between 2 and {MAX_SIDE}")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A plane exceeds the buffer, or its rows overlap.
    #[error(
        "plane {plane} of a {width}×{height} frame (offset {offset}, stride {stride}) does not fit its buffer of {len} bytes"
    )]
    Plane {
        /// 0 = Y, 1 = U or UV, 2 = V.
        plane: usize,
        /// Width of the frame in pixels.
        width: u32,
        /// Height of the frame in pixels.
        height: u32,
        /// Byte offset of the plane.
        offset: usize,
        /// Bytes from one row to the next.
        stride: usize,
        /// Bytes in the buffer.
        len: usize,
    },
}

impl FrameError {
    /// Always [`Class::Data`].
    pub fn class(&self) -> Class {
        Class::Data
    }
}

/// Largest width or height in pixels. H.265 level 6.2 ends at 8192×4320; a larger value comes from a corrupt header.
pub const MAX_SIDE: u32 = 16_384;

/// Coefficients of the conversion to R'G'B' on a scale of 0..=255:
/// `y = (Y − y_offset)·y_scale`, `r = y + rv·(V − 128)`, `g = y + gu·(U − 128) + gv·(V − 128)`, `b = y + bu·(U − 128)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Luma of black.
    pub y_offset: f32,
    /// Scale of luma.
    pub y_scale: f32,
    /// Share of V in red.
    pub rv: f32,
    /// Share of U in green.
    pub gu: f32,
    /// Share of V in green.
    pub gv: f32,
    /// Share of U in blue.
    pub bu: f32,
}

impl Frame {
    /// Checks that every plane lies inside the buffer, so that the accessors cannot panic. Call it once on every frame
    /// that comes from outside.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate(&self) -> Result<(), FrameError> {
        let (width, height) = (self.width, self.height);
        if !(2..=MAX_SIDE).contains(&width) || !(2..=MAX_SIDE).contains(&height) {
            return Err(FrameError::Size { width, height });
        }
        for plane in 0..self.plane_count() {
            let Plane { offset, stride } = self.planes[plane];
            let (row, rows) = self.plane_size(plane);
            // The padding after the last row is optional.
            let end = stride
                .checked_mul(rows - 1)
                .and_then(|n| n.checked_add(row))
                .and_then(|n| n.checked_add(offset));
            if stride < row || end.is_none_or(|end| end > self.data.len()) {
                return Err(FrameError::Plane {
                    plane,
                    width,
                    height,
                    offset,
                    stride,
                    len: self.data.len(),
                });
            }
        }
        Ok(())
    }

    /// Number of planes used: 3 for I420, 2 for NV12.
    pub fn plane_count(&self) -> usize {
        match self.layout {
            Layout::I420 => 3,
            Layout::Nv12 => 2,
        }
    }

    /// Bytes per row of `plane`, and its number of rows. Odd sizes round up: the last chroma sample then covers one pixel.
    pub fn plane_size(&self, plane: usize) -> (usize, usize) {
        let (w, h) = (self.width as usize, self.height as usize);
        match (plane, self.layout) {
            (0, _) => (w, h),
            (_, Layout::I420) => (w.div_ceil(2), h.div_ceil(2)),
            (_, Layout::Nv12) => (w.div_ceil(2) * 2, h.div_ceil(2)),
        }
    }

    /// Row `y` of `plane` without padding. In the UV plane of NV12, U and V alternate.
    ///
    /// # Panics
    /// If the frame is not [valid](Self::validate), or `y` is out of range.
    pub fn row(&self, plane: usize, y: usize) -> &[u8] {
        let Plane { offset, stride } = self.planes[plane];
        let start = offset + y * stride;
        &self.data[start..start + self.plane_size(plane).0]
    }

    /// Row `y` of the luma plane.
    ///
    /// # Panics
    /// Like [`Self::row`].
    pub fn y_row(&self, y: usize) -> &[u8] {
        self.row(0, y)
    }

    /// True if the frame has no colour, as from a camera in infrared mode. Encoders shift some chroma samples of a grey
    /// picture by one step; even the greyest street by day averages several steps.
    ///
    /// # Panics
    /// Like [`Self::row`].
    pub fn is_mono(&self) -> bool {
        const MAX_MEAN_STEPS: f64 = 1.5;
        const EVERY: usize = 8;
        let (mut sum, mut count) = (0_u64, 0_u64);
        for plane in 1..self.plane_count() {
            for y in (0..self.plane_size(plane).1).step_by(EVERY) {
                // An odd step, so that U and V of NV12 are sampled in turn.
                for chroma in self.row(plane, y).iter().step_by(EVERY + 1) {
                    sum += u64::from(chroma.abs_diff(128));
                    count += 1;
                }
            }
        }
        sum as f64 <= MAX_MEAN_STEPS * count as f64
    }

    /// The coefficients for the frame's matrix and range (`kr` and `kb` of BT.601-7 §2.5 and BT.709-6 §3; 8-bit
    /// quantisation).
    pub fn coefficients(&self) -> Coefficients {
        let (kr, kb) = match self.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (y_offset, y_scale, c) = if self.full_range {
            (0.0, 1.0, 1.0)
        } else {
            (16.0, 255.0 / 219.0, 255.0 / 224.0)
        };
        Coefficients {
            y_offset,
            y_scale,
            rv: 2.0 * (1.0 - kr) * c,
            gu: -2.0 * kb * (1.0 - kb) / kg * c,
            gv: -2.0 * kr * (1.0 - kr) / kg * c,
            bu: 2.0 * (1.0 - kb) * c,
        }
    }

    /// A crop of the frame that shares its buffer, clipped to the frame's edges. Odd `left` and `top` are rounded down to the
    /// chroma grid. A crop outside the frame is not [valid](Self::validate).
    pub fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Self {
        let (left, top) = (left & !1, top & !1);
        let mut planes = self.planes;
        for (i, plane) in planes.iter_mut().enumerate() {
            let (x, y) = match (i, self.layout) {
                (0, _) => (left, top),
                (_, Layout::I420) => (left / 2, top / 2),
                (_, Layout::Nv12) => (left, top / 2),
            };
            plane.offset += y as usize * plane.stride + x as usize;
        }
        Self {
            width: width.min(self.width.saturating_sub(left)),
            height: height.min(self.height.saturating_sub(top)),
            planes,
            data: self.data.clone(),
            ..*self
        }
    }

    /// Converts the frame to RGB. Chroma is upsampled by repetition. Used for evidence; models read the planes.
    ///
    /// # Errors
    /// The frame is not [valid](Self::validate).
    pub fn to_rgb(&self) -> Result<RgbImage, FrameError> {
        self.validate()?;
        let (w, h) = (self.width as usize, self.height as usize);
        let k = self.coefficients();
        // 14 fractional bits: |255 · 2.2 · 2^14| fits an i32, with a rounding error below a thousandth.
        let fixed = |v: f32| (v * 16_384.0).round() as i32;
        let (ys, yo) = (fixed(k.y_scale), k.y_offset as i32);
        let (rv, gu, gv, bu) = (fixed(k.rv), fixed(k.gu), fixed(k.gv), fixed(k.bu));
        let to_byte = |v: i32| (v >> 14).clamp(0, 255) as u8;
        let mut out = vec![0; w * h * 3];
        for (y, rgb) in out.chunks_exact_mut(w * 3).enumerate() {
            let luma = self.y_row(y);
            let pair = |i: usize, u: u8, v: u8, rgb: &mut [u8]| {
                let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
                let (r, g, b) = (rv * v, gu * u + gv * v, bu * u);
                for (pixel, &y) in rgb.chunks_exact_mut(3).zip(&luma[2 * i..]) {
                    let y = (i32::from(y) - yo) * ys + 8192;
                    pixel.copy_from_slice(&[to_byte(y + r), to_byte(y + g), to_byte(y + b)]);
                }
            };
            match self.layout {
                Layout::I420 => {
                    let chroma = self.row(1, y / 2).iter().zip(self.row(2, y / 2));
                    for (i, (rgb, (&u, &v))) in rgb.chunks_mut(6).zip(chroma).enumerate() {
                        pair(i, u, v, rgb);
                    }
                }
                Layout::Nv12 => {
                    for (i, (rgb, uv)) in rgb.chunks_mut(6).zip(self.row(1, y / 2).chunks_exact(2)).enumerate() {
                        pair(i, uv[0], uv[1], rgb);
                    }
                }
            }
        }
        Ok(RgbImage::from_raw(self.width, self.height, out).expect("the buffer was made for this size"))
    }

    /// Converts an RGB image to a frame: BT.601 full range like JPEG (JFIF 1.02), chroma averaged over 2×2 pixels.
    ///
    /// # Errors
    /// [`FrameError::Size`] if width or height is below 2 or above [`MAX_SIDE`].
    pub fn from_rgb(picture: &RgbImage, captured_at: Timestamp) -> Result<Self, FrameError> {
        let (width, height) = picture.dimensions();
        let (w, h) = (width as usize, height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        if !(2..=MAX_SIDE).contains(&width) || !(2..=MAX_SIDE).contains(&height) {
            return Err(FrameError::Size { width, height });
        }
        let mut data = vec![0; w * h + 2 * cw * ch];
        let (luma, chroma) = data.split_at_mut(w * h);
        let (u_plane, v_plane) = chroma.split_at_mut(cw * ch);
        for (y, &image::Rgb([r, g, b])) in luma.iter_mut().zip(picture.pixels()) {
            *y = (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)).round() as u8;
        }
        let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(w * 3).collect();
        for (cy, pair) in rows.chunks(2).enumerate() {
            for cx in 0..cw {
                let (mut sum, mut n) = ([0.0_f32; 3], 0.0);
                for row in pair {
                    for pixel in row[cx * 6..row.len().min(cx * 6 + 6)].chunks_exact(3) {
                        for (s, &p) in sum.iter_mut().zip(pixel) {
                            *s += f32::from(p);
                        }
                        n += 1.0;
                    }
                }
                let [r, g, b] = sum.map(|s| s / n);
                u_plane[cy * cw + cx] = (128.0 - 0.168_736 * r - 0.331_264 * g + 0.5 * b).round() as u8;
                v_plane[cy * cw + cx] = (128.0 + 0.5 * r - 0.418_688 * g - 0.081_312 * b).round() as u8;
            }
        }
        let plane = |offset, stride| Plane { offset, stride };
        Ok(Self {
            width,
            height,
            layout: Layout::I420,
            matrix: Matrix::Bt601,
            full_range: true,
            planes: [plane(0, w), plane(w * h, cw), plane(w * h + cw * ch, cw)],
            data: Bytes::from(data),
            captured_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one colour, with three bytes of padding per row.
    fn flat(width: u32, height: u32, layout: Layout, matrix: Matrix, full_range: bool, yuv: [u8; 3]) -> Frame {
        let mut frame = Frame {
            width,
            height,
            layout,
            matrix,
            full_range,
            planes: [Plane { offset: 0, stride: 0 }; 3],
            data: Bytes::new(),
            captured_at: Timestamp::UNIX_EPOCH,
        };
        let mut data = Vec::new();
        for p in 0..frame.plane_count() {
            let (row, rows) = frame.plane_size(p);
            frame.planes[p] = Plane {
                offset: data.len(),
                stride: row + 3,
            };
            for _ in 0..rows {
                let samples = (0..row).map(|i| match (p, layout) {
                    (1, Layout::Nv12) => yuv[1 + i % 2],
                    _ => yuv[p],
                });
                data.extend(samples.chain([7; 3]));
            }
        }
        frame.data = data.into();
        frame
    }

    #[test]
    fn to_rgb_follows_the_matrix_and_range() {
        // Pure red at 8 bits: BT.601-7 table 3 and BT.709-6 §3 by their quantisation formulas, then JFIF.
        let cases = [
            (Matrix::Bt601, false, [81, 90, 240], [254, 0, 0]),
            (Matrix::Bt709, false, [63, 102, 240], [255, 1, 0]),
            (Matrix::Bt601, true, [76, 85, 255], [254, 0, 0]),
            (Matrix::Bt601, false, [235, 128, 128], [255, 255, 255]),
            (Matrix::Bt709, false, [16, 128, 128], [0, 0, 0]),
            (Matrix::Bt709, true, [100, 128, 128], [100, 100, 100]),
        ];
        for (matrix, full_range, yuv, rgb) in cases {
            for layout in [Layout::I420, Layout::Nv12] {
                let picture = flat(5, 3, layout, matrix, full_range, yuv).to_rgb().unwrap();
                for pixel in picture.pixels() {
                    assert_eq!(pixel.0, rgb, "{matrix:?} full {full_range} {layout:?} {yuv:?}");
                }
            }
        }
    }

    #[test]
    fn rgb_round_trip_keeps_colours() {
        // Smooth, so that chroma subsampling loses little.
        let original = RgbImage::from_fn(67, 41, |x, y| {
            image::Rgb([40 + (x * 2) as u8, 200 - (y * 3) as u8, 90 + (x + y) as u8])
        });
        let converted = Frame::from_rgb(&original, Timestamp::UNIX_EPOCH)
            .unwrap()
            .to_rgb()
            .unwrap();
        let worst = original
            .as_raw()
            .iter()
            .zip(converted.as_raw())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(worst <= Some(4), "{worst:?}");
    }

    #[test]
    fn crop_has_the_samples_of_the_whole_frame() {
        let (width, height) = (23, 17);
        for layout in [Layout::I420, Layout::Nv12] {
            let mut whole = flat(width, height, layout, Matrix::Bt601, true, [0, 128, 128]);
            whole.data = (0..whole.data.len()).map(|i| (i * 37 % 251) as u8).collect();
            let all = whole.to_rgb().unwrap();
            for (left, top, w, h) in [
                (0, 0, 23, 17),
                (4, 6, 10, 8),
                (6, 2, 17, 15),
                (20, 14, 9, 9),
                (0, 0, 2, 2),
            ] {
                let part = whole.crop(left, top, w, h);
                assert_eq!((part.width, part.height), (w.min(width - left), h.min(height - top)));
                let expected = image::imageops::crop_imm(&all, left, top, part.width, part.height).to_image();
                assert_eq!(part.to_rgb().unwrap(), expected, "{layout:?} {left} {top} {w} {h}");
            }
            assert_eq!(
                whole.crop(5, 7, 6, 6).to_rgb(),
                whole.crop(4, 6, 6, 6).to_rgb(),
                "rounded to the chroma grid"
            );
            assert!(whole.crop(40, 0, 4, 4).validate().is_err());
        }
    }

    #[test]
    fn infrared_pictures_are_mono_and_dull_ones_are_not() {
        let street = |name: &str| {
            let path = format!(
                "{}/../../tests/fixtures/pictures/{name}.jpg",
                env!("CARGO_MANIFEST_DIR")
            );
            image::open(path).unwrap().into_rgb8()
        };
        // Saturation scaled by `share` and brightness by `gain`, then JPEG artefacts.
        let dulled = |picture: &RgbImage, share: f32, gain: f32| {
            let mut picture = picture.clone();
            for pixel in picture.pixels_mut() {
                let grey = pixel.0.iter().map(|v| f32::from(*v)).sum::<f32>() / 3.0;
                pixel.0 = pixel.0.map(|v| ((grey + (f32::from(v) - grey) * share) * gain) as u8);
            }
            let mut jpeg = Vec::new();
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 60)
                .encode_image(&picture)
                .unwrap();
            image::load_from_memory(&jpeg).unwrap().into_rgb8()
        };
        let is_mono = |picture: &RgbImage| Frame::from_rgb(picture, Timestamp::UNIX_EPOCH).unwrap().is_mono();
        for name in ["bags", "cars", "person", "signs"] {
            let picture = street(name);
            assert!(!is_mono(&picture), "{name}");
            assert!(!is_mono(&dulled(&picture, 0.5, 1.0)), "{name} on a grey day");
            assert!(!is_mono(&dulled(&picture, 1.0, 0.5)), "{name} at dusk");
            assert!(is_mono(&dulled(&picture, 0.0, 1.0)), "{name} in infrared");
            assert!(is_mono(&dulled(&picture, 0.0, 0.3)), "{name} in weak infrared");
        }
    }

    #[test]
    fn mono_is_detected_in_every_layout() {
        for layout in [Layout::I420, Layout::Nv12] {
            for (chroma, is_mono) in [
                ([128, 128], true),
                ([129, 127], true),
                ([128, 140], false),
                ([116, 128], false),
            ] {
                let frame = flat(64, 48, layout, Matrix::Bt709, false, [90, chroma[0], chroma[1]]);
                assert_eq!(frame.is_mono(), is_mono, "{layout:?} {chroma:?}");
            }
        }
    }

    #[test]
    fn planes_outside_the_buffer_are_invalid() {
        let good = flat(6, 4, Layout::I420, Matrix::Bt601, true, [1, 2, 3]);
        assert_eq!(good.validate(), Ok(()));
        let broken = |change: fn(&mut Frame)| {
            let mut frame = good.clone();
            change(&mut frame);
            frame.validate().unwrap_err()
        };
        let plane = |e| match e {
            FrameError::Plane { plane, .. } => plane,
            FrameError::Size { .. } => panic!("{e}"),
        };
        assert_eq!(plane(broken(|f| f.planes[0].stride = 5)), 0);
        assert_eq!(plane(broken(|f| f.planes[1].offset = usize::MAX)), 1);
        assert_eq!(plane(broken(|f| f.planes[2].stride = usize::MAX / 2)), 2);
        assert_eq!(plane(broken(|f| f.data = f.data.slice(..f.data.len() - 4))), 2);
        assert!(matches!(broken(|f| f.width = 0), FrameError::Size { width: 0, .. }));
        // The padding of the last row is optional.
        let mut tight = good.clone();
        tight.data = tight.data.slice(..tight.data.len() - 3);
        assert_eq!(tight.validate(), Ok(()));
    }
}
