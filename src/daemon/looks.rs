//! The looks: worker threads that take the most overdue camera, decode its newest picture, judge the view and run the
//! models. What they saw goes to the core; nothing is queued before a look and nothing is decided here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::{counter, gauge, histogram};

use super::{
    core::Event,
    models::WorkerModels,
    number_reader::{NumberReader, ReadSchedule},
    record::KnownModel,
    view_monitor::{Judged, ViewMonitor},
};
use gridwatch_base::metric;
use gridwatch_camera::{
    Picture,
    decode::{DecodeError, Decoder},
    schedule::{Pick, Schedule},
    slot::Slot,
};
use gridwatch_engine::{BBox, CameraId, Detection, Label, Light, Observation, Point, RuleId, View, geometry};
use gridwatch_frame::Frame;
use gridwatch_vision as vision;

/// What a camera looks at while it stands still: all that one without presets shows.
pub(super) struct Watching {
    pub(super) view: CameraId,
    /// Never judged: what stands there is masked in every picture.
    pub(super) privacy: Vec<Vec<Point>>,
    /// When and where telephone numbers are read in it; `None`: never.
    pub(super) pace: Option<ReadSchedule>,
}

/// One camera, as the looks need it.
pub(super) struct Watched {
    pub(super) id: CameraId,
    pub(super) presets: Vec<Watching>,
    pub(super) slot: Arc<Slot>,
    pub(super) gaze: Mutex<ViewMonitor>,
    /// The slot's number of the picture last looked at.
    pub(super) seen: AtomicU64,
    /// Unix milliseconds: the engine wants a picture taken at this time or later; 0 for none.
    pub(super) wanted: AtomicI64,
    /// What the engine wants looked closer at, the next time: in which view, for which rule, where.
    pub(super) closer: Mutex<Vec<(CameraId, RuleId, BBox)>>,
    pub(super) looks: AtomicU64,
    /// Unix milliseconds; 0 before the first look.
    pub(super) last_look: AtomicI64,
    pub(super) last_view: Mutex<Option<View>>,
}

impl Watched {
    fn gaze(&self) -> MutexGuard<'_, ViewMonitor> {
        self.gaze.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closer(&self) -> MutexGuard<'_, Vec<(CameraId, RuleId, BBox)>> {
        self.closer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True where there is a picture that was not looked at; and where the engine waits for a moment, one from then on.
    fn has_news(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Relaxed);
        // A moment that is far away was wanted before the clock was set back.
        let waits = wanted != 0 && wanted - Timestamp::now().as_millisecond() < WANTED_SOON_MS;
        self.slot.seq() != self.seen.load(Ordering::Relaxed)
            && (!waits
                || self
                    .slot
                    .latest()
                    .is_some_and(|(_, p)| p.captured_at().as_millisecond() >= wanted))
    }
}

/// What the workers share: the schedule, and the cameras.
pub(super) struct Looks {
    pub(super) cameras: Vec<Watched>,
    by_view: BTreeMap<CameraId, usize>,
    schedule: Mutex<Schedule>,
    changed: Condvar,
    stopping: AtomicBool,
    start: Instant,
}

/// The engine wants a look sooner than the next one, never much later.
const WANTED_SOON_MS: i64 = 60_000;

/// So many places of one look are looked closer at, at most: the engine asks again for the others. A street of heaps must not
/// hold up the other cameras.
const MOST_CLOSER: usize = 8;

/// A worker wakes at least this often to see whether it should stop.
const NAP: Duration = Duration::from_millis(500);

impl Looks {
    pub(super) fn new(cameras: Vec<Watched>, periods: &[Duration]) -> Self {
        Self {
            by_view: cameras
                .iter()
                .enumerate()
                .flat_map(|(i, c)| c.presets.iter().map(move |p| (p.view.clone(), i)))
                .collect(),
            cameras,
            schedule: Mutex::new(Schedule::new(periods)),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            start: Instant::now(),
        }
    }

    /// A camera has a new picture: whoever waits for one looks again.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// No look starts after this.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// The engine wants `view` looked at by `by`. A camera that turned away meanwhile is not held up by that.
    pub(super) fn look_by(&self, view: &CameraId, by: Timestamp) {
        if let Some(&i) = self.by_view.get(view)
            && self.cameras[i].gaze().stands_at(view)
        {
            self.cameras[i].wanted.store(by.as_millisecond(), Ordering::Relaxed);
            let ahead = Duration::try_from(by.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            self.schedule().look_by(i, self.start.elapsed() + ahead);
            self.changed.notify_one();
        }
    }

    /// The engine wants `place` in `view` looked closer at, at the next look.
    pub(super) fn second_look_at(&self, view: CameraId, rule: RuleId, place: BBox) {
        if let Some(&i) = self.by_view.get(&view) {
            let mut closer = self.cameras[i].closer();
            if closer.len() < MOST_CLOSER {
                closer.push((view, rule, place));
            }
        }
    }

    /// The factor by which every period is stretched now; 1 is none.
    pub(super) fn stretch(&self) -> f64 {
        self.schedule().stretch()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next camera to look at, and how late that is; `None` when stopping. Those who wait are relieved, too: the
    /// sessions of a model that was replaced are not kept until the next look.
    fn next(&self, crew: &mut WorkerModels) -> Option<(usize, Duration)> {
        let mut schedule = self.schedule();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            if !crew.is_current() {
                drop(schedule);
                crew.relieve();
                schedule = self.schedule();
            }
            let now = self.start.elapsed();
            match schedule.next(now, |i| self.cameras[i].has_news()) {
                Pick::Look { camera, late } => return Some((camera, late)),
                Pick::Wait(until) => {
                    let nap = until.map_or(NAP, |until| {
                        until.saturating_sub(now).clamp(Duration::from_millis(1), NAP)
                    });
                    schedule = self
                        .changed
                        .wait_timeout(schedule, nap)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
    }

    /// One worker's life.
    pub(super) fn work(&self, mut eyes: LookWorker, core: &SyncSender<Event>) {
        while let Some((i, late)) = self.next(&mut eyes.crew) {
            histogram!(metric::LATENESS).record(late.as_secs_f64());
            let camera = &self.cameras[i];
            // Not while the gaze is held: the core asks for it, too.
            let asked = camera.gaze().asked();
            if let Some(event) = asked
                && core.send(event).is_err()
            {
                return;
            }
            let event = camera.slot.latest().and_then(|(seq, picture)| {
                camera.seen.store(seq, Ordering::Relaxed);
                let is_wanted = camera.wanted.swap(0, Ordering::Relaxed) != 0;
                eyes.look((i, camera), picture, is_wanted)
            });
            self.schedule().done(i);
            if let Some(event) = event
                && core.send(event).is_err()
            {
                return;
            }
        }
    }
}

/// What was found, by which models, and what was not looked for.
#[derive(Default)]
struct Seen {
    detections: Vec<Detection>,
    by: Arc<[KnownModel]>,
    not_searched: Vec<Label>,
}

/// What one worker looks with.
pub(super) struct LookWorker {
    pub(super) decoder: Decoder,
    pub(super) crew: WorkerModels,
    /// Where any camera is read.
    pub(super) spectacles: Option<NumberReader>,
}

impl LookWorker {
    /// `None` where nothing can be said of any of the camera's views. A look that `is_wanted` is waited for by the engine.
    fn look(&mut self, (index, camera): (usize, &Watched), picture: Picture, is_wanted: bool) -> Option<Event> {
        let at = picture.captured_at();
        let (judged, seen) = match self.see((index, camera), &picture, is_wanted) {
            Ok(seen) => seen,
            Err(LookError::Decode(DecodeError::Damaged { .. })) => {
                camera.slot.count_damaged();
                failed(camera, "damaged");
                let damaged = Judged {
                    view: View::Damaged,
                    light: Light::Day,
                    preset: camera.gaze().only(),
                    reaimed: None,
                };
                (damaged, Seen::default())
            }
            Err(error) => {
                failed(camera, error.kind());
                tracing::warn!(camera = %camera.id, %error, "A look failed; the next one is tried as usual.");
                return None;
            }
        };
        camera.looks.fetch_add(1, Ordering::Relaxed);
        camera.last_look.store(at.as_millisecond(), Ordering::Relaxed);
        let Judged {
            view,
            light,
            preset,
            reaimed,
        } = judged;
        note_view(camera, view);
        let id = camera.id.to_string();
        let shown = match (view, preset) {
            (View::Clear, None) => BETWEEN_PRESETS,
            _ => view_name(view),
        };
        counter!(metric::LOOKS, "camera" => id.clone(), "view" => shown).increment(1);
        gauge!(metric::LAST_LOOK, "camera" => id).set(at.as_millisecond() as f64 / 1000.0);
        if let Some(camera) = reaimed {
            return Some(Event::Reaimed { camera, at });
        }
        // A blind look of a camera that turns is of none of its presets: the time away says as much.
        let preset = camera.presets.get(preset?)?;
        Some(Event::Looked {
            observation: Observation {
                camera: preset.view.clone(),
                at,
                view,
                light,
                detections: seen.detections,
                not_searched: seen.not_searched,
            },
            picture,
            seen_by: seen.by,
        })
    }

    fn see(
        &mut self,
        (index, camera): (usize, &Watched),
        picture: &Picture,
        is_wanted: bool,
    ) -> Result<(Judged, Seen), LookError> {
        let frame = match picture {
            Picture::Keyframe(keyframe) => {
                let start = Instant::now();
                let frame = Arc::new(self.decoder.decode(keyframe)?);
                histogram!(metric::DECODE).record(start.elapsed());
                frame
            }
            Picture::Frame(frame) => Arc::clone(frame),
        };
        let judged = camera.gaze().judge(&frame)?;
        let seen = match judged.preset.and_then(|i| camera.presets.get(i)) {
            Some(preset) if judged.view == View::Clear => {
                self.detect((index, camera), preset, (picture.captured_at(), is_wanted), &frame)?
            }
            _ => Seen::default(),
        };
        Ok((judged, seen))
    }

    fn detect(
        &mut self,
        (index, camera): (usize, &Watched),
        preset: &Watching,
        (at, is_wanted): (Timestamp, bool),
        frame: &Frame,
    ) -> Result<Seen, LookError> {
        let (mut found, mut by) = self.crew.detect((index, &camera.id), at, frame)?;
        // What the engine waits for decides, so it is read whatever the time.
        let pace = preset.pace.as_ref().filter(|pace| is_wanted || pace.is_due(at));
        let mut not_searched = Vec::new();
        match (&mut self.spectacles, pace) {
            (Some(spectacles), Some(pace)) => {
                match spectacles.read(pace, at, frame) {
                    Ok((read, readers)) => {
                        found.extend(read);
                        by = by.iter().chain(readers).cloned().collect();
                    }
                    // What the other models saw counts all the same.
                    Err(error) => {
                        tracing::warn!(camera = %camera.id, %error, "Numbers could not be read; the next reading is tried at its time.");
                        not_searched.push(Label::small_ad());
                    }
                }
            }
            (Some(_), None) => not_searched.push(Label::small_ad()),
            (None, _) => {}
        }
        // Not while they are held: the core adds to them. What is asked of another preset waits for it.
        let asked: Vec<_> = camera
            .closer()
            .extract_if(.., |(view, ..)| *view == preset.view)
            .collect();
        for (_, rule, place) in asked {
            match self.crew.second_look_at(index, frame, (&rule, &place), &mut found) {
                Ok(closer) => {
                    let new = closer.into_iter().filter(|m| !by.contains(m)).collect::<Vec<_>>();
                    if !new.is_empty() {
                        by = by.iter().cloned().chain(new).collect();
                    }
                }
                // The engine does not wait for it for ever, unless the thing was doubted before.
                Err(error) => {
                    tracing::warn!(camera = %camera.id, %rule, %error, "A closer look failed; it is asked for again.");
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
        Ok(Seen {
            detections: found,
            by,
            not_searched,
        })
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
            Self::Decode(_) => "decode",
            Self::View(_) => "view",
            Self::Model(_) => "model",
        }
    }
}

fn failed(camera: &Watched, reason: &'static str) {
    counter!(metric::LOOKS_FAILED, "camera" => camera.id.to_string(), "reason" => reason).increment(1);
}

fn note_view(camera: &Watched, view: View) {
    let before = camera
        .last_view
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(view);
    match (before, view) {
        (Some(old), new) if old == new => {}
        // Said by the gaze, once it is sure.
        (_, View::Moved) | (Some(View::Moved), View::Clear) => {}
        (Some(_), View::Clear) => tracing::info!(camera = %camera.id, "The view is clear again."),
        (_, View::Clear) => {}
        (_, blind) => {
            tracing::warn!(camera = %camera.id, view = view_name(blind), "The view cannot be trusted: nothing is confirmed or cleared there.");
        }
    }
}

/// What a clear look shows that shows no preset.
const BETWEEN_PRESETS: &str = "between_presets";

/// As it stands in metrics, logs and health messages.
pub(super) fn view_name(view: View) -> &'static str {
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
