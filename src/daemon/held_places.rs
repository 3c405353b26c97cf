//! Keeps what an open case is about out of its view's background, and absorbs what a clerk rejected.

use std::collections::BTreeMap;

use super::looks::LookScheduler;
use gridwatch_engine::{BBox, CameraId, CaseId, Engine, OpenCase};

/// The boxes of open cases, as the change maps were last told.
#[derive(Default)]
pub(super) struct HeldPlaces {
    by_view: BTreeMap<CameraId, Vec<BBox>>,
}

impl HeldPlaces {
    /// Tells the views whose open cases changed.
    pub(super) fn update<'a>(&mut self, open_cases: impl Iterator<Item = &'a OpenCase>, looks: &LookScheduler) {
        let mut now: BTreeMap<CameraId, Vec<BBox>> = BTreeMap::new();
        for case in open_cases {
            now.entry(case.camera.clone()).or_default().push(case.bbox);
        }
        let before = std::mem::take(&mut self.by_view);
        for view in before.keys().filter(|view| !now.contains_key(*view)) {
            looks.hold(view, Vec::new());
        }
        for (view, boxes) in now.iter().filter(|(view, boxes)| before.get(*view) != Some(*boxes)) {
            looks.hold(view, boxes.clone());
        }
        self.by_view = now;
    }
}

/// A clerk rejected the case: what it showed belongs to the street, unless another rule is about to file it.
pub(super) fn absorb_rejected(engine: &Engine, case: &CaseId, looks: &LookScheduler) {
    let Some(case) = engine.remembered().find(|c| c.id == *case) else {
        return;
    };
    let mut ready = engine.candidates().filter(|c| c.missing_dwell.is_zero());
    if !ready.any(|c| *c.camera == case.camera && c.bbox.is_same_thing_as(&case.bbox)) {
        looks.absorb(&case.camera, case.bbox);
    }
}
