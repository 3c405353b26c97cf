//! The binary: parse, call the library, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridwatch::cli::main()
}
