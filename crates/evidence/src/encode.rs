//! JPEG of a bounded size: a broker, a radio link and a clerk's browser all have a limit, and a street with leaves and paving
//! takes several times the bytes of a wall.

use image::{
    ExtendedColorType, ImageEncoder, ImageError, RgbImage,
    codecs::jpeg::JpegEncoder,
    imageops::{FilterType, resize},
};

/// Below this print on bags and signs is gone: fewer pixels show more than worse ones.
const LEAST_QUALITY: u8 = 60;
const QUALITY_STEP: u8 = 7;
/// How much smaller a picture becomes each time, in each direction, that the least quality is still too large.
const SHRINK: f64 = 0.85;

/// A picture as it leaves the box.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) jpeg: Vec<u8>,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// `picture` as JPEG in at most `most` bytes: with `quality`, else with less of it, down to 60, else with fewer pixels. The same
/// picture gives the same bytes. A picture that is one pixel is not made smaller.
pub(super) fn bounded(picture: &RgbImage, quality: u8, most: usize) -> Result<Encoded, ImageError> {
    let mut quality = quality;
    let mut jpeg = encode(picture, quality)?;
    while jpeg.len() > most && quality > LEAST_QUALITY {
        quality = quality.saturating_sub(QUALITY_STEP).max(LEAST_QUALITY);
        jpeg = encode(picture, quality)?;
    }
    let (mut width, mut height) = picture.dimensions();
    let mut scale = 1.0;
    while jpeg.len() > most && (width, height) != (1, 1) {
        scale *= SHRINK;
        let of = |size: u32| ((f64::from(size) * scale).round() as u32).max(1);
        (width, height) = (of(picture.width()), of(picture.height()));
        // From the whole picture each time: scaling what was scaled blurs it.
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

    /// Nothing is harder to compress, and it is the same each time.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut chance = fastrand::Rng::with_seed(7);
        RgbImage::from_fn(width, height, |_, _| {
            image::Rgb([chance.u8(..), chance.u8(..), chance.u8(..)])
        })
    }

    #[test]
    fn what_fits_keeps_its_quality_and_its_pixels() {
        let picture = noise(320, 180);
        let whole = encode(&picture, 88).unwrap();
        let encoded = bounded(&picture, 88, whole.len()).unwrap();
        assert_eq!((encoded.jpeg, encoded.width, encoded.height), (whole, 320, 180));
    }

    #[test]
    fn quality_goes_before_pixels() {
        let picture = noise(320, 180);
        let (best, least) = (
            encode(&picture, 88).unwrap().len(),
            encode(&picture, LEAST_QUALITY).unwrap().len(),
        );
        for most in [best - 1, (best + least) / 2, least] {
            let encoded = bounded(&picture, 88, most).unwrap();
            assert!(encoded.jpeg.len() <= most, "{} of {most}", encoded.jpeg.len());
            assert_eq!((encoded.width, encoded.height), (320, 180));
        }
    }

    #[test]
    fn a_picture_that_no_quality_makes_small_enough_loses_pixels_and_keeps_its_shape() {
        let picture = noise(640, 360);
        let least = encode(&picture, LEAST_QUALITY).unwrap().len();
        for most in [least - 1, least / 3, 20_000] {
            let encoded = bounded(&picture, 88, most).unwrap();
            assert!(encoded.jpeg.len() <= most, "{} of {most}", encoded.jpeg.len());
            // Not a step too far; noise that is scaled is smooth, and smaller by more than its pixels.
            assert!(encoded.jpeg.len() * 4 > most, "{} of {most}", encoded.jpeg.len());
            let decoded = image::load_from_memory(&encoded.jpeg).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (encoded.width, encoded.height));
            assert!(encoded.width < 640);
            assert!((f64::from(encoded.width) / f64::from(encoded.height) - 16.0 / 9.0).abs() < 0.02);
        }
    }

    #[test]
    fn the_same_picture_gives_the_same_bytes() {
        let picture = noise(400, 300);
        assert_eq!(
            bounded(&picture, 95, 15_000).unwrap().jpeg,
            bounded(&picture, 95, 15_000).unwrap().jpeg
        );
    }

    #[test]
    fn a_limit_that_nothing_meets_ends_at_one_pixel() {
        let encoded = bounded(&noise(64, 48), 88, 1).unwrap();
        assert_eq!((encoded.width, encoded.height), (1, 1));
    }

    #[test]
    fn a_quality_below_the_least_is_left_as_it_is() {
        let picture = noise(320, 180);
        assert_eq!(
            bounded(&picture, 50, usize::MAX).unwrap().jpeg,
            encode(&picture, 50).unwrap()
        );
    }
}
