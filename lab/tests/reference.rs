//! docs/cli.md describes every command and option of both programs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use gridwatch::cli::reference::REGENERATE;

#[test]
fn the_command_line_reference_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = fs::read_to_string(file).unwrap();
    let is_current = page == gridwatch_lab::cli::reference();
    assert!(is_current, "docs/cli.md is stale; run: {REGENERATE}");
}
