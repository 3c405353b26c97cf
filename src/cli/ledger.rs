//! `gridwatch ledger`: exports from the recorded observations, and places where things stand regularly.

mod export;
mod places;

use std::process::ExitCode;

use super::Failure;

/// Export data from the box's ledger.
///
/// The ledger is the append-only record of every look and its detections. `export` combines it with reviews and the platform's
/// decisions into a labelled picture set for training or evaluating a model. `places` finds where goods and tables stand on most days, and proposes
/// hours in which they are permitted. To try another configuration on the ledger, use
/// `gridwatch replay` and `gridwatch tune`.
#[derive(Debug, clap::Args)]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(
    missing_docs,
    reason = "the help text is on each command's Args; clap would print a variant's doc comment instead"
)]
enum Command {
    Export(export::LedgerExportArgs),
    Places(places::LedgerPlacesArgs),
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, an existing output folder, or a store or ledger that cannot be read.
pub fn run(args: &LedgerArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Export(args) => export::run(args),
        Command::Places(args) => places::run(args),
    }
}
