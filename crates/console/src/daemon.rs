//! What the console needs of the running daemon, as a trait, with data types of its own.
//!
//! The console decides nothing about cameras and cases and keeps no state of them: it asks here whenever a page is shown. All methods
//! without a future answer from memory at once; they are called from async tasks. Cases and their pictures are read from the store, not
//! from here.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use gridwatch_base::message::Message;
use gridwatch_camera::slot::CameraState;
pub use gridwatch_camera::{
    live::{LiveChunk, LiveView, NotAvailable},
    receive::VideoCodec,
};
use gridwatch_config::{Config, Fault, diff};
use gridwatch_engine::{BBox, CameraId, CaseId, Label, Light, View};
use gridwatch_web::audit::{Act, RecordError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// The running daemon, as the console sees it.
///
/// A *view* is a fixed camera, or one preset of a camera that turns; its id is a key of [`Plan::cameras`].
///
/// [`Plan::cameras`]: gridwatch_engine::Plan::cameras
pub trait Daemon: Send + Sync + 'static {
    /// The configuration in force: what the looks of this moment are judged by.
    fn config(&self) -> Arc<Config>;

    /// The state of every view, in the order of the configuration.
    fn views(&self) -> Vec<ViewStatus>;

    /// The state of one view; `None` if the configuration has no such view.
    fn view(&self, view: &CameraId) -> Option<ViewStatus> {
        self.views().into_iter().find(|status| status.view == *view)
    }

    /// The newest look at a view, without its picture; `None` before the first.
    fn newest_look(&self, view: &CameraId) -> Option<Arc<Look>>;

    /// The picture of the newest look for the wall: masked JPEG of at most [`THUMBNAIL_WIDTH`] pixels and [`THUMBNAIL_BYTES`] bytes. A look
    /// that was not searched for persons, such as one of a moved camera, is shown so coarsely that nobody can be recognised.
    ///
    /// Made when it is asked for and kept until the next look, so that it costs nothing while nobody watches. It must belong to
    /// [`Daemon::newest_look`] as of the time of the call, or be newer.
    ///
    /// # Errors
    /// [`PictureError`].
    fn thumbnail(&self, view: &CameraId) -> BoxFuture<'_, Result<Picture, PictureError>>;

    /// The picture of the newest look in full size, as JPEG.
    ///
    /// With [`Masking::Masked`], faces and licence plates are masked as in evidence, and the view's privacy zones in both cases. If the
    /// masks cannot be made, it is an error, never a picture without them. Masking takes about a second of a core, and a camera's page that is
    /// watched asks once for each look: the masked picture is kept until the next look, so that several browsers cost as much as one, and
    /// [`PictureError::Busy`] is the answer while as many pictures are being made as the box can bear. The console has recorded the view of an unmasked picture before it asks.
    ///
    /// # Errors
    /// [`PictureError`].
    fn picture(&self, view: &CameraId, masking: Masking) -> BoxFuture<'_, Result<Picture, PictureError>>;

    /// The view as it was learned, for comparison with the newest look: JPEG in grey, as large as it is kept (320 pixels across).
    ///
    /// Faces and licence plates are masked as in evidence if the box has mask models; otherwise the picture is so coarse that nobody can be
    /// recognised. Privacy zones are masked.
    ///
    /// # Errors
    /// [`PictureError`]; [`PictureError::NotYet`] while nothing is learned.
    fn learned_picture(&self, view: &CameraId) -> BoxFuture<'_, Result<Picture, PictureError>>;

    /// Looks at a view as soon as a worker is free, and resolves when that look has been judged, so that [`Daemon::newest_look`] is newer
    /// than the call. Must give up by itself after at most 20 seconds.
    ///
    /// # Errors
    /// [`LookError`].
    fn look_now(&self, view: &CameraId) -> BoxFuture<'_, Result<(), LookError>>;

    /// Whether a problem in front of the cameras would be filed now, as `/readyz` tells it.
    fn readiness(&self) -> Readiness;

    /// Which configuration is in force, and whether a newer file was refused.
    fn configuration(&self) -> ConfigurationStatus;

    /// Reads the configuration files again with everything that they name and puts them into force; with `dry_run` only tells what that would
    /// change. To be called after a save; a file that was saved with faults leaves the configuration before in force. It can take seconds,
    /// when models are loaded or the link to the broker reconnects.
    fn reload(&self, dry_run: bool) -> BoxFuture<'_, ReloadAnswer>;

    /// The video of a view's camera as it is received, for a live view. It is not masked: only for roles that may see unmasked pictures, and
    /// recorded before.
    ///
    /// # Errors
    /// Why there is none; its looks can be shown instead.
    fn live(&self, view: &CameraId) -> Result<LiveView, NotAvailable>;

    /// Tries the first keyframe of a camera that is not configured yet: decodes it, runs all models on it, and masks faces and licence plates
    /// as in evidence; it has no zones. `keyframe` is Annex B with its parameter sets, or a whole JPEG, and is hostile: it is decoded where
    /// the daemon decodes. If the masks cannot be made, it is an error, never a picture without them. Must give up by itself after at most
    /// 20 seconds. No more than [`MAX_PROBES`] are asked for at a time.
    ///
    /// # Errors
    /// [`PictureError::Busy`] or [`PictureError::Failed`].
    fn try_picture(&self, keyframe: Bytes, codec: VideoCodec) -> BoxFuture<'_, Result<TriedPicture, PictureError>>;

    /// The link to the grid platform's broker.
    fn link(&self) -> LinkStatus;

    /// The newest lines of the log, oldest first, as many as are kept, at most `max`. Credentials never appear in logs.
    fn log_tail(&self, max: usize) -> Vec<String>;

    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;

    /// When the daemon was started; `None` if it does not tell.
    fn started_at(&self) -> Option<Timestamp> {
        None
    }

    /// Version of ONNX Runtime, if it is loaded.
    fn onnxruntime(&self) -> Option<String> {
        None
    }

    /// Runs the self-test of a model that is about to be installed, as `gridwatch model install` does. Blocks for seconds, on a thread where
    /// that is allowed.
    ///
    /// # Errors
    /// Why the model must not be installed, for a person.
    fn test_model(&self, model: &gridwatch_model::Model) -> Result<(), String> {
        Err(format!(
            "{}: this program cannot run models, so it cannot test them",
            model.manifest().id
        ))
    }

    /// What changes from now on. The console holds a receiver only while a browser shows a page that is updated, so with a receiver count
    /// of 0 nothing needs to be sent. A receiver that lags loses the oldest changes and the console then asks for everything; the channel
    /// should hold a few hundred.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Appends an act of a person to the chain of custody (and to the system log, if the configuration says so). Resolves when it is committed.
    ///
    /// # Errors
    /// [`RecordError`]: the act is not in the audit log.
    fn record(&self, act: Act) -> BoxFuture<'_, Result<(), RecordError>>;
}

/// Width of a thumbnail in pixels, at most: four columns on a wide screen; faces in it are a few pixels wide.
pub const THUMBNAIL_WIDTH: u32 = 320;

/// Size of a thumbnail in bytes, at most: those of the first screen, twelve, take less than a second at 1 Mb/s.
pub const THUMBNAIL_BYTES: usize = 8 << 10;

/// Cameras that are probed at a time, at most.
pub const MAX_PROBES: usize = 4;

/// The state of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewStatus {
    /// Its id: `CAMERA`, or `CAMERA.PRESET`.
    pub view: CameraId,
    /// The connection to its camera.
    pub connection: Connection,
    /// Since when the connection is in this state.
    pub connection_since: Timestamp,
    /// Cause and remedy in words, in English, if there is something to say. It never contains credentials.
    pub connection_detail: Option<Message>,
    /// Whether its newest look can be trusted; `None` before the first.
    pub sight: Option<View>,
    /// Since when consecutive looks have found this; `None` before the first.
    pub sight_since: Option<Timestamp>,
    /// When its newest look was taken.
    pub looked_at: Option<Timestamp>,
    /// Candidates in this view: things that may become cases.
    pub candidates: u32,
    /// Open cases in this view.
    pub open_cases: u32,
}

/// State of the connection to a camera: `gridwatch_camera::slot::CameraState` without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// Not connected yet, for the first time.
    Connecting,
    /// Pictures arrive.
    Live,
    /// Pictures arrive, at a cost or with gaps.
    Degraded,
    /// The stream plays, but no picture of it can be looked at.
    NoPictures,
    /// The camera refuses the login.
    Refused,
    /// No connection.
    Down,
    /// The end of a file that plays once.
    Ended,
    /// Set aside for some time, because its pictures ended decoders.
    SetAside,
}

impl Connection {
    /// The connection in this state.
    pub fn from_state(state: &CameraState) -> Self {
        match state {
            CameraState::Resolving | CameraState::Connecting => Self::Connecting,
            CameraState::Live => Self::Live,
            CameraState::Degraded { .. } | CameraState::Loss { .. } => Self::Degraded,
            CameraState::NoKeyframes { .. } | CameraState::Unsupported { .. } | CameraState::DecodingFails { .. } => {
                Self::NoPictures
            }
            CameraState::Refused { .. } => Self::Refused,
            CameraState::Down { .. } => Self::Down,
            CameraState::Ended => Self::Ended,
            CameraState::SetAside { .. } => Self::SetAside,
        }
    }
}

/// One look at a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// When the picture arrived at the box.
    pub at: Timestamp,
    /// Whether the view can be trusted.
    pub sight: View,
    /// Its light.
    pub light: Light,
    /// Width and height of the picture in pixels.
    pub size: (u32, u32),
    /// What the models found, above their score floors.
    pub detections: Vec<Finding>,
}

/// One object in a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its label.
    pub label: Label,
    /// Confidence, 0..=1.
    pub score: f32,
    /// Its box, in fractions of the picture.
    pub bbox: BBox,
    /// True if a rule counts it: it is a candidate or belongs to an open case.
    pub counts: bool,
}

/// A JPEG.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The file.
    pub jpeg: Bytes,
    /// When the picture arrived at the box.
    pub at: Timestamp,
}

/// The first picture of a camera that is being added.
#[derive(Debug, Clone)]
pub struct TriedPicture {
    /// Masked JPEG in full size.
    pub jpeg: Bytes,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// What the models found, above their score floors. Nothing counts for a rule yet.
    pub findings: Vec<Finding>,
}

/// Whether faces and licence plates are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// As in evidence that leaves the box.
    Masked,
    /// Not; privacy zones are masked all the same.
    Unmasked,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// The configuration has no such view.
    #[error("no such view")]
    NoSuchView,
    /// There has been no look yet, or its picture is not kept any more.
    #[error("no picture of this view yet")]
    NotYet,
    /// Too many pictures are being made.
    #[error("too many pictures are being made; try again in a few seconds")]
    Busy,
    /// Decoding, masking or encoding failed.
    #[error("the picture could not be made: {0}")]
    Failed(String),
}

/// Why there was no look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// The configuration has no such view.
    #[error("no such view")]
    NoSuchView,
    /// The camera delivers no pictures.
    #[error("the camera delivers no pictures now")]
    NoPicture,
    /// There is one already, or the workers are overloaded.
    #[error("the look was not taken within 20 s; the box is too slow, or the camera is at another preset")]
    TimedOut,
}

/// Whether the box would file a problem now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Readiness {
    /// True if it would.
    pub ready: bool,
    /// What stands against it, one sentence each, in English.
    #[schemars(with = "Vec<String>")]
    pub blockers: Vec<Message>,
}

/// Which configuration is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationStatus {
    /// SHA-256 of the configuration in force.
    pub sha256: String,
    /// Since when.
    pub since: Timestamp,
    /// The faults of a newer file that was refused, as words; empty if the file is in force.
    pub refused: Vec<Message>,
    /// Changed fields that take effect at the next start only.
    pub awaits_restart: Vec<String>,
}

/// How a reload of the configuration ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReloadAnswer {
    /// True if the files are in force, or would be.
    pub accepted: bool,
    /// What differs from the configuration that was in force.
    pub changes: Vec<diff::Change>,
    /// The faults of the files; nothing was changed if there are any.
    pub faults: Vec<Fault>,
    /// What the files name and cannot be used, in one sentence; nothing was changed then.
    pub error: Option<String>,
    /// What was going on at views that are no longer configured.
    pub removed: Vec<RemovedView>,
}

/// A view that is no longer configured, and what was going on there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedView {
    /// Its id.
    pub view: CameraId,
    /// Candidates that were given up.
    pub candidates: usize,
    /// Its open cases. They stay open at the platform, but this box does not look at them again.
    pub open_cases: Vec<CaseId>,
}

/// The link to the grid platform's broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// True while connected and subscribed.
    pub connected: bool,
    /// When the last usable connection ended; `None` while connected.
    pub down_since: Option<Timestamp>,
    /// Why the last connection ended, in words.
    pub error: Option<String>,
    /// Messages that wait in the outbox.
    pub waiting: u32,
    /// Messages in quarantine.
    pub quarantined: u32,
}

/// Something that an open page may show has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is a new look at a view, or its state, candidates or open cases have changed.
    View(CameraId),
    /// A case was filed or has changed.
    Case(String),
    /// Readiness or configuration status have changed.
    Status,
    /// A configuration was applied: views may have come, gone or moved.
    Configured,
}
