//! A platform with its own JSON format, defined by the example template, follows a case from filing to withdrawal.

use std::collections::BTreeSet;

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{at, case, file_as, link, pictures, revision, topics, zone};
use crate::platform::wait_outbox_empty;
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::{EvidenceItem, EvidenceRole, Form, Template};
use gridwatch_engine::{CaseState, Finding, Verified};
use gridwatch_store::{ReplyOutcome, Revision, Store};
use serde_json::{Value, json};

/// The form with the template that an operator would set in `broker.template`.
fn city_form() -> Form {
    let file = format!("{}/configs/platform/example.json", env!("CARGO_MANIFEST_DIR"));
    Form {
        topics: topics(),
        template: Some(Template::parse(&std::fs::read_to_string(file).unwrap()).unwrap()),
        shares_sites: None,
    }
}

/// A platform that knows only its own JSON.
#[derive(Default)]
struct CityPlatform {
    pictures: BTreeSet<String>,
}

impl CityPlatform {
    /// The next case message; its pictures must have arrived before.
    async fn next(&mut self, subscriber: &mut Subscriber) -> Value {
        loop {
            // Not in the contract's format.
            let message = subscriber.next_unchecked().await;
            if let Some((_, sha256)) = topic(&message).split_once("/evidence/") {
                assert_eq!(sha256_hex(&message.payload), sha256);
                self.pictures.insert(sha256.into());
            } else if topic(&message) == topics().case() {
                let case: Value = serde_json::from_slice(&message.payload).unwrap();
                for media in case["mediaList"].as_array().unwrap() {
                    let sha256 = media["sha256"].as_str().unwrap();
                    assert!(self.pictures.contains(sha256), "picture must come first: {media}");
                    assert_eq!(media["topic"], topics().evidence(sha256));
                }
                return case;
            }
        }
    }
}

/// A verification with result `cleared`, and its picture.
fn cleared(store: &Store) -> (Verified, Vec<EvidenceItem>) {
    let case = case(1);
    let answer = Verified {
        case: case.id.clone(),
        camera: case.camera,
        bbox: case.confirmed_box,
        asked_at: at(6000),
        at: at(6600),
        finding: Finding::Cleared,
        is_look: true,
        looks: 4,
        looks_seen: 0,
    };
    let mut after = pictures(store.dir(), 77);
    after.truncate(1);
    after[0].role = EvidenceRole::After;
    (answer, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_gets_its_own_json_from_filing_to_withdrawal() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (_link, mut replies) = link(broker.port, &store);
    let id = file_as(&mut store, 1, 8_000, &city_form());
    let mut platform = CityPlatform::default();

    let filed = platform.next(&mut subscriber).await;
    let task = &filed["taskInfo"];
    let expected = json!({
        "caseNo": id, "sourceType": "7", "mainType": "0102", "typeName": "暴露垃圾", "gridCode": "310115001001042",
        "coordinateX": 121.5, "coordinateY": 31.2, "address": "世纪大道88号门前", "deviceId": "31011500001320000001",
        "reportTime": "2026-05-01 10:16:41", "status": 1, "reportKind": "上报",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&task[name], value, "{name}");
    }
    assert!(task["description"].as_str().unwrap().contains("暴露垃圾"), "{task}");
    assert_eq!(filed["checks"], json!([]));
    let usages = |case: &Value| -> Vec<String> {
        let media = case["mediaList"].as_array().unwrap().iter();
        media.map(|m| m["mediaUsage"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(usages(&filed), ["上报"; 3]);

    // Replies keep the contract's format.
    for (state, second) in [("dispatched", 5000), ("disposed", 6000)] {
        let text = json!({"case_id": id, "state": state, "reason": "已派单", "platform_task_no": "T-1"}).to_string();
        subscriber.publish(&topics().reply(), &text, Some(&id)).await;
        let incoming = within(replies.recv()).await.unwrap();
        let decided = revision(incoming.reply.case.as_str(), incoming.reply.state, second, "已派单");
        let applied = store.apply_reply(&incoming.message, at(second), Some(&decided), &city_form());
        assert!(matches!(applied.unwrap(), ReplyOutcome::Revised(_)));
        incoming.committed.send(()).unwrap();
    }

    let (answer, after) = cleared(&store);
    store
        .record_verification(&answer, after, &zone(), &city_form())
        .unwrap();
    let checked = platform.next(&mut subscriber).await;
    let task = &checked["taskInfo"];
    assert_eq!((&task["caseNo"], &task["reportKind"]), (&json!(id), &json!("核查")));
    assert_eq!(task["status"], "disposed", "a state that the template does not map");
    assert_eq!(
        checked["checks"],
        json!([{"result": 1, "time": "2026-05-01 11:36:40", "media": ["v1.1", "v1.2"]}])
    );
    assert_eq!(usages(&checked), ["上报", "上报", "上报", "处置前", "处置后"]);
    let media = checked["mediaList"].as_array().unwrap();
    assert_eq!(
        (&media[3]["mediaNo"], &media[4]["mediaNo"]),
        (&json!("v1.1"), &json!("v1.2"))
    );

    let withdrawal = Revision {
        reason: "no reply from the platform".into(),
        ..revision(&id, CaseState::Withdrawn, 9000, "")
    };
    store.revise(&withdrawal, &city_form()).unwrap();
    let withdrawn = platform.next(&mut subscriber).await;
    assert_eq!(
        (&withdrawn["taskInfo"]["status"], &withdrawn["taskInfo"]["reportKind"]),
        (&json!(9), &json!("撤销"))
    );
    wait_outbox_empty(&store).await;
    // The box keeps the contract's signed record.
    let record = store.case(&id).unwrap().unwrap().record;
    assert_eq!(record.platform_task_no.as_deref(), Some("T-1"));
    assert!(record.signature.is_some());
}
