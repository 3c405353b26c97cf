//! `gridwatch model list`: lists model versions, where they are live, and the outcomes of trials.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::cli::{Failure, json_line, print, terminal::note};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config::Config;
use gridwatch_model::{
    registry::{ModelState, OutcomeKind, RegistryState, RequestAction, VersionOutcome, version_name},
    trial::TrialReport,
};

/// List model versions: installed, live, on trial and rejected.
///
/// Shows for each model the configuration's version and those in the registry, which is live on which cameras and since when,
/// pending requests, and the outcome of each trial or shadow run with its differences from the live version.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gridwatch model list --config /etc/gridwatch/edge.toml")]
pub(super) struct ModelListArgs {
    /// Print JSON Lines, one object per model.
    #[arg(long)]
    json: bool,
}

/// A line of the JSON output.
#[derive(Serialize)]
struct ModelLine<'a> {
    id: &'a str,
    /// The configuration's version.
    shipped: ShippedVersion,
    /// The version that is live on all cameras without a version of their own.
    live_version: String,
    /// Whether a daemon runs on this state directory, so that requests are processed now.
    daemon: bool,
    #[serde(flatten)]
    known: ModelState,
}

#[derive(Serialize)]
struct ShippedVersion {
    /// `None` if its folder cannot be read.
    version: Option<String>,
    dir: PathBuf,
}

pub(super) fn run(args: &ModelListArgs, config: &Config) -> Result<ExitCode, Failure> {
    let registry = config.model_registry();
    let journal = registry.journal();
    let contents = journal
        .read()
        .map_err(|e| Failure::new(Class::Transient, format!("{}: {e}", journal.path().display())))?;
    if !contents.unreadable.is_empty() {
        let lines: Vec<String> = contents.unreadable.iter().map(ToString::to_string).collect();
        note(format_args!(
            "warning: {}: skipped lines that are damaged or from a newer gridwatch: {}",
            journal.path().display(),
            lines.join(", ")
        ));
    }
    let state = RegistryState::of(&contents.entries);
    let daemon = registry.is_daemon_running();
    let mut text = String::new();
    for (versions, model) in config.model_versions(&state).into_iter().zip(&config.models) {
        let line = ModelLine {
            id: versions.id,
            live_version: versions.live().unwrap_or_default(),
            shipped: ShippedVersion {
                version: versions.shipped,
                dir: model.dir.clone(),
            },
            daemon,
            known: versions.known,
        };
        if args.json {
            text += &json_line(&line)?;
        } else {
            table(&mut text, &line, &config.timezone);
        }
    }
    if !args.json && !daemon {
        text += "No daemon runs on this state directory; requests take effect at the next start.\n";
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(text: &mut String, line: &ModelLine<'_>, zone: &TimeZone) {
    let ModelLine { id, shipped, known, .. } = line;
    let time = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{id}");
    let own = known
        .cameras
        .iter()
        .filter_map(|(camera, stack)| Some((camera, stack.last()?)));
    let live = |version: Option<&str>| {
        let mut places: Vec<String> = Vec::new();
        if known.live(None).as_deref() == version {
            places.push(match known.live.last() {
                Some(live) => format!("live since {}", time(live.since)),
                None => "live".into(),
            });
        }
        let here = own.clone().filter(|(_, live)| live.version.as_deref() == version);
        places.extend(here.map(|(camera, live)| format!("live on {camera} since {}", time(live.since))));
        places.join("; ")
    };
    let version = shipped.version.as_deref().unwrap_or("?");
    let _ = writeln!(text, "  {version:<12} {}  (configured)", live(None));
    for (version, installed) in &known.installed {
        let _ = write!(text, "  {version:<12} {}", live(Some(version)));
        let _ = writeln!(text, "  installed {}", time(installed.at));
        outcome(text, known.outcomes.get(version), &time);
    }
    outcome(text, known.outcomes.get(version_name(&None)), &time);
    for request in &known.requests {
        let what = match &request.action {
            RequestAction::Use { version, .. } => format!("use {}", version_name(version)),
            RequestAction::Rollback => "rollback".into(),
        };
        let since = match request.trial_since {
            Some(at) => format!("on trial since {}", time(at)),
            None => "pending".into(),
        };
        let place = request.camera.as_ref().map(|c| format!(" on {c}")).unwrap_or_default();
        let _ = writeln!(text, "  requested {}: {what}{place}; {since}", time(request.at));
    }
    if let Some(shadow) = &known.shadow {
        let _ = writeln!(
            text,
            "  requested {}: shadow run of {} for {}",
            time(shadow.at),
            version_name(&shadow.version),
            counted(shadow.looks, "look", "looks")
        );
    }
}

fn outcome(text: &mut String, outcome: Option<&VersionOutcome>, time: &impl Fn(Timestamp) -> String) {
    let Some(outcome) = outcome else { return };
    let what = match outcome.kind {
        OutcomeKind::WentLive => "passed its trial",
        OutcomeKind::Refused => "rejected",
        OutcomeKind::RolledBack => "rolled back",
        OutcomeKind::Shadowed => "shadow run ended",
    };
    let colon = if outcome.reason.is_empty() { "" } else { ": " };
    let _ = writeln!(
        text,
        "               {} {what}{colon}{}",
        time(outcome.at),
        outcome.reason
    );
    if let Some(report) = &outcome.report {
        for line in differences(report) {
            let _ = writeln!(text, "               {line}");
        }
    }
}

/// The summary lines of a trial or shadow report.
pub(super) fn differences(report: &TrialReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, {} failed; median {:.1} ms, live version {:.1} ms",
        counted(report.looks, "look", "looks"),
        report.errors,
        report.new_ms.median,
        report.old_ms.median
    )];
    for (label, of) in &report.differences.labels {
        lines.push(format!(
            "{label}: found by both {}, only by the live version {}, only by the new one {}, mean score {:+.2}",
            of.both, of.only_old, of.only_new, of.mean_score_difference
        ));
    }
    lines
}
