//! Cases, what the engine remembers of them, and the platform's replies.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AdvertText, Appearance, BBox, CameraId, CaseId, Category, CellCode, Claim, JournalEntry, LonLat, NodeId,
    PhoneNumber, RuleId, ScheduleId, TextReading, ZoneId,
};

/// How a case was located.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceMethod {
    /// From the foot of the box, through the camera's calibration.
    Homography,
    /// The view's fixed location.
    CameraPoint,
}

/// Location of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Ground position.
    pub at: LonLat,
    /// Uncertainty radius, metres.
    pub uncertainty_m: f64,
    /// How it was located.
    pub method: PlaceMethod,
    /// The cell that contains it.
    pub cell: CellCode,
}

/// A confirmed, new problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Derived from the case's content (node, camera, rule, site, first seen), so that replay gives the same id.
    pub id: CaseId,
    /// The rule that filed it.
    pub rule: RuleId,
    /// The category it is filed as.
    pub category: Category,
    /// The camera that saw it.
    pub camera: CameraId,
    /// The watch zone that contains its anchor point, if one is drawn.
    pub zone: Option<ZoneId>,
    /// The schedule that applied: of the permitted zone it stands in outside the hours, else the rule's `active`, else
    /// its `pause`.
    pub schedule: Option<ScheduleId>,
    /// Its location.
    pub located: Location,
    /// Deduplication key: `cell/category/site`, with the phone number appended if one was read.
    pub dedup_key: String,
    /// The first look that saw it (pinned).
    pub first_seen_at: Timestamp,
    /// Its box in that look.
    pub first_box: BBox,
    /// The look that confirmed it (pinned), at least the dwell later. It may be sooner only after failed evidence: both
    /// looks are then newer than the failure, and `dwell` still covers the whole presence.
    pub confirmed_at: Timestamp,
    /// Its box in that look.
    pub confirmed_box: BBox,
    /// Presence without blind time.
    pub dwell: Duration,
    /// Clear looks since the first that saw it.
    pub looks_seen: u32,
    /// Clear looks since the first.
    pub looks: u32,
    /// Mean score of the looks that saw it, 0..=1.
    pub confidence: f32,
    /// Score of the second look, if the rule required one and it was taken.
    pub second_look_score: Option<f32>,
    /// Its appearance when it was confirmed.
    pub appearance: Option<Appearance>,
    /// The phone number on it.
    pub number: Option<PhoneNumber>,
    /// The text on it.
    pub text: Option<TextReading>,
    /// Number of boxes it consisted of in the confirming look.
    pub count: u32,
    /// Ground area in that look, m², if the camera is calibrated: a square as wide as its box.
    pub area_m2: Option<f64>,
    /// Nearly all looks that saw it saw an unknown object ([`Label::object`](super::Label::object)): it is new in the view, and what it
    /// is cannot be told.
    pub is_unidentified: bool,
    /// Merge radius of its rule, metres.
    pub merge_radius_m: f64,
    /// The earlier case at this site that it repeats （回潮）.
    pub recurrence: Option<Recurrence>,
    /// Its history as a tracked object, in order of first occurrence.
    pub journal: Vec<JournalEntry>,
}

/// The same problem at the same site, within 7 days of the end of an earlier case.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrence {
    /// The latest of the earlier cases.
    pub of: CaseId,
    /// How many times the problem has recurred, including this one.
    pub count: u32,
    /// From the earlier case's closing or withdrawal to the first look of this one.
    pub since_close: Duration,
}

impl Recurrence {
    /// After this long it is a new problem.
    pub(crate) const WITHIN: Duration = Duration::from_hours(7 * 24);
    /// Within this time the work was not done: the platform is asked to reopen the closed case.
    pub(crate) const REOPENS_WITHIN: Duration = Duration::from_mins(30);
}

impl Case {
    /// The claim that other boxes receive; `node` is this box.
    pub fn claim(&self, node: &NodeId) -> Claim {
        Claim {
            case: self.id.clone(),
            node: node.clone(),
            category: self.category.code.clone(),
            located: self.located.clone(),
            merge_radius_m: self.merge_radius_m,
            number: self.number.clone(),
            text: self.text.as_ref().map(|t| t.text.clone()),
        }
    }

    /// What the engine remembers of the case in `state`.
    pub fn remembered(&self, state: CaseState, at: Timestamp) -> OpenCase {
        OpenCase {
            id: self.id.clone(),
            category: self.category.code.clone(),
            camera: self.camera.clone(),
            zone: self.zone.clone(),
            located: self.located.clone(),
            bbox: self.confirmed_box,
            appearance: self.appearance,
            number: self.number.clone(),
            text: self.text.as_ref().map(|t| t.text.clone()),
            state,
            at,
            confirmed_at: Some(self.confirmed_at),
            recurrences: self.recurrence.as_ref().map_or(0, |r| r.count),
            was_reopened: false,
            question: None,
        }
    }
}

/// What the engine remembers of a case that is open or recently ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenCase {
    /// The case's id.
    pub id: CaseId,
    /// Category code.
    pub category: String,
    /// The camera that filed it.
    pub camera: CameraId,
    /// The watch zone, if one is drawn.
    pub zone: Option<ZoneId>,
    /// Its location.
    pub located: Location,
    /// Its box when it was confirmed.
    pub bbox: BBox,
    /// Its appearance when it was confirmed; unknown for cases of old versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appearance: Option<Appearance>,
    /// The phone number on it, if one was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<PhoneNumber>,
    /// The text on it, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<AdvertText>,
    /// Its state.
    pub state: CaseState,
    /// Time of its latest revision.
    pub at: Timestamp,
    /// When it was confirmed; unknown for cases of old versions.
    #[serde(default)]
    pub confirmed_at: Option<Timestamp>,
    /// How many times its problem had recurred when it was filed; 0 for the first time.
    #[serde(default)]
    pub recurrences: u32,
    /// The box has asked to reopen it, and does not ask again.
    #[serde(default)]
    pub was_reopened: bool,
    /// The open verification question, after a crew reported it fixed or the platform asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The case.
    pub case: CaseId,
    /// The camera that verified it.
    pub camera: CameraId,
    /// The object's box when the case was confirmed.
    pub bbox: BBox,
    /// When the question was asked.
    pub asked_at: Timestamp,
    /// When the answer was reached; the time of the look that decided it, if one did.
    pub at: Timestamp,
    /// The result.
    pub finding: Finding,
    /// `at` is the time of a look whose picture shows the place, even if too dark to see.
    pub is_look: bool,
    /// Clear looks counted since the question.
    pub looks: u32,
    /// How many of them saw the object.
    pub looks_seen: u32,
}

pub use crate::verification::{Finding, Question};

/// State of a case. Only the box sets `filed` and `withdrawn`; either side sets `reopened`; the platform sets the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// Committed on the box, on its way to the platform.
    Filed,
    /// Accepted by the platform (立案).
    Accepted,
    /// Rejected by the platform.
    Rejected,
    /// The platform has it under another case number.
    DuplicateOf,
    /// A crew was dispatched (派遣).
    Dispatched,
    /// The crew reports it fixed (处置).
    Disposed,
    /// The platform asks for verification (核查).
    VerifyRequested,
    /// Closed (结案).
    Closed,
    /// Reopened: the problem recurred soon after closing.
    Reopened,
    /// Withdrawn by the box.
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

    /// How long a case that ended in this state is remembered after it was last seen. Open cases are never forgotten.
    pub fn remembered_for(self) -> Duration {
        const DAY: Duration = Duration::from_hours(24);
        match self {
            // Rejected cases are mostly street furniture that the detector mistakes. It is seen daily, which renews
            // this; a month bridges a camera repair.
            Self::Rejected => 30 * DAY,
            // The problem is real and handled under its other number, of which the box hears nothing more.
            Self::DuplicateOf => DAY,
            // The period in which a recurring problem counts as recurrence.
            _ => 7 * DAY,
        }
    }

    /// The value used in JSON.
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

    /// Whether the platform accepted (`true`) or rejected (`false`) the case; `None` if it has not decided whether it is a problem.
    pub fn decision(self) -> Option<bool> {
        match self {
            Self::Accepted
            | Self::Dispatched
            | Self::Disposed
            | Self::VerifyRequested
            | Self::Closed
            | Self::Reopened => Some(true),
            Self::Rejected => Some(false),
            Self::Filed | Self::DuplicateOf | Self::Withdrawn => None,
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

/// The platform's reply about a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The case.
    pub case: CaseId,
    /// The new state.
    pub state: CaseState,
    /// When the box received the reply.
    pub at: Timestamp,
    /// The platform's reason, if given.
    #[serde(default)]
    pub reason: Option<String>,
    /// The crew's deadline （处置期限）, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

impl Reply {
    /// The verification question after this reply, for a case in state `from` with the open question `before`: due at
    /// once after a crew's report or a request, and at the deadline after a dispatch.
    pub fn next_question(&self, from: CaseState, before: Option<Question>) -> Option<Question> {
        let is_repeated = self.state == from;
        match self.state {
            CaseState::Dispatched if self.due.is_some() => self.due.map(|due| Question::new(due.max(self.at))),
            // Asked again after the answer: verify again.
            CaseState::VerifyRequested if is_repeated && before.is_none_or(|q| q.is_reported) => {
                Some(Question::new(self.at))
            }
            _ if is_repeated => before,
            CaseState::Disposed | CaseState::VerifyRequested => Some(Question::new(self.at)),
            _ => None,
        }
    }
}
