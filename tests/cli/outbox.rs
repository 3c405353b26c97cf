//! `gridwatch outbox`: list, show, retry and export.

use std::{fs, path::Path, process::Command};

use crate::filing::file;
use gridwatch_base::digest::sha256_hex;
use gridwatch_store::Store;
use serde_json::Value;

/// Exit code, lines of standard output, standard error.
fn outbox(state: &Path, arguments: &[&str]) -> (i32, Vec<String>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("outbox")
        .args(arguments)
        .arg("--state")
        .arg(state)
        .env_remove("GRIDWATCH_STATE")
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(Into::into)
        .collect();
    (
        output.status.code().unwrap(),
        lines,
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn objects(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn queued_messages_are_listed_shown_and_released() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (first, second) = (file(&mut store, 1), file(&mut store, 2));
    let refused = store
        .outbox_entries(false, 10)
        .unwrap()
        .into_iter()
        .find(|e| e.case_id == second);
    store
        .outbox_quarantine(refused.unwrap().seq, "the broker does not authorise the box")
        .unwrap();

    let (code, lines, _) = outbox(dir.path(), &["list", "--json"]);
    let all = objects(&lines);
    assert_eq!((code, all.len()), (0, 8), "three pictures and a record each");
    let kinds: Vec<&str> = all.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..4], ["evidence", "evidence", "evidence", "case"]);
    let (_, lines, _) = outbox(dir.path(), &["list", "--quarantined", "--json"]);
    let waiting = objects(&lines);
    assert!(waiting.len() == 4 && waiting.iter().all(|e| e["case_id"] == second.as_str()));
    let (_, lines, _) = outbox(dir.path(), &["list"]);
    assert!(
        lines[5].ends_with("quarantined: the broker does not authorise the box"),
        "{}",
        lines[5]
    );

    let record = all[3]["seq"].to_string();
    let (_, lines, _) = outbox(dir.path(), &["show", &record, "--json"]);
    assert_eq!(objects(&lines)[0]["payload"]["case_id"], first.as_str());
    let (code, _, error) = outbox(dir.path(), &["show", "4711"]);
    assert!(code == 3 && error.contains("4711"), "{error}");

    let (_, lines, _) = outbox(dir.path(), &["retry", &second, "--json"]);
    assert_eq!(lines, ["{\"released\":4}"]);
    assert!(outbox(dir.path(), &["list", "--quarantined", "--json"]).1.is_empty());
}

#[test]
fn queued_messages_are_exported_to_a_folder_and_stay_queued() {
    let dir = tempfile::tempdir().unwrap();
    let case = file(&mut Store::open(dir.path()).unwrap(), 1);
    let out = dir.path().join("stick");
    let arguments = ["export", "--out", out.to_str().unwrap()];
    let (code, lines, error) = outbox(dir.path(), &arguments);
    assert_eq!((code, lines.len()), (0, 1), "{error}");
    let index = fs::read_to_string(out.join("index.jsonl")).unwrap();
    let index: Vec<Value> = index.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(index.len(), 4);
    for line in &index {
        let bytes = fs::read(out.join(line["file"].as_str().unwrap())).unwrap();
        let topic = line["topic"].as_str().unwrap();
        match topic.rsplit_once("/evidence/") {
            Some((_, sha256)) => assert_eq!(sha256_hex(&bytes), sha256),
            None => assert_eq!(
                serde_json::from_slice::<Value>(&bytes).unwrap()["case_id"],
                case.as_str()
            ),
        }
    }
    let (code, _, error) = outbox(dir.path(), &arguments);
    assert!(code == 3 && error.contains("not empty"), "{error}");
    assert_eq!(outbox(dir.path(), &["list", "--json"]).1.len(), 4, "they stay queued");
}
