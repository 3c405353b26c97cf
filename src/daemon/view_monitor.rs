//! Whether one camera sees, and sees what it was aimed at, or which of its presets: health and aim together, what is kept of
//! its views over restarts, what the operator is told, and what `gridwatch view` asks for.

use jiff::Timestamp;
use metrics::gauge;

use super::core::Event;
use gridwatch_base::metric;
use gridwatch_config as config;
use gridwatch_config::{Camera, Config};
use gridwatch_engine::{CameraId, Light, View};
use gridwatch_frame::Frame;
use gridwatch_vision::{
    Aim, Change, Health, Limits, Luma, Shift, Tour, TourChange, VisionError,
    views::{Files, Request, Standing, Status, ViewsError},
};

/// One camera's.
pub(super) struct ViewMonitor {
    camera: CameraId,
    health: Health,
    aimed: Aimed,
    /// By preset; one where the camera has none.
    views: Vec<Kept>,
}

enum Aimed {
    Fixed(Aim),
    /// The camera turns by itself.
    Unwatched,
    Tour(Tour),
}

/// What is kept of one view.
struct Kept {
    id: CameraId,
    files: Files,
    is_picture_wanted: bool,
}

/// A look, judged.
pub(super) struct Judged {
    /// Whether it can be trusted.
    pub(super) view: View,
    pub(super) light: Light,
    /// Index of the preset that it shows; `None` where a camera that turns stands at none, or nobody can tell.
    pub(super) preset: Option<usize>,
    /// A preset is known by sight anew: what was seen there before is void.
    pub(super) reaimed: Option<CameraId>,
}

impl ViewMonitor {
    /// Takes up what is kept of the views.
    pub(super) fn new(config: &Config, camera: &Camera) -> Self {
        let limits = Limits::from(&config.view);
        let kept = |preset: &config::Preset| Kept {
            id: preset.view.clone(),
            files: Files::new(&config.state_dir, preset.view.clone()),
            is_picture_wanted: false,
        };
        let mut this = Self {
            camera: camera.id.clone(),
            health: Health::new(config.view.clone()),
            aimed: match camera.aim {
                config::Aim::Fixed => Aimed::Fixed(Aim::new(limits)),
                config::Aim::Unwatched => Aimed::Unwatched,
                config::Aim::Tour { away } => Aimed::Tour(Tour::new(limits, camera.presets.len(), away)),
            },
            views: camera.presets.iter().map(kept).collect(),
        };
        for preset in 0..this.views.len() {
            this.take_up(preset);
        }
        this
    }

    /// Goes on where the last run ended: a camera that was moved then is so until its looks say otherwise.
    fn take_up(&mut self, preset: usize) {
        let Kept { id, files, .. } = &self.views[preset];
        let references = || files.take_kept().unwrap_or_default().references;
        let before = files.status().ok().flatten();
        let was_moved = before.as_ref().is_some_and(|b| b.standing == Standing::Moved);
        let standing = match &mut self.aimed {
            Aimed::Unwatched => return,
            Aimed::Fixed(aim) => {
                references()
                    .into_iter()
                    .for_each(|(light, r, _)| aim.remember(light, r));
                if aim.is_learning() {
                    Standing::Learning
                } else if was_moved {
                    aim.stay_moved();
                    tracing::warn!(camera = %id, "The camera was moved before the start, and stays in quarantine until it is back or confirmed (gridwatch view).");
                    Standing::Moved
                } else {
                    Standing::Aimed
                }
            }
            Aimed::Tour(tour) => {
                references()
                    .into_iter()
                    .for_each(|(light, r, _)| tour.remember(preset, light, r));
                if !tour.is_known(preset) {
                    tracing::warn!(camera = %id, "The preset is not known by sight, so nothing is judged there. Aim the camera at it and say so (gridwatch view confirm).");
                    Standing::Learning
                } else if was_moved {
                    tour.stay_missed(preset);
                    Standing::Moved
                } else {
                    Standing::Aimed
                }
            }
        };
        gauge!(metric::VIEW_MOVED, "camera" => id.to_string()).set(moved(standing));
        // Said already, it need not be written: many cameras start at once.
        if before.is_none_or(|b| b.standing != standing) {
            self.stands(preset, standing, Timestamp::now(), None);
        }
    }

    /// Does what an operator asked for since the last look; an event where the engine must know.
    pub(super) fn asked(&mut self) -> Option<Event> {
        let mut event = None;
        for preset in 0..self.views.len() {
            match self.views[preset].files.take_request() {
                Ok(None) => {}
                Ok(Some(Request::Picture)) => self.views[preset].is_picture_wanted = true,
                Ok(Some(Request::Confirm)) => event = self.confirm(preset).or(event),
                Err(error) => warned(&self.views[preset].id, Err(error)),
            }
        }
        event
    }

    fn confirm(&mut self, preset: usize) -> Option<Event> {
        let Kept { id, files, .. } = &self.views[preset];
        match &mut self.aimed {
            Aimed::Unwatched => None,
            Aimed::Fixed(aim) => {
                aim.confirm();
                warned(id, files.forget());
                let (at, camera) = (Timestamp::now(), id.clone());
                tracing::info!(%camera, "An operator confirmed the view: it is learned anew, and what was seen there before is void.");
                self.stands(preset, Standing::Learning, at, None);
                Some(Event::Reaimed { camera, at })
            }
            Aimed::Tour(tour) => {
                tour.learn(preset);
                tracing::info!(camera = %id, "An operator says that the camera stands at the preset: it is learned from the next looks.");
                None
            }
        }
    }

    /// True where the camera stands at `view` as far as the newest look tells.
    pub(super) fn stands_at(&self, view: &CameraId) -> bool {
        match &self.aimed {
            Aimed::Fixed(_) | Aimed::Unwatched => true,
            Aimed::Tour(tour) => tour.stands_at().is_some_and(|i| self.views[i].id == *view),
        }
    }

    /// The only view of a camera that has no presets.
    pub(super) fn only(&self) -> Option<usize> {
        match self.aimed {
            Aimed::Fixed(_) | Aimed::Unwatched => Some(0),
            Aimed::Tour(_) => None,
        }
    }

    /// Judges a look: whether it can be trusted, its light, and what it shows.
    pub(super) fn judge(&mut self, frame: &Frame) -> Result<Judged, VisionError> {
        let (view, small) = self.health.look(frame)?;
        let mut judged = Judged {
            view,
            light: if frame.is_mono() { Light::Night } else { Light::Day },
            preset: self.only(),
            reaimed: None,
        };
        let Some(small) = small else { return Ok(judged) };
        if view == View::Clear {
            self.recognise(&mut judged, &small, frame.captured_at);
        }
        self.show_wanted(judged.preset, &small);
        Ok(judged)
    }

    fn recognise(&mut self, judged: &mut Judged, small: &Luma, at: Timestamp) {
        let light = judged.light;
        let to_keep = match &mut self.aimed {
            Aimed::Unwatched => None,
            Aimed::Fixed(aim) => {
                let seen = aim.look(small, at, light);
                judged.view = seen.view;
                if let Some(change) = seen.change {
                    self.tell(change, small, at);
                }
                seen.to_keep.then_some(0)
            }
            Aimed::Tour(tour) => {
                let stood = tour.look(small, at, light);
                judged.preset = stood.preset;
                for change in stood.changes {
                    if let TourChange::Learned { preset, is_anew: true } = change {
                        let Kept { id, files, .. } = &self.views[preset];
                        warned(id, files.forget());
                        judged.reaimed = Some(id.clone());
                    }
                    self.tell_tour(change, at);
                }
                stood.to_keep
            }
        };
        if let Some(preset) = to_keep {
            self.keep(preset, light, small);
        }
    }

    fn show_wanted(&mut self, stood: Option<usize>, small: &Luma) {
        for (i, kept) in self.views.iter_mut().enumerate().filter(|(_, k)| k.is_picture_wanted) {
            // Of a preset that comes no more, or is not known yet, whatever is seen helps.
            let may_come = matches!(&self.aimed, Aimed::Tour(tour) if tour.is_awaited(i));
            if stood == Some(i) || !may_come {
                kept.is_picture_wanted = false;
                warned(&kept.id, kept.files.show(small));
            }
        }
    }

    fn tell(&self, change: Change, small: &Luma, at: Timestamp) {
        let camera = &self.camera;
        match change {
            Change::Learned => {
                tracing::info!(%camera, "The view is learned: it will be noticed if the camera is moved.");
                self.stands(0, Standing::Aimed, at, None);
            }
            Change::Back => {
                tracing::info!(%camera, "The camera looks again where it did; its zones hold.");
                self.stands(0, Standing::Aimed, at, None);
            }
            Change::Moved(shift) => {
                let what = shift.map_or_else(|| "nothing of the view is found".into(), |s| s.to_string());
                tracing::warn!(%camera, shift = what, "The camera was moved: nothing is confirmed or cleared there. Aim it back; or, if it shall stay so, see whether its zones and calibration still fit (gridwatch view show), mend them, and say so (gridwatch view confirm).");
                self.stands(0, Standing::Moved, at, shift);
                warned(camera, self.views[0].files.show(small));
            }
            Change::Unsteady => {
                tracing::warn!(%camera, "The camera's looks do not agree with one another, so that no view can be learned: nothing is confirmed there. If it turns by itself, list what it stops at as its presets, or write `fixed = false`.");
                self.stands(0, Standing::Moved, at, None);
                warned(camera, self.views[0].files.show(small));
            }
        }
    }

    fn tell_tour(&self, change: TourChange, at: Timestamp) {
        let id = |preset: usize| &self.views[preset].id;
        match change {
            TourChange::Learned { preset, .. } => {
                tracing::info!(camera = %id(preset), "The preset is known by sight: what the camera sees there is judged.");
                self.stands(preset, Standing::Aimed, at, None);
            }
            TourChange::Unsteady(preset) => {
                tracing::warn!(camera = %id(preset), "The preset was not learned: the looks did not agree with one another, or show too little. Hold the camera still at it, by day, and say so again (gridwatch view confirm).");
            }
            TourChange::Same { preset, other } => {
                tracing::warn!(camera = %id(preset), other = %id(other), "The preset was not learned: the camera shows what another preset shows. Aim it at the right one and say so again (gridwatch view confirm); where two are the same, remove one.");
            }
            TourChange::Missed(preset) => {
                tracing::warn!(camera = %id(preset), "The camera has not come to the preset for two tours: nothing is confirmed or cleared there. See that its programme still has it, that `tour` is long enough, and where it looks (gridwatch view show); if the preset was moved, mend its zones and calibration and say so (gridwatch view confirm).");
                self.stands(preset, Standing::Moved, at, None);
            }
            TourChange::Back(preset) => {
                tracing::info!(camera = %id(preset), "The camera comes to the preset again.");
                self.stands(preset, Standing::Aimed, at, None);
            }
        }
    }

    fn keep(&self, preset: usize, light: Light, small: &Luma) {
        let reference = match &self.aimed {
            Aimed::Fixed(aim) => aim.references().find(|(l, _)| *l == light),
            Aimed::Tour(tour) => tour.references(preset).find(|(l, _)| *l == light),
            Aimed::Unwatched => None,
        };
        if let Some((_, reference)) = reference {
            let Kept { id, files, .. } = &self.views[preset];
            // That of the other light is on the disk; holding it here as well would double what a camera costs.
            let mut kept = files.kept().ok().flatten().unwrap_or_default();
            kept.references.retain(|(l, ..)| *l != light);
            kept.references.push((light, reference.clone(), small.clone()));
            warned(id, files.keep(&kept));
        }
    }

    fn stands(&self, preset: usize, standing: Standing, since: Timestamp, shift: Option<Shift>) {
        let Kept { id, files, .. } = &self.views[preset];
        gauge!(metric::VIEW_MOVED, "camera" => id.to_string()).set(moved(standing));
        warned(id, files.say(&Status { standing, since, shift }));
    }
}

/// As the gauge says it.
fn moved(standing: Standing) -> f64 {
    if standing == Standing::Moved { 1.0 } else { 0.0 }
}

/// What is kept helps the next run; a disk that takes nothing must not end this one's looks.
fn warned(camera: &CameraId, done: Result<(), ViewsError>) {
    if let Err(error) = done {
        tracing::warn!(%camera, %error, "A file about the camera's view could not be dealt with; looking goes on.");
    }
}
