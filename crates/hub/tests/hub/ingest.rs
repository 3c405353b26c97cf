//! What a hostile or broken sender may publish.

use bytes::Bytes;
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::{CaseRecord, EvidenceRole};
use gridwatch_custody::{SigningKey, seal};
use gridwatch_hub::{
    HubError,
    database::{Database, Limits},
    ingest::{Ingest, Taken},
    pictures::Pictures,
};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::{
    case_fixture::{NODE, case, evidence_item, record, topics},
    databases::{Kind, TestDatabase, kinds},
};

struct Desk {
    ingest: Ingest,
    database: Database,
    key: SigningKey,
    _folder: TempDir,
    _database: TestDatabase,
}

const JPEG: &[u8] = &[0xff, 0xd8, 0xff, 0xd9];

impl Desk {
    async fn new(kind: Kind) -> Self {
        Self::with_limits(kind, Limits::default()).await
    }

    async fn with_limits(kind: Kind, limits: Limits) -> Self {
        let (test, folder) = (TestDatabase::start(kind), tempfile::tempdir().unwrap());
        let database = Database::open(&test.url).await.unwrap().with_limits(limits);
        let pictures = Pictures::folder(folder.path()).unwrap();
        let key = SigningKey::generate().unwrap().1;
        database
            .confirm_key(NODE, &key.public(), "operator", Timestamp::now())
            .await
            .unwrap();
        Self {
            ingest: Ingest::new(database.clone(), pictures, "gridwatch").unwrap(),
            database,
            key,
            _folder: folder,
            _database: test,
        }
    }

    async fn take(&self, topic: &str, payload: impl Into<Bytes>) -> Taken {
        self.ingest
            .take(topic, &payload.into(), Timestamp::now())
            .await
            .unwrap()
    }

    async fn case(&self, payload: String) -> Taken {
        self.take(&topics().case(), payload).await
    }

    fn sealed(&self, record: &CaseRecord) -> String {
        seal(&self.key, &serde_json::to_string(record).unwrap()).unwrap()
    }
}

fn sample(n: u32) -> CaseRecord {
    let sha256 = sha256_hex(JPEG);
    record(
        &case(n),
        vec![evidence_item(0, EvidenceRole::Scene, JPEG.len(), sha256)],
    )
}

#[track_caller]
fn assert_refused(taken: &Taken, why: &str) {
    assert!(
        matches!(taken, Taken::DeadLetter(reason) if reason.contains(why)),
        "{taken:?}, not {why:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_taken_is_a_dead_letter_with_the_reason() {
    for kind in kinds() {
        let desk = Desk::new(kind).await;
        let good = sample(1);
        let text = desk.sealed(&good);
        assert_refused(&desk.case("{".into()).await, "not JSON");
        assert_refused(&desk.take(&topics().case(), &b"\xff\xfe"[..]).await, "not UTF-8");
        assert_refused(&desk.case(String::new()).await, "empty");
        assert_refused(&desk.case("{}".into()).await, "schema_version");
        assert_refused(
            &desk
                .case(text.replace("\"schema_version\":1", "\"schema_version\":2"))
                .await,
            "schema_version",
        );
        assert_refused(
            &desk.case(text.replace("\"confidence\":0.87", "\"confidence\":7")).await,
            "confidence",
        );
        assert_refused(&desk.case(format!("{text}{}", " ".repeat(1 << 20))).await, "at most");
        assert_refused(&desk.case(serde_json::to_string(&good).unwrap()).await, "not signed");
        // The signature is checked byte by byte.
        assert_refused(&desk.case(text.replace("0.87", "0.88")).await, "no confirmed key");
        let other = SigningKey::generate().unwrap().1;
        let forged = seal(&other, &serde_json::to_string(&good).unwrap()).unwrap();
        assert_refused(&desk.case(forged).await, "no confirmed key");
        let unknown = CaseRecord {
            signature_algorithm: Some("rot13".into()),
            ..good.clone()
        };
        assert_refused(&desk.case(desk.sealed(&unknown)).await, "rot13");
        let elsewhere = desk.take("gridwatch/v1/box-8/case", text.clone()).await;
        assert_refused(&elsewhere, "node_id is \"box-7\"");
        let evidence = |hash: &str| topics().evidence(hash);
        assert_refused(&desk.take(&evidence(&sha256_hex(b"x")), JPEG).await, "SHA-256");
        assert_refused(
            &desk.take(&evidence(&sha256_hex(b"<html>")), &b"<html>"[..]).await,
            "not a JPEG",
        );
        assert_refused(&desk.take(&topics().status(), &b"{}"[..]).await, "status");
        assert_refused(&desk.take(&topics().health(), &b"[]"[..]).await, "health");
        assert_eq!(desk.take(&topics().reply(), &b"{}"[..]).await, Taken::Ignored);
        assert_eq!(desk.take("other/v1/box-7/case", text.clone()).await, Taken::Ignored);
        assert!(
            desk.database.case(&good.case_id).await.is_err(),
            "nothing of it is a case"
        );
        let letters = desk.database.dead_letters(100).await.unwrap();
        assert_eq!(letters.len(), 16, "{letters:#?}");
        // What repeats is counted.
        assert_refused(&desk.case("{".into()).await, "not JSON");
        let letters = desk.database.dead_letters(100).await.unwrap();
        assert_eq!((letters.len(), letters[0].times, letters[0].bytes), (16, 2, 1));
        assert_eq!(desk.database.dead_letter(&letters[0].id).await.unwrap().1, b"{");
        assert!(matches!(desk.case(text).await, Taken::Case { is_new: true, .. }));
    }
}

#[tokio::test]
async fn a_receipt_names_what_is_missing_and_repeats_as_often_as_asked() {
    for kind in kinds() {
        let desk = Desk::new(kind).await;
        let good = sample(1);
        let hash = sha256_hex(JPEG);
        for is_new in [true, false, false] {
            let taken = desk.case(desk.sealed(&good)).await;
            let Taken::Case {
                node,
                receipt,
                is_new: new,
            } = taken
            else {
                panic!("{taken:?}");
            };
            assert_eq!((node.as_str(), receipt.revision, new), (NODE, 1, is_new));
            assert_eq!(receipt.missing, [hash.as_str()]);
        }
        for is_new in [true, false] {
            assert_eq!(desk.take(&topics().evidence(&hash), JPEG).await, Taken::Picture(is_new));
        }
        let taken = desk.case(desk.sealed(&good)).await;
        assert!(
            matches!(&taken, Taken::Case { receipt, .. } if receipt.missing.is_empty()),
            "{taken:?}"
        );
    }
}

#[tokio::test]
async fn revisions_may_come_in_any_order_and_none_is_rewritten() {
    for kind in kinds() {
        let desk = Desk::new(kind).await;
        let (first, mut third) = (sample(1), sample(1));
        third.revision = 3;
        third.confidence = 0.5;
        assert!(matches!(desk.case(desk.sealed(&third)).await, Taken::Case { receipt, .. } if receipt.revision == 3));
        // The receipt covers all lower ones.
        assert!(matches!(desk.case(desk.sealed(&first)).await, Taken::Case { receipt, .. } if receipt.revision == 3));
        let row = desk.database.case(&first.case_id).await.unwrap();
        assert_eq!((row.revision, row.confidence), (3, 0.5));
        third.confidence = 0.6;
        assert_refused(
            &desk.case(desk.sealed(&third)).await,
            "received before with other contents",
        );
        assert_eq!(desk.database.case(&first.case_id).await.unwrap().confidence, 0.5);
        // Another box with a confirmed key cannot take the case over.
        let other = SigningKey::generate().unwrap().1;
        desk.database
            .confirm_key("box-8", &other.public(), "operator", Timestamp::now())
            .await
            .unwrap();
        let mut stolen = sample(1);
        (stolen.node_id, stolen.revision) = ("box-8".into(), 4);
        let stolen = seal(&other, &serde_json::to_string(&stolen).unwrap()).unwrap();
        assert_refused(
            &desk.take("gridwatch/v1/box-8/case", stolen).await,
            "the case is one of box-7",
        );
    }
}

#[tokio::test]
async fn a_rotated_key_is_confirmed_and_the_dead_letters_are_taken() {
    for kind in kinds() {
        let desk = Desk::new(kind).await;
        let new_key = SigningKey::generate().unwrap().1;
        let sealed = seal(&new_key, &serde_json::to_string(&sample(1)).unwrap()).unwrap();
        assert_refused(&desk.case(sealed).await, "boxes confirm box-7 --key");
        let id = desk.database.dead_letters(1).await.unwrap()[0].id.clone();
        assert!(matches!(
            desk.ingest.retry(&id, Timestamp::now()).await.unwrap(),
            Taken::DeadLetter(_)
        ));
        desk.database
            .confirm_key(NODE, &new_key.public(), "operator", Timestamp::now())
            .await
            .unwrap();
        assert!(matches!(
            desk.ingest.retry(&id, Timestamp::now()).await.unwrap(),
            Taken::Case { .. }
        ));
        assert_eq!(desk.database.count_dead_letters().await.unwrap(), 0);
        assert!(matches!(
            desk.ingest.retry(&id, Timestamp::now()).await,
            Err(HubError::NotFound(_))
        ));
        // The old key still verifies what it signed.
        assert!(matches!(
            desk.case(desk.sealed(&sample(2))).await,
            Taken::Case { is_new: true, .. }
        ));
    }
}

#[tokio::test]
async fn a_record_that_two_readers_would_read_differently_is_not_taken() {
    for kind in kinds() {
        let desk = Desk::new(kind).await;
        let object = serde_json::to_string(&sample(1)).unwrap();
        let twice = object.replacen("\"source\":", "\"description\":\"other\",\"source\":", 1);
        assert_refused(&desk.case(seal(&desk.key, &twice).unwrap()).await, "duplicate field");
        let mut long = sample(1);
        long.cell_code = "0123456789".repeat(500);
        assert_refused(&desk.case(desk.sealed(&long)).await, "cell_code has 5000 bytes");
        let mut nul = sample(1);
        nul.category_name = "a\0b".into();
        assert_refused(&desk.case(desk.sealed(&nul)).await, "U+0000");
        let status = r#"{"schema_version":1,"node_id":"box-7","state":"\u0000","version":"1"}"#;
        assert_refused(
            &desk.take(&topics().status(), status.as_bytes()).await,
            "unknown variant",
        );
        let status = r#"{"schema_version":1,"node_id":"box-7","state":"online","version":"\u0000"}"#;
        assert_refused(
            &desk.take(&topics().status(), status.as_bytes()).await,
            "version or installation exceeds",
        );
        assert!(matches!(
            desk.case(desk.sealed(&sample(1))).await,
            Taken::Case { is_new: true, .. }
        ));
    }
}

#[tokio::test]
async fn boxes_without_a_confirmed_key_can_fill_nothing() {
    for kind in kinds() {
        let limits = Limits {
            strangers: 5,
            dead_letters: 30,
            dead_letter_bytes: 1 << 20,
        };
        let desk = Desk::with_limits(kind, limits).await;
        let stranger = SigningKey::generate().unwrap().1;
        let mut taken = Vec::new();
        for n in 1..=35_u32 {
            // However many names it has.
            let node = format!("stranger-{}", n % 7);
            let mut record = sample(n);
            record.node_id = node.clone();
            let sealed = seal(&stranger, &serde_json::to_string(&record).unwrap()).unwrap();
            taken.push(desk.take(&format!("gridwatch/v1/{node}/case"), sealed).await);
            let picture = [JPEG, &n.to_le_bytes()].concat();
            let topic = format!("gridwatch/v1/{node}/evidence/{}", sha256_hex(&picture));
            assert_eq!(desk.take(&topic, picture).await, Taken::Ignored);
        }
        let count = |is: fn(&Taken) -> bool| taken.iter().filter(|t| is(t)).count();
        assert_eq!(count(|t| matches!(t, Taken::DeadLetter(_))), 30);
        assert_eq!(count(|t| matches!(t, Taken::Dropped(_))), 5);
        for n in 0..7 {
            let health = format!(
                r#"{{"schema_version":1,"node_id":"s-{n}","at":"2026-05-01T08:00:00Z","outbox_depth":0,"cameras":[]}}"#
            );
            let taken = desk.take(&format!("gridwatch/v1/s-{n}/health"), health).await;
            assert_eq!(taken == Taken::Status, n < 5, "{n}: {taken:?}");
        }
        // Others are not affected: their dead letters have limits of their own.
        assert!(matches!(desk.case("{".into()).await, Taken::DeadLetter(_)));
        let other = desk.case(desk.sealed(&sample(3000))).await;
        assert!(matches!(other, Taken::Case { is_new: true, .. }), "{other:?}");
    }
}
