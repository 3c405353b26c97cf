//! What a view looked like, by one light.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    LEARN_LOOKS, Limits, Verdict,
    field::{Agreement, Field},
};

/// A look is taken into the reference this often, ...
const RENEW_EVERY: SignedDuration = SignedDuration::from_mins(10);
/// ... with this weight: what is new counts for two thirds after a day. Shadows and parked cars average out, and a season
/// comes in as it comes.
const RENEW_SHARE: i32 = 144;
/// The reference is worth a write this often.
const KEEP_EVERY: SignedDuration = SignedDuration::from_hours(6);
/// Units of the mean in one unit of a field.
pub(super) const FINE: i32 = 256;

/// The mean edges of a view, and those that it was learned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub(super) height: usize,
    /// In units of 1/256 of a field's, so that a small share of a look leaves a trace.
    pub(super) mean: Vec<i16>,
    /// As it was learned. A mount that sags takes the mean with it, and is noticed by this.
    pub(super) anchor: Vec<i8>,
    pub(super) about: About,
}

/// What is told of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    looks: u32,
    learned_at: Timestamp,
    renewed_at: Timestamp,
    kept_at: Timestamp,
}

impl Reference {
    /// From one look, which others must agree with.
    pub(super) fn begin(field: &Field, at: Timestamp) -> Self {
        let mut this = Self {
            height: field.height(),
            mean: field.numbers().iter().map(|n| n * FINE as i16).collect(),
            anchor: Vec::new(),
            about: About {
                looks: 1,
                learned_at: at,
                renewed_at: at,
                kept_at: at,
            },
        };
        this.anchor = this.bytes();
        this
    }

    /// True where several looks agreed.
    pub fn is_learned(&self) -> bool {
        self.about.looks >= LEARN_LOOKS
    }

    /// When it was learned.
    pub fn learned_at(&self) -> Timestamp {
        self.about.learned_at
    }

    /// When a look was last taken into it.
    pub fn renewed_at(&self) -> Timestamp {
        self.about.renewed_at
    }

    /// One look more that agrees; true where it is learned by that.
    pub(super) fn learn(&mut self, field: &Field, at: Timestamp) -> bool {
        self.about.looks += 1;
        self.blend(field, self.about.looks as i32);
        self.anchor = self.bytes();
        self.about.learned_at = at;
        self.about.renewed_at = at;
        self.about.kept_at = at;
        self.is_learned()
    }

    /// What a look says.
    pub fn verdict(&self, field: &Field, limits: &Limits) -> Verdict {
        self.judged(&self.bytes(), field, limits)
    }

    /// How a look agrees with it; `None` where it has another shape.
    pub fn agreement(&self, field: &Field, limits: &Limits) -> Option<Agreement> {
        self.agreed(&self.bytes(), field, limits)
    }

    /// See [`Field::likeness`].
    pub(super) fn likeness(&self, field: &Field) -> f32 {
        self.field(&self.bytes()).map_or(-1.0, |own| own.likeness(field))
    }

    fn agreed(&self, numbers: &[i8], field: &Field, limits: &Limits) -> Option<Agreement> {
        self.field(numbers)?.agreement(field, limits.beyond)
    }

    fn field(&self, numbers: &[i8]) -> Option<Field> {
        Field::from_numbers(numbers.iter().map(|n| i16::from(*n)).collect(), self.height)
    }

    fn judged(&self, numbers: &[i8], field: &Field, limits: &Limits) -> Verdict {
        self.agreed(numbers, field, limits)
            // A picture of another shape is another view, or the same one cut otherwise: the zones fit neither.
            .map_or(Verdict::Unlike, |agreement| limits.verdict(agreement))
    }

    /// Takes in a look that agrees, if it is time; true where the reference should then be kept.
    pub(super) fn renew(&mut self, field: &Field, at: Timestamp, limits: &Limits) -> bool {
        let is_due = |since: Timestamp, every| at.duration_since(since) >= every || at < since;
        if !is_due(self.about.renewed_at, RENEW_EVERY) {
            return false;
        }
        self.about.renewed_at = at;
        if let Verdict::Elsewhere(_) = self.judged(&self.anchor, field, limits) {
            // The mean crept after a mount that gives way: the next looks are held against what was learned.
            self.mean = self.anchor.iter().map(|n| i16::from(*n) * FINE as i16).collect();
            return false;
        }
        self.blend(field, RENEW_SHARE);
        let is_worth_a_write = is_due(self.about.kept_at, KEEP_EVERY);
        if is_worth_a_write {
            self.about.kept_at = at;
        }
        is_worth_a_write
    }

    /// The look counts for one in `share`.
    fn blend(&mut self, field: &Field, share: i32) {
        for (mean, new) in self.mean.iter_mut().zip(field.numbers()) {
            // Between the two, so within an i16.
            *mean += ((i32::from(*new) * FINE - i32::from(*mean)) / share) as i16;
        }
    }

    /// The mean in a field's units.
    fn bytes(&self) -> Vec<i8> {
        self.mean.iter().map(|n| (n / FINE as i16) as i8).collect()
    }
}
