//! What one view looks like, by each light.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Field, Limits, Reference, Verdict};
use gridwatch_engine::Light;

/// The references of one view: by infrared, foliage is bright, lamps make other shadows and the distance is gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Lights(BTreeMap<Light, Reference>);

impl Lights {
    /// Takes up a reference of an earlier run.
    pub(super) fn remember(&mut self, light: Light, reference: Reference) {
        self.0.insert(light, reference);
    }

    /// The references that are learned.
    pub(super) fn learned(&self) -> impl Iterator<Item = (Light, &Reference)> {
        let learned = self.0.iter().filter(|(_, r)| r.is_learned());
        learned.map(|(light, reference)| (*light, reference))
    }

    /// That of this light, once it is learned.
    pub(super) fn by(&self, light: Light) -> Option<&Reference> {
        self.0.get(&light).filter(|r| r.is_learned())
    }

    /// That of whichever light is learned.
    pub(super) fn any(&self) -> Option<&Reference> {
        self.learned().next().map(|(_, reference)| reference)
    }

    /// Adds a look to those that a reference is made of, or begins again with it. Gives what it says of those before it, and
    /// whether the reference was learned by it.
    pub(super) fn learn(
        &mut self,
        field: &Field,
        at: Timestamp,
        light: Light,
        limits: &Limits,
    ) -> (Option<Verdict>, bool) {
        let candidate = self.0.get_mut(&light);
        let among_themselves = candidate.as_ref().map(|c| c.verdict(field, limits));
        let learned = match (candidate, among_themselves) {
            (Some(candidate), Some(Verdict::Here)) => candidate.learn(field, at),
            _ => {
                self.0.insert(light, Reference::begin(field, at));
                false
            }
        };
        (among_themselves, learned)
    }

    /// Takes in a look that agrees, if it is time; true where the reference should then be kept.
    pub(super) fn renew(&mut self, field: &Field, at: Timestamp, light: Light, limits: &Limits) -> bool {
        let reference = self.0.get_mut(&light).filter(|r| r.is_learned());
        reference.is_some_and(|r| r.renew(field, at, limits))
    }
}
