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

    for listed in ["ignored", ""] {
        let (code, ..) = boxes(state, &["remove", "box-2"]);
        assert_eq!(code, 0);
        let (_, lines, _) = boxes(state, &["list"]);
        assert_eq!(
            lines.get(1).is_some_and(|line| line.contains("ignored")),
            !listed.is_empty()
        );
    }
    let (code, _, error) = boxes(state, &["remove", "box-2"]);
    assert!(code == 3 && error.contains("no box box-2 is known"), "{error}");
    let (code, _, error) = boxes(state, &["confirm", "box-9"]);
    assert!(code == 3 && error.contains("--key"), "{error}");
    let (code, _, error) = boxes(state, &["confirm", "box-9", "--key", "hunter2"]);
    assert!(code == 3 && !error.contains("hunter2"), "{error}");
}

#[test]
fn unknown_boxes_are_kept_within_a_limit_and_keep_none_from_being_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let key = || SigningKey::generate().unwrap().1.public();
    let confirmed = key();
    store
        .confirm_box(&"box-a".into(), &confirmed, Timestamp::now())
        .unwrap();
    for n in 0..1000 {
        store
            .box_seen(&format!("box-{n}").as_str().into(), &key(), Timestamp::now())
            .unwrap();
    }
    for _ in 0..100 {
        store.box_seen(&"box-a".into(), &key(), Timestamp::now()).unwrap();
    }
    let genuine = key();
    assert!(store.box_seen(&"box-b".into(), &genuine, Timestamp::now()).unwrap());
    let boxes = store.boxes().unwrap();
    assert!(boxes.len() <= 65, "{}", boxes.len());
    let of = |node: &str| boxes.iter().filter(|known| known.node_id == node).count();
    assert_eq!((of("box-a"), of("box-b")), (5, 1));
    assert!(
        boxes
            .iter()
            .any(|known| known.public_key == confirmed.to_string() && known.confirmed_at.is_some())
    );
}

#[test]
fn a_box_has_a_key_before_its_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let new = || {
        let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["keys", "new", "--state"])
            .arg(&state)
            .env_remove("GRIDWATCH_STATE")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let key = new();
    assert_eq!(new(), key);
    let store = Store::open(&state).unwrap();
    assert_eq!(store.public_key().unwrap().to_string(), key.trim());
}
