//! `gridwatch store`: backup, restore, rebuild and starting anew, as an operator does them.

use std::{fs, path::Path, process::Command};

use crate::filing::file;
use gridwatch_store::{Store, StoreError};

/// Exit code, standard output and standard error.
fn store(state: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("store")
        .args(arguments)
        .args(["--state", state.to_str().unwrap()])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_operator_backs_up_a_running_box_and_restores_it_when_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (state, backup) = (dir.path().join("state"), dir.path().join("backup.db"));
    let mut running = Store::open(&state).unwrap();
    file(&mut running, 1);
    let backup = backup.to_str().unwrap();
    let (code, out, err) = store(&state, &["backup", "--out", backup]);
    assert_eq!(
        (code, out),
        (Some(0), format!("Backup written to {backup}.\n")),
        "{err}"
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(backup).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    file(&mut running, 2);

    let (code, _, err) = store(&state, &["restore", backup]);
    assert_eq!(code, Some(4), "{err}");
    assert!(err.contains("in use by another gridwatch"), "{err}");
    drop(running);
    let (code, out, err) = store(&state, &["restore", backup]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("The previous database is now ") && out.contains(".replaced-"),
        "{out}"
    );
    assert!(out.contains("Cases in the database: 2, of these taken over"), "{out}");
    assert!(out.trim_end().ends_with(": 1."), "{out}");
}

#[test]
fn a_lost_database_is_rebuilt_or_started_anew_only_on_command() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    file(&mut Store::open(state).unwrap(), 1);
    let (code, _, err) = store(state, &["new"]);
    assert_eq!(code, Some(0), "{err}");
    fs::remove_file(state.join("gridwatch.db")).unwrap();
    let (code, out, err) = store(state, &["rebuild", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let recovered: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&recovered["cases"], &recovered["taken_over"]), (&1.into(), &1.into()));
    fs::remove_file(state.join("gridwatch.db")).unwrap();
    fs::write(state.join("gridwatch.db-wal"), "a log").unwrap();
    let (code, out, err) = store(state, &["rebuild"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("write-ahead log without its database is now") && out.contains(".replaced-"),
        "{out}"
    );
    let (_, _, err) = store(&state.join("elsewhere"), &["backup", "--out", "never"]);
    assert!(err.contains("no database at"), "{err}");
}

#[test]
fn no_database_appears_in_a_folder_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let (home, backup) = (dir.path().join("home"), dir.path().join("backup.db"));
    let state = dir.path().join("state");
    drop(Store::open(&state).unwrap());
    let backup = backup.to_str().unwrap();
    assert_eq!(store(&state, &["backup", "--out", backup]).0, Some(0));

    fs::create_dir(&home).unwrap();
    fs::write(home.join("notes.txt"), "mine").unwrap();
    for command in [&["new"][..], &["rebuild"], &["restore", backup]] {
        let (code, _, err) = store(&home, command);
        assert_eq!(code, Some(3), "{command:?}: {err}");
        assert!(
            err.contains("is not a state directory of gridwatch") && err.contains("--state"),
            "{err}"
        );
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1, "{command:?}");
    }
    let missing = dir.path().join("mistyped");
    assert_eq!(store(&missing, &["new"]).0, Some(4));
    assert!(!missing.exists());
    fs::create_dir(&missing).unwrap();
    assert_eq!(store(&missing, &["new"]).0, Some(0), "an empty folder");
    let first = Store::open(&missing).map(|store| store.public_key());
    assert!(matches!(first, Ok(Some(_))), "the first start makes the key: {first:?}");
    fs::remove_dir_all(missing.join("keys")).unwrap();
    let lost = Store::open(&missing).map(drop);
    assert!(matches!(lost, Err(StoreError::KeyLost { .. })), "{lost:?}");
    assert_eq!(store(&missing, &["new"]).0, Some(0));
    let lost = Store::open(&missing).map(drop);
    assert!(
        matches!(lost, Err(StoreError::KeyLost { .. })),
        "there was a database: {lost:?}"
    );
}

#[test]
fn a_backup_that_cannot_be_written_is_named_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (state, disk) = (dir.path().join("state"), dir.path().join("disk"));
    let mut running = Store::open(&state).unwrap();
    file(&mut running, 1);
    fs::create_dir(&disk).unwrap();
    let out = disk.join("backup.db");
    // No file may grow beyond 8 KiB, as on a disk that is full after that.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" store backup --out \"$1\" --state \"$2\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_gridwatch")])
        .args([&out, &state])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(
        message.contains(out.to_str().unwrap()) && message.contains("it needs 1 MiB"),
        "{message}"
    );
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "no partial file");

    let nowhere = disk.join("missing/backup.db");
    let (code, _, err) = store(&state, &["backup", "--out", nowhere.to_str().unwrap()]);
    assert_eq!(code, Some(4), "{err}");
    assert!(
        err.contains(nowhere.to_str().unwrap()) && err.contains("No such file") && !err.contains("backup.db."),
        "{err}"
    );
}
