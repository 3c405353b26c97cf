//! `gridwatch view list` and `view absorb`: what they read from the state directory, and what they request of the daemon.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::filing::{self, at, case, record};
use gridwatch_contract::EvidenceRole;
use gridwatch_engine::{BBox, CaseState, Label};
use gridwatch_store::{Store, evidence_file};
use gridwatch_vision::views::{ChangeStanding, ChangeStatus, RegionStatus, ViewFiles, ViewRequest};
use serde_json::Value;

struct Box {
    dir: tempfile::TempDir,
}

/// The box of the sample case.
const CASE_BOX: BBox = BBox {
    x1: 0.25,
    y1: 0.5,
    x2: 0.5,
    y2: 0.75,
};

impl Box {
    fn new(change: &str) -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let secret = this.dir.path().join("gate.secret");
        fs::write(&secret, "user:password").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let text = fs::read_to_string("tests/golden/good.toml").unwrap();
        let text = text.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"));
        fs::write(this.config(), format!("{text}\n[change]\n{change}\n")).unwrap();
        Store::open(&this.dir.path().join("state")).unwrap();
        this
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("edge.toml")
    }

    fn files(&self) -> ViewFiles {
        ViewFiles::new(&self.dir.path().join("state"), "gate".into(), None)
    }

    /// Files a case at [`CASE_BOX`] and returns its id.
    fn file_case(&self, n: u32, state: CaseState) -> String {
        let mut store = Store::open(&self.dir.path().join("state")).unwrap();
        let case = case(n);
        let picture = filing::picture_bytes(n, 0, 100);
        let sha256 = evidence_file::write(store.dir(), &picture).unwrap();
        let scene = filing::evidence_item(0, EvidenceRole::Scene, picture.len(), sha256);
        let record = record(&case, vec![scene]);
        store.commit_case(&record, &case, &filing::form()).unwrap();
        let revision = filing::revision(&record.case_id, state, 2000, "a clerk looked at it");
        store.revise(&revision, &filing::form()).unwrap();
        record.case_id
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
        command.arg("view").args(args).arg("--config").arg(self.config());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the command with a daemon that takes one request, and returns both.
    fn run_with_daemon(&self, args: &[&str]) -> (Output, ViewRequest) {
        let files = self.files();
        let daemon = thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(60);
            while Instant::now() < end {
                if let Some(request) = files.take_request().unwrap() {
                    return request;
                }
                thread::sleep(Duration::from_millis(20));
            }
            panic!("nothing was requested");
        });
        let output = self.run(args);
        (output, daemon.join().unwrap())
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn status() -> ChangeStatus {
    let region = |x1: f32, explained_by: Option<&str>| RegionStatus {
        bbox: BBox {
            x1,
            y1: 0.6,
            x2: x1 + 0.05,
            y2: 0.7,
        },
        score: 0.87,
        since: at(0),
        explained_by: explained_by.map(Label::from),
    };
    ChangeStatus {
        state: ChangeStanding::Judging,
        at: at(60),
        looks_left: 0,
        variants: 2,
        regions: vec![region(0.4, None), region(0.7, Some("vehicle"))],
        more: 3,
    }
}

#[test]
fn the_list_shows_what_is_new_and_what_explains_it() {
    let it = Box::new("");
    let text = |it: &Box| String::from_utf8(it.run(&["list"]).stdout).unwrap();
    assert!(text(&it).contains("changes: no look compared yet"), "{}", text(&it));

    it.files().write_change_status(&status()).unwrap();
    let shown = text(&it);
    assert!(shown.contains("changes: judging, learned in 2 lights"), "{shown}");
    let unexplained = shown.lines().find(|l| l.contains("0.400,0.600,0.450,0.700")).unwrap();
    assert!(
        unexplained.contains("score 0.87  since 2026-05-01 09:46") && unexplained.ends_with("unexplained"),
        "{unexplained}"
    );
    assert!(shown.contains("vehicle") && shown.contains("and 3 more"), "{shown}");
    let line: Value = serde_json::from_slice(&it.run(&["list", "--json"]).stdout).unwrap();
    let changes = &line["changes"];
    assert_eq!(
        (&changes["state"], &changes["variants"]),
        (&"judging".into(), &2.into())
    );
    assert_eq!(changes["regions"][1]["explained_by"], "vehicle");
    assert_eq!(changes["regions"][0]["explained_by"], Value::Null);

    let learning = ChangeStatus {
        state: ChangeStanding::Learning,
        looks_left: 12,
        ..status()
    };
    it.files().write_change_status(&learning).unwrap();
    assert!(
        text(&it).contains("changes: learning, at least 12 looks left"),
        "{}",
        text(&it)
    );
}

#[test]
fn a_camera_without_a_change_map_says_so_and_absorbs_nothing() {
    let it = Box::new("enabled = false");
    let text = String::from_utf8(it.run(&["list"]).stdout).unwrap();
    assert!(text.contains("changes: off"), "{text}");
    let output = it.run(&["absorb", "gate", "--box", "0.1,0.1,0.2,0.2"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("no change map"), "{}", stderr(&output));
    assert!(!it.files().has_request());
}

#[test]
fn a_box_is_requested_of_the_daemon() {
    let it = Box::new("");
    let (output, request) = it.run_with_daemon(&["absorb", "gate", "--box", "0.4,0.6,0.45,0.7", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let bbox = BBox {
        x1: 0.4,
        y1: 0.6,
        x2: 0.45,
        y2: 0.7,
    };
    assert_eq!(request, ViewRequest::Absorb(bbox));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&line["camera"], &line["held_by"]),
        (&"gate".into(), &serde_json::json!([]))
    );

    let output = it.run(&["absorb", "gate", "--box", "0.4,0.6,0.45,0.7", "--wait", "0"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        stderr(&output).contains("absorbs the box at its next look"),
        "{}",
        stderr(&output)
    );
    assert!(it.files().has_request(), "it waits for the daemon");
    let output = it.run(&["absorb", "gate", "--box", "0.1,0.1,0.2,0.2", "--wait", "0"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("an earlier request"), "{}", stderr(&output));
    assert_eq!(it.files().take_request().unwrap(), Some(request), "not replaced");

    let output = it.run(&["absorb", "gate", "--box", "400,600,450,700"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("not pixels"), "{}", stderr(&output));
}

#[test]
fn a_case_is_absorbed_once_it_has_ended() {
    let it = Box::new("");
    let open = it.file_case(1, CaseState::Accepted);
    let output = it.run(&["absorb", "--case", &open]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("is open (accepted)"), "{}", stderr(&output));
    // Its place cannot be absorbed by its box either; a box that it hardly touches can.
    let output = it.run(&["absorb", "gate", "--box", "0.3,0.55,0.45,0.7"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains(&open), "{}", stderr(&output));
    assert!(!it.files().has_request());
    let (output, _) = it.run_with_daemon(&["absorb", "gate", "--box", "0.45,0.5,0.7,0.75"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(&format!("20 % of it stays out of the background: case {open}")),
        "{text}"
    );

    let it = Box::new("");
    let ended = it.file_case(2, CaseState::Rejected);
    let (output, request) = it.run_with_daemon(&["absorb", "--case", &ended]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(request, ViewRequest::Absorb(CASE_BOX));
}
