//! The console in a browser, with a daemon, cameras and a broker: each test of `crates/console/web/test/e2e`, run by Node. Skipped where Node, Chromium
//! or the broker is missing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_base::digest::sha256_hex;

const SETUP: &str = "crates/console/web/test/setup.sh";

/// A test for each file of `test/e2e`, and the list of their names.
macro_rules! tests {
    ($($function:ident => $file:literal,)*) => {
        const TESTS: &[&str] = &[$($file,)*];

        $(#[test]
        fn $function() {
            run($file);
        })*
    };
}

tests! {
    bad_camera => "bad-camera",
    bad_input => "bad-input",
    dying_camera => "dying-camera",
    first_page => "first-page",
    kill_during_save => "kill-during-save",
    many_cameras => "many-cameras",
    pages => "pages",
    start => "start",
    two_operators => "two-operators",
    whole_path_by_keyboard => "whole-path-by-keyboard",
    whole_path_by_mouse => "whole-path-by-mouse",
    whole_path_in_chinese => "whole-path-in-chinese",
}

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/console/web")
}

/// What is missing and how to install it, or `None`.
fn missing() -> Option<String> {
    let on_path = |name: &str| {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
        folders.map(|folder| folder.join(name)).any(|file| file.is_file())
    };
    let chromium = env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !on_path("node") || !chromium.is_file() {
        return Some(format!("Node or Chromium is not installed; run {SETUP}"));
    }
    let lock = fs::read(web().join("package-lock.json")).unwrap();
    let modules = web().join(format!("node_modules/.installed-{}", &sha256_hex(&lock)[..16]));
    if !modules.is_file() {
        return Some(format!(
            "the node modules of package-lock.json are not installed; run {SETUP}"
        ));
    }
    if !on_path("mosquitto") || !on_path("mosquitto_sub") {
        return Some("mosquitto or mosquitto_sub is not installed; run edge-deploy/setup.sh".into());
    }
    None
}

/// Runs a test of `test/e2e`; fails with all that it printed.
fn run(name: &str) {
    if let Some(missing) = missing() {
        // Not by a macro: a test that passes would not show it.
        let mut errors = std::io::stderr();
        errors.write_all(format!("skipped: {missing}\n").as_bytes()).unwrap();
        return;
    }
    let output = Command::new("node")
        .args(["scripts/test.mjs", &format!("e2e/{name}")])
        .current_dir(web())
        .env("GRIDWATCH_PROGRAM", support::binary())
        .env("GRIDWATCH_LAB_PROGRAM", env!("CARGO_BIN_EXE_gridwatch-lab"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("fail 0") && text.contains("skipped 0"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{text}");
}

#[test]
fn each_browser_test_is_run_here() {
    let folder = web().join("test/e2e");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let found: BTreeSet<_> = files
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".test.ts")?.to_owned()))
        .collect();
    assert_eq!(found, TESTS.iter().map(|&name| name.to_owned()).collect());
}
