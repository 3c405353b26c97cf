//! A lost database is noticed and never replaced by an empty one; a backup is restored without filing anything again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::filing::{at, file, form, revision};
use gridwatch_base::error::Class;
use gridwatch_base::person::Person;
use gridwatch_custody::{
    chain::{ActResult, Details},
    keys::{KeyRing, OriginalsKey},
};
use gridwatch_engine::CaseState;
use gridwatch_store::{Filter, NewAct, Store, StoreError, inspect};

const FILES: [&str; 3] = ["gridwatch.db", "gridwatch.db-wal", "gridwatch.db-shm"];

fn delete(dir: &Path) {
    for name in FILES {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{name}: {e}"),
            _ => {}
        }
    }
}

fn ids(store: &Store) -> Vec<String> {
    let cases = store.cases(Filter::default()).unwrap();
    let mut ids: Vec<String> = cases.into_iter().map(|c| c.case_id).collect();
    ids.sort();
    ids
}

/// Overwrites all pages but the first `intact` ones.
fn damage(path: &Path, intact: usize) {
    let mut bytes = fs::read(path).unwrap();
    for page in bytes.chunks_mut(4096).skip(intact) {
        page[..64].fill(0xff);
    }
    fs::write(path, &bytes).unwrap();
}

#[test]
fn a_database_that_is_deleted_or_replaced_while_it_is_open_takes_no_more_cases() {
    for change in ["delete", "move", "replace", "delete the write-ahead log"] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let id = file(&mut store, 1);
        assert!(store.check_files().is_ok());
        let path = |name: &str| dir.path().join(name);
        match change {
            "delete" => delete(dir.path()),
            "move" => FILES
                .iter()
                .for_each(|f| fs::rename(path(f), path(&format!("{f}.away"))).unwrap()),
            "replace" => {
                fs::copy(path(FILES[0]), path("copy")).unwrap();
                fs::rename(path("copy"), path(FILES[0])).unwrap();
            }
            _ => fs::remove_file(path(FILES[1])).unwrap(),
        }
        let error = store.revise(&revision(&id, CaseState::Withdrawn, 4000, "gone"), &form());
        let error = error.expect_err(change);
        assert!(matches!(error, StoreError::Gone { .. }), "{change}: {error:?}");
        assert_eq!(error.class(), Class::Transient);
        if change == "move" {
            FILES
                .iter()
                .for_each(|f| fs::rename(path(&format!("{f}.away")), path(f)).unwrap());
            let revised = store.revise(&revision(&id, CaseState::Withdrawn, 4000, "gone"), &form());
            assert_eq!(revised.unwrap(), 2, "it is back");
        }
    }
}

#[test]
fn a_state_directory_that_lost_its_database_is_refused_with_the_choices() {
    let dir = tempfile::tempdir().unwrap();
    file(&mut Store::open(dir.path()).unwrap(), 1);
    for truncate in [false, true] {
        delete(dir.path());
        if truncate {
            fs::write(dir.path().join(FILES[0]), "").unwrap();
        }
        let error = Store::open(dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::Config);
        let message = error.to_string();
        for part in [
            "the signing key, evidence pictures",
            "store restore",
            "store rebuild",
            "store new",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(inspect(dir.path(), &KeyRing::of(dir.path())).version.is_err());
    }
    let anew = Store::start_anew(dir.path()).unwrap();
    assert_eq!((anew.cases, anew.unknown_pictures), (0, 3));
    assert_eq!(ids(&Store::open(dir.path()).unwrap()), [""; 0]);
}

/// As after `kill -9`: the log is not merged.
fn killed(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            killed(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_killed_box_that_loses_its_write_ahead_log_keeps_its_cases() {
    let dir = tempfile::tempdir().unwrap();
    let (state, copy) = (dir.path().join("state"), dir.path().join("copy"));
    let mut store = Store::open(&state).unwrap();
    fs::create_dir(&copy).unwrap();
    killed(&state, &copy);
    fs::remove_file(copy.join(FILES[1])).unwrap();
    assert!(Store::open(&copy).is_ok(), "the file is never empty");
    let filed: Vec<String> = (0..3).map(|n| file(&mut store, n)).collect();
    killed(&state, &copy);
    fs::remove_file(copy.join(FILES[1])).unwrap();
    assert_eq!(ids(&Store::open(&copy).unwrap()), filed);
}

#[test]
fn a_database_that_was_in_its_log_only_is_lost_with_it() {
    let dir = tempfile::tempdir().unwrap();
    file(&mut Store::open(dir.path()).unwrap(), 1);
    delete(dir.path());
    // As older versions left it in a box's first hours.
    let path = dir.path().join(FILES[0]);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    drop(db);
    assert!(fs::metadata(&path).unwrap().len() > 0);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    assert!(error.to_string().contains("write-ahead log"), "{error}");
    assert!(matches!(
        inspect(dir.path(), &KeyRing::of(dir.path())).version,
        Err(StoreError::Lost { .. })
    ));

    let message = Store::restore(dir.path(), &path).unwrap_err().to_string();
    assert!(message.contains("write-ahead log, which is missing"), "{message}");
}

#[test]
fn an_older_copy_of_the_database_is_noticed_by_pictures_that_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let (state, older) = (dir.path().join("state"), dir.path().join("older.db"));
    let mut store = Store::open(&state).unwrap();
    file(&mut store, 1);
    store.backup(&older).unwrap();
    assert!(
        matches!(inspect(&state, &KeyRing::of(&state)).doubts, Ok(None)),
        "{:?}",
        inspect(&state, &KeyRing::of(&state)).doubts
    );
    file(&mut store, 2);
    drop(store);
    delete(&state);
    fs::copy(&older, state.join(FILES[0])).unwrap();
    let doubt = inspect(&state, &KeyRing::of(&state))
        .doubts
        .unwrap()
        .expect("pictures of the second case");
    assert!(
        doubt.contains("3 pictures") && doubt.contains("store restore"),
        "{doubt}"
    );

    // A person's act is recorded in the older copy, and makes it no newer.
    let trusted = || Store::open_read_only(&state).unwrap().newest_trusted_time().unwrap();
    let before = trusted();
    let act = NewAct {
        act: "outbox retry",
        case: None,
        result: ActResult::Done,
        details: &Details::new(Person::current()).unwrap(),
    };
    let mut beside = Store::open_unlocked(&state).unwrap();
    beside.record_act(&act, jiff::Timestamp::now()).unwrap();
    drop(beside);
    assert_eq!(
        inspect(&state, &KeyRing::of(&state)).doubts.unwrap().as_ref(),
        Some(&doubt)
    );
    assert_eq!(trusted(), before);
}

#[test]
fn a_database_that_is_overwritten_in_place_takes_no_more_cases() {
    for with in ["backup", "older copy", "garbage"] {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("other.db"));
        let mut store = Store::open(&state).unwrap();
        let path = state.join(FILES[0]);
        match with {
            "backup" => store.backup(&other).unwrap(),
            "older copy" => drop(fs::copy(&path, &other).unwrap()),
            _ => fs::write(&other, [7; 8192]).unwrap(),
        }
        let id = file(&mut store, 1);
        store.check_files().unwrap();
        // The same inode.
        fs::write(&path, fs::read(&other).unwrap()).unwrap();
        for _ in 0..2 {
            let error = store.check_files().expect_err(with);
            assert!(matches!(error, StoreError::Overwritten { .. }), "{with}: {error}");
        }
        let error = store.revise(&revision(&id, CaseState::Withdrawn, 4000, "gone"), &form());
        assert!(
            matches!(error, Err(StoreError::Overwritten { .. })),
            "{with}: {error:?}"
        );
    }
}

#[test]
fn commits_of_other_processes_are_no_overwriting() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let mut other = Store::open_unlocked(dir.path()).unwrap();
    other
        .record_originals_opened(&id, &[], &Details::new(Person::current()).unwrap(), at(5000))
        .unwrap();
    drop(other);
    let touched = fs::File::options().write(true).open(dir.path().join(FILES[0])).unwrap();
    touched.set_modified(std::time::SystemTime::now()).unwrap();
    store.check_files().unwrap();
    file(&mut store, 2);
    store.check_files().unwrap();
}

#[test]
fn a_box_without_cases_knows_when_it_ran_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let begun = store.newest_trusted_time().unwrap();
    assert!(begun.is_some(), "the time at which the chain begins");
    store
        .save_snapshot(at(7000), &gridwatch_engine::Engine::new().snapshot())
        .unwrap();
    assert_eq!(store.newest_trusted_time().unwrap(), Some(at(7000)));
}

#[test]
fn lost_keys_are_not_replaced_without_a_command() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    fs::remove_dir_all(dir.path().join("keys")).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert_eq!(error.class(), Class::Config);
    let message = error.to_string();
    assert!(
        message.contains("a chain of custody") && message.contains("gridwatch keys new"),
        "{message}"
    );
    assert!(matches!(
        inspect(dir.path(), &KeyRing::of(dir.path())).doubts,
        Err(StoreError::KeyLost { .. })
    ));
    assert!(!dir.path().join("keys/signing.pem").exists());
    let public = gridwatch_store::create_missing_keys(dir.path(), &KeyRing::of(dir.path()), &OriginalsKey::Own)
        .unwrap()
        .0;
    assert_eq!(Store::open(dir.path()).unwrap().public_key(), Some(public));
}

#[test]
fn a_backup_of_another_box_is_refused_unless_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, backup) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("b"));
    let mut first = Store::open(&one).unwrap();
    let id = file(&mut first, 1);
    first.backup(&backup).unwrap();
    let (own, theirs) = (
        Store::open(&two).unwrap().public_key().unwrap(),
        first.public_key().unwrap(),
    );
    let error = Store::restore(&two, &backup).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, StoreError::OtherBox { .. }), "{message}");
    for part in [own.to_string(), theirs.to_string(), "--from-other-box".into()] {
        assert!(message.contains(&part), "{message}");
    }
    assert_eq!(ids(&Store::open(&two).unwrap()), [""; 0]);
    assert_eq!(Store::restore_from_other_box(&two, &backup).unwrap().cases, 1);
    assert_eq!(ids(&Store::open(&two).unwrap()), [id]);
    // A key that was rotated since is of the same box.
    first.rotate_key(&KeyRing::of(&one), at(6000)).unwrap();
    drop(first);
    assert!(Store::restore(&one, &backup).is_ok());
}

#[test]
fn a_new_state_directory_is_not_a_lost_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        inspect(dir.path(), &KeyRing::of(dir.path())).version,
        Ok(None)
    ));
    drop(Store::open(dir.path()).unwrap());
    assert!(matches!(
        inspect(dir.path(), &KeyRing::of(dir.path())).version,
        Ok(Some(_))
    ));
}

#[test]
fn a_backup_of_a_running_store_is_restored_with_what_was_filed_since() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup.db");
    let state = dir.path().join("state");
    let mut store = Store::open(&state).unwrap();
    let (first, second) = (file(&mut store, 1), file(&mut store, 2));
    Store::open_read_only(&state).unwrap().backup(&backup).unwrap();
    let third = file(&mut store, 3);
    store
        .revise(&revision(&first, CaseState::Withdrawn, 4000, "gone"), &form())
        .unwrap();
    let queued = store.outbox_depth().unwrap();

    let busy = Store::restore(&state, &backup);
    assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");
    drop(store);
    let restored = Store::restore(&state, &backup).unwrap();
    assert_eq!(
        (restored.cases, restored.taken_over, restored.unknown_pictures),
        (3, 2, 0)
    );
    assert!(restored.moved_to.unwrap().is_file());

    let mut store = Store::open(&state).unwrap();
    assert_eq!(ids(&store), [first.clone(), second.clone(), third.clone()]);
    let case = store.case(&first).unwrap().unwrap();
    assert_eq!((case.record.state, case.history.len()), (CaseState::Withdrawn, 2));
    assert_eq!(
        store.outbox_depth().unwrap(),
        queued,
        "nothing is sent twice, and nothing is lost"
    );
    let open = store.cases_to_restore(at(5000)).unwrap();
    assert_eq!(open.len(), 3, "the engine knows all sites");
    // The chain goes on where the previous database ended.
    file(&mut store, 4);
    let excerpt = store.chain_excerpt(&first, None).unwrap();
    let segment = excerpt.read().unwrap_or_else(|broken| panic!("{broken:?}"));
    assert_eq!(segment.lines.len(), 5);
}

#[test]
fn a_backup_without_the_previous_database_says_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let (state, backup) = (dir.path().join("state"), dir.path().join("backup.db"));
    let mut store = Store::open(&state).unwrap();
    let first = file(&mut store, 1);
    store.backup(&backup).unwrap();
    file(&mut store, 2);
    drop(store);
    delete(&state);
    let restored = Store::restore(&state, &backup).unwrap();
    assert_eq!((restored.cases, restored.moved_to), (1, None));
    assert_eq!(restored.unknown_pictures, 3, "of the case filed after the backup");
    assert_eq!(ids(&Store::open(&state).unwrap()), [first]);
}

#[test]
fn what_is_not_a_sound_backup_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut store = Store::open(&state).unwrap();
    for n in 0..20 {
        file(&mut store, n);
    }
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    store.backup(&path("damaged")).unwrap();
    damage(&path("damaged"), 1);
    store.backup(&path("newer")).unwrap();
    let db = rusqlite::Connection::open(path("newer")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    fs::write(path("text"), "not a database".repeat(1000)).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::create_dir(path("folder")).unwrap();
    drop(store);
    for (name, expected) in [
        ("damaged", "cannot restore"),
        ("newer", "schema version 99 is newer"),
        ("text", "cannot restore"),
        ("empty", "it has no cases"),
        ("folder", "not a regular file"),
        ("missing", "No such file"),
    ] {
        let message = Store::restore(&state, &path(name)).unwrap_err().to_string();
        assert!(message.contains(expected), "{name}: {message}");
        assert_eq!(ids(&Store::open(&state).unwrap()).len(), 20, "{name}");
    }
    let names = fs::read_dir(&state)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names
        .filter(|n| n.contains("restoring") || n.contains("replaced"))
        .collect();
    assert_eq!(left, [""; 0]);
    // A backup never overwrites a file.
    let store = Store::open(&state).unwrap();
    assert!(
        store
            .backup(&path("text"))
            .unwrap_err()
            .to_string()
            .contains("name a new file")
    );
}

#[test]
fn a_damaged_database_keeps_the_cases_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let filed: Vec<String> = (0..20).map(|n| file(&mut store, n)).collect();
    drop(store);
    let path = dir.path().join(FILES[0]);
    // The index of the outbox is damaged, which `quick_check` finds; the cases are sound.
    let db = rusqlite::Connection::open(&path).unwrap();
    let page: u32 = db
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'outbox_by_case'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    drop(db);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(page as usize - 1) * 4096..][..64].fill(0xff);
    fs::write(&path, &bytes).unwrap();

    let store = Store::open(dir.path()).unwrap();
    let found = ids(&store);
    assert!(
        !inspect(dir.path(), &KeyRing::of(dir.path())).aside.is_empty(),
        "it was moved aside"
    );
    assert_eq!(found, filed);
}

#[test]
fn a_database_is_rebuilt_from_those_that_were_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let first = file(&mut store, 1);
    drop(store);
    Store::start_anew(dir.path()).unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let second = file(&mut store, 2);
    drop(store);
    // The second database is lost altogether; the first one was moved aside.
    delete(dir.path());
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Lost { .. })));
    let rebuilt = Store::rebuild(dir.path()).unwrap();
    assert_eq!((rebuilt.cases, rebuilt.taken_over, rebuilt.unreadable), (1, 1, 0));
    assert_eq!(rebuilt.unknown_pictures, 3, "of {second}");
    assert_eq!(Store::rebuild(dir.path()).unwrap().taken_over, 0, "once");
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(ids(&store), std::slice::from_ref(&first));
    file(&mut store, 3);
    let excerpt = store.chain_excerpt(&first, None).unwrap();
    excerpt.read().unwrap_or_else(|broken| panic!("{broken:?}"));
}

/// As the daemon leaves it when its database was moved away: nearly everything may be in the log.
#[test]
fn a_write_ahead_log_without_its_database_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let away = dir.path().join("moved.db");
    fs::rename(dir.path().join(FILES[0]), &away).unwrap();
    let log = fs::read(dir.path().join(FILES[1])).unwrap();
    drop(store);
    // SQLite removes the log when the last connection ends, but a killed daemon does not.
    fs::write(dir.path().join(FILES[1]), &log).unwrap();

    let rebuilt = Store::rebuild(dir.path()).unwrap();
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = names.into_iter().find(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.contains(".replaced-") && name.ends_with("-wal")
    });
    let kept = kept.expect("the log was moved aside");
    assert_eq!(fs::read(&kept).unwrap(), log);
    assert_eq!((rebuilt.moved_to, rebuilt.orphaned_wal), (None, Some(kept.clone())));

    // Its database turns up and is put beside it, as the command says.
    let name = kept.display().to_string();
    fs::rename(&away, name.strip_suffix("-wal").unwrap()).unwrap();
    let rebuilt = Store::rebuild(dir.path()).unwrap();
    assert_eq!((rebuilt.cases, rebuilt.taken_over), (1, 1));
    assert_eq!(ids(&Store::open(dir.path()).unwrap()), [id]);
}

/// A rotation that is killed leaves two keys; the chain says which one signs.
#[test]
fn an_interrupted_rotation_of_the_signing_key_ends_with_the_key_that_the_chain_names() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let [signing, staged, temporary] = ["signing.pem", "signing.next.pem", "signing.7.tmp"].map(|name| keys.join(name));
    let mut store = Store::open(dir.path()).unwrap();
    let old = store.public_key().unwrap();
    let old_pem = fs::read(&signing).unwrap();
    let new = store.rotate_key(&KeyRing::of(dir.path()), at(6000)).unwrap().public();
    drop(store);
    assert!(!staged.exists());

    // Killed after the commit, before the file took its place.
    fs::rename(&signing, &staged).unwrap();
    fs::write(&signing, &old_pem).unwrap();
    fs::write(&temporary, "half a k").unwrap();
    let ring = KeyRing::of(dir.path());
    let newest = Some(new.to_string());
    assert_eq!(ring.existing_as(newest.as_deref()).unwrap().public(), new);
    assert_eq!(Store::open(dir.path()).unwrap().public_key(), Some(new.clone()));
    assert!(!staged.exists() && !temporary.exists());
    assert_ne!(new, old);

    // Killed before the commit.
    fs::write(&staged, &old_pem).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().public_key(), Some(new.clone()));
    assert!(!staged.exists());
    let lines = Store::open(dir.path()).unwrap().chain_keys().unwrap();
    assert_eq!(
        lines,
        [new.to_string(), old.to_string()],
        "no key was taken for a lost one"
    );
}
