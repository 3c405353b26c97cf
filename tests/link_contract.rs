//! The contract as other programs see it: the checked-in schema is the types', and what is sent is valid under it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/filing.rs"]
mod filing;

use std::{fs, path::Path};

use filing::{case, pictures, record, zone};
use gridwatch::link::{
    Settings, Tls,
    contract::{self, CaseRecord, EvidenceRole, Message, Purpose, ReplyMessage, When},
};
use serde_json::{Value, json};

fn sample() -> CaseRecord {
    let dir = tempfile::tempdir().unwrap();
    record(&case(1), pictures(dir.path(), 1))
}

/// After a change of the types: `GRIDWATCH_BLESS=1 cargo test --no-default-features --test link_contract`, and look at
/// the difference as a receiver would.
fn golden(path: &str, now: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("GRIDWATCH_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, now).unwrap();
    }
    let stored = fs::read_to_string(&file).unwrap_or_default();
    assert!(stored == now, "{path} is not what the program writes now:\n{now}");
}

#[test]
fn the_checked_in_schemas_are_the_types() {
    for message in Message::ALL {
        golden(
            &format!("configs/schema/{}.schema.json", message.as_str()),
            &message.schema(),
        );
    }
}

#[test]
fn the_asyncapi_document_is_the_types_and_its_references_lead_somewhere() {
    let text = contract::asyncapi();
    golden("configs/schema/asyncapi.json", &text);
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut left = vec![&document];
    let mut references = 0;
    while let Some(value) = left.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            references += 1;
            match reference.strip_prefix('#') {
                Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference}"),
                None => {
                    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                        .join("configs/schema")
                        .join(reference);
                    assert!(file.is_file(), "{reference}");
                }
            }
        }
        match value {
            Value::Array(values) => left.extend(values),
            Value::Object(values) => left.extend(values.values()),
            _ => {}
        }
    }
    assert_eq!(
        references,
        5 * 3 + 4 + 1,
        "channels, operations, payloads, and a case's reply"
    );
}

#[test]
fn the_golden_case_is_what_the_program_writes_and_valid() {
    let sent = serde_json::to_string_pretty(&sample()).unwrap() + "\n";
    golden("tests/fixtures/contract/case.json", &sent);
    let schema: Value = serde_json::from_str(&Message::Case.schema()).unwrap();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let value: Value = serde_json::from_str(&sent).unwrap();
    let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(serde_json::from_value::<CaseRecord>(value.clone()).unwrap(), sample());

    // The schema refuses what is no case.
    for (pointer, wrong) in [
        ("/case_id", json!("7")),
        ("/revision", json!(0)),
        ("/evidence", json!([])),
        ("/confidence", json!(1.5)),
        ("/state", json!("exploded")),
        ("/first_seen_at", json!("yesterday")),
        ("/evidence/0/sha256", json!("abc")),
    ] {
        let mut bad = value.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}

#[test]
fn unknown_fields_are_absent_not_null() {
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
fn times_carry_the_citys_offset_and_come_back_the_same() {
    let when = When::new("2026-05-01T00:00:00.123987Z".parse().unwrap(), &zone());
    let text = serde_json::to_string(&when).unwrap();
    assert_eq!(text, r#""2026-05-01T08:00:00.123+08:00""#);
    assert_eq!(serde_json::from_str::<When>(&text).unwrap(), when);
}

#[test]
fn a_box_at_the_pictures_edge_stays_in_the_picture() {
    let mut case = case(1);
    case.confirmed_box.x2 = 1.0;
    case.confirmed_box.y1 = 0.0;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        record(&case, pictures(dir.path(), 1)).extent.bbox_px,
        [480, 0, 1920, 810]
    );
}

#[test]
fn without_a_legal_review_a_case_is_a_lead() {
    assert_eq!(sample().purpose, Purpose::LeadOnly);
}

#[test]
fn each_picture_says_in_both_languages_what_it_shows_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let mut evidence = pictures(dir.path(), 1);
    evidence[0].captured_at = When::new(filing::at(600), &zone());
    let mut record = record(&case(1), evidence);
    let captions = |record: &CaseRecord| -> Vec<contract::Bilingual> {
        record.evidence.iter().map(|e| e.caption.clone().unwrap()).collect()
    };
    let filed = captions(&record);
    assert_eq!(
        filed[0].zh,
        "首次发现时全景：暴露垃圾，摄像机gate，2026-05-01 09:56:40 UTC+08:00"
    );
    assert_eq!(
        filed[1].en,
        "When confirmed, close-up: exposed garbage, camera gate, 2026-05-01 10:16:40 UTC+08:00"
    );

    record.camera.preset_id = Some("7".into());
    // As a record of an older version: the category's name in the box's language alone.
    record.category_names = None;
    for (role, zh, en) in [
        (EvidenceRole::Before, "处理前全景", "Before, whole view"),
        (EvidenceRole::After, "复查时全景", "When looked at again, whole view"),
        (EvidenceRole::Closeup, "复查时近景", "When looked at again, close-up"),
    ] {
        record.evidence[1].role = role;
        let caption = record.caption_verified(&record.evidence[1]);
        assert_eq!(
            caption.zh,
            format!("{zh}：暴露垃圾，摄像机gate，预置位7，2026-05-01 10:16:40 UTC+08:00")
        );
        assert_eq!(
            caption.en,
            format!("{en}: 暴露垃圾, camera gate, preset 7, 2026-05-01 10:16:40 UTC+08:00")
        );
    }
}

#[test]
fn a_misspelt_reply_is_refused() {
    let wrong = json!({"case_id": "x", "state": "accepted", "plattform_task_no": "1"});
    let said = serde_json::from_value::<ReplyMessage>(wrong).unwrap_err().to_string();
    assert!(said.contains("plattform_task_no"), "{said}");
}

#[test]
fn a_password_is_shown_nowhere() {
    let settings = Settings {
        login: Some(gridwatch::secret::Credentials {
            user: "box".into(),
            password: "hunter2".into(),
        }),
        tls: Some(Tls {
            ca_file: "/nowhere/ca.pem".into(),
            client: None,
        }),
        ..filing::settings(1)
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
