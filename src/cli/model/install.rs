//! `gridwatch model install`: adds a model package to the box's registry.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use crate::{
    audit::Act,
    cli::{Failure, json_line, print},
};
use gridwatch_config::Config;
use gridwatch_model::{runtime, selftest};

/// Verify a model package and add it to the box's registry.
///
/// A package is a model folder, or a .tar or .tar.gz of one. It is rejected, and nothing of it kept, if its manifest is faulty,
/// a checksum or the signature does not match, or its self-test (`gridwatch model check`) fails. It is not used until
/// `gridwatch model use`. Installing the same package again changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gridwatch model install garbage-1.2.0.tar.gz --config /etc/gridwatch/edge.toml")]
pub(super) struct InstallArgs {
    /// Package: a folder, .tar or .tar.gz.
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Installed<'a> {
    id: &'a str,
    version: &'a str,
    sha256: &'a str,
    dir: PathBuf,
    signed_by: Option<String>,
    was_there: bool,
    /// Number of test pictures; 0: nothing shows that it detects what it should.
    self_test: usize,
}

pub(super) fn run(args: &InstallArgs, config: &Config, act: &mut Act) -> Result<ExitCode, Failure> {
    act.add_path("package", &args.package);
    let runtime = runtime::init(config.onnxruntime.as_deref())?.with(config.inference.clone());
    let arrival = config.model_registry().install(&args.package, |model| {
        config.expect_installable(model)?;
        match selftest::check(&runtime, model).refusal() {
            Some(refusal) => Err(refusal.to_owned()),
            None => Ok(()),
        }
    })?;
    let manifest = arrival.model.manifest();
    act.add("model", format!("{}@{}", manifest.id, manifest.version));
    act.add("sha256", &manifest.sha256);
    let installed = Installed {
        id: &manifest.id,
        version: &manifest.version,
        sha256: &manifest.sha256,
        dir: arrival.dir,
        signed_by: arrival.signed_by.map(|key| key.to_string()),
        was_there: arrival.was_installed,
        self_test: manifest.self_test.len(),
    };
    if args.json {
        print(&json_line(&installed)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signature = match &installed.signed_by {
        Some(key) => format!("signed with {key}"),
        None => "signature not required (registry.keys is empty)".into(),
    };
    let result = if installed.was_there {
        "was already installed"
    } else {
        "installed"
    };
    let (self_test, force) = match installed.self_test {
        0 => (
            "no self-test, so nothing shows that it detects what it should (add one with gridwatch model record)",
            " --force",
        ),
        _ => ("self-test passed", ""),
    };
    print(&format!(
        "{}@{} {result}; {signature}; {self_test}.\nStart its trial with: gridwatch model use {0}@{1}{force}\n",
        installed.id, installed.version
    ))?;
    Ok(ExitCode::SUCCESS)
}
