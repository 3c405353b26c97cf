//! `gridwatch reload`: asks the running daemon to put the changed configuration into force, or what that would change.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{Failure, audited::audited, json_line, print};
use crate::{
    audit::Act,
    daemon::reload::{ControlError, ReloadOutcome, ReloadReport, request_reload},
};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config::{self as config, Fault, Faults};
use gridwatch_console::daemon::RemovedView;

/// Put a changed configuration into force without a restart, or show what that would change.
///
/// The running daemon reads its configuration with everything that it names. If there is no fault, it takes effect at once: cameras, zones, rules,
/// models, thresholds, the broker. What was learned and seen is kept for every camera and rule that is still there. A few settings need a
/// restart; they are listed. With a fault, nothing changes: the faults are listed here and the daemon runs on with the configuration before.
///
/// The daemon does this by itself within seconds when a file of its configuration changes (not with `run --no-watch`), and on SIGHUP.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch reload --config /etc/gridwatch/edge.toml
  gridwatch reload --config /etc/gridwatch/edge.toml --dry-run
  gridwatch reload --config /etc/gridwatch/edge.toml --dry-run --candidate new.toml

Exit codes:
  0   in force, or would be
  3   the configuration has faults, or something that it names cannot be used; nothing was changed
  4   no daemon runs")]
pub struct ReloadArgs {
    /// The configuration file that the daemon runs with.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Show what would change, and change nothing. Models are loaded and tried, too.
    #[arg(long)]
    dry_run: bool,
    /// Check this file in place of the daemon's. What it names relatively starts at its directory.
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    candidate: Option<PathBuf>,
    /// The daemon's state directory, if the changed file names another one or is too faulty to tell.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print the answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// No daemon runs, or the configuration cannot take effect.
pub fn run(args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let state_dir = match &args.state {
        Some(dir) => dir.clone(),
        None => state_dir(&args.config)?,
    };
    let candidate = args.candidate.as_ref().map(std::path::absolute).transpose();
    let candidate = candidate.map_err(|e| Failure::new(Class::Config, format!("--candidate: {e}")))?;
    let ask = || request_reload(&state_dir, args.dry_run, candidate).map_err(Failure::from);
    let report = match args.dry_run {
        true => ask()?,
        false => audited(&state_dir, Act::new("reload").with_path("file", &args.config), |act| {
            let report = ask()?;
            act.add("outcome", report.outcome.as_str());
            if let Some(after) = &report.config_sha256 {
                act.add("after", after);
            }
            Ok::<_, Failure>(report)
        })?,
    };
    if args.json {
        print(&json_line(&report)?)?;
    } else if report.outcome != ReloadOutcome::Rejected {
        print(&describe(&report))?;
    }
    match report.outcome {
        ReloadOutcome::Rejected if args.json => Ok(ExitCode::from(Class::Config.exit_code())),
        ReloadOutcome::Rejected => Err(rejected(report)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn state_dir(file: &Path) -> Result<PathBuf, Failure> {
    let draft = config::examine(file);
    draft.state_dir.ok_or_else(|| {
        let faults = Failure::from(Faults(draft.faults));
        let hint = "The daemon's state directory cannot be told from this file; name it with --state to ask the daemon all the same";
        Failure::new(faults.class, format!("{}\n{hint}", faults.message))
    })
}

fn rejected(report: ReloadReport) -> Failure {
    let message = match report.error {
        Some(error) => error,
        None => Failure::from(Faults(report.faults)).message,
    };
    Failure::new(
        Class::Config,
        format!("{message}\nNothing was changed: the daemon runs on with the configuration before."),
    )
}

fn describe(report: &ReloadReport) -> String {
    let file = report.file.display();
    let count = counted(report.changes.len(), "change", "changes");
    let mut text = match report.outcome {
        ReloadOutcome::Unchanged => format!("{file} is in force already.\n"),
        ReloadOutcome::WouldApply => format!("{file} can take effect: {count}; nothing was changed.\n"),
        ReloadOutcome::Applied | ReloadOutcome::Rejected => format!("{file} is in force: {count}.\n"),
    };
    for change in &report.changes {
        let _ = writeln!(text, "  {change}");
    }
    let pending = report.pending().count();
    if pending > 0 {
        let _ = writeln!(
            text,
            "{} in force only after a restart of the daemon.",
            counted(pending, "change is", "changes are")
        );
    }
    for removed in &report.removed {
        text += &describe_removed(removed);
    }
    for warning in &report.warnings {
        text += &describe_warning(warning);
    }
    text
}

fn describe_removed(removed: &RemovedView) -> String {
    let RemovedView {
        view,
        candidates,
        open_cases,
    } = removed;
    let candidates = counted(*candidates, "candidate was", "candidates were");
    let mut text = format!("{view} is no longer configured: {candidates} given up");
    if !open_cases.is_empty() {
        let cases: Vec<&str> = open_cases.iter().map(|c| c.as_str()).collect();
        let _ = write!(
            text,
            "; its open cases stay open at the platform, but this box does not look at them again: {}",
            cases.join(", ")
        );
    }
    text + "\n"
}

fn describe_warning(warning: &Fault) -> String {
    format!("warning: {warning}\n")
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::new(Class::Transient, error.to_string())
    }
}
