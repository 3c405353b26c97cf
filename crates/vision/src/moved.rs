//! Whether a camera still looks where its zones and its calibration were drawn.
//!
//! [`Field`]s of edges are compared with a [`Reference`] that is learned from the first looks and slowly renewed. A look
//! that shows the view elsewhere, or does not show it, is blind at once; that the camera *was moved* is said after several
//! in a row, and likewise that it is back. So a lorry before the lens costs the looks that it stands there, and no more.

mod field;
mod kept;
mod lights;
mod reference;
mod tour;

use jiff::Timestamp;

use self::lights::Lights;
pub use self::{
    field::{Agreement, Field, Shift},
    kept::Kept,
    reference::Reference,
    tour::{Stood, Tour, TourChange},
};
use super::Luma;
use crate::ViewLimits;
use gridwatch_engine::{Light, View};

/// A view with edges in fewer of its blocks, as a share, is not learned: a wall, the sky.
const LEAST_STRUCTURE: f32 = 0.15;
/// Below this share of blocks with edges in both pictures nothing stands in the view's place: it is covered, or in thick fog.
/// The clock that cameras burn into their picture fills an eighth.
const TELLING_STRUCTURE: f32 = 0.25;
/// A look that shows nothing of the view says less than one that shows it elsewhere: it takes this many times as many.
const UNLIKE_LOOKS: u32 = 3;
/// So many looks must agree with one another before they are a reference.
const LEARN_LOOKS: u32 = 3;

/// When a look does not show the view, and when the camera was moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// As a share of the picture's width: no point of the view may lie farther from its place.
    pub beyond: f32,
    /// A picture that agrees less than this, on [`Agreement`]'s scale, shows something else.
    pub unlike_below: f32,
    /// Looks in a row.
    pub after: u32,
}

impl From<&ViewLimits> for Limits {
    fn from(view: &ViewLimits) -> Self {
        Self {
            beyond: view.moved_beyond as f32,
            unlike_below: view.unlike_below as f32,
            after: view.moved_after,
        }
    }
}

/// What one look says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// The view is where it was.
    Here,
    /// It lies elsewhere in the picture.
    Elsewhere(Shift),
    /// There is much to be seen, and nothing of the view.
    Unlike,
    /// There is too little to be seen, and nothing of the view.
    Untold,
}

impl Limits {
    /// What `agreement` says.
    pub fn verdict(&self, agreement: Agreement) -> Verdict {
        let Agreement {
            here,
            elsewhere,
            shift,
            structure,
        } = agreement;
        if here.max(elsewhere) < self.unlike_below {
            if structure < TELLING_STRUCTURE {
                Verdict::Untold
            } else {
                Verdict::Unlike
            }
        } else if here < elsewhere {
            Verdict::Elsewhere(shift)
        } else {
            Verdict::Here
        }
    }
}

/// What became known at a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The reference for this light is there, from looks that agreed with one another.
    Learned,
    /// The camera was moved: where to, if the view can still be found.
    Moved(Option<Shift>),
    /// There is no reference yet, and looks do not agree with one another.
    Unsteady,
    /// The view is back where it was.
    Back,
}

/// A look, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// [`View::Clear`], [`View::Moved`], or [`View::Blocked`] where nothing of a learned view is to be seen.
    pub view: View,
    /// What this look says by itself.
    pub verdict: Verdict,
    /// What became known at this look.
    pub change: Option<Change>,
    /// The reference changed so much that it should be kept.
    pub to_keep: bool,
}

/// The aim of one camera, from look to look.
#[derive(Debug, Clone)]
pub struct Aim {
    limits: Limits,
    lights: Lights,
    is_moved: bool,
    /// Weight of the looks in a row against what is believed.
    against: u32,
}

impl Aim {
    /// An aim that is to be learned.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lights: Lights::default(),
            is_moved: false,
            against: 0,
        }
    }

    /// Takes up a reference of an earlier run.
    pub fn remember(&mut self, light: Light, reference: Reference) {
        self.lights.remember(light, reference);
    }

    /// The camera was moved when the last run ended.
    pub fn stay_moved(&mut self) {
        self.is_moved = true;
        self.against = 0;
    }

    /// The references that are learned.
    pub fn references(&self) -> impl Iterator<Item = (Light, &Reference)> {
        self.lights.learned()
    }

    /// True where nothing is learned yet.
    pub fn is_learning(&self) -> bool {
        self.lights.any().is_none()
    }

    /// True while the camera is taken to look elsewhere.
    pub fn is_moved(&self) -> bool {
        self.is_moved
    }

    /// Forgets the view: what is looked at from now on is right.
    pub fn confirm(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Judges the next look, of which health says that there is something to be seen.
    pub fn look(&mut self, luma: &Luma, at: Timestamp, light: Light) -> Seen {
        let field = Field::of(luma);
        let (verdict, learned) = self.verdict(&field, at, light);
        let was_moved = self.is_moved;
        let change = self.conclude(verdict).or(learned.then_some(Change::Learned));
        let is_steady = verdict == Verdict::Here && !was_moved;
        let to_keep = is_steady && self.lights.renew(&field, at, light, &self.limits) || learned;
        let is_known = || self.lights.by(light).is_some();
        let view = match verdict {
            _ if self.is_moved => View::Moved,
            Verdict::Elsewhere(_) | Verdict::Unlike => View::Moved,
            // A burnt-in clock has structure enough for health.
            Verdict::Untold if is_known() => View::Blocked,
            Verdict::Untold | Verdict::Here => View::Clear,
        };
        Seen {
            view,
            verdict,
            change,
            to_keep,
        }
    }

    /// What the look says, and whether the reference of this light was learned by it.
    fn verdict(&mut self, field: &Field, at: Timestamp, light: Light) -> (Verdict, bool) {
        let limits = self.limits;
        if let Some(reference) = self.lights.by(light) {
            return (reference.verdict(field, &limits), false);
        }
        // The other light's reference is as good where it tells anything. Where it tells nothing, the light may be why.
        let by_other_light = self.lights.any().map(|r| r.verdict(field, &limits));
        match by_other_light {
            Some(Verdict::Elsewhere(shift)) => return (Verdict::Elsewhere(shift), false),
            _ if self.is_moved && by_other_light.is_some() => {
                return (by_other_light.unwrap_or(Verdict::Untold), false);
            }
            _ => {}
        }
        if field.structure() < LEAST_STRUCTURE {
            return (Verdict::Untold, false);
        }
        let (among_themselves, learned) = self.lights.learn(field, at, light, &limits);
        let verdict = match (by_other_light, among_themselves) {
            (Some(Verdict::Here), _) | (_, None | Some(Verdict::Untold)) => Verdict::Here,
            (_, Some(verdict)) => verdict,
        };
        (verdict, learned)
    }

    /// Adds the look to those before, and says what they say together.
    fn conclude(&mut self, verdict: Verdict) -> Option<Change> {
        let (is_against, weight) = match verdict {
            Verdict::Untold => return None,
            Verdict::Here => (self.is_moved, UNLIKE_LOOKS),
            Verdict::Elsewhere(_) => (!self.is_moved, UNLIKE_LOOKS),
            Verdict::Unlike => (!self.is_moved, 1),
        };
        if !is_against {
            self.against = 0;
            return None;
        }
        self.against += weight;
        if self.against < self.limits.after * UNLIKE_LOOKS {
            return None;
        }
        self.against = 0;
        self.is_moved = !self.is_moved;
        Some(match verdict {
            _ if !self.is_moved => Change::Back,
            _ if self.is_learning() => Change::Unsteady,
            Verdict::Elsewhere(shift) => Change::Moved(Some(shift)),
            _ => Change::Moved(None),
        })
    }
}
