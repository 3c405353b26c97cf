//! Retention: what is deleted by age and by size, what never is, and the chain's record of it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use crate::filing::{at, case, form, pictures, record, revision};
use gridwatch_custody::{
    bundle::{self, CheckOptions},
    chain::CustodyEvent,
    keys::{KeyRing, OriginalsKey},
    vault::{OriginalFormat, Vault},
};
use gridwatch_engine::CaseState;
use gridwatch_store::{Budget, Pruned, Retention, Store};

const DAY: Duration = Duration::from_hours(24);

fn vault(dir: &Path) -> Vault {
    Vault::new(dir, KeyRing::of(dir).originals(&OriginalsKey::Own).unwrap())
}

/// Files the `n`th case with an original of `bytes` bytes. Returns its id and the original's hash.
fn file(store: &mut Store, n: u32, bytes: usize) -> (String, String) {
    let original = vault(store.dir())
        .put(OriginalFormat::H264, &vec![n as u8; bytes])
        .unwrap();
    let mut evidence = pictures(store.dir(), n);
    evidence[0].derived_from = Some(original.clone());
    let (case, evidence) = (case(n), evidence);
    let record = record(&case, evidence);
    store.commit_case(&record, &case, &form()).unwrap();
    (record.case_id, original)
}

fn acknowledge_all(store: &mut Store) {
    for entry in store.outbox_entries(false, u32::MAX).unwrap() {
        store.outbox_acknowledged(entry.seq, at(9999)).unwrap();
    }
    store.outbox_forget_acknowledged(at(10_000)).unwrap();
}

/// No limits on age or size.
fn unlimited() -> Retention {
    let budget = Budget {
        keep: None,
        bytes: u64::MAX,
    };
    Retention {
        originals: budget,
        pictures: budget,
    }
}

fn count(dir: &Path, folder: &str) -> usize {
    let folders = fs::read_dir(dir.join(folder)).unwrap();
    folders.map(|f| fs::read_dir(f.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn expired_originals_are_deleted_and_the_chain_records_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (id, original) = file(&mut store, 1, 1000);
    let month = Retention {
        originals: Budget {
            keep: Some(30 * DAY),
            bytes: u64::MAX,
        },
        ..unlimited()
    };
    store
        .revise(&revision(&id, CaseState::Withdrawn, 9000, "gone"), &form())
        .unwrap();
    assert_eq!(store.prune(&month, at(29 * 86_400)).unwrap(), Pruned::default());
    assert_eq!(vault(dir.path()).open(&original).unwrap().1.len(), 1000);
    let gone = store.prune(&month, at(31 * 86_400)).unwrap();
    assert_eq!(
        gone,
        Pruned {
            originals: 1,
            pictures: 0
        }
    );
    assert!(vault(dir.path()).open(&original).is_err());
    assert_eq!(store.prune(&month, at(31 * 86_400)).unwrap(), Pruned::default(), "once");

    let excerpt = store.chain_excerpt(&id, None).unwrap();
    let segment = excerpt.read().unwrap_or_else(|e| panic!("{e:?}"));
    let Some(CustodyEvent::Deleted {
        case_id,
        what,
        sha256,
        reason,
    }) = &segment.lines.last().unwrap().event
    else {
        panic!("{excerpt:?}")
    };
    assert_eq!(
        (case_id, what.as_str(), &sha256[..]),
        (&id, "original", &[original][..])
    );
    assert_eq!(reason, "retention period expired");
}

#[test]
fn originals_of_open_cases_have_no_age_even_if_a_closed_case_shares_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (_, own) = file(&mut store, 1, 1000);
    let (finished, _) = file(&mut store, 2, 1000);
    // One keyframe shows two problems.
    let mut evidence = pictures(store.dir(), 3);
    evidence[0].derived_from = Some(own.clone());
    let (case, shared) = (case(3), evidence);
    let sharing = record(&case, shared);
    store.commit_case(&sharing, &case, &form()).unwrap();
    for id in [&finished, &sharing.case_id] {
        store
            .revise(&revision(id, CaseState::Withdrawn, 9000, "gone"), &form())
            .unwrap();
    }
    let day = Retention {
        originals: Budget {
            keep: Some(DAY),
            bytes: u64::MAX,
        },
        ..unlimited()
    };
    let year_ahead = at(366 * 86_400);
    assert_eq!(
        store.prune(&day, year_ahead).unwrap().originals,
        1,
        "that of {finished}"
    );
    assert!(vault(dir.path()).open(&own).is_ok());
    // The time of the last line is what the next start compares its clock with.
    assert_eq!(store.newest_trusted_time().unwrap(), Some(year_ahead));
}

#[test]
fn opening_originals_needs_a_reason_and_is_recorded_in_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (id, original) = file(&mut Store::open(dir.path()).unwrap(), 1, 1000);
    let out = dir.path().join("out");
    let export = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["cases", "export", &id, "--originals"])
            .args(["--state", dir.path().to_str().unwrap(), "--out", out.to_str().unwrap()])
            .args(more)
            .output()
            .unwrap()
    };
    assert_eq!(export(&[]).status.code(), Some(2), "--reason is required");
    let output = export(&["--reason", "court file 17"]);
    assert!(output.status.success(), "{output:?}");
    let file = out.join(&id).join(format!("originals/{original}.h264"));
    assert_eq!(fs::read(&file).unwrap(), vec![1; 1000]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700), "unmasked");
    let events = fs::read_to_string(out.join(&id).join("events.jsonl")).unwrap();
    assert!(
        events.contains("\"kind\":\"opened\"") && events.contains(&original),
        "{events}"
    );
    for file in ["events.jsonl", "chain.jsonl", "head.json"] {
        let text = fs::read_to_string(out.join(&id).join(file)).unwrap();
        assert!(!text.contains("court file 17"), "the reason stays on the box: {text}");
    }
    let key = KeyRing::of(dir.path()).existing().unwrap().public();
    let faults = || {
        bundle::check(
            &out.join(&id),
            &CheckOptions {
                key: Some(&key),
                ..CheckOptions::default()
            },
        )
        .unwrap()
        .faults
    };
    assert_eq!(faults(), []);
    fs::write(&file, "another street").unwrap();
    assert!(
        faults()
            .iter()
            .any(|f| f.what.contains("does not match the SHA-256 in the file name")),
        "{:?}",
        faults()
    );
    let stranger = file.with_file_name(format!("{}.h264", "0".repeat(64)));
    fs::rename(&file, &stranger).unwrap();
    assert!(
        faults().iter().any(|f| f.what.contains("no signature covers")),
        "{:?}",
        faults()
    );
}

#[test]
fn over_the_size_limit_the_oldest_originals_of_finished_cases_are_deleted_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let filed: Vec<(String, String)> = (1..5).map(|n| file(&mut store, n, 10_000)).collect();
    for (id, _) in &filed[2..] {
        store
            .revise(&revision(id, CaseState::Withdrawn, 9000, "gone"), &form())
            .unwrap();
    }
    let keep = |bytes| Retention {
        originals: Budget { keep: None, bytes },
        ..unlimited()
    };
    let left = |dir: &Path| -> Vec<bool> { filed.iter().map(|(_, o)| vault(dir).open(o).is_ok()).collect() };
    store.prune(&keep(35_000), at(10_000)).unwrap();
    assert_eq!(left(dir.path()), [true, true, false, true]);
    store.prune(&keep(15_000), at(10_000)).unwrap();
    assert_eq!(
        left(dir.path()),
        [false, true, false, false],
        "then the oldest of open cases"
    );
}

#[test]
fn pictures_of_open_cases_and_unsent_messages_are_kept_over_the_size_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (open, _) = file(&mut store, 1, 10);
    let (finished, _) = file(&mut store, 2, 10);
    let nothing = Retention {
        pictures: Budget {
            keep: Some(Duration::ZERO),
            bytes: 0,
        },
        ..unlimited()
    };
    store
        .revise(&revision(&finished, CaseState::Withdrawn, 9000, "gone"), &form())
        .unwrap();
    assert_eq!(
        store.prune(&nothing, at(99_999)).unwrap(),
        Pruned::default(),
        "both are queued in the outbox"
    );
    acknowledge_all(&mut store);
    let gone = store.prune(&nothing, at(99_999)).unwrap();
    assert_eq!(
        gone,
        Pruned {
            originals: 0,
            pictures: 3
        }
    );
    assert_eq!(count(dir.path(), "evidence"), 3, "those of {open}");

    // Pictures that the box deleted by retention are missing from an export without being a fault.
    drop(store);
    let out = dir.path().join("out");
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args([
            "cases",
            "export",
            &finished,
            "--state",
            dir.path().to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let key = KeyRing::of(dir.path()).existing().unwrap().public();
    assert_eq!(
        bundle::check(
            &out.join(&finished),
            &CheckOptions {
                key: Some(&key),
                ..CheckOptions::default()
            }
        )
        .unwrap()
        .faults,
        []
    );
}
