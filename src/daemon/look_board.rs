//! The newest look at each view, for people who watch: the console reads it, nothing is decided by it.
//!
//! Pictures stay as they came from the camera. Thumbnails are made by the look workers, from the frame that they have decoded anyway, and
//! only while a browser watches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gridwatch_camera::{Picture, slot::CameraState};
use gridwatch_console::daemon::{Change, Connection, Finding, Look, THUMBNAIL_BYTES, THUMBNAIL_WIDTH};
use gridwatch_engine::{CameraId, Detection, Engine, Observation, Point};
use gridwatch_evidence::{self as evidence, EvidenceError};
use gridwatch_frame::Frame;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{looks::WatchedCamera, record::ModelDescriptor};

/// Changes that a browser may be behind before it asks for everything.
const CHANGES: usize = 512;

/// Width of a picture that was not searched for persons: a face that fills a tenth of the frame is eight pixels wide.
const COARSE_WIDTH: u32 = 80;

/// Quality of thumbnails at which 12 of a street take about 60 kB.
const THUMBNAIL_QUALITY: u8 = 60;

/// The newest looks.
pub(super) struct LookBoard {
    views: Mutex<BTreeMap<CameraId, NewestLook>>,
    /// By camera.
    connections: Mutex<BTreeMap<CameraId, (Connection, Timestamp)>>,
    changes: broadcast::Sender<Change>,
}

/// The newest look at one view.
#[derive(Clone)]
pub(super) struct NewestLook {
    pub(super) look: Arc<Look>,
    pub(super) picture: Picture,
    pub(super) detections: Arc<[Detection]>,
    /// The look was searched for persons.
    pub(super) finds_persons: bool,
    /// Since when consecutive looks have found the view as it is.
    pub(super) sight_since: Timestamp,
    pub(super) candidates: u32,
    pub(super) open_cases: u32,
    pub(super) thumbnail: Option<Bytes>,
    /// The whole picture, masked.
    pub(super) masked: Option<Bytes>,
}

/// What is known about a look besides its observation.
pub(super) struct LookPicture {
    pub(super) picture: Picture,
    /// Width and height of the decoded frame; `None` if it could not be decoded.
    pub(super) size: Option<(u32, u32)>,
    /// It was searched for persons.
    pub(super) finds_persons: bool,
    pub(super) thumbnail: Option<Bytes>,
}

impl Default for LookBoard {
    fn default() -> Self {
        Self {
            views: Mutex::default(),
            connections: Mutex::default(),
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

    /// Keeps the masked picture that was made for the look at `at`.
    pub(super) fn keep_masked(&self, view: &CameraId, at: Timestamp, masked: Bytes) {
        if let Some(newest) = self.views().get_mut(view).filter(|newest| newest.look.at == at) {
            newest.masked = Some(masked);
        }
    }

    /// The connection of a camera and since when it is so, as of now. Open pages are told if it has changed.
    pub(super) fn connection(&self, camera: &WatchedCamera) -> (Connection, Timestamp) {
        let state = camera.slot.state();
        let now = Connection::from_state(&state);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match connections.get(&camera.id) {
            Some(known) if known.0 == now => *known,
            _ => {
                let since = match state {
                    CameraState::Down { since, .. } | CameraState::Refused { since, .. } => since,
                    _ => Timestamp::now(),
                };
                connections.insert(camera.id.clone(), (now, since));
                drop(connections);
                camera.views().for_each(|view| self.tell(Change::View(view)));
                (now, since)
            }
        }
    }

    /// Notes a look that `engine` has judged.
    pub(super) fn looked(&self, observation: &Observation, looked: LookPicture, engine: &Engine) {
        let view = &observation.camera;
        let candidates: Vec<_> = engine.candidates_of(view).collect();
        let open: Vec<_> = engine.open_cases().filter(|case| case.camera == *view).collect();
        // What another camera filed at a shared site counts here, too; it is listed with that camera.
        let at_cases: Vec<_> = engine.boxes_at_cases(view).map(|(_, bbox)| bbox).collect();
        let counts = |d: &Detection| {
            candidates
                .iter()
                .any(|c| c.rule.labels.contains(&d.label) && c.bbox.is_same_thing_as(&d.bbox))
                || open.iter().any(|case| case.bbox.is_same_thing_as(&d.bbox))
                || at_cases.iter().any(|bbox| bbox.is_same_thing_as(&d.bbox))
        };
        let finding = |d: &Detection| Finding {
            label: d.label.clone(),
            score: d.score,
            bbox: d.bbox,
            counts: counts(d),
        };
        let mut views = self.views();
        let before = views.get(view);
        let sight_since = before
            .filter(|b| b.look.sight == observation.view)
            .map(|b| b.sight_since);
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
            finds_persons: looked.finds_persons,
            sight_since: sight_since.unwrap_or(observation.at),
            candidates: u32::try_from(candidates.len()).unwrap_or(u32::MAX),
            open_cases: u32::try_from(open.len()).unwrap_or(u32::MAX),
            thumbnail: looked.thumbnail,
            masked: None,
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

/// A thumbnail of a frame. Persons and plates that the models found are masked, whoever they missed is a few pixels wide, and privacy zones are
/// masked. A frame that was not searched for persons is shown more coarsely.
///
/// # Errors
/// The frame is invalid, or cannot be encoded within the size.
pub(super) fn make_thumbnail(
    frame: &Frame,
    detections: &[Detection],
    finds_persons: bool,
    privacy: &[Vec<Point>],
) -> Result<Bytes, EvidenceError> {
    let settings = evidence::Settings {
        jpeg_quality: THUMBNAIL_QUALITY,
        max_bytes: THUMBNAIL_BYTES,
        min_interval: Duration::ZERO,
        mask: finds_persons,
        finds_persons,
        privacy: privacy.to_vec(),
    };
    let at = frame.captured_at;
    let width = if finds_persons { THUMBNAIL_WIDTH } else { COARSE_WIDTH };
    let small = frame
        .shrunk(width)
        .map_err(|source| EvidenceError::Frame { at, source })?;
    Ok(evidence::preview(&small, detections, &settings)?.picture.jpeg.into())
}

/// True if one of the models that searched a look finds persons.
pub(super) fn find_persons(models: &[ModelDescriptor]) -> bool {
    models.iter().flat_map(|m| &m.labels).any(evidence::is_of_person)
}
