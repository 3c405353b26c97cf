//! `gridwatch check`: validates a configuration and everything it names.
//!
//! Read-only: it reads files, loads libraries and models, connects to the broker, and opens each camera's stream until its first
//! keyframe. It changes nothing on the box and publishes nothing.

mod local;
mod masking;
mod permissions;
mod probe;
#[cfg(test)]
mod tests;

use std::{fmt::Write, path::PathBuf, process::ExitCode, time::Duration};

use serde::Serialize;

use super::{Failure, json_pretty, print};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config as config;
use gridwatch_config::{Draft, Fault, raw::Span};

/// Check a configuration and everything it names.
///
/// Run it before the daemon's first start and after every change. It reports every fault of the file with its path, line and
/// remedy, then tries what the valid part names: the ONNX Runtime library, the models (checksum and self-test, and whether the
/// registry's live versions still find what is masked), the decoders (one keyframe of each codec), the state directory, the
/// database, the keys, the clock, the broker (connect, look for another box with this `node.id`, and disconnect) and each camera
/// (its stream is opened until one keyframe is decoded). It changes nothing and shows no credentials.
///
/// Exit codes: 0 no errors (there may be warnings); 1 something is wrong; 3 the file cannot be read or is not TOML.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch check --config configs/edge.toml
  gridwatch check --config edge.toml --offline    before the box is installed on site
  gridwatch check --config edge.toml --json | jq '.checks[] | select(.state == \"wrong\")'")]
pub struct CheckArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    pub config: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Do not connect to the broker or the cameras.
    #[arg(long)]
    pub offline: bool,
    /// Timeout for the broker and for each camera.
    #[arg(long, value_name = "TIME", default_value = "3s")]
    pub timeout: Span,
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckState {
    Ok,
    Warning,
    Wrong,
    Skipped,
}

impl CheckState {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
            Self::Skipped => "skipped",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CheckRow {
    /// What was checked: `configuration`, `broker`, `camera gate-east`.
    what: String,
    state: CheckState,
    /// One sentence; no credentials.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// The configuration fault that this row reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
}

impl CheckRow {
    fn new(what: impl Into<String>, state: CheckState, message: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            state,
            message: message.into(),
            remedy: None,
            fault: None,
        }
    }

    fn ok(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(what, CheckState::Ok, message)
    }

    fn wrong(what: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(what, CheckState::Wrong, message).remedy(remedy)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into()).filter(|r| !r.is_empty());
        self
    }

    fn of_fault(fault: Fault, state: CheckState) -> Self {
        Self::new("configuration", state, fault.to_string())
            .remedy(fault.remedy.to_string())
            .fault(fault)
    }

    fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

/// The result of all checks, printed as a table or JSON.
#[derive(Debug, Serialize)]
struct CheckReport {
    config: PathBuf,
    /// Whether no row is `Wrong`.
    ok: bool,
    checks: Vec<CheckRow>,
}

/// Runs the command.
///
/// # Errors
/// No network runtime, or standard output cannot be written. Faults found are printed, not returned as errors.
pub fn run(args: CheckArgs) -> Result<ExitCode, Failure> {
    let draft = config::examine(&args.config);
    let readable = draft.readable;
    let mut checks = configuration(&draft);
    if readable {
        checks.extend(local::rows(&draft));
        checks.extend(draft.state_dir.as_deref().and_then(permissions::row));
        checks.extend(masking::mask_models(&draft));
        checks.extend(masking::row(&draft));
        checks.extend(if args.offline {
            probe::skipped(&draft)
        } else {
            connect(&draft, args.timeout.0)?
        });
    }
    let report = CheckReport {
        ok: checks.iter().all(|r| r.state != CheckState::Wrong),
        config: args.config,
        checks,
    };
    print(&if args.json {
        json_pretty(&report)?
    } else {
        table(&report)
    })?;
    Ok(match (readable, report.ok) {
        (false, _) => ExitCode::from(Class::Config.exit_code()),
        (true, false) => ExitCode::from(1),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn configuration(draft: &Draft) -> Vec<CheckRow> {
    let mut rows: Vec<CheckRow> = draft
        .faults
        .iter()
        .map(|f| CheckRow::of_fault(f.clone(), CheckState::Wrong))
        .collect();
    if rows.is_empty() {
        let summary = format!(
            "{}: {}, {}",
            draft.file.display(),
            counted(draft.models.len(), "model", "models"),
            counted(draft.cameras.len(), "camera", "cameras")
        );
        rows.push(CheckRow::ok("configuration", summary));
    }
    rows.extend(
        draft
            .warnings
            .iter()
            .map(|w| CheckRow::of_fault(w.clone(), CheckState::Warning)),
    );
    rows
}

fn connect(draft: &Draft, timeout: Duration) -> Result<Vec<CheckRow>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot start the network runtime: {e}")))?;
    let rows = runtime.block_on(probe::rows(draft, timeout));
    // A DNS lookup that has timed out still blocks its thread; do not wait for it.
    runtime.shutdown_background();
    Ok(rows)
}

/// One line per check, with its remedy below it, and the counts at the end.
fn table(report: &CheckReport) -> String {
    let width = report
        .checks
        .iter()
        .map(|r| r.what.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for row in &report.checks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<8} {:<width$}  {}", row.state.label(), row.what, row.message);
        if let Some(remedy) = &row.remedy {
            let _ = writeln!(text, "{:<8} {:<width$}  → {remedy}", "", "");
        }
    }
    let counts: Vec<String> = [
        CheckState::Ok,
        CheckState::Warning,
        CheckState::Wrong,
        CheckState::Skipped,
    ]
    .into_iter()
    .map(|state| (state, report.checks.iter().filter(|r| r.state == state).count()))
    .filter(|(_, n)| *n > 0)
    .map(|(state, n)| match (state, n) {
        (CheckState::Warning, 2..) => format!("{n} warnings"),
        _ => format!("{n} {}", state.label().to_lowercase()),
    })
    .collect();
    let _ = writeln!(text, "\n{}", counts.join(", "));
    text
}
