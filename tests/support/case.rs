//! Sample cases: the engine's case and the record built from it.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::time::Duration;

use gridwatch_base::{clock::ClockSync, language::Language};
use gridwatch_contract::{
    CameraInfo, CaseRecord, EvidenceItem, EvidenceRole, Form, ModelInfo, RecordContext, Topics, When,
};
use gridwatch_engine::{BBox, Case, Category, JournalEntry, Location, LonLat, PlaceMethod, Reason};
use jiff::{Timestamp, tz::TimeZone};

pub const NODE: &str = "box-7";

pub fn topics() -> Topics {
    Topics::new("gridwatch", &NODE.into())
}

/// The contract's own form.
pub fn form() -> Form {
    topics().into()
}

pub fn zone() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(8))
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_777_600_000 + second).expect("in range")
}

/// The `n`th case, exposed garbage.
pub fn case(n: u32) -> Case {
    let id = ulid::Ulid::from_parts(1_777_600_000_000 + u64::from(n), u128::from(n)).to_string();
    Case {
        id: id.into(),
        rule: "garbage".into(),
        category: Category {
            code: "0102".into(),
            scheme: "demo@1".into(),
            name_zh: "暴露垃圾".into(),
            name_en: "exposed garbage".into(),
        },
        camera: "gate".into(),
        zone: Some("pavement".into()),
        schedule: None,
        located: Location {
            at: LonLat { lon: 121.5, lat: 31.2 },
            uncertainty_m: 4.5,
            method: PlaceMethod::Homography,
            cell: "310115001001042".into(),
        },
        dedup_key: format!("310115001001042/0102/site-{n}"),
        first_seen_at: at(0),
        first_box: BBox {
            x1: 0.25,
            y1: 0.5,
            x2: 0.5,
            y2: 0.75,
        },
        confirmed_at: at(1800),
        confirmed_box: BBox {
            x1: 0.25,
            y1: 0.5,
            x2: 0.5,
            y2: 0.75,
        },
        dwell: Duration::from_secs(1800),
        looks_seen: 170,
        looks: 181,
        confidence: 0.87,
        appearance: None,
        number: None,
        text: None,
        second_look_score: None,
        count: 1,
        area_m2: None,
        is_unidentified: false,
        merge_radius_m: 8.0,
        recurrence: None,
        journal: vec![
            noted(Reason::Appeared, 0, 0, 1),
            noted(Reason::Hidden, 300, 900, 2),
            noted(Reason::SeenAgain, 360, 960, 2),
            noted(Reason::Confirmed, 1800, 1800, 1),
        ],
    }
}

/// Content of picture `i` of the `n`th case, at least `size` bytes and different from all others.
pub fn picture_bytes(n: u32, i: usize, size: usize) -> Vec<u8> {
    let text = format!("case {n} picture {i} ");
    text.repeat(size / text.len() + 1).into_bytes()
}

/// Evidence item `i` for a picture of `bytes` bytes.
pub fn evidence_item(i: usize, role: EvidenceRole, bytes: usize, sha256: String) -> EvidenceItem {
    EvidenceItem {
        id: format!("e{i}"),
        role,
        bytes: bytes as u64,
        mime: "image/jpeg".into(),
        width: 1920,
        height: 1080,
        captured_at: When::new(at(1800), &zone()),
        derived_from: None,
        masked: true,
        topic_or_uri: topics().evidence(&sha256),
        caption: None,
        sha256,
    }
}

pub fn record(case: &Case, evidence: Vec<EvidenceItem>) -> CaseRecord {
    record_in(Language::Zh, case, evidence)
}

pub fn record_in(language: Language, case: &Case, evidence: Vec<EvidenceItem>) -> CaseRecord {
    CaseRecord::new(
        case,
        RecordContext {
            node: NODE,
            language,
            zone: &zone(),
            grid_version: "2026-01",
            crs: "EPSG:4490",
            camera: CameraInfo {
                local_id: "gate".into(),
                gb_device_id: Some("31011500001320000001".into()),
                preset_id: None,
                calibration_version: None,
                legal_review_ref: None,
            },
            address: Some("世纪大道88号门前".into()),
            model: ModelInfo {
                id: "garbage_nano".into(),
                version: "1".into(),
                sha256: "ab".repeat(32),
                runtime: "onnxruntime 1.31.1".into(),
            },
            other_models: Vec::new(),
            config_sha256: &"cd".repeat(32),
            picture: (1920, 1080),
            evidence,
            filed_at: at(1801),
            clock: Some(ClockSync {
                offset_ms: -3,
                error_ms: 21,
            }),
        },
    )
}

/// The record before the store signed it.
pub fn unsealed(record: &CaseRecord) -> CaseRecord {
    CaseRecord {
        prev_hash: None,
        prev_seq: None,
        signature_algorithm: None,
        signature: None,
        ..record.clone()
    }
}

fn noted(reason: Reason, first: i64, last: i64, times: u32) -> JournalEntry {
    JournalEntry {
        reason,
        first_at: at(first),
        last_at: at(last),
        times,
    }
}
