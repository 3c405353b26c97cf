//! A damaged database is set aside and never deleted; a full disk is called a full disk; a newer database is refused.

use std::{fs, path::Path};

use crate::filing::{case, file, form, pictures, record};
use gridwatch_base::error::Class;
use gridwatch_store::{Filter, Store, StoreError};

fn set_aside(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains(".corrupt-"))
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_no_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = vec![0x5a_u8; 8192];
    fs::write(dir.path().join("gridwatch.db"), &garbage).unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 1);
    let aside = set_aside(dir.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(
        fs::read(dir.path().join(&aside[0])).unwrap(),
        garbage,
        "its bytes are all there"
    );
}

#[test]
fn a_database_with_a_damaged_page_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for n in 0..20 {
        file(&mut store, n);
    }
    drop(store);
    let path = dir.path().join("gridwatch.db");
    let mut bytes = fs::read(&path).unwrap();
    // Page 1 stays whole: the file still looks like a database.
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..64].fill(0xff);
    }
    fs::write(&path, &bytes).unwrap();

    let refused = Store::open_read_only(dir.path()).and_then(|s| s.cases(Filter::default()));
    assert!(
        matches!(refused, Err(StoreError::Corrupt(_))),
        "a reader sets nothing aside: {refused:?}"
    );
    assert!(set_aside(dir.path()).is_empty());
    let mut store = Store::open(dir.path()).unwrap();
    assert!(store.cases(Filter::default()).unwrap().is_empty());
    file(&mut store, 1);
    assert_eq!(set_aside(dir.path()).len(), 1);
}

#[test]
fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let path = dir.path().join("gridwatch.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 4711).unwrap();
    drop(db);
    let refused = Store::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 4711, .. }), "{refused:?}");
    assert_eq!(refused.class(), Class::Config);
    assert!(set_aside(dir.path()).is_empty());
}

#[test]
fn a_full_disk_is_called_a_full_disk_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 0);
    store.limit_pages(1).unwrap(); // SQLite takes the present size instead: not a page more.
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
    let said = full.to_string();
    assert!(
        said.contains("full") && said.contains(&dir.path().display().to_string()),
        "{said}"
    );
    assert_eq!(store.cases(Filter::default()).unwrap().len(), committed as usize);
    assert_eq!(store.outbox_depth().unwrap().waiting, committed * 4);

    // Room again: the case that did not fit is filed.
    store.limit_pages(1_000_000).unwrap();
    file(&mut store, committed);
}
