//! The `gridwatch-hub` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridwatch_hub::cli::main()
}
