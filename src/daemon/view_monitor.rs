//! Monitors one camera's view: whether a look can be trusted, and whether the camera still points where its zones were drawn, or
//! at which of its presets. Keeps the learned views over restarts, logs changes, and processes the requests of `gridwatch view`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use jiff::Timestamp;
use metrics::{counter, gauge, histogram};

use super::{
    change_report::{Absorptions, ChangeReport},
    messages::CoreEvent,
    new_regions::NewRegions,
};
use gridwatch_base::metric;
use gridwatch_config as config;
use gridwatch_config::{Camera, Config};
use gridwatch_custody::vault::VaultKey;
use gridwatch_engine::{BBox, CameraId, Detection, Label, Light, View};
use gridwatch_frame::Frame;
use gridwatch_vision::{
    Aim, AimChange, AimLimits, Health, Luma, Shift, Tour, TourChange, VisionError,
    change::{ChangeBuffers, ChangeLook, ChangeMap, ChangeState, NewRegion, Occupant},
    views::{ChangeStatus, Standing, ViewFiles, ViewRequest, ViewStatus, ViewsError},
};

/// The preset that a camera stands at as of its newest look.
///
/// The core reads it without the view monitor's lock, which a look worker holds while it analyses a frame and writes the view's
/// files.
#[derive(Debug)]
pub(super) struct CurrentPreset(AtomicUsize);

impl CurrentPreset {
    const NONE: usize = usize::MAX;

    fn set(&self, preset: Option<usize>) {
        self.0.store(preset.unwrap_or(Self::NONE), Ordering::Relaxed);
    }

    /// Its index; `None` between presets, and before one was recognised.
    pub(super) fn get(&self) -> Option<usize> {
        let preset = self.0.load(Ordering::Relaxed);
        (preset != Self::NONE).then_some(preset)
    }
}

/// One camera's view monitor.
pub(super) struct ViewMonitor {
    camera: CameraId,
    health: Health,
    aim: AimTracker,
    /// One for each preset; one in all if the camera has no presets.
    views: Vec<ViewState>,
    current_preset: Arc<CurrentPreset>,
}

enum AimTracker {
    Fixed(Aim),
    /// The camera turns by itself, and its aim is not checked.
    Unwatched,
    Tour(Tour),
}

/// One view's files.
struct ViewState {
    id: CameraId,
    files: ViewFiles,
    picture_requested: bool,
    /// `None` if the camera has no change maps.
    change: Option<ChangeMap>,
    absorptions: Absorptions,
    report: ChangeReport,
}

/// The assessment of one look.
pub(super) struct Assessment {
    /// Whether the look can be trusted.
    pub(super) view: View,
    pub(super) light: Light,
    /// Index of the preset shown; `None` if a touring camera is between presets or its preset cannot be told.
    pub(super) preset: Option<usize>,
    /// A preset that was learned anew with this look, so that the engine forgets what it saw there.
    pub(super) reaimed: Option<CameraId>,
}

impl ViewMonitor {
    /// Restores the learned views of the last run.
    pub(super) fn new(config: &Config, camera: &Camera, key: &Arc<VaultKey>) -> Self {
        let limits = AimLimits::from(&config.view);
        let state = |preset: &config::Preset| ViewState {
            id: preset.view.clone(),
            files: ViewFiles::new(&config.state_dir, preset.view.clone(), Some(Arc::clone(key))),
            picture_requested: false,
            change: camera.change.map(ChangeMap::new),
            absorptions: Absorptions::default(),
            report: ChangeReport::default(),
        };
        let mut this = Self {
            camera: camera.id.clone(),
            health: Health::new(config.view.clone()),
            aim: match camera.aim {
                config::Aim::Fixed => AimTracker::Fixed(Aim::new(limits)),
                config::Aim::Unwatched => AimTracker::Unwatched,
                config::Aim::Tour { away } => AimTracker::Tour(Tour::new(limits, camera.presets.len(), away)),
            },
            views: camera.presets.iter().map(state).collect(),
            current_preset: Arc::new(CurrentPreset(AtomicUsize::new(CurrentPreset::NONE))),
        };
        this.current_preset.set(this.only_preset());
        for preset in 0..this.views.len() {
            this.restore(preset);
            let ViewState {
                files, change, report, ..
            } = &mut this.views[preset];
            if let Some(map) = change {
                files.restore_change(map);
                *report = ChangeReport::restore(files);
            }
        }
        this
    }

    /// Restores one view; a camera that was moved at the end of the last run stays so until its looks show otherwise.
    fn restore(&mut self, preset: usize) {
        let ViewState { id, files, .. } = &self.views[preset];
        let references = || files.load_or_set_aside().unwrap_or_default().references;
        let before = files.status().ok().flatten();
        let was_moved = before.as_ref().is_some_and(|b| b.standing == Standing::Moved);
        let standing = match &mut self.aim {
            AimTracker::Unwatched => return,
            AimTracker::Fixed(aim) => {
                references().into_iter().for_each(|(light, r, _)| aim.restore(light, r));
                if aim.is_learning() {
                    Standing::Learning
                } else if was_moved {
                    aim.restore_moved();
                    tracing::warn!(camera = %id, "Camera was moved before the start; quarantined until it points back or the view is confirmed (gridwatch view confirm)");
                    Standing::Moved
                } else {
                    Standing::Aimed
                }
            }
            AimTracker::Tour(tour) => {
                references()
                    .into_iter()
                    .for_each(|(light, r, _)| tour.restore(preset, light, r));
                if !tour.is_learned(preset) {
                    tracing::warn!(camera = %id, "Preset is not learned, so nothing is judged there; aim the camera at it and confirm (gridwatch view confirm)");
                    Standing::Learning
                } else if was_moved {
                    tour.restore_missed(preset);
                    Standing::Moved
                } else {
                    Standing::Aimed
                }
            }
        };
        gauge!(metric::VIEW_MOVED, "camera" => id.to_string()).set(gauge_value(standing));
        // Skip the write if nothing changed: many cameras start at once.
        if before.is_none_or(|b| b.standing != standing) {
            self.set_standing(preset, standing, Timestamp::now(), None);
        }
    }

    /// Saves what was learned since the last save.
    pub(super) fn save(&self) {
        for ViewState { id, files, change, .. } in &self.views {
            if let Some(map) = change {
                warn_on_error(id, files.save_change(map));
            }
        }
    }

    /// Processes the operator's requests since the last look; returns an event if the engine must know.
    pub(super) fn process_requests(&mut self) -> Option<CoreEvent> {
        let mut event = None;
        for preset in 0..self.views.len() {
            match self.views[preset].files.take_request() {
                Ok(None) => {}
                Ok(Some(ViewRequest::Picture)) => self.views[preset].picture_requested = true,
                Ok(Some(ViewRequest::Confirm)) => event = self.confirm(preset).or(event),
                Ok(Some(ViewRequest::Absorb(bbox))) => self.absorb(preset, bbox),
                Err(error) => warn_on_error(&self.views[preset].id, Err(error)),
            }
        }
        event
    }

    fn absorb(&mut self, preset: usize, bbox: BBox) {
        let ViewState {
            id,
            change,
            absorptions,
            ..
        } = &mut self.views[preset];
        let BBox { x1, y1, x2, y2 } = bbox;
        if change.is_none() {
            tracing::warn!(camera = %id, "Operator asked to absorb a place, but the camera has no change map (change.enabled); ignored");
        } else if absorptions.add(bbox) {
            tracing::info!(camera = %id, x1, y1, x2, y2, "Operator absorbs a place; it becomes part of the background with the next clear look");
        } else {
            tracing::warn!(camera = %id, x1, y1, x2, y2, "Too many places wait to be absorbed; this one is ignored. Ask again after the next clear look");
        }
    }

    fn confirm(&mut self, preset: usize) -> Option<CoreEvent> {
        let ViewState { id, files, .. } = &self.views[preset];
        match &mut self.aim {
            AimTracker::Unwatched => None,
            AimTracker::Fixed(aim) => {
                aim.confirm();
                warn_on_error(id, files.delete());
                let (at, camera) = (Timestamp::now(), id.clone());
                self.views[preset].forget_changes();
                tracing::info!(%camera, "Operator confirmed the view; learning it anew and forgetting what was seen there");
                self.set_standing(preset, Standing::Learning, at, None);
                Some(CoreEvent::Reaimed { camera, at })
            }
            AimTracker::Tour(tour) => {
                tour.learn(preset);
                tracing::info!(camera = %id, "Operator confirmed the preset; learning it from the next looks");
                None
            }
        }
    }

    /// Where the camera stands, kept current by [`ViewMonitor::assess`].
    pub(super) fn current_preset(&self) -> Arc<CurrentPreset> {
        Arc::clone(&self.current_preset)
    }

    /// The index of the only view of a camera without a tour; `None` for a touring camera.
    pub(super) fn only_preset(&self) -> Option<usize> {
        match self.aim {
            AimTracker::Fixed(_) | AimTracker::Unwatched => Some(0),
            AimTracker::Tour(_) => None,
        }
    }

    /// Assesses a look: whether it can be trusted, its light, and which preset it shows.
    pub(super) fn assess(&mut self, frame: &Frame) -> Result<Assessment, VisionError> {
        let (view, small) = self.health.look(frame)?;
        let mut assessment = Assessment {
            view,
            light: if frame.is_mono() { Light::Night } else { Light::Day },
            preset: self.only_preset(),
            reaimed: None,
        };
        let Some(small) = small else { return Ok(assessment) };
        if view == View::Clear {
            self.check_aim(&mut assessment, &small, frame.captured_at);
        }
        self.write_requested_pictures(assessment.preset, &small);
        Ok(assessment)
    }

    fn check_aim(&mut self, assessment: &mut Assessment, small: &Luma, at: Timestamp) {
        let light = assessment.light;
        let to_keep = match &mut self.aim {
            AimTracker::Unwatched => None,
            AimTracker::Fixed(aim) => {
                let checked = aim.look(small, at, light);
                assessment.view = checked.view;
                if let Some(change) = checked.change {
                    self.report_change(change, small, at);
                }
                checked.should_save.then_some(0)
            }
            AimTracker::Tour(tour) => {
                let checked = tour.look(small, at, light);
                assessment.preset = checked.preset;
                self.current_preset.set(tour.current_preset());
                for change in checked.changes {
                    if let TourChange::Learned { preset, replaced: true } = change {
                        let view = &mut self.views[preset];
                        view.forget_changes();
                        warn_on_error(&view.id, view.files.delete());
                        assessment.reaimed = Some(view.id.clone());
                    }
                    self.report_tour_change(change, at);
                }
                checked.should_save
            }
        };
        if let Some(preset) = to_keep {
            self.save_reference(preset, light, small);
        }
    }

    /// Compares a look at a preset with its learned background. The look's view must be clear. `None` if the camera has no
    /// change maps, or the frame is invalid.
    pub(super) fn look_for_changes(
        &mut self,
        preset: usize,
        frame: &Frame,
        occupants: &[(BBox, Occupant)],
        new_regions: &NewRegions,
        buffers: &mut ChangeBuffers,
    ) -> Option<ChangeLook> {
        let ViewState {
            id,
            files,
            change,
            absorptions,
            ..
        } = self.views.get_mut(preset)?;
        let map = change.as_mut()?;
        // The boxes of open cases first, so that an operator's box leaves them out.
        new_regions.apply_requests(map);
        let has_absorbed = absorptions.apply(map);
        let start = Instant::now();
        let look = map.look(frame, occupants, buffers).ok()?;
        histogram!(metric::CHANGE).record(start.elapsed());
        let state = match look.state {
            ChangeState::Learning => "learning",
            ChangeState::Judged => "judged",
            ChangeState::OtherLight => "other_light",
        };
        counter!(metric::CHANGE_LOOKS, "camera" => id.to_string(), "state" => state).increment(1);
        for region in look.regions.iter().filter(|r| r.is_first) {
            let explained_by = region.explained_by.map_or("nothing", Occupant::name);
            counter!(metric::NEW_REGIONS, "camera" => id.to_string(), "explained_by" => explained_by).increment(1);
            let BBox { x1, y1, x2, y2 } = region.bbox;
            tracing::debug!(camera = %id, x1, y1, x2, y2, score = region.score, since = %region.since, explained_by, "New still region");
        }
        if look.should_save || has_absorbed {
            warn_on_error(id, files.save_change(map));
        }
        Some(look)
    }

    /// Publishes what a look at a preset brought, if an operator would want to know. `explain` names what explains a region that no
    /// person, animal or vehicle explains.
    pub(super) fn publish_changes(
        &mut self,
        preset: usize,
        look: &ChangeLook,
        at: Timestamp,
        explain: impl Fn(&NewRegion) -> Option<Label>,
    ) {
        if let Some(ViewState {
            id,
            files,
            change: Some(map),
            report,
            ..
        }) = self.views.get_mut(preset)
        {
            let status = ChangeStatus::new(map, look, at, explain);
            warn_on_error(id, report.update(files, status));
        }
    }

    /// Whether the newest look at a preset could tell for every open case there if something new is in its place.
    pub(super) fn knows_held(&self, preset: usize) -> bool {
        let map = self.views.get(preset).and_then(|v| v.change.as_ref());
        map.is_none_or(ChangeMap::knows_held)
    }

    /// Sets the newness of each detection in the newest look at a preset.
    pub(super) fn judge_newness(&self, preset: usize, found: &mut [Detection]) {
        let map = self.views.get(preset).and_then(|v| v.change.as_ref());
        for detection in found {
            detection.newness = map.and_then(|map| map.new_share(&detection.bbox));
        }
    }

    fn write_requested_pictures(&mut self, shown: Option<usize>, small: &Luma) {
        for (i, view) in self.views.iter_mut().enumerate().filter(|(_, k)| k.picture_requested) {
            // If the preset is missed or not learned yet, whatever the camera shows helps the operator.
            let may_come = matches!(&self.aim, AimTracker::Tour(tour) if tour.is_expected(i));
            if shown == Some(i) || !may_come {
                view.picture_requested = false;
                warn_on_error(&view.id, view.files.write_newest(small));
            }
        }
    }

    fn report_change(&self, change: AimChange, small: &Luma, at: Timestamp) {
        let camera = &self.camera;
        match change {
            AimChange::Learned => {
                tracing::info!(%camera, "View learned; a moved camera will be detected");
                self.set_standing(0, Standing::Aimed, at, None);
            }
            AimChange::Back => {
                tracing::info!(%camera, "Camera points back at its view; its zones apply again");
                self.set_standing(0, Standing::Aimed, at, None);
            }
            AimChange::Moved(shift) => {
                let what = shift.map_or_else(|| "the view was not found in the picture".into(), |s| s.to_string());
                tracing::warn!(%camera, shift = what, "Camera was moved; nothing is confirmed or cleared there. Aim it back; or, to keep the new view, check its zones and calibration (gridwatch view show), correct them, and confirm (gridwatch view confirm)");
                self.set_standing(0, Standing::Moved, at, shift);
                warn_on_error(camera, self.views[0].files.write_newest(small));
            }
            AimChange::Unsteady => {
                tracing::warn!(%camera, "Cannot learn the view: the looks disagree with one another; nothing is confirmed there. If the camera turns by itself, list its stops as presets, or set `fixed = false`");
                self.set_standing(0, Standing::Moved, at, None);
                warn_on_error(camera, self.views[0].files.write_newest(small));
            }
        }
    }

    fn report_tour_change(&self, change: TourChange, at: Timestamp) {
        let id = |preset: usize| &self.views[preset].id;
        match change {
            TourChange::Learned { preset, .. } => {
                tracing::info!(camera = %id(preset), "Preset learned; the camera's looks there are judged from now on");
                self.set_standing(preset, Standing::Aimed, at, None);
            }
            TourChange::Unsteady(preset) => {
                tracing::warn!(camera = %id(preset), "Cannot learn the preset: the looks disagree with one another or show too little detail. Hold the camera still at it by day and confirm again (gridwatch view confirm)");
            }
            TourChange::Same { preset, other } => {
                tracing::warn!(camera = %id(preset), other = %id(other), "Cannot learn the preset: the camera shows the same view as another preset. Aim it at this one and confirm again (gridwatch view confirm); if both are the same view, remove one");
            }
            TourChange::Missed(preset) => {
                tracing::warn!(camera = %id(preset), "Camera has missed the preset for two tours; nothing is confirmed or cleared there. Check that its tour still includes the preset, that `tour` is long enough, and where it points (gridwatch view show); if the preset was moved, correct its zones and calibration and confirm (gridwatch view confirm)");
                self.set_standing(preset, Standing::Moved, at, None);
            }
            TourChange::Back(preset) => {
                tracing::info!(camera = %id(preset), "Camera is back at the preset");
                self.set_standing(preset, Standing::Aimed, at, None);
            }
        }
    }

    fn save_reference(&self, preset: usize, light: Light, small: &Luma) {
        let reference = match &self.aim {
            AimTracker::Fixed(aim) => aim.references().find(|(l, _)| *l == light),
            AimTracker::Tour(tour) => tour.references(preset).find(|(l, _)| *l == light),
            AimTracker::Unwatched => None,
        };
        if let Some((_, reference)) = reference {
            let ViewState { id, files, .. } = &self.views[preset];
            // The other light's reference is read back from disk: keeping it in memory would double a camera's memory.
            let mut kept = files.load().ok().flatten().unwrap_or_default();
            kept.references.retain(|(l, ..)| *l != light);
            kept.references.push((light, reference.clone(), small.clone()));
            warn_on_error(id, files.save(&kept));
        }
    }

    fn set_standing(&self, preset: usize, standing: Standing, since: Timestamp, shift: Option<Shift>) {
        let ViewState { id, files, .. } = &self.views[preset];
        gauge!(metric::VIEW_MOVED, "camera" => id.to_string()).set(gauge_value(standing));
        warn_on_error(id, files.write_status(&ViewStatus { standing, since, shift }));
    }
}

impl ViewState {
    /// Forgets the learned background: the view is another one now.
    fn forget_changes(&mut self) {
        if let Some(map) = &mut self.change {
            map.reset();
            self.absorptions.clear();
            self.report = ChangeReport::default();
            warn_on_error(&self.id, self.files.delete_change());
        }
    }
}

/// The value of the `VIEW_MOVED` gauge.
fn gauge_value(standing: Standing) -> f64 {
    if standing == Standing::Moved { 1.0 } else { 0.0 }
}

/// Logs a failure. The files help the next run; a failing disk must not stop this one's looks.
fn warn_on_error(camera: &CameraId, done: Result<(), ViewsError>) {
    if let Err(error) = done {
        tracing::warn!(%camera, %error, "Cannot read or write a file of the camera's view; looks continue without it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::test_config::{demo_config, make_tour, root};
    use gridwatch_vision::views::ChangeStanding;

    fn key() -> Arc<VaultKey> {
        Arc::new(VaultKey::new(&[7; 32]).unwrap())
    }

    fn frame(picture: &str, second: i64) -> Frame {
        let picture = image::open(root().join("tests/fixtures/pictures").join(picture)).unwrap();
        Frame::from_rgb(&picture.into_rgb8(), Timestamp::from_second(second).unwrap()).unwrap()
    }

    #[test]
    fn the_current_preset_follows_the_looks() {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), make_tour);
        let mut monitor = ViewMonitor::new(&config, &config.cameras[0], &key());
        let current = monitor.current_preset();
        assert_eq!(current.get(), None, "no preset is learned yet");
        assert!(monitor.confirm(1).is_none());
        for second in 0..4 {
            monitor.assess(&frame("bags.jpg", second)).unwrap();
        }
        assert_eq!(current.get(), Some(1));
        monitor.assess(&frame("cars.jpg", 4)).unwrap();
        assert_eq!(current.get(), None, "between presets");
    }

    #[test]
    fn a_camera_without_presets_always_stands_at_its_view() {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), |_| {});
        assert_eq!(
            ViewMonitor::new(&config, &config.cameras[0], &key())
                .current_preset()
                .get(),
            Some(0)
        );
    }

    /// A street, and the street with a bag.
    fn street() -> [image::RgbImage; 2] {
        let open = |name: &str| image::open(root().join("demo/assets").join(name)).unwrap();
        let street = open("facade_488.jpg").resize_exact(480, 270, image::imageops::FilterType::Triangle);
        let bag = open("bag_0200.png").resize_exact(30, 30, image::imageops::FilterType::Triangle);
        let mut with_bag = street.to_rgba8();
        image::imageops::overlay(&mut with_bag, &bag, 250, 220);
        [street, image::DynamicImage::ImageRgba8(with_bag)].map(image::DynamicImage::into_rgb8)
    }

    /// A look at the picture, with noise of its own as a sensor's.
    fn noisy(picture: &image::RgbImage, second: i64) -> Frame {
        let mut picture = picture.clone();
        let mut random = fastrand::Rng::with_seed(second as u64);
        for v in picture.iter_mut() {
            *v = v.saturating_add_signed(random.i8(-4..=4));
        }
        Frame::from_rgb(&picture, Timestamp::from_second(1_760_000_000 + second).unwrap()).unwrap()
    }

    #[test]
    fn an_operator_absorbs_what_the_status_file_lists_unless_a_case_is_open_there() {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), |_| {});
        let mut monitor = ViewMonitor::new(&config, &config.cameras[0], &key());
        let new_regions = NewRegions::of(&config, None);
        let files = monitor.views[0].files.clone();
        let mut buffers = ChangeBuffers::default();
        let [street, with_bag] = street();
        let mut look = |monitor: &mut ViewMonitor, bag: bool, second: i64| {
            let frame = noisy(if bag { &with_bag } else { &street }, second);
            monitor.process_requests();
            let look = monitor
                .look_for_changes(0, &frame, &[], &new_regions, &mut buffers)
                .unwrap();
            monitor.publish_changes(0, &look, frame.captured_at, |_| None);
            look.regions.len()
        };
        let status = || files.change_status().unwrap().unwrap();
        for n in 0..50 {
            look(&mut monitor, n >= 33, n * 10);
        }
        let published = status();
        let [region] = &published.regions[..] else {
            panic!("{published:?}")
        };
        assert_eq!((published.state, published.variants), (ChangeStanding::Judging, 1));
        assert!(
            region.explained_by.is_none() && region.since.as_second() == 1_760_000_330,
            "{region:?}"
        );

        new_regions.hold(vec![region.bbox]);
        files.request(ViewRequest::Absorb(region.bbox)).unwrap();
        assert_eq!(look(&mut monitor, true, 600), 1, "a case is open there");
        assert!(!files.has_request());
        new_regions.hold(Vec::new());
        files.request(ViewRequest::Absorb(region.bbox)).unwrap();
        assert_eq!(look(&mut monitor, true, 610), 0);
        assert_eq!(status().regions, []);
        // The next run knows it too.
        let mut monitor = ViewMonitor::new(&config, &config.cameras[0], &key());
        for n in 62..100 {
            assert_eq!(look(&mut monitor, true, n * 10), 0, "look {n}");
        }
        assert_eq!(
            (look(&mut monitor, true, 1000), status().state),
            (0, ChangeStanding::Judging)
        );
        // Now its removal is new.
        let gone = (101..115).map(|n| look(&mut monitor, false, n * 10)).max();
        assert_eq!(gone, Some(1));
        monitor.confirm(0);
        assert_eq!(files.change_status().unwrap(), None);
    }
}
