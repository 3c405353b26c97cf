//! The messages between the core, the look workers and the evidence worker.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use tokio::sync::oneshot;

use super::{
    console::PictureKind,
    evidence_worker::EvidenceUpdate,
    pinned_frames::PinnedFrame,
    record::{ModelDescriptor, RecordBuilder},
};
use gridwatch_camera::Picture;
use gridwatch_config::Config;
use gridwatch_console::daemon::RemovedView;
use gridwatch_engine::{CameraId, Case, CaseId, Detection, Observation, Verified};
use gridwatch_evidence::EvidencePicture;
use gridwatch_link::{IncomingReply, SiteNews};

/// The core's input.
pub(super) enum CoreEvent {
    /// A look whose view was assessed and, if clear, searched.
    Looked {
        observation: Observation,
        picture: Picture,
        /// Width and height of the decoded frame; `None` if it could not be decoded.
        size: Option<(u32, u32)>,
        /// For open pages of the console.
        thumbnail: Option<Bytes>,
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
        /// Those of the configuration by which it was confirmed.
        records: Arc<RecordBuilder>,
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
    /// The console asks for a picture of a look.
    Picture(Box<EvidenceRequest>),
    /// Another configuration takes effect.
    Configured(Box<NewConfiguration>),
    /// No more looks will come: finish the cases in progress.
    Stop,
}

/// A picture of a look that the console asks for.
pub(super) struct EvidenceRequest {
    pub(super) view: CameraId,
    pub(super) picture: Picture,
    pub(super) detections: Arc<[Detection]>,
    /// The look's models searched it for persons, so that those in `detections` are all.
    pub(super) finds_persons: bool,
    pub(super) kind: PictureKind,
    /// The JPEG, or why there is none.
    pub(super) answer: oneshot::Sender<Result<Bytes, String>>,
}

/// A configuration that takes effect between two events.
pub(super) struct NewConfiguration {
    pub(super) config: Arc<Config>,
    pub(super) evidence: EvidenceUpdate,
    /// What brought it about, for the audit log.
    pub(super) occasion: &'static str,
    /// Told what the change ended, once it is in force.
    pub(super) done: oneshot::Sender<Vec<RemovedView>>,
}

/// A request of the core for evidence pictures.
pub(super) enum EvidenceJob {
    /// Changed settings for the jobs after this one.
    Update(Box<EvidenceUpdate>),
    /// A request for pictures.
    Pictures(PictureJob),
    /// A picture for the console.
    Console(Box<EvidenceRequest>),
}

/// The pictures of a case or of a verification.
pub(super) enum PictureJob {
    /// For a confirmed case: its first and its confirming look.
    Case {
        case: Box<Case>,
        first: PinnedFrame,
        confirming: PinnedFrame,
        /// Those of the configuration by which it was confirmed.
        records: Arc<RecordBuilder>,
    },
    /// For a verification result: the look that decided it.
    Verified { answer: Box<Verified>, look: PinnedFrame },
}

impl PictureJob {
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
