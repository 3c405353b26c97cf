//! What goes into the engine and what comes out of it.
//!
//! Positions in a picture are fractions of its width and height (0..=1, origin top left), so that a camera may change
//! its resolution without its zones moving. Positions on the ground are longitude and latitude in degrees in the grid's
//! own coordinate reference system. Time is UTC.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::judge::{Resumed, Snapshot};

mod appearance;
mod case;
mod claim;
mod plan;
mod reason;

pub use appearance::Appearance;
pub use case::*;
pub use claim::*;
pub use plan::*;
pub use reason::*;

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
id!(/// A telephone number: its digits as one dials them within the country, and nothing else.
    PhoneNumber);
id!(/// A case's ULID in its 26-character text form.
    CaseId);

impl Label {
    /// What a reader calls a telephone number on a wall (非法小广告).
    pub fn small_ad() -> Self {
        Self::from("small_ad")
    }
}

impl CameraId {
    /// A camera that turns, at one of its presets: `CAMERA.PRESET`. To the engine each is a camera of its own, with its own
    /// place and zones. A configured id holds no point.
    pub fn at_preset(camera: &str, preset: &str) -> Self {
        Self::from(format!("{camera}{PRESET_MARK}{preset}"))
    }

    /// The camera itself, whatever preset it stands at.
    pub fn device(&self) -> &str {
        let id = self.as_str();
        id.split_once(PRESET_MARK).map_or(id, |(device, _)| device)
    }
}

const PRESET_MARK: char = '.';

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
    /// What it looks like, where its picture was at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appearance: Option<Appearance>,
    /// The telephone number that is written there, where one was read: then that is what the thing is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<PhoneNumber>,
    /// What a closer look at it alone scored, where one was taken; 0 where that found nothing there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closer: Option<f32>,
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
    /// The camera looks elsewhere than where its zones and its calibration were drawn.
    Moved,
}

/// The light of a look: a rule may ask for other scores by night.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    /// There is colour, and light to see it by.
    #[default]
    Day,
    /// The camera has switched to infrared, which has no colour.
    Night,
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
    /// By which light.
    #[serde(default)]
    pub light: Light,
    /// What the models found in it, scores above their floors.
    pub detections: Vec<Detection>,
    /// What was not looked for: that none of it was found says nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_searched: Vec<Label>,
}

/// Everything that can happen to the engine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The plan the engine works to; the first input, and again at each reload.
    Configured(Arc<Plan>),
    /// A case that the store holds, given back at start-up: the open ones, those rejected in the last 30 days, and those
    /// closed or taken back in the last 7 (their problem may come back).
    Restored(OpenCase),
    /// What the engine that ran before knew beside its cases, after these at start-up.
    Resumed(Box<Resumed>),
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
    /// A camera was aimed anew, and an operator confirmed what it looks at now: what was seen there before is void.
    Reaimed {
        /// Which camera.
        camera: CameraId,
        /// When the daemon was told.
        at: Timestamp,
    },
    /// News of another box's cases.
    Elsewhere(Elsewhere),
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
    /// At the next look, look closer at this place, too: at the part of the picture around it alone. What is found there for
    /// the rule's labels is the [`closer`](Detection::closer) score of that look's detections there.
    SecondLook {
        /// Which camera.
        camera: CameraId,
        /// For which rule.
        rule: RuleId,
        /// Where the thing was seen.
        bbox: BBox,
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
    /// What became of a case's thing: to be told to the platform, with the pictures before and after.
    Verified(Box<Verified>),
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
    /// What happened to a thing that is followed, or to a case; with `NotFiled`, every step of it.
    Turned {
        /// Which camera sees it.
        camera: CameraId,
        /// Which rule follows it.
        rule: RuleId,
        /// Why.
        reason: Reason,
        /// When the engine knew.
        at: Timestamp,
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
    /// It is a sign that the camera's baseline approves.
    ApprovedSign,
    /// The rule excepts approved signs, and nobody recorded which those are in this view.
    NoBaseline,
    /// Smaller than the rule's least size.
    TooSmall,
    /// Went away before its dwell was up.
    LeftBeforeDwell,
    /// Stayed long enough by the clock, but was seen in too few of the looks.
    SeenTooRarely,
    /// Moved farther than the rule allows.
    Moved,
    /// Stayed, but nobody stood by it often enough.
    Unattended,
    /// A closer look at it alone did not find it, or was less sure than the rule asks. It is looked at again after another
    /// dwell.
    Doubted,
    /// The same problem at that site has an open case.
    OpenCaseAtSite,
    /// Another box has an open case of the same problem at that site.
    OpenElsewhere,
    /// The platform has the problem at that site under another number.
    KnownOtherwise,
    /// The day's cases are filed: it waits for the next day. Said once; it is filed then if it is still there.
    OverDailyCap,
    /// It went away while it waited for the next day.
    LeftWhileWaiting,
    /// It is back so soon after its case was closed that the platform is asked to reopen that one.
    CaseReopened,
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
    /// The camera was aimed anew: what is seen now is somewhere else.
    Reaimed,
}

impl NotFiled {
    /// The metric label's value, also used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScoreTooLow => "score_too_low",
            Self::OutsideZones => "outside_zones",
            Self::Permitted => "permitted",
            Self::ApprovedSign => "approved_sign",
            Self::NoBaseline => "no_baseline",
            Self::TooSmall => "too_small",
            Self::LeftBeforeDwell => "left_before_dwell",
            Self::SeenTooRarely => "seen_too_rarely",
            Self::Moved => "moved",
            Self::Unattended => "unattended",
            Self::Doubted => "doubted",
            Self::OpenCaseAtSite => "open_case_at_site",
            Self::OpenElsewhere => "open_elsewhere",
            Self::KnownOtherwise => "known_otherwise",
            Self::OverDailyCap => "over_daily_cap",
            Self::LeftWhileWaiting => "left_while_waiting",
            Self::CaseReopened => "case_reopened",
            Self::RejectedBefore => "rejected_before",
            Self::OutsideGrid => "outside_grid",
            Self::EvidenceFailed => "evidence_failed",
            Self::BlindTooLong => "blind_too_long",
            Self::Reconfigured => "reconfigured",
            Self::Reaimed => "reaimed",
        }
    }
}
