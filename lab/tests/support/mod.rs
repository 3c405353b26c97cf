//! The two programs, run as a user runs them.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// `gridwatch-lab` with these arguments.
pub fn lab(arguments: &[&str]) -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_gridwatch-lab")), arguments)
}

/// `gridwatch` with these arguments.
pub fn gridwatch(arguments: &[&str]) -> Command {
    command(binary(), arguments)
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("GRIDWATCH_STATE")
        .env_remove("GRIDWATCH_CONFIG");
    command
}

/// Cargo names a package's own programs only, so `gridwatch` is looked for beside `gridwatch-lab`: a test run of the whole
/// workspace has built it. A run of this package alone may not have, and builds it here.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let binary = Path::new(env!("CARGO_BIN_EXE_gridwatch-lab")).with_file_name("gridwatch");
        if !binary.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--locked", "-p", "gridwatch"]);
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            assert!(
                build.status().expect("cargo runs").success(),
                "gridwatch does not build"
            );
        }
        binary
    })
}
