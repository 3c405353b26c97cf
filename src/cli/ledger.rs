//! `gridwatch ledger`: exports from the recorded observations, and questions to them.

mod export;
mod places;
mod what_if;
mod why_not;

use std::process::ExitCode;

use super::Failure;

/// Export data from the box's ledger, and ask it questions.
///
/// The ledger is the append-only record of every look and its detections. `export` combines it with reviews and the platform's decisions
/// into a labelled picture set for training or evaluating a model. `places` finds where goods and tables stand on most days, and proposes
/// hours in which they are permitted. `why-not` tells why candidates did not become cases, and `what-if` what other thresholds would have
/// filed. To try another configuration on the ledger, use `gridwatch replay` and `gridwatch tune`.
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
    WhyNot(why_not::LedgerWhyNotArgs),
    WhatIf(what_if::LedgerWhatIfArgs),
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, an existing output folder, or a store or ledger that cannot be read.
pub fn run(args: &LedgerArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Export(args) => export::run(args),
        Command::Places(args) => places::run(args),
        Command::WhyNot(args) => why_not::run(args),
        Command::WhatIf(args) => what_if::run(args),
    }
}
