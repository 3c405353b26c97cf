//! The look workers: threads that take the most overdue camera, decode its newest picture, assess the view, run the models
//! and send the result to the core. No look is queued before it starts, and nothing is decided here.

mod camera;
mod worker;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::histogram;
use tokio::sync::mpsc::Sender;

use self::worker::CurrentLook;
pub(super) use self::{
    camera::{CameraSet, WatchedCamera},
    worker::{LookWorker, WorkerUpdate},
};
use super::{look_board::LookBoard, messages::CoreEvent};
use gridwatch_base::metric;
use gridwatch_camera::schedule::{Pick, Schedule};
use gridwatch_engine::{BBox, CameraId, RuleId, View};

/// The schedule and the cameras, shared by the look workers.
pub(super) struct LookScheduler {
    scheduled: Mutex<Scheduled>,
    changed: Condvar,
    stopping: AtomicBool,
    start: Instant,
    board: Arc<LookBoard>,
}

/// What a reload of the configuration replaces in one step.
struct Scheduled {
    /// Its indices are those of `set`.
    schedule: Schedule,
    set: Arc<CameraSet>,
    /// What each worker takes over before its next look.
    updates: Vec<Option<WorkerUpdate>>,
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
    pub(super) fn new(set: CameraSet, workers: usize, board: Arc<LookBoard>) -> Self {
        let periods: Vec<Duration> = set.cameras.iter().map(|c| c.period).collect();
        Self {
            scheduled: Mutex::new(Scheduled {
                schedule: Schedule::new(&periods),
                set: Arc::new(set),
                updates: (0..workers).map(|_| None).collect(),
            }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            start: Instant::now(),
            board,
        }
    }

    /// The cameras.
    pub(super) fn cameras(&self) -> Arc<CameraSet> {
        Arc::clone(&self.scheduled().set)
    }

    /// Replaces the cameras and, where given, what each worker works with. No look starts while `meanwhile` runs, so what it changes and
    /// the new cameras take effect together; a look in progress ends as it began.
    pub(super) fn replace<T>(
        &self,
        set: CameraSet,
        updates: impl Iterator<Item = WorkerUpdate>,
        meanwhile: impl FnOnce() -> T,
    ) -> T {
        let mut scheduled = self.scheduled();
        let done = meanwhile();
        let before = Arc::clone(&scheduled.set);
        let cameras: Vec<_> = set.cameras.iter().map(|c| (before.index(&c.id), c.period)).collect();
        scheduled.schedule.replace(self.start.elapsed(), &cameras);
        scheduled.set = Arc::new(set);
        for (waiting, update) in scheduled.updates.iter_mut().zip(updates) {
            waiting.get_or_insert_default().add(update);
        }
        self.changed.notify_all();
        done
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
        let mut scheduled = self.scheduled();
        if let Some((i, preset)) = scheduled.set.view(view)
            && scheduled.set.cameras[i].current_preset.get() == Some(preset)
        {
            let looked = &scheduled.set.cameras[i].looked;
            looked.look_from.store(by.as_millisecond(), Ordering::Relaxed);
            let ahead = Duration::try_from(by.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            scheduled.schedule.look_by(i, self.start.elapsed() + ahead);
            self.changed.notify_one();
        }
    }

    /// Requests a second look at `place` in `view` with the next look.
    pub(super) fn second_look_at(&self, view: CameraId, rule: RuleId, place: BBox) {
        let set = self.cameras();
        if let Some((i, _)) = set.view(&view) {
            let mut requests = set.cameras[i].looked.second_looks();
            if requests.len() < MAX_SECOND_LOOKS {
                requests.push((view, rule, place));
            }
        }
    }

    /// The boxes of the open cases of `view`: what is new there stays new.
    pub(super) fn hold(&self, view: &CameraId, boxes: Vec<BBox>) {
        if let Some(new_regions) = self.cameras().new_regions(view) {
            new_regions.hold(boxes);
        }
    }

    /// What `view` shows in `bbox` belongs to its background.
    pub(super) fn absorb(&self, view: &CameraId, bbox: BBox) {
        if let Some(new_regions) = self.cameras().new_regions(view) {
            new_regions.absorb(bbox);
        }
    }

    /// Factor by which every period is stretched under overload; 1: not stretched.
    pub(super) fn stretch(&self) -> f64 {
        self.scheduled().schedule.stretch()
    }

    fn scheduled(&self) -> MutexGuard<'_, Scheduled> {
        self.scheduled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next camera to look at; `None` when stopping. A worker takes over changes while it waits, too, so that a replaced
    /// model's sessions are freed without waiting for a look.
    fn next(&self, index: usize, worker: &mut LookWorker) -> Option<PlannedLook> {
        let mut scheduled = self.scheduled();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            let update = scheduled.updates.get_mut(index).and_then(Option::take);
            if update.is_some() || !worker.models.is_current() {
                drop(scheduled);
                worker.update(update.unwrap_or_default());
                scheduled = self.scheduled();
                continue;
            }
            let now = self.start.elapsed();
            let Scheduled { schedule, set, .. } = &mut *scheduled;
            match schedule.next(now, |i| set.cameras[i].has_new_picture()) {
                Pick::Look { camera, late } => {
                    return Some(PlannedLook {
                        camera: Arc::clone(&set.cameras[camera]),
                        set: Arc::clone(set),
                        late,
                    });
                }
                Pick::Wait(until) => {
                    let wait = until.map_or(MAX_WAIT, |until| {
                        until.saturating_sub(now).clamp(Duration::from_millis(1), MAX_WAIT)
                    });
                    scheduled = self
                        .changed
                        .wait_timeout(scheduled, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
    }

    /// The look at `camera` has ended. The cameras may have been replaced meanwhile.
    fn done(&self, camera: &CameraId) {
        let mut scheduled = self.scheduled();
        if let Some(i) = scheduled.set.index(camera) {
            scheduled.schedule.done(i);
        }
    }

    /// Runs worker `index` until the scheduler stops or the core is gone.
    pub(super) fn work(&self, index: usize, mut worker: LookWorker, core: &Sender<CoreEvent>) {
        while let Some(PlannedLook { camera, set, late }) = self.next(index, &mut worker) {
            histogram!(metric::LATENESS).record(late.as_secs_f64());
            // Sent without the monitor's lock, since a full inbox makes this wait.
            let event = camera.view_monitor().process_requests();
            if let Some(event) = event
                && core.blocking_send(event).is_err()
            {
                return;
            }
            let event = camera.slot.latest().and_then(|(seq, picture)| {
                camera.looked.seq.store(seq, Ordering::Relaxed);
                let is_requested = camera.looked.look_from.swap(0, Ordering::Relaxed) != 0;
                let look = CurrentLook {
                    set: &set,
                    is_watched: self.board.is_watched(),
                    camera: &camera,
                    at: picture.captured_at(),
                    is_requested,
                };
                worker.look(look, picture)
            });
            self.done(&camera.id);
            if let Some(event) = event
                && core.blocking_send(event).is_err()
            {
                return;
            }
        }
    }
}

/// A look that is due.
struct PlannedLook {
    camera: Arc<WatchedCamera>,
    /// The cameras that it belongs to.
    set: Arc<CameraSet>,
    /// How long it has waited for a worker.
    late: Duration,
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
    use std::{collections::BTreeMap, thread};

    use super::*;
    use crate::daemon::test_config::{demo_config, make_tour};
    use gridwatch_camera::slot::Slot;
    use gridwatch_config::{Config, raw};
    use gridwatch_custody::vault::VaultKey;

    fn slots(config: &Config) -> BTreeMap<CameraId, Arc<Slot>> {
        let slot = |c: &gridwatch_config::Camera| (c.id.clone(), Slot::new(c.id.clone(), Arc::default()));
        config.cameras.iter().map(slot).collect()
    }

    fn key() -> Arc<VaultKey> {
        Arc::new(VaultKey::new(&[7; 32]).unwrap())
    }

    /// A scheduler of the demo's cameras, and the first view.
    fn scheduler(edit: impl FnOnce(&mut raw::File)) -> (Arc<LookScheduler>, CameraId) {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), edit);
        let set = CameraSet::new(&config, &slots(&config), &key(), None);
        let view = config.cameras[0].presets[0].view.clone();
        (Arc::new(LookScheduler::new(set, 1, Arc::default())), view)
    }

    fn look_from(looks: &LookScheduler) -> i64 {
        looks.cameras().cameras[0].looked.look_from.load(Ordering::Relaxed)
    }

    #[test]
    fn a_look_is_requested_while_a_worker_holds_the_view_monitor() {
        let (looks, view) = scheduler(|_| {});
        let by = Timestamp::from_second(1_750_000_000).unwrap();
        let set = looks.cameras();
        let assessing = set.cameras[0].view_monitor();
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
        assert_eq!(look_from(&looks), by.as_millisecond());
    }

    #[test]
    fn no_look_is_requested_at_a_preset_where_the_camera_does_not_stand() {
        let (looks, view) = scheduler(make_tour);
        looks.look_by(&view, Timestamp::now());
        assert_eq!(look_from(&looks), 0);
    }

    #[test]
    fn a_camera_keeps_what_it_learned_when_its_configuration_changes() {
        let dir = tempfile::tempdir().unwrap();
        let old = demo_config(dir.path(), |_| {});
        let slots = slots(&old);
        let before = CameraSet::new(&old, &slots, &key(), None);
        before.cameras[0].looked.looks.store(7, Ordering::Relaxed);
        before.cameras[1].looked.looks.store(8, Ordering::Relaxed);
        let new = demo_config(dir.path(), |file| {
            file.cameras.remove(2);
            file.cameras.swap(0, 1);
            file.cameras[1].look_every = raw::Span(Duration::from_secs(1));
            file.cameras[1].fixed = false;
        });
        let after = CameraSet::new(&new, &slots, &key(), Some((&old, &before)));
        assert_eq!(after.cameras.len(), 2);
        let monitors = |set: &CameraSet, id: &CameraId| Arc::as_ptr(&set.get(id).unwrap().monitor());
        for (camera, looks, is_same_monitor) in [(0, 7, false), (1, 8, true)] {
            let id = &old.cameras[camera].id;
            let watched = after.get(id).unwrap();
            assert_eq!(watched.looked.looks.load(Ordering::Relaxed), looks, "{id}");
            assert_eq!(monitors(&before, id) == monitors(&after, id), is_same_monitor, "{id}");
        }
        assert_eq!(after.get(&old.cameras[0].id).unwrap().period, Duration::from_secs(1));
    }
}
