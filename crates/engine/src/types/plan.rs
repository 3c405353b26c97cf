//! What the engine works to: cameras, zones, rules.

use std::{collections::BTreeMap, time::Duration};

use super::{BBox, CameraId, Label, Light, LonLat, NodeId, PhoneNumber, Point, RuleId, ScheduleId, ZoneId};
use crate::{
    calendar::{Calendar, Hours},
    geometry::Calibration,
    grid::Grid,
};
use serde::{Deserialize, Serialize};

/// What the engine works to: the checked configuration, compiled.
#[derive(Debug, Clone)]
pub struct Plan {
    /// This box.
    pub node: NodeId,
    /// By id; a camera that is not here is unknown.
    pub cameras: BTreeMap<CameraId, CameraPlan>,
    /// In the order of the configuration.
    pub rules: Vec<Rule>,
    /// The city's cells.
    pub grid: Grid,
    /// How many cases a day the platform is given.
    pub intake: Intake,
    /// When something is verified to be gone, or still there.
    pub verification: Verification,
    /// A case's two pictures are at least so far apart. A dwell is longer; it tells where a first picture had to be taken again.
    pub picture_interval: Duration,
    /// The city's days and hours.
    pub calendar: Calendar,
}

/// The clerks' time: how many cases may be filed on one calendar day of the city, and how long one bears on new ones that nobody
/// answers. What is more waits, the surest and longest there first.
#[derive(Debug, Clone)]
pub struct Intake {
    /// By one camera, at all its presets.
    pub per_camera_day: u32,
    /// By the box.
    pub per_box_day: u32,
    /// An open case that the platform had no word for in so long (known time) is taken back once its place is empty; `None`: never.
    pub let_go_after: Option<Duration>,
}

/// What it takes to say that a case's thing is gone, or still there, where the platform asks or a crew says that it was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// So many clear looks at a place that nothing hides.
    pub looks: u32,
    /// From the first to the last of them.
    pub over: Duration,
    /// What could not be verified so long after the question is said to be unverifiable.
    pub within: Duration,
    /// Labels of what hides a place that it covers half of, where the rule is not about them.
    pub hidden_by: Vec<Label>,
}

impl Default for Verification {
    /// Three looks over ten minutes, as the domain has it, within an hour; hidden by people and by what they drive.
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

/// One camera, as the engine sees it; of a camera that turns one preset ([`CameraId::at_preset`]).
#[derive(Debug, Clone)]
pub struct CameraPlan {
    /// How often it is looked at when nothing presses.
    pub look_every: Duration,
    /// How long it may look elsewhere and that is no outage: the tour of a camera that turns, seen from one of its presets.
    /// Zero: never.
    pub away: Duration,
    /// Drawn areas.
    pub zones: Vec<Zone>,
    /// Where what it sees is.
    pub place: Place,
    /// The signs that may hang in its view, as they were when that was recorded; empty: there were none. `None`: it was never
    /// recorded, and a rule that excepts them files nothing here.
    pub approved: Option<Vec<ApprovedSign>>,
}

/// A sign that may hang where it hangs: legality itself cannot be seen, only that something is new against what was approved.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovedSign {
    /// What the model that recorded it called it; another label is another thing.
    pub label: Label,
    /// Where, with an area, within the picture.
    pub bbox: BBox,
    /// The telephone number that is written there: wherever else it is seen in the view it is lawful too.
    pub number: Option<PhoneNumber>,
}

/// A drawn area of a camera's picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Unique within the camera.
    pub id: ZoneId,
    /// What the area means.
    pub kind: ZoneKind,
    /// Three corners or more, in order, not closed.
    pub polygon: Vec<Point>,
    /// The rules it is for; empty: all.
    pub rules: Vec<RuleId>,
}

/// What a zone means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneKind {
    /// Problems whose foot stands here count. A camera without a watch zone for a rule watches its whole picture.
    Watch,
    /// Problems whose foot stands here do not count: private ground.
    Exclude,
    /// What stands here while the schedule is open is lawful (疏导点, 规范设摊); outside its hours it counts as anywhere else.
    Permitted {
        /// Which schedule.
        during: ScheduleId,
    },
    /// Containers' ground: what stands here does not count for rules that say so ([`Rule::outside_containers`]).
    Container,
    /// A shop's lawful ground: what stands here has not spilled over ([`Rule::beyond`]).
    Shop,
}

/// Ground that a thing must have left to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// [`ZoneKind::Shop`]. Where none is drawn for the rule, nothing can have left it and nothing counts.
    Shop,
}

/// What the things of a rule are held by: it decides which point of a box is asked for its zone, and whether it has a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stands {
    /// The ground: the foot of the box, and where the calibration puts it.
    #[default]
    Ground,
    /// A wall: the middle of the box, and the view's own place. How high it hangs is not known, so the ground below it is not.
    Wall,
}

/// Where the things that a camera sees are.
#[derive(Debug, Clone)]
pub enum Place {
    /// Computed for each box from its foot.
    Calibrated {
        /// Picture to ground.
        calibration: Calibration,
        /// A place less certain than this falls back to the view's own.
        max_uncertainty_m: f64,
        /// The fall-back.
        fallback: FixedPlace,
    },
    /// The same for the whole view.
    Fixed(FixedPlace),
}

/// The place of a view that has no calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedPlace {
    /// What the view looks at, not where the pole stands.
    pub at: LonLat,
    /// Radius in metres that holds everything the view can show.
    pub uncertainty_m: f64,
}

/// A category of the city's scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// 2-digit class + 2-digit subclass, as the scheme writes it.
    pub code: String,
    /// `name@version` of the scheme.
    pub scheme: String,
    /// What a clerk reads, in Chinese.
    pub name_zh: String,
    /// The same in English.
    pub name_en: String,
}

/// Somebody who must be near a thing at a share of the looks that see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    /// What counts as somebody.
    pub labels: Vec<Label>,
    /// How near, in diagonals of the thing's box, from edge to edge.
    pub within: f32,
    /// Least share of the looks that saw the thing, 0..=1.
    pub share: f32,
}

/// What a detection must score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// A candidate starts at a detection scored this or higher.
    pub start: f32,
    /// A candidate is kept by detections scored this or higher; `<= start`.
    pub keep: f32,
}

impl Rule {
    /// The point of a box that must lie in a zone.
    pub fn held_at(&self, bbox: &BBox) -> Point {
        match self.stands {
            Stands::Ground => bbox.foot(),
            Stands::Wall => bbox.centre(),
        }
    }

    /// What puts this rule's things on the ground: nothing where the camera is not calibrated, or where they hang.
    pub fn calibration<'a>(&self, camera: &'a CameraPlan) -> Option<&'a Calibration> {
        match (&camera.place, self.stands) {
            (Place::Calibrated { calibration, .. }, Stands::Ground) => Some(calibration),
            _ => None,
        }
    }

    /// What counts by `light`.
    pub fn scores(&self, light: Light) -> Scores {
        match light {
            Light::Day => self.day,
            Light::Night => self.night,
        }
    }
}

/// The general rule: these labels, in these zones, this long.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique.
    pub id: RuleId,
    /// What a case of this rule is filed as.
    pub category: Category,
    /// Labels that count, all as one kind of thing.
    pub labels: Vec<Label>,
    /// By day.
    pub day: Scores,
    /// By night.
    pub night: Scores,
    /// Least wall-clock time of seen presence before a case.
    pub dwell: Duration,
    /// Present means seen in at least this many ...
    pub seen_n: u32,
    /// ... of this many newest clear looks (`1 <= seen_n <= seen_m <= 64`).
    pub seen_m: u32,
    /// Least share of clear looks since the first at which it counted as present, 0..=1: missed in at most `seen_m - seen_n` of
    /// the newest `seen_m`, so that a detector's flicker is no absence.
    pub present_share: f32,
    /// Farthest the thing may stray from where it was first seen, in its own box widths (diagonals of the first box).
    pub max_move: f32,
    /// The same in metres on the ground, where the camera is calibrated; `max_move` counts elsewhere.
    pub max_move_m: Option<f64>,
    /// Least box area, as a share of the picture.
    pub min_area: f32,
    /// Least ground that it covers in m², where the camera is calibrated ...
    pub min_area_m2: Option<f64>,
    /// ... or least number of boxes that it is made of: either is enough.
    pub min_count: Option<u32>,
    /// Boxes whose gap is at most so many diagonals of the larger are one thing; 0 = each is its own.
    pub gather: f32,
    /// Who must stand by it. Goods that nobody sells are no vendor, and people who wait have no goods.
    pub attended: Option<Attended>,
    /// A candidate unseen through clear looks this long is over.
    pub forget_after: Duration,
    /// A gap between clear looks longer than this is blind time: it adds nothing to the dwell.
    pub max_gap: Duration,
    /// Cases of the same category nearer than this are the same problem (metres; grows to 2 × uncertainty).
    pub merge_radius_m: f64,
    /// What stands in a [`ZoneKind::Container`] does not count.
    pub outside_containers: bool,
    /// Only what stands outside of this counts.
    pub beyond: Option<Beyond>,
    /// What its things are held by.
    pub stands: Stands,
    /// What a closer look at the thing alone must score before a case of it is filed, 0..=1; `None`: none is asked for.
    pub second_look: Option<f32>,
    /// What the camera's baseline approves ([`CameraPlan::approved`]) does not count.
    pub except_approved: bool,
    /// When the rule works; other time is neither presence nor absence.
    pub hours: Hours,
}
