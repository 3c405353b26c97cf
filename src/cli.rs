//! The command line: one file a command. Each parses what was typed, calls the library, and says how it went by its
//! exit code: 0 done, 1 a check found faults, 2 usage, 3 configuration, 4 something outside is away, 5 bad data, 70 our
//! own fault.
//!
//! What a program may read goes to standard output and nothing else does; what a person should know goes to standard
//! error. No command shows a credential.

pub mod calibrate;
pub mod cases;
pub mod check;
#[cfg(feature = "ort")]
pub mod detect;
#[cfg(feature = "ort")]
pub mod eval;
pub mod evidence;
pub mod keys;
pub mod layer;
pub mod ledger;
#[cfg(feature = "ort")]
pub mod model;
pub mod outbox;
#[cfg(feature = "ort")]
pub mod read;
pub mod replay;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod run;
pub mod schema;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod service;
#[cfg(feature = "ort")]
pub mod signs;
mod state;
pub mod tune;
pub mod view;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use gridwatch_base::error::Class;
use gridwatch_config::Faults;

/// Watches street cameras, files one case with evidence per problem, place and grid cell, and looks again when told that it
/// was dealt with.
#[derive(Debug, Parser)]
#[command(
    name = "gridwatch",
    version,
    max_term_width = 110,
    propagate_version = true,
    after_long_help = "\
First steps:
  gridwatch check --config configs/edge.toml     what is right and wrong with a configuration and its surroundings
  gridwatch schema > config.schema.json          for your editor's completion

Exit codes:
  0   done
  1   a check found something wrong
  2   the command line was mistyped
  3   the configuration is faulty
  4   something outside (broker, camera, library) is away: try again
  5   data that cannot be right
  70  a fault of gridwatch itself: please report it

`gridwatch help COMMAND` tells more about each."
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
    #[cfg(all(feature = "gst", feature = "ort"))]
    Run(run::Args),
    Check(check::Args),
    Calibrate(calibrate::Args),
    #[cfg(feature = "ort")]
    Detect(detect::Args),
    #[cfg(feature = "ort")]
    Eval(eval::Args),
    #[cfg(feature = "ort")]
    Model(model::Args),
    #[cfg(feature = "ort")]
    Read(read::Args),
    #[cfg(feature = "ort")]
    Signs(signs::Args),
    Cases(cases::Args),
    Evidence(evidence::Args),
    Keys(keys::Args),
    Outbox(outbox::Args),
    Ledger(ledger::Args),
    Replay(replay::Args),
    Tune(tune::Args),
    View(view::Args),
    Schema(schema::Args),
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            #[cfg(all(feature = "gst", feature = "ort"))]
            Self::Run(args) => run::run(args),
            #[cfg(feature = "ort")]
            Self::Detect(args) => Ok(detect::run(args)?),
            #[cfg(feature = "ort")]
            Self::Eval(args) => eval::run(&args),
            #[cfg(feature = "ort")]
            Self::Model(args) => model::run(args),
            #[cfg(feature = "ort")]
            Self::Read(args) => read::run(&args),
            #[cfg(feature = "ort")]
            Self::Signs(args) => signs::run(args),
            Self::Check(args) => check::run(args),
            Self::Calibrate(args) => calibrate::run(&args),
            Self::Cases(args) => Ok(cases::run(&args)?),
            Self::Evidence(args) => evidence::run(&args),
            Self::Keys(args) => keys::run(&args),
            Self::Outbox(args) => outbox::run(&args),
            Self::Ledger(args) => ledger::run(&args),
            Self::Replay(args) => replay::run(&args),
            Self::Tune(args) => tune::run(&args),
            Self::View(args) => view::run(&args),
            Self::Schema(args) => schema::run(args),
        }
    }
}

/// Parses, runs, and tells what went wrong.
pub fn main() -> ExitCode {
    // clap prints usage errors itself and exits with 2.
    finish(Cli::parse().command.run())
}

/// The exit code of a command that ended with `result`; an error is written to standard error.
pub fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            // Where standard error is gone too, the exit code must do.
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::from(failure.class.exit_code())
        }
    }
}

/// Why a command could not do what it was asked: one or more lines for a person, with what to do.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong and what to do; no credentials.
    pub message: String,
    /// Decides the exit code.
    pub class: Class,
}

impl Failure {
    /// A failure of the given class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            class,
        }
    }
}

impl fmt::Display for Failure {
    /// `error:` before the first line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if self.class == Class::Bug {
            f.write_str("\nThis is a fault of gridwatch itself: please report it with this message.")?;
        }
        Ok(())
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        let count = faults.0.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        Self::new(faults.class(), format!("{count} {noun}:\n{faults}"))
    }
}

/// A room's error ends a command as its class says.
macro_rules! failure_from {
    ($($(#[$cfg:meta])* $error:ty),+ $(,)?) => {$(
        $(#[$cfg])*
        impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                Self::new(e.class(), e.to_string())
            }
        }
    )+};
}

failure_from!(
    gridwatch_evidence::EvidenceError,
    cases::CasesError,
    gridwatch_custody::keys::KeyError,
    gridwatch_ledger::LedgerError,
    gridwatch_store::StoreError,
    crate::telemetry::TelemetryError,
    gridwatch_vision::views::ViewsError,
    gridwatch_model::registry::RegistryError,
    #[cfg(feature = "ort")]
    gridwatch_model::ModelError,
    #[cfg(feature = "ort")]
    gridwatch_model::draft::DraftError,
    #[cfg(feature = "ort")]
    gridwatch_model::runtime::LibraryError,
    #[cfg(all(feature = "gst", feature = "ort"))]
    crate::daemon::StartError,
);

/// Writes `text` to standard output. A reader that went away (`| head`) ends the command without a word.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::new(Class::Transient, format!("standard output: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_teaches_more_than_its_one_line() {
        for command in Cli::command().get_subcommands() {
            let (short, long) = (command.get_about(), command.get_long_about());
            assert!(
                short.is_some() && long.is_some() && short != long,
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn the_help_tells_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for class in [Class::Config, Class::Transient, Class::Data, Class::Bug] {
            assert!(help.contains(&format!("\n  {:<3} ", class.exit_code())), "{class:?}");
        }
    }
}
