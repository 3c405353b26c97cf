//! Makes the evidence pictures of a case from the frames that the models judged: masked, encoded and hashed.
//!
//! Pure functions: no decoding of video, no files, no database. A case is filed with all of its pictures or not at all, so
//! the first failure fails the whole set.

mod draw;
mod encode;
mod mask;

use std::time::Duration;

pub use self::mask::{is_masked, is_of_person};
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder};
use jiff::Timestamp;

use self::encode::Encoded;
use gridwatch_base::{digest::sha256_hex, error::Class};
use gridwatch_engine::{BBox, Detection, Point};
use gridwatch_frame::{Frame, FrameError};

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The whole view.
    Scene,
    /// The problem and its surroundings, at the camera's resolution.
    Closeup,
    /// The whole view with a box around the problem.
    Overlay,
    /// The whole view at the verification.
    After,
}

/// An encoded evidence picture.
#[derive(Debug, Clone)]
pub struct EvidencePicture {
    /// What it shows.
    pub role: Role,
    /// JPEG bytes.
    pub jpeg: Vec<u8>,
    /// SHA-256 of `jpeg`, 64 lower-case hex digits.
    pub sha256: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Arrival time of the frame.
    pub captured_at: Timestamp,
    /// SHA-256 of its source: of the scene for a closeup or an overlay, of the original for a scene.
    pub derived_from: Option<String>,
    /// True if a model looked for faces or persons in the frame and every region found was masked.
    pub masked: bool,
    /// The share of the frame's area that the masks cover, 0..=1; without privacy zones.
    pub masked_share: f64,
}

/// A judged frame with its detections.
#[derive(Debug)]
pub struct Shot<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// The box of the problem.
    pub bbox: BBox,
    /// All detections in the frame; persons, faces and vehicles are masked.
    pub detections: &'a [Detection],
}

/// How pictures are masked and encoded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// JPEG quality, 50..=100. Lowered for pictures above `max_bytes`.
    pub jpeg_quality: u8,
    /// Size limit of one picture in bytes. Quality is lowered first, to no less than 60, then the resolution.
    pub max_bytes: usize,
    /// Least time between the first and the confirming look.
    pub min_interval: Duration,
    /// Mask heads and licence plates.
    pub mask: bool,
    /// A model that detects persons or faces looked at the frame. Otherwise no picture can be masked.
    pub finds_persons: bool,
    /// Privacy zones: polygons that are blackened.
    pub privacy: Vec<Vec<Point>>,
}

/// Makes the pictures of a verification look: the whole view and a closeup of `shot.bbox`.
///
/// # Errors
/// The frame is invalid or cannot be encoded.
pub fn verification_pictures(shot: &Shot<'_>, settings: &Settings) -> Result<Vec<EvidencePicture>, EvidenceError> {
    let (picture, encoder) = masked(shot, settings)?;
    let whole = encoder.encode(Role::After, &picture, None)?;
    let closeup = encoder.encode(
        Role::Closeup,
        &crop_around(&picture, shot.bbox),
        Some(whole.sha256.clone()),
    )?;
    Ok(vec![whole, closeup])
}

/// A picture as it would be sent, for checking the masks.
#[derive(Debug)]
pub struct Preview {
    /// The picture.
    pub picture: EvidencePicture,
    /// The masked regions as fractions of the picture; they may extend beyond it. Without privacy zones.
    pub regions: Vec<BBox>,
    /// Width and height of the frame in pixels; the picture may have fewer because of the size limit.
    pub size: (u32, u32),
}

/// Masks and encodes a whole frame as it would be sent.
///
/// # Errors
/// The frame is invalid or cannot be encoded.
pub fn preview(frame: &Frame, detections: &[Detection], settings: &Settings) -> Result<Preview, EvidenceError> {
    let no_problem = BBox {
        x1: 0.0,
        y1: 0.0,
        x2: 0.0,
        y2: 0.0,
    };
    let shot = Shot {
        frame,
        bbox: no_problem,
        detections,
    };
    let (picture, encoder) = masked(&shot, settings)?;
    let regions = match settings.mask {
        true => mask::regions(detections),
        false => Vec::new(),
    };
    Ok(Preview {
        picture: encoder.encode(Role::Scene, &picture, None)?,
        regions: regions.iter().map(|r| r.bbox).collect(),
        size: (frame.width, frame.height),
    })
}

/// Encodes a frame as PNG, as the original of a source that delivers decoded frames.
///
/// # Errors
/// The frame is invalid or cannot be encoded.
pub fn encode_png(frame: &Frame) -> Result<Vec<u8>, EvidenceError> {
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

/// Why the pictures could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The two looks are too close in time to prove that the problem persisted.
    #[error("the confirming look ({confirmed}) is less than {min_interval:?} after the first ({first})")]
    TooClose {
        /// Time of the first look.
        first: Timestamp,
        /// Time of the confirming look.
        confirmed: Timestamp,
        /// Least time between them.
        min_interval: Duration,
    },
    /// The frame is invalid.
    #[error("invalid frame of {at}: {source}")]
    Frame {
        /// Arrival time of the frame.
        at: Timestamp,
        /// The fault.
        source: FrameError,
    },
    /// Pictures have to be masked, and no model looked for persons or faces.
    #[error(
        "cannot mask the picture of {at}: no model detects persons or faces in it, and unmasked it must not leave the box; add such a \
         model to evidence.mask_models"
    )]
    Unmaskable {
        /// Arrival time of the frame.
        at: Timestamp,
    },
    /// The encoder failed.
    #[error("cannot encode the {role:?} picture of {at}: {source}")]
    Encode {
        /// What the picture shows.
        role: Role,
        /// Arrival time of the frame.
        at: Timestamp,
        /// The error of the encoder.
        source: image::ImageError,
    },
}

impl EvidenceError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Encode { .. } => Class::Bug,
            Self::TooClose { .. } | Self::Frame { .. } => Class::Data,
            Self::Unmaskable { .. } => Class::Config,
        }
    }
}

/// Makes the pictures of a case: scene and overlay of both looks, and a closeup of the confirming look.
///
/// # Errors
/// [`EvidenceError::TooClose`] if the looks are too close or in the wrong order; an invalid frame; a failed encoding.
pub fn case_pictures(
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
            min_interval: settings.min_interval,
        });
    }
    let mut pictures = Vec::with_capacity(5);
    add_look(first, settings, false, &mut pictures)?;
    add_look(confirming, settings, true, &mut pictures)?;
    Ok(pictures)
}

/// Adds the pictures of one look to `out`.
fn add_look(
    shot: &Shot<'_>,
    settings: &Settings,
    with_closeup: bool,
    out: &mut Vec<EvidencePicture>,
) -> Result<(), EvidenceError> {
    let (mut picture, encoder) = masked(shot, settings)?;
    let scene = encoder.encode(Role::Scene, &picture, None)?;
    let original = Some(scene.sha256.clone());
    if with_closeup {
        out.push(encoder.encode(Role::Closeup, &crop_around(&picture, shot.bbox), original.clone())?);
    }
    draw::outline(&mut picture, shot.bbox);
    let overlay = encoder.encode(Role::Overlay, &picture, original)?;
    out.push(scene);
    out.push(overlay);
    Ok(())
}

/// Encodes the pictures of one look.
struct PictureEncoder<'a> {
    at: Timestamp,
    /// See [`EvidencePicture::masked_share`].
    masked_share: f64,
    settings: &'a Settings,
}

/// The masked picture of a frame, and the encoder for everything made from it.
fn masked<'a>(shot: &Shot<'_>, settings: &'a Settings) -> Result<(RgbImage, PictureEncoder<'a>), EvidenceError> {
    let at = shot.frame.captured_at;
    let mut picture = shot
        .frame
        .to_rgb()
        .map_err(|source| EvidenceError::Frame { at, source })?;
    let mut masked_share = 0.0;
    if settings.mask {
        if !settings.finds_persons {
            return Err(EvidenceError::Unmaskable { at });
        }
        let regions = mask::regions(shot.detections);
        masked_share = mask::share(&picture, &regions);
        mask::mosaics(&mut picture, &regions);
    }
    for polygon in &settings.privacy {
        mask::polygon(&mut picture, polygon);
    }
    let encoder = PictureEncoder {
        at,
        masked_share,
        settings,
    };
    Ok((picture, encoder))
}

/// Crops the box and its surroundings at full resolution.
fn crop_around(picture: &RgbImage, bbox: BBox) -> RgbImage {
    let area = draw::surroundings(picture, bbox);
    image::imageops::crop_imm(picture, area.x, area.y, area.width, area.height).to_image()
}

impl PictureEncoder<'_> {
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
            masked: self.settings.mask,
            masked_share: self.masked_share,
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
    fn case_has_scene_and_overlay_of_both_looks_and_a_closeup_linked_to_their_sources() {
        let (a, b) = (frame(100), frame(160));
        let shot = |frame| Shot {
            frame,
            bbox: BOX,
            detections: &[],
        };
        let pictures = case_pictures(&shot(&a), &shot(&b), &settings()).unwrap();

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
    fn looks_too_close_or_in_the_wrong_order_are_rejected() {
        let frames = [frame(100), frame(109), frame(110)];
        let [a, b, c] = [0, 1, 2].map(|i| Shot {
            frame: &frames[i],
            bbox: BOX,
            detections: &[],
        });
        for (first, confirming) in [(&a, &a), (&a, &b), (&c, &a)] {
            assert!(matches!(
                case_pictures(first, confirming, &settings()),
                Err(EvidenceError::TooClose { .. })
            ));
        }
        assert!(case_pictures(&a, &c, &settings()).is_ok());
    }

    #[test]
    fn without_a_person_detector_pictures_are_refused_unless_masking_is_off() {
        let (a, b) = (frame(100), frame(160));
        let shot = |frame| Shot {
            frame,
            bbox: BOX,
            detections: &[],
        };
        let no_person_detector = Settings {
            finds_persons: false,
            ..settings()
        };
        let refused = case_pictures(&shot(&a), &shot(&b), &no_person_detector);
        assert!(matches!(refused, Err(EvidenceError::Unmaskable { .. })), "{refused:?}");
        let refused = verification_pictures(&shot(&b), &no_person_detector);
        assert!(matches!(refused, Err(EvidenceError::Unmaskable { .. })), "{refused:?}");
        let unmasked = Settings {
            mask: false,
            ..no_person_detector
        };
        let pictures = case_pictures(&shot(&a), &shot(&b), &unmasked).unwrap();
        assert!(pictures.iter().all(|p| !p.masked && p.masked_share == 0.0));
    }
}
