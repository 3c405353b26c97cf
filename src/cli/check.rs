//! `gridwatch check`: what is right and wrong with a configuration and with everything it names.
//!
//! It changes nothing on the box, sends nothing to the platform and takes no stream: it reads files, loads the libraries,
//! greets the broker and asks each camera what it has.

mod local;
mod probe;
#[cfg(test)]
mod tests;

use std::{fmt::Write, path::PathBuf, process::ExitCode, time::Duration};

use serde::Serialize;

use super::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Draft, Fault, raw::Span};

/// Checks a configuration and everything it names, and says what to do about what is wrong.
///
/// Every fault of the file is told at once, with its path and line. Then what is sound in it is tried: the ONNX Runtime
/// library, the models (against their checksums, and once on a grey picture), the decoders (on one keyframe each), the state
/// directory, the clock, the broker (connect and take leave), and each camera (what it says it has; no stream is taken).
/// Credentials are never shown.
///
/// Exit code: 0 all is right (warnings may be), 1 something is wrong, 3 the file cannot be read or is no TOML.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch check --config configs/edge.toml
  gridwatch check --config edge.toml --offline    before the box stands in its cabinet
  gridwatch check --config edge.toml --json | jq '.checks[] | select(.state == \"wrong\")'")]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    pub config: PathBuf,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Connect to nothing: neither broker nor cameras.
    #[arg(long)]
    pub offline: bool,
    /// How long to wait for the broker and for each camera.
    #[arg(long, value_name = "TIME", default_value = "3s")]
    pub timeout: Span,
}

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Wrong,
    Skipped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
            Self::Skipped => "skipped",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    /// What was checked: `configuration`, `broker`, `camera gate-east`.
    what: String,
    state: State,
    /// One sentence; no credentials.
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// Where it stands in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
}

impl Row {
    fn new(what: impl Into<String>, state: State, message: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            state,
            message: message.into(),
            remedy: None,
            fault: None,
        }
    }

    fn ok(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(what, State::Ok, message)
    }

    fn wrong(what: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(what, State::Wrong, message).remedy(remedy)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into()).filter(|r| !r.is_empty());
        self
    }

    fn of_fault(fault: Fault, state: State) -> Self {
        Self::new("configuration", state, fault.to_string())
            .remedy(fault.remedy.clone())
            .with(fault)
    }

    fn with(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    config: PathBuf,
    /// True where nothing is wrong.
    ok: bool,
    checks: Vec<Row>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let draft = config::examine(&args.config);
    let readable = draft.readable;
    let mut checks = configuration(&draft);
    if readable {
        checks.extend(local::rows(&draft));
        checks.extend(if args.offline {
            probe::skipped(&draft)
        } else {
            connect(&draft, args.timeout.0)?
        });
    }
    let report = Report {
        ok: checks.iter().all(|r| r.state != State::Wrong),
        config: args.config,
        checks,
    };
    print(&if args.json { json(&report)? } else { table(&report) })?;
    Ok(match (readable, report.ok) {
        (false, _) => ExitCode::from(Class::Config.exit_code()),
        (true, false) => ExitCode::from(1),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn configuration(draft: &Draft) -> Vec<Row> {
    let mut rows: Vec<Row> = draft
        .faults
        .iter()
        .map(|f| Row::of_fault(f.clone(), State::Wrong))
        .collect();
    if rows.is_empty() {
        let summary = format!(
            "{}: {} models, {} cameras",
            draft.file.display(),
            draft.models.len(),
            draft.cameras.len()
        );
        rows.push(Row::ok("configuration", summary));
    }
    rows.extend(draft.warnings.iter().map(|w| Row::of_fault(w.clone(), State::Warning)));
    rows
}

fn connect(draft: &Draft, patience: Duration) -> Result<Vec<Row>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Class::Transient, format!("no thread can be started: {e}")))?;
    let rows = runtime.block_on(probe::rows(draft, patience));
    // A name that is being looked up blocks a thread of its own: not worth waiting for.
    runtime.shutdown_background();
    Ok(rows)
}

fn json(report: &Report) -> Result<String, Failure> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|e| Failure::new(Class::Bug, format!("the report is no JSON: {e}")))
}

/// A line each, and what to do below it.
fn table(report: &Report) -> String {
    let width = report
        .checks
        .iter()
        .map(|r| r.what.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for row in &report.checks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<8} {:<width$}  {}", row.state.word(), row.what, row.message);
        if let Some(remedy) = &row.remedy {
            let _ = writeln!(text, "{:<8} {:<width$}  → {remedy}", "", "");
        }
    }
    let counts: Vec<String> = [State::Ok, State::Warning, State::Wrong, State::Skipped]
        .into_iter()
        .map(|state| (state, report.checks.iter().filter(|r| r.state == state).count()))
        .filter(|(_, n)| *n > 0)
        .map(|(state, n)| match (state, n) {
            (State::Warning, 2..) => format!("{n} warnings"),
            _ => format!("{n} {}", state.word().to_lowercase()),
        })
        .collect();
    let _ = writeln!(text, "\n{}", counts.join(", "));
    text
}
