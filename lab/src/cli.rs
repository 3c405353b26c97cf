//! The command line of `gridwatch-lab`: one file a command. Exit codes are those of `gridwatch`.

pub mod bench;
pub mod demo;
pub mod simulate;

mod stage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gridwatch::cli::{Failure, finish};
use gridwatch_farm::FarmError;

/// Demo, benchmarks and street simulator of gridwatch.
///
/// They run the same daemon and engine as `gridwatch`, on cameras, brokers and streets that they make themselves. A box does not
/// need this program.
#[derive(Debug, Parser)]
#[command(
    name = "gridwatch-lab",
    version,
    max_term_width = 110,
    propagate_version = true,
    after_long_help = "\
First steps:
  gridwatch-lab demo       three cameras, a broker and the daemon, all on this machine
  gridwatch-lab simulate --cameras 100 --days 30 --out D

Exit codes are those of gridwatch: `gridwatch help` lists them."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "each command's Args say what it does; clap would print a variant's text in their place"
)]
pub enum Command {
    Demo(demo::Args),
    Bench(bench::Args),
    Simulate(simulate::Args),
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Demo(args) => demo::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Simulate(args) => simulate::run(args),
        }
    }
}

/// A farm's error ends a command as its class says.
fn farm_failure(error: FarmError) -> Failure {
    Failure::new(error.class(), error.to_string())
}

/// Parses, runs, and reports what went wrong.
pub fn main() -> ExitCode {
    finish(Cli::parse().command.run())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
