//! The messages between the core, the look workers and the evidence worker.

use std::sync::Arc;

use jiff::Timestamp;

use super::{pinned_frames::PinnedFrame, record::ModelDescriptor};
use gridwatch_camera::Picture;
use gridwatch_engine::{CameraId, Case, CaseId, Observation, Verified};
use gridwatch_evidence::EvidencePicture;
use gridwatch_link::{IncomingReply, SiteNews};

/// The core's input.
pub(super) enum CoreEvent {
    /// A look whose view was assessed and, if clear, searched.
    Looked {
        observation: Observation,
        picture: Picture,
        /// The models that searched it.
        detected_by: Arc<[ModelDescriptor]>,
    },
    /// A view was learned anew, so the engine forgets what it saw there.
    Reaimed { camera: CameraId, at: Timestamp },
    /// A reply from the platform.
    Reply(IncomingReply),
    /// What follows from other boxes' claims.
    Claim(SiteNews),
    /// A case's evidence pictures.
    EvidenceReady {
        case: Box<Case>,
        pictures: Vec<EvidencePicture>,
        /// The models that searched its confirming look.
        detected_by: Arc<[ModelDescriptor]>,
    },
    /// A verification result with its pictures.
    VerificationReady {
        answer: Box<Verified>,
        pictures: Vec<EvidencePicture>,
    },
    /// A case's evidence cannot be made yet, and will be retried.
    EvidenceDelayed { reason: String, is_disk_full: bool },
    /// A case's evidence cannot be made at all.
    EvidenceFailed { case: CaseId },
    /// No more looks will come: finish the cases in progress.
    Stop,
}

/// A request of the core for evidence pictures.
pub(super) enum EvidenceJob {
    /// For a confirmed case: its first and its confirming look.
    Case {
        case: Box<Case>,
        first: PinnedFrame,
        confirming: PinnedFrame,
    },
    /// For a verification result: the look that decided it.
    Verified { answer: Box<Verified>, look: PinnedFrame },
}

impl EvidenceJob {
    pub(super) fn case(&self) -> &CaseId {
        match self {
            Self::Case { case, .. } => &case.id,
            Self::Verified { answer, .. } => &answer.case,
        }
    }

    pub(super) fn camera(&self) -> &CameraId {
        match self {
            Self::Case { case, .. } => &case.camera,
            Self::Verified { answer, .. } => &answer.camera,
        }
    }
}
