//! For a replay that leaves out looks without effects: what must be made up for them, and where the cameras' candidates were.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Engine;
use crate::{
    plus,
    site::SiteExtent,
    types::{CameraId, Observation},
};

/// What a look is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookUse {
    /// Everything.
    Judged,
    /// It stands for looks that showed nothing at the places of the camera's open cases.
    Empty,
    /// It stands for looks that showed nothing, at a time when the camera had no open case.
    Dated,
}

impl Engine {
    /// Inputs were left out, the newest of which had this time.
    pub fn advance_to(&mut self, at: Timestamp) {
        self.now = at;
    }

    /// Applies a look that detects nothing, of a camera that tracks nothing. It dates the camera's newest look
    /// only, without what it means for the camera's open cases.
    pub fn date_look(&mut self, look: &Observation) {
        // Without tracks there is nothing to report.
        self.take_look(look, LookUse::Dated, &mut Vec::new());
    }

    /// The same for a camera with open cases: their places were seen empty from the camera's newest look to this one. `look` is before
    /// [`Engine::quiet_until`], and no two of the looks that were left out are so far apart that the time between them was not observed.
    pub fn date_empty_look(&mut self, look: &Observation) {
        self.take_look(look, LookUse::Empty, &mut Vec::new());
    }

    /// Looks of a camera that tracks nothing, which detect nothing, have no effects before this time.
    pub fn quiet_until(&self, camera: &CameraId) -> Timestamp {
        let newest = self.cameras.get(camera).and_then(|state| state.newest);
        let (Some(plan), Some(newest)) = (&self.plan, newest) else {
            return Timestamp::MIN;
        };
        match self.register.quiet_for(camera, plan.intake.let_go_after) {
            Some(time) => plus(newest, time),
            None => Timestamp::MAX,
        }
    }

    /// Where the candidates of each camera were that were compared with cases since the start.
    pub fn extents(&self) -> &BTreeMap<CameraId, SiteExtent> {
        &self.extents
    }
}
