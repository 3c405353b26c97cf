//! The look workers: threads that take the most overdue camera, decode its newest picture, assess the view, run the models
//! and send the result to the core. No look is queued before it starts, and nothing is decided here.

mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::histogram;
use tokio::sync::mpsc::Sender;

use self::worker::CurrentLook;
pub(super) use self::worker::LookWorker;
use super::{
    messages::CoreEvent,
    models::WorkerModels,
    new_regions::NewRegions,
    readiness::CameraSight,
    text_reader::ViewText,
    view_monitor::{CurrentPreset, ViewMonitor},
};
use gridwatch_base::metric;
use gridwatch_camera::{
    schedule::{Pick, Schedule},
    slot::Slot,
};
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_custody::vault::VaultKey;
use gridwatch_engine::{BBox, CameraId, Point, RuleId, View};

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
