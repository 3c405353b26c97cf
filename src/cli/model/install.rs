//! `gridwatch model install`: a package into the registry.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::{json, known, registry};
use crate::cli::{Failure, print};
use gridwatch_config::Config;
use gridwatch_model::{Model, runtime, selftest};

/// Check a package and put it into the box's registry.
///
/// A package is a model's folder, or a .tar or .tar.gz of one. It is refused, and nothing of it kept, if its manifest is faulty,
/// its sums or its signature are not right, or its self-test (`gridwatch model check`) finds something wrong. Nothing
/// looks with it until `gridwatch model use`. Installing the same package again changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The package.
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    id: &'a str,
    version: &'a str,
    sha256: &'a str,
    dir: PathBuf,
    signed_by: Option<String>,
    was_there: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let runtime = runtime::init(config.onnxruntime.as_deref())?.with(config.inference.clone());
    let arrival = registry(config).install(&args.package, |model| {
        let manifest = model.manifest();
        let shipped = known(config, &manifest.id).map_err(|e| e.message)?;
        let shipped = Model::load(&shipped.dir).map_err(|e| e.to_string())?;
        if shipped.manifest().version == manifest.version && shipped.manifest() != manifest {
            return Err(format!(
                "the configuration's own model is {}, with another model.toml: a version never changes. Raise `version`",
                manifest.version
            ));
        }
        match selftest::check(&runtime, model).refusal() {
            Some(wrong) => Err(wrong.to_owned()),
            None => Ok(()),
        }
    })?;
    let manifest = arrival.model.manifest();
    let done = Done {
        id: &manifest.id,
        version: &manifest.version,
        sha256: &manifest.sha256,
        dir: arrival.dir,
        signed_by: arrival.signed_by.map(|key| key.to_string()),
        was_there: arrival.was_there,
    };
    if args.json {
        print(&json(&done)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signed = match &done.signed_by {
        Some(key) => format!("signed with {key}"),
        None => "no signature is asked for (registry.keys is empty)".into(),
    };
    let was = if done.was_there {
        "was in the registry already"
    } else {
        "is in the registry"
    };
    print(&format!(
        "{}@{} {was}; {signed}.\nTry it: gridwatch model use {0}@{1}\n",
        done.id, done.version
    ))?;
    Ok(ExitCode::SUCCESS)
}
