//! `gridwatch model check`: the self-test of one or more models.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::Library;
use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_model::{
    Model,
    selftest::{self, Finding, Report, Verdict},
};

/// Tries models as the daemon does before they may look: file, session, layout, pictures, speed.
///
/// Each is loaded against its checksum, recognised, and shown the pictures of its self-test. Where these are not met, the
/// usual mistakes are tried one by one, and one that explains everything is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model check models/*
  gridwatch model check --json models/garbage_nano_416

Folders without a model.toml are passed over when others are named beside them, so that `models/*` will do.

Exit codes: 0 all may look; 1 one or more may not; 3 ONNX Runtime's library is not usable.")]
pub(super) struct Args {
    /// Folders of models.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// Print one JSON object a line, for programs.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    library: Library,
}

/// One model's outcome, for programs.
#[derive(Serialize)]
struct Outcome<'a> {
    dir: &'a std::path::Path,
    good: bool,
    /// Why it could not even be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    report: Option<Report>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = args.library.load()?;
    let is_model = |dir: &&PathBuf| args.dirs.len() == 1 || dir.join("model.toml").exists();
    let dirs: Vec<&PathBuf> = args.dirs.iter().filter(is_model).collect();
    if dirs.is_empty() {
        return Err(Failure::new(Class::Config, "none of these folders has a model.toml"));
    }
    let mut all_good = true;
    for dir in dirs {
        let (error, report) = match Model::load(dir) {
            Ok(model) => (None, Some(selftest::check(&runtime, &model))),
            Err(e) => (Some(e.to_string()), None),
        };
        let good = report.as_ref().is_some_and(Report::is_good);
        all_good &= good;
        let outcome = Outcome {
            dir,
            good,
            error,
            report,
        };
        print(&match args.json {
            true => serde_json::to_string(&outcome).map_err(|e| Failure::new(Class::Bug, e.to_string()))? + "\n",
            false => text(&outcome),
        })?;
    }
    Ok(ExitCode::from(u8::from(!all_good)))
}

fn text(outcome: &Outcome<'_>) -> String {
    let verdict = if outcome.good { "may look" } else { "refused" };
    let mut text = match &outcome.report {
        Some(report) => format!("{} ({}): {verdict}\n", report.model, outcome.dir.display()),
        None => format!("{}: {verdict}\n", outcome.dir.display()),
    };
    if let Some(error) = &outcome.error {
        for line in error.lines() {
            text += &format!("  wrong     {line}\n");
        }
    }
    let findings = outcome.report.iter().flat_map(|r| &r.findings);
    for Finding { step, verdict, said } in findings {
        let mark = match verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "doubtful",
            Verdict::Wrong => "wrong",
        };
        text += &format!("  {mark:<9} {:<9} {said}\n", step.to_string());
    }
    text
}
