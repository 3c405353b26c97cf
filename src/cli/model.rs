//! `gridwatch model`: prepares models from ONNX files and manages model versions on a box.
//!
//! Commands that need the running daemon append a request to the registry's journal and wait there for the answer; no command
//! loads a model into the daemon itself.

mod bench;
mod change;
mod check;
mod compare;
mod draft;
mod inspect;
mod install;
mod keys;
mod list;
mod record;

use std::{path::Path, process::ExitCode};

use super::{Failure, audited::audited, options::ConfigArgs};
use crate::audit::Act;
use gridwatch_config::Config;
use gridwatch_model::Model;

/// Prepare models and manage model versions
///
/// To bring a model of your own from an ONNX file: `inspect` shows its inputs and outputs, `draft` writes a model
/// folder with a manifest, `record` adds pictures with verified detections to its self-test, and `check` runs the
/// self-test. docs/models.md shows it for three networks.
///
/// The configuration (`[[models]]`) names the models a box ships with. New versions of them are rolled out while
/// the daemon runs, without changing the configuration:
///
/// 1. `gridwatch model install PACKAGE` verifies a package and adds it to the box's registry, unused.
/// 2. `gridwatch model use ID@VERSION` runs it alongside the live version for a trial; it then goes live or is
///    rejected with a reason. No look is lost and the daemon is not restarted.
/// 3. `gridwatch model rollback ID` returns to the previous version, and finally to the configuration's.
///
/// A live version that starts failing is rolled back automatically. See docs/models-registry.md.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, clap::Subcommand)]
#[allow(
    missing_docs,
    reason = "the help text is on each command's Args; clap would print a variant's doc comment instead"
)]
enum Command {
    Inspect(inspect::InspectArgs),
    Draft(draft::DraftArgs),
    Record(record::ModelRecordArgs),
    Check(check::ModelCheckArgs),
    List(list::ModelListArgs),
    Install(install::InstallArgs),
    Use(change::UseArgs),
    Rollback(change::RollbackArgs),
    Shadow(change::ShadowArgs),
    Bench(bench::BenchArgs),
    Compare(compare::CompareArgs),
    Keygen(keys::KeygenArgs),
    Sign(keys::SignArgs),
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, an unusable model, or a registry that cannot be read or written.
pub fn run(args: ModelArgs) -> Result<ExitCode, Failure> {
    let config = &args.config;
    match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Draft(args) => draft::run(args),
        Command::Record(args) => record::run(args),
        Command::Check(args) => check::run(args),
        Command::List(args) => list::run(args, &config.load()?),
        Command::Install(args) => {
            let config = config.load()?;
            audited(&config.state_dir, Act::new("model install"), |act| {
                install::run(args, &config, act)
            })
        }
        Command::Use(args) => changed(&config.load()?, args.act(), |config| change::use_version(args, config)),
        Command::Rollback(args) => changed(&config.load()?, args.act(), |config| change::roll_back(args, config)),
        Command::Shadow(args) => changed(&config.load()?, args.act(), |config| change::shadow(args, config)),
        Command::Bench(args) => bench::run(args, config),
        Command::Compare(args) => compare::run(args, config),
        Command::Keygen(args) => keys::keygen(args),
        Command::Sign(args) => keys::sign(args),
    }
}

/// Runs a command that asks the daemon for another version, and records it with the daemon's answer.
fn changed(
    config: &Config,
    act: Act,
    change: impl FnOnce(&Config) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    audited(&config.state_dir, act, |act| {
        let code = change(config)?;
        if code != ExitCode::SUCCESS {
            act.set_refused("the daemon rejected the version or rolled it back; the registry's journal has the reason");
        }
        Ok(code)
    })
}

/// A model version as typed: `ID@VERSION`.
#[derive(Debug, Clone)]
struct ModelRef {
    id: String,
    version: String,
}

fn model_ref(text: &str) -> Result<ModelRef, String> {
    match text.split_once('@') {
        Some((id, version)) if !id.is_empty() && !version.is_empty() => Ok(ModelRef {
            id: id.into(),
            version: version.into(),
        }),
        _ => Err("expected ID@VERSION, as shown by `gridwatch model list`".into()),
    }
}

/// Loads the model argument of `bench` and `compare`: a folder, or `ID@VERSION` from the registry or the configuration.
fn model(text: &str, config: &ConfigArgs) -> Result<Model, Failure> {
    let dir = Path::new(text);
    match model_ref(text) {
        Ok(wanted) if !dir.is_dir() => {
            let config = config.load()?;
            let shipped = Model::load(&config.models[config.model_index(&wanted.id)?].dir)?;
            if shipped.manifest().version == wanted.version {
                return Ok(shipped);
            }
            Ok(config.model_registry().load(&wanted.id, &wanted.version)?)
        }
        _ => Ok(Model::load(dir)?),
    }
}
