//! The `gridwatch-lab` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridwatch_lab::cli::main()
}
