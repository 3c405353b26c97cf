//! The newest look at each view, for people who watch: the console reads it, nothing is decided by it.
//!
//! Pictures stay as they came from the camera. Thumbnails are made by the look workers, from the frame that they have decoded anyway, and
//! only while a browser watches.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use gridwatch_camera::Picture;
use gridwatch_console::daemon::{Change, Finding, Look, THUMBNAIL_BYTES, THUMBNAIL_WIDTH};
use gridwatch_engine::{CameraId, Detection, Engine, Observation, Point, View};
use gridwatch_evidence as evidence;
use gridwatch_frame::Frame;
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

/// Changes that a browser may be behind before it asks for everything.
const CHANGES: usize = 512;

/// Quality of thumbnails at which 12 of a street take about 60 kB.
const THUMBNAIL_QUALITY: u8 = 60;

/// The newest looks.
pub(super) struct LookBoard {
    views: Mutex<BTreeMap<CameraId, NewestLook>>,
    changes: broadcast::Sender<Change>,
}

/// The newest look at one view.
#[derive(Clone)]
pub(super) struct NewestLook {
    pub(super) look: Arc<Look>,
    pub(super) picture: Picture,
    pub(super) detections: Arc<[Detection]>,
    /// Since when consecutive looks have found the view as it is.
    pub(super) sight_since: Timestamp,
    pub(super) candidates: u32,
    pub(super) open_cases: u32,
    pub(super) thumbnail: Option<Bytes>,
}

/// What is known about a look besides its observation.
pub(super) struct LookPicture {
    pub(super) picture: Picture,
    /// Width and height of the decoded frame; `None` if it could not be decoded.
    pub(super) size: Option<(u32, u32)>,
    pub(super) thumbnail: Option<Bytes>,
}

impl Default for LookBoard {
    fn default() -> Self {
        Self {
            views: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
        }
    }
}

impl LookBoard {
    /// True while a browser shows a page that is updated.
    pub(super) fn is_watched(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells the open pages.
    pub(super) fn tell(&self, change: Change) {
        // Nobody may be watching.
        let _ = self.changes.send(change);
    }

    /// The newest look at `view`.
    pub(super) fn newest(&self, view: &CameraId) -> Option<NewestLook> {
        self.views().get(view).cloned()
    }

    /// Keeps a thumbnail that was made for the look at `at`.
    pub(super) fn keep_thumbnail(&self, view: &CameraId, at: Timestamp, thumbnail: Bytes) {
        if let Some(newest) = self.views().get_mut(view).filter(|newest| newest.look.at == at) {
            newest.thumbnail = Some(thumbnail);
        }
    }

    /// Notes a look that `engine` has judged.
    pub(super) fn looked(&self, observation: &Observation, looked: LookPicture, engine: &Engine) {
        let view = &observation.camera;
        let candidates: Vec<_> = engine.candidates_at(view).collect();
        let open: Vec<_> = engine.open_cases().filter(|case| case.camera == *view).collect();
        let counts = |d: &Detection| {
            candidates.iter().any(|c| c.rule.labels.contains(&d.label) && c.bbox.is_same_thing_as(&d.bbox))
                || open.iter().any(|case| case.bbox.is_same_thing_as(&d.bbox))
        };
        let finding = |d: &Detection| Finding {
            label: d.label.clone(),
            score: d.score,
            bbox: d.bbox,
            counts: counts(d),
        };
        let mut views = self.views();
        let before = views.get(view);
        let sight_since = before.filter(|b| b.look.sight == observation.view).map(|b| b.sight_since);
        let size = looked.size.or(before.map(|b| b.look.size)).unwrap_or_default();
        let look = Look {
            at: observation.at,
            sight: observation.view,
            light: observation.light,
            size,
            detections: observation.detections.iter().map(finding).collect(),
        };
        let newest = NewestLook {
            look: Arc::new(look),
            picture: looked.picture,
            detections: observation.detections.as_slice().into(),
            sight_since: sight_since.unwrap_or(observation.at),
            candidates: u32::try_from(candidates.len()).unwrap_or(u32::MAX),
            open_cases: u32::try_from(open.len()).unwrap_or(u32::MAX),
            thumbnail: looked.thumbnail,
        };
        views.insert(view.clone(), newest);
        drop(views);
        self.tell(Change::View(view.clone()));
    }

    /// Forgets the views that `is_configured` denies.
    pub(super) fn retain(&self, is_configured: impl Fn(&CameraId) -> bool) {
        self.views().retain(|view, _| is_configured(view));
        self.tell(Change::Configured);
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<CameraId, NewestLook>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thumbnail of a frame: faces in it are a few pixels wide, persons and plates that the models found are masked, and so are the privacy
/// zones. `None` if it cannot be made within its size.
pub(super) fn thumbnail(frame: &Frame, detections: &[Detection], privacy: &[Vec<Point>]) -> Option<Bytes> {
    let settings = evidence::Settings {
        jpeg_quality: THUMBNAIL_QUALITY,
        max_bytes: THUMBNAIL_BYTES,
        min_interval: Duration::ZERO,
        mask: true,
        // Whoever the models miss is too small here to be known.
        finds_persons: true,
        privacy: privacy.to_vec(),
    };
    let small = frame.shrunk(THUMBNAIL_WIDTH).ok()?;
    let preview = evidence::preview(&small, detections, &settings).ok()?;
    Some(preview.picture.jpeg.into())
}

/// The view as the console names it.
pub(super) fn is_clear(look: &Look) -> bool {
    look.sight == View::Clear
}
