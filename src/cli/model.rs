//! `gridwatch model`: from an ONNX file to a model that is proved, and from there to a box that runs; one file a command or a
//! few that belong together. What asks something of a running daemon asks it through the registry's journal and waits there
//! for the answer: no command loads a model into the daemon.

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

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::Failure;
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_model::{Model, Runtime, registry::Registry, runtime};

/// Brings a model of your own, or another version of one, and sees which looks.
///
/// From an ONNX file to a model that is proved: `inspect` shows what the file is, `draft` writes a folder with a manifest for
/// it, `record` takes pictures with what was found in them into its self-test once you have seen that it is right, and
/// `check` tries it all. docs/models.md goes through it with three networks.
///
/// What a box ships with stands in its configuration (`[[models]]`). Further versions of the same models are brought while it
/// runs, without touching the configuration:
///
/// 1. `gridwatch model install PACKAGE` checks it and puts it into the box's registry. Nothing looks with it yet.
/// 2. `gridwatch model use ID@VERSION` has it look beside the running one for a while; then it takes over, or is refused and
///    the reason said. No look is lost, and the daemon is not restarted.
/// 3. `gridwatch model rollback ID` goes back to the version before, in the end to the configuration's.
///
/// A version that fails later is taken back without anybody asking. See docs/models-registry.md.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration that the daemon runs with.
    #[arg(
        long,
        short,
        value_name = "FILE",
        global = true,
        required = false,
        env = "GRIDWATCH_CONFIG"
    )]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
#[allow(
    missing_docs,
    reason = "each command's Args say what it does; clap would print a variant's text in their place"
)]
enum Command {
    Inspect(inspect::Args),
    Draft(draft::Args),
    Record(record::Args),
    Check(check::Args),
    List(list::Args),
    Install(install::Args),
    Use(change::UseArgs),
    Rollback(change::RollbackArgs),
    Shadow(change::ShadowArgs),
    Bench(bench::Args),
    Compare(compare::Args),
    Keygen(keys::KeygenArgs),
    Sign(keys::SignArgs),
}

/// What those need that run a model without a configuration.
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
///
/// # Errors
/// A faulty configuration, a model that is none, a registry that cannot be read or written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = args.config.as_deref();
    match &args.command {
        Command::Inspect(args) => inspect::run(args),
        Command::Draft(args) => draft::run(args),
        Command::Record(args) => record::run(args),
        Command::Check(args) => check::run(args),
        Command::List(args) => list::run(args, &needed(config)?),
        Command::Install(args) => install::run(args, &needed(config)?),
        Command::Use(args) => change::use_version(args, &needed(config)?),
        Command::Rollback(args) => change::roll_back(args, &needed(config)?),
        Command::Shadow(args) => change::shadow(args, &needed(config)?),
        Command::Bench(args) => bench::run(args, config),
        Command::Compare(args) => compare::run(args, config),
        Command::Keygen(args) => keys::keygen(args),
        Command::Sign(args) => keys::sign(args),
    }
}

fn needed(file: Option<&Path>) -> Result<Config, Failure> {
    let missing = "no configuration is named; write --config FILE";
    Ok(config::load_unconnected(
        file.ok_or_else(|| Failure::new(Class::Config, missing))?,
    )?)
}

fn registry(config: &Config) -> Registry {
    Registry::new(&config.state_dir, config.registry.keys.clone())
}

/// A version as it is typed: `ID@VERSION`.
#[derive(Debug, Clone)]
struct Named {
    id: String,
    version: String,
}

fn named(text: &str) -> Result<Named, String> {
    match text.split_once('@') {
        Some((id, version)) if !id.is_empty() && !version.is_empty() => Ok(Named {
            id: id.into(),
            version: version.into(),
        }),
        _ => Err("write ID@VERSION, as `gridwatch model list` shows them".into()),
    }
}

/// A model as `bench` and `compare` take it: a folder, or `ID@VERSION` of the registry or of the configuration.
fn model(text: &str, config: Option<&Path>) -> Result<Model, Failure> {
    let dir = Path::new(text);
    match named(text) {
        Ok(named) if !dir.is_dir() => {
            let config = needed(config)?;
            let known = known(&config, &named.id)?;
            let shipped = Model::load(&known.dir)?;
            if shipped.manifest().version == named.version {
                return Ok(shipped);
            }
            Ok(registry(&config).load(&named.id, &named.version)?)
        }
        _ => Ok(Model::load(dir)?),
    }
}

fn known<'a>(config: &'a Config, id: &str) -> Result<&'a config::Model, Failure> {
    config.models.iter().find(|m| m.id == id).ok_or_else(|| {
        let ids: Vec<&str> = config.models.iter().map(|m| m.id.as_str()).collect();
        let message = format!(
            "no model of the configuration has the id {id:?}; there are {}. Only versions of these can look: add the new one under [[models]] and restart the daemon",
            ids.join(", ")
        );
        Failure::new(Class::Config, message)
    })
}

/// One object or array, and a line's end.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|e| Failure::new(Class::Bug, e.to_string()))
}
