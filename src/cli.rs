//! The command line, one module per command. A command parses its arguments, calls the library, and reports the result in
//! its exit code: 0 success, 1 a check failed, 2 usage error, 3 faulty configuration, 4 something outside is unavailable,
//! 5 invalid data, 6 an exported case was verified without the box's key, 70 a bug in gridwatch.
//!
//! Standard output carries only the result, so that programs can read it; notes and errors go to standard error. No
//! command prints a credential.

pub mod audit;
mod audited;
pub mod boxes;
pub mod calibrate;
pub mod camera;
pub mod cases;
pub mod check;
pub mod config;
#[cfg(feature = "gst")]
pub mod crashes;
#[cfg(feature = "gst")]
pub mod decode_worker;
#[cfg(feature = "ort")]
pub mod detect;
pub mod discover;
#[cfg(feature = "ort")]
pub mod eval;
pub mod evidence;
pub mod init;
pub mod keys;
pub mod layer;
pub mod ledger;
#[cfg(all(feature = "gst", feature = "ort"))]
mod live;
#[cfg(feature = "ort")]
pub mod model;
#[cfg(feature = "ort")]
pub mod ocr;
mod options;
pub mod outbox;
#[cfg(feature = "ort")]
mod overlay;
mod password;
#[cfg(feature = "ort")]
mod pictures;
mod private;
pub mod reference;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod reload;
pub mod replay;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod run;
pub mod schema;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod service;
pub mod share;
#[cfg(feature = "ort")]
pub mod signs;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod snapshot;
mod starter;
pub mod store;
pub mod support_bundle;
pub mod take_over;
mod terminal;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod try_out;
pub mod tune;
pub mod users;
pub mod view;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use serde::Serialize;

pub use self::options::{free_path, language};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config::Faults;

/// Watch street cameras and file evidence-backed cases with the city grid platform.
///
/// gridwatch finds street vendors, garbage, illegal advertising and other problems in the pictures of fixed cameras, files
/// one case per problem and place over MQTT, and checks the place again when the platform reports the case as handled.
#[derive(Debug, Parser)]
#[command(
    name = "gridwatch",
    version,
    max_term_width = 110,
    propagate_version = true,
    after_long_help = "\
Getting started:
  gridwatch discover                             find the cameras on the network
  gridwatch camera probe 192.0.2.10 --user admin   judge a camera's streams, with advice
  gridwatch try rtsp://camera/stream             see what the models find there; needs no configuration and no broker
  gridwatch init --camera gate=rtsp://…          write a first configuration
  gridwatch check --config gridwatch/gridwatch.toml   check a configuration, its models, cameras and broker
  gridwatch run --config gridwatch/gridwatch.toml     run the daemon
  gridwatch schema > config.schema.json          get the JSON Schema for completion in your editor
  gridwatch-lab demo                             try it on this machine, with demo cameras and a broker

Exit codes:
  0   success
  1   a check failed
  2   the command line is invalid
  3   the configuration is faulty
  4   a broker, camera, library or disk is unavailable; retry later
  5   a file or message holds invalid data
  6   an exported case holds only for the key in its own folder (evidence verify)
  7   an exported case is authentic, but cannot be compared with an earlier head (evidence verify --since)
  70  a bug in gridwatch; please report it

Run `gridwatch help COMMAND` for the details of a command."
)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the help text is on each command's Args; clap would print a variant's doc comment instead"
)]
pub enum Command {
    #[cfg(all(feature = "gst", feature = "ort"))]
    Run(run::RunArgs),
    #[cfg(all(feature = "gst", feature = "ort"))]
    Reload(reload::ReloadArgs),
    #[cfg(all(feature = "gst", feature = "ort"))]
    Try(try_out::TryArgs),
    Init(init::InitArgs),
    #[cfg(all(feature = "gst", feature = "ort"))]
    Snapshot(snapshot::SnapshotArgs),
    Check(check::CheckArgs),
    Config(config::ConfigCommandArgs),
    Calibrate(calibrate::CalibrateArgs),
    Discover(discover::DiscoverArgs),
    Camera(camera::CameraArgs),
    #[cfg(feature = "ort")]
    Detect(detect::DetectArgs),
    #[cfg(feature = "ort")]
    Eval(eval::EvalArgs),
    #[cfg(feature = "ort")]
    Model(model::ModelArgs),
    #[cfg(feature = "ort")]
    Ocr(ocr::OcrArgs),
    #[cfg(feature = "ort")]
    Signs(signs::SignsArgs),
    Cases(cases::CasesArgs),
    Audit(audit::AuditArgs),
    Evidence(evidence::EvidenceArgs),
    Keys(keys::KeysArgs),
    Outbox(outbox::OutboxArgs),
    Boxes(boxes::BoxesArgs),
    TakeOver(take_over::TakeOverArgs),
    Store(store::StoreArgs),
    SupportBundle(support_bundle::SupportBundleArgs),
    #[cfg(feature = "gst")]
    Crashes(crashes::CrashesArgs),
    Ledger(ledger::LedgerArgs),
    Replay(replay::ReplayArgs),
    Tune(tune::TuneArgs),
    Users(users::UsersArgs),
    View(view::ViewArgs),
    Schema(schema::SchemaArgs),
    #[cfg(feature = "gst")]
    #[command(hide = true)]
    DecodeWorker(decode_worker::DecodeWorkerArgs),
}

impl Command {
    /// Whether what the command writes is for the daemon's user only; other commands write files that a person asked for.
    fn writes_only_state(&self) -> bool {
        match self {
            #[cfg(all(feature = "gst", feature = "ort"))]
            Self::Run(_) => true,
            Self::Boxes(_) | Self::TakeOver(_) | Self::Store(_) | Self::Users(_) | Self::View(_) => true,
            _ => false,
        }
    }

    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            #[cfg(all(feature = "gst", feature = "ort"))]
            Self::Run(args) => run::run(args),
            #[cfg(all(feature = "gst", feature = "ort"))]
            Self::Reload(args) => reload::run(&args),
            #[cfg(all(feature = "gst", feature = "ort"))]
            Self::Try(args) => try_out::run(&args),
            Self::Init(args) => init::run(&args),
            #[cfg(all(feature = "gst", feature = "ort"))]
            Self::Snapshot(args) => snapshot::run(&args),
            #[cfg(feature = "ort")]
            Self::Detect(args) => Ok(detect::run(args)?),
            #[cfg(feature = "ort")]
            Self::Eval(args) => eval::run(&args),
            #[cfg(feature = "ort")]
            Self::Model(args) => model::run(args),
            #[cfg(feature = "ort")]
            Self::Ocr(args) => ocr::run(&args),
            #[cfg(feature = "ort")]
            Self::Signs(args) => signs::run(args),
            Self::Check(args) => check::run(args),
            Self::Config(args) => config::run(&args),
            Self::Calibrate(args) => calibrate::run(&args),
            Self::Discover(args) => discover::run(&args),
            Self::Camera(args) => camera::run(args),
            Self::Cases(args) => Ok(cases::run(&args)?),
            Self::Audit(args) => audit::run(&args),
            Self::Evidence(args) => evidence::run(&args),
            Self::Keys(args) => keys::run(&args),
            Self::Outbox(args) => outbox::run(&args),
            Self::Boxes(args) => boxes::run(&args),
            Self::TakeOver(args) => take_over::run(&args),
            Self::Store(args) => store::run(&args),
            Self::SupportBundle(args) => support_bundle::run(&args),
            #[cfg(feature = "gst")]
            Self::Crashes(args) => crashes::run(&args),
            Self::Ledger(args) => ledger::run(&args),
            Self::Replay(args) => replay::run(&args),
            Self::Tune(args) => tune::run(&args),
            Self::Users(args) => users::run(&args),
            Self::View(args) => view::run(&args),
            Self::Schema(args) => schema::run(args),
            #[cfg(feature = "gst")]
            Self::DecodeWorker(args) => decode_worker::run(&args),
        }
    }
}

/// Commands that moved to `gridwatch-lab`.
const MOVED: [&str; 3] = ["demo", "bench", "simulate"];

/// Parses the command line, runs the command, prints its error if it fails, and returns the exit code.
pub fn main() -> ExitCode {
    // `args()` would panic on an argument that is not UTF-8.
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "help");
    if let Some(moved) = words
        .next()
        .and_then(|word| word.into_string().ok())
        .filter(|word| MOVED.contains(&word.as_str()))
    {
        terminal::note(format_args!(
            "error: `gridwatch {moved}` is now `gridwatch-lab {moved}`, a program that is not installed on a box"
        ));
        return ExitCode::from(2);
    }
    // Stays valid when the file is replaced by an update.
    #[cfg(feature = "gst")]
    crate::decoders::set_worker_program("/proc/self/exe".into());
    keep_memory_private();
    // clap prints usage errors itself and exits with 2.
    let command = Cli::parse().command;
    if command.writes_only_state() {
        gridwatch_base::disk::restrict_new_files();
    }
    finish(command.run())
}

/// No core dump, and no debugger of another process of this user: memory holds passwords, keys and unmasked pictures.
fn keep_memory_private() {
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Neither fails on Linux; without them the service's unit still forbids core dumps.
    let _ = setrlimit(Resource::Core, nothing);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The exit code of a command that ended with `result`; an error is written to standard error.
pub fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            terminal::note(&failure);
            ExitCode::from(failure.class.exit_code())
        }
    }
}

/// Why a command failed: one or more lines for the person at the terminal.
#[derive(Debug)]
pub struct Failure {
    /// The fault, its place and the remedy. Never contains credentials.
    pub message: String,
    /// Determines the exit code.
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
    /// Prefixes the first line with `error:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if self.class == Class::Bug {
            f.write_str("\nThis is a bug in gridwatch; please report it with this message.")?;
        }
        Ok(())
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        let count = counted(faults.0.len(), "fault", "faults");
        Self::new(faults.class(), format!("{count}:\n{faults}"))
    }
}

/// Converts module errors to a [`Failure`] of the same class.
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
    gridwatch_config::edit::EditError,
    gridwatch_web::accounts::AccountError,
    gridwatch_config::rollout::RolloutError,
    gridwatch_evidence::EvidenceError,
    cases::CasesError,
    gridwatch_custody::keys::KeyError,
    gridwatch_custody::reencrypt::ReencryptError,
    gridwatch_ledger::LedgerError,
    gridwatch_ledger::history::HistoryError,
    gridwatch_ledger::what_if::WhatIfError,
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

/// Writes `text` to standard output. A closed pipe (`| head`) is not an error.
///
/// # Errors
/// Any other write error, as [`Class::Transient`].
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = terminal::stdout();
    written_to_stdout(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The failure for an error in writing to standard output; none for a closed pipe.
fn written_to_stdout(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Class::Transient, format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Runs `work` to its end on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot start the async runtime: {e}")))?;
    let done = runtime.block_on(work);
    // A name that is still being resolved must not keep the command from ending.
    runtime.shutdown_background();
    Ok(done)
}

/// `value` as one line of JSON.
fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    with_newline(serde_json::to_string(value))
}

/// `value` as indented JSON.
fn json_pretty(value: &impl Serialize) -> Result<String, Failure> {
    with_newline(serde_json::to_string_pretty(value))
}

fn with_newline(json: serde_json::Result<String>) -> Result<String, Failure> {
    json.map(|text| text + "\n")
        .map_err(|e| Failure::new(Class::Bug, format!("cannot serialize the result as JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_definitions_are_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_a_long_help_text() {
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
    fn the_help_lists_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for class in [Class::Config, Class::Transient, Class::Data, Class::Bug] {
            assert!(help.contains(&format!("\n  {:<3} ", class.exit_code())), "{class:?}");
        }
    }
}
