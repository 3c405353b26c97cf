//! Packages to bring to a box: the demo's garbage model under other versions, whole and spoiled.
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

/// The id of the model that the demo finds garbage with.
pub const MODEL: &str = "garbage_nano_416";

/// That model's folder, copied to `to` (what lies there goes) with another version.
pub fn package(to: &Path, version: &str) -> PathBuf {
    let _ = fs::remove_dir_all(to);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(MODEL), to);
    raise(to, version);
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

/// Gives a folder another version.
pub fn raise(dir: &Path, version: &str) {
    edit(dir, "version", &format!("version = {version:?}"));
}

/// Takes the self-test out of a manifest, whose end it is.
pub fn without_self_test(dir: &Path) {
    let toml = dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let (before, _) = text.split_once("[[self_test]]").expect("the manifest has a self-test");
    fs::write(&toml, before).unwrap();
}

/// Replaces the line of the manifest that sets `key`, which must be there.
pub fn edit(dir: &Path, key: &str, line: &str) {
    let toml = dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let mut found = 0;
    let lines: Vec<&str> = text
        .lines()
        .map(|l| {
            let is_it = l.split('=').next().is_some_and(|k| k.trim() == key);
            found += usize::from(is_it);
            if is_it { line } else { l }
        })
        .collect();
    assert_eq!(found, 1, "{key}");
    fs::write(&toml, lines.join("\n") + "\n").unwrap();
}
