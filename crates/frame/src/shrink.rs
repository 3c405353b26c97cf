//! Smaller frames, for pictures that a person sees as one of many.

use super::{Frame, FrameError, Layout, Plane};

impl Frame {
    /// The frame at a width of at most `width` pixels (and at least 2), by the mean of whole blocks of pixels; itself if it is no wider.
    ///
    /// # Errors
    /// The frame is not [valid](Self::validate).
    pub fn shrunk(&self, width: u32) -> Result<Self, FrameError> {
        self.validate()?;
        let block = self.width.div_ceil(width.max(2)).max(1) as usize;
        // Blocks of chroma cover the same part of the picture only if there are whole ones.
        let (out_width, out_height) = (
            self.width as usize / block / 2 * 2,
            self.height as usize / block / 2 * 2,
        );
        if block == 1 || out_width < 2 || out_height < 2 {
            return Ok(self.clone());
        }
        let (chroma_width, chroma_height) = (out_width / 2, out_height / 2);
        let mut data = Vec::with_capacity(out_width * out_height * 3 / 2);
        self.average(0, (0, 1), (out_width, out_height), block, &mut data);
        for part in 0..2 {
            let (plane, interleaved) = match self.layout {
                Layout::I420 => (1 + part, (0, 1)),
                Layout::Nv12 => (1, (part, 2)),
            };
            self.average(plane, interleaved, (chroma_width, chroma_height), block, &mut data);
        }
        let chroma = |part: usize| Plane {
            offset: out_width * out_height + part * chroma_width * chroma_height,
            stride: chroma_width,
        };
        let luma = Plane {
            offset: 0,
            stride: out_width,
        };
        Ok(Self {
            width: out_width as u32,
            height: out_height as u32,
            layout: Layout::I420,
            matrix: self.matrix,
            full_range: self.full_range,
            planes: [luma, chroma(0), chroma(1)],
            data: data.into(),
            captured_at: self.captured_at,
        })
    }

    /// Appends the means of `block` × `block` samples of a plane, of which every `step`th belongs to the channel that begins at `first`.
    fn average(
        &self,
        plane: usize,
        (first, step): (usize, usize),
        (width, height): (usize, usize),
        block: usize,
        out: &mut Vec<u8>,
    ) {
        let area = (block * block) as u32;
        let mut sums = vec![0_u32; width];
        for y in 0..height {
            sums.fill(0);
            for row in y * block..(y + 1) * block {
                let row = self.row(plane, row);
                for (sum, samples) in sums.iter_mut().zip(row.chunks_exact(block * step)) {
                    *sum += samples
                        .iter()
                        .skip(first)
                        .step_by(step)
                        .map(|s| u32::from(*s))
                        .sum::<u32>();
                }
            }
            out.extend(sums.iter().map(|sum| ((sum + area / 2) / area) as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use jiff::Timestamp;

    use super::*;

    /// Left half red, right half blue, with a grid of single pixels that the mean removes.
    fn picture(width: u32, height: u32) -> Frame {
        let picture = RgbImage::from_fn(width, height, |x, _| match x < width / 2 {
            true => Rgb([200, 30, 30]),
            false => Rgb([30, 30, 200]),
        });
        Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH).unwrap()
    }

    fn as_nv12(frame: &Frame) -> Frame {
        let mut data = Vec::new();
        (0..frame.height as usize).for_each(|y| data.extend(frame.y_row(y)));
        let offset = data.len();
        let (width, height) = frame.plane_size(1);
        for y in 0..height {
            data.extend(frame.row(1, y).iter().zip(frame.row(2, y)).flat_map(|(u, v)| [*u, *v]));
        }
        let plane = |offset, stride| Plane { offset, stride };
        Frame {
            layout: Layout::Nv12,
            planes: [plane(0, frame.width as usize), plane(offset, 2 * width), plane(0, 0)],
            data: data.into(),
            ..frame.clone()
        }
    }

    #[test]
    fn a_frame_is_no_wider_than_asked_and_keeps_its_colours_in_every_layout() {
        for (size, expected) in [
            ((1920, 1080), (320, 180)),
            ((704, 576), (234, 192)),
            ((1281, 721), (256, 144)),
        ] {
            let frame = picture(size.0, size.1);
            for frame in [as_nv12(&frame), frame] {
                let small = frame.shrunk(320).unwrap();
                small.validate().unwrap();
                assert_eq!((small.width, small.height), expected);
                let rgb = small.to_rgb().unwrap();
                for (x, colour) in [(expected.0 / 4, [200, 30, 30]), (expected.0 * 3 / 4, [30, 30, 200])] {
                    let found = rgb.get_pixel(x, expected.1 / 2).0;
                    assert!(
                        found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 6),
                        "{found:?} {colour:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_small_frame_stays_as_it_is() {
        for size in [(320, 240), (4, 2), (2, 400)] {
            let small = picture(size.0, size.1).shrunk(320).unwrap();
            assert_eq!((small.width, small.height), size);
        }
        assert_eq!(
            picture(4000, 2).shrunk(320).unwrap().width,
            4000,
            "no whole block is high enough"
        );
    }
}
