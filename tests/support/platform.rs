//! A platform that follows the contract: it deduplicates cases by `case_id` and `revision`, and requires their pictures first.
//! Uses the module `broker`.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::collections::{BTreeMap, BTreeSet};

use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;
use gridwatch_store::Store;
use rumqttc::Publish;

use crate::broker::{Subscriber, topic, within};

#[derive(Default)]
pub struct Platform {
    pub pictures: BTreeSet<String>,
    pub cases: BTreeMap<String, CaseRecord>,
    /// Messages received, of any kind.
    pub messages: u64,
    /// Pictures and case revisions received more than once.
    pub repeated: u64,
}

impl Platform {
    pub fn receive(&mut self, publish: &Publish) {
        self.messages += 1;
        let topic = topic(publish);
        if let Some((_, sha256)) = topic.split_once("/evidence/") {
            assert_eq!(
                sha256_hex(&publish.payload),
                sha256,
                "the payload matches the hash in its topic"
            );
            self.repeated += u64::from(!self.pictures.insert(sha256.into()));
        } else if topic.ends_with("/case") {
            let record: CaseRecord = serde_json::from_slice(&publish.payload).expect("a case record");
            for item in &record.evidence {
                assert!(
                    self.pictures.contains(&item.sha256),
                    "picture {} must come before case {}",
                    item.id,
                    record.case_id
                );
            }
            let known = self.cases.get(&record.case_id).map_or(0, |r| r.revision);
            if record.revision > known {
                self.cases.insert(record.case_id.clone(), record);
            } else {
                self.repeated += 1;
            }
        }
    }

    /// Receives until it has exactly these cases.
    pub async fn receive_cases(&mut self, subscriber: &mut Subscriber, cases: &[String]) {
        while !cases.iter().all(|id| self.cases.contains_key(id)) {
            self.receive(&subscriber.next().await);
        }
        assert_eq!(self.cases.len(), cases.len(), "no other cases");
    }
}

/// Waits until the outbox is empty.
pub async fn wait_outbox_empty(store: &Store) {
    within(async {
        while store.outbox_depth().expect("the store can be read").waiting > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits until a case is quarantined, and returns the reason.
pub async fn wait_quarantined(store: &Store, case: &str) -> String {
    within(async {
        loop {
            let file = store.case(case).expect("the store can be read");
            if let Some(reason) = file.and_then(|f| f.quarantined) {
                return reason;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}
