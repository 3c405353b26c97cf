//! Makes a case's pictures on a thread of its own, so that the core goes on deciding meanwhile.
//!
//! A job holds the very keyframes that were judged; they are decoded again here. A full disk is waited out: the case is
//! tried again until there is room, and says so. Anything else that fails is final for that case.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use super::{core::Event, pinned_frames::Pinned};
use gridwatch_base::error::Class;
use gridwatch_camera::{Codec, Picture, decode::Decoder};
use gridwatch_custody::vault::{Format, Vault};
use gridwatch_engine::{BBox, CameraId, Case, CaseId, Detection, Verified};
use gridwatch_evidence as evidence;
use gridwatch_evidence::{EvidencePicture, Shot};
use gridwatch_frame::Frame;
use gridwatch_model::{ModelError, TiledDetector};
use gridwatch_store as store;

/// Pictures to be made.
pub(super) enum Job {
    /// Of a confirmed case: the two looks that show it.
    Case {
        case: Box<Case>,
        first: Pinned,
        confirming: Pinned,
    },
    /// Of a case that was looked at again: the look that decided.
    Verified { answer: Box<Verified>, look: Pinned },
}

impl Job {
    fn case(&self) -> &CaseId {
        match self {
            Self::Case { case, .. } => &case.id,
            Self::Verified { answer, .. } => &answer.case,
        }
    }

    fn camera(&self) -> &CameraId {
        match self {
            Self::Case { case, .. } => &case.camera,
            Self::Verified { answer, .. } => &answer.camera,
        }
    }
}

/// How long a full disk is left alone before the next try.
const RETRY: Duration = Duration::from_secs(5);

/// The keeper's standing knowledge.
pub(super) struct EvidenceWorker {
    pub(super) decoder: Decoder,
    pub(super) settings: BTreeMap<CameraId, evidence::Settings>,
    pub(super) state_dir: PathBuf,
    /// Models that look for faces, persons and vehicles in each picture.
    pub(super) masks: Option<TiledDetector>,
    /// Where originals are kept, where they are.
    pub(super) vault: Option<Vault>,
}

/// Why a case's pictures could not be made.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("camera {0} is not configured")]
    Unknown(CameraId),
    #[error(transparent)]
    Decode(#[from] gridwatch_camera::decode::DecodeError),
    #[error(transparent)]
    Evidence(#[from] evidence::EvidenceError),
    /// A picture that nobody could look through for faces does not leave the box.
    #[error("it cannot be masked: {0}")]
    Mask(#[from] ModelError),
    #[error("its original cannot be kept: {0}")]
    Original(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl KeepError {
    /// There is no room on the disk.
    fn is_full(&self) -> bool {
        match self {
            Self::Original(e) => matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Store(e) => matches!(e, store::StoreError::DiskFull { .. }),
            _ => false,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Unknown(_) => Class::Bug,
            Self::Decode(e) => e.class(),
            Self::Evidence(e) => e.class(),
            // The disk: full, or dying.
            Self::Original(_) => Class::Transient,
            Self::Mask(e) => e.class(),
            Self::Store(e) => e.class(),
        }
    }
}

impl EvidenceWorker {
    /// Works until the jobs end and the last one is made.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, core: &SyncSender<Event>) {
        let mut waiting: Vec<Job> = Vec::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            match jobs.recv_timeout(RETRY) {
                Ok(job) => waiting.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                // Shutting down with a full disk: the cases are not lost, their problems are seen again after the restart.
                Err(RecvTimeoutError::Disconnected) if !open => return,
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            waiting = waiting.into_iter().filter_map(|job| self.attempt(job, core)).collect();
        }
    }

    /// Gives the job back when it is worth another try.
    fn attempt(&mut self, job: Job, core: &SyncSender<Event>) -> Option<Job> {
        let made = match self.make(&job) {
            Err(error) if error.class() == Class::Transient => {
                tracing::error!(case = %job.case(), %error, "A case waits for its pictures; it is tried again.");
                let _ = core.send(Event::Waiting {
                    is_full: error.is_full(),
                    reason: error.to_string(),
                });
                return Some(job);
            }
            made => made,
        };
        let event = match (job, made) {
            (Job::Case { case, confirming, .. }, Ok(pictures)) => Event::Pictured {
                case,
                pictures,
                seen_by: confirming.seen_by,
            },
            (Job::Case { case, .. }, Err(error)) => {
                tracing::error!(case = %case.id, %error, "A case is dropped: its pictures cannot be made.");
                Event::NotPictured { case: case.id }
            }
            (Job::Verified { answer, .. }, made) => {
                if let Err(error) = &made {
                    tracing::error!(case = %answer.case, %error, "What became of a case is told without a picture: none can be made.");
                }
                Event::Verified {
                    answer,
                    pictures: made.unwrap_or_default(),
                }
            }
        };
        // The core outlives the keeper; if it is gone the process is ending.
        let _ = core.send(event);
        None
    }

    fn make(&mut self, job: &Job) -> Result<Vec<EvidencePicture>, KeepError> {
        // Without its settings a picture's privacy zones are unknown, and it must not be shown.
        let settings = self
            .settings
            .get(job.camera())
            .ok_or_else(|| KeepError::Unknown(job.camera().clone()))?
            .clone();
        let pictures = match job {
            Job::Case {
                case,
                first,
                confirming,
            } => {
                let (first, confirming) = (self.seen(first)?, self.seen(confirming)?);
                let shots = (first.shot(case.first_box), confirming.shot(case.confirmed_box));
                let mut pictures = evidence::make(&shots.0, &shots.1, &settings)?;
                for seen in [&first, &confirming] {
                    self.keep_original(seen, &mut pictures)?;
                }
                pictures
            }
            Job::Verified { answer, look } => {
                let seen = self.seen(look)?;
                let mut pictures = evidence::after(&seen.shot(answer.bbox), &settings)?;
                self.keep_original(&seen, &mut pictures)?;
                pictures
            }
        };
        for picture in &pictures {
            store::evidence_file::write(&self.state_dir, &picture.jpeg)?;
        }
        Ok(pictures)
    }

    /// A look's picture, and all that was found in it: by the models that looked, and by those that look for what is masked.
    fn seen(&mut self, look: &Pinned) -> Result<Seen, KeepError> {
        let frame = self.frame(&look.picture)?;
        let mut detections = look.detections.to_vec();
        if let Some(models) = &mut self.masks {
            detections.extend(models.find(&frame)?);
        }
        Ok(Seen {
            picture: look.picture.clone(),
            frame,
            detections,
        })
    }

    /// Keeps the bytes that the camera sent, and names them in the pictures that were made of them.
    fn keep_original(&self, seen: &Seen, pictures: &mut [EvidencePicture]) -> Result<(), KeepError> {
        let Some(vault) = &self.vault else { return Ok(()) };
        let put = match &seen.picture {
            Picture::Keyframe(keyframe) => {
                let format = match keyframe.codec {
                    Codec::H264 => Format::H264,
                    Codec::H265 => Format::H265,
                };
                vault.put(format, &keyframe.data)
            }
            Picture::Frame(frame) => vault.put(Format::Png, &evidence::lossless(frame)?),
        };
        let sha256 = put.map_err(KeepError::Original)?;
        let of_it = |p: &&mut EvidencePicture| p.captured_at == seen.frame.captured_at && p.derived_from.is_none();
        for picture in pictures.iter_mut().filter(of_it) {
            picture.derived_from = Some(sha256.clone());
        }
        Ok(())
    }

    fn frame(&mut self, picture: &Picture) -> Result<Arc<Frame>, KeepError> {
        Ok(match picture {
            Picture::Keyframe(keyframe) => Arc::new(self.decoder.decode(keyframe)?),
            Picture::Frame(frame) => Arc::clone(frame),
        })
    }
}

/// A look as it came, its picture, and all that was found in it.
struct Seen {
    picture: Picture,
    frame: Arc<Frame>,
    detections: Vec<Detection>,
}

impl Seen {
    fn shot(&self, bbox: BBox) -> Shot<'_> {
        Shot {
            frame: &self.frame,
            bbox,
            detections: &self.detections,
        }
    }
}
