//! An exported case holds before whoever checks it, with us or without; and any change to it is found and named.

use crate::filing;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_custody::{
    PublicKey,
    bundle::{self, Report},
    keys::{KeyRing, OriginalsKey},
};
use gridwatch_engine::CaseState;
use gridwatch_store::Store;

fn gridwatch(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(arguments)
        .env_remove("GRIDWATCH_STATE")
        .output()
        .unwrap()
}

/// A box with three cases, the second of them taken back; and that one exported.
struct Box7 {
    dir: tempfile::TempDir,
    case: String,
}

impl Box7 {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("state")).unwrap();
        let cases: Vec<String> = (1..4).map(|n| filing::file(&mut store, n)).collect();
        let back = filing::revision(&cases[1], CaseState::Withdrawn, 90_000, "gone");
        store.revise(&back, &filing::form()).unwrap();
        filing::file(&mut store, 4);
        Self {
            dir,
            case: cases[1].clone(),
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn key(&self) -> PublicKey {
        KeyRing::of(&self.state()).existing().unwrap().public()
    }

    fn export_to(&self, out: &str) -> PathBuf {
        let out = self.dir.path().join(out);
        let state = self.state();
        let said = gridwatch(&[
            "cases",
            "export",
            &self.case,
            "--state",
            state.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(said.status.success(), "{said:?}");
        out.join(&self.case)
    }
}

fn checked(dir: &Path, key: &PublicKey) -> Report {
    bundle::check(dir, Some(key)).unwrap()
}

/// The files that the check names.
fn named(dir: &Path, key: &PublicKey) -> Vec<String> {
    let mut files: Vec<String> = checked(dir, key).faults.into_iter().map(|f| f.file).collect();
    files.dedup();
    files
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

#[test]
fn an_exported_case_holds() {
    let own = Box7::new();
    let dir = own.export_to("out");
    let report = checked(&dir, &own.key());
    assert_eq!(report.faults, []);
    assert!(report.key_is_known);
    assert_eq!(
        (report.revision, report.case_id.as_deref()),
        (Some(2), Some(own.case.as_str()))
    );
    assert_eq!(
        report.chain, 4,
        "from its first line on: filed, the third, withdrawn, the fourth"
    );

    let said = gridwatch(&[
        "evidence",
        "verify",
        dir.to_str().unwrap(),
        "--key",
        &own.key().to_string(),
    ]);
    assert!(said.status.success(), "{said:?}");
    let (_, stranger) = gridwatch_custody::SigningKey::generate().unwrap();
    let said = gridwatch(&[
        "evidence",
        "verify",
        "--json",
        dir.to_str().unwrap(),
        "--key",
        &stranger.public().to_string(),
    ]);
    assert_eq!(said.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["faults"][0]["file"], "public-key.pem");
}

#[test]
fn sha256sum_and_openssl_say_the_same() {
    let own = Box7::new();
    let dir = own.export_to("out");
    let shell = |line: &str| {
        Command::new("sh")
            .args(["-c", line])
            .current_dir(&dir)
            .output()
            .unwrap()
    };
    let verify = "openssl pkeyutl -verify -pubin -inkey public-key.pem -rawin -in";
    for line in [
        "sha256sum --check --strict --quiet SHA256SUMS".to_owned(),
        format!("{verify} case.json -sigfile case.sig"),
        format!("{verify} head.json -sigfile head.sig"),
        // Each line of the chain names the hash of the one before.
        "prev=; while read -r line; do case \"$line\" in *\"\\\"prev\\\":\\\"$prev\"*) ;; *) exit 1;; esac; \
         prev=$(printf %s \"$line\" | sha256sum | cut -d' ' -f1); done < chain.jsonl; grep -q \"$prev\" head.json"
            .to_owned(),
    ] {
        let said = shell(&line);
        assert!(said.status.success(), "{line}: {said:?}");
    }
}

#[test]
fn any_changed_byte_is_found_and_its_file_named() {
    let own = Box7::new();
    let (dir, key) = (own.export_to("out"), own.key());
    for (path, bytes) in files(&dir) {
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
        // Of a picture some bytes, of the others every one.
        let step = if name.starts_with("pictures") { 997 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(
                named(&dir, &key).contains(&name),
                "byte {at} of {name}: {:?}",
                checked(&dir, &key).faults
            );
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(checked(&dir, &key).faults, []);
}

#[test]
fn any_missing_added_or_swapped_file_is_found_and_named() {
    let own = Box7::new();
    let (dir, key) = (own.export_to("out"), own.key());
    let all = files(&dir);
    let name = |path: &Path| path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
    for (path, bytes) in &all {
        fs::remove_file(path).unwrap();
        assert!(named(&dir, &key).contains(&name(path)), "{}", name(path));
        fs::write(path, bytes).unwrap();
    }
    let pictures: Vec<&PathBuf> = all.keys().filter(|p| name(p).starts_with("pictures")).collect();
    fs::write(pictures[0], &all[pictures[1]]).unwrap();
    fs::write(pictures[1], &all[pictures[0]]).unwrap();
    let told = named(&dir, &key);
    assert!(
        told.contains(&name(pictures[0])) && told.contains(&name(pictures[1])),
        "{told:?}"
    );
    for p in &pictures[..2] {
        fs::write(p, &all[*p]).unwrap();
    }
    fs::write(dir.join("pictures/stranger.jpg"), "another street").unwrap();
    assert!(named(&dir, &key).contains(&"pictures/stranger.jpg".to_owned()));
}

/// Whoever changes the folder can make SHA256SUMS anew: what the box signed must tell on its own.
#[test]
fn a_forger_who_makes_the_sums_anew_is_caught_by_what_was_signed() {
    let own = Box7::new();
    let (dir, key) = (own.export_to("out"), own.key());
    let renew = || {
        let line = "find . -type f ! -name SHA256SUMS -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS";
        assert!(
            Command::new("sh")
                .args(["-c", line])
                .current_dir(&dir)
                .status()
                .unwrap()
                .success()
        );
    };
    renew();
    assert_eq!(checked(&dir, &key).faults, [], "the sums are written as sha256sum does");
    let path = |name: &str| dir.join(name);
    let chain = fs::read_to_string(path("chain.jsonl")).unwrap();
    let lines: Vec<&str> = chain.lines().collect();
    let without = |i: usize| {
        let left: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, l)| *l)
            .collect();
        left.join("\n") + "\n"
    };
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    let changed = chain.replacen("\"revision\":1", "\"revision\":3", 1);
    for (what, forged) in [
        ("first removed", without(0)),
        ("one removed", without(1)),
        ("the case's newest removed", without(2)),
        ("last cut off", without(3)),
        ("swapped", swapped.join("\n") + "\n"),
        ("changed", changed),
        ("emptied", String::new()),
    ] {
        fs::write(path("chain.jsonl"), forged).unwrap();
        renew();
        let told = named(&dir, &key);
        // A bundle that begins one line later is whole, where that line is not the record's own.
        if what == "first removed" {
            assert_eq!(told, [""; 0], "{what}");
        } else {
            assert!(told.contains(&"chain.jsonl".to_owned()), "{what}: {told:?}");
        }
    }
    fs::write(path("chain.jsonl"), &chain).unwrap();

    let record = fs::read_to_string(path("case.json")).unwrap();
    fs::write(path("case.json"), record.replace("\"0102\"", "\"0103\"")).unwrap();
    renew();
    assert!(named(&dir, &key).contains(&"case.json".to_owned()));
    fs::write(path("case.json"), &record).unwrap();

    let picture = files(&dir)
        .into_keys()
        .find(|p| p.parent().unwrap().ends_with("pictures"))
        .unwrap();
    let bytes = fs::read(&picture).unwrap();
    fs::write(&picture, "another street").unwrap();
    renew();
    assert!(named(&dir, &key).contains(&picture.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned()));
    fs::write(&picture, bytes).unwrap();

    // A case of an earlier revision, as it once was exported, in the place of the newest.
    renew();
    assert_eq!(checked(&dir, &key).faults, []);
}

#[test]
fn what_was_signed_before_a_rotation_holds_behind_it() {
    let own = Box7::new();
    let before = own.key();
    let earlier = own.export_to("before");
    let state = own.state();
    let rotated = gridwatch(&["keys", "rotate", "--state", state.to_str().unwrap()]);
    assert!(rotated.status.success(), "{rotated:?}");
    let after = own.key();
    assert_ne!(before, after);
    assert_eq!(String::from_utf8(rotated.stdout).unwrap().trim(), after.to_string());

    let later = own.export_to("after");
    for (dir, key) in [(&earlier, &before), (&later, &before), (&later, &after)] {
        let report = checked(dir, key);
        assert_eq!(
            (report.faults, report.key_is_known),
            (vec![], true),
            "{}",
            dir.display()
        );
    }
    let mut store = Store::open(&state).unwrap();
    let fifth = filing::file(&mut store, 5);
    let held = gridwatch(&["keys", "rotate", "--state", state.to_str().unwrap()]);
    assert_eq!(held.status.code(), Some(4), "the daemon runs: {held:?}");
    drop(store);
    let own = Box7 { case: fifth, ..own };
    assert_eq!(checked(&own.export_to("fifth"), &after).faults, []);
    // Nothing of this made a second key for originals.
    KeyRing::of(&state).originals(&OriginalsKey::Own).unwrap();
}

#[test]
fn a_key_that_was_replaced_by_hand_is_told_of() {
    let own = Box7::new();
    fs::remove_file(KeyRing::of(&own.state()).signing_file()).unwrap();
    drop(Store::open(&own.state()).unwrap());
    let report = checked(&own.export_to("out"), &own.key());
    let told: Vec<&str> = report.faults.iter().map(|f| f.what.as_str()).collect();
    assert!(told.iter().any(|t| t.contains("not handed over")), "{told:?}");
    assert!(!report.key_is_known);
}
