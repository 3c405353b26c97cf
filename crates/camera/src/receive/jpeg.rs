//! Decodes Motion JPEG: the newest picture, at most one in a while, off the receive thread. The decoder is written in safe
//! Rust.

use bytes::Bytes;
use gridwatch_frame::{Frame, Layout, Matrix, Plane};
use jiff::Timestamp;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

/// Largest width or height: 8K.
const MAX_SIDE: usize = 8_192;

/// Decodes a JPEG to 4:2:0.
///
/// # Errors
/// What is wrong with the picture.
pub fn decode(jpeg: &[u8], captured_at: Timestamp) -> Result<Frame, String> {
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::YCbCr);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    decoder.decode_headers().map_err(|e| format!("{e:?}"))?;
    if decoder.input_colorspace() == Some(ColorSpace::Luma) {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    let samples = decoder.decode().map_err(|e| format!("{e:?}"))?;
    let info = decoder.info().ok_or("the picture has no header")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let data = match samples.len() / (width * height).max(1) {
        1 => grey(&samples, width, height),
        3 => subsample(&samples, width, height),
        n => return Err(format!("{n} samples per pixel")),
    };
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let luma = width * height;
    let plane = |offset, stride| Plane { offset, stride };
    let frame = Frame {
        width: width as u32,
        height: height as u32,
        layout: Layout::I420,
        // JFIF: BT.601, full range.
        matrix: Matrix::Bt601,
        full_range: true,
        planes: [
            plane(0, width),
            plane(luma, half_width),
            plane(luma + half_width * half_height, half_width),
        ],
        data: Bytes::from(data),
        captured_at,
    };
    frame.validate().map_err(|e| e.to_string())?;
    Ok(frame)
}

fn grey(luma: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut data = luma.to_vec();
    data.resize(luma.len() + 2 * width.div_ceil(2) * height.div_ceil(2), 128);
    data
}

/// Interleaved Y, Cb, Cr of every pixel to planes with a quarter of the chroma samples: the mean of each four.
fn subsample(samples: &[u8], width: usize, height: usize) -> Vec<u8> {
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let mut data = Vec::with_capacity(width * height + 2 * half_width * half_height);
    data.extend(samples.iter().step_by(3));
    for chroma in [1, 2] {
        for row in 0..half_height {
            let upper = &samples[2 * row * width * 3..][..width * 3];
            let lower = match 2 * row + 1 < height {
                true => &samples[(2 * row + 1) * width * 3..][..width * 3],
                false => upper,
            };
            for column in 0..half_width {
                let left = 6 * column + chroma;
                let right = if 2 * column + 1 < width { left + 3 } else { left };
                let sum = [upper[left], upper[right], lower[left], lower[right]].map(u16::from);
                data.push(((sum.iter().sum::<u16>() + 2) / 4) as u8);
            }
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chroma_is_the_mean_of_four_pixels_and_odd_sizes_round_up() {
        // 3×1: Y, Cb, Cr of each pixel.
        let planes = subsample(&[1, 10, 100, 2, 20, 200, 3, 30, 50], 3, 1);
        assert_eq!(planes, [1, 2, 3, 15, 30, 150, 50]);
    }

    #[test]
    fn a_picture_that_is_cut_off_is_an_error() {
        assert!(decode(b"\xff\xd8\xff\xd9", Timestamp::UNIX_EPOCH).is_err());
        assert!(decode(&[], Timestamp::UNIX_EPOCH).is_err());
        let whole: &[u8] = include_bytes!("../../../rtsp/fixtures/420.jpg");
        let frame = decode(whole, Timestamp::UNIX_EPOCH).unwrap();
        assert!(frame.width > 2 && frame.full_range);
        assert!(decode(&whole[..whole.len() / 2], Timestamp::UNIX_EPOCH).is_err());
    }
}
