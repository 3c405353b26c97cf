//! JPEG encoding with a size limit, for brokers and slow links. Foliage and paving take several times the bytes of a wall
//! at the same quality.

use image::{
    ExtendedColorType, ImageEncoder, ImageError, RgbImage,
    codecs::jpeg::JpegEncoder,
    imageops::{FilterType, resize},
};

/// Below this quality, print on bags and signs becomes illegible; fewer pixels keep more detail.
const MIN_QUALITY: u8 = 60;
const QUALITY_STEP: u8 = 7;
/// Factor per step by which width and height shrink once the least quality is reached.
const SHRINK: f64 = 0.85;

/// An encoded picture.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) jpeg: Vec<u8>,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Encodes `picture` as JPEG of at most `max_bytes`: first at `quality`, then at lower quality down to [`MIN_QUALITY`], then
/// at lower resolution, down to one pixel. Deterministic.
pub(super) fn bounded(picture: &RgbImage, quality: u8, max_bytes: usize) -> Result<Encoded, ImageError> {
    let mut quality = quality;
    let mut jpeg = encode(picture, quality)?;
    while jpeg.len() > max_bytes && quality > MIN_QUALITY {
        quality = quality.saturating_sub(QUALITY_STEP).max(MIN_QUALITY);
        jpeg = encode(picture, quality)?;
    }
    let (mut width, mut height) = picture.dimensions();
    let mut scale = 1.0;
    while jpeg.len() > max_bytes && (width, height) != (1, 1) {
        scale *= SHRINK;
        let of = |size: u32| ((f64::from(size) * scale).round() as u32).max(1);
        (width, height) = (of(picture.width()), of(picture.height()));
        // Always scaled from the full picture, since repeated scaling blurs.
        jpeg = encode(&resize(picture, width, height, FilterType::Triangle), quality)?;
    }
    Ok(Encoded { jpeg, width, height })
}

fn encode(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut jpeg = Vec::with_capacity(picture.len() / 8);
    JpegEncoder::new_with_quality(&mut jpeg, quality).write_image(
        picture,
        picture.width(),
        picture.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reproducible noise, the worst case for compression.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut chance = fastrand::Rng::with_seed(7);
        RgbImage::from_fn(width, height, |_, _| {
            image::Rgb([chance.u8(..), chance.u8(..), chance.u8(..)])
        })
    }

    #[test]
    fn picture_within_the_limit_keeps_quality_and_resolution() {
        let picture = noise(320, 180);
        let whole = encode(&picture, 88).unwrap();
        let encoded = bounded(&picture, 88, whole.len()).unwrap();
        assert_eq!((encoded.jpeg, encoded.width, encoded.height), (whole, 320, 180));
    }

    #[test]
    fn quality_is_lowered_before_resolution() {
        let picture = noise(320, 180);
        let (best, least) = (
            encode(&picture, 88).unwrap().len(),
            encode(&picture, MIN_QUALITY).unwrap().len(),
        );
        for limit in [best - 1, (best + least) / 2, least] {
            let encoded = bounded(&picture, 88, limit).unwrap();
            assert!(encoded.jpeg.len() <= limit, "{} of {limit}", encoded.jpeg.len());
            assert_eq!((encoded.width, encoded.height), (320, 180));
        }
    }

    #[test]
    fn resolution_is_lowered_at_min_quality_and_the_aspect_ratio_is_kept() {
        let picture = noise(640, 360);
        let least = encode(&picture, MIN_QUALITY).unwrap().len();
        for limit in [least - 1, least / 3, 20_000] {
            let encoded = bounded(&picture, 88, limit).unwrap();
            assert!(encoded.jpeg.len() <= limit, "{} of {limit}", encoded.jpeg.len());
            // Not smaller than necessary. Scaled noise is smooth and shrinks by more than its pixel count.
            assert!(encoded.jpeg.len() * 4 > limit, "{} of {limit}", encoded.jpeg.len());
            let decoded = image::load_from_memory(&encoded.jpeg).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (encoded.width, encoded.height));
            assert!(encoded.width < 640);
            assert!((f64::from(encoded.width) / f64::from(encoded.height) - 16.0 / 9.0).abs() < 0.02);
        }
    }

    #[test]
    fn encoding_is_deterministic() {
        let picture = noise(400, 300);
        assert_eq!(
            bounded(&picture, 95, 15_000).unwrap().jpeg,
            bounded(&picture, 95, 15_000).unwrap().jpeg
        );
    }

    #[test]
    fn unreachable_limit_ends_at_one_pixel() {
        let encoded = bounded(&noise(64, 48), 88, 1).unwrap();
        assert_eq!((encoded.width, encoded.height), (1, 1));
    }

    #[test]
    fn requested_quality_below_the_minimum_is_kept() {
        let picture = noise(320, 180);
        assert_eq!(
            bounded(&picture, 50, usize::MAX).unwrap().jpeg,
            encode(&picture, 50).unwrap()
        );
    }
}
