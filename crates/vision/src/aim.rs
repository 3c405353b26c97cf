//! Detects that a camera no longer points where its zones and calibration were drawn.
//!
//! Each look's [`EdgeField`] is compared with a [`Reference`] that is learned from the first looks and slowly updated. A look
//! with a displaced view, or without it, is blind at once. The camera counts as *moved* only after several such looks in
//! a row, and as back likewise. So a lorry in front of the camera costs the looks while it stands there, and no more.

mod edge_field;
mod reference;
mod reference_set;
mod saved;
mod tour;

use jiff::Timestamp;

use self::reference_set::ReferenceSet;
pub use self::{
    edge_field::{Agreement, EdgeField, Shift},
    reference::Reference,
    saved::SavedView,
    tour::{Tour, TourChange, TourLook},
};
use super::Luma;
use crate::ViewLimits;
use gridwatch_engine::{Light, View};

/// Least share of blocks with edges for a view to be learned. A wall or the sky has fewer.
const MIN_STRUCTURE_TO_LEARN: f32 = 0.15;
/// Below this share of blocks with edges in both pictures, a look without the view shows no other view either: the camera is
/// covered or in thick fog. The clock that cameras burn into the picture fills an eighth of the blocks.
const MIN_STRUCTURE_TO_DIFFER: f32 = 0.25;
/// A look without the view is weaker evidence of a move than one with a displaced view: this many weigh as much as one.
const DIFFERENT_PER_SHIFTED: u32 = 3;
/// Number of looks that must agree with one another to become a reference.
const LEARN_LOOKS: u32 = 3;

/// Thresholds for [`ViewMatch`] and for a moved camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AimLimits {
    /// Largest tolerated displacement of any point of the view, as a share of the picture's width.
    pub beyond: f32,
    /// Below this agreement, on the scale of [`Agreement`], the picture does not show the view.
    pub unlike_below: f32,
    /// Consecutive looks with a displaced view after which the camera counts as moved.
    pub after: u32,
}

impl From<&ViewLimits> for AimLimits {
    fn from(view: &ViewLimits) -> Self {
        Self {
            beyond: view.moved_beyond as f32,
            unlike_below: view.unlike_below as f32,
            after: view.moved_after,
        }
    }
}

/// How a look matches a learned view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ViewMatch {
    /// It shows the view in its place.
    InPlace,
    /// It shows the view displaced.
    Shifted(Shift),
    /// It has enough structure, and does not show the view.
    Different,
    /// It has too little structure, and does not show the view.
    Unclear,
}

impl AimLimits {
    /// Classifies an agreement.
    pub fn classify(&self, agreement: Agreement) -> ViewMatch {
        let Agreement {
            here,
            elsewhere,
            shift,
            structure,
        } = agreement;
        if here.max(elsewhere) < self.unlike_below {
            if structure < MIN_STRUCTURE_TO_DIFFER {
                ViewMatch::Unclear
            } else {
                ViewMatch::Different
            }
        } else if here < elsewhere {
            ViewMatch::Shifted(shift)
        } else {
            ViewMatch::InPlace
        }
    }
}

/// A change in the aim of a fixed camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AimChange {
    /// The reference for this light was learned from looks that agree with one another.
    Learned,
    /// The camera was moved. Holds the displacement of the view if it was found.
    Moved(Option<Shift>),
    /// No reference can be learned, because the looks do not agree with one another.
    Unsteady,
    /// The view is back in its place.
    Back,
}

/// The assessment of one look of a fixed camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AimLook {
    /// [`View::Clear`], [`View::Moved`], or [`View::Blocked`] if nothing of a learned view is visible.
    pub view: View,
    /// How this look alone matches the view.
    pub matched: ViewMatch,
    /// The change detected with this look.
    pub change: Option<AimChange>,
    /// The reference has changed enough to be saved.
    pub should_save: bool,
}

/// Tracks the aim of one fixed camera from look to look.
#[derive(Debug, Clone)]
pub struct Aim {
    limits: AimLimits,
    references: ReferenceSet,
    is_moved: bool,
    /// Weight of the consecutive looks that contradict `is_moved`.
    contradicting: u32,
}

impl Aim {
    /// An aim without a reference; it is learned from the first looks.
    pub fn new(limits: AimLimits) -> Self {
        Self {
            limits,
            references: ReferenceSet::default(),
            is_moved: false,
            contradicting: 0,
        }
    }

    /// Restores a reference of an earlier run.
    pub fn restore(&mut self, light: Light, reference: Reference) {
        self.references.restore(light, reference);
    }

    /// Restores that the camera was moved at the end of the last run.
    pub fn restore_moved(&mut self) {
        self.is_moved = true;
        self.contradicting = 0;
    }

    /// The learned references.
    pub fn references(&self) -> impl Iterator<Item = (Light, &Reference)> {
        self.references.learned()
    }

    /// True until a reference has been learned.
    pub fn is_learning(&self) -> bool {
        self.references.any().is_none()
    }

    /// True while the camera counts as moved.
    pub fn is_moved(&self) -> bool {
        self.is_moved
    }

    /// Forgets the view; the next looks are learned as the right one.
    pub fn confirm(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Assesses the next look. Its health must be [`View::Clear`].
    pub fn look(&mut self, luma: &Luma, at: Timestamp, light: Light) -> AimLook {
        let field = EdgeField::of(luma);
        let (matched, learned) = self.compare(&field, at, light);
        let was_moved = self.is_moved;
        let change = self.update(matched).or(learned.then_some(AimChange::Learned));
        let is_steady = matched == ViewMatch::InPlace && !was_moved;
        let should_save = is_steady && self.references.renew(&field, at, light, &self.limits) || learned;
        let is_learned = || self.references.get(light).is_some();
        let view = match matched {
            _ if self.is_moved => View::Moved,
            ViewMatch::Shifted(_) | ViewMatch::Different => View::Moved,
            // A burnt-in clock alone has enough structure to pass the health check.
            ViewMatch::Unclear if is_learned() => View::Blocked,
            ViewMatch::Unclear | ViewMatch::InPlace => View::Clear,
        };
        AimLook {
            view,
            matched,
            change,
            should_save,
        }
    }

    /// Compares a look with the references, or learns from it. Returns whether it completed the reference of this light.
    fn compare(&mut self, field: &EdgeField, at: Timestamp, light: Light) -> (ViewMatch, bool) {
        let limits = self.limits;
        if let Some(reference) = self.references.get(light) {
            return (reference.compare(field, &limits), false);
        }
        // A positive match with the other light's reference counts. A mismatch may be due to the light.
        let other_light = self.references.any().map(|r| r.compare(field, &limits));
        match other_light {
            Some(ViewMatch::Shifted(shift)) => return (ViewMatch::Shifted(shift), false),
            _ if self.is_moved && other_light.is_some() => {
                return (other_light.unwrap_or(ViewMatch::Unclear), false);
            }
            _ => {}
        }
        if field.structure() < MIN_STRUCTURE_TO_LEARN {
            return (ViewMatch::Unclear, false);
        }
        let (candidate, learned) = self.references.learn(field, at, light, &limits);
        let matched = match (other_light, candidate) {
            (Some(ViewMatch::InPlace), _) | (_, None | Some(ViewMatch::Unclear)) => ViewMatch::InPlace,
            (_, Some(matched)) => matched,
        };
        (matched, learned)
    }

    /// Updates `is_moved` with the match of the next look.
    fn update(&mut self, matched: ViewMatch) -> Option<AimChange> {
        let (contradicts, weight) = match matched {
            ViewMatch::Unclear => return None,
            ViewMatch::InPlace => (self.is_moved, DIFFERENT_PER_SHIFTED),
            ViewMatch::Shifted(_) => (!self.is_moved, DIFFERENT_PER_SHIFTED),
            ViewMatch::Different => (!self.is_moved, 1),
        };
        if !contradicts {
            self.contradicting = 0;
            return None;
        }
        self.contradicting += weight;
        if self.contradicting < self.limits.after * DIFFERENT_PER_SHIFTED {
            return None;
        }
        self.contradicting = 0;
        self.is_moved = !self.is_moved;
        Some(match matched {
            _ if !self.is_moved => AimChange::Back,
            _ if self.is_learning() => AimChange::Unsteady,
            ViewMatch::Shifted(shift) => AimChange::Moved(Some(shift)),
            _ => AimChange::Moved(None),
        })
    }
}
