//! One camera's state for the look workers. What is configured is replaced with the configuration; what was learned and counted lives on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::{
    super::{
        new_regions::NewRegions,
        readiness::CameraSight,
        text_reader::{TextRules, ViewText},
        view_monitor::{CurrentPreset, ViewMonitor},
    },
    MAX_LOOK_AHEAD_MS, MAX_STRETCH,
};
use gridwatch_camera::slot::Slot;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_custody::vault::VaultKey;
use gridwatch_engine::{BBox, CameraId, Point, RuleId, View};

/// One view of a camera: a preset, or the only view of a camera without presets.
pub(super) struct WatchedView {
    pub(super) view: CameraId,
    /// Polygons whose detections are dropped; they are masked in every picture.
    pub(super) privacy: Vec<Vec<Point>>,
    /// When and where text is read, and what was read.
    pub(super) text: ViewText,
    pub(super) new_regions: Arc<NewRegions>,
}

/// One camera's state for the look workers.
pub(in crate::daemon) struct WatchedCamera {
    pub(in crate::daemon) id: CameraId,
    pub(super) presets: Vec<WatchedView>,
    pub(in crate::daemon) slot: Arc<Slot>,
    view_monitor: Arc<Mutex<ViewMonitor>>,
    pub(super) current_preset: Arc<CurrentPreset>,
    /// What its looks brought so far.
    pub(in crate::daemon) looked: Arc<LookRecord>,
    pub(super) period: Duration,
    away: Duration,
}

/// What the looks at one camera brought so far, and what the next one is asked for.
#[derive(Default)]
pub(in crate::daemon) struct LookRecord {
    /// The slot's sequence number of the picture last looked at.
    pub(super) seq: AtomicU64,
    /// Unix milliseconds: the engine requested a picture taken at this time or later; 0: no request.
    pub(super) look_from: AtomicI64,
    /// Second looks that the engine requested for the next look: view, rule and place.
    second_looks: Mutex<Vec<(CameraId, RuleId, BBox)>>,
    pub(in crate::daemon) looks: AtomicU64,
    /// Capture time of the newest picture looked at, Unix milliseconds; 0 before the first look.
    pub(in crate::daemon) last_look: AtomicI64,
    pub(in crate::daemon) last_view: Mutex<Option<View>>,
    /// Capture time of the newest picture with a clear view of a preset, Unix milliseconds; 0 before the first.
    pub(super) last_clear: AtomicI64,
}

impl LookRecord {
    pub(super) fn second_looks(&self) -> MutexGuard<'_, Vec<(CameraId, RuleId, BBox)>> {
        self.second_looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view at the newest look.
    pub(in crate::daemon) fn last_view(&self) -> MutexGuard<'_, Option<View>> {
        self.last_view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A camera as it was watched with the configuration before.
#[derive(Clone, Copy)]
struct Before<'a> {
    config: &'a Config,
    camera: &'a config::Camera,
    watched: &'a WatchedCamera,
}

impl WatchedCamera {
    fn new(
        config: &Config,
        camera: &config::Camera,
        slot: Arc<Slot>,
        key: &Arc<VaultKey>,
        before: Option<Before<'_>>,
    ) -> Self {
        let monitor = before.filter(|b| is_same_monitor((b.config, b.camera), (config, camera)));
        let (view_monitor, current_preset) = match monitor {
            Some(Before { watched, .. }) => (Arc::clone(&watched.view_monitor), Arc::clone(&watched.current_preset)),
            None => {
                // The new one reads what the old one learned.
                if let Some(before) = before {
                    before.watched.view_monitor().save();
                }
                let monitor = ViewMonitor::new(config, camera, key);
                let current_preset = monitor.current_preset();
                (Arc::new(Mutex::new(monitor)), current_preset)
            }
        };
        let view_before = |view: &CameraId| before.and_then(|b| b.watched.presets.iter().find(|p| p.view == *view));
        let presets = camera.presets.iter().map(|preset| {
            let known = view_before(&preset.view);
            let regions = before.zip(known).map(|(b, view)| (b.config, &view.new_regions));
            WatchedView {
                view: preset.view.clone(),
                privacy: preset.privacy.clone(),
                text: ViewText::of(config, camera, preset, known.map(|view| &view.text)),
                new_regions: NewRegions::of(config, regions),
            }
        });
        let same_slot = before.filter(|b| Arc::ptr_eq(&b.watched.slot, &slot));
        Self {
            id: camera.id.clone(),
            presets: presets.collect(),
            slot,
            view_monitor,
            current_preset,
            looked: same_slot.map_or_else(Arc::default, |b| Arc::clone(&b.watched.looked)),
            period: camera.look_every,
            away: match camera.aim {
                config::Aim::Tour { away } => away,
                config::Aim::Fixed | config::Aim::Unwatched => Duration::ZERO,
            },
        }
    }

    /// What readiness needs to know, with the looks `stretch` times as far apart as configured.
    pub(in crate::daemon) fn sight(&self, stretch: f64) -> CameraSight {
        let last_clear = self.looked.last_clear.load(Ordering::Relaxed);
        CameraSight {
            id: self.id.to_string(),
            state: self.slot.state(),
            view: *self.looked.last_view(),
            last_clear: Timestamp::from_millisecond(last_clear).ok().filter(|_| last_clear != 0),
            period: self.period.mul_f64(stretch.clamp(1.0, MAX_STRETCH)),
            away: self.away,
        }
    }

    /// The ids of its views.
    pub(in crate::daemon) fn views(&self) -> impl Iterator<Item = CameraId> {
        self.presets.iter().map(|preset| preset.view.clone())
    }

    #[cfg(test)]
    pub(super) fn monitor(&self) -> Arc<Mutex<ViewMonitor>> {
        Arc::clone(&self.view_monitor)
    }

    pub(super) fn view_monitor(&self) -> MutexGuard<'_, ViewMonitor> {
        self.view_monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if there is a picture that was not looked at and, where the engine requested one, that is late enough for it.
    pub(super) fn has_new_picture(&self) -> bool {
        let requested = self.looked.look_from.load(Ordering::Relaxed);
        // A request far in the future was made before the clock was set back.
        let waits = requested != 0 && requested - Timestamp::now().as_millisecond() < MAX_LOOK_AHEAD_MS;
        self.slot.seq() != self.looked.seq.load(Ordering::Relaxed)
            && (!waits
                || self
                    .slot
                    .latest()
                    .is_some_and(|(_, p)| p.captured_at().as_millisecond() >= requested))
    }
}

/// True if a view monitor made for the first configuration does for the second.
fn is_same_monitor(before: (&Config, &config::Camera), now: (&Config, &config::Camera)) -> bool {
    let views = |camera: &config::Camera| camera.presets.iter().map(|p| p.view.clone()).collect::<Vec<_>>();
    before.0.view == now.0.view
        && before.1.aim == now.1.aim
        && before.1.change == now.1.change
        && views(before.1) == views(now.1)
}

/// The cameras of one configuration, as the look workers see them.
#[derive(Default)]
pub(in crate::daemon) struct CameraSet {
    pub(in crate::daemon) cameras: Vec<Arc<WatchedCamera>>,
    by_id: BTreeMap<CameraId, usize>,
    /// Index of the camera and of its preset, by view.
    by_view: BTreeMap<CameraId, (usize, usize)>,
    /// What text is looked for; `None` if nothing is read.
    pub(super) text: Option<TextRules>,
}

impl CameraSet {
    /// The cameras of `config`, each with its slot in `slots`. What the set of the configuration before learned is kept.
    pub(in crate::daemon) fn new(
        config: &Config,
        slots: &BTreeMap<CameraId, Arc<Slot>>,
        key: &Arc<VaultKey>,
        before: Option<(&Config, &Self)>,
    ) -> Self {
        let watched = config.cameras.iter().filter_map(|camera| {
            let known = before.and_then(|(config, set)| {
                Some(Before {
                    config,
                    camera: config.cameras.iter().find(|c| c.id == camera.id)?,
                    watched: set.get(&camera.id)?,
                })
            });
            let slot = Arc::clone(slots.get(&camera.id)?);
            Some(Arc::new(WatchedCamera::new(config, camera, slot, key, known)))
        });
        let cameras: Vec<Arc<WatchedCamera>> = watched.collect();
        let removed = before.iter().flat_map(|(_, set)| &set.cameras);
        for camera in removed.filter(|c| cameras.iter().all(|kept| kept.id != c.id)) {
            // For the day on which it comes back.
            camera.view_monitor().save();
        }
        let views = cameras.iter().enumerate().flat_map(|(i, c)| {
            let presets = c.presets.iter().enumerate();
            presets.map(move |(preset, p)| (p.view.clone(), (i, preset)))
        });
        Self {
            by_view: views.collect(),
            by_id: cameras.iter().enumerate().map(|(i, c)| (c.id.clone(), i)).collect(),
            cameras,
            text: TextRules::of(config),
        }
    }

    /// The camera's index.
    pub(super) fn index(&self, camera: &CameraId) -> Option<usize> {
        self.by_id.get(camera).copied()
    }

    /// The camera `id`.
    pub(in crate::daemon) fn get(&self, id: &CameraId) -> Option<&Arc<WatchedCamera>> {
        self.cameras.get(self.index(id)?)
    }

    /// Index of the camera and of the preset that `view` is.
    pub(in crate::daemon) fn view(&self, view: &CameraId) -> Option<(usize, usize)> {
        self.by_view.get(view).copied()
    }

    pub(super) fn new_regions(&self, view: &CameraId) -> Option<&NewRegions> {
        let (camera, preset) = self.view(view)?;
        Some(&self.cameras[camera].presets[preset].new_regions)
    }
}
