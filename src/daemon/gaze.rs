//! Whether one camera sees, and sees what it was aimed at: health and aim together, what is kept of the view over restarts,
//! what the operator is told, and what `gridwatch view` asks for.

use jiff::Timestamp;
use metrics::gauge;

use super::core::Event;
use crate::{
    config::{Camera, Config},
    engine::{CameraId, Light, View},
    frame::Frame,
    telemetry::names,
    views::{Files, Request, Standing, Status, ViewsError},
    vision::{Aim, Change, Health, Limits, Luma, Shift, VisionError},
};

/// One camera's.
pub(super) struct Gaze {
    camera: CameraId,
    health: Health,
    /// `None` where the camera turns by itself.
    aim: Option<Aim>,
    files: Files,
    is_picture_wanted: bool,
}

impl Gaze {
    /// Takes up what is kept of the view.
    pub(super) fn new(config: &Config, camera: &Camera) -> Self {
        let files = Files::new(&config.state_dir, camera.id.clone());
        let mut aim = camera.fixed.then(|| Aim::new(Limits::from(&config.view)));
        if let Some(aim) = &mut aim {
            for (light, reference, _) in files.take_kept().unwrap_or_default().references {
                aim.remember(light, reference);
            }
        }
        let mut this = Self {
            camera: camera.id.clone(),
            health: Health::new(config.view.clone()),
            aim,
            files,
            is_picture_wanted: false,
        };
        this.take_up();
        this
    }

    /// Goes on where the last run ended: a camera that was moved then is so until its looks say otherwise.
    fn take_up(&mut self) {
        let Some(aim) = &mut self.aim else { return };
        let before = self.files.status().ok().flatten();
        let standing = match (aim.is_learning(), before.as_ref().map(|b| b.standing)) {
            (true, _) => Standing::Learning,
            (false, Some(Standing::Moved)) => {
                aim.stay_moved();
                tracing::warn!(camera = %self.camera, "The camera was moved before the start, and stays in quarantine until it is back or confirmed (gridwatch view).");
                Standing::Moved
            }
            (false, _) => Standing::Aimed,
        };
        gauge!(names::VIEW_MOVED, "camera" => self.camera.to_string()).set(moved(standing));
        // Said already, it need not be written: many cameras start at once.
        if before.is_none_or(|b| b.standing != standing) {
            self.stands(standing, Timestamp::now(), None);
        }
    }

    /// Does what an operator asked for since the last look; an event where the engine must know.
    pub(super) fn asked(&mut self) -> Option<Event> {
        match self.files.take_request() {
            Ok(None) => None,
            Ok(Some(Request::Picture)) => {
                self.is_picture_wanted = true;
                None
            }
            Ok(Some(Request::Confirm)) => {
                self.aim.as_mut()?.confirm();
                warned(&self.camera, self.files.forget());
                let at = Timestamp::now();
                self.stands(Standing::Learning, at, None);
                tracing::info!(camera = %self.camera, "An operator confirmed the view: it is learned anew, and what was seen there before is void.");
                Some(Event::Reaimed {
                    camera: self.camera.clone(),
                    at,
                })
            }
            Err(error) => {
                warned(&self.camera, Err(error));
                None
            }
        }
    }

    /// Judges a look: whether it can be trusted, and its light.
    pub(super) fn judge(&mut self, frame: &Frame) -> Result<(View, Light), VisionError> {
        let (view, small) = self.health.look(frame)?;
        let light = if frame.is_mono() { Light::Night } else { Light::Day };
        let Some(small) = small else { return Ok((view, light)) };
        if std::mem::take(&mut self.is_picture_wanted) {
            warned(&self.camera, self.files.show(&small));
        }
        match &mut self.aim {
            Some(aim) if view == View::Clear => {
                let seen = aim.look(&small, frame.captured_at, light);
                if let Some(change) = seen.change {
                    self.tell(change, &small, frame.captured_at);
                }
                if seen.to_keep {
                    self.keep(light, small);
                }
                Ok((seen.view, light))
            }
            _ => Ok((view, light)),
        }
    }

    fn tell(&self, change: Change, small: &Luma, at: Timestamp) {
        let camera = &self.camera;
        match change {
            Change::Learned => {
                tracing::info!(%camera, "The view is learned: it will be noticed if the camera is moved.");
                self.stands(Standing::Aimed, at, None);
            }
            Change::Back => {
                tracing::info!(%camera, "The camera looks again where it did; its zones hold.");
                self.stands(Standing::Aimed, at, None);
            }
            Change::Moved(shift) => {
                let what = shift.map_or_else(|| "nothing of the view is found".into(), |s| s.to_string());
                tracing::warn!(%camera, shift = what, "The camera was moved: nothing is confirmed or cleared there. Aim it back; or, if it shall stay so, see whether its zones and calibration still fit (gridwatch view show), mend them, and say so (gridwatch view confirm).");
                self.stands(Standing::Moved, at, shift);
                warned(camera, self.files.show(small));
            }
            Change::Unsteady => {
                tracing::warn!(%camera, "The camera's looks do not agree with one another, so that no view can be learned: nothing is confirmed there. If it turns by itself, write `fixed = false`.");
                self.stands(Standing::Moved, at, None);
                warned(camera, self.files.show(small));
            }
        }
    }

    fn keep(&mut self, light: Light, small: Luma) {
        let reference = self.aim.iter().flat_map(Aim::references).find(|(l, _)| *l == light);
        if let Some((_, reference)) = reference {
            // That of the other light is on the disk; holding it here as well would double what a camera costs.
            let mut kept = self.files.kept().ok().flatten().unwrap_or_default();
            kept.references.retain(|(l, ..)| *l != light);
            kept.references.push((light, reference.clone(), small));
            warned(&self.camera, self.files.keep(&kept));
        }
    }

    fn stands(&self, standing: Standing, since: Timestamp, shift: Option<Shift>) {
        gauge!(names::VIEW_MOVED, "camera" => self.camera.to_string()).set(moved(standing));
        warned(&self.camera, self.files.say(&Status { standing, since, shift }));
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
