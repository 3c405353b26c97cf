//! The look workers: threads that take the most overdue camera, decode its newest picture, assess the view, run the models
//! and send the result to the core. No look is queued before it starts, and nothing is decided here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use tokio::sync::mpsc::Sender;

use super::{
    messages::CoreEvent,
    models::WorkerModels,
    new_regions::NewRegions,
    readiness::CameraSight,
    record::ModelDescriptor,
    text_reader::{TextReader, ViewText},
    view_monitor::{Assessment, CurrentPreset, ViewMonitor},
};
use gridwatch_base::metric;
use gridwatch_camera::{
    Picture,
    decode::{DecodeError, Decoder},
    schedule::{Pick, Schedule},
    slot::{CameraState, Slot},
};
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_custody::vault::VaultKey;
use gridwatch_engine::{BBox, CameraId, Detection, Label, Light, Observation, Point, RuleId, View, geometry};
use gridwatch_frame::Frame;
use gridwatch_vision as vision;
use gridwatch_vision::change::{ChangeBuffers, occupants};

/// One view of a camera: a preset, or the only view of a camera without presets.
struct WatchedView {
    view: CameraId,
    /// Polygons whose detections are dropped; they are masked in every picture.
    privacy: Vec<Vec<Point>>,
    /// When and where text is read, and what was read.
    text: ViewText,
    new_regions: NewRegions,
}

/// One camera's state for the look workers.
pub(super) struct WatchedCamera {
    pub(super) id: CameraId,
    presets: Vec<WatchedView>,
    pub(super) slot: Arc<Slot>,
    view_monitor: Mutex<ViewMonitor>,
    current_preset: Arc<CurrentPreset>,
    /// The slot's sequence number of the picture last looked at.
    looked_seq: AtomicU64,
    /// Unix milliseconds: the engine requested a picture taken at this time or later; 0: no request.
    look_from: AtomicI64,
    /// Second looks that the engine requested for the next look: view, rule and place.
    second_looks: Mutex<Vec<(CameraId, RuleId, BBox)>>,
    pub(super) looks: AtomicU64,
    /// Capture time of the newest picture looked at, Unix milliseconds; 0 before the first look.
    pub(super) last_look: AtomicI64,
    pub(super) last_view: Mutex<Option<View>>,
    /// Capture time of the newest picture with a clear view of a preset, Unix milliseconds; 0 before the first.
    last_clear: AtomicI64,
    period: Duration,
    away: Duration,
}

impl WatchedCamera {
    pub(super) fn new(config: &Config, camera: &config::Camera, slot: Arc<Slot>, key: &Arc<VaultKey>) -> Self {
        let view_monitor = ViewMonitor::new(config, camera, key);
        Self {
            id: camera.id.clone(),
            slot,
            presets: camera
                .presets
                .iter()
                .map(|p| WatchedView {
                    view: p.view.clone(),
                    privacy: p.privacy.clone(),
                    text: ViewText::of(config, camera, p),
                    new_regions: NewRegions::new(config),
                })
                .collect(),
            current_preset: view_monitor.current_preset(),
            view_monitor: Mutex::new(view_monitor),
            looked_seq: AtomicU64::new(0),
            look_from: AtomicI64::new(0),
            second_looks: Mutex::default(),
            looks: AtomicU64::new(0),
            last_look: AtomicI64::new(0),
            last_view: Mutex::new(None),
            last_clear: AtomicI64::new(0),
            period: camera.look_every,
            away: match camera.aim {
                config::Aim::Tour { away } => away,
                config::Aim::Fixed | config::Aim::Unwatched => Duration::ZERO,
            },
        }
    }

    /// What readiness needs to know, with the looks `stretch` times as far apart as configured.
    pub(super) fn sight(&self, stretch: f64) -> CameraSight {
        let last_clear = self.last_clear.load(Ordering::Relaxed);
        CameraSight {
            id: self.id.to_string(),
            state: self.slot.state(),
            view: *self.last_view.lock().unwrap_or_else(PoisonError::into_inner),
            last_clear: Timestamp::from_millisecond(last_clear).ok().filter(|_| last_clear != 0),
            period: self.period.mul_f64(stretch.clamp(1.0, MAX_STRETCH)),
            away: self.away,
        }
    }

    fn view_monitor(&self) -> MutexGuard<'_, ViewMonitor> {
        self.view_monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn second_looks(&self) -> MutexGuard<'_, Vec<(CameraId, RuleId, BBox)>> {
        self.second_looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if there is a picture that was not looked at and, where the engine requested one, that is late enough for it.
    fn has_new_picture(&self) -> bool {
        let requested = self.look_from.load(Ordering::Relaxed);
        // A request far in the future was made before the clock was set back.
        let waits = requested != 0 && requested - Timestamp::now().as_millisecond() < MAX_LOOK_AHEAD_MS;
        self.slot.seq() != self.looked_seq.load(Ordering::Relaxed)
            && (!waits
                || self
                    .slot
                    .latest()
                    .is_some_and(|(_, p)| p.captured_at().as_millisecond() >= requested))
    }
}

/// The schedule and the cameras, shared by the look workers.
pub(super) struct LookScheduler {
    pub(super) cameras: Vec<WatchedCamera>,
    /// Index of the camera and of its preset, by view.
    by_view: BTreeMap<CameraId, (usize, usize)>,
    schedule: Mutex<Schedule>,
    changed: Condvar,
    stopping: AtomicBool,
    start: Instant,
}

/// A box whose looks are farther apart than this many times what is configured does not see its cameras.
const MAX_STRETCH: f64 = 10.0;

/// The engine never requests a look farther ahead than this.
const MAX_LOOK_AHEAD_MS: i64 = 60_000;

/// Maximum second looks per frame. The engine asks again for the others; a street full of heaps must not delay the other
/// cameras.
const MAX_SECOND_LOOKS: usize = 8;

/// Longest wait of a worker before it checks whether it should stop.
const MAX_WAIT: Duration = Duration::from_millis(500);

impl LookScheduler {
    pub(super) fn new(cameras: Vec<WatchedCamera>, periods: &[Duration]) -> Self {
        Self {
            by_view: cameras
                .iter()
                .enumerate()
                .flat_map(|(i, c)| {
                    let presets = c.presets.iter().enumerate();
                    presets.map(move |(preset, p)| (p.view.clone(), (i, preset)))
                })
                .collect(),
            cameras,
            schedule: Mutex::new(Schedule::new(periods)),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            start: Instant::now(),
        }
    }

    /// Wakes a worker: a camera has a new picture.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Stops the workers; no look starts after this.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Schedules a look at `view` no later than `by`. Ignored if the camera stands at another preset.
    pub(super) fn look_by(&self, view: &CameraId, by: Timestamp) {
        if let Some(&(i, preset)) = self.by_view.get(view)
            && self.cameras[i].current_preset.get() == Some(preset)
        {
            self.cameras[i].look_from.store(by.as_millisecond(), Ordering::Relaxed);
            let ahead = Duration::try_from(by.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            self.schedule().look_by(i, self.start.elapsed() + ahead);
            self.changed.notify_one();
        }
    }

    /// Requests a second look at `place` in `view` with the next look.
    pub(super) fn second_look_at(&self, view: CameraId, rule: RuleId, place: BBox) {
        if let Some(&(i, _)) = self.by_view.get(&view) {
            let mut requests = self.cameras[i].second_looks();
            if requests.len() < MAX_SECOND_LOOKS {
                requests.push((view, rule, place));
            }
        }
    }

    /// The boxes of the open cases of `view`: what is new there stays new.
    pub(super) fn hold(&self, view: &CameraId, boxes: Vec<BBox>) {
        if let Some(new_regions) = self.new_regions(view) {
            new_regions.hold(boxes);
        }
    }

    /// What `view` shows in `bbox` belongs to its background.
    pub(super) fn absorb(&self, view: &CameraId, bbox: BBox) {
        if let Some(new_regions) = self.new_regions(view) {
            new_regions.absorb(bbox);
        }
    }

    fn new_regions(&self, view: &CameraId) -> Option<&NewRegions> {
        let (camera, preset) = self.by_view.get(view)?;
        Some(&self.cameras[*camera].presets[*preset].new_regions)
    }

    /// Factor by which every period is stretched under overload; 1: not stretched.
    pub(super) fn stretch(&self) -> f64 {
        self.schedule().stretch()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next camera to look at; returns its index and how late the look is, or `None` when stopping. A worker takes
    /// over model changes while it waits, too, so that a replaced model's sessions are freed without waiting for a look.
    fn next(&self, models: &mut WorkerModels) -> Option<(usize, Duration)> {
        let mut schedule = self.schedule();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            if !models.is_current() {
                drop(schedule);
                models.update();
                schedule = self.schedule();
            }
            let now = self.start.elapsed();
            match schedule.next(now, |i| self.cameras[i].has_new_picture()) {
                Pick::Look { camera, late } => return Some((camera, late)),
                Pick::Wait(until) => {
                    let wait = until.map_or(MAX_WAIT, |until| {
                        until.saturating_sub(now).clamp(Duration::from_millis(1), MAX_WAIT)
                    });
                    schedule = self
                        .changed
                        .wait_timeout(schedule, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
    }

    /// Runs one worker until the scheduler stops or the core is gone.
    pub(super) fn work(&self, mut worker: LookWorker, core: &Sender<CoreEvent>) {
        while let Some((i, late)) = self.next(&mut worker.models) {
            histogram!(metric::LATENESS).record(late.as_secs_f64());
            let camera = &self.cameras[i];
            // Sent without the monitor's lock, since a full inbox makes this wait.
            let event = camera.view_monitor().process_requests();
            if let Some(event) = event
                && core.blocking_send(event).is_err()
            {
                return;
            }
            let event = camera.slot.latest().and_then(|(seq, picture)| {
                camera.looked_seq.store(seq, Ordering::Relaxed);
                let is_requested = camera.look_from.swap(0, Ordering::Relaxed) != 0;
                let look = CurrentLook {
                    index: i,
                    camera,
                    at: picture.captured_at(),
                    is_requested,
                };
                worker.look(look, picture)
            });
            self.schedule().done(i);
            if let Some(event) = event
                && core.blocking_send(event).is_err()
            {
                return;
            }
        }
    }
}

/// One look in progress.
#[derive(Clone, Copy)]
struct CurrentLook<'a> {
    /// The camera's index in the configuration.
    index: usize,
    camera: &'a WatchedCamera,
    /// The picture's capture time.
    at: Timestamp,
    /// The engine waits for this look.
    is_requested: bool,
}

/// The detections of one look.
#[derive(Default)]
struct LookDetections {
    detections: Vec<Detection>,
    by: Arc<[ModelDescriptor]>,
    not_searched: Vec<Label>,
}

/// One worker's decoder and models.
pub(super) struct LookWorker {
    pub(super) decoder: Decoder,
    pub(super) models: WorkerModels,
    /// `None` if nothing is read.
    pub(super) text_reader: Option<TextReader>,
    /// For the change maps of all cameras.
    pub(super) change_buffers: ChangeBuffers,
}

impl LookWorker {
    /// Looks at one picture; `None` if the look tells the core nothing.
    fn look(&mut self, look: CurrentLook<'_>, picture: Picture) -> Option<CoreEvent> {
        let CurrentLook { camera, at, .. } = look;
        let (assessment, found) = match self.search(look, &picture) {
            Ok(result) => result,
            Err(LookError::Decode(DecodeError::Damaged { .. })) => {
                camera.slot.count_damaged();
                count_failed(camera, "damaged");
                let damaged = Assessment {
                    view: View::Damaged,
                    light: Light::Day,
                    preset: camera.view_monitor().only_preset(),
                    reaimed: None,
                };
                (damaged, LookDetections::default())
            }
            Err(error) => {
                count_failed(camera, error.kind());
                // A fault that lasts is logged once.
                if note_decode_fault(camera, &error) {
                    tracing::warn!(camera = %camera.id, %error, "Look failed; continuing with the next one");
                }
                return None;
            }
        };
        camera.looks.fetch_add(1, Ordering::Relaxed);
        camera.last_look.store(at.as_millisecond(), Ordering::Relaxed);
        let Assessment {
            view,
            light,
            preset,
            reaimed,
        } = assessment;
        note_view(camera, view);
        if view == View::Clear && preset.is_some() {
            camera.last_clear.store(at.as_millisecond(), Ordering::Relaxed);
        }
        let id = camera.id.to_string();
        let view_label = match (view, preset) {
            (View::Clear, None) => BETWEEN_PRESETS,
            _ => view_name(view),
        };
        counter!(metric::LOOKS, "camera" => id.clone(), "view" => view_label).increment(1);
        gauge!(metric::LAST_LOOK, "camera" => id).set(at.as_millisecond() as f64 / 1000.0);
        if let Some(camera) = reaimed {
            return Some(CoreEvent::Reaimed { camera, at });
        }
        // A blind look of a touring camera belongs to no preset; the engine sees the gap.
        let preset = camera.presets.get(preset?)?;
        Some(CoreEvent::Looked {
            observation: Observation {
                camera: preset.view.clone(),
                at,
                view,
                light,
                detections: found.detections,
                not_searched: found.not_searched,
            },
            picture,
            detected_by: found.by,
        })
    }

    fn search(&mut self, look: CurrentLook<'_>, picture: &Picture) -> Result<(Assessment, LookDetections), LookError> {
        let camera = look.camera;
        let frame = match picture {
            Picture::Keyframe(keyframe) => {
                let start = Instant::now();
                let decoded = self.decoder.decode(keyframe);
                camera
                    .slot
                    .report_decoding(decoded.as_ref().map(|_| ()).map_err(|e| e as _));
                let frame = Arc::new(decoded?);
                camera.slot.set_decode_fault(None);
                histogram!(metric::DECODE).record(start.elapsed());
                frame
            }
            Picture::Frame(frame) => Arc::clone(frame),
        };
        let assessment = camera.view_monitor().assess(&frame)?;
        let found = match assessment.preset {
            Some(preset) if assessment.view == View::Clear && preset < camera.presets.len() => {
                self.detect(look, preset, &frame)?
            }
            _ => LookDetections::default(),
        };
        Ok((assessment, found))
    }

    fn detect(&mut self, look: CurrentLook<'_>, preset: usize, frame: &Frame) -> Result<LookDetections, LookError> {
        let CurrentLook {
            index,
            camera,
            at,
            is_requested,
        } = look;
        let (mut found, mut by) = self.models.detect(index, &camera.id, at, frame)?;
        let can_find_objects = self.look_at_changes(look, preset, frame, &mut found, &mut by);
        let view = preset;
        let preset = &camera.presets[preset];
        // A requested look decides, so text is read whatever the schedule.
        let schedule = preset.text.schedule.as_ref();
        let schedule = schedule.filter(|s| is_requested || s.is_due(at));
        let mut not_searched = Vec::new();
        if !can_find_objects {
            not_searched.push(Label::object());
        }
        match (&mut self.text_reader, schedule) {
            (Some(reader), Some(schedule)) => {
                match reader.read(&preset.text, schedule, at, frame) {
                    Ok((adverts, models)) => {
                        found.extend(adverts);
                        by = by.iter().chain(models).cloned().collect();
                    }
                    // The other models' detections count all the same.
                    Err(error) => {
                        tracing::warn!(camera = %camera.id, %error, "Reading text failed; retrying at the next scheduled reading");
                        not_searched.extend(Label::of_text());
                    }
                }
            }
            (Some(_), None) => not_searched.extend(Label::of_text()),
            (None, _) => {}
        }
        // Taken out first: the core adds to them under the same lock. Requests for another preset stay.
        let requests: Vec<_> = camera
            .second_looks()
            .extract_if(.., |(view, ..)| *view == preset.view)
            .collect();
        for (_, rule, place) in requests {
            let seen = self.models.second_look_at(index, frame, &rule, &place, &mut found);
            let read = seen.and_then(|mut models| {
                if let Some(reader) = &mut self.text_reader {
                    models.extend_from_slice(reader.second_look_at(
                        &preset.text,
                        at,
                        frame,
                        (&rule, &place),
                        &mut found,
                    )?);
                }
                Ok(models)
            });
            match read {
                Ok(models) => {
                    let new = models.into_iter().filter(|m| !by.contains(m)).collect::<Vec<_>>();
                    if !new.is_empty() {
                        by = by.iter().cloned().chain(new).collect();
                    }
                }
                // The engine asks again; it pauses after three unanswered requests, or files without.
                Err(error) => {
                    tracing::warn!(camera = %camera.id, %rule, %error, "Second look failed; the engine will request it again");
                }
            }
        }
        found.retain(|d| {
            !preset
                .privacy
                .iter()
                .any(|zone| geometry::side_of(zone, d.bbox.foot()) != geometry::Side::Outside)
        });
        for detection in &mut found {
            detection.appearance = frame.appearance(&detection.bbox);
        }
        camera.view_monitor().judge_newness(view, &mut found);
        Ok(LookDetections {
            detections: found,
            by,
            not_searched,
        })
    }
}

impl LookWorker {
    /// Compares the look with its view's background, and searches crops around what is new. False if the comparison was not possible;
    /// otherwise what found the unknown objects is added to `by`.
    fn look_at_changes(
        &mut self,
        look: CurrentLook<'_>,
        preset: usize,
        frame: &Frame,
        found: &mut Vec<Detection>,
        by: &mut Arc<[ModelDescriptor]>,
    ) -> bool {
        let CurrentLook { index, camera, .. } = look;
        let new_regions = &camera.presets[preset].new_regions;
        let changes = camera.view_monitor().look_for_changes(
            preset,
            frame,
            &occupants(found),
            new_regions,
            &mut self.change_buffers,
        );
        let has_searched = new_regions.add(changes.as_ref(), found, |place| {
            let seen = self.models.close_look_at(index, frame, place);
            seen.inspect_err(
                |error| tracing::warn!(camera = %camera.id, %error, "Cannot look closely at what is new; trying again later"),
            )
            .ok()
        });
        if let Some(change_map) = new_regions.searched_by(changes.as_ref()) {
            *by = by.iter().chain([change_map]).cloned().collect();
        }
        if let Some(changes) = &changes {
            let explain = |region: &_| new_regions.explanation(region, found);
            camera.view_monitor().publish_changes(preset, changes, look.at, explain);
        }
        has_searched && camera.view_monitor().knows_held(preset)
    }
}

/// Notes in the camera's state and counters why its picture was not decoded. True if the log should tell.
fn note_decode_fault(camera: &WatchedCamera, error: &LookError) -> bool {
    let LookError::Decode(error) = error else {
        return true;
    };
    let set_aside = |until: Timestamp| {
        camera.slot.set_decode_fault(Some(CameraState::SetAside {
            reason: "its keyframes ended three decode workers within an hour".into(),
            until,
        }))
    };
    match error {
        DecodeError::Unsupported { .. } => camera.slot.set_decode_fault(Some(CameraState::Unsupported {
            what: error.to_string(),
        })),
        DecodeError::Crashed { set_aside_until, .. } => {
            camera.slot.count_crash();
            if let Some(until) = set_aside_until {
                set_aside(*until);
            }
            true
        }
        DecodeError::SetAside { until, .. } => set_aside(*until),
        _ => true,
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    View(#[from] vision::VisionError),
    #[error(transparent)]
    Model(#[from] gridwatch_model::ModelError),
}

impl LookError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Decode(DecodeError::Unsupported { .. }) => "unsupported",
            Self::Decode(DecodeError::Crashed { .. } | DecodeError::Known { .. }) => "decoder_crash",
            Self::Decode(DecodeError::SetAside { .. }) => "set_aside",
            Self::Decode(_) => "decode",
            Self::View(_) => "view",
            Self::Model(_) => "model",
        }
    }
}

fn count_failed(camera: &WatchedCamera, reason: &'static str) {
    counter!(metric::LOOKS_FAILED, "camera" => camera.id.to_string(), "reason" => reason).increment(1);
}

fn note_view(camera: &WatchedCamera, view: View) {
    let before = camera
        .last_view
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(view);
    match (before, view) {
        (Some(old), new) if old == new => {}
        // The view monitor logs these, once it is sure.
        (_, View::Moved) | (Some(View::Moved), View::Clear) => {}
        (Some(_), View::Clear) => tracing::info!(camera = %camera.id, "View is clear again"),
        (_, View::Clear) => {}
        (_, blind) => {
            tracing::warn!(camera = %camera.id, view = view_name(blind), "View cannot be trusted; nothing is confirmed or cleared there");
        }
    }
}

/// The metric's `view` label of a clear look at none of the presets.
const BETWEEN_PRESETS: &str = "between_presets";

/// The view's name in metrics, logs and health messages.
pub(crate) fn view_name(view: View) -> &'static str {
    match view {
        View::Clear => "clear",
        View::Dark => "dark",
        View::Blurred => "blurred",
        View::Blocked => "blocked",
        View::Frozen => "frozen",
        View::Damaged => "damaged",
        View::Moved => "moved",
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::daemon::test_config::{demo_config, make_tour};
    use gridwatch_config::raw;

    /// A scheduler of the first camera, and the camera's first view.
    fn scheduler(edit: impl FnOnce(&mut raw::File)) -> (Arc<LookScheduler>, CameraId) {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), edit);
        let camera = &config.cameras[0];
        let slot = Slot::new(camera.id.clone(), Arc::default());
        let key = Arc::new(VaultKey::new(&[7; 32]).unwrap());
        let watched = WatchedCamera::new(&config, camera, slot, &key);
        let view = camera.presets[0].view.clone();
        (Arc::new(LookScheduler::new(vec![watched], &[camera.look_every])), view)
    }

    #[test]
    fn a_look_is_requested_while_a_worker_holds_the_view_monitor() {
        let (looks, view) = scheduler(|_| {});
        let by = Timestamp::from_second(1_750_000_000).unwrap();
        let assessing = looks.cameras[0].view_monitor();
        let (done, is_done) = std::sync::mpsc::channel();
        let core = Arc::clone(&looks);
        thread::spawn(move || {
            core.look_by(&view, by);
            let _ = done.send(());
        });
        is_done
            .recv_timeout(Duration::from_secs(60))
            .expect("the request does not wait for the view monitor");
        drop(assessing);
        assert_eq!(looks.cameras[0].look_from.load(Ordering::Relaxed), by.as_millisecond());
    }

    #[test]
    fn no_look_is_requested_at_a_preset_where_the_camera_does_not_stand() {
        let (looks, view) = scheduler(make_tour);
        looks.look_by(&view, Timestamp::now());
        assert_eq!(looks.cameras[0].look_from.load(Ordering::Relaxed), 0);
    }
}
