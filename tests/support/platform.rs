//! A receiver as the contract wants it: a case is the same by `case_id` and newer by `revision`, and its pictures come before it.
//! Beside it stands `broker`.
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
    /// Pictures, cases and whatever else came.
    pub messages: u64,
    /// Those of them that had come before.
    pub repeated: u64,
}

impl Platform {
    pub fn take(&mut self, publish: &Publish) {
        self.messages += 1;
        let topic = topic(publish);
        if let Some((_, sha256)) = topic.split_once("/evidence/") {
            assert_eq!(sha256_hex(&publish.payload), sha256, "a picture is what its topic says");
            self.repeated += u64::from(!self.pictures.insert(sha256.into()));
        } else if topic.ends_with("/case") {
            let record: CaseRecord = serde_json::from_slice(&publish.payload).expect("a case record");
            for item in &record.evidence {
                assert!(
                    self.pictures.contains(&item.sha256),
                    "picture {} before case {}",
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

    /// Listens until it has these cases, and no others.
    pub async fn until(&mut self, subscriber: &mut Subscriber, cases: &[String]) {
        while !cases.iter().all(|id| self.cases.contains_key(id)) {
            self.take(&subscriber.next().await);
        }
        assert_eq!(self.cases.len(), cases.len(), "no case but those filed");
    }
}

/// Waits until nothing is left to be sent.
pub async fn emptied(store: &Store) {
    within(async {
        while store.outbox_depth().expect("the store can be read").waiting > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits until a case is quarantined, and gives the reason.
pub async fn quarantined(store: &Store, case: &str) -> String {
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
