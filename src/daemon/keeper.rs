//! Makes a case's pictures on a thread of its own, so that the core goes on deciding meanwhile.
//!
//! A job holds the very keyframes that were judged; they are decoded again here. A full disk is waited out: the case is
//! tried again until there is room, and says so. Anything else that fails is final for that case.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use super::{core::Event, pins::Pinned};
use crate::{
    camera::{Picture, decode::Decoder},
    engine::{CameraId, Case},
    error::Class,
    evidence::{self, EvidencePicture, Shot},
    frame::Frame,
    store,
};

/// A confirmed case and the two looks that show it.
pub(super) struct Job {
    pub(super) case: Box<Case>,
    pub(super) first: Pinned,
    pub(super) confirming: Pinned,
}

/// How long a full disk is left alone before the next try.
const RETRY: Duration = Duration::from_secs(5);

/// The keeper's standing knowledge.
pub(super) struct Keeper {
    pub(super) decoder: Decoder,
    pub(super) settings: BTreeMap<CameraId, evidence::Settings>,
    pub(super) state_dir: PathBuf,
}

/// Why a case's pictures could not be made.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("camera {0} is not configured")]
    Unknown(CameraId),
    #[error(transparent)]
    Decode(#[from] crate::camera::decode::DecodeError),
    #[error(transparent)]
    Evidence(#[from] evidence::EvidenceError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl KeepError {
    fn class(&self) -> Class {
        match self {
            Self::Unknown(_) => Class::Bug,
            Self::Decode(e) => e.class(),
            Self::Evidence(e) => e.class(),
            Self::Store(e) => e.class(),
        }
    }
}

impl Keeper {
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
        let event = match self.make(&job) {
            Ok(pictures) => Event::Pictured {
                case: job.case,
                pictures,
                seen_by: job.confirming.seen_by,
            },
            Err(error) if error.class() == Class::Transient => {
                tracing::error!(case = %job.case.id, %error, "A case waits for its pictures; it is tried again.");
                let _ = core.send(Event::Waiting {
                    reason: error.to_string(),
                });
                return Some(job);
            }
            Err(error) => {
                tracing::error!(case = %job.case.id, %error, "A case is dropped: its pictures cannot be made.");
                Event::NotPictured { case: job.case.id }
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
            .get(&job.case.camera)
            .ok_or_else(|| KeepError::Unknown(job.case.camera.clone()))?
            .clone();
        let first = self.frame(&job.first.picture)?;
        let confirming = self.frame(&job.confirming.picture)?;
        let pictures = evidence::make(
            &Shot {
                frame: &first,
                bbox: job.case.first_box,
                detections: &job.first.detections,
            },
            &Shot {
                frame: &confirming,
                bbox: job.case.confirmed_box,
                detections: &job.confirming.detections,
            },
            &settings,
        )?;
        for picture in &pictures {
            store::evidence_file::write(&self.state_dir, &picture.jpeg)?;
        }
        Ok(pictures)
    }

    fn frame(&mut self, picture: &Picture) -> Result<Arc<Frame>, KeepError> {
        Ok(match picture {
            Picture::Keyframe(keyframe) => Arc::new(self.decoder.decode(keyframe)?),
            Picture::Frame(frame) => Arc::clone(frame),
        })
    }
}
