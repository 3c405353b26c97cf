//! The references of one view, by light.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{AimLimits, EdgeField, Reference, ViewMatch};
use gridwatch_engine::Light;

/// One reference per light: in infrared, foliage is bright, lamps cast other shadows and the distance is invisible.
#[derive(Debug, Clone, Default)]
pub(super) struct ReferenceSet(BTreeMap<Light, Reference>);

impl ReferenceSet {
    /// Restores a reference of an earlier run.
    pub(super) fn restore(&mut self, light: Light, reference: Reference) {
        self.0.insert(light, reference);
    }

    /// The learned references.
    pub(super) fn learned(&self) -> impl Iterator<Item = (Light, &Reference)> {
        let learned = self.0.iter().filter(|(_, r)| r.is_learned());
        learned.map(|(light, reference)| (*light, reference))
    }

    /// The learned reference of this light.
    pub(super) fn get(&self, light: Light) -> Option<&Reference> {
        self.0.get(&light).filter(|r| r.is_learned())
    }

    /// The learned reference of any light.
    pub(super) fn any(&self) -> Option<&Reference> {
        self.learned().next().map(|(_, reference)| reference)
    }

    /// Adds a look to the candidate reference of this light, or starts a new candidate if they disagree. Returns how the look
    /// matches the candidate, and whether the candidate is now learned.
    pub(super) fn learn(
        &mut self,
        field: &EdgeField,
        at: Timestamp,
        light: Light,
        limits: &AimLimits,
    ) -> (Option<ViewMatch>, bool) {
        let candidate = self.0.get_mut(&light);
        let matched = candidate.as_ref().map(|c| c.compare(field, limits));
        let learned = match (candidate, matched) {
            (Some(candidate), Some(ViewMatch::InPlace)) => candidate.learn(field, at),
            _ => {
                self.0.insert(light, Reference::new(field, at));
                false
            }
        };
        (matched, learned)
    }

    /// Updates the reference of this light with a look in place, if an update is due. Returns true if it should be saved.
    pub(super) fn renew(&mut self, field: &EdgeField, at: Timestamp, light: Light, limits: &AimLimits) -> bool {
        let reference = self.0.get_mut(&light).filter(|r| r.is_learned());
        reference.is_some_and(|r| r.renew(field, at, limits))
    }
}
