//! `gridwatch camera`: what can be done with one camera before it is configured.

mod picture;
mod probe;
mod report;

use std::process::ExitCode;

use super::Failure;

/// Judge a camera before it is configured.
///
/// Needs no configuration. See `gridwatch camera help probe`.
#[derive(Debug, clap::Args)]
pub struct CameraArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Probe(Box<probe::ProbeArgs>),
}

/// Runs the command.
///
/// # Errors
/// See the exit codes of each subcommand.
pub fn run(args: CameraArgs) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Probe(args) => probe::run(&args),
    }
}
