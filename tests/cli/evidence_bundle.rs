//! An exported case can be verified with and without gridwatch, and every change to it is detected and its file named.

use crate::filing;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_custody::{
    PublicKey,
    bundle::{self, BundleReport, CheckOptions},
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

/// A box with four cases, of which the second was withdrawn; `case` is that one.
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
        let output = gridwatch(&[
            "cases",
            "export",
            &self.case,
            "--state",
            state.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{output:?}");
        out.join(&self.case)
    }
}

fn verify(dir: &Path, key: &PublicKey) -> BundleReport {
    let options = CheckOptions {
        key: Some(key),
        ..CheckOptions::default()
    };
    bundle::check(dir, &options).unwrap()
}

/// The files with a fault.
fn faulty_files(dir: &Path, key: &PublicKey) -> Vec<String> {
    let mut files: Vec<String> = verify(dir, key).faults.into_iter().map(|f| f.file).collect();
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
fn an_exported_case_verifies() {
    let own = Box7::new();
    let dir = own.export_to("out");
    let report = verify(&dir, &own.key());
    assert_eq!(report.faults, []);
    assert!(report.key_is_known);
    assert_eq!(
        (report.revision, report.case_id.as_deref()),
        (Some(2), Some(own.case.as_str()))
    );
    assert_eq!(
        report.chain, 4,
        "from the case's first entry on: filed, third case, withdrawn, fourth case"
    );

    let output = gridwatch(&[
        "evidence",
        "verify",
        dir.to_str().unwrap(),
        "--key",
        &own.key().to_string(),
    ]);
    assert!(output.status.success(), "{output:?}");
    let (_, stranger) = gridwatch_custody::SigningKey::generate().unwrap();
    let output = gridwatch(&[
        "evidence",
        "verify",
        "--json",
        dir.to_str().unwrap(),
        "--key",
        &stranger.public().to_string(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["faults"][0]["file"], "public-key.pem");
}

#[test]
fn sha256sum_and_openssl_verify_it_too() {
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
        // Each line of the chain holds the hash of the previous one.
        "prev=; while read -r line; do case \"$line\" in \
         *'\"withheld\":\"'*) prev=${line##*'\"withheld\":\"'}; prev=${prev%%'\"'*}; continue;; \
         *\"\\\"prev\\\":\\\"$prev\"*) ;; *) exit 1;; esac; \
         prev=$(printf %s \"$line\" | sha256sum | cut -d' ' -f1); done < chain.jsonl; grep -q \"$prev\" head.json"
            .to_owned(),
        // Each event is that of a line, and none of the case was taken out.
        "hash() { printf %s \"$1\" | sha256sum | cut -d' ' -f1; }; \
         while read -r event; do grep -q \"\\\"event\\\":\\\"$(hash \"$event\")\\\"\" chain.jsonl || exit 1; done < events.jsonl; \
         all=$(grep '\"case_id\"' events.jsonl | while read -r event; do \
         hash \"$(grep \"\\\"event\\\":\\\"$(hash \"$event\")\\\"\" chain.jsonl)\"; done | sha256sum | cut -d' ' -f1); \
         grep -q \"$all\" head.json"
            .to_owned(),
    ] {
        let output = shell(&line);
        assert!(output.status.success(), "{line}: {output:?}");
    }
}

#[test]
fn every_changed_byte_is_detected_and_its_file_named() {
    let own = Box7::new();
    let (dir, key) = (own.export_to("out"), own.key());
    for (path, bytes) in files(&dir) {
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
        // Every byte of each file, but only a sample of the pictures' bytes.
        let step = if name.starts_with("pictures") { 997 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(
                faulty_files(&dir, &key).contains(&name),
                "byte {at} of {name}: {:?}",
                verify(&dir, &key).faults
            );
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(verify(&dir, &key).faults, []);
}

#[test]
fn every_missing_added_or_swapped_file_is_detected_and_named() {
    let own = Box7::new();
    let (dir, key) = (own.export_to("out"), own.key());
    let all = files(&dir);
    let name = |path: &Path| path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
    for (path, bytes) in &all {
        fs::remove_file(path).unwrap();
        assert!(faulty_files(&dir, &key).contains(&name(path)), "{}", name(path));
        fs::write(path, bytes).unwrap();
    }
    let pictures: Vec<&PathBuf> = all.keys().filter(|p| name(p).starts_with("pictures")).collect();
    fs::write(pictures[0], &all[pictures[1]]).unwrap();
    fs::write(pictures[1], &all[pictures[0]]).unwrap();
    let faulty = faulty_files(&dir, &key);
    assert!(
        faulty.contains(&name(pictures[0])) && faulty.contains(&name(pictures[1])),
        "{faulty:?}"
    );
    for p in &pictures[..2] {
        fs::write(p, &all[*p]).unwrap();
    }
    fs::write(dir.join("pictures/stranger.jpg"), "another street").unwrap();
    assert!(faulty_files(&dir, &key).contains(&"pictures/stranger.jpg".to_owned()));
}

/// A forger can recompute SHA256SUMS, so the signatures alone must reveal every change.
#[test]
fn changes_with_recomputed_checksums_are_detected_by_the_signatures() {
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
    assert_eq!(verify(&dir, &key).faults, [], "the checksums are in sha256sum's format");
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
    let changed = chain.replacen("\"at\":\"2026", "\"at\":\"2025", 1);
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
        let faulty = faulty_files(&dir, &key);
        // The event of the first line is left over.
        let named = if what == "first removed" {
            "events.jsonl"
        } else {
            "chain.jsonl"
        };
        assert!(faulty.contains(&named.to_owned()), "{what}: {faulty:?}");
    }
    fs::write(path("chain.jsonl"), &chain).unwrap();

    let events = fs::read_to_string(path("events.jsonl")).unwrap();
    let newest_first: Vec<&str> = events.lines().rev().collect();
    for (what, forged) in [
        ("changed", events.replacen("\"revision\":1", "\"revision\":3", 1)),
        ("newest removed", newest_first[1..].join("\n") + "\n"),
        ("twice", events.clone() + newest_first[0] + "\n"),
        ("emptied", String::new()),
    ] {
        fs::write(path("events.jsonl"), forged).unwrap();
        renew();
        let faulty = faulty_files(&dir, &key);
        assert!(faulty.contains(&"events.jsonl".to_owned()), "{what}: {faulty:?}");
    }
    fs::write(path("events.jsonl"), &events).unwrap();

    let record = fs::read_to_string(path("case.json")).unwrap();
    fs::write(path("case.json"), record.replace("\"0102\"", "\"0103\"")).unwrap();
    renew();
    assert!(faulty_files(&dir, &key).contains(&"case.json".to_owned()));
    fs::write(path("case.json"), &record).unwrap();

    let picture = files(&dir)
        .into_keys()
        .find(|p| p.parent().unwrap().ends_with("pictures"))
        .unwrap();
    let bytes = fs::read(&picture).unwrap();
    fs::write(&picture, "another street").unwrap();
    renew();
    assert!(faulty_files(&dir, &key).contains(&picture.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned()));
    fs::write(&picture, bytes).unwrap();

    // With everything restored the bundle verifies again.
    renew();
    assert_eq!(verify(&dir, &key).faults, []);
}

#[test]
fn signatures_from_before_a_key_rotation_stay_valid() {
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
        let report = verify(dir, key);
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
    assert_eq!(verify(&own.export_to("fifth"), &after).faults, []);
    // Rotation did not touch the originals' key.
    KeyRing::of(&state).originals(&OriginalsKey::Own).unwrap();
}

#[test]
fn a_signing_key_replaced_without_rotation_is_reported() {
    let own = Box7::new();
    fs::remove_file(KeyRing::of(&own.state()).signing_file()).unwrap();
    let new = gridwatch(&["keys", "new", "--state", own.state().to_str().unwrap()]);
    assert!(new.status.success(), "{new:?}");
    drop(Store::open(&own.state()).unwrap());
    let report = verify(&own.export_to("out"), &own.key());
    let faults: Vec<&str> = report.faults.iter().map(|f| f.what.as_str()).collect();
    assert!(
        faults.iter().any(|f| f.contains("no unbroken sequence of rotations")),
        "{faults:?}"
    );
    assert!(!report.key_is_known);
}

#[test]
fn an_unknown_algorithm_is_named_and_not_called_a_wrong_signature() {
    let owner = Box7::new();
    let dir = owner.export_to("out");
    let record = fs::read_to_string(dir.join("case.json")).unwrap();
    let named = r#""signature_algorithm":"ed25519""#;
    assert!(record.contains(named));
    fs::write(
        dir.join("case.json"),
        record.replace(named, r#""signature_algorithm":"sm2-sm3""#),
    )
    .unwrap();
    let pem = Command::new("openssl")
        .args("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -outform PEM".split(' '))
        .output()
        .unwrap();
    assert!(pem.status.success(), "{pem:?}");
    fs::write(dir.join("key.pem"), &pem.stdout).unwrap();
    let public = Command::new("openssl")
        .args("pkey -in key.pem -pubout".split(' '))
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(public.status.success(), "{public:?}");
    fs::remove_file(dir.join("key.pem")).unwrap();
    fs::write(dir.join("public-key.pem"), &public.stdout).unwrap();
    let faults = bundle::check(&dir, &bundle::CheckOptions::default()).unwrap().faults;
    let of = |file: &str| -> String {
        faults
            .iter()
            .filter(|f| f.file == file)
            .map(|f| f.what.as_str())
            .collect()
    };
    assert!(
        of("case.json").contains("unknown signature algorithm \"sm2-sm3\""),
        "{faults:?}"
    );
    assert!(of("public-key.pem").contains("unknown algorithm"), "{faults:?}");
    assert!(!of("case.json").contains("signature is invalid"), "{faults:?}");
}

#[test]
fn a_record_that_names_another_algorithm_than_its_keys_is_not_authentic() {
    let owner = Box7::new();
    let dir = owner.export_to("out");
    let record = fs::read_to_string(dir.join("case.json")).unwrap();
    fs::write(
        dir.join("case.json"),
        record.replace("\"ed25519\"", "\"ecdsa-p256-sha256\""),
    )
    .unwrap();
    let faults = verify(&dir, &owner.key()).faults;
    let expected = "signature_algorithm is ecdsa-p256-sha256, but public-key.pem is a key for ed25519";
    assert!(faults.iter().any(|f| f.what == expected), "{faults:?}");
}
