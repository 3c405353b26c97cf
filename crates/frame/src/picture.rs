//! Picture files that a person names. They may be damaged, endless or made to exhaust the memory.

use std::{io::Cursor, path::Path};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    error::{DecodingError, ImageFormatHint},
};

use gridwatch_base::file;

/// Reads an image file and applies its EXIF orientation.
///
/// # Errors
/// The file cannot be read or decoded, is cut off, or is too large: 256 MiB, or 512 MiB decoded.
pub fn open_upright(path: &Path) -> Result<DynamicImage, ImageError> {
    let bytes = file::read(path, file::MAX_PICTURE)?;
    let reader = ImageReader::new(Cursor::new(bytes.as_slice())).with_guessed_format()?;
    // The decoder fills the missing part of a JPEG with grey, and models find things, or nothing, in it. Those of the other
    // formats fail.
    if reader.format() == Some(ImageFormat::Jpeg) && is_cut_off(&bytes) {
        return Err(ImageError::Decoding(DecodingError::new(
            ImageFormatHint::Exact(ImageFormat::Jpeg),
            "the file is cut off before the end of the picture; copy it again",
        )));
    }
    let mut decoder = reader.into_decoder()?;
    // The decoder's own limit does not cover the picture that it is decoded into.
    Limits::default().reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// True if a JPEG file has no end-of-image marker (ITU-T T.81, B.1.1 and B.2). One inside a segment, such as that of an EXIF
/// thumbnail, does not count, and bytes after it do not matter.
fn is_cut_off(jpeg: &[u8]) -> bool {
    let mut rest = jpeg;
    while let Some(at) = rest.iter().position(|byte| *byte == 0xff) {
        rest = &rest[at + 1..];
        match rest {
            // End of image.
            [0xd9, ..] => return false,
            // A fill byte before a marker, 0xff in the compressed data, or a marker without a segment (TEM, RST, SOI).
            [0xff | 0x00 | 0x01 | 0xd0..=0xd8, ..] => {}
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(after) = rest.get(1 + length..) else {
                    return true;
                };
                rest = after;
            }
            _ => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(bytes: &[u8]) -> Result<DynamicImage, ImageError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picture");
        fs::write(&path, bytes).unwrap();
        open_upright(&path)
    }

    fn fixture() -> Vec<u8> {
        fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/pictures/cars.jpg"
        ))
        .unwrap()
    }

    #[test]
    fn a_picture_that_is_cut_off_is_refused_in_every_format() {
        let whole = image::load_from_memory(&fixture()).unwrap();
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let mut bytes = Cursor::new(Vec::new());
            whole.write_to(&mut bytes, format).unwrap();
            let bytes = bytes.into_inner();
            assert!(opened(&bytes).is_ok(), "{format:?}");
            for percent in [30, 60, 90, 99] {
                let cut = &bytes[..bytes.len() * percent / 100];
                assert!(opened(cut).is_err(), "{percent} % of a {format:?}");
            }
        }
    }

    #[test]
    fn a_jpeg_is_cut_off_unless_its_own_end_is_there() {
        let whole = fixture();
        assert!(whole.ends_with(&[0xff, 0xd9]));
        for missing in [1, 2, 3, 1000] {
            let message = opened(&whole[..whole.len() - missing]).unwrap_err().to_string();
            assert!(message.contains("cut off"), "{missing}: {message}");
        }
        // A transfer that failed leaves zeros in place of the rest.
        let zeros = [&whole[..whole.len() / 2], &vec![0; whole.len() / 2]].concat();
        assert!(opened(&zeros).is_err());
        // Some cameras append data of their own.
        assert!(opened(&[&whole[..], b"more"].concat()).is_ok());
        // The end of an EXIF thumbnail is not that of the picture.
        let thumbnail = [&[0xff, 0xe1, 0x00, 0x08], &b"Exif"[..], &[0xff, 0xd9]].concat();
        let with_thumbnail = [&whole[..2], &thumbnail, &whole[2..]].concat();
        assert!(opened(&with_thumbnail).is_ok());
        assert!(opened(&with_thumbnail[..with_thumbnail.len() - 2]).is_err());
    }

    #[test]
    fn a_small_file_that_claims_a_huge_picture_is_refused_without_reserving_it() {
        let mut png = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(4, 4)
            .write_to(&mut png, ImageFormat::Png)
            .unwrap();
        let mut png = png.into_inner();
        // Width and height in IHDR, which begins after the signature and a chunk's length and type.
        for at in [16, 20] {
            png[at..at + 4].copy_from_slice(&60_000_u32.to_be_bytes());
        }
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = opened(&png).unwrap_err();
        assert!(matches!(error, ImageError::Limits(_)), "{error}");
    }

    /// CRC-32 of a PNG chunk (PNG specification, annex D).
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
            })
        })
    }
}
