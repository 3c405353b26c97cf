//! The platform requests verification of a heap, and the daemon looks again: it is still present; then the camera goes dark, and
//! the result is unverifiable; then it is bright again, and the heap is gone. Each result comes with its pictures.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::broker::{Broker, PATIENCE, Subscriber, topic};
use crate::daemon::{Daemon, changed_clip, farm, gridwatch};
use gridwatch_base::digest::sha256_hex;
use gridwatch_config::raw;
use gridwatch_contract::{CaseRecord, EvidenceRole, ReportKind};
use gridwatch_engine::{CaseState, Finding};

const CAMERA: &str = "street-a";

/// Short verification times: the clip's heap is missing for about six seconds at its start.
fn short_verification(file: &mut raw::File) {
    file.verification = raw::Verification {
        over: raw::Span(Duration::from_secs(12)),
        within: raw::Span(Duration::from_secs(24)),
        ..raw::Verification::default()
    };
}

/// The pictures that the platform has received.
#[derive(Default)]
struct Platform {
    pictures: BTreeMap<String, Vec<u8>>,
}

impl Platform {
    /// The next case record for which `matches` is true.
    async fn until(&mut self, from: &mut Subscriber, matches: impl Fn(&CaseRecord) -> bool) -> CaseRecord {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no such record arrived");
            let message = from.next().await;
            if topic(&message).contains("/evidence/") {
                self.pictures
                    .insert(sha256_hex(&message.payload), message.payload.to_vec());
            } else if topic(&message).ends_with("/case") {
                let record: CaseRecord = serde_json::from_slice(&message.payload).unwrap();
                if matches(&record) {
                    return record;
                }
            }
        }
    }

    /// Mean brightness of a picture.
    fn brightness(&self, sha256: &str) -> f64 {
        let picture = image::load_from_memory(&self.pictures[sha256]).unwrap().to_luma8();
        picture.pixels().map(|p| f64::from(p.0[0])).sum::<f64>() / f64::from(picture.width() * picture.height())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heap_is_verified_as_still_present_then_unverifiable_then_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let dark = changed_clip(dir.path(), "dark", &["-t", "4", "-vf", "lutyuv=y=17:u=128:v=128"]);
    let empty = changed_clip(dir.path(), "empty", &["-t", "4"]);
    let farm = farm(&[CAMERA]);
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    let daemon = Daemon::start_with(dir.path(), &farm, &[CAMERA], broker.port, short_verification);
    let mut platform = Platform::default();
    let filed = platform.until(&mut subscriber, |_| true).await;
    let reply = format!("gridwatch/v1/{}/reply", filed.node_id);
    let ask = format!("{{\"case_id\":{:?},\"state\":\"verify_requested\"}}", filed.case_id);
    let verified =
        |n: usize| move |r: &CaseRecord| r.report_kind == ReportKind::VerifyReport && r.verification.len() == n;

    subscriber.publish(&reply, &ask, None).await;
    let present = platform.until(&mut subscriber, verified(1)).await;
    assert_eq!(
        present.verification[0].result,
        Finding::StillPresent,
        "{:?}",
        present.verification
    );
    assert_eq!(
        (present.case_id.as_str(), present.state),
        (filed.case_id.as_str(), CaseState::VerifyRequested)
    );
    assert!(present.last_seen_at.timestamp() > filed.last_seen_at.timestamp());

    farm.swap(CAMERA, dark).unwrap();
    subscriber.publish(&reply, &ask, None).await;
    let unknown = platform.until(&mut subscriber, verified(2)).await;
    assert_eq!(
        unknown.verification[1].result,
        Finding::Unverifiable,
        "{:?}",
        unknown.verification
    );

    farm.swap(CAMERA, empty).unwrap();
    let gone = platform.until(&mut subscriber, verified(3)).await;
    assert_eq!(gone.verification[2].result, Finding::Cleared, "{:?}", gone.verification);
    assert_eq!(
        gone.verification[2].asked_at.timestamp(),
        gone.verification[1].asked_at.timestamp()
    );

    let roles: Vec<EvidenceRole> = gone.evidence[filed.evidence.len()..].iter().map(|i| i.role).collect();
    let each = [EvidenceRole::Before, EvidenceRole::After, EvidenceRole::Closeup];
    assert_eq!(roles, [each; 3].concat());
    for (verification, bright) in gone.verification.iter().zip([true, false, true]) {
        let of = |role| {
            let item = gone
                .evidence
                .iter()
                .find(|i| i.role == role && verification.evidence_ids.contains(&i.id));
            item.unwrap()
        };
        let (before, after) = (of(EvidenceRole::Before), of(EvidenceRole::After));
        assert!(before.captured_at.timestamp() < after.captured_at.timestamp());
        for (item, zh) in [(before, "处置前全景："), (after, "核查时全景：")] {
            assert!(item.caption.as_ref().unwrap().zh.starts_with(zh), "{item:?}");
        }
        assert_eq!(
            (before.width, before.height),
            (after.width, after.height),
            "the same view"
        );
        assert_eq!(platform.brightness(&after.sha256) > 40.0, bright, "{verification:?}");
    }

    let out = dir.path().join("out");
    let exported = gridwatch(&["cases", "export", &filed.case_id, "--config", daemon.config(), "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    let key = gridwatch(&["keys", "show", "--config", daemon.config()])
        .output()
        .unwrap();
    let key = String::from_utf8(key.stdout).unwrap();
    let checked = gridwatch(&["evidence", "verify", "--key", key.trim()])
        .arg(out.join(&filed.case_id))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(daemon.stop().success());
}
