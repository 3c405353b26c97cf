//! What travels between the box and the grid platform: the case record, the platform's replies, status and health.
//!
//! These types *are* the contract (version 1): the files `*.schema.json` and `asyncapi.json` in `configs/schema/` are generated from them, and
//! `docs/contract.md` says how they travel. They hold data and know how to write themselves; how a case is made into a
//! record is in `link::record`. Optional fields are absent when unknown, never null or empty.
//!
//! A receiver must ignore fields it does not know: adding one does not change the version. What the box receives is
//! read strictly instead, because a misspelt field in a reply would be an order not carried out.

mod asyncapi;
mod caption;
mod claim;
mod form;
mod own;
mod record;
mod template;
pub mod topics;

use std::{borrow::Cow, fmt};

use jiff::{Timestamp, Unit, tz::Offset, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::{
    asyncapi::{Message, document as asyncapi},
    claim::ClaimMessage,
    form::Form,
    own::*,
    record::{Context, Language},
    template::{Template, TemplateFault},
    topics::{SiteTopic, Topics},
};
use gridwatch_engine::{CaseState, Finding, PlaceMethod, Reply};

/// Version of the case record, raised when a receiver must change to read it.
pub const SCHEMA_VERSION: u32 = 1;

/// A moment, written in RFC 3339 with the city's own offset (`2026-05-01T08:00:00.25+08:00`), whole milliseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct When {
    at: Timestamp,
    offset: Offset,
}

impl When {
    /// `at` as the clocks in `zone` show it. What is finer than a millisecond is cut off: no camera's clock is that good.
    pub fn new(at: Timestamp, zone: &TimeZone) -> Self {
        let round = jiff::TimestampRound::new()
            .smallest(Unit::Millisecond)
            .mode(jiff::RoundMode::Floor);
        Self {
            at: at.round(round).unwrap_or(at),
            offset: zone.to_offset(at),
        }
    }

    /// The moment.
    pub fn timestamp(self) -> Timestamp {
        self.at
    }

    /// What the city's clocks are ahead of UTC.
    pub fn offset(self) -> Offset {
        self.offset
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.display_with_offset(self.offset).fmt(f)
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(d)?;
        let at: Timestamp = text.parse().map_err(D::Error::custom)?;
        let pieces = jiff::fmt::temporal::Pieces::parse(&*text).map_err(D::Error::custom)?;
        Ok(Self {
            at,
            offset: pieces.to_numeric_offset().unwrap_or(Offset::UTC),
        })
    }
}

impl JsonSchema for When {
    fn schema_name() -> Cow<'static, str> {
        "When".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// One case, as the platform reads it. The same case by `case_id`, newer by `revision` (which may skip numbers: what the
/// platform itself said is not sent back to it).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "gridwatch case record, version 1")]
pub struct CaseRecord {
    /// 1.
    pub schema_version: u32,
    /// ULID made once and reused on every re-send （外部案件号）.
    #[schemars(regex(pattern = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    pub case_id: String,
    /// 1 at filing; the higher one is newer.
    #[schemars(range(min = 1))]
    pub revision: u32,
    /// The platform's own number, from its reply （任务号）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_task_no: Option<String>,
    /// （问题来源）
    pub source: Source,
    /// The box.
    pub node_id: String,
    /// Why this message was sent.
    pub report_kind: ReportKind,
    /// 2-digit class + 2-digit subclass, as the scheme writes it （大类/小类）.
    pub category_code: String,
    /// `name@version` of the scheme.
    pub category_scheme: String,
    /// In the box's language.
    pub category_name: String,
    /// The same in both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_names: Option<Bilingual>,
    /// The unit grid cell's code; a string, leading zeros count （单元网格编码）.
    pub cell_code: String,
    /// The version of the grid the code is from.
    pub grid_version: String,
    /// （坐标）
    pub location: Location,
    /// Address in words, from the view's configuration （地址描述）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What a clerk reads （问题描述）.
    pub description: String,
    /// The first look that saw it; `<= confirmed_at`.
    pub first_seen_at: When,
    /// The look that confirmed it; `<= filed_at`.
    pub confirmed_at: When,
    /// When the box committed the case.
    pub filed_at: When,
    /// The newest look that saw it; `>= confirmed_at`.
    pub last_seen_at: When,
    /// How far the box's clock was ahead of its reference at `filed_at`, as far as known and not yet corrected; negative: behind. Absent
    /// where nobody kept the clock, or the box may not ask: then the times are worth what an unkept clock is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// How far the box's clock may have been off at most, as its kernel says. There where `clock_offset_ms` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_error_ms: Option<u64>,
    /// What saw it.
    pub camera: CameraInfo,
    /// What found it.
    pub model: ModelInfo,
    /// The other models that look for the same rule, where there are more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_models: Vec<ModelInfo>,
    /// The configuration in force.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub config_sha256: String,
    /// Mean score of the looks that saw it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
    /// What a closer look at it alone scored, where the rule asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence_closer: Option<f64>,
    /// What made it a case.
    pub rule: RuleInfo,
    /// How much of it there is.
    pub extent: Extent,
    /// What the thing went through before it was a case, by the first time of each: seen, hidden, blind, waiting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presence: Vec<PresenceEntry>,
    /// The pictures, sent before the case （多媒体附件）.
    #[schemars(length(min = 1))]
    pub evidence: Vec<EvidenceItem>,
    /// `cell/category/site`, behind it `advert_number`, where there is one: one open case has it.
    pub dedup_key: String,
    /// The telephone number that a small ad names, digits only, as one dials it within the country （小广告电话号码）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{7,16}$"))]
    pub advert_number: Option<String>,
    /// The earlier case that this one repeats （反复发生）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<Recurrence>,
    /// What the case may be used for.
    pub purpose: Purpose,
    /// Looks taken because the platform asked （核查结果）.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verification: Vec<Verification>,
    /// （案件状态）
    pub state: CaseState,
    /// How it came to that, oldest first.
    pub history: Vec<HistoryEntry>,
    /// Hash of the box's previous case record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_hash: Option<String>,
    /// The box's signature over the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// A text in both languages of those who read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bilingual {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

/// What happened to a thing for one reason, once or again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceEntry {
    /// `appeared`, `hidden`, `seen_again`, `blind`, `rested`, `restarted`, `picture_lost`, `picture_taken`, `over_daily_cap`,
    /// `permitted`, `moved`, `confirmed` and others: new ones may come.
    pub reason: String,
    /// When it first did.
    pub first_at: When,
    /// When it last did.
    pub last_at: When,
    /// How often.
    pub times: u32,
}

/// Where problems come from （问题来源）.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A model looking at a street camera.
    AiVideo,
}

/// Why a case message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// The case is filed.
    New,
    /// The box changed something about it.
    Update,
    /// The platform asked whether it is still there, and this is the answer.
    VerifyReport,
    /// The box takes it back.
    Withdraw,
}

/// Where the problem is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Degrees east in `crs`.
    pub lon: f64,
    /// Degrees north in `crs`.
    pub lat: f64,
    /// `EPSG:4490`, `EPSG:4326`: never guessed, never converted.
    pub crs: String,
    /// Radius in metres that holds the true place.
    pub uncertainty_m: f64,
    /// How it was found.
    #[schemars(with = "Method")]
    pub method: PlaceMethod,
}

/// The schema of [`PlaceMethod`], which lives in the engine and knows nothing of schemas.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Method {
    /// From the foot of its box through the camera's calibration.
    Homography,
    /// The view's fixed place.
    CameraPoint,
}

/// What saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraInfo {
    /// Unique on the box.
    pub local_id: String,
    /// 20 digits, GB/T 28181.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gb_device_id: Option<String>,
    /// The preset a moving camera stood at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset_id: Option<String>,
    /// Which calibration gave the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_version: Option<String>,
    /// The legal and technical review of the camera (行政处罚法 art. 41).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_review_ref: Option<String>,
}

/// A model, exactly enough to run it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelInfo {
    /// Its manifest's id.
    pub id: String,
    /// Its manifest's version.
    pub version: String,
    /// Of the model file.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// What ran it, with its version: `onnxruntime 1.31.1`.
    pub runtime: String,
}

/// What made it a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleInfo {
    /// The rule's id in the configuration.
    pub id: String,
    /// Seconds of seen presence, blind time left out.
    pub dwell_s: f64,
    /// Clear looks that saw it.
    pub frames_seen: u32,
    /// Clear looks in all since the first.
    pub frames_sampled: u32,
    /// The drawn zone it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// The schedule that had a say: of the permitted zone it stands in outside the hours, else the hours in which the rule
    /// works, else those in which it pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<String>,
}

/// How much of it there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Extent {
    /// On the ground, where the view is calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area_m2: Option<f64>,
    /// Things in the box.
    pub count: u32,
    /// `[x1, y1, x2, y2]` in pixels of the confirming `scene` picture.
    pub bbox_px: [u32; 4],
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceItem {
    /// Unique within the case; what `verification` points to.
    pub id: String,
    /// What it shows.
    pub role: EvidenceRole,
    /// Of the file, which is also its name on the wire.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Length of the file.
    pub bytes: u64,
    /// `image/jpeg`.
    pub mime: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// When the camera's picture arrived at the box.
    pub captured_at: When,
    /// Hash of the picture it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<String>,
    /// True where faces and plates were masked.
    pub masked: bool,
    /// The MQTT topic that carried it.
    pub topic_or_uri: String,
    /// What to write below it: what it shows, of what, by which camera, when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Bilingual>,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceRole {
    /// Where: the whole view.
    Scene,
    /// What: the thing and its surroundings.
    Closeup,
    /// A copy of the scene with the box drawn.
    Overlay,
    /// For verification: as it was.
    Before,
    /// For verification: as it is.
    After,
}

impl EvidenceRole {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scene => "scene",
            Self::Closeup => "closeup",
            Self::Overlay => "overlay",
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// The earlier case that this one repeats （反复发生）.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recurrence {
    /// Which.
    pub of_case_id: String,
    /// How often it came back by now.
    pub count: u32,
    /// Since it was closed, or taken back.
    pub days_since_close: f64,
}

/// What a case may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A lead for a person to look into: the camera has no legal review.
    LeadOnly,
    /// The camera is reviewed: its pictures may serve as evidence for a penalty.
    PenaltyCandidate,
}

/// Looks taken because the platform asked, or a crew said that it dealt with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// When it asked.
    pub asked_at: When,
    /// When the answer was known.
    pub checked_at: When,
    /// The answer.
    #[schemars(with = "VerifyResult")]
    pub result: Finding,
    /// The pictures that show it.
    pub evidence_ids: Vec<String>,
    /// True where the place could be seen: enough clear looks that nothing hid.
    pub visible: bool,
    /// Clear looks at the place since it was asked.
    pub looks: u32,
    /// Those of them that saw the thing.
    pub looks_seen: u32,
    /// Of the looks, the share that says the same as `result`; 0 where that is `unverifiable`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
}

/// The schema of [`Finding`], which lives in the engine and knows nothing of schemas.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum VerifyResult {
    /// Seen.
    StillPresent,
    /// Seen to be gone, in a live, aimed, lit and unobstructed view.
    Cleared,
    /// Anything else.
    Unverifiable,
}

/// One step of a case's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// The revision that it made.
    pub revision: u32,
    /// The state from then on.
    pub state: CaseState,
    /// When.
    pub at: When,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The platform's answer about a case, on the reply topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "gridwatch reply, version 1")]
pub struct ReplyMessage {
    /// Which case.
    pub case_id: String,
    /// What it is now, to the platform: anything but `filed` and `withdrawn`, which are the box's words.
    pub state: CaseState,
    /// The platform's words: why it was rejected, which case it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The platform's own number （任务号）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_task_no: Option<String>,
    /// When the platform decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<When>,
    /// With `dispatched`: until when the crew has time （处置期限）. The box looks again then, if nobody has called it done before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<When>,
}

impl ReplyMessage {
    /// What it says to the engine; it came at `at`.
    pub fn reply(&self, at: Timestamp) -> Reply {
        Reply {
            case: self.case_id.as_str().into(),
            state: self.state,
            at,
            reason: self.reason.clone(),
            due: self.due_at.map(When::timestamp),
        }
    }
}
