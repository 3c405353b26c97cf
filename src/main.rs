//! The `gridwatch` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridwatch::cli::main()
}
