//! The checked-in schemas and golden messages match the types, and the messages are valid under their schemas.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/support/case.rs"]
mod case_fixture;

use std::{
    fs,
    path::{Path, PathBuf},
};

use case_fixture::{NODE, at, case, evidence_item, picture_bytes, record, record_in, zone};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract as contract;
use gridwatch_contract::{
    CameraHealth, CaseRecord, ClaimKey, ClaimMessage, ClaimStage, ClockHealth, EvidenceItem, EvidenceRole,
    HealthMessage, HeldBackCase, MessageType, PlatformMessage, Presence, Purpose, ReceiptMessage, ReplyMessage,
    SCHEMA_VERSION, SignedChainHead, StatusMessage, When,
};
use gridwatch_engine::{CaseState, PlaceMethod};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn pictures() -> Vec<EvidenceItem> {
    [EvidenceRole::Scene, EvidenceRole::Closeup, EvidenceRole::Overlay]
        .into_iter()
        .enumerate()
        .map(|(i, role)| {
            let bytes = picture_bytes(1, i, 8_000);
            evidence_item(i, role, bytes.len(), sha256_hex(&bytes))
        })
        .collect()
}

fn sample() -> CaseRecord {
    record(&case(1), pictures())
}

/// Root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares `current` with the checked-in file. To update the files after changing the types, run
/// `GRIDWATCH_BLESS=1 cargo test -p gridwatch-contract` and review the difference from a receiver's point of view.
fn golden(path: &str, current: &str) {
    let file = root().join(path);
    if std::env::var_os("GRIDWATCH_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, current).unwrap();
    }
    let stored = fs::read_to_string(&file).unwrap_or_default();
    assert!(stored == current, "{path} is out of date; it should be:\n{current}");
}

#[test]
fn checked_in_schemas_match_the_types() {
    for message in MessageType::ALL {
        golden(
            &format!("configs/schema/{}.schema.json", message.as_str()),
            &message.schema(),
        );
    }
}

#[test]
fn the_asyncapi_document_matches_the_types_and_its_references_resolve() {
    let text = contract::asyncapi();
    golden("configs/schema/asyncapi.json", &text);
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut remaining = vec![&document];
    let mut references = 0;
    while let Some(value) = remaining.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            references += 1;
            match reference.strip_prefix('#') {
                Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference}"),
                None => {
                    let file = root().join("configs/schema").join(reference);
                    assert!(file.is_file(), "{reference}");
                }
            }
        }
        match value {
            Value::Array(values) => remaining.extend(values),
            Value::Object(values) => remaining.extend(values.values()),
            _ => {}
        }
    }
    assert_eq!(
        references,
        8 * 3 + 7 + 1,
        "channels, operations, payloads and the reply of a case"
    );
}

/// The message matches the checked-in one, is valid under its schema and round-trips; the schema rejects it with any of the
/// values in `wrong` instead (JSON pointer, value).
fn assert_golden<T>(kind: MessageType, sample: &T, wrong: &[(&str, Value)])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let sent = serde_json::to_string_pretty(sample).unwrap() + "\n";
    golden(&format!("tests/fixtures/contract/{}.json", kind.as_str()), &sent);
    let schema: Value = serde_json::from_str(&kind.schema()).unwrap();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let value: Value = serde_json::from_str(&sent).unwrap();
    let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(serde_json::from_value::<T>(value.clone()).unwrap(), *sample);
    for (pointer, wrong) in wrong {
        let mut bad = value.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong.clone();
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}

fn when(second: i64) -> When {
    When::new(at(second), &zone())
}

#[test]
fn golden_case_is_current_and_valid() {
    assert_golden(
        MessageType::Case,
        &sample(),
        &[
            ("/case_id", json!("7")),
            ("/revision", json!(0)),
            ("/evidence", json!([])),
            ("/confidence", json!(1.5)),
            ("/state", json!("exploded")),
            ("/first_seen_at", json!("yesterday")),
            ("/evidence/0/sha256", json!("abc")),
        ],
    );
}

#[test]
fn golden_reply_is_current_and_valid() {
    let reply = ReplyMessage {
        case_id: sample().case_id,
        state: CaseState::Rejected,
        reason: Some("不属实".into()),
        platform_task_no: Some("T-2026-0042".into()),
        at: Some(when(3600)),
        due_at: None,
    };
    let wrong = [
        ("/case_id", json!(7)),
        ("/state", json!("exploded")),
        ("/at", json!("yesterday")),
    ];
    assert_golden(MessageType::Reply, &reply, &wrong);
}

#[test]
fn golden_receipt_is_current_and_valid() {
    let receipt = ReceiptMessage {
        case_id: sample().case_id,
        revision: 1,
        missing: vec![sample().evidence[2].sha256.clone()],
    };
    let wrong = [
        ("/case_id", json!(7)),
        ("/revision", json!(0)),
        ("/missing", json!(["abc"])),
    ];
    assert_golden(MessageType::Receipt, &receipt, &wrong);
    // A misspelt member would lose pictures.
    let misspelt = json!({"case_id": "01", "revision": 1, "mising": []});
    assert!(serde_json::from_value::<ReceiptMessage>(misspelt).is_err());
}

#[test]
fn golden_announcement_is_current_and_valid() {
    let announced = PlatformMessage {
        schema_version: SCHEMA_VERSION,
        receipts: true,
        name: "district platform".into(),
        since: Some(when(0)),
    };
    let wrong = [
        ("/receipts", json!("yes")),
        ("/name", json!("")),
        ("/since", json!("yesterday")),
    ];
    assert_golden(MessageType::Platform, &announced, &wrong);
}

#[test]
fn golden_claim_is_current_and_valid() {
    let claim = ClaimMessage {
        schema_version: SCHEMA_VERSION,
        case_id: sample().case_id,
        node_id: NODE.into(),
        category_code: "0102".into(),
        cell_code: "310115001001042".into(),
        lon: 121.5,
        lat: 31.2,
        uncertainty_m: 4.5,
        place_method: PlaceMethod::Homography,
        merge_radius_m: 8.0,
        advert_number: None,
        advert_text: None,
        filed: true,
        released: false,
        saying: "00000000075bcd15".into(),
        until: when(8 * 86_400),
        signature_algorithm: "ed25519".into(),
        public_key: "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=".into(),
        signature: Some(format!("{}==", "A".repeat(86))),
    };
    let wrong = [
        ("/case_id", json!("7")),
        ("/lat", json!(134.0)),
        ("/place_method", json!("guess")),
        ("/filed", json!("yes")),
        ("/until", json!("tomorrow")),
        ("/public_key", json!("3p1p")),
    ];
    assert_golden(MessageType::Claim, &claim, &wrong);
}

#[test]
fn golden_status_is_current_and_valid() {
    let status = StatusMessage {
        installation: Some("9f86d081884c7d659a2feaa0c55ad015".into()),
        schema_version: SCHEMA_VERSION,
        node_id: NODE.into(),
        state: Presence::Online,
        since: Some(when(0)),
        version: "0.1.0".into(),
        public_key: Some("Hh2zxwXpUe3W1qdAqaaJfZR6rFxEOo7Y3tRzUFCm0bQ=".into()),
    };
    let wrong = [
        ("/state", json!("away")),
        ("/since", json!("yesterday")),
        ("/public_key", json!("Hh2zxwXpUe3W1qdAqaaJfZR6rFxEOo7Y3tRzUFCm0b")),
    ];
    assert_golden(MessageType::Status, &status, &wrong);
}

#[test]
fn golden_health_is_current_and_valid() {
    let camera = |local_id: &str, state: &str| CameraHealth {
        local_id: local_id.into(),
        state: state.into(),
        view: None,
        looks: 0,
        last_look_age_s: None,
    };
    let health = HealthMessage {
        schema_version: SCHEMA_VERSION,
        node_id: NODE.into(),
        at: when(60),
        clock: Some(ClockHealth {
            synchronised: true,
            offset_ms: Some(-2),
            error_ms: Some(15),
        }),
        chain: Some(SignedChainHead {
            head: format!(
                r#"{{"seq":41,"hash":"{}","at":"2026-05-01T02:17:00Z","node_id":"{NODE}","public_key":"{}="}}"#,
                "5".repeat(64),
                "A".repeat(43),
            ),
            signature: format!("{}==", "A".repeat(86)),
        }),
        outbox_depth: 3,
        awaiting_receipt: Some(4),
        held_back: vec![HeldBackCase {
            case_id: sample().case_id,
            other_node_id: "box-02".into(),
            other_case_id: "01JW0000000000000000000009".into(),
            filed: true,
            since: when(30),
        }],
        cameras: vec![
            CameraHealth {
                view: Some("clear".into()),
                looks: 1440,
                last_look_age_s: Some(4.25),
                ..camera("gate", "live")
            },
            camera("lane", "connecting"),
        ],
    };
    let wrong = [
        ("/at", json!("yesterday")),
        ("/outbox_depth", json!(-1)),
        ("/cameras/0/looks", json!("many")),
        ("/cameras/0/last_look_age_s", json!("4 s")),
    ];
    assert_golden(MessageType::Health, &health, &wrong);
}

#[test]
fn absent_optional_fields_are_omitted_not_null() {
    fn no_null(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Array(a) => a.iter().all(no_null),
            Value::Object(o) => o.values().all(no_null),
            _ => true,
        }
    }
    let value = serde_json::to_value(sample()).unwrap();
    assert!(no_null(&value), "{value}");
    assert!(value.get("recurrence").is_none());
}

#[test]
fn times_carry_the_local_utc_offset_and_round_trip() {
    let when = When::new("2026-05-01T00:00:00.123987Z".parse().unwrap(), &zone());
    let text = serde_json::to_string(&when).unwrap();
    assert_eq!(text, r#""2026-05-01T08:00:00.123+08:00""#);
    assert_eq!(serde_json::from_str::<When>(&text).unwrap(), when);
}

#[test]
fn a_bounding_box_at_the_edge_stays_inside_the_picture() {
    let mut case = case(1);
    case.confirmed_box.x2 = 1.0;
    case.confirmed_box.y1 = 0.0;
    assert_eq!(record(&case, pictures()).extent.bbox_px, [480, 0, 1920, 810]);
}

#[test]
fn a_case_without_a_legal_review_is_only_a_lead() {
    assert_eq!(sample().purpose, Purpose::LeadOnly);
}

#[test]
fn pictures_have_captions_in_both_languages() {
    let mut evidence = pictures();
    evidence[0].captured_at = When::new(at(600), &zone());
    let mut record = record(&case(1), evidence);
    let captions = |record: &CaseRecord| -> Vec<contract::Bilingual> {
        record.evidence.iter().map(|e| e.caption.clone().unwrap()).collect()
    };
    let filed = captions(&record);
    assert_eq!(
        filed[0].zh,
        "首次发现时全景：暴露垃圾，点位gate，2026-05-01 09:56:40 UTC+08:00"
    );
    assert_eq!(
        filed[1].en,
        "Confirmed, close-up: exposed garbage, camera gate, 2026-05-01 10:16:40 UTC+08:00"
    );

    record.camera.preset_id = Some("7".into());
    // As in a record of an older version: the category name in the box's language only.
    record.category_names = None;
    for (role, zh, en) in [
        (EvidenceRole::Before, "处置前全景", "Before, full view"),
        (EvidenceRole::After, "核查时全景", "Verification, full view"),
        (EvidenceRole::Closeup, "核查时近景", "Verification, close-up"),
    ] {
        record.evidence[1].role = role;
        let caption = record.caption_verified(&record.evidence[1]);
        assert_eq!(
            caption.zh,
            format!("{zh}：暴露垃圾，点位gate，预置位7，2026-05-01 10:16:40 UTC+08:00")
        );
        assert_eq!(
            caption.en,
            format!("{en}: 暴露垃圾, camera gate, preset 7, 2026-05-01 10:16:40 UTC+08:00")
        );
    }
}

#[test]
fn a_reply_with_an_unknown_field_is_rejected() {
    let wrong = json!({"case_id": "x", "state": "accepted", "plattform_task_no": "1"});
    let error = serde_json::from_value::<ReplyMessage>(wrong).unwrap_err().to_string();
    assert!(error.contains("plattform_task_no"), "{error}");
}

/// An unidentified object is described as such in both languages, not as what its category usually is.
#[test]
fn an_unidentified_object_is_described_as_such() {
    let unknown = gridwatch_engine::Case {
        is_unidentified: true,
        ..case(1)
    };
    let filed = record(&unknown, pictures());
    let said = "发现此前没有的不明物体，首次发现时间2026-05-01 09:46:40，";
    assert!(filed.description.contains(said), "{}", filed.description);
    let said = "模型无法识别该物体，暂按“暴露垃圾”上报，请核实是何物。";
    assert!(filed.description.contains(said), "{}", filed.description);
    for item in &filed.evidence {
        let caption = item.caption.as_ref().unwrap();
        assert!(
            caption.zh.contains("：不明物体，") && !caption.zh.contains("暴露垃圾"),
            "{}",
            caption.zh
        );
        assert!(caption.en.contains(": unidentified object, "), "{}", caption.en);
    }
    let english = record_in(gridwatch_base::language::Language::En, &unknown, pictures()).description;
    let said = "detected an unidentified object that was not there before at 世纪大道88号门前: first seen 2026-05-01 09:46:40, ";
    assert!(english.contains(said), "{english}");
    assert!(
        english.contains("filed under “exposed garbage” so that a person looks at it"),
        "{english}"
    );
    let schema: Value = serde_json::from_str(&MessageType::Case.schema()).unwrap();
    let value = serde_json::to_value(&filed).unwrap();
    assert!(
        value["unidentified"] == true && jsonschema::is_valid(&schema, &value),
        "{value}"
    );
    // A record of an older version, or of a recognised object, has no such member.
    let value = serde_json::to_value(sample()).unwrap();
    assert_eq!(value.get("unidentified"), None);
    assert!(!serde_json::from_value::<CaseRecord>(value).unwrap().unidentified);
}

#[test]
fn an_adverts_text_is_in_the_record_the_description_and_the_claim() {
    let advert = gridwatch_engine::Case {
        number: Some("13800138000".into()),
        text: Some(gridwatch_engine::TextReading {
            text: "专业开锁 13800138000".into(),
            score: 0.913_2,
        }),
        ..case(1)
    };
    let filed = record(&advert, pictures());
    assert_eq!(filed.advert_text.as_deref(), Some("专业开锁 13800138000"));
    assert_eq!(filed.advert_text_confidence, Some(0.913));
    let said = "发现暴露垃圾（电话13800138000，文字“专业开锁 13800138000”），";
    assert!(filed.description.contains(said), "{}", filed.description);
    let schema: Value = serde_json::from_str(&MessageType::Case.schema()).unwrap();
    let value = serde_json::to_value(&filed).unwrap();
    assert!(jsonschema::is_valid(&schema, &value), "{value}");

    let without_number = gridwatch_engine::Case { number: None, ..advert };
    let said = "（文字“专业开锁 13800138000”）";
    assert!(record(&without_number, pictures()).description.contains(said));
    let claim = without_number.claim(&NODE.into());
    let key = ClaimKey {
        algorithm: "ed25519".into(),
        public_key: String::new(),
    };
    let message = ClaimMessage::new(&claim, ClaimStage::Filed, 7, when(1), &key);
    assert_eq!(message.claim().unwrap().text, claim.text);
    // A claim of another box may say anything.
    let long = ClaimMessage {
        advert_text: Some("长".repeat(100_000)),
        ..message
    };
    let text = long.claim().unwrap().text.unwrap();
    assert_eq!(text.as_str().chars().count(), gridwatch_engine::AdvertText::MAX_CHARS);
}
