//! The learned appearance of a view in one light.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    AimLimits, LEARN_LOOKS, ViewMatch,
    edge_field::{Agreement, EdgeField},
};

/// Interval at which a look is blended into the reference.
const RENEW_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// Divisor of a blended look's weight: after a day, recent looks make up two thirds of the mean. Shadows and parked cars
/// average out, and the seasons are followed.
const RENEW_SHARE: i32 = 144;
/// Interval at which an updated reference should be saved.
const SAVE_EVERY: SignedDuration = SignedDuration::from_hours(6);
/// Units of the mean per unit of an edge field.
pub(super) const FINE: i32 = 256;

/// The mean edge field of a view, and the edge field it was learned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub(super) height: usize,
    /// In 1/[`FINE`] of an edge field's unit, so that a look of small weight is not rounded away.
    pub(super) mean: Vec<i16>,
    /// The mean when it was learned. Detects a slowly sagging mount, which the mean follows.
    pub(super) anchor: Vec<i8>,
    pub(super) about: ReferenceInfo,
}

/// Metadata of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReferenceInfo {
    looks: u32,
    learned_at: Timestamp,
    renewed_at: Timestamp,
    #[serde(rename = "kept_at")]
    saved_at: Timestamp,
}

impl Reference {
    /// A candidate from one look. It is learned once further looks agree with it.
    pub(super) fn new(field: &EdgeField, at: Timestamp) -> Self {
        let mut this = Self {
            height: field.height(),
            mean: field.numbers().iter().map(|n| n * FINE as i16).collect(),
            anchor: Vec::new(),
            about: ReferenceInfo {
                looks: 1,
                learned_at: at,
                renewed_at: at,
                saved_at: at,
            },
        };
        this.anchor = this.mean_field();
        this
    }

    /// True once enough looks have agreed with one another.
    pub fn is_learned(&self) -> bool {
        self.about.looks >= LEARN_LOOKS
    }

    /// Time at which a look was last blended in.
    pub fn renewed_at(&self) -> Timestamp {
        self.about.renewed_at
    }

    /// Adds an agreeing look to a candidate. Returns true if the reference is now learned.
    pub(super) fn learn(&mut self, field: &EdgeField, at: Timestamp) -> bool {
        self.about.looks += 1;
        self.blend(field, self.about.looks as i32);
        self.anchor = self.mean_field();
        self.about.learned_at = at;
        self.about.renewed_at = at;
        self.about.saved_at = at;
        self.is_learned()
    }

    /// Compares a look with the reference.
    pub fn compare(&self, field: &EdgeField, limits: &AimLimits) -> ViewMatch {
        self.compare_with(&self.mean_field(), field, limits)
    }

    /// Measures how well a look agrees with the reference; `None` if its aspect ratio differs.
    pub fn agreement(&self, field: &EdgeField, limits: &AimLimits) -> Option<Agreement> {
        self.agreement_with(&self.mean_field(), field, limits)
    }

    /// See [`EdgeField::similarity`].
    pub(super) fn similarity(&self, field: &EdgeField) -> f32 {
        self.field(&self.mean_field()).map_or(-1.0, |own| own.similarity(field))
    }

    fn agreement_with(&self, numbers: &[i8], field: &EdgeField, limits: &AimLimits) -> Option<Agreement> {
        self.field(numbers)?.agreement(field, limits.beyond)
    }

    fn field(&self, numbers: &[i8]) -> Option<EdgeField> {
        EdgeField::from_numbers(numbers.iter().map(|n| i16::from(*n)).collect(), self.height)
    }

    fn compare_with(&self, numbers: &[i8], field: &EdgeField, limits: &AimLimits) -> ViewMatch {
        self.agreement_with(numbers, field, limits)
            // With another aspect ratio it is another view, or the same one cropped differently; the zones fit neither.
            .map_or(ViewMatch::Different, |agreement| limits.classify(agreement))
    }

    /// Blends in a look in place, if an update is due. Returns true if the reference should be saved.
    pub(super) fn renew(&mut self, field: &EdgeField, at: Timestamp, limits: &AimLimits) -> bool {
        let is_due = |since: Timestamp, every| at.duration_since(since) >= every || at < since;
        if !is_due(self.about.renewed_at, RENEW_EVERY) {
            return false;
        }
        self.about.renewed_at = at;
        if let ViewMatch::Shifted(_) = self.compare_with(&self.anchor, field, limits) {
            // The mean has followed a sagging mount. Go back to the anchor, so that the next looks show the displacement.
            self.mean = self.anchor.iter().map(|n| i16::from(*n) * FINE as i16).collect();
            return false;
        }
        self.blend(field, RENEW_SHARE);
        let should_save = is_due(self.about.saved_at, SAVE_EVERY);
        if should_save {
            self.about.saved_at = at;
        }
        should_save
    }

    /// Blends a look into the mean with weight 1/`share`.
    fn blend(&mut self, field: &EdgeField, share: i32) {
        for (mean, new) in self.mean.iter_mut().zip(field.numbers()) {
            // Lies between the two values, so it fits an i16.
            *mean += ((i32::from(*new) * FINE - i32::from(*mean)) / share) as i16;
        }
    }

    /// The mean in units of an edge field.
    fn mean_field(&self) -> Vec<i8> {
        self.mean.iter().map(|n| (n / FINE as i16) as i8).collect()
    }
}
