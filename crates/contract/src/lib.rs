//! Messages between a box and the grid platform: case records, receipts, replies, status, health and claims.
//!
//! These types define version 1 of the contract: `*.schema.json` and `asyncapi.json` in `configs/schema/` are generated
//! from them, and their doc comments become the descriptions there. `docs/contract.md` describes the exchange. Optional
//! fields are absent when unknown, never null or empty.
//!
//! Receivers must ignore unknown fields: adding a field does not change the version. The box itself rejects unknown fields
//! in replies and receipts, because a misspelt field would otherwise be an instruction silently ignored.

mod asyncapi;
mod caption;
mod claim;
mod form;
mod receipt;
mod record;
mod status;
mod template;
pub mod topics;

use std::{borrow::Cow, fmt};

use jiff::{Timestamp, Unit, tz::Offset, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::{
    asyncapi::{MessageType, document as asyncapi},
    claim::{ClaimKey, ClaimMessage, ClaimStage},
    form::Form,
    receipt::{MAX_MISSING, PlatformMessage, ReceiptMessage},
    record::RecordContext,
    status::*,
    template::{Template, TemplateFault},
    topics::{BoxMessage, SiteTopics, Topics, parse_box_topic, platform_filters, platform_topic},
};
use gridwatch_engine::{CaseState, Finding, PlaceMethod, Reply};

/// Version of the contract, raised by changes that receivers cannot ignore.
pub const SCHEMA_VERSION: u32 = 1;

/// Full version: the second number is raised by what is added, such as receipts in 1.1.
pub const CONTRACT_VERSION: &str = "1.1.0";

/// A timestamp in whole milliseconds, written in RFC 3339 with the city's UTC offset: `2026-05-01T08:00:00.25+08:00`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct When {
    at: Timestamp,
    offset: Offset,
}

impl When {
    /// `at` with the offset of `zone`, truncated to milliseconds; no camera clock is more precise.
    pub fn new(at: Timestamp, zone: &TimeZone) -> Self {
        let round = jiff::TimestampRound::new()
            .smallest(Unit::Millisecond)
            .mode(jiff::RoundMode::Floor);
        Self {
            at: at.round(round).unwrap_or(at),
            offset: zone.to_offset(at),
        }
    }

    /// The instant.
    pub fn timestamp(self) -> Timestamp {
        self.at
    }

    /// The UTC offset.
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

/// A case as sent to the platform. `case_id` identifies the case; the highest `revision` is the current one. Revisions may
/// skip numbers, because changes made by the platform's own replies are not sent back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "gridwatch case record, version 1")]
pub struct CaseRecord {
    /// Version of the contract; 1.
    pub schema_version: u32,
    /// ULID of the case, the same in every message about it （外部案件号）.
    #[schemars(regex(pattern = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    pub case_id: String,
    /// Revision number: 1 when filed, higher when changed.
    #[schemars(range(min = 1))]
    pub revision: u32,
    /// Task number assigned by the platform, from its reply （任务号）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_task_no: Option<String>,
    /// How the problem was found （问题来源）.
    pub source: Source,
    /// Id of the box that filed the case.
    pub node_id: String,
    /// Why this message was sent.
    pub report_kind: ReportKind,
    /// Category code of the scheme: by default 2-digit class and 2-digit subclass （大类、小类）.
    pub category_code: String,
    /// Category scheme as `name@version`.
    pub category_scheme: String,
    /// Category name in the box's configured language.
    pub category_name: String,
    /// Category name in Chinese and English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_names: Option<Bilingual>,
    /// True if the object is new in the view and no model recognises it: the category is where such objects are filed, and what it is
    /// must be seen in the pictures （不明物体）. Absent: a model recognised it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unidentified: bool,
    /// Code of the unit grid cell; a string, as leading zeros are significant （单元网格编码）.
    pub cell_code: String,
    /// Version of the grid that defines the cell.
    pub grid_version: String,
    /// Coordinates of the problem （坐标）.
    pub location: Location,
    /// Address configured for the camera's view （地址描述）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Description for the clerk who accepts the case （问题描述）.
    pub description: String,
    /// When the problem was first seen; at or before `confirmed_at`.
    pub first_seen_at: When,
    /// When the rule confirmed it; at or before `filed_at`.
    pub confirmed_at: When,
    /// When the box filed the case （上报时间）.
    pub filed_at: When,
    /// When it was last seen; at or after `confirmed_at`.
    pub last_seen_at: When,
    /// Offset of the box's clock from its time source at `filed_at`, in milliseconds, as estimated by the kernel and not yet
    /// corrected; positive: the clock is ahead. Absent if the clock was not synchronised, or its state could not be read: the
    /// times are then of unknown accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Maximum error of the box's clock at `filed_at`, in milliseconds, as estimated by the kernel. Present with
    /// `clock_offset_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_error_ms: Option<u64>,
    /// The camera that saw the problem.
    pub camera: CameraInfo,
    /// The model that detected it.
    pub model: ModelInfo,
    /// Other models that detect for the same rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_models: Vec<ModelInfo>,
    /// SHA-256 of the configuration in force.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub config_sha256: String,
    /// Mean detection score over the looks that saw it （置信度）.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
    /// Score of the second look: detection on an enlarged crop around the object. Present if the rule requires one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence_closer: Option<f64>,
    /// The rule that confirmed the problem.
    pub rule: RuleInfo,
    /// Size and position of the problem.
    pub extent: Extent,
    /// What happened to the object before the case was filed, one entry per reason, by first occurrence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presence: Vec<PresenceEntry>,
    /// Pictures, all published before this message （多媒体附件）.
    #[schemars(length(min = 1))]
    pub evidence: Vec<EvidenceItem>,
    /// Deduplication key `cell/category/site`, followed by `advert_number` if present, or else by the letters and digits of
    /// `advert_text`. At most one open case has it.
    pub dedup_key: String,
    /// Telephone number on a small ad: digits only, in national format （小广告电话号码）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{7,16}$"))]
    pub advert_number: Option<String>,
    /// Text on an advert or banner, with a space between lines, at most 160 characters. Personal names and identity numbers in
    /// it are replaced by asterisks （广告文字）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 160))]
    pub advert_text: Option<String>,
    /// Mean score of the characters of `advert_text`, over the looks that voted on them （文字置信度）. Present with `advert_text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub advert_text_confidence: Option<f64>,
    /// The earlier case at the same site that this one repeats （反复发生）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<Recurrence>,
    /// Permitted use of the case.
    pub purpose: Purpose,
    /// Results of verification, at most the newest 20 （核查结果）.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verification: Vec<Verification>,
    /// Current state （案件状态）.
    pub state: CaseState,
    /// State changes, oldest first. Of a long history the first and the newest are here, and the count of those in between.
    pub history: Vec<HistoryEntry>,
    /// SHA-256 of the preceding entry in the box's custody chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_hash: Option<String>,
    /// Sequence number of that entry, from 0. Absent in the chain's first record and from older versions. With `prev_hash`, each record is a
    /// signed statement of where the chain was: see `gridwatch evidence verify --since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_seq: Option<u64>,
    /// Algorithm of `signature`, covered by it: `ed25519`, or `ecdsa-p256-sha256` with signatures in DER. Absent: `ed25519`. Reject a
    /// record with a name that you do not know as one that you cannot verify, not as a forgery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub signature_algorithm: Option<String>,
    /// Signature of the box over the record without this member, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A text in Chinese and English.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bilingual {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

/// One kind of event in an object's history before its case was filed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceEntry {
    /// The kind: `appeared`, `hidden`, `seen_again`, `blind`, `rested`, `restarted`, `picture_lost`, `picture_taken`,
    /// `over_daily_cap`, `permitted`, `moved`, `confirmed` and others; the list may grow.
    pub reason: String,
    /// When it first happened.
    pub first_at: When,
    /// When it last happened.
    pub last_at: When,
    /// How many times it happened.
    pub times: u32,
}

/// How a problem was found （问题来源）.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Detected by an AI model on street camera video.
    AiVideo,
}

/// Why a case message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// A new case （上报）.
    New,
    /// A change by the box, such as a request to reopen （更新）.
    Update,
    /// A verification result （核查反馈）.
    VerifyReport,
    /// The box withdraws the case （撤销）.
    Withdraw,
}

/// Coordinates of the problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Longitude in degrees east, in `crs`.
    pub lon: f64,
    /// Latitude in degrees north, in `crs`.
    pub lat: f64,
    /// Coordinate reference system as configured, `EPSG:4490` or `EPSG:4326`; coordinates are never converted.
    pub crs: String,
    /// Radius around the coordinates within which the problem lies, in metres.
    pub uncertainty_m: f64,
    /// How the coordinates were obtained.
    #[schemars(with = "Method")]
    pub method: PlaceMethod,
}

/// JSON Schema of [`PlaceMethod`]; the engine does not depend on schemars.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Method {
    /// The bottom of the bounding box, projected to the ground with the camera's calibration.
    Homography,
    /// The location configured for the camera's view.
    CameraPoint,
}

/// The camera that saw a problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraInfo {
    /// Camera id, unique on the box （点位编号）.
    pub local_id: String,
    /// GB/T 28181 device id, 20 digits （国标编码）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gb_device_id: Option<String>,
    /// Preset of a PTZ camera （预置位）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset_id: Option<String>,
    /// Version of the calibration that gave the coordinates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_version: Option<String>,
    /// Reference to the camera's legal and technical review （行政处罚法第四十一条：法制和技术审核）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_review_ref: Option<String>,
}

/// A model, identified exactly enough to reproduce a detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelInfo {
    /// Model id from its manifest; `change_map` for unknown objects that are new in the view.
    pub id: String,
    /// Model version from its manifest; of the change map, the version of the program.
    pub version: String,
    /// SHA-256 of the model file; of the change map, of the weights of its score.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Inference runtime and version, such as `onnxruntime 1.31.1`.
    pub runtime: String,
}

/// The rule that confirmed a problem, and what it counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleInfo {
    /// Rule id in the configuration.
    pub id: String,
    /// Time the object was present, in seconds, without periods in which the view was not usable.
    pub dwell_s: f64,
    /// Usable frames in which the object was detected.
    pub frames_seen: u32,
    /// Usable frames since the object was first detected.
    pub frames_sampled: u32,
    /// Configured zone in which the object stands （布控区域）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// The schedule that applied: of the permitted zone in which the object stands outside its hours, otherwise the rule's
    /// active hours, otherwise its pause hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<String>,
}

/// Size and position of a problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Extent {
    /// Ground area in square metres; only from a calibrated view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area_m2: Option<f64>,
    /// Number of detected objects.
    pub count: u32,
    /// Bounding box `[x1, y1, x2, y2]` in pixels of the confirming `scene` picture.
    pub bbox_px: [u32; 4],
}

/// One evidence picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceItem {
    /// Picture id, unique within the case; referenced by `verification`.
    pub id: String,
    /// What the picture shows.
    pub role: EvidenceRole,
    /// SHA-256 of the file, also the last level of its topic.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// File size in bytes.
    pub bytes: u64,
    /// MIME type, `image/jpeg`.
    pub mime: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// When the frame arrived at the box.
    pub captured_at: When,
    /// SHA-256 of the original picture from which this one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<String>,
    /// True if faces and licence plates are masked.
    pub masked: bool,
    /// MQTT topic on which the picture was published.
    pub topic_or_uri: String,
    /// Caption: what the picture shows, the category, the camera and the time （图片说明）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Bilingual>,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceRole {
    /// The whole view （全景）.
    Scene,
    /// The object and its surroundings （近景）.
    Closeup,
    /// A copy of the scene with the bounding box drawn （标注图）.
    Overlay,
    /// Verification: the view when the problem was confirmed （处置前）.
    Before,
    /// Verification: the view when checked again （处置后）.
    After,
}

impl EvidenceRole {
    /// The value as written in JSON.
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

/// The earlier case that a case repeats （反复发生）.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recurrence {
    /// Id of the earlier case.
    pub of_case_id: String,
    /// Number of recurrences at this site so far.
    pub count: u32,
    /// Days since the earlier case was closed or withdrawn.
    pub days_since_close: f64,
}

/// Permitted use of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A lead to be investigated; the camera has no legal review （仅作线索）.
    LeadOnly,
    /// The camera has passed legal review; its pictures may be used as evidence for a penalty （可作处罚证据）.
    PenaltyCandidate,
}

/// A verification: whether the problem is still there, checked after `disposed`, `verify_requested` or the time limit
/// （核查）.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// When verification was requested.
    pub asked_at: When,
    /// When the result was determined.
    pub checked_at: When,
    /// The result.
    #[schemars(with = "VerifyResult")]
    pub result: Finding,
    /// Ids of the pictures that show the result.
    pub evidence_ids: Vec<String>,
    /// True if the place was visible: enough looks with a clear, unobstructed view.
    pub visible: bool,
    /// Clear looks at the place since the request.
    pub looks: u32,
    /// Clear looks that saw the problem.
    pub looks_seen: u32,
    /// Share of the clear looks that support `result`; 0 if it is `unverifiable`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
}

/// JSON Schema of [`Finding`]; the engine does not depend on schemars.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum VerifyResult {
    /// The problem is still there （未处置）.
    StillPresent,
    /// The problem is gone, confirmed in a live, correctly aimed, lit and unobstructed view （已处置）.
    Cleared,
    /// Neither could be determined （无法核查）.
    Unverifiable,
}

/// One state change of a case, or several equal ones in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// Revision that resulted from the change; from the last one, if there were several.
    pub revision: u32,
    /// New state.
    pub state: CaseState,
    /// When the state changed; the first time, if there were several.
    pub at: When,
    /// Reason for the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many equal changes in a row this entry stands for; 1 if absent.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    #[schemars(range(min = 1))]
    pub times: u32,
    /// When the last of several equal changes happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<When>,
    /// How many changes before this one are left out, because the history is too long; 0 if absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
}

impl HistoryEntry {
    /// One change.
    pub fn new(revision: u32, state: CaseState, at: When, reason: Option<String>) -> Self {
        Self {
            revision,
            state,
            at,
            reason,
            times: 1,
            last_at: None,
            omitted: 0,
        }
    }
}

fn once() -> u32 {
    1
}

fn is_once(times: &u32) -> bool {
    *times == 1
}

fn is_zero(omitted: &u32) -> bool {
    *omitted == 0
}

/// A reply of the platform about a case. Unknown fields are rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "gridwatch reply, version 1")]
pub struct ReplyMessage {
    /// Id of the case.
    pub case_id: String,
    /// New state of the case. `filed` and `withdrawn` can only be set by the box.
    pub state: CaseState,
    /// Reason, such as why the case was rejected or which case it duplicates; at most 2000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Task number assigned by the platform; at most 128 characters （任务号）.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_task_no: Option<String>,
    /// When the platform made the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<When>,
    /// With `dispatched`: the time limit for disposal （处置期限）. The box verifies the problem then, unless `disposed` came
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<When>,
}

impl ReplyMessage {
    /// The reply as an engine input, received at `at`.
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
