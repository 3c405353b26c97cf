//! Makes the evidence pictures on a thread of its own, so that the core keeps deciding meanwhile.
//!
//! A job holds the very keyframes that were searched; they are decoded again here. A transient failure (a full disk, a mask model that
//! fails) is reported to the core and retried until it passes; any other failure is final for that case.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use bytes::Bytes;
use gridwatch_console::daemon::Masking;
use metrics::{counter, histogram};
use tokio::sync::mpsc::Sender;

use super::{
    console::{self, PictureKind},
    messages::{CoreEvent, EvidenceJob, EvidenceRequest, PictureJob},
    pictures::MaskDetector,
    pinned_frames::PinnedFrame,
};
use gridwatch_base::{error::Class, metric};
use gridwatch_camera::{Codec, Picture, decode::Decoder};
use gridwatch_custody::vault::{OriginalFormat, Vault};
use gridwatch_engine::{BBox, CameraId, Detection};
use gridwatch_evidence as evidence;
use gridwatch_evidence::{EvidencePicture, Role, Shot};
use gridwatch_frame::Frame;
use gridwatch_model::ModelError;
use gridwatch_store as store;

/// Delay between two attempts of a failed job.
const RETRY: Duration = Duration::from_secs(5);

/// What the worker needs to make pictures.
pub(super) struct EvidenceWorker {
    pub(super) decoder: Decoder,
    pub(super) settings: BTreeMap<CameraId, evidence::Settings>,
    pub(super) state_dir: PathBuf,
    /// Detects faces, persons and vehicles to be masked.
    pub(super) mask_detector: Option<MaskDetector>,
    /// Encrypted originals; `None` if the configuration keeps none.
    pub(super) vault: Option<Vault>,
}

/// What a changed configuration changes for the worker; what is `None` stays as it is.
pub(super) struct EvidenceUpdate {
    pub(super) settings: BTreeMap<CameraId, evidence::Settings>,
    pub(super) mask_detector: Option<Option<MaskDetector>>,
    pub(super) decoder: Option<Decoder>,
    /// `Some(None)`: originals are not kept any more.
    pub(super) vault: Option<Option<Vault>>,
}

/// Why evidence pictures could not be made.
#[derive(Debug, thiserror::Error)]
enum EvidenceJobError {
    #[error("camera {0} is not configured")]
    UnknownCamera(CameraId),
    #[error(transparent)]
    Decode(#[from] gridwatch_camera::decode::DecodeError),
    #[error(transparent)]
    Evidence(#[from] evidence::EvidenceError),
    /// A picture that was not searched for faces must not leave the box.
    #[error("cannot mask the picture, so it is held back: {0}")]
    Mask(#[from] ModelError),
    #[error("cannot store the original: {0}")]
    Original(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl EvidenceJobError {
    /// True if the disk is full.
    fn is_disk_full(&self) -> bool {
        match self {
            Self::Original(e) => matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Store(e) => matches!(e, store::StoreError::DiskFull { .. }),
            _ => false,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::UnknownCamera(_) => Class::Bug,
            Self::Decode(e) => e.class(),
            Self::Evidence(e) => e.class(),
            // A full or failing disk.
            Self::Original(_) => Class::Transient,
            // The frame will not change. Anything else may pass: memory, a driver, an accelerator.
            Self::Mask(ModelError::Frame(e)) => e.class(),
            Self::Mask(_) => Class::Transient,
            Self::Store(e) => e.class(),
        }
    }
}

impl PictureJob {
    /// True if the platform gets its answer without pictures rather than late: a finding shows no face.
    fn is_answered_without(&self, error: &EvidenceJobError) -> bool {
        matches!((self, error), (Self::Verified { .. }, EvidenceJobError::Mask(_)))
    }
}

impl EvidenceWorker {
    /// Runs until the queue is closed and every job has ended.
    pub(super) fn run(mut self, jobs: &Receiver<EvidenceJob>, core: &Sender<CoreEvent>) {
        let mut waiting: Vec<PictureJob> = Vec::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            match jobs.recv_timeout(RETRY) {
                Ok(EvidenceJob::Pictures(job)) => waiting.push(job),
                Ok(EvidenceJob::Update(update)) => self.update(*update),
                Ok(EvidenceJob::Console(request)) => {
                    let made = self.make_for_console(&request);
                    // The browser may be gone.
                    let _ = request.answer.send(made.map_err(|error| error.to_string()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Shutting down with a full disk: the problems are confirmed again after the restart.
                Err(RecvTimeoutError::Disconnected) if !open => return,
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            waiting = waiting.into_iter().filter_map(|job| self.try_job(job, core)).collect();
        }
    }

    fn update(&mut self, update: EvidenceUpdate) {
        let EvidenceUpdate {
            settings,
            mask_detector,
            decoder,
            vault,
        } = update;
        // Those of views that were removed stay: a job that is retried may need them.
        self.settings.extend(settings);
        if let Some(mask_detector) = mask_detector {
            self.mask_detector = mask_detector;
        }
        if let Some(decoder) = decoder {
            self.decoder = decoder;
        }
        if let Some(vault) = vault {
            self.vault = vault;
        }
    }

    fn make_for_console(&mut self, request: &EvidenceRequest) -> Result<Bytes, EvidenceJobError> {
        let unknown = || EvidenceJobError::UnknownCamera(request.view.clone());
        let mut settings = self.settings.get(&request.view).ok_or_else(unknown)?.clone();
        let frame = self.frame(&request.picture)?;
        let mut found = request.detections.to_vec();
        settings.finds_persons = request.finds_persons;
        if let (PictureKind::Full(Masking::Masked), Some(masks)) = (request.kind, &mut self.mask_detector) {
            found.extend(masks.detector.detect(&frame)?);
            settings.finds_persons |= masks.finds_persons;
        }
        Ok(console::make(&frame, &found, &settings, request.kind)?)
    }

    /// Returns the job if it should be retried.
    fn try_job(&mut self, job: PictureJob, core: &Sender<CoreEvent>) -> Option<PictureJob> {
        let result = match self.make_pictures(&job) {
            Err(error) if error.class() == Class::Transient && !job.is_answered_without(&error) => {
                tracing::error!(case = %job.case(), %error, "Cannot make evidence pictures yet; retrying");
                let _ = core.blocking_send(CoreEvent::EvidenceDelayed {
                    is_disk_full: error.is_disk_full(),
                    reason: error.to_string(),
                });
                return Some(job);
            }
            result => result,
        };
        let event = match (job, result) {
            (
                PictureJob::Case {
                    case,
                    confirming,
                    records,
                    ..
                },
                Ok(pictures),
            ) => CoreEvent::EvidenceReady {
                case,
                pictures,
                detected_by: confirming.detected_by,
                records,
            },
            (PictureJob::Case { case, .. }, Err(error)) => {
                tracing::error!(case = %case.id, %error, "Case dropped: cannot make its evidence pictures");
                CoreEvent::EvidenceFailed { case: case.id }
            }
            (PictureJob::Verified { answer, .. }, result) => {
                if let Err(error) = &result {
                    tracing::error!(case = %answer.case, %error, "Verification reported without pictures: cannot make them");
                }
                CoreEvent::VerificationReady {
                    answer,
                    pictures: result.unwrap_or_default(),
                }
            }
        };
        // The core outlives this worker; if it is gone, the process is ending.
        let _ = core.blocking_send(event);
        None
    }

    fn make_pictures(&mut self, job: &PictureJob) -> Result<Vec<EvidencePicture>, EvidenceJobError> {
        // Without its settings the picture's privacy zones are unknown, and it must not be published.
        let settings = self
            .settings
            .get(job.camera())
            .ok_or_else(|| EvidenceJobError::UnknownCamera(job.camera().clone()))?
            .clone();
        let pictures = match job {
            PictureJob::Case {
                case,
                first,
                confirming,
                ..
            } => {
                let (first, confirming) = (self.decode_look(first)?, self.decode_look(confirming)?);
                let shots = (first.shot(case.first_box), confirming.shot(case.confirmed_box));
                let mut pictures = evidence::case_pictures(&shots.0, &shots.1, &settings)?;
                for decoded in [&first, &confirming] {
                    self.store_original(decoded, &mut pictures)?;
                }
                pictures
            }
            PictureJob::Verified { answer, look } => {
                let decoded = self.decode_look(look)?;
                let mut pictures = evidence::verification_pictures(&decoded.shot(answer.bbox), &settings)?;
                self.store_original(&decoded, &mut pictures)?;
                pictures
            }
        };
        for picture in &pictures {
            let masked = if picture.masked { "true" } else { "false" };
            counter!(metric::EVIDENCE_PICTURES, "masked" => masked).increment(1);
            if picture.masked && matches!(picture.role, Role::Scene | Role::After) {
                histogram!(metric::MASKED_SHARE).record(picture.masked_share);
            }
            store::evidence_file::write(&self.state_dir, &picture.jpeg)?;
        }
        Ok(pictures)
    }

    /// Decodes a look, and adds the detections to be masked to those of the look.
    fn decode_look(&mut self, look: &PinnedFrame) -> Result<DecodedLook, EvidenceJobError> {
        let frame = self.frame(&look.picture)?;
        let mut detections = look.detections.to_vec();
        if let Some(masks) = &mut self.mask_detector {
            detections.extend(masks.detector.detect(&frame)?);
        }
        Ok(DecodedLook {
            picture: look.picture.clone(),
            frame,
            detections,
        })
    }

    /// Stores the bytes that the camera sent, and records their hash in the pictures derived from them.
    fn store_original(&self, look: &DecodedLook, pictures: &mut [EvidencePicture]) -> Result<(), EvidenceJobError> {
        let Some(vault) = &self.vault else { return Ok(()) };
        let stored = match &look.picture {
            Picture::Keyframe(keyframe) => {
                let format = match keyframe.codec {
                    Codec::H264 => OriginalFormat::H264,
                    Codec::H265 => OriginalFormat::H265,
                };
                vault.put(format, &keyframe.data)
            }
            Picture::Frame(frame) => vault.put(OriginalFormat::Png, &evidence::encode_png(frame)?),
        };
        let sha256 = stored.map_err(EvidenceJobError::Original)?;
        let is_derived = |p: &&mut EvidencePicture| p.captured_at == look.frame.captured_at && p.derived_from.is_none();
        for picture in pictures.iter_mut().filter(is_derived) {
            picture.derived_from = Some(sha256.clone());
        }
        Ok(())
    }

    fn frame(&mut self, picture: &Picture) -> Result<Arc<Frame>, EvidenceJobError> {
        Ok(match picture {
            Picture::Keyframe(keyframe) => Arc::new(self.decoder.decode(keyframe)?),
            Picture::Frame(frame) => Arc::clone(frame),
        })
    }
}

/// A decoded look with its detections, those to be masked included.
struct DecodedLook {
    picture: Picture,
    frame: Arc<Frame>,
    detections: Vec<Detection>,
}

impl DecodedLook {
    fn shot(&self, bbox: BBox) -> Shot<'_> {
        Shot {
            frame: &self.frame,
            bbox,
            detections: &self.detections,
        }
    }
}

#[cfg(test)]
mod tests;
