//! An incomplete record at the end of the newest file is cut off, and nothing else. A file damaged elsewhere is read up
//! to the damage, renamed and never deleted, and reading continues with the next file. A disk that does not work does
//! not stop the engine.

use std::{fs, path::Path, sync::Arc};

use crate::engine_support::{HEAP, at, fixed, garbage, plan, rule};
use crate::ledger_support::{events, files, look, read, record, settings, start};
use gridwatch_engine::{Input, Plan};
use gridwatch_ledger::{LedgerError, Reader, RecordedEngine, RecordedEvent, quarantine};

fn street() -> Arc<Plan> {
    Arc::new(plan([("a", fixed())], vec![rule()]))
}

/// Records five looks in a new file, started at second `from`.
fn record_run(dir: &Path, from: f64) {
    record(start(settings(dir), at(from), &street(), vec![]), looks(from));
}

fn looks(from: f64) -> Vec<Input> {
    (1..=5)
        .map(|i| Input::Observed(look("a", from + f64::from(i), vec![garbage(0.8, HEAP)])))
        .collect()
}

/// The seconds of the looks in the ledger.
fn look_seconds(dir: &Path) -> Vec<i64> {
    let second = |w: RecordedEvent| match w {
        RecordedEvent::Observed(look) => look.at.as_second() - at(0.0).as_second(),
        other => panic!("{other:?}"),
    };
    events(dir).into_iter().map(second).collect()
}

/// Positions of the frames of a file, and of its end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = 24;
    let mut all = vec![at];
    while at < bytes.len() {
        at += 8 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        all.push(at);
    }
    all
}

#[test]
fn a_record_truncated_at_any_byte_is_cut_off_and_recording_continues() {
    let dir = tempfile::tempdir().unwrap();
    record_run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let starts = frames(&whole);
    let last = starts[starts.len() - 2];
    assert_eq!(look_seconds(dir.path()), [1, 2, 3, 4, 5]);
    for length in last..whole.len() {
        let truncated = tempfile::tempdir().unwrap();
        let copy = truncated.path().join(file.file_name().unwrap());
        fs::write(&copy, &whole[..length]).unwrap();
        assert_eq!(look_seconds(truncated.path()), [1, 2, 3, 4], "cut at {length}");
        let (_, damage) = read(truncated.path());
        assert_eq!(damage, [], "a truncated end is not damage");
        record_run(truncated.path(), 100.0);
        assert_eq!(look_seconds(truncated.path()), [1, 2, 3, 4, 101, 102, 103, 104, 105]);
        assert_eq!(fs::read(&copy).unwrap(), whole[..last], "cut at {length}");
        assert_eq!(read(truncated.path()).1, []);
    }
}

#[test]
fn zeros_at_the_end_as_after_a_power_cut_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    record_run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], &[0; 4096]].concat()).unwrap();
    record_run(dir.path(), 100.0);
    assert_eq!(fs::read(&file).unwrap(), whole);
    assert_eq!(look_seconds(dir.path()).len(), 10);
}

#[test]
fn damage_in_the_middle_is_reported_skipped_and_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        record_run(dir.path(), f64::from(i) * 100.0);
    }
    let file = files(dir.path()).remove(1);
    let mut bytes = fs::read(&file).unwrap();
    // The third look; the head and two looks come before it.
    let offset = frames(&bytes)[3];
    bytes[offset + 12] ^= 0x40;
    fs::write(&file, &bytes).unwrap();

    let expected = [1, 2, 3, 4, 5, 101, 102, 201, 202, 203, 204, 205];
    assert_eq!(look_seconds(dir.path()), expected);
    let (_, damage) = read(dir.path());
    let [damage] = &damage[..] else { panic!("{damage:?}") };
    assert_eq!((&damage.path, damage.offset), (&file, offset as u64));
    assert_eq!(damage.lost, (bytes.len() - offset) as u64);
    let message = damage.to_string();
    assert!(message.contains("ledger-00000002.gwl is damaged at byte"), "{message}");
    assert!(message.contains("checksum"), "{message}");

    let renamed = quarantine(damage).unwrap().unwrap();
    assert_eq!(fs::read(&renamed).unwrap(), bytes, "its content is unchanged");
    assert!(!file.exists());
    assert_eq!(look_seconds(dir.path()), expected, "the undamaged part is still read");
    let (_, again) = read(dir.path());
    assert!(again[0].is_quarantined);
    assert_eq!(again[0].file_name(), damage.file_name());
    assert_eq!(quarantine(&again[0]).unwrap(), None);
    // A daemon that starts leaves the file and its number alone.
    record_run(dir.path(), 300.0);
    assert_eq!(fs::read(&renamed).unwrap(), bytes);
    assert_eq!(look_seconds(dir.path()).len(), expected.len() + 5);
}

#[test]
fn the_newest_file_is_renamed_and_not_cut_if_damaged_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    record_run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let offset = frames(&bytes)[2];
    bytes[offset + 12] ^= 1;
    fs::write(&file, &bytes).unwrap();
    record_run(dir.path(), 100.0);
    let renamed = file.with_extension("gwl.damaged");
    assert_eq!(fs::read(renamed).unwrap(), bytes);
    assert_eq!(look_seconds(dir.path()), [1, 101, 102, 103, 104, 105]);
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn a_missing_ledger_and_a_newer_format_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let message = Reader::open(dir.path(), None).unwrap_err().to_string();
    assert!(message.contains("ledger-00000001.gwl"), "{message}");
    record_run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    let error = Reader::open(dir.path(), None).unwrap().next_entry().unwrap_err();
    assert!(matches!(error, LedgerError::Newer { found: 9, .. }), "{error}");
}

#[test]
fn a_failing_disk_does_not_stop_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    // There is a file in place of the directory.
    let not_a_directory = dir.path().join("ledger");
    fs::write(&not_a_directory, "").unwrap();
    let broken = record(
        start(settings(&not_a_directory), at(0.0), &street(), vec![]),
        looks(0.0),
    );
    let unrecorded = record(RecordedEngine::start(street(), vec![], None), looks(0.0));
    assert_eq!(broken, unrecorded);
    // The same for a directory in use by another daemon.
    let in_use = dir.path().join("taken");
    let first = start(settings(&in_use), at(0.0), &street(), vec![]);
    while !in_use.join("ledger-00000001.gwl").exists() {
        std::thread::yield_now();
    }
    let second = record(start(settings(&in_use), at(0.0), &street(), vec![]), looks(0.0));
    assert_eq!(second, unrecorded);
    drop(first);
    assert_eq!(files(&in_use).len(), 1);
}
