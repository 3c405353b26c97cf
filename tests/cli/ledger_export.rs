//! `gridwatch ledger export --labelled`: accepted and rejected cases become a labelled picture set.

use crate::{filing, ledger_support};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::filing::{at, case, record};
use gridwatch_config as config;
use gridwatch_contract::{EvidenceItem, EvidenceRole, When};
use gridwatch_engine::{BBox, CaseState, Detection, Input, Light, Observation, View};
use gridwatch_model::eval::data;
use gridwatch_store::{Review, ReviewVerdict, Store, evidence_file};
use serde_json::Value;

struct Box {
    dir: tempfile::TempDir,
}

impl Box {
    /// Two accepted cases (one with an unmasked picture), a rejected and an undecided one, all confirmed by the same look.
    fn new() -> Self {
        Self::with("umbrella")
    }

    /// The same with another label of the rule and of its objects.
    fn with(label: &str) -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let secret = this.dir.path().join("gate.secret");
        fs::write(&secret, "user:password").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let text = fs::read_to_string("tests/golden/good.toml")
            .unwrap()
            .replace("@ROOT@", env!("CARGO_MANIFEST_DIR"))
            .replace("id = \"vendor\"", "id = \"garbage\"")
            .replace("labels = [\"umbrella\"]", &format!("labels = [{label:?}]"))
            .replace("rules = [\"vendor\"]", "rules = [\"garbage\"]");
        fs::write(this.config(), text).unwrap();

        let mut store = Store::open(&this.dir.path().join("state")).unwrap();
        for (n, verdict, masked) in [
            (1, Some(CaseState::Accepted), true),
            (2, Some(CaseState::Rejected), true),
            (3, None, true),
            (4, Some(CaseState::Accepted), false),
        ] {
            let case = case(n);
            let record = record(&case, vec![scene(store.dir(), n, masked)]);
            store.commit_case(&record, &case, &filing::form()).unwrap();
            if let Some(state) = verdict {
                let revision = filing::revision(&record.case_id, state, 2000, "a clerk looked at it");
                store.revise(&revision, &filing::form()).unwrap();
            }
        }
        let thing = |name: &str, score, x1, y1, x2, y2| Detection {
            label: name.into(),
            score,
            appearance: None,
            number: None,
            text: None,
            second_looks: Vec::new(),
            newness: None,
            bbox: BBox { x1, y1, x2, y2 },
        };
        let look = Observation {
            camera: "gate".into(),
            at: at(1800),
            view: View::Clear,
            light: Light::Day,
            not_searched: Vec::new(),
            detections: vec![
                // In the case's box: the judged object.
                thing(label, 0.8, 0.26, 0.5, 0.5, 0.74),
                // The same label outside the box, and another label inside it: high scores, but not judged.
                thing(label, 0.7, 0.7, 0.5, 0.9, 0.7),
                thing("person", 0.9, 0.3, 0.5, 0.4, 0.75),
                thing("person", 0.2, 0.0, 0.0, 0.1, 0.1),
            ],
        };
        let plan = config::examine(&this.config()).into_replay_config().unwrap().plan;
        let settings = ledger_support::settings(&this.dir.path().join("state/ledger"));
        let live = ledger_support::start(settings, at(0), &plan, vec![]);
        ledger_support::record(live, [Input::Observed(look)]);
        this
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("edge.toml")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("captures")
    }

    fn export(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["ledger", "export", "--labelled", "--json", "--config"])
            .arg(self.config())
            .arg("--out")
            .arg(self.out())
            .output()
            .unwrap()
    }
}

/// The scene picture of the `n`th case, a decodable JPEG.
fn scene(dir: &Path, n: u32, masked: bool) -> EvidenceItem {
    let picture = image::RgbImage::from_pixel(192, 108, image::Rgb([n as u8 * 40; 3]));
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode_image(&picture)
        .unwrap();
    let sha256 = evidence_file::write(dir, &jpeg).unwrap();
    EvidenceItem {
        id: "e0".into(),
        role: EvidenceRole::Scene,
        bytes: jpeg.len() as u64,
        mime: "image/jpeg".into(),
        width: 1920,
        height: 1080,
        captured_at: When::new(at(1800), &filing::zone()),
        derived_from: None,
        masked,
        topic_or_uri: filing::topics().evidence(&sha256),
        caption: None,
        sha256,
    }
}

#[test]
fn reviews_decide_before_the_platform_and_disagreement_leaves_a_case_out() {
    let it = Box::new();
    let mut store = Store::open(&it.dir.path().join("state")).unwrap();
    let id = |n: u32| record(&case(n), Vec::new()).case_id;
    // The accepted case is wrong, the rejected one disputed, and the undecided one right.
    for (n, reviewer, verdict) in [
        (1, "wang", ReviewVerdict::False),
        (2, "wang", ReviewVerdict::True),
        (2, "li", ReviewVerdict::False),
        (3, "li", ReviewVerdict::Duplicate),
    ] {
        let review = Review {
            case_id: id(n),
            reviewer: reviewer.into(),
            verdict,
            duplicate_of: None,
            at: at(3000),
        };
        assert!(store.set_review(&review).unwrap());
    }
    drop(store);
    let output = it.export();
    assert!(output.status.success(), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let numbers = ["pictures", "confirmed", "rejected", "reviewed", "disputed"].map(|n| summary[n].as_u64().unwrap());
    assert_eq!(numbers, [2, 1, 1, 2, 1], "{summary}");
    let text = fs::read_to_string(it.out().join("provenance.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["case_id"].as_str().unwrap().to_owned(),
                line["judge"].clone(),
                line["right"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (id(1), "review".into(), false.into()),
            (id(3), "review".into(), true.into())
        ]
    );
    let set = data::read(&it.out()).unwrap();
    let classes = |n: usize| set.pictures[n].truths((100, 100), Some).len();
    assert_eq!(
        (classes(0), classes(1)),
        (2, 3),
        "the object of the wrong case is not labelled"
    );
}

#[test]
fn judged_cases_become_a_readable_data_set() {
    let it = Box::new();
    let output = it.export();
    assert!(output.status.success(), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["pictures"], &summary["confirmed"], &summary["rejected"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(summary["unmasked"], 1, "unmasked pictures stay on the box");

    let set = data::read(&it.out()).unwrap();
    assert_eq!(set.names, ["umbrella", "person"]);
    assert_eq!((set.pictures.len(), set.unlabelled), (2, 0));
    let truths = |n: usize| set.pictures[n].truths((100, 100), Some);
    let classes = |n: usize| truths(n).iter().map(|t| t.class).collect::<Vec<_>>();
    // Pictures are in the order of their names, and so of the cases.
    assert_eq!(
        classes(0),
        [0, 0, 1],
        "the confirmed object and the other detections with high scores"
    );
    assert_eq!(classes(1), [0, 1], "the rejected object is not labelled");
    let [x1, y1, x2, y2] = truths(0)[0].corners;
    for (have, want) in [(x1, 26.0), (y1, 50.0), (x2, 50.0), (y2, 74.0)] {
        assert!((have - want).abs() < 0.01, "{have} {want}");
    }

    let lines = fs::read_to_string(it.out().join("provenance.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let rejected = lines.iter().find(|l| l["verdict"] == "rejected").unwrap();
    assert_eq!(rejected["judged"][0]["label"], "umbrella");
    assert_eq!(rejected["unconfirmed"].as_array().unwrap().len(), 2);
    let text = fs::read_to_string(it.out().join("data.yaml")).unwrap();
    assert!(text.contains("0: \"umbrella\""), "{text}");
}

#[test]
fn an_existing_folder_is_not_written_to() {
    let it = Box::new();
    fs::create_dir(it.out()).unwrap();
    let output = it.export();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("already exists; name a new folder"), "{stderr}");
}

/// An unidentified object that a clerk accepted is exported under the label `object`, to be renamed in a labelling tool.
#[test]
fn an_accepted_left_object_is_exported_with_its_box() {
    let it = Box::with("object");
    let output = it.export();
    assert!(output.status.success(), "{output:?}");
    let set = data::read(&it.out()).unwrap();
    assert_eq!(set.names, ["object", "person"]);
    let truths = set.pictures[0].truths((100, 100), Some);
    let [x1, y1, x2, y2] = truths[0].corners;
    for (have, want) in [(x1, 26.0), (y1, 50.0), (x2, 50.0), (y2, 74.0)] {
        assert!((have - want).abs() < 0.01, "{have} {want}");
    }
    let lines = fs::read_to_string(it.out().join("provenance.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let accepted = lines.iter().find(|l| l["verdict"] == "accepted").unwrap();
    assert_eq!(accepted["judged"][0]["label"], "object");
    // The rejected one is a hard negative: its box is judged, but not labelled.
    let rejected = lines.iter().find(|l| l["verdict"] == "rejected").unwrap();
    assert_eq!(rejected["judged"][0]["label"], "object");
    let classes = |n: usize| {
        set.pictures[n]
            .truths((100, 100), Some)
            .iter()
            .map(|t| t.class)
            .collect::<Vec<_>>()
    };
    assert_eq!((classes(0), classes(1)), (vec![0, 0, 1], vec![0, 1]));
}
