//! `gridwatch model`: what engineers who bring and exchange models do.

mod check;
mod draft;
mod inspect;
mod record;

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::Failure;
use crate::model::{Runtime, runtime};

/// Brings a model of your own, or another version of one.
///
/// From an ONNX file to a model that is proved: `inspect` shows what the file is, `draft` writes a folder with a manifest for
/// it, `record` takes pictures with what was found in them into its self-test once you have seen that it is right, and
/// `check` tries it all. docs/models.md goes through it with three networks.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "each command's Args say what it does; clap would print a variant's text in their place"
)]
enum Command {
    Inspect(inspect::Args),
    Draft(draft::Args),
    Record(record::Args),
    Check(check::Args),
}

/// What each of them needs.
#[derive(Debug, clap::Args)]
struct Library {
    /// ONNX Runtime's shared library. [default: where edge-deploy/setup.sh puts it]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
}

impl Library {
    fn load(&self) -> Result<Runtime, Failure> {
        Ok(runtime::init(self.onnxruntime.as_deref())?)
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Draft(args) => draft::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Check(args) => check::run(&args),
    }
}
