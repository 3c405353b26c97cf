//! The command line of `gridwatch-lab`, one module per command. Exit codes are those of `gridwatch`.

pub mod bench;
pub mod cameras;
pub mod demo;
pub mod sbom;
pub mod simulate;

mod stage;
mod streets;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use gridwatch::cli::{self, Failure, finish, print};
use gridwatch_farm::FarmError;

/// Demo, benchmarks, street simulator and bill of materials of gridwatch.
///
/// The commands run the same daemon and engine as `gridwatch`, with simulated cameras, brokers and streets. Not needed on a box.
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
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the arguments of each command are documented; clap would print a variant's text instead"
)]
pub enum Command {
    Demo(demo::DemoArgs),
    Cameras(cameras::CamerasArgs),
    Bench(bench::BenchArgs),
    Simulate(simulate::SimulateArgs),
    Streets(streets::StreetsArgs),
    Sbom(sbom::SbomArgs),
    /// Print docs/cli.md: the command line reference of gridwatch, gridwatch-hub and gridwatch-lab.
    #[command(hide = true)]
    Reference,
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Demo(args) => demo::run(args),
            Self::Cameras(args) => cameras::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Simulate(args) => simulate::run(args),
            Self::Streets(args) => streets::run(&args),
            Self::Sbom(args) => sbom::run(args),
            Self::Reference => {
                print(&reference())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The text of docs/cli.md.
pub fn reference() -> String {
    cli::reference::document(vec![cli::Cli::command(), gridwatch_hub::cli::command(), Cli::command()])
}

/// Maps a farm error to a failure with the exit code of its class.
fn farm_failure(error: FarmError) -> Failure {
    Failure::new(error.class(), error.to_string())
}

/// Parses the arguments, runs the command, and reports a failure.
pub fn main() -> ExitCode {
    // The demo runs the daemon in this process; its decode workers are the `gridwatch` built with it.
    if let Ok(program) = std::env::current_exe() {
        gridwatch::decoders::set_worker_program(program.with_file_name("gridwatch"));
    }
    finish(Cli::parse().command.run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }
}
