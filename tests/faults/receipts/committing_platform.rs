//! A platform that follows contract 1.1: it commits what it receives in batches, gives a receipt for each case message, crashes, and is
//! restored from backups.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::{CaseRecord, PlatformMessage, ReceiptMessage, Topics, When, platform_topic};
use jiff::{Timestamp, tz::TimeZone};
use rumqttc::Publish;

use crate::broker::{Subscriber, topic};

/// How long a crashed platform is gone.
const DOWNTIME: Duration = Duration::from_millis(200);

/// How long a crash waits for a case message to lose.
const WAIT_FOR_CASE: Duration = Duration::from_secs(10);

/// What the platform has on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed {
    pub(super) pictures: BTreeSet<String>,
    /// Each case at its highest revision.
    pub(super) cases: BTreeMap<String, CaseRecord>,
}

impl Committed {
    /// The pictures of a case that it lacks.
    fn missing(&self, record: &CaseRecord) -> Vec<String> {
        let all = record.evidence.iter().map(|item| item.sha256.clone());
        all.filter(|sha256| !self.pictures.contains(sha256)).collect()
    }
}

/// A copy of the disk, and when it was made.
#[derive(Debug, Clone)]
pub(super) struct Backup {
    pub(super) at: Timestamp,
    committed: Committed,
}

/// What happened so far, restores and crashes included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PlatformCounts {
    pub(super) case_messages: u64,
    pub(super) picture_messages: u64,
    /// Of these, the ones that said nothing new.
    pub(super) repeated: u64,
    pub(super) receipts: u64,
    /// Receipts that named missing pictures.
    pub(super) incomplete: u64,
    /// Case messages received and lost in a crash.
    pub(super) uncommitted: u64,
    /// Case messages committed and not answered, because of a crash.
    pub(super) unanswered: u64,
    /// Receipts given for a box while it was offline, just before a restore.
    pub(super) outdated: u64,
    /// Cases and pictures forgotten by restores after a receipt was given for them.
    pub(super) forgotten_cases: u64,
    /// Of these, the ones that had not changed since before the backup.
    pub(super) forgotten_older: u64,
    pub(super) forgotten_pictures: u64,
}

pub(super) struct CommittingPlatform {
    port: u16,
    subscriber: Subscriber,
    pub(super) committed: Committed,
    /// Received and not committed.
    batch: Vec<Publish>,
    since: Timestamp,
    /// By case: the highest revision for which a receipt without missing pictures was given.
    given: BTreeMap<String, u32>,
    /// SHA-256 of each revision as received first.
    first_seen: BTreeMap<(String, u32), String>,
    pub(super) counts: PlatformCounts,
}

impl CommittingPlatform {
    /// Connects and announces receipts.
    pub(super) async fn start(port: u16) -> Self {
        let platform = Self {
            port,
            subscriber: subscribe(port).await,
            committed: Committed::default(),
            batch: Vec::new(),
            since: Timestamp::now(),
            given: BTreeMap::new(),
            first_seen: BTreeMap::new(),
            counts: PlatformCounts::default(),
        };
        platform.announce().await;
        platform
    }

    /// Since when it has been running, as it announced.
    pub(super) fn since(&self) -> Timestamp {
        When::new(self.since, &TimeZone::UTC).timestamp()
    }

    async fn announce(&self) {
        let announced = PlatformMessage {
            schema_version: 1,
            receipts: true,
            name: "test".into(),
            since: Some(When::new(self.since, &TimeZone::UTC)),
        };
        let json = serde_json::to_string(&announced).unwrap();
        self.subscriber
            .publish_retained(&platform_topic("gridwatch"), &json)
            .await;
    }

    /// Cases for which it has given a receipt without missing pictures.
    pub(super) fn complete(&self) -> usize {
        self.given.len()
    }

    /// Commits what comes within `length`, and gives receipts for it.
    pub(super) async fn serve(&mut self, length: Duration) {
        let until = Instant::now() + length;
        while self.receive(until).await {
            self.batch.extend(self.subscriber.drain());
            self.answer().await;
        }
    }

    /// Receives one message; false at `until`.
    async fn receive(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let message = tokio::time::timeout(left, self.subscriber.next()).await.ok();
        let has_come = message.is_some();
        self.batch.extend(message);
        has_come
    }

    /// Commits the batch, and gives receipts for it.
    pub(super) async fn answer(&mut self) {
        let receipts = self.commit();
        self.give(receipts).await;
    }

    /// Commits the batch; returns the receipts, each with the id of its box.
    fn commit(&mut self) -> Vec<(String, ReceiptMessage)> {
        let mut cases = Vec::new();
        for message in std::mem::take(&mut self.batch) {
            if let Some((_, sha256)) = topic(&message).split_once("/evidence/") {
                self.counts.picture_messages += 1;
                let is_new = self.committed.pictures.insert(sha256.into());
                self.counts.repeated += u64::from(!is_new);
            } else if topic(&message).ends_with("/case") {
                cases.push(self.commit_case(&message));
            }
        }
        let receipt = |case: String| {
            let record = &self.committed.cases[&case];
            let receipt = ReceiptMessage {
                case_id: case,
                revision: record.revision,
                missing: self.committed.missing(record),
            };
            (record.node_id.clone(), receipt)
        };
        cases.into_iter().map(receipt).collect()
    }

    fn commit_case(&mut self, message: &Publish) -> String {
        self.counts.case_messages += 1;
        let record: CaseRecord = serde_json::from_slice(&message.payload).unwrap();
        let (case, revision) = (record.case_id.clone(), record.revision);
        assert_eq!(topic(message), format!("gridwatch/v1/{}/case", record.node_id));
        let sha256 = sha256_hex(&message.payload);
        let first = self.first_seen.entry((case.clone(), revision));
        assert_eq!(
            *first.or_insert_with(|| sha256.clone()),
            sha256,
            "{case}: another content of revision {revision}"
        );
        match self.committed.cases.get(&case) {
            Some(known) if known.revision >= revision => self.counts.repeated += 1,
            _ => drop(self.committed.cases.insert(case.clone(), record)),
        }
        case
    }

    async fn give(&mut self, receipts: Vec<(String, ReceiptMessage)>) {
        for (node, receipt) in receipts {
            self.counts.receipts += 1;
            match receipt.missing.is_empty() {
                true => drop(self.given.insert(receipt.case_id.clone(), receipt.revision)),
                false => self.counts.incomplete += 1,
            }
            let topic = Topics::new("gridwatch", &node.into()).receipt();
            let json = serde_json::to_string(&receipt).unwrap();
            self.subscriber.publish(&topic, &json, None).await;
        }
    }

    /// Receives until so many case messages of a box, or of any, are in the batch. Fewer if no more come.
    pub(super) async fn receive_cases(&mut self, node: Option<&str>, wanted: u64) {
        let until = Instant::now() + WAIT_FOR_CASE;
        while self.cases_in_batch(node) < wanted && self.receive(until).await {}
    }

    /// Case messages of a box, or of any, that are not committed.
    pub(super) fn cases_in_batch(&self, node: Option<&str>) -> u64 {
        let is_case = |message: &&Publish| {
            let (sender, kind) = topic(message).rsplit_once('/').unwrap_or_default();
            kind == "case" && node.is_none_or(|node| sender == format!("gridwatch/v1/{node}"))
        };
        self.batch.iter().filter(is_case).count() as u64
    }

    /// Crashes with a batch that it has not committed, and is started again.
    pub(super) async fn crash_before_commit(&mut self) {
        self.receive_cases(None, 1).await;
        self.counts.uncommitted += self.cases_in_batch(None);
        self.restart().await;
    }

    /// Crashes with receipts that it has not given. Its announcement stands, as with a process that a supervisor restarts at once, so
    /// that the boxes do not know of it.
    pub(super) async fn crash_before_receipts(&mut self) {
        self.receive_cases(None, 1).await;
        self.counts.unanswered += self.commit().len() as u64;
        self.subscriber = subscribe(self.port).await;
    }

    async fn restart(&mut self) {
        self.batch.clear();
        // What comes until it has subscribed again is lost with the old connection.
        tokio::time::sleep(DOWNTIME).await;
        self.subscriber = subscribe(self.port).await;
        self.since = Timestamp::now();
        self.announce().await;
    }

    /// The broker was restarted without its state: the subscription and the announcement are gone.
    pub(super) async fn reconnected(&mut self) {
        self.subscriber.wait_subscribed().await;
        self.announce().await;
    }

    pub(super) fn backup(&self) -> Backup {
        Backup {
            at: Timestamp::now(),
            committed: self.committed.clone(),
        }
    }

    /// Loses everything that is not in the backup, and is started again.
    pub(super) async fn restore(&mut self, backup: &Backup) {
        for (case, revision) in std::mem::take(&mut self.given) {
            let kept = backup.committed.cases.get(&case);
            if kept.is_none_or(|kept| kept.revision < revision) {
                self.counts.forgotten_cases += 1;
                let is_older = revision == 1 && self.committed.cases[&case].filed_at.timestamp() < backup.at;
                self.counts.forgotten_older += u64::from(is_older);
            } else {
                self.given.insert(case.clone(), revision);
            }
            let pictures = self.committed.cases[&case].evidence.iter();
            let gone = pictures.filter(|item| !backup.committed.pictures.contains(&item.sha256));
            self.counts.forgotten_pictures += gone.count() as u64;
        }
        self.committed = backup.committed.clone();
        self.restart().await;
    }
}

async fn subscribe(port: u16) -> Subscriber {
    Subscriber::start(port, "gridwatch/v1/#").await
}
