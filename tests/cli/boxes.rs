//! `gridwatch boxes`: the boxes that share sites with this one.

use std::process::Command;

use gridwatch_custody::SigningKey;
use gridwatch_store::Store;
use jiff::Timestamp;
use serde_json::Value;

/// Exit code, lines of standard output, standard error.
fn boxes(state: &str, arguments: &[&str]) -> (i32, Vec<String>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("boxes")
        .args(arguments)
        .args(["--state", state])
        .env_remove("GRIDWATCH_STATE")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code().unwrap(),
        text.lines().map(Into::into).collect(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_box_is_listed_once_it_published_a_claim_and_obeyed_once_it_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let keys = [(); 2].map(|()| SigningKey::generate().unwrap().1.public());
    let now = Timestamp::now();
    assert!(store.box_seen(&"box-2".into(), &keys[0], now).unwrap());
    assert!(!store.box_seen(&"box-2".into(), &keys[0], now).unwrap(), "known");
    let (_, lines, _) = boxes(state, &["list", "--json"]);
    let listed: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(listed["node_id"], "box-2");
    assert_eq!(listed["public_key"], keys[0].to_string());
    assert_eq!(listed["confirmed_at"], Value::Null);

    // A second key in its name: an operator must say which is right.
    assert!(store.box_seen(&"box-2".into(), &keys[1], now).unwrap());
    let (code, _, error) = boxes(state, &["confirm", "box-2"]);
    assert!(code == 3 && error.contains(&keys[1].to_string()), "{error}");
    let (code, ..) = boxes(state, &["confirm", "box-2", "--key", &keys[1].to_string()]);
    assert_eq!(code, 0);
    let (_, lines, _) = boxes(state, &["list"]);
    assert!(lines.len() == 2 && lines[1].contains(&keys[1].to_string()), "{lines:?}");
    assert!(!lines[1].contains("ignored"), "{lines:?}");

    let (code, ..) = boxes(state, &["remove", "box-2"]);
    assert_eq!(code, 0);
    let (code, _, error) = boxes(state, &["remove", "box-2"]);
    assert!(code == 3 && error.contains("no box box-2 is known"), "{error}");
    let (code, _, error) = boxes(state, &["confirm", "box-9"]);
    assert!(code == 3 && error.contains("--key"), "{error}");
    let (code, _, error) = boxes(state, &["confirm", "box-9", "--key", "hunter2"]);
    assert!(code == 3 && !error.contains("hunter2"), "{error}");
}

#[test]
fn unknown_boxes_are_kept_within_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let key = SigningKey::generate().unwrap().1.public();
    for n in 0..1000 {
        store
            .box_seen(&format!("box-{n}").as_str().into(), &key, Timestamp::now())
            .unwrap();
    }
    assert_eq!(store.boxes().unwrap().len(), 64);
}
