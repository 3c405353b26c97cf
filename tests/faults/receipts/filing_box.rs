//! A box with a real store and a real link behind a faulty proxy, and what its operator does.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use gridwatch_contract::{EvidenceItem, EvidenceRole, Form, PlatformMessage, Topics, When};
use gridwatch_engine::CaseState;
use gridwatch_link::{IncomingReply, LinkHandle, Settings};
use gridwatch_mqtt::Protocol;
use gridwatch_store::{OutboxDepth, ResendDelays, Store, evidence_file};
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    broker::within,
    faulty_proxy::FaultyProxy,
    filing,
    message_faults::{FaultRates, MessageFaults},
};

/// Width and height of the pictures.
const PICTURE: (u32, u32) = (32, 24);

/// Instead of minutes to days.
const RESEND_DELAYS: ResendDelays = ResendDelays {
    first: SignedDuration::from_secs(1),
    longest: SignedDuration::from_secs(4),
};

/// What `gridwatch outbox resend --json` prints.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Resent {
    pub(super) cases: u64,
    pub(super) pictures: u64,
    pub(super) gone: u64,
}

pub(super) struct FilingBox {
    pub(super) node: String,
    form: Form,
    pub(super) store: Store,
    pub(super) proxy: FaultyProxy,
    pub(super) faults: Arc<MessageFaults>,
    config: PathBuf,
    /// Cases that are not withdrawn.
    open: Vec<String>,
    _link: LinkHandle,
    _replies: mpsc::Receiver<IncomingReply>,
    _dir: TempDir,
}

impl FilingBox {
    /// Starts it, and waits until it knows that the platform gives receipts.
    pub(super) async fn start(node: &str, protocol: Protocol, broker: u16, faults: MessageFaults) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let good = std::fs::read_to_string("tests/golden/good.toml").unwrap();
        let toml = good
            .replace("@ROOT@", env!("CARGO_MANIFEST_DIR"))
            .replace("id = \"box-01\"", &format!("id = {node:?}"))
            .replace("state_dir = \"state\"", &format!("state_dir = {state:?}"));
        let config = dir.path().join("edge.toml");
        std::fs::write(&config, toml).unwrap();
        let faults = Arc::new(faults);
        let proxy = FaultyProxy::start_with(broker, Some(Arc::clone(&faults))).await;
        let settings = Settings {
            node: node.into(),
            protocol,
            keep_alive: Duration::from_secs(2),
            in_flight: 16,
            ..filing::settings(proxy.port)
        };
        let mut store = Store::open(&state).unwrap();
        store.set_resend_delays(RESEND_DELAYS);
        let (link, replies) = filing::link_with(settings, &store);
        let this = Self {
            node: node.into(),
            form: Topics::new("gridwatch", &node.into()).into(),
            store,
            proxy,
            faults,
            config,
            open: Vec::new(),
            _link: link,
            _replies: replies,
            _dir: dir,
        };
        this.wait_announced(|_| true).await;
        this
    }

    /// Waits until it has applied an announcement of the platform.
    pub(super) async fn wait_announced(&self, wanted: impl Fn(PlatformMessage) -> bool) {
        within(async {
            while !self.store.platform().unwrap().is_some_and(&wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Files the `n`th case of all.
    pub(super) fn file(&mut self, n: u32) {
        self.store.check_files().unwrap();
        let case = filing::case(n);
        let roles = [EvidenceRole::Scene, EvidenceRole::Closeup, EvidenceRole::Overlay];
        let evidence = roles.into_iter().enumerate().map(|(i, role)| self.picture(n, i, role));
        let mut record = filing::record(&case, evidence.collect());
        record.node_id.clone_from(&self.node);
        record.filed_at = When::new(Timestamp::now(), &filing::zone());
        self.store.commit_case(&record, &case, &self.form).unwrap();
        self.open.push(record.case_id);
    }

    fn picture(&self, n: u32, i: usize, role: EvidenceRole) -> EvidenceItem {
        let bytes = jpeg(u64::from(n) * 10 + i as u64);
        let sha256 = evidence_file::write(self.store.dir(), &bytes).unwrap();
        EvidenceItem {
            width: PICTURE.0,
            height: PICTURE.1,
            topic_or_uri: self.form.topics.evidence(&sha256),
            ..filing::evidence_item(i, role, bytes.len(), sha256)
        }
    }

    /// Withdraws a case, which is a second revision.
    pub(super) fn withdraw(&mut self, random: &mut fastrand::Rng) {
        if self.open.is_empty() {
            return;
        }
        let case = self.open.swap_remove(random.usize(..self.open.len()));
        let mut withdrawn = filing::revision(&case, CaseState::Withdrawn, 0, "gone");
        withdrawn.at = When::new(Timestamp::now(), &filing::zone());
        assert_eq!(self.store.revise(&withdrawn, &self.form).unwrap(), 2);
    }

    /// Nothing is to be sent, awaits a receipt, or is quarantined.
    pub(super) fn is_outbox_empty(&self) -> bool {
        self.store.outbox_depth().unwrap() == OutboxDepth::default()
    }

    /// What the operator does after the platform was restored from a backup of `since`.
    pub(super) fn resend(&self, since: Timestamp) -> Resent {
        let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["outbox", "resend", "--json", "--since", &since.to_string(), "--config"])
            .arg(&self.config)
            .env_remove("GRIDWATCH_STATE")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    pub(super) fn set_rates(&self, rates: FaultRates) {
        self.faults.set_rates(rates);
    }
}

/// A picture of noise, different for each `seed`.
fn jpeg(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let noise = RgbImage::from_fn(PICTURE.0, PICTURE.1, |_, _| {
        Rgb([random.u8(..), random.u8(..), random.u8(..)])
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode_image(&noise)
        .unwrap();
    bytes
}
