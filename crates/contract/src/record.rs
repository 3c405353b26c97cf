//! Builds the case record from the engine's case and the daemon's context: camera, models, pictures, grid.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Bilingual, CameraInfo, CaseRecord, EvidenceItem, EvidenceRole, Extent, HistoryEntry, Location, ModelInfo,
    PresenceEntry, Purpose, Recurrence, ReportKind, RuleInfo, SCHEMA_VERSION, Source, Verification, When,
};
use gridwatch_base::{clock::ClockSync, language::Language};
use gridwatch_engine::{BBox, Case, CaseState, Finding, Verified};

/// What a record contains besides the engine's case.
#[derive(Debug, Clone)]
pub struct RecordContext<'a> {
    /// Id of this box.
    pub node: &'a str,
    /// Language of the description and of `category_name`.
    pub language: Language,
    /// Time zone of the city.
    pub zone: &'a TimeZone,
    /// Version of the grid.
    pub grid_version: &'a str,
    /// Coordinate reference system of the grid.
    pub crs: &'a str,
    /// The camera that saw the problem.
    pub camera: CameraInfo,
    /// Address configured for the camera's view.
    pub address: Option<String>,
    /// The model that detected it.
    pub model: ModelInfo,
    /// Other models that detect for the same rule.
    pub other_models: Vec<ModelInfo>,
    /// SHA-256 of the configuration in force, lower-case hex.
    pub config_sha256: &'a str,
    /// Width and height of the confirming picture, in pixels.
    pub picture: (u32, u32),
    /// The pictures, already written to the store.
    pub evidence: Vec<EvidenceItem>,
    /// When the case is filed.
    pub filed_at: Timestamp,
    /// Clock synchronisation at that time; `None` if not synchronised or unknown.
    pub clock: Option<ClockSync>,
}

impl CaseRecord {
    /// Id of the view that filed the case: `CAMERA`, or `CAMERA.PRESET`.
    pub fn view(&self) -> String {
        match &self.camera.preset_id {
            Some(preset) => format!("{}.{preset}", self.camera.local_id),
            None => self.camera.local_id.clone(),
        }
    }

    /// The object's box when the case was confirmed, as fractions of the picture. `None` if the record has no picture with a size.
    pub fn bbox(&self) -> Option<BBox> {
        let mut pictures = self.evidence.iter();
        let scene = pictures.rfind(|e| e.role == EvidenceRole::Scene && e.width > 0 && e.height > 0)?;
        let [x1, y1, x2, y2] = self.extent.bbox_px.map(|v| v as f32);
        let (w, h) = (scene.width as f32, scene.height as f32);
        Some(BBox {
            x1: x1 / w,
            y1: y1 / h,
            x2: x2 / w,
            y2: y2 / h,
        })
    }

    /// The states that it has had, the current one last.
    pub fn states(&self) -> impl Iterator<Item = CaseState> {
        self.history.iter().map(|entry| entry.state).chain([self.state])
    }

    /// The first revision of `case`, in state `filed`.
    pub fn new(case: &Case, context: RecordContext<'_>) -> Self {
        let when = |at| When::new(at, context.zone);
        let address = context.address.filter(|a| !a.is_empty());
        let description = describe(case, address.as_deref(), context.language, context.zone);
        let (w, h) = (f64::from(context.picture.0), f64::from(context.picture.1));
        let b = case.confirmed_box;
        // Clamped, because rounding may exceed the edge of the picture.
        let px = |v: f32, size: f64| (f64::from(v) * size).round().clamp(0.0, size) as u32;
        let filed_at = context.filed_at.max(case.confirmed_at);
        let mut record = Self {
            schema_version: SCHEMA_VERSION,
            case_id: case.id.to_string(),
            revision: 1,
            platform_task_no: None,
            source: Source::AiVideo,
            node_id: context.node.into(),
            report_kind: ReportKind::New,
            category_code: case.category.code.clone(),
            category_scheme: case.category.scheme.clone(),
            category_name: match context.language {
                Language::Zh => case.category.name_zh.clone(),
                Language::En => case.category.name_en.clone(),
            },
            category_names: Some(Bilingual {
                zh: case.category.name_zh.clone(),
                en: case.category.name_en.clone(),
            }),
            unidentified: case.is_unidentified,
            cell_code: case.located.cell.to_string(),
            grid_version: context.grid_version.into(),
            location: Location {
                lon: case.located.at.lon,
                lat: case.located.at.lat,
                crs: context.crs.into(),
                uncertainty_m: case.located.uncertainty_m,
                method: case.located.method,
            },
            address,
            description,
            first_seen_at: when(case.first_seen_at),
            confirmed_at: when(case.confirmed_at),
            filed_at: when(filed_at),
            last_seen_at: when(case.confirmed_at),
            clock_offset_ms: context.clock.map(|c| c.offset_ms),
            clock_error_ms: context.clock.map(|c| c.error_ms),
            purpose: match context.camera.legal_review_ref {
                Some(_) => Purpose::PenaltyCandidate,
                None => Purpose::LeadOnly,
            },
            camera: context.camera,
            model: context.model,
            other_models: context.other_models,
            config_sha256: context.config_sha256.into(),
            confidence: round3(f64::from(case.confidence)),
            confidence_closer: case.second_look_score.map(|score| round3(score.into())),
            rule: RuleInfo {
                id: case.rule.to_string(),
                dwell_s: round3(case.dwell.as_secs_f64()),
                frames_seen: case.looks_seen,
                frames_sampled: case.looks,
                zone_id: case.zone.as_ref().map(ToString::to_string),
                schedule_id: case.schedule.as_ref().map(ToString::to_string),
            },
            extent: Extent {
                area_m2: case.area_m2.map(round3),
                count: case.count,
                bbox_px: [px(b.x1, w), px(b.y1, h), px(b.x2, w), px(b.y2, h)],
            },
            presence: case
                .journal
                .iter()
                .map(|noted| PresenceEntry {
                    reason: noted.reason.as_str().into(),
                    first_at: when(noted.first_at),
                    last_at: when(noted.last_at),
                    times: noted.times,
                })
                .collect(),
            evidence: context.evidence,
            dedup_key: case.dedup_key.clone(),
            advert_number: case.number.as_ref().map(ToString::to_string),
            advert_text: case.text.as_ref().map(|t| t.text.to_string()),
            advert_text_confidence: case.text.as_ref().map(|t| round3(t.score.into())),
            recurrence: case.recurrence.as_ref().map(|r| Recurrence {
                of_case_id: r.of.to_string(),
                count: r.count,
                days_since_close: round3(r.since_close.as_secs_f64() / 86400.0),
            }),
            verification: Vec::new(),
            state: CaseState::Filed,
            history: vec![HistoryEntry::new(1, CaseState::Filed, when(filed_at), None)],
            prev_hash: None,
            prev_seq: None,
            signature_algorithm: None,
            signature: None,
        };
        record.caption_filed();
        record
    }

    /// Adds a verification. Of more than the record may have, the oldest are left out, with their pictures.
    pub fn add_verification(&mut self, verification: Verification) {
        self.verification.push(verification);
        while self.verification.len() > VERIFICATIONS {
            let oldest = self.verification.remove(0);
            self.evidence.retain(|item| !oldest.evidence_ids.contains(&item.id));
        }
    }

    /// Adds a change to the history. An equal one in a row is counted. Of a history that becomes too long, the first entries and
    /// the newest stay: what others write must not make the record grow without limit.
    pub fn add_history(&mut self, entry: HistoryEntry) {
        if let Some(last) = self.history.last_mut()
            && (last.state, &last.reason) == (entry.state, &entry.reason)
        {
            last.revision = entry.revision;
            last.times = last.times.saturating_add(entry.times);
            last.last_at = Some(entry.at);
            return;
        }
        self.history.push(entry);
        let is_too_long = |history: &[HistoryEntry]| {
            let reasons: usize = history.iter().filter_map(|e| e.reason.as_ref()).map(String::len).sum();
            history.len() > HISTORY_ENTRIES || (reasons > HISTORY_REASON_BYTES && history.len() > HISTORY_FIRST + 2)
        };
        while is_too_long(&self.history) {
            let dropped = self.history.remove(HISTORY_FIRST);
            if let Some(next) = self.history.get_mut(HISTORY_FIRST) {
                next.omitted = next
                    .omitted
                    .saturating_add(dropped.omitted)
                    .saturating_add(dropped.times);
            }
        }
    }
}

/// Verifications in a record. A platform asks once or twice about a case.
const VERIFICATIONS: usize = 20;

/// Entries of a record's history; a case that is accepted, dispatched, verified and closed has some ten.
const HISTORY_ENTRIES: usize = 40;

/// First entries that always stay: how the case began.
const HISTORY_FIRST: usize = 4;

/// Total length of the reasons in a record's history. One reason has at most 2,000 characters.
const HISTORY_REASON_BYTES: usize = 16 << 10;

impl Verification {
    /// The entry for a verification; `evidence` are the ids of the pictures that show its result.
    pub fn new(answer: &Verified, evidence: Vec<String>, zone: &TimeZone) -> Self {
        let (looks, seen) = (f64::from(answer.looks.max(1)), f64::from(answer.looks_seen));
        Self {
            asked_at: When::new(answer.asked_at, zone),
            checked_at: When::new(answer.at, zone),
            result: answer.finding,
            evidence_ids: evidence,
            visible: answer.finding != Finding::Unverifiable,
            looks: answer.looks,
            looks_seen: answer.looks_seen,
            confidence: match answer.finding {
                Finding::StillPresent => round3(seen / looks),
                Finding::Cleared => round3(1.0 - seen / looks),
                Finding::Unverifiable => 0.0,
            },
        }
    }
}

/// Rounds to three decimals, the precision of scores and durations; an `f32` score would print as `0.8700000047683716`.
fn round3(v: f64) -> f64 {
    (v * 1000.0).round() / 1000.0
}

/// The description for the clerk: what, where, since when, for how long, and in how many looks it was detected. It states
/// facts only; whether a violation exists is for the clerk to decide. What no model recognised is described as such, and not as what the
/// category usually is.
fn describe(case: &Case, address: Option<&str>, language: Language, zone: &TimeZone) -> String {
    let since = case
        .first_seen_at
        .to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string();
    let (cell, camera) = (&case.located.cell, &case.camera);
    let (seen, looks, near) = (case.looks_seen, case.looks, case.located.uncertainty_m.ceil());
    let seconds = case.dwell.as_secs();
    let what = what_was_found(case, language);
    match language {
        Language::Zh => {
            let place = address.map_or_else(|| format!("单元网格{cell}（点位{camera}）"), ToString::to_string);
            let dwell = match seconds {
                0..120 => format!("{seconds}秒"),
                _ => format!("{}分钟", seconds / 60),
            };
            let filed_as = match case.is_unidentified {
                true => format!(
                    "模型无法识别该物体，暂按“{}”上报，请核实是何物。",
                    case.category.name_zh
                ),
                false => String::new(),
            };
            format!(
                "视频AI在{place}发现{what}，首次发现时间{since}，已持续{dwell}，巡检{looks}次、检出{seen}次。{filed_as}所属单元网格{cell}，定位误差约{near}米。请核实。"
            )
        }
        Language::En => {
            let place = address.map_or_else(|| format!("cell {cell} (camera {camera})"), ToString::to_string);
            let dwell = match seconds {
                0..120 => format!("{seconds} seconds"),
                _ => format!("{} minutes", seconds / 60),
            };
            let filed_as = match case.is_unidentified {
                true => format!(
                    " No model recognises it; it is filed under “{}” so that a person looks at it.",
                    case.category.name_en
                ),
                false => String::new(),
            };
            format!(
                "Video AI detected {what} at {place}: first seen {since}, present for {dwell}, detected in {seen} of {looks} looks.{filed_as} Grid cell {cell}, location accurate to about {near} m. Please verify."
            )
        }
    }
}

/// The object: its category with what was read on it, or that it is unidentified and was not there before.
fn what_was_found(case: &Case, language: Language) -> String {
    let (number, text) = (case.number.as_ref(), case.text.as_ref().map(|t| &t.text));
    let read: Vec<String> = match language {
        Language::Zh => [number.map(|n| format!("电话{n}")), text.map(|t| format!("文字“{t}”"))],
        Language::En => [
            number.map(|n| format!("telephone {n}")),
            text.map(|t| format!("text “{t}”")),
        ],
    }
    .into_iter()
    .flatten()
    .collect();
    match (language, case.is_unidentified) {
        (Language::Zh, true) => "此前没有的不明物体".into(),
        (Language::En, true) => "an unidentified object that was not there before".into(),
        (Language::Zh, false) if read.is_empty() => case.category.name_zh.clone(),
        (Language::Zh, false) => format!("{}（{}）", case.category.name_zh, read.join("，")),
        (Language::En, false) if read.is_empty() => case.category.name_en.clone(),
        (Language::En, false) => format!("{} ({})", case.category.name_en, read.join(", ")),
    }
}
