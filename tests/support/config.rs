//! A valid configuration (tests/golden/good.toml), and the faults and warnings caused by a change to it.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use gridwatch_config as config;

use gridwatch_config::{Draft, Fault};

/// The environment variables of the tests.
pub fn variable(name: &str) -> Option<String> {
    match name {
        "GRIDWATCH_TEST_BROKER" => Some("box:hunter2".into()),
        "GRIDWATCH_TEST_NO_COLON" => Some("hunter2".into()),
        _ => None,
    }
}

/// A folder with a configuration and its credentials.
pub struct Folder {
    pub dir: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        this.secret("gate.secret", "admin:hunter2\n", 0o600);
        this
    }

    pub fn secret(&self, name: &str, text: &str, mode: u32) {
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn write(&self, text: &str) -> PathBuf {
        let file = self.dir.path().join("edge.toml");
        fs::write(&file, text.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"))).unwrap();
        file
    }

    /// Examines good.toml with the first `old`, which must occur, replaced by `new`.
    pub fn with(&self, old: &str, new: &str) -> Draft {
        let good = fs::read_to_string("tests/golden/good.toml").unwrap();
        assert!(good.contains(old), "{old:?} is not in good.toml");
        config::examine_with(&self.write(&good.replacen(old, new, 1)), &variable)
    }
}

/// Formats each fault as `path: message`.
pub fn messages(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(|f| format!("{}: {}", f.path, f.message)).collect()
}

/// Asserts that each change causes exactly the expected fault or warning.
#[track_caller]
pub fn assert_messages(which: impl Fn(&Draft) -> (&[Fault], &[Fault]), changes: &[(&str, &str, &str)]) {
    let folder = Folder::new();
    for (old, new, expected) in changes {
        let draft = folder.with(old, new);
        let (these, others) = which(&draft);
        let these: Vec<String> = messages(these)
            .iter()
            .map(|t| t.replace(&format!("{}/", folder.dir.path().display()), ""))
            .collect();
        assert_eq!(these, [*expected], "{old} → {new}");
        assert_eq!(messages(others), [""; 0], "{old} → {new}");
    }
}

#[track_caller]
pub fn assert_faults(changes: &[(&str, &str, &str)]) {
    assert_messages(|d| (&d.faults, &d.warnings), changes);
}

#[track_caller]
pub fn assert_warnings(changes: &[(&str, &str, &str)]) {
    assert_messages(|d| (&d.warnings, &d.faults), changes);
}
