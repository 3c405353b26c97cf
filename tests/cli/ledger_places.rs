//! `gridwatch ledger places`: what stands somewhere on most days is proposed as a permitted zone, unless a clerk accepted a case there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::filing::{self, case, record};
use crate::ledger_support;
use gridwatch_config as config;
use gridwatch_contract::EvidenceRole;
use gridwatch_engine::{BBox, CaseState, Detection, Input, Light, Observation, View};
use gridwatch_store::{Store, evidence_file};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A box whose ledger has two weeks in which a parasol stood in the same place from 07:30 to 10:30, around the sample case.
struct Box {
    dir: tempfile::TempDir,
}

/// Where the sample case was seen.
const PARASOL: BBox = BBox {
    x1: 0.25,
    y1: 0.5,
    x2: 0.5,
    y2: 0.75,
};

impl Box {
    fn new(decision: CaseState) -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let secret = this.dir.path().join("gate.secret");
        fs::write(&secret, "user:password").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let text = fs::read_to_string("tests/golden/good.toml").unwrap();
        fs::write(this.config(), text.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"))).unwrap();

        let mut store = Store::open(&this.dir.path().join("state")).unwrap();
        let case = case(1);
        let picture = filing::picture_bytes(1, 0, 100);
        let sha256 = evidence_file::write(store.dir(), &picture).unwrap();
        let scene = filing::evidence_item(0, EvidenceRole::Scene, picture.len(), sha256);
        let record = record(&case, vec![scene]);
        store.commit_case(&record, &case, &filing::form()).unwrap();
        let revision = filing::revision(&record.case_id, decision, 2000, "a clerk looked at it");
        store.revise(&revision, &filing::form()).unwrap();

        let plan = config::examine(&this.config()).into_replay_config().unwrap().plan;
        // Friday, 24 April 2026, 00:00 in Shanghai; the case is of 1 May.
        let start: Timestamp = "2026-04-23T16:00:00Z".parse().unwrap();
        let looks = (0..14 * 288).map(|n: i64| {
            let minute = n * 5 % (24 * 60);
            let is_open = (450..630).contains(&minute);
            Input::Observed(Observation {
                camera: "gate".into(),
                at: start + SignedDuration::from_mins(n * 5),
                view: View::Clear,
                light: Light::Day,
                detections: is_open
                    .then(|| Detection::new("umbrella", 0.8, PARASOL))
                    .into_iter()
                    .collect(),
                not_searched: Vec::new(),
            })
        });
        let settings = ledger_support::settings(&this.dir.path().join("state/ledger"));
        let live = ledger_support::start(settings, start, &plan, vec![]);
        ledger_support::record(live, looks);
        this
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("edge.toml")
    }

    fn run(&self, config: &Path, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["ledger", "places", "--config"])
            .arg(config)
            .args(args)
            .output()
            .unwrap()
    }

    fn line(&self) -> Value {
        let output = self.run(&self.config(), &["--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn a_place_is_proposed_with_its_evidence_and_the_pasted_zone_permits_it() {
    let it = Box::new(CaseState::Rejected);
    let line = it.line();
    assert_eq!(
        (&line["camera"], &line["rules"]),
        (&"gate".into(), &serde_json::json!(["vendor"]))
    );
    assert_eq!(line["hours"][0]["from"], "07:30");
    assert_eq!(line["hours"][0]["to"], "10:30");
    let days: u64 = line["hours"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["days_seen"].as_u64().unwrap())
        .sum();
    assert_eq!(days, 14);
    assert_eq!(
        line["cases"],
        serde_json::json!({"filed": 1, "accepted": 0, "rejected": 1, "undecided": 0})
    );
    let part = |name: &str| line["toml"][name].as_str().unwrap().to_owned();

    let text = it.run(&it.config(), &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains(&part("schedule")) && text.contains(&part("zone")),
        "{text}"
    );
    assert!(text.contains("1 case (0 accepted, 1 rejected, 0 undecided)"), "{text}");
    // All of it is TOML: what is not a table is a comment.
    toml::from_str::<toml::Table>(&text.replace("[[cameras.zones]]", "[[zones]]")).unwrap();

    // Pasted as it says, the configuration is valid, and nothing is left to propose.
    let before = fs::read_to_string(it.config()).unwrap();
    let (head, cameras) = before.split_once("[[cameras]]").unwrap();
    let pasted = it.dir.path().join("pasted.toml");
    fs::write(
        &pasted,
        format!("{head}{}\n[[cameras]]{cameras}\n{}", part("schedule"), part("zone")),
    )
    .unwrap();
    let draft = config::examine(&pasted);
    assert_eq!((&draft.faults, &draft.warnings), (&vec![], &vec![]));
    let output = it.run(&pasted, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("No place where things stood regularly"), "{text}");
}

#[test]
fn a_place_where_a_clerk_accepted_a_case_is_not_proposed() {
    let it = Box::new(CaseState::Accepted);
    let line = it.line();
    let reason = line["not_proposed"].as_str().unwrap();
    assert!(
        reason.contains("the platform accepted case") && reason.contains("on 2026-05-01"),
        "{reason}"
    );
    assert_eq!(line.get("toml"), None);
    let text = String::from_utf8(it.run(&it.config(), &[]).stdout).unwrap();
    assert!(text.contains("# No zone proposed: the platform accepted"), "{text}");
    assert!(text.lines().all(|l| l.is_empty() || l.starts_with('#')), "{text}");
}

#[test]
fn a_wrong_camera_or_period_is_named() {
    let it = Box::new(CaseState::Rejected);
    let output = it.run(&it.config(), &["--camera", "gat"]);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("no camera has the id \"gat\"; the configuration has gate"),
        "{stderr}"
    );
    assert_eq!(it.run(&it.config(), &["--days", "4"]).status.code(), Some(2));
}
