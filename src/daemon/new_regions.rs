//! What is new in a view, for its detections: crops around new regions are searched, detections get their newness, and the core's wishes
//! about the background reach the view's change map.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::ModelDescriptor;
use gridwatch_config::Config;
use gridwatch_contract::ModelInfo;
use gridwatch_engine::{BBox, Detection, Label};
use gridwatch_vision::change::{ChangeLook, ChangeMap, ChangeState, CloseLooks, NewRegion, weights_sha256};

/// Absorptions that wait for the view's next look; later ones are dropped, and `absorb_after` will do.
const MAX_ABSORB: usize = 64;

/// The close looks of one view, and what its change map is to be told.
pub(super) struct NewRegions {
    /// A rule asks for newness or for unknown objects.
    is_wanted: bool,
    /// What finds unknown objects, for the records of cases about them.
    change_map: ModelDescriptor,
    close_looks: Mutex<CloseLooks>,
    requests: Mutex<ChangeRequests>,
}

/// What the core tells a view's change map before its next look.
#[derive(Default)]
struct ChangeRequests {
    /// The boxes of open cases, in place of the earlier ones.
    hold: Option<Vec<BBox>>,
    /// Boxes whose content belongs to the background.
    absorb: Vec<BBox>,
}

impl NewRegions {
    /// Those of a view, with what they were with the configuration before. What close looks found is kept if the same is looked for.
    pub(super) fn of(config: &Config, before: Option<(&Config, &Arc<Self>)>) -> Arc<Self> {
        let labels = |config: &Config| -> Vec<Label> {
            let rules = config.plan.rules.iter();
            rules.flat_map(|r| r.labels.iter().cloned()).collect()
        };
        let is_asking = |r: &gridwatch_engine::Rule| r.appeared.is_some() || r.labels.contains(&Label::object());
        let is_wanted = config.plan.rules.iter().any(is_asking);
        let same = before.filter(|(old, this)| this.is_wanted == is_wanted && labels(old) == labels(config));
        match same {
            Some((_, this)) => Arc::clone(this),
            None => Arc::new(Self {
                is_wanted,
                change_map: describe_change_map(),
                close_looks: Mutex::new(CloseLooks::new(labels(config))),
                requests: Mutex::default(),
            }),
        }
    }

    /// Sets the boxes of the view's open cases: what is new there stays new.
    pub(super) fn hold(&self, boxes: Vec<BBox>) {
        self.requests().hold = Some(boxes);
    }

    /// What is in `bbox` belongs to the background.
    pub(super) fn absorb(&self, bbox: BBox) {
        let mut requests = self.requests();
        if requests.absorb.len() < MAX_ABSORB {
            requests.absorb.push(bbox);
        }
    }

    /// Tells the view's change map what was requested since its last look.
    pub(super) fn apply_requests(&self, map: &mut ChangeMap) {
        let ChangeRequests { hold, absorb } = std::mem::take(&mut *self.requests());
        if let Some(boxes) = hold {
            map.hold(boxes);
        }
        for bbox in absorb {
            map.absorb(&bbox);
        }
    }

    /// Adds what `search` finds in crops around the new regions to `found`, and an [`object`](Label::object) for each region that nothing
    /// explains. False if the look could not be compared with the background, and so did not search for objects; a view without a change map
    /// never has any.
    pub(super) fn add(
        &self,
        look: Option<&ChangeLook>,
        found: &mut Vec<Detection>,
        search: impl FnMut(&BBox) -> Option<Vec<Detection>>,
    ) -> bool {
        let Some(look) = look.filter(|_| self.is_wanted) else {
            return true;
        };
        if look.state != ChangeState::Judged {
            return false;
        }
        let mut close_looks = self.close_looks.lock().unwrap_or_else(PoisonError::into_inner);
        close_looks.add(&look.regions, found, search);
        true
    }

    /// The change map as a model, if it searched this look for unknown objects.
    pub(super) fn searched_by(&self, look: Option<&ChangeLook>) -> Option<&ModelDescriptor> {
        let has_searched = self.is_wanted && look.is_some_and(|look| look.state == ChangeState::Judged);
        has_searched.then_some(&self.change_map)
    }

    /// What explains a region that no person, animal or vehicle explains; `found` are the detections of its look.
    pub(super) fn explanation(&self, region: &NewRegion, found: &[Detection]) -> Option<Label> {
        let close_looks = self.close_looks.lock().unwrap_or_else(PoisonError::into_inner);
        close_looks.explanation(region, found)
    }

    fn requests(&self) -> MutexGuard<'_, ChangeRequests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The change map, described like a model: a case about an unknown object must name what found it.
pub(super) fn describe_change_map() -> ModelDescriptor {
    ModelDescriptor {
        info: ModelInfo {
            id: "change_map".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            sha256: weights_sha256(),
            runtime: concat!("gridwatch ", env!("CARGO_PKG_VERSION")).into(),
        },
        labels: vec![Label::object()],
    }
}
