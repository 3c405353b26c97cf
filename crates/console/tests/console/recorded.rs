//! A ledger of some minutes in the street, recorded by a real engine with the console's own configuration.
//!
//! A heap at street-a stays and is filed; another leaves before its dwell. At square-c one scores too low for two minutes.

use std::{fs, ops::Range, path::PathBuf, sync::Arc};

use gridwatch_contract::EvidenceRole;
use gridwatch_engine::{
    BBox, Case, CaseState, Detection, Effect, Input, Light, Observation, Plan, Reply, RuleId, View,
};
use gridwatch_ledger::{RecordedEngine, Recorder, RunInfo, Settings};
use gridwatch_store::{Store, evidence_file};
use jiff::Timestamp;

use crate::{
    case,
    http::{Client, Response},
    street::{Served, jpeg},
};

/// `second` after 2026-06-01 10:00 in Shanghai.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_279_200 + second).unwrap()
}

/// The day of [`at`], for forms.
pub(crate) const DAY: &str = "from=2026-06-01&until=2026-06-01";

fn bbox(x: f32, y: f32) -> BBox {
    BBox {
        x1: x,
        y1: y,
        x2: x + 0.1,
        y2: y + 0.1,
    }
}

fn garbage(score: f32, place: BBox) -> Detection {
    let mut detection = Detection::new("garbage", score, place);
    detection.set_second_look(&RuleId::from("garbage"), 0.8);
    detection
}

/// What each camera sees at a second.
fn seen(camera: &str, second: i64) -> Vec<Detection> {
    let mut found = Vec::new();
    let mut see = |place: BBox, score: f32, during: Range<i64>| {
        if during.contains(&second) {
            found.push(garbage(score, place));
        }
    };
    match camera {
        "street-a" => {
            see(bbox(0.2, 0.8), 0.8, 20..400);
            see(bbox(0.7, 0.8), 0.7, 100..108);
        }
        "square-c" => see(bbox(0.6, 0.6), 0.45, 200..320),
        _ => {}
    }
    found
}

/// Records the ledger of a plan in `dir`, and returns the cases that were filed. The platform answers the first, if there is an answer.
pub(crate) fn record(plan: &Arc<Plan>, settings: Settings, answer: Option<CaseState>) -> Vec<Case> {
    let run = RunInfo {
        started_at: at(0),
        boot: String::new(),
        config_sha256: "ab".into(),
    };
    let recorder = Recorder::lossless(settings, run).unwrap();
    let mut live = RecordedEngine::start(Arc::clone(plan), Vec::new(), Some(recorder));
    let mut cases = Vec::new();
    for second in (2..600).step_by(2) {
        for camera in ["street-a", "street-b", "square-c"] {
            let look = Observation {
                camera: camera.into(),
                at: at(second),
                view: if second == 50 { View::Dark } else { View::Clear },
                light: Light::Day,
                detections: seen(camera, second),
                not_searched: Vec::new(),
            };
            for effect in live.apply(Input::Observed(look)) {
                if let Effect::Open(case) = effect {
                    cases.push(*case);
                }
            }
        }
        if let (500, Some(state), Some(case)) = (second, answer, cases.first()) {
            drop(live.apply(Input::Reply(Reply {
                case: case.id.clone(),
                state,
                at: at(second),
                reason: None,
                due: None,
            })));
        }
    }
    live.finish().unwrap();
    cases
}

impl Served {
    /// Where this console's configuration has its ledger.
    pub(crate) fn ledger_dir(&self) -> PathBuf {
        self.config().ledger.as_ref().unwrap().dir.clone()
    }

    /// Records the ledger, and files its cases in the store with their pictures.
    pub(crate) fn record(&self, answer: Option<CaseState>) -> Vec<Case> {
        let config = self.config();
        fs::create_dir_all(self.state_dir()).unwrap();
        // Like the daemon, before the ledger: a store that is missing beside one is taken for lost.
        let mut store = Store::open(&self.state_dir()).unwrap();
        let cases = record(&config.plan, config.ledger.clone().unwrap(), answer);
        for (n, case) in cases.iter().enumerate() {
            let roles = [EvidenceRole::Scene, EvidenceRole::Closeup];
            let pictures = roles.into_iter().enumerate().map(|(i, role)| {
                let bytes = jpeg(320, 180, 60 + 10 * i as u8 + n as u8);
                let sha256 = evidence_file::write(store.dir(), &bytes).unwrap();
                case::evidence_item(i, role, bytes.len(), sha256)
            });
            let pictures = pictures.collect();
            let mut record = case::record(case, pictures);
            record.camera.local_id = case.camera.device().to_owned();
            store.commit_case(&record, case, &case::form()).unwrap();
        }
        cases
    }
}

impl Client {
    /// Gets a page when what it asks the ledger is answered. The server waits before it says that it is not yet, so that this does not spin.
    pub(crate) fn ask(&mut self, path: &str) -> Response {
        loop {
            let page = self.get(path);
            if !page.contains("delay:300ms") {
                return page;
            }
        }
    }
}
