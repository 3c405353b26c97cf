//! Files cases in a store, and starts a link that publishes them.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{path::Path, time::Duration};

use gridwatch_contract::{EvidenceItem, EvidenceRole, Form, When};
use gridwatch_engine::CaseState;
use gridwatch_link::{IncomingReply, Link, LinkHandle, Receipts, Settings};
use gridwatch_mqtt::Protocol;
use gridwatch_store::{Revision, Store, evidence_file};
use tokio::sync::mpsc;

#[path = "case.rs"]
mod case_fixture;

pub use case_fixture::*;

/// Makes a database one of schema version 6, without receipts.
pub const WITHOUT_RECEIPTS: &str = "
DROP INDEX outbox_unsent;
DROP INDEX outbox_due;
ALTER TABLE outbox DROP COLUMN revision;
ALTER TABLE outbox DROP COLUMN attempts;
ALTER TABLE outbox DROP COLUMN sent_at;
ALTER TABLE outbox DROP COLUMN due_at;
ALTER TABLE outbox DROP COLUMN missing;
ALTER TABLE sent DROP COLUMN revision;
ALTER TABLE cases DROP COLUMN received_revision;
ALTER TABLE cases DROP COLUMN received_at;
PRAGMA user_version = 6;
";

/// Writes three different pictures of the `n`th case below `dir`.
pub fn pictures(dir: &Path, n: u32) -> Vec<EvidenceItem> {
    pictures_of(dir, n, 8_000)
}

/// Like [`pictures`], each of at least `size` bytes.
pub fn pictures_of(dir: &Path, n: u32, size: usize) -> Vec<EvidenceItem> {
    [EvidenceRole::Scene, EvidenceRole::Closeup, EvidenceRole::Overlay]
        .into_iter()
        .enumerate()
        .map(|(i, role)| {
            let bytes = picture_bytes(n, i, size);
            let sha256 = evidence_file::write(dir, &bytes).expect("the folder takes files");
            evidence_item(i, role, bytes.len(), sha256)
        })
        .collect()
}

/// Commits the `n`th case with its pictures, and returns its id.
pub fn file(store: &mut Store, n: u32) -> String {
    file_with(store, n, 8_000)
}

/// Like [`file`], with pictures of at least `size` bytes.
pub fn file_with(store: &mut Store, n: u32, size: usize) -> String {
    file_as(store, n, size, &form())
}

/// Like [`file_with`], published in another form.
pub fn file_as(store: &mut Store, n: u32, size: usize, form: &Form) -> String {
    let case = case(n);
    let record = record(&case, pictures_of(store.dir(), n, size));
    store.commit_case(&record, &case, form).expect("the store takes it");
    record.case_id
}

pub fn revision(case: &str, state: CaseState, second: i64, reason: &str) -> Revision {
    Revision {
        case: case.into(),
        state,
        at: When::new(at(second), &zone()),
        reason: reason.into(),
    }
}

pub fn settings(port: u16) -> Settings {
    Settings {
        node: NODE.into(),
        host: "127.0.0.1".into(),
        port,
        protocol: Protocol::V5,
        tls: None,
        login: None,
        keep_alive: Duration::from_secs(5),
        in_flight: 4,
        topic_prefix: "gridwatch".into(),
        session_expiry: Duration::from_hours(24),
        zone: zone(),
        largest_payload: 0,
        installation: None,
        receipts: Receipts::Auto,
        template: None,
    }
}

/// Starts a link on `store`, and returns the replies that it receives.
pub fn link(port: u16, store: &Store) -> (LinkHandle, mpsc::Receiver<IncomingReply>) {
    link_with(settings(port), store)
}

/// Like [`link`], with other settings.
pub fn link_with(settings: Settings, store: &Store) -> (LinkHandle, mpsc::Receiver<IncomingReply>) {
    let (replies_in, replies) = mpsc::channel(16);
    let link = Link::spawn(settings, store, replies_in, None).expect("valid settings");
    (link, replies)
}
