//! The binary: parse, call the library, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridwatch_lab::cli::main()
}
