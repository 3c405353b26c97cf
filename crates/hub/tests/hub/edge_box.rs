//! A box: a real store with its key and outbox, and a real link.

use std::time::Duration;

use gridwatch_contract::{EvidenceItem, EvidenceRole, When};
use gridwatch_custody::PublicKey;
use gridwatch_engine::CaseState;
use gridwatch_link::{IncomingReply, Link, LinkHandle, Receipts, Settings};
use gridwatch_mqtt::Protocol;
use gridwatch_store::{Revision, Store, evidence_file};
use image::{ExtendedColorType, ImageEncoder as _, codecs::jpeg::JpegEncoder};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    broker::within,
    case_fixture::{NODE, at, case, evidence_item, form, record, zone},
};

/// A box that files cases.
pub(crate) struct EdgeBox {
    pub(crate) store: Store,
    pub(crate) key: PublicKey,
    _folder: TempDir,
}

/// A link of a box.
pub(crate) struct BoxLink {
    _handle: LinkHandle,
    pub(crate) replies: mpsc::Receiver<IncomingReply>,
}

impl EdgeBox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = store.public_key().unwrap();
        Self {
            store,
            key,
            _folder: folder,
        }
    }

    /// Commits the `n`th case with two pictures; returns its id.
    pub(crate) fn file(&mut self, n: u32) -> String {
        let case = case(n);
        let roles = [EvidenceRole::Scene, EvidenceRole::Closeup];
        let pictures = roles.into_iter().enumerate().map(|(i, role)| {
            let bytes = jpeg(n, i as u32);
            let sha256 = evidence_file::write(self.store.dir(), &bytes).unwrap();
            evidence_item(i, role, bytes.len(), sha256)
        });
        let pictures: Vec<EvidenceItem> = pictures.collect();
        let record = record(&case, pictures);
        self.store.commit_case(&record, &case, &form()).unwrap();
        record.case_id
    }

    /// Commits a change of a case that is published.
    pub(crate) fn revise(&mut self, case: &str, state: CaseState, reason: &str) {
        let revision = Revision {
            case: case.into(),
            state,
            at: When::new(at(4000), &zone()),
            reason: reason.into(),
        };
        self.store.revise(&revision, &form()).unwrap();
    }

    /// Connects it.
    pub(crate) fn link(&self, port: u16) -> BoxLink {
        let settings = Settings {
            node: NODE.into(),
            host: "127.0.0.1".into(),
            port,
            protocol: Protocol::V5,
            tls: None,
            login: None,
            keep_alive: Duration::from_secs(5),
            in_flight: 8,
            topic_prefix: "gridwatch".into(),
            session_expiry: Duration::from_hours(24),
            zone: zone(),
            largest_payload: 0,
            installation: None,
            receipts: Receipts::Required,
            template: None,
        };
        let (replies_in, replies) = mpsc::channel(64);
        let handle = Link::spawn(settings, &self.store, replies_in, None).unwrap();
        BoxLink {
            _handle: handle,
            replies,
        }
    }

    /// Waits until the platform has given a receipt for everything.
    pub(crate) async fn wait_empty(&self) {
        within(async {
            loop {
                let depth = self.store.outbox_depth().unwrap();
                assert_eq!(depth.quarantined, 0);
                if depth.waiting + depth.sent + depth.missing == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

impl BoxLink {
    /// The state of the next reply; it is committed.
    pub(crate) async fn next_reply(&mut self) -> IncomingReply {
        within(self.replies.recv()).await.unwrap()
    }
}

/// A small picture that no other call makes.
fn jpeg(n: u32, i: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (width, height) = (64, 48);
    let pixels: Vec<u8> = (0..width * height * 3)
        .map(|at: u32| (at.wrapping_mul(n + 1) >> (i + 2)) as u8)
        .collect();
    let mut picture = pixels;
    picture[..4].copy_from_slice(&n.to_le_bytes());
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(&picture, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    // After the end of the image: bytes that differ in any case.
    bytes.extend_from_slice(format!("{n} {i}").as_bytes());
    bytes
}
