//! The pictures of a case: made from the very frames that were judged, masked, hashed.
//!
//! Everything here is a function of its arguments; decoding, files and the database belong to others. A case is filed
//! with all of its pictures or not at all, so the first failure fails the whole.

mod draw;
mod encode;
mod mask;

use std::time::Duration;

pub use self::mask::is_masked;
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder};
use jiff::Timestamp;

use self::encode::Encoded;
use gridwatch_base::{digest::sha256_hex, error::Class};
use gridwatch_engine::{BBox, Detection, Point};
use gridwatch_frame::{Frame, FrameError};

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Where: the whole view.
    Scene,
    /// What: the problem and its surroundings, at the camera's own resolution.
    Closeup,
    /// The whole view with the problem boxed.
    Overlay,
    /// The whole view when it was looked at again.
    After,
}

/// One finished picture.
#[derive(Debug, Clone)]
pub struct EvidencePicture {
    /// What it shows.
    pub role: Role,
    /// JPEG bytes.
    pub jpeg: Vec<u8>,
    /// SHA-256 of `jpeg`, 64 lower-case hex digits.
    pub sha256: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// When the frame arrived at the box.
    pub captured_at: Timestamp,
    /// SHA-256 of what it was made from: of the scene for a closeup or an overlay, of the original for a scene.
    pub derived_from: Option<String>,
    /// True where faces or persons were looked for and what was found was masked.
    pub masked: bool,
}

/// A judged frame and what was found in it.
#[derive(Debug)]
pub struct Shot<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// The problem in it.
    pub bbox: BBox,
    /// Everything the models found in it: masking needs the persons and vehicles.
    pub detections: &'a [Detection],
}

/// How pictures are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// 50..=100; less where a picture would become too large.
    pub jpeg_quality: u8,
    /// Most bytes of one picture: quality goes first, down to 60, then pixels.
    pub max_bytes: usize,
    /// Least time between the two looks.
    pub min_interval: Duration,
    /// Mask heads and plate regions.
    pub mask: bool,
    /// Whether any model that looked knows persons or faces; without one nothing can be called masked.
    pub finds_persons: bool,
    /// Areas of the view that never leave the box.
    pub privacy: Vec<Vec<Point>>,
}

/// Makes the pictures of a look that was taken again, at the place that `shot.bbox` is: the whole view `after`, and its `closeup`.
///
/// # Errors
/// When the picture cannot be read or encoded.
pub fn after(shot: &Shot<'_>, settings: &Settings) -> Result<Vec<EvidencePicture>, EvidenceError> {
    let (picture, encoder) = masked(shot, settings)?;
    let whole = encoder.encode(Role::After, &picture, None)?;
    let closeup = encoder.encode(Role::Closeup, &around(&picture, shot.bbox), Some(whole.sha256.clone()))?;
    Ok(vec![whole, closeup])
}

/// A picture as it would leave the box.
#[derive(Debug)]
pub struct Preview {
    /// It.
    pub picture: EvidencePicture,
    /// What was made unreadable in it, as fractions of the picture; a part may lie outside. Privacy zones are not among them.
    pub regions: Vec<BBox>,
    /// Width and height of the frame, which has more pixels than the picture where that would have been too large.
    pub size: (u32, u32),
}

/// Makes a whole picture as it would leave the box, by what was found in it.
///
/// # Errors
/// When the picture cannot be read or encoded.
pub fn preview(frame: &Frame, detections: &[Detection], settings: &Settings) -> Result<Preview, EvidenceError> {
    let nowhere = BBox {
        x1: 0.0,
        y1: 0.0,
        x2: 0.0,
        y2: 0.0,
    };
    let shot = Shot {
        frame,
        bbox: nowhere,
        detections,
    };
    let (picture, encoder) = masked(&shot, settings)?;
    let regions = match encoder.masked {
        true => mask::regions(detections),
        false => Vec::new(),
    };
    Ok(Preview {
        picture: encoder.encode(Role::Scene, &picture, None)?,
        regions: regions.iter().map(|r| r.bbox).collect(),
        size: (frame.width, frame.height),
    })
}

/// A frame as PNG: the original of a source that gives decoded pictures.
///
/// # Errors
/// When the frame is broken or cannot be encoded.
pub fn lossless(frame: &Frame) -> Result<Vec<u8>, EvidenceError> {
    let at = frame.captured_at;
    let picture = frame.to_rgb().map_err(|source| EvidenceError::Frame { at, source })?;
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&picture, picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|source| EvidenceError::Encode {
            role: Role::Scene,
            at,
            source,
        })?;
    Ok(png)
}

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The two looks are too near to each other to show that the thing stayed.
    #[error("the confirming picture ({confirmed}) is less than {least:?} later than the first ({first})")]
    TooClose {
        /// First look.
        first: Timestamp,
        /// Confirming look.
        confirmed: Timestamp,
        /// Least time between them.
        least: Duration,
    },
    /// The frame is broken.
    #[error("the picture of {at} cannot be read: {source}")]
    Frame {
        /// Of which look.
        at: Timestamp,
        /// What is wrong with it.
        source: FrameError,
    },
    /// The encoder refused.
    #[error("the {role:?} picture of {at} could not be encoded: {source}")]
    Encode {
        /// Which.
        role: Role,
        /// Of which look.
        at: Timestamp,
        /// What the encoder said.
        source: image::ImageError,
    },
}

impl EvidenceError {
    /// What it means.
    pub fn class(&self) -> Class {
        match self {
            Self::Encode { .. } => Class::Bug,
            Self::TooClose { .. } | Self::Frame { .. } => Class::Data,
        }
    }
}

/// Makes a case's pictures: `scene` and `overlay` of both looks, and a `closeup` of the confirming one.
///
/// # Errors
/// When the looks are not in order or a picture cannot be encoded.
pub fn make(
    first: &Shot<'_>,
    confirming: &Shot<'_>,
    settings: &Settings,
) -> Result<Vec<EvidencePicture>, EvidenceError> {
    let (t1, t2) = (first.frame.captured_at, confirming.frame.captured_at);
    let apart = Duration::try_from(t2.duration_since(t1)).unwrap_or(Duration::ZERO);
    if apart < settings.min_interval.max(Duration::from_nanos(1)) {
        return Err(EvidenceError::TooClose {
            first: t1,
            confirmed: t2,
            least: settings.min_interval,
        });
    }
    let mut pictures = Vec::with_capacity(5);
    look(first, settings, false, &mut pictures)?;
    look(confirming, settings, true, &mut pictures)?;
    Ok(pictures)
}

fn look(
    shot: &Shot<'_>,
    settings: &Settings,
    closeup: bool,
    out: &mut Vec<EvidencePicture>,
) -> Result<(), EvidenceError> {
    let (mut picture, encoder) = masked(shot, settings)?;
    let scene = encoder.encode(Role::Scene, &picture, None)?;
    let original = Some(scene.sha256.clone());
    if closeup {
        out.push(encoder.encode(Role::Closeup, &around(&picture, shot.bbox), original.clone())?);
    }
    draw::outline(&mut picture, shot.bbox);
    let overlay = encoder.encode(Role::Overlay, &picture, original)?;
    out.push(scene);
    out.push(overlay);
    Ok(())
}

/// What is alike in all pictures of one look.
struct Encoder<'a> {
    at: Timestamp,
    masked: bool,
    settings: &'a Settings,
}

/// The picture of a look without what must not be shown, and who encodes what is made of it.
fn masked<'a>(shot: &Shot<'_>, settings: &'a Settings) -> Result<(RgbImage, Encoder<'a>), EvidenceError> {
    let at = shot.frame.captured_at;
    let mut picture = shot
        .frame
        .to_rgb()
        .map_err(|source| EvidenceError::Frame { at, source })?;
    let masked = settings.mask && settings.finds_persons;
    if masked {
        mask::mosaics(&mut picture, &mask::regions(shot.detections));
    }
    for polygon in &settings.privacy {
        mask::polygon(&mut picture, polygon);
    }
    Ok((picture, Encoder { at, masked, settings }))
}

/// What lies around a box, at the picture's own resolution.
fn around(picture: &RgbImage, bbox: BBox) -> RgbImage {
    let area = draw::surroundings(picture, bbox);
    image::imageops::crop_imm(picture, area.x, area.y, area.width, area.height).to_image()
}

impl Encoder<'_> {
    fn encode(
        &self,
        role: Role,
        image: &RgbImage,
        derived_from: Option<String>,
    ) -> Result<EvidencePicture, EvidenceError> {
        let Encoded { jpeg, width, height } =
            encode::bounded(image, self.settings.jpeg_quality, self.settings.max_bytes).map_err(|source| {
                EvidenceError::Encode {
                    role,
                    at: self.at,
                    source,
                }
            })?;
        Ok(EvidencePicture {
            role,
            sha256: sha256_hex(&jpeg),
            width,
            height,
            captured_at: self.at,
            derived_from,
            masked: self.masked,
            jpeg,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(at: i64) -> Frame {
        let picture = RgbImage::from_fn(640, 360, |x, y| image::Rgb([(x / 3) as u8, (y / 2) as u8, 90]));
        Frame::from_rgb(&picture, Timestamp::from_second(at).unwrap()).unwrap()
    }

    fn settings() -> Settings {
        Settings {
            jpeg_quality: 90,
            max_bytes: 400_000,
            min_interval: Duration::from_secs(10),
            mask: true,
            finds_persons: true,
            privacy: vec![],
        }
    }

    const BOX: BBox = BBox {
        x1: 0.4,
        y1: 0.5,
        x2: 0.6,
        y2: 0.8,
    };

    #[test]
    fn a_case_has_both_scenes_both_overlays_and_a_closeup_that_name_their_originals() {
        let (a, b) = (frame(100), frame(160));
        let shot = |frame| Shot {
            frame,
            bbox: BOX,
            detections: &[],
        };
        let pictures = make(&shot(&a), &shot(&b), &settings()).unwrap();

        let roles: Vec<_> = pictures.iter().map(|p| (p.role, p.captured_at.as_second())).collect();
        assert_eq!(
            roles,
            [
                (Role::Scene, 100),
                (Role::Overlay, 100),
                (Role::Closeup, 160),
                (Role::Scene, 160),
                (Role::Overlay, 160)
            ]
        );
        assert_eq!(pictures[1].derived_from.as_ref(), Some(&pictures[0].sha256));
        assert_eq!(pictures[2].derived_from.as_ref(), Some(&pictures[3].sha256));
        for p in &pictures {
            let decoded = image::load_from_memory(&p.jpeg).unwrap().to_rgb8();
            assert_eq!((decoded.width(), decoded.height()), (p.width, p.height));
            assert_eq!(p.sha256, sha256_hex(&p.jpeg));
        }
        assert_eq!((pictures[3].width, pictures[3].height), (640, 360), "full resolution");
    }

    #[test]
    fn looks_less_than_ten_seconds_apart_or_in_the_wrong_order_are_no_evidence() {
        let frames = [frame(100), frame(109), frame(110)];
        let [a, b, c] = [0, 1, 2].map(|i| Shot {
            frame: &frames[i],
            bbox: BOX,
            detections: &[],
        });
        for (first, confirming) in [(&a, &a), (&a, &b), (&c, &a)] {
            assert!(matches!(
                make(first, confirming, &settings()),
                Err(EvidenceError::TooClose { .. })
            ));
        }
        assert!(make(&a, &c, &settings()).is_ok());
    }

    #[test]
    fn what_no_model_looks_for_is_not_called_masked() {
        let (a, b) = (frame(100), frame(160));
        let shot = |frame| Shot {
            frame,
            bbox: BOX,
            detections: &[],
        };
        let blind = Settings {
            finds_persons: false,
            ..settings()
        };
        assert!(make(&shot(&a), &shot(&b), &blind).unwrap().iter().all(|p| !p.masked));
    }
}
