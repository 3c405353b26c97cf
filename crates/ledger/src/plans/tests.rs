//! Plans are stored once, found again bit for bit, and deleted when no ledger file needs them.

use std::{collections::BTreeMap, fs, time::Duration};

use super::{keep::PlanKeeper, *};
use gridwatch_engine::{Intake, Plan, Verification, calendar::Calendar};

fn plan(seconds: u64, grid: &str) -> Arc<Plan> {
    Arc::new(Plan {
        node: "box-1".into(),
        cameras: BTreeMap::new(),
        rules: Vec::new(),
        grid: serde_json::from_str(grid).unwrap(),
        intake: Intake {
            per_camera_day: 1,
            per_box_day: 2,
            let_go_after: None,
        },
        verification: Verification::default(),
        picture_interval: Duration::from_secs(seconds),
        calendar: Calendar {
            zone: TimeZone::get("Asia/Shanghai").unwrap(),
            ..Calendar::default()
        },
    })
}

const ONE: &str = r#"{"1":[[[[113.1,34.1],[113.2,34.1],[113.2,34.2000000000000028]]]]}"#;
const OTHER: &str = r#"{"2":[[[[113.1,34.1],[113.2,34.1],[113.2,34.3]]]]}"#;

fn files(dir: &Path) -> usize {
    let all = fs::read_dir(dir.join(FOLDER)).unwrap();
    all.filter(|e| e.as_ref().unwrap().file_name() != "uses.json").count()
}

#[test]
fn a_plan_is_stored_once_and_shares_its_grid() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = PlanKeeper::open(dir.path(), 0).unwrap();
    let (first, second) = (plan(1, ONE), plan(2, ONE));
    let id = keeper.store(&first, 1).unwrap().unwrap();
    let path = path_of(&dir.path().join(FOLDER), &id);
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    let changed = keeper.store(&second, 1).unwrap().unwrap();
    assert_eq!((files(dir.path()), id == changed), (3, false), "two plans and a grid");
    assert_eq!(keeper.store(&plan(1, ONE), 2).unwrap().unwrap(), id, "taken back");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    let mut reader = PlanReader::new(dir.path());
    for (id, plan) in [(&id, &first), (&changed, &second)] {
        assert_eq!(format!("{:?}", reader.get(id).unwrap()), format!("{plan:?}"));
    }
}

#[test]
fn a_plan_is_deleted_when_no_ledger_file_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = PlanKeeper::open(dir.path(), 0).unwrap();
    let first = keeper.store(&plan(1, ONE), 1).unwrap().unwrap();
    let second = keeper.store(&plan(2, OTHER), 1).unwrap().unwrap();
    keeper.store(&plan(2, OTHER), 2).unwrap();
    keeper.store(&plan(3, OTHER), 3).unwrap();
    keeper.remove_unused(1).unwrap();
    assert_eq!(files(dir.path()), 5);
    // The list outlasts a restart; a file that it does not have counts as needed by the newest.
    drop(keeper);
    let unknown = dir.path().join(FOLDER).join(format!("{}.json.gz", "f".repeat(64)));
    fs::write(&unknown, "").unwrap();
    let mut keeper = PlanKeeper::open(dir.path(), 3).unwrap();
    keeper.remove_unused(2).unwrap();
    let mut reader = PlanReader::new(dir.path());
    assert!(matches!(reader.get(&first), Err(PlanError::Missing { .. })));
    assert!(reader.get(&second).is_ok());
    assert_eq!(files(dir.path()), 4, "the first plan and its grid are gone");
    keeper.remove_unused(3).unwrap();
    assert!(unknown.exists());
    keeper.remove_unused(4).unwrap();
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_damaged_list_keeps_everything_longer_and_a_temporary_file_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = PlanKeeper::open(dir.path(), 0).unwrap();
    keeper.store(&plan(1, ONE), 1).unwrap();
    let folder = dir.path().join(FOLDER);
    fs::write(folder.join("uses.json"), "{").unwrap();
    fs::write(folder.join("abc.123.tmp"), "half").unwrap();
    let mut keeper = PlanKeeper::open(dir.path(), 7).unwrap();
    keeper.remove_unused(7).unwrap();
    assert_eq!(files(dir.path()), 2);
    keeper.remove_unused(8).unwrap();
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_damaged_plan_is_reported_and_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = PlanKeeper::open(dir.path(), 0).unwrap();
    let id = keeper.store(&plan(1, ONE), 1).unwrap().unwrap();
    let path = path_of(&dir.path().join(FOLDER), &id);
    let whole = fs::read(&path).unwrap();
    let damage = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        PlanReader::new(dir.path()).get(&id).unwrap_err()
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bytes in [&whole[..whole.len() / 2], &flipped[..], b"", b"not gzip"] {
        let error = damage(bytes);
        assert!(matches!(error, PlanError::Damaged { .. }), "{error}");
    }
    // Other contents, whole but under this name.
    let other = keeper.store(&plan(9, ONE), 1).unwrap().unwrap();
    let error = damage(&fs::read(path_of(&dir.path().join(FOLDER), &other)).unwrap());
    assert!(error.to_string().contains("SHA-256"), "{error}");
    let mut keeper = PlanKeeper::open(dir.path(), 1).unwrap();
    assert_eq!(keeper.store(&plan(1, ONE), 2).unwrap().unwrap(), id);
    assert!(PlanReader::new(dir.path()).get(&id).is_ok());
}

#[test]
fn ids_are_hashes_and_nothing_else() {
    for bad in ["", "..", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
        assert!(PlanId::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
