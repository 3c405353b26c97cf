//! `gridwatch ledger`: what the box recorded, for people and for trainings.

mod export;

use std::process::ExitCode;

use super::Failure;

/// Takes out of the box's record what is of use elsewhere.
///
/// `gridwatch replay` judges the record again; `export` makes labelled pictures of it, to train or to measure a model on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(
    missing_docs,
    reason = "each command's Args say what it does; clap would print a variant's text in their place"
)]
enum Command {
    Export(export::Args),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Export(args) => export::run(args),
    }
}
