//! Model packages for the tests: the demo's garbage model under other versions, intact and broken.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses what it needs, and one that cannot be set up must fail"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The id of the demo's garbage model.
pub const MODEL: &str = "garbage_nano_416";

/// Copies that model's folder to `to`, replacing what is there, and sets its version.
pub fn package(to: &Path, version: &str) -> PathBuf {
    let _ = fs::remove_dir_all(to);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(MODEL), to);
    set_version(to, version);
    to.to_path_buf()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Sets the version in a package's manifest.
pub fn set_version(dir: &Path, version: &str) {
    edit(dir, "version", &format!("version = {version:?}"));
}

/// Removes the self-test, the last section, from a package's manifest.
pub fn without_self_test(dir: &Path) {
    let toml = dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let (before, _) = text.split_once("[[self_test]]").expect("the manifest has a self-test");
    fs::write(&toml, before).unwrap();
}

/// Replaces the manifest's line that sets `key`; panics unless there is exactly one.
pub fn edit(dir: &Path, key: &str, line: &str) {
    let toml = dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let mut found = 0;
    let lines: Vec<&str> = text
        .lines()
        .map(|l| {
            let is_match = l.split('=').next().is_some_and(|k| k.trim() == key);
            found += usize::from(is_match);
            if is_match { line } else { l }
        })
        .collect();
    assert_eq!(found, 1, "{key}");
    fs::write(&toml, lines.join("\n") + "\n").unwrap();
}
