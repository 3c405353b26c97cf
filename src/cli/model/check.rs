//! `gridwatch model check`: runs the self-test of one or more models.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use crate::cli::{Failure, json_line, options::RuntimeArgs, print};
use gridwatch_base::error::Class;
use gridwatch_model::{
    Model,
    selftest::{self, SelfTestReport, StepReport, StepResult},
};

/// Run the self-test of models: file, session, layout, pictures, speed.
///
/// The daemon runs the same test before it uses a model. It verifies the checksum, recognises the output layout and compares
/// the detections in the self-test's pictures with the expected ones. If they differ, it tries the usual preprocessing
/// mistakes (channel order, scale, fit, adapter) one by one and names the one that explains the difference.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model check models/*
  gridwatch model check --json models/garbage_nano_416

If several folders are given, those without a model.toml are skipped, so that `models/*` works.

Exit codes: 0 all passed; 1 at least one failed; 3 the ONNX Runtime library is not usable.")]
pub(super) struct ModelCheckArgs {
    /// Model folders.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// The result for one model.
#[derive(Serialize)]
struct ModelCheck<'a> {
    dir: &'a std::path::Path,
    good: bool,
    /// Why the model could not be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    report: Option<SelfTestReport>,
}

/// Runs the command.
pub(super) fn run(args: &ModelCheckArgs) -> Result<ExitCode, Failure> {
    let runtime = args.runtime.load()?;
    let is_model = |dir: &&PathBuf| args.dirs.len() == 1 || dir.join("model.toml").exists();
    let dirs: Vec<&PathBuf> = args.dirs.iter().filter(is_model).collect();
    if dirs.is_empty() {
        return Err(Failure::new(Class::Config, "none of the folders has a model.toml"));
    }
    let mut all_good = true;
    for dir in dirs {
        let (error, report) = match Model::load(dir) {
            Ok(model) => (None, Some(selftest::check(&runtime, &model))),
            Err(e) => (Some(e.to_string()), None),
        };
        let good = report.as_ref().is_some_and(SelfTestReport::is_good);
        all_good &= good;
        let checked = ModelCheck {
            dir,
            good,
            error,
            report,
        };
        print(&match args.json {
            true => json_line(&checked)?,
            false => text(&checked),
        })?;
    }
    Ok(ExitCode::from(u8::from(!all_good)))
}

fn text(checked: &ModelCheck<'_>) -> String {
    let result = if checked.good { "passed" } else { "FAILED" };
    let mut text = match &checked.report {
        Some(report) => format!("{} ({}): {result}\n", report.model, checked.dir.display()),
        None => format!("{}: {result}\n", checked.dir.display()),
    };
    if let Some(error) = &checked.error {
        for line in error.lines() {
            text += &format!("  wrong     {line}\n");
        }
    }
    let findings = checked.report.iter().flat_map(|r| &r.findings);
    for StepReport { step, result, message } in findings {
        let mark = match result {
            StepResult::Passed => "ok",
            StepResult::Unproven => "doubtful",
            StepResult::Failed => "wrong",
        };
        text += &format!("  {mark:<9} {:<9} {message}\n", step.to_string());
    }
    text
}
