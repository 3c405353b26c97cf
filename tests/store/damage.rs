//! A damaged database is renamed and never deleted; a full disk is reported as such; a newer database is refused.

use std::{fs, path::Path};

use crate::filing::{case, file, form, pictures, record};
use gridwatch_base::error::Class;
use gridwatch_store::{Filter, Store, StoreError};

fn renamed(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains(".corrupt-"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_not_a_database_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = vec![0x5a_u8; 8192];
    fs::write(dir.path().join("gridwatch.db"), &garbage).unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 1);
    let found = renamed(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        fs::read(dir.path().join(&found[0])).unwrap(),
        garbage,
        "its content is unchanged"
    );
}

#[test]
fn a_database_with_damaged_pages_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for n in 0..20 {
        file(&mut store, n);
    }
    drop(store);
    let path = dir.path().join("gridwatch.db");
    let mut bytes = fs::read(&path).unwrap();
    // Page 1 stays intact, so that the file still looks like a database.
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..64].fill(0xff);
    }
    fs::write(&path, &bytes).unwrap();

    let result = Store::open_read_only(dir.path()).and_then(|s| s.cases(Filter::default()));
    assert!(
        matches!(result, Err(StoreError::Corrupt(_))),
        "a reader renames nothing: {result:?}"
    );
    assert!(renamed(dir.path()).is_empty());
    let mut store = Store::open(dir.path()).unwrap();
    assert!(store.cases(Filter::default()).unwrap().is_empty());
    file(&mut store, 1);
    assert_eq!(renamed(dir.path()).len(), 1);
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let path = dir.path().join("gridwatch.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 4711).unwrap();
    drop(db);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 4711, .. }), "{error:?}");
    assert_eq!(error.class(), Class::Config);
    assert!(renamed(dir.path()).is_empty());
}

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 0);
    store.limit_pages(1).unwrap(); // SQLite raises this to the current size: no page more.
    let mut committed = 1;
    let full = loop {
        let next = record(&case(committed), pictures(dir.path(), committed));
        match store.commit_case(&next, &case(committed), &form()) {
            Ok(()) => committed += 1,
            Err(e) => break e,
        }
        assert!(committed < 1000, "the limit has no effect");
    };
    assert!(matches!(full, StoreError::DiskFull { .. }), "{full:?}");
    assert_eq!(full.class(), Class::Transient);
    let message = full.to_string();
    assert!(
        message.contains("full") && message.contains(&dir.path().display().to_string()),
        "{message}"
    );
    assert_eq!(store.cases(Filter::default()).unwrap().len(), committed as usize);
    assert_eq!(store.outbox_depth().unwrap().waiting, committed * 4);

    // With free space again, the case that did not fit is filed.
    store.limit_pages(1_000_000).unwrap();
    file(&mut store, committed);
}
