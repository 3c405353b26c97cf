//! Inputs and effects of the engine, and the types they are made of.
//!
//! Picture positions are fractions of width and height (0..=1, origin top left), so that a camera can change its
//! resolution without its zones moving. Ground positions are longitude and latitude in degrees, in the grid's
//! coordinate reference system. Times are UTC.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::judge::{Resumed, Snapshot};

mod advert_text;
mod appearance;
mod case;
mod claim;
mod plan;
mod reason;
mod stored_plan;

pub(crate) use advert_text::AdvertIdentity;
pub use advert_text::{AdvertText, TextReading, errors_within, half_width};
pub use appearance::Appearance;
pub use case::*;
pub use claim::*;
pub use plan::*;
pub use reason::*;
pub use stored_plan::StoredPlan;

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

id!(/// The id of this box: `{node}` in the MQTT topics.
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
id!(/// A detection's label, after the manifest's label map.
    Label);
id!(/// A phone number: the digits dialled within the country, nothing else.
    PhoneNumber);
id!(/// A case's ULID in its 26-character text form.
    CaseId);

impl Label {
    /// The label of a small ad read on a wall (非法小广告): a phone number, or a trade with a messenger id.
    pub fn small_ad() -> Self {
        Self::from("small_ad")
    }

    /// The label of something new in the view that no network has a label for.
    pub fn object() -> Self {
        Self::from("object")
    }

    /// The label of a banner that was recognised by its text (横幅标语): one long line.
    pub fn text_banner() -> Self {
        Self::from("text_banner")
    }

    /// The labels of objects that are recognised by reading their text.
    pub fn of_text() -> [Self; 2] {
        [Self::small_ad(), Self::text_banner()]
    }
}

impl CameraId {
    /// The id of one preset of a PTZ camera: `CAMERA.PRESET`. Each preset is a camera of its own to the engine, with
    /// its own location and zones. Configured ids contain no dot.
    pub fn at_preset(camera: &str, preset: &str) -> Self {
        Self::from(format!("{camera}{PRESET_MARK}{preset}"))
    }

    /// The camera's own id, whatever its preset.
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

/// A bounding box in a picture, as fractions of its width and height; `x1 <= x2`, `y1 <= y2`.
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

/// A ground position, degrees in the grid's coordinate reference system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LonLat {
    /// Longitude, degrees east.
    pub lon: f64,
    /// Latitude, degrees north.
    pub lat: f64,
}

/// One object that a model found in one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Its label.
    pub label: Label,
    /// Confidence, 0..=1.
    pub score: f32,
    /// Its bounding box.
    pub bbox: BBox,
    /// Its appearance, if the picture was available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appearance: Option<Appearance>,
    /// The phone number on it, if one was read; it then identifies the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<PhoneNumber>,
    /// The text on it, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextReading>,
    /// Results of the second looks at it that were taken in this look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub second_looks: Vec<SecondLookScore>,
    /// How new its place is in the view; `None` if the camera has not learned what belongs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newness: Option<Newness>,
}

impl Detection {
    /// A detection without appearance, phone number, text, second look or newness.
    pub fn new(label: impl Into<Label>, score: f32, bbox: BBox) -> Self {
        Self {
            label: label.into(),
            score,
            bbox,
            appearance: None,
            number: None,
            text: None,
            second_looks: Vec::new(),
            newness: None,
        }
    }

    /// Score of the second look that was taken for `rule`, 0..=1; `None` if there was none.
    pub fn second_look_for(&self, rule: &RuleId) -> Option<f32> {
        let is_for = |s: &&SecondLookScore| s.rule.as_ref().is_none_or(|r| r == rule);
        self.second_looks.iter().find(is_for).map(|s| s.score)
    }

    /// Sets the score of the second look that was taken for `rule`.
    pub fn set_second_look(&mut self, rule: &RuleId, score: f32) {
        self.second_looks.retain(|s| s.rule.as_ref() != Some(rule));
        self.second_looks.push(SecondLookScore {
            rule: Some(rule.clone()),
            score,
        });
    }
}

/// The result of a second look. Rules ask different questions about one thing: is it garbage, does it bear a phone number?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecondLookScore {
    /// The rule that asked for it; `None`, for every rule, in recordings of earlier versions.
    pub rule: Option<RuleId>,
    /// Score, 0..=1; 0 if nothing was found.
    pub score: f32,
}

/// How much of a detection's box was not there when the camera learned its view.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Newness {
    /// New and still share of the box, 0..=1.
    pub share: f32,
    /// When the new part was first seen there (the median of its pixels); `None` if no part is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Newness {
    /// Minimum share of a new object. A network's box is wider than the object's changed outline: of 36 composed bags that a
    /// network found, 33 had at least this share, and none of 7 false boxes had.
    pub const MIN_SHARE: f32 = 0.25;

    /// True if the object in the box appeared after the view was learned.
    pub fn is_new(&self) -> bool {
        self.share >= Self::MIN_SHARE
    }
}

/// Whether a look's view can be trusted. Anything but `Clear` is blind time: neither presence nor absence.
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
    /// Identical samples, picture after picture.
    Frozen,
    /// The keyframe did not decode completely.
    Damaged,
    /// The camera points elsewhere than when its zones and calibration were drawn.
    Moved,
}

/// Light of a look; rules may have other score thresholds at night.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    /// Daylight or street lighting, in colour.
    #[default]
    Day,
    /// Infrared, without colour.
    Night,
}

/// One look at one camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The camera.
    pub camera: CameraId,
    /// When the picture arrived at the box.
    pub at: Timestamp,
    /// Whether its view can be trusted.
    pub view: View,
    /// Its light.
    #[serde(default)]
    pub light: Light,
    /// What the models found, above their score floors.
    pub detections: Vec<Detection>,
    /// Labels that were not searched for; their absence means nothing.
    #[serde(default, rename = "unsought", skip_serializing_if = "Vec::is_empty")]
    pub not_searched: Vec<Label>,
}

/// An input to the engine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The plan to work to: the first input, and again at each reload.
    Configured(Arc<Plan>),
    /// A case from the store, given back at start-up: open ones, those rejected in the last 30 days, and those closed
    /// or withdrawn in the last 7 (their problem may recur).
    Restored(OpenCase),
    /// The previous engine's state beside its cases; follows these at start-up.
    Resumed(Box<Resumed>),
    /// One look.
    Observed(Observation),
    /// The platform's reply about a case.
    Reply(Reply),
    /// The evidence of a case could not be made; the case is dropped before it was ever sent.
    EvidenceFailed {
        /// The case.
        case: CaseId,
    },
    /// The current time.
    Tick(Timestamp),
    /// A camera was re-aimed, and an operator confirmed its new view: everything seen there before is void.
    Reaimed {
        /// The camera.
        camera: CameraId,
        /// When the daemon was notified.
        at: Timestamp,
    },
    /// A change to another box's cases.
    Elsewhere(Elsewhere),
}

/// An action that the engine requests. The effects of one input are in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at `camera` at `by`, ahead of its schedule: from then on, a look that sees the object can confirm a case. A
    /// picture that arrived before `by` confirms nothing; wait for the next keyframe.
    Look {
        /// The camera.
        camera: CameraId,
        /// When the dwell is reached.
        by: Timestamp,
    },
    /// At the next look, also take a second look: run the models on the part of the picture around `bbox`. The score
    /// found there for the rule's labels goes into [`second_looks`](Detection::second_looks) of that look's detections.
    SecondLook {
        /// The camera.
        camera: CameraId,
        /// The rule that requires it.
        rule: RuleId,
        /// Where the object was seen.
        bbox: BBox,
    },
    /// Keep the picture of the look at `at`: it may become evidence.
    Pin {
        /// The camera.
        camera: CameraId,
        /// Time of the look.
        at: Timestamp,
    },
    /// Release that picture. Every `Pin` has its `Unpin`, except the two looks (`first_seen_at` and `confirmed_at`)
    /// that an `Open` hands over to the evidence. Several candidates may pin the same look independently.
    Unpin {
        /// The camera.
        camera: CameraId,
        /// Time of the look.
        at: Timestamp,
    },
    /// A new problem is confirmed: make its evidence, commit it, file it.
    Open(Box<Case>),
    /// A case changed state.
    Revise {
        /// The case.
        case: CaseId,
        /// Its new state.
        state: CaseState,
        /// Time of the change.
        at: Timestamp,
        /// The reason, as a sentence.
        reason: String,
    },
    /// The result of a verification, to be sent to the platform with before and after pictures.
    Verified(Box<Verified>),
    /// The platform's reply matches no known case, or does not fit the case's state. Nothing was changed.
    ReplyRefused {
        /// The case it names.
        case: CaseId,
        /// The case's state; `None` if the case is unknown.
        known: Option<CaseState>,
        /// The state that the platform replied.
        reply: CaseState,
        /// When the box received the reply.
        at: Timestamp,
        /// Why it was rejected.
        reason: String,
    },
    /// A transition or event of a tracked object, or of a case. Together with `NotFiled` this covers every step.
    Transition {
        /// The camera that sees it.
        camera: CameraId,
        /// The rule that tracks it.
        rule: RuleId,
        /// The reason.
        reason: Reason,
        /// Time of the transition.
        at: Timestamp,
    },
    /// A transition that the engine's table does not allow was refused. Never happens unless the engine has a bug.
    TransitionRefused {
        /// The camera.
        camera: CameraId,
        /// The rule.
        rule: RuleId,
        /// The stage that the object is in.
        stage: &'static str,
        /// The reason for the refused transition.
        reason: Reason,
        /// When it was refused.
        at: Timestamp,
    },
    /// A candidate ended, or was held back, without a case of its own.
    NotFiled {
        /// The camera that saw it.
        camera: CameraId,
        /// The rule it was a candidate for.
        rule: RuleId,
        /// The reason.
        reason: NotFiled,
        /// Time of the decision.
        at: Timestamp,
    },
}

/// Why a candidate was not filed. Values of the metric `gridwatch_candidates_not_filed_total{reason}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFiled {
    /// It never scored as high as the rule's `start_score`.
    ScoreTooLow,
    /// The rule requires that it appeared, but it was there when the camera learned its view, or the view is not learned yet.
    NotNew,
    /// Its anchor point lay outside the rule's watch zones, or inside an exclude, container or shop zone.
    OutsideZones,
    /// It stands on permitted ground during permitted hours.
    Permitted,
    /// It is an approved sign of the camera's baseline.
    ApprovedSign,
    /// The rule exempts approved signs, but the camera has no approved-sign baseline.
    NoBaseline,
    /// A network takes most of it for something that is another rule's.
    OtherLabel,
    /// It is smaller than the rule's minimum.
    TooSmall,
    /// It left before its dwell was reached.
    LeftBeforeDwell,
    /// It stayed long enough, but was seen in too few looks.
    SeenTooRarely,
    /// It moved farther than the rule allows.
    Moved,
    /// It stayed, but was not attended often enough.
    Unattended,
    /// A second look did not find it, or scored lower than the rule requires. Another one is taken after another dwell.
    Doubted,
    /// The same problem has an open case at the site.
    OpenCaseAtSite,
    /// Another box has an open case of the same problem at the site.
    OpenElsewhere,
    /// The same thing is an open case of another category: a stall is not also garbage. It is filed once that case is over.
    FiledOtherwise,
    /// The platform has the problem at the site under another case number.
    KnownOtherwise,
    /// The daily cap is reached: it waits for the next day, and is filed then if it is still there. Reported once.
    OverDailyCap,
    /// It left while it waited for the next day.
    LeftWhileWaiting,
    /// It recurred so soon after its case was closed that the platform is asked to reopen that case.
    CaseReopened,
    /// The platform rejected the same stationary object at the site.
    RejectedBefore,
    /// Its location lies in no cell of the grid.
    OutsideGrid,
    /// Its evidence could not be made.
    EvidenceFailed,
    /// The camera was blind for so long that the track is stale.
    BlindTooLong,
    /// The rule or camera is no longer configured.
    Reconfigured,
    /// The camera was re-aimed and now shows another place.
    Reaimed,
}

impl NotFiled {
    /// The metric label's value, also used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScoreTooLow => "score_too_low",
            Self::NotNew => "not_new",
            Self::OutsideZones => "outside_zones",
            Self::Permitted => "permitted",
            Self::ApprovedSign => "approved_sign",
            Self::NoBaseline => "no_baseline",
            Self::OtherLabel => "other_label",
            Self::TooSmall => "too_small",
            Self::LeftBeforeDwell => "left_before_dwell",
            Self::SeenTooRarely => "seen_too_rarely",
            Self::Moved => "moved",
            Self::Unattended => "unattended",
            Self::Doubted => "doubted",
            Self::OpenCaseAtSite => "open_case_at_site",
            Self::OpenElsewhere => "open_elsewhere",
            Self::FiledOtherwise => "filed_otherwise",
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
