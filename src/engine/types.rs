//! What goes into the engine and what comes out of it.
//!
//! Positions in a picture are fractions of its width and height (0..=1, origin top left), so that a camera may change
//! its resolution without its zones moving. Positions on the ground are longitude and latitude in degrees in the grid's
//! own coordinate reference system. Time is UTC.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    calendar::{Calendar, Hours},
    geometry::Calibration,
    grid::Grid,
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.into())
            }
        }
        impl From<String> for $name {
            fn from(s: String) -> Self {
                Self(s.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

id!(/// This box: the `{node}` of the MQTT topics.
    NodeId);
id!(/// A camera's local id, unique on the box.
    CameraId);
id!(/// A rule's id, unique in the configuration.
    RuleId);
id!(/// A zone's id, unique within its camera.
    ZoneId);
id!(/// A schedule's id, unique in the configuration.
    ScheduleId);
id!(/// A unit grid cell's code: a string, never a number (leading zeros count).
    CellCode);
id!(/// What a model says a thing is, after the manifest's label map.
    Label);
id!(/// A case's ULID in its 26-character text form.
    CaseId);

/// A point in a picture, as fractions of its width and height.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// 0 = left edge, 1 = right edge.
    pub x: f64,
    /// 0 = top edge, 1 = bottom edge.
    pub y: f64,
}

/// A box in a picture, as fractions of its width and height; `x1 <= x2`, `y1 <= y2`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left.
    pub x1: f32,
    /// Top.
    pub y1: f32,
    /// Right.
    pub x2: f32,
    /// Bottom.
    pub y2: f32,
}

/// A place on the ground, degrees in the grid's coordinate reference system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LonLat {
    /// Longitude, degrees east.
    pub lon: f64,
    /// Latitude, degrees north.
    pub lat: f64,
}

/// One thing a model found in one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// What it is.
    pub label: Label,
    /// 0..=1.
    pub score: f32,
    /// Where.
    pub bbox: BBox,
}

/// Whether the view could be trusted at a look. Anything but `Clear` is blind time: neither presence nor absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Live, aimed, lit, unobstructed.
    Clear,
    /// Too dark to see anything.
    Dark,
    /// Out of focus.
    Blurred,
    /// Covered, or facing a featureless surface.
    Blocked,
    /// The same picture, sample for sample, again and again.
    Frozen,
    /// The keyframe did not decode whole.
    Damaged,
}

/// One look at one camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Which camera.
    pub camera: CameraId,
    /// When the judged picture arrived at the box.
    pub at: Timestamp,
    /// Whether it can be trusted.
    pub view: View,
    /// What the models found in it, scores above their floors.
    pub detections: Vec<Detection>,
}

/// Everything that can happen to the engine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The plan the engine works to; the first input, and again at each reload.
    Configured(Arc<Plan>),
    /// A case that the store holds, given back at start-up: the open ones, those rejected in the last 30 days, and those
    /// closed in the last 7 (they may be reopened).
    Restored(OpenCase),
    /// A look.
    Observed(Observation),
    /// The platform's answer about a case.
    Reply(Reply),
    /// The evidence of a case could not be made: the case is withdrawn before anybody saw it.
    EvidenceFailed {
        /// Which case.
        case: CaseId,
    },
    /// Time passes.
    Tick(Timestamp),
}

/// What the engine wants done. Effects of one input are in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at `camera` at `by`, sooner than its schedule would: from then on a look that sees the thing decides a case.
    /// A picture that arrived before `by` decides nothing, so the newest keyframe at `by` is too old: wait for the next.
    Look {
        /// Which camera.
        camera: CameraId,
        /// The moment the dwell is reached; the first picture that arrives at or after it is wanted.
        by: Timestamp,
    },
    /// Keep the picture judged at `at`: it may become evidence.
    Pin {
        /// Which camera.
        camera: CameraId,
        /// Which look.
        at: Timestamp,
    },
    /// That picture is no longer needed: one `Unpin` for each `Pin`, but for the two looks (`first_seen_at` and
    /// `confirmed_at`) that an `Open` hands over; those are the evidence's to let go. Several candidates may pin one look,
    /// each for itself.
    Unpin {
        /// Which camera.
        camera: CameraId,
        /// Which look.
        at: Timestamp,
    },
    /// A problem is confirmed and new: make its evidence, commit it, file it.
    Open(Box<Case>),
    /// An open case changed state.
    Revise {
        /// Which case.
        case: CaseId,
        /// Its new state.
        state: CaseState,
        /// When.
        at: Timestamp,
        /// Why, as a sentence.
        reason: String,
    },
    /// The platform's answer fits no case that is known, or not where the case stands: nothing was changed.
    ReplyRefused {
        /// Which case it names.
        case: CaseId,
        /// Where the case stands; `None` where no such case is known.
        known: Option<CaseState>,
        /// What the platform said.
        reply: CaseState,
        /// When the box got the answer.
        at: Timestamp,
        /// Why it cannot be.
        reason: String,
    },
    /// A candidate came to an end, or was held back, without a case of its own.
    NotFiled {
        /// Which camera saw it.
        camera: CameraId,
        /// Which rule it was a candidate for.
        rule: RuleId,
        /// Why not.
        reason: NotFiled,
        /// When the engine knew.
        at: Timestamp,
    },
}

/// Why a candidate was not filed. Each is a value of the metric `gridwatch_candidates_not_filed_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFiled {
    /// Never scored as high as the rule's `start_score`.
    ScoreTooLow,
    /// Its ground point lay outside the rule's watched zones, or inside an excluded one, a container's or the shop's own.
    OutsideZones,
    /// It stands where and when that is permitted.
    Permitted,
    /// Smaller than the rule's least size.
    TooSmall,
    /// Went away before its dwell was up.
    LeftBeforeDwell,
    /// Stayed long enough by the clock, but was seen in too few of the looks.
    SeenTooRarely,
    /// Moved farther than the rule allows.
    Moved,
    /// The same problem at that site has an open case.
    OpenCaseAtSite,
    /// The platform rejected the same still thing at that site.
    RejectedBefore,
    /// Its place lies in no cell of the grid.
    OutsideGrid,
    /// Its pictures could not be made.
    EvidenceFailed,
    /// The camera saw nothing for so long that what it knew is void.
    BlindTooLong,
    /// The configuration no longer has this rule or camera.
    Reconfigured,
}

impl NotFiled {
    /// The metric label's value, also used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScoreTooLow => "score_too_low",
            Self::OutsideZones => "outside_zones",
            Self::Permitted => "permitted",
            Self::TooSmall => "too_small",
            Self::LeftBeforeDwell => "left_before_dwell",
            Self::SeenTooRarely => "seen_too_rarely",
            Self::Moved => "moved",
            Self::OpenCaseAtSite => "open_case_at_site",
            Self::RejectedBefore => "rejected_before",
            Self::OutsideGrid => "outside_grid",
            Self::EvidenceFailed => "evidence_failed",
            Self::BlindTooLong => "blind_too_long",
            Self::Reconfigured => "reconfigured",
        }
    }
}

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
    /// The city's days and hours.
    pub calendar: Calendar,
}

/// One camera, as the engine sees it.
#[derive(Debug, Clone)]
pub struct CameraPlan {
    /// How often it is looked at when nothing presses.
    pub look_every: Duration,
    /// Drawn areas.
    pub zones: Vec<Zone>,
    /// Where what it sees is.
    pub place: Place,
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

/// The general rule: these labels, in these zones, this long.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique.
    pub id: RuleId,
    /// What a case of this rule is filed as.
    pub category: Category,
    /// Labels that count, all as one kind of thing.
    pub labels: Vec<Label>,
    /// A candidate starts at a detection scored this or higher.
    pub start_score: f32,
    /// A candidate is kept by detections scored this or higher; `<= start_score`.
    pub keep_score: f32,
    /// Least wall-clock time of seen presence before a case.
    pub dwell: Duration,
    /// Present means seen in at least this many ...
    pub seen_n: u32,
    /// ... of this many newest clear looks (`1 <= seen_n <= seen_m <= 64`).
    pub seen_m: u32,
    /// Least share of clear looks since the first that saw it, 0..=1.
    pub seen_share: f32,
    /// Farthest the thing may stray from where it was first seen, in its own box widths (diagonals of the first box).
    pub max_move: f32,
    /// Least box area, as a share of the picture.
    pub min_area: f32,
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
    /// When the rule works; other time is neither presence nor absence.
    pub hours: Hours,
}

/// How a case's place was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceMethod {
    /// From the box's foot through the camera's calibration.
    Homography,
    /// The view's fixed place.
    CameraPoint,
}

/// Where a case is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Located {
    /// On the ground.
    pub at: LonLat,
    /// Radius in metres.
    pub uncertainty_m: f64,
    /// How.
    pub method: PlaceMethod,
    /// The cell that holds it.
    pub cell: CellCode,
}

/// A confirmed, new problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Derived from what the case is (node, camera, rule, site, first seen), so that replay gives the same.
    pub id: CaseId,
    /// Which rule.
    pub rule: RuleId,
    /// Filed as.
    pub category: Category,
    /// Seen by.
    pub camera: CameraId,
    /// The watch zone its foot stands in, where one is drawn.
    pub zone: Option<ZoneId>,
    /// The schedule that had a say: of the permitted zone it stands in outside the hours, else the rule's `active`, else its
    /// `pause`.
    pub schedule: Option<ScheduleId>,
    /// Where.
    pub located: Located,
    /// What keeps it from being filed twice: `cell/category/site`.
    pub dedup_key: String,
    /// First look that saw it (pinned).
    pub first_seen_at: Timestamp,
    /// Its box at that look.
    pub first_box: BBox,
    /// The look that confirmed it (pinned), at least the dwell later. Only where evidence failed before is it less: then both
    /// looks are newer than the failure, and `dwell` still tells the whole presence.
    pub confirmed_at: Timestamp,
    /// Its box at that look.
    pub confirmed_box: BBox,
    /// Seen presence, blind time left out.
    pub dwell: Duration,
    /// Clear looks since the first that saw it.
    pub looks_seen: u32,
    /// Clear looks since the first.
    pub looks: u32,
    /// Mean score of the looks that saw it, 0..=1.
    pub confidence: f32,
}

/// What the engine must know of a case that is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenCase {
    /// Which.
    pub id: CaseId,
    /// Category code.
    pub category: String,
    /// Seen by.
    pub camera: CameraId,
    /// The zone, where one is drawn.
    pub zone: Option<ZoneId>,
    /// Where.
    pub located: Located,
    /// Its box when it was confirmed.
    pub bbox: BBox,
    /// Its state.
    pub state: CaseState,
    /// Its newest revision's time.
    pub at: Timestamp,
}

/// Where a case stands. `filed` is the box's own word; the others are the platform's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// Committed on the box and on its way.
    Filed,
    /// The platform took it (立案).
    Accepted,
    /// The platform refused it.
    Rejected,
    /// The platform knows it under another number.
    DuplicateOf,
    /// A crew was sent (派遣).
    Dispatched,
    /// The crew says it is done (处置).
    Disposed,
    /// The platform asks whether it is gone (核查).
    VerifyRequested,
    /// Over (结案).
    Closed,
    /// It came back before it was long closed.
    Reopened,
    /// The box takes it back.
    Withdrawn,
}

impl CaseState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Filed,
        Self::Accepted,
        Self::Rejected,
        Self::DuplicateOf,
        Self::Dispatched,
        Self::Disposed,
        Self::VerifyRequested,
        Self::Closed,
        Self::Reopened,
        Self::Withdrawn,
    ];

    /// How long a case that ended in this state is reckoned with after it was last seen. Open cases are never forgotten.
    pub fn remembered_for(self) -> Duration {
        const DAY: Duration = Duration::from_hours(24);
        match self {
            // What a clerk refused is mostly furniture of the street that a detector mistakes; it is seen daily, which
            // renews this. A month bridges a camera's repair.
            Self::Rejected => 30 * DAY,
            // The problem is real and gets cleared under its other number, of which the box hears nothing more.
            Self::DuplicateOf => DAY,
            // The span within which the domain speaks of a problem that came back.
            _ => 7 * DAY,
        }
    }

    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filed => "filed",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::DuplicateOf => "duplicate_of",
            Self::Dispatched => "dispatched",
            Self::Disposed => "disposed",
            Self::VerifyRequested => "verify_requested",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// True while a new sighting at the site belongs to this case.
    pub fn is_open(self) -> bool {
        !matches!(
            self,
            Self::Rejected | Self::DuplicateOf | Self::Closed | Self::Withdrawn
        )
    }
}

/// The platform's answer about a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Which case.
    pub case: CaseId,
    /// What the platform says it is now.
    pub state: CaseState,
    /// When the box got the answer.
    pub at: Timestamp,
    /// The platform's words, where it gave any.
    #[serde(default)]
    pub reason: Option<String>,
}
