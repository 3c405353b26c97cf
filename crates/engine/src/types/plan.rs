//! The plan that the engine works to: cameras, zones and rules.

use std::{collections::BTreeMap, time::Duration};

use super::{
    AdvertText, BBox, CameraId, Label, Light, LonLat, Newness, NodeId, PhoneNumber, Point, RuleId, ScheduleId, ZoneId,
};
use crate::{
    calendar::{Calendar, Hours},
    geometry::Calibration,
    grid::Grid,
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// The checked and compiled configuration of the engine.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The id of this box.
    pub node: NodeId,
    /// Cameras by id; looks of other cameras are ignored.
    pub cameras: BTreeMap<CameraId, CameraPlan>,
    /// Rules in the order of the configuration.
    pub rules: Vec<Rule>,
    /// The city's unit grid.
    pub grid: Grid,
    /// Limits on filing and withdrawal.
    pub intake: Intake,
    /// When a verification reaches a verdict.
    pub verification: Verification,
    /// Minimum time between a case's two pictures. Dwells are longer; it matters when a first picture had to be
    /// replaced.
    pub picture_interval: Duration,
    /// The city's calendar.
    pub calendar: Calendar,
}

/// Protects the platform's clerks: how many cases may be filed per calendar day of the city, and how long an unanswered
/// case keeps its site. Candidates over the cap wait, highest priority first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intake {
    /// Cap per camera, over all its presets.
    pub per_camera_day: u32,
    /// Cap per box.
    pub per_box_day: u32,
    /// Observed time without a reply after which an open case is withdrawn once its place is empty; `None`: never.
    pub let_go_after: Option<Duration>,
}

/// What a verification needs to conclude that a case's object is gone or still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// Minimum clear looks at an unobstructed place.
    pub looks: u32,
    /// Minimum time from the first to the last of them.
    pub over: Duration,
    /// Time after which an unanswered question is reported as unverifiable.
    pub within: Duration,
    /// Labels that obstruct a place when they cover half of it, unless the rule is about them.
    pub hidden_by: Vec<Label>,
}

impl Default for Verification {
    /// Three looks over ten minutes, within an hour; people and vehicles obstruct.
    fn default() -> Self {
        let hidden_by = ["person", "bicycle", "motorcycle", "car", "bus", "truck"];
        Self {
            looks: 3,
            over: Duration::from_mins(10),
            within: Duration::from_mins(60),
            hidden_by: hidden_by.map(Label::from).to_vec(),
        }
    }
}

/// One camera as the engine sees it: a fixed camera, or one preset of a PTZ camera ([`CameraId::at_preset`]).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraPlan {
    /// Scheduled interval between looks.
    pub look_every: Duration,
    /// How long it may be away without that being an outage: the tour of a PTZ camera, as seen from one preset. Zero
    /// for fixed cameras.
    pub away: Duration,
    /// Drawn zones.
    pub zones: Vec<Zone>,
    /// How objects in its view are located.
    pub place: Place,
    /// The approved-sign baseline of its view; empty if there were none. `None` if it was never recorded: rules that
    /// exempt approved signs then file nothing here.
    pub approved: Option<Vec<ApprovedSign>>,
}

/// An approved sign. A camera cannot see legality, only that a sign is new compared with the approved ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedSign {
    /// Label given by the model that recorded it; another label is another object.
    pub label: Label,
    /// Its box: within the picture, with a non-zero area.
    pub bbox: BBox,
    /// The phone number on it, which is then approved anywhere in the view.
    pub number: Option<PhoneNumber>,
    /// The text on it, such as the shop's name, which is then approved in the view of every camera.
    pub text: Option<AdvertText>,
    /// Days on which it is approved.
    #[serde(default, skip_serializing_if = "Validity::is_always")]
    pub valid: Validity,
}

/// The days on which a permit holds, both included, in the city's local time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// The first day; `None`: always before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Date>,
    /// The last day; `None`: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
}

impl Validity {
    /// Every day.
    pub const ALWAYS: Self = Self {
        from: None,
        until: None,
    };

    /// True if it holds on every day.
    pub fn is_always(&self) -> bool {
        *self == Self::ALWAYS
    }

    /// True if it holds on this day.
    pub fn includes(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day <= until)
    }
}

/// A zone drawn in a camera's picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Unique within the camera.
    pub id: ZoneId,
    /// What it means.
    pub kind: ZoneKind,
    /// Three corners or more, in order, not closed.
    pub polygon: Vec<Point>,
    /// The rules it applies to; empty: all.
    pub rules: Vec<RuleId>,
}

/// What a zone means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ZoneKind {
    /// Objects anchored here count. A camera without a watch zone for a rule watches its whole picture.
    Watch,
    /// Objects anchored here do not count, e.g. private ground.
    Exclude,
    /// Objects here are permitted while the schedule is open (疏导点, 规范设摊); outside its hours they count as anywhere
    /// else.
    Permitted {
        /// The schedule.
        during: ScheduleId,
        /// Days on which it is permitted. A window belongs to the day on which it begins.
        #[serde(default, skip_serializing_if = "Validity::is_always")]
        valid: Validity,
    },
    /// Container ground: objects here do not count for rules with [`Rule::outside_containers`].
    Container,
    /// A shop's own ground: goods here have not spilled over ([`Rule::beyond`]).
    Shop,
}

/// The zone that an object must have left to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Beyond {
    /// [`ZoneKind::Shop`]. If none is drawn for the rule, nothing counts.
    Shop,
}

/// What a rule's objects stand on or hang from. Decides which point of a box is matched against zones, and how it is
/// located.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stands {
    /// The ground: anchored at the foot of the box, located through the calibration.
    #[default]
    Ground,
    /// A wall: anchored at the centre of the box, located at the view's fixed location, because the ground below it is
    /// unknown.
    Wall,
}

/// How objects in a camera's view are located.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// Each box from its foot, through a calibration.
    Calibrated {
        /// Picture-to-ground calibration.
        calibration: Calibration,
        /// Locations less certain than this use the fallback.
        max_uncertainty_m: f64,
        /// The view's fixed location.
        fallback: FixedPlace,
    },
    /// The whole view at one location.
    Fixed(FixedPlace),
}

/// Fixed location of a view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedPlace {
    /// What the view shows, not where the camera's pole stands.
    pub at: LonLat,
    /// Radius in metres that covers everything in the view.
    pub uncertainty_m: f64,
}

/// A category of the city's scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// 2-digit class and 2-digit subclass, as the scheme writes them.
    pub code: String,
    /// `name@version` of the scheme.
    pub scheme: String,
    /// Chinese name, for clerks.
    pub name_zh: String,
    /// English name.
    pub name_en: String,
}

/// Requires an attendant near the object, such as a vendor by the goods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attended {
    /// Labels that count as an attendant.
    pub labels: Vec<Label>,
    /// Maximum edge-to-edge distance, in diagonals of the object's box.
    pub within: f32,
    /// Minimum share of the looks that saw the object, 0..=1.
    pub share: f32,
    /// Minimum area of the object's box, as a share of the attendant's. What somebody who waits has beside them is smaller than goods.
    pub min_size: f32,
}

/// Labels that tell that an object is another rule's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptLabels {
    /// The labels.
    pub labels: Vec<Label>,
    /// Minimum score of such a detection, 0..=1.
    pub score: f32,
}

/// Score thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// A detection with at least this score starts a candidate.
    pub start: f32,
    /// Detections with at least this score keep it; `<= start`.
    pub keep: f32,
}

/// Requires or prefers objects that were not there when the camera learned its view.
///
/// It decides which sightings start a candidate. One that has started goes on when the object has become a part of the
/// background.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appeared {
    /// Start score of a new object, by day and by night; its keep score applies if it is higher.
    pub new_start: f32,
    /// Keep score of a new object by day, and what its second look must reach; at night as much higher as other keep scores are.
    /// `None`: as for all objects.
    pub new_keep: Option<f32>,
    /// Start score of an object that was there when the view was learned; `None`: it starts no candidate.
    pub old_start: Option<f32>,
}

impl Rule {
    /// The point of a box that is matched against zones.
    pub fn anchor(&self, bbox: &BBox) -> Point {
        match self.stands {
            Stands::Ground => bbox.foot(),
            Stands::Wall => bbox.centre(),
        }
    }

    /// The calibration that locates this rule's objects; `None` if the camera is not calibrated or the objects hang on
    /// walls.
    pub fn calibration<'a>(&self, camera: &'a CameraPlan) -> Option<&'a Calibration> {
        match (&camera.place, self.stands) {
            (Place::Calibrated { calibration, .. }, Stands::Ground) => Some(calibration),
            _ => None,
        }
    }

    /// Score thresholds by `light`.
    pub(crate) fn scores(&self, light: Light) -> Scores {
        match light {
            Light::Day => self.day,
            Light::Night => self.night,
        }
    }

    /// Score that continues a candidate.
    pub(crate) fn keep_score(&self, scores: Scores, newness: Option<Newness>) -> f32 {
        match self.new_keep(newness) {
            Some(new_keep) => (new_keep + (scores.keep - self.day.keep).max(0.0)).min(scores.keep),
            None => scores.keep,
        }
    }

    /// Score that a second look must reach; `None`: none is taken.
    pub(crate) fn second_look_score(&self, scores: Scores, newness: Option<Newness>) -> Option<f32> {
        let least = self.second_look?;
        // That of a text is not the score of a network.
        let needs_less = self.new_keep(newness).is_some() && !self.second_look_is_required;
        Some(if needs_less {
            self.keep_score(scores, newness).min(least)
        } else {
            least
        })
    }

    fn new_keep(&self, newness: Option<Newness>) -> Option<f32> {
        newness.filter(Newness::is_new)?;
        self.appeared?.new_keep
    }

    /// Score that starts a candidate; `None` if an object of this newness starts none.
    pub(crate) fn start_score(&self, scores: Scores, newness: Option<Newness>) -> Option<f32> {
        match (self.appeared, newness) {
            (None, _) => Some(scores.start),
            (Some(appeared), Some(newness)) if newness.is_new() => {
                Some(appeared.new_start.max(self.keep_score(scores, Some(newness))))
            }
            (Some(appeared), Some(_)) => appeared.old_start,
            // A view that is not learned yet cannot tell: what only prefers the new is judged as usual.
            (Some(appeared), None) => appeared.old_start.map(|_| scores.start),
        }
    }
}

/// A rule: which labels, where, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique id.
    pub id: RuleId,
    /// Category that its cases are filed as.
    pub category: Category,
    /// Labels that count, all as one kind of object.
    pub labels: Vec<Label>,
    /// Score thresholds by day.
    pub day: Scores,
    /// Score thresholds by night.
    pub night: Scores,
    /// Minimum wall-clock presence before a case.
    pub dwell: Duration,
    /// The same for an object that no network recognised, not below `dwell`: weaker evidence has to last longer. `None`: `dwell`.
    pub unidentified_dwell: Option<Duration>,
    /// Confirming needs sightings in at least this many ...
    pub seen_n: u32,
    /// ... of the newest clear looks (`1 <= seen_n <= seen_m <= 64`).
    pub seen_m: u32,
    /// Minimum share of clear looks since the first at which it counted as present, 0..=1. Present means missed in at
    /// most `seen_m - seen_n` of the newest `seen_m` looks, so that a detector's flicker is not an absence.
    pub present_share: f32,
    /// Maximum distance from where it was first seen, in diagonals of its first box.
    pub max_move: f32,
    /// The same in metres on the ground, if the camera is calibrated; `max_move` applies otherwise.
    pub max_move_m: Option<f64>,
    /// Minimum box area, as a share of the picture.
    pub min_area: f32,
    /// Minimum ground area in m², if the camera is calibrated ...
    pub min_area_m2: Option<f64>,
    /// ... or minimum number of boxes that it consists of: either suffices.
    pub min_count: Option<u32>,
    /// Boxes whose gap is at most this many diagonals of the larger form one object; 0: never.
    pub gather: f32,
    /// Whether newness in the view counts; `None`: it does not.
    pub appeared: Option<Appeared>,
    /// Requires an attendant: goods without a seller are not a vendor, nor are waiting people without goods.
    pub attended: Option<Attended>,
    /// A candidate unseen in clear looks for this long has left.
    pub forget_after: Duration,
    /// A longer gap between clear looks is blind time and adds nothing to the dwell.
    pub max_gap: Duration,
    /// Cases of the same category closer than this are the same problem, metres; grows to 2 × the uncertainty.
    pub merge_radius_m: f64,
    /// Objects in a [`ZoneKind::Container`] do not count.
    pub outside_containers: bool,
    /// Only objects outside this zone count.
    pub beyond: Option<Beyond>,
    /// What its objects stand on or hang from.
    pub stands: Stands,
    /// Minimum second-look score before a case is filed, 0..=1; `None`: no second look.
    pub second_look: Option<f32>,
    /// Nothing is filed without its second look, however long that fails: the text on the object decides.
    pub second_look_is_required: bool,
    /// What is mostly taken for one of these is not this rule's.
    pub except_labels: Option<ExceptLabels>,
    /// Signs in the camera's baseline ([`CameraPlan::approved`]) do not count.
    pub except_approved: bool,
    /// When the rule is active; other time is neither presence nor absence.
    pub hours: Hours,
}
