//! A case, what the engine remembers of it, and what the platform says.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Appearance, BBox, CameraId, CaseId, Category, CellCode, Claim, LonLat, NodeId, JournalEntry, PhoneNumber, RuleId,
    ScheduleId, ZoneId,
};

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
pub struct Location {
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
    pub located: Location,
    /// What keeps it from being filed twice: `cell/category/site`, and behind the site's name the number, where one was read.
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
    /// What a closer look at it alone scored, where the rule asked for one and it was taken.
    pub second_look_score: Option<f32>,
    /// What it looked like then.
    pub appearance: Option<Appearance>,
    /// The telephone number that is written there.
    pub number: Option<PhoneNumber>,
    /// How many boxes it was made of at the confirming look.
    pub count: u32,
    /// The ground it covered then, m², where the camera is calibrated: a square as wide as its box.
    pub area_m2: Option<f64>,
    /// What its rule takes for one site at least, metres.
    pub merge_radius_m: f64,
    /// The earlier case at this site that it repeats （回潮）.
    pub recurrence: Option<Recurrence>,
    /// What it went through before, by the first time of each: hidden, blind, waiting, and why.
    pub journal: Vec<JournalEntry>,
}

/// The same problem at the same site, within [`Recurrence::WITHIN`] of the end of an earlier case.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrence {
    /// The newest of the earlier cases.
    pub of: CaseId,
    /// How often the problem had come back, this time included.
    pub count: u32,
    /// From that case's closing, or from when the box took it back, to the first look of this one.
    pub since_close: Duration,
}

impl Recurrence {
    /// Later than this it is a new problem.
    pub const WITHIN: Duration = Duration::from_hours(7 * 24);
    /// Back before this, the work was not done: the platform is asked to reopen the case it closed.
    pub const REOPENS_WITHIN: Duration = Duration::from_mins(30);
}

impl Case {
    /// What other boxes are told of it; `node` is this one.
    pub fn claim(&self, node: &NodeId) -> Claim {
        Claim {
            case: self.id.clone(),
            node: node.clone(),
            category: self.category.code.clone(),
            located: self.located.clone(),
            merge_radius_m: self.merge_radius_m,
            number: self.number.clone(),
        }
    }

    /// What the engine must remember of it, in the state that it is in.
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
            state,
            at,
            confirmed_at: Some(self.confirmed_at),
            recurrences: self.recurrence.as_ref().map_or(0, |r| r.count),
            was_reopened: false,
            question: None,
        }
    }
}

/// What the engine must know of a case that is open, or was lately.
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
    pub located: Location,
    /// Its box when it was confirmed.
    pub bbox: BBox,
    /// What it looked like then; unknown for cases of old versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appearance: Option<Appearance>,
    /// The telephone number that is written there, where one was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<PhoneNumber>,
    /// Its state.
    pub state: CaseState,
    /// Its newest revision's time.
    pub at: Timestamp,
    /// When it was confirmed; unknown for cases of old versions.
    #[serde(default)]
    pub confirmed_at: Option<Timestamp>,
    /// How often its problem had come back when it was filed; 0 for the first time.
    #[serde(default)]
    pub recurrences: u32,
    /// The box asked once to reopen it, and does not ask again.
    #[serde(default)]
    pub was_reopened: bool,
    /// A crew said that it dealt with it, or the platform asks: is it still there?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Of which case.
    pub case: CaseId,
    /// By which camera.
    pub camera: CameraId,
    /// Where the thing was when the case was confirmed.
    pub bbox: BBox,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When this was known. Where a look decided it, that look.
    pub at: Timestamp,
    /// The answer.
    pub finding: Finding,
    /// A look was judged at that moment, whose picture shows it, be it a dark one.
    pub is_look: bool,
    /// Clear looks that counted since it was asked.
    pub looks: u32,
    /// Those of them that saw it.
    pub looks_seen: u32,
}

pub use crate::verification::{Finding, Question};

/// Where a case stands. `filed` and `withdrawn` are the box's own words; `reopened` is of either; the others are the platform's.
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
    /// Until when the crew has time （处置期限）, where it was sent with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

impl Reply {
    /// What is to be answered after it, of a case that was in state `from` with question `before`: whether the thing is still there,
    /// at once where a crew was there or the platform asks, and where a crew was sent, when its time is up.
    pub fn next_question(&self, from: CaseState, before: Option<Question>) -> Option<Question> {
        let is_repeated = self.state == from;
        match self.state {
            CaseState::Dispatched if self.due.is_some() => self.due.map(|due| Question::new(due.max(self.at))),
            // Asked again after the answer: it wants another.
            CaseState::VerifyRequested if is_repeated && before.is_none_or(|q| q.is_reported) => {
                Some(Question::new(self.at))
            }
            _ if is_repeated => before,
            CaseState::Disposed | CaseState::VerifyRequested => Some(Question::new(self.at)),
            _ => None,
        }
    }
}
