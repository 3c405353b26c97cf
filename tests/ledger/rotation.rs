//! Files rotate by size and age, the oldest are deleted first, and a replay can start with any of them.

use std::{fs, path::Path, sync::Arc, time::Duration};

use crate::engine_support::{HEAP, at, fixed, garbage, plan, rule};
use crate::ledger_support::{files, look, read, record, replay, settings, start};
use gridwatch_engine::{Effect, Input, Plan};
use gridwatch_ledger::{RecordedEvent, Settings, replay::Window};

fn street() -> Arc<Plan> {
    Arc::new(plan([("a", fixed())], vec![rule()]))
}

fn looks(seconds: impl Iterator<Item = u32>) -> impl Iterator<Item = Input> {
    seconds.map(|s| Input::Observed(look("a", s.into(), vec![garbage(0.8, HEAP)])))
}

fn names(dir: &Path) -> Vec<String> {
    files(dir)
        .iter()
        .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

const DAY: u32 = 86400;

#[test]
fn a_replay_can_start_with_any_file_after_rotation_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        file_bytes: 2048,
        ..settings(dir.path())
    };
    let live = record(
        start(settings, at(-1.0), &street(), vec![]),
        looks((0..2000).step_by(10)),
    );
    let all = files(dir.path());
    assert!(all.len() > 3, "{all:?}");
    for file in &all {
        let bytes = fs::metadata(file).unwrap().len();
        assert!(bytes < 2048 + 200, "{}: {bytes}", file.display());
    }
    assert_eq!(replay(dir.path(), &street(), Window::default()).0, live);

    // Starting with a later file, cases filed before are not filed again.
    fs::remove_file(&all[0]).unwrap();
    let (entries, _) = read(dir.path());
    assert!(matches!(&entries[1].event, RecordedEvent::KnownCase(case) if case.state.is_open()));
    let (effects, replayed) = replay(dir.path(), &street(), Window::default());
    assert!(!effects.iter().any(|e| matches!(e, Effect::Open(_))));
    assert_eq!(replayed.tally().not_filed.get("open_case_at_site"), Some(&1));
}

#[test]
fn the_oldest_files_are_deleted_above_the_size_limit() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        file_bytes: 4000,
        keep_bytes: 16000,
        ..settings(dir.path())
    };
    record(
        start(settings, at(-1.0), &street(), vec![]),
        looks((0..5000).step_by(10)),
    );
    let left = names(dir.path());
    let bytes: u64 = files(dir.path()).iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!((8000..=16400).contains(&bytes), "{bytes}");
    assert!(!left.contains(&"ledger-00000001.gwl".to_owned()), "{left:?}");
    let (entries, damage) = read(dir.path());
    assert_eq!(damage, []);
    let RecordedEvent::Observed(last) = &entries.last().unwrap().event else {
        panic!()
    };
    assert_eq!(last.at, at(4990.0), "the newest records are kept");
}

#[test]
fn files_rotate_daily_and_are_deleted_when_their_newest_record_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        keep_for: Duration::from_secs(u64::from(3 * DAY)),
        ..settings(dir.path())
    };
    let hourly = |days: u32| looks((0..days * DAY).step_by(3600));
    record(start(settings.clone(), at(0.0), &street(), vec![]), hourly(3));
    assert_eq!(names(dir.path()).len(), 3);
    // Damaged files are never deleted.
    let damaged = dir.path().join("ledger-00000001.gwl.damaged");
    fs::copy(&files(dir.path())[0], &damaged).unwrap();
    record(
        start(settings, at(f64::from(3 * DAY)), &street(), vec![]),
        looks((3 * DAY..7 * DAY).step_by(3600)),
    );
    assert_eq!(
        names(dir.path()),
        [
            "ledger-00000001.gwl.damaged",
            "ledger-00000003.gwl",
            "ledger-00000004.gwl",
            "ledger-00000005.gwl",
            "ledger-00000006.gwl",
            "ledger-00000007.gwl"
        ]
    );
}
