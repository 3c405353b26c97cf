//! Runs the two binaries.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// A `gridwatch-lab` command with these arguments.
pub fn lab(arguments: &[&str]) -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_gridwatch-lab")), arguments)
}

/// A `gridwatch` command with these arguments.
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

/// Cargo only names a package's own binaries, so `gridwatch` is expected next to `gridwatch-lab`. A test run of the whole
/// workspace has built it; a run of this package alone builds it here if it is missing. (Not always: with other features or
/// flags than the run's own, that would build everything again.)
pub fn binary() -> &'static Path {
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
