//! What a crash tears off is cut off and nothing else is; a file damaged elsewhere is read up to the damage, set apart,
//! never deleted, and the next is read on. A disk that does not work stops nothing.

use std::{fs, path::Path, sync::Arc};

use crate::engine_support::{HEAP, at, fixed, garbage, plan, rule};
use crate::ledger_support::{files, happened, read, record, recorder, settings, start};
use gridwatch_engine::{Input, Light, Observation, Plan, View};
use gridwatch_ledger::{LedgerError, Reader, Recorded, What, quarantine};

fn street() -> Arc<Plan> {
    Arc::new(plan([("a", fixed())], vec![rule()]))
}

/// Five looks in a file of their own, begun at `from`.
fn run(dir: &Path, from: f64) {
    record(start(settings(dir), at(from), &street(), vec![]), looks(from));
}

fn looks(from: f64) -> Vec<Input> {
    (1..=5)
        .map(|i| {
            Input::Observed(Observation {
                camera: "a".into(),
                at: at(from + f64::from(i)),
                view: View::Clear,
                light: Light::Day,
                detections: vec![garbage(0.8, HEAP)],
                not_searched: Vec::new(),
            })
        })
        .collect()
}

/// The seconds of the looks that are read.
fn seen(dir: &Path) -> Vec<i64> {
    let second = |w: What| match w {
        What::Observed(look) => look.at.as_second() - at(0.0).as_second(),
        other => panic!("{other:?}"),
    };
    happened(dir).into_iter().map(second).collect()
}

/// Where the frames of a file begin, its end last.
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
fn a_torn_end_is_cut_off_at_every_byte_of_the_last_record_and_recording_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let starts = frames(&whole);
    let last = starts[starts.len() - 2];
    assert_eq!(seen(dir.path()), [1, 2, 3, 4, 5]);
    for length in last..whole.len() {
        let torn = tempfile::tempdir().unwrap();
        let copy = torn.path().join(file.file_name().unwrap());
        fs::write(&copy, &whole[..length]).unwrap();
        assert_eq!(seen(torn.path()), [1, 2, 3, 4], "cut at {length}");
        let (_, damage) = read(torn.path());
        assert_eq!(damage, [], "a torn end is no damage");
        run(torn.path(), 100.0);
        assert_eq!(seen(torn.path()), [1, 2, 3, 4, 101, 102, 103, 104, 105]);
        assert_eq!(fs::read(&copy).unwrap(), whole[..last], "cut at {length}");
        assert_eq!(read(torn.path()).1, []);
    }
}

#[test]
fn an_end_of_zeros_as_a_power_cut_leaves_it_is_torn_too() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], &[0; 4096]].concat()).unwrap();
    run(dir.path(), 100.0);
    assert_eq!(fs::read(&file).unwrap(), whole);
    assert_eq!(seen(dir.path()).len(), 10);
}

#[test]
fn a_damaged_middle_is_told_passed_over_and_set_apart() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        run(dir.path(), f64::from(i) * 100.0);
    }
    let file = files(dir.path()).remove(1);
    let mut bytes = fs::read(&file).unwrap();
    // The third look: before it the head and two looks.
    let offset = frames(&bytes)[3];
    bytes[offset + 12] ^= 0x40;
    fs::write(&file, &bytes).unwrap();

    let wanted = [1, 2, 3, 4, 5, 101, 102, 201, 202, 203, 204, 205];
    assert_eq!(seen(dir.path()), wanted);
    let (_, damage) = read(dir.path());
    let [damage] = &damage[..] else { panic!("{damage:?}") };
    assert_eq!((&damage.path, damage.offset), (&file, offset as u64));
    assert_eq!(damage.lost, (bytes.len() - offset) as u64);
    let told = damage.to_string();
    assert!(told.contains("ledger-00000002.gwl is damaged at byte"), "{told}");
    assert!(told.contains("checksum"), "{told}");

    let aside = quarantine(damage).unwrap().unwrap();
    assert_eq!(fs::read(&aside).unwrap(), bytes, "its bytes are all there");
    assert!(!file.exists());
    assert_eq!(seen(dir.path()), wanted, "what is whole of it is still read");
    let (_, again) = read(dir.path());
    assert!(again[0].is_known);
    assert_eq!(again[0].file_name(), damage.file_name());
    assert_eq!(quarantine(&again[0]).unwrap(), None);
    // A daemon that starts leaves it and its number alone.
    run(dir.path(), 300.0);
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    assert_eq!(seen(dir.path()).len(), wanted.len() + 5);
}

#[test]
fn the_newest_file_damaged_in_its_middle_is_set_apart_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 0.0);
    let file = files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let offset = frames(&bytes)[2];
    bytes[offset + 12] ^= 1;
    fs::write(&file, &bytes).unwrap();
    run(dir.path(), 100.0);
    let aside = file.with_extension("gwl.damaged");
    assert_eq!(fs::read(aside).unwrap(), bytes);
    assert_eq!(seen(dir.path()), [1, 101, 102, 103, 104, 105]);
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn a_folder_without_a_ledger_and_a_newer_format_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = Reader::open(dir.path(), None).unwrap_err().to_string();
    assert!(told.contains("ledger-00000001.gwl"), "{told}");
    run(dir.path(), 0.0);
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
fn a_disk_that_does_not_work_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // A file stands where the folder should be made.
    let no_folder = dir.path().join("ledger");
    fs::write(&no_folder, "").unwrap();
    let broken = record(start(settings(&no_folder), at(0.0), &street(), vec![]), looks(0.0));
    let unrecorded = record(Recorded::start(street(), vec![], None), looks(0.0));
    assert_eq!(broken, unrecorded);
    // So does a folder that another daemon writes.
    let taken = dir.path().join("taken");
    let first = recorder(settings(&taken), at(0.0));
    while !taken.join("ledger-00000001.gwl").exists() {
        std::thread::yield_now();
    }
    let second = record(start(settings(&taken), at(0.0), &street(), vec![]), looks(0.0));
    assert_eq!(second, unrecorded);
    drop(first);
    assert_eq!(files(&taken).len(), 1);
}
