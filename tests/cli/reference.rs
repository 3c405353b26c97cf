//! docs/cli.md describes every command and option of the program.
#![cfg(all(feature = "gst", feature = "ort"))]

use std::fs;

use clap::CommandFactory;
use gridwatch::cli::{Cli, reference};

#[test]
fn the_command_line_reference_is_current() {
    let page = fs::read_to_string("docs/cli.md").unwrap();
    assert!(
        page.contains(&reference::section(Cli::command())),
        "docs/cli.md is stale; run: {}",
        reference::REGENERATE
    );
}
