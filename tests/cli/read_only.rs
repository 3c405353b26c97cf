//! Commands that only read work where nothing can be written: on a read-only mount, or as another user.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::filing;
use gridwatch_store::Store;

/// A user who owns nothing. Permissions do not bind root, so the commands run as this one if the tests run as root.
const NOBODY: u32 = 65_534;

/// A state directory that others can read but not write, and the program where they can run it.
struct ForOthers {
    dir: tempfile::TempDir,
    state: PathBuf,
}

impl ForOthers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = env!("CARGO_BIN_EXE_gridwatch");
        let copy = dir.path().join("gridwatch");
        if fs::hard_link(program, &copy).is_err() {
            fs::copy(program, &copy).unwrap();
        }
        Self {
            // A name that a URI must escape.
            state: dir.path().join("state #1?"),
            dir,
        }
    }

    fn restrict(&self) {
        for entry in fs::read_dir(&self.state).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
            }
        }
        fs::set_permissions(&self.state, fs::Permissions::from_mode(0o555)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.dir.path().join("gridwatch"));
        command.args(arguments).arg("--state").arg(&self.state).current_dir("/");
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    }

    fn reads_everything(&self, case: &str, when: &str) {
        for arguments in [
            &["cases", "list"][..],
            &["cases", "show", case],
            &["outbox", "list"],
            &["outbox", "show", "1"],
        ] {
            let output = self.run(arguments);
            assert!(output.status.success(), "{when}: {arguments:?}: {output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(case), "{when}: {arguments:?}: {text}");
        }
    }
}

impl Drop for ForOthers {
    fn drop(&mut self) {
        // So that the directory can be deleted.
        let _ = fs::set_permissions(&self.state, fs::Permissions::from_mode(0o755));
    }
}

fn wal(state: &Path) -> PathBuf {
    state.join("gridwatch.db-wal")
}

#[test]
fn a_store_is_read_without_write_access() {
    let others = ForOthers::new();
    let mut store = Store::open(&others.state).unwrap();
    let case = filing::file(&mut store, 1);
    others.restrict();
    others.reads_everything(&case, "while the daemon runs");
    drop(store);
    assert!(!wal(&others.state).exists());
    others.reads_everything(&case, "after the daemon has ended");

    // The private key is the owner's; the public one is in the chain.
    let key = others.run(&["keys", "show"]);
    let owners = gridwatch_custody::keys::KeyRing::of(&others.state)
        .existing()
        .unwrap()
        .public();
    assert_eq!(String::from_utf8(key.stdout).unwrap().trim(), owners.to_string());
}

#[test]
fn commits_that_only_the_log_has_are_read_or_missed_loudly_but_never_left_out() {
    let others = ForOthers::new();
    let copied = ForOthers::new();
    let mut store = Store::open(&others.state).unwrap();
    let case = filing::file(&mut store, 1);
    // As a crash leaves it.
    fs::create_dir(&copied.state).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("gridwatch.db{suffix}");
        fs::copy(others.state.join(&name), copied.state.join(&name)).unwrap();
    }
    assert!(fs::metadata(wal(&copied.state)).unwrap().len() > 0);
    copied.restrict();
    copied.reads_everything(&case, "after a crash");

    fs::set_permissions(&copied.state, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(copied.state.join("gridwatch.db-shm")).unwrap();
    copied.restrict();
    let output = copied.run(&["cases", "list"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("gridwatch.db-wal") && error.contains("--state"),
        "{error}"
    );
}
