//! `gridwatch ledger why-not`: what was seen and not filed, with the reason for each.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, sync::atomic::AtomicBool};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cli::{
    Failure, json_line, print,
    replay::{load_plan, quarantine},
    terminal::note,
};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_engine::{NotFiled, Reason};
use gridwatch_ledger::{
    Reader,
    history::{
        HistorySource, Requirement, Task,
        candidates::{CandidateFilter, CandidateHistory, CandidateList, Outcome, find},
    },
    replay::Window,
};

/// Tell why candidates did not become cases.
///
/// Judges the ledger again with the configuration that held at each moment, and lists what a rule took notice of and did not file: the
/// camera and rule, when and where it was seen, for how long, what was still missing, and the reason. The newest come first. Objects
/// that were there a day before --since are seen anew at that time.
///
/// With --all, detections that started no candidate are listed, too: their score was too low, or they lay outside the zones. With --filed,
/// cases are listed as well, with the same timeline.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch ledger why-not --ledger /var/lib/gridwatch/ledger --camera gate-east
  gridwatch ledger why-not --ledger /var/lib/gridwatch/ledger --rule garbage --reason left_before_dwell --json

It runs while the daemon runs and changes nothing. Without --config it needs the configurations that are kept beside the ledger.")]
pub(super) struct LedgerWhyNotArgs {
    /// Ledger folder: `ledger.dir` in the configuration, by default `ledger` in the state directory.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// Judge everything with this configuration instead of the one that held.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only this camera, with all its presets, or this preset (CAMERA.PRESET).
    #[arg(long, value_name = "ID")]
    camera: Option<String>,
    /// Only this rule.
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only this reason, such as left_before_dwell or outside_zones.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<NotFiled>,
    /// From this time on, such as 2025-06-15T08:00:00+08:00; by default the last day of the ledger.
    #[arg(long, value_name = "RFC3339")]
    since: Option<Timestamp>,
    /// Until this time.
    #[arg(long, value_name = "RFC3339")]
    to: Option<Timestamp>,
    /// List detections that started no candidate, too.
    #[arg(long)]
    all: bool,
    /// List filed cases, too.
    #[arg(long)]
    filed: bool,
    /// List at most so many.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON Lines: one for each candidate, then the summary.
    #[arg(long)]
    json: bool,
}

fn reason(text: &str) -> Result<NotFiled, String> {
    let unknown =
        |_| format!("unknown reason {text:?}; the summary of `gridwatch ledger why-not` names those that occur");
    serde_json::from_value(serde_json::Value::from(text)).map_err(unknown)
}

/// The last line of the JSON output.
#[derive(Serialize)]
struct WhyNotSummary<'a> {
    reasons: &'a std::collections::BTreeMap<NotFiled, u64>,
    left_out: u64,
    gaps: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &LedgerWhyNotArgs) -> Result<ExitCode, Failure> {
    let plan = args
        .config
        .as_deref()
        .map(load_plan)
        .transpose()?
        .map(|config| config.plan);
    let window = Window {
        from: Some(since(args)?),
        to: args.to,
    };
    let source = HistorySource {
        ledger: &args.ledger,
        window,
        plan: plan.as_ref(),
    };
    let filter = CandidateFilter {
        camera: args.camera.clone(),
        rule: args.rule.as_deref().map(Into::into),
        reason: args.reason,
        with_filed: args.filed,
        with_unstarted: args.all || args.reason.is_some(),
    };
    let task = Task {
        cancelled: &AtomicBool::new(false),
        progress: &|_| (),
    };
    let list = find(&source, &filter, args.limit as usize, task)?;
    let mut text = String::new();
    for candidate in &list.candidates {
        text += &match args.json {
            true => json_line(candidate)?,
            false => describe(candidate),
        };
    }
    text += &match args.json {
        true => json_line(&WhyNotSummary {
            reasons: &list.reasons,
            left_out: list.left_out,
            gaps: list.gaps.describe(),
        })?,
        false => summary(&list),
    };
    print(&text)?;
    list.gaps.damage.iter().for_each(quarantine);
    for span in &list.gaps.unjudged {
        note(format_args!("warning: {}", span.describe()));
    }
    Ok(ExitCode::SUCCESS)
}

fn since(args: &LedgerWhyNotArgs) -> Result<Timestamp, Failure> {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    if let Some(since) = args.since {
        return Ok(since);
    }
    let newest = match args.to {
        Some(to) => Some(to),
        None => Reader::newest_time(&args.ledger)?,
    };
    let newest = newest.ok_or_else(|| Failure::new(Class::Config, "the ledger has no look yet"))?;
    Ok(newest.checked_sub(DAY).unwrap_or(Timestamp::MIN))
}

fn describe(candidate: &CandidateHistory) -> String {
    let outcome = match candidate.outcome {
        Outcome::Filed => "filed",
        Outcome::NotFiled(reason) => reason.as_str(),
        Outcome::Ongoing => "still there",
    };
    let bbox = candidate.bbox;
    let mut text = format!(
        "{}  {}, camera {}: {outcome}\n    seen from {} to {} in {} of {}, box {:.3},{:.3},{:.3},{:.3}, score {:.2}, {:.0} s present\n",
        candidate.last_seen_at,
        candidate.rule,
        candidate.camera,
        candidate.first_seen_at,
        candidate.last_seen_at,
        candidate.looks_seen,
        counted(candidate.looks, "look", "looks"),
        bbox.x1,
        bbox.y1,
        bbox.x2,
        bbox.y2,
        candidate.score,
        candidate.dwell_s,
    );
    if let Some(case) = &candidate.case {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    case {case}");
    }
    for missing in &candidate.missing {
        let (name, unit) = match missing.what {
            Requirement::StartScore => ("score", ""),
            Requirement::Dwell => ("dwell", " s"),
            Requirement::SeenN => ("sightings in the newest looks", ""),
            Requirement::PresentShare => ("share of looks present", ""),
            Requirement::AttendedShare => ("share of looks attended", ""),
        };
        let rounded = |x: f64| (x * 100.0).round() / 100.0;
        let (has, needs) = (rounded(missing.has), rounded(missing.needs));
        let _ = writeln!(text, "    {name}: {has}{unit} of {needs}{unit}");
    }
    let steps: Vec<String> = candidate
        .steps
        .iter()
        .map(|step| describe_step(step.reason, step.first_at, step.times))
        .collect();
    let _ = writeln!(text, "    {}", steps.join(", "));
    text
}

fn describe_step(reason: Reason, at: Timestamp, times: u32) -> String {
    match times {
        0 | 1 => format!("{} {at}", reason.as_str()),
        times => format!("{} {at} ({times} times)", reason.as_str()),
    }
}

fn summary(list: &CandidateList) -> String {
    let mut text = String::new();
    if list.candidates.is_empty() {
        text += "No candidate in that time.\n";
    }
    if list.left_out > 0 {
        let _ = writeln!(
            text,
            "{} more, older than these; raise --limit or narrow the search.",
            list.left_out
        );
    }
    for (reason, count) in &list.reasons {
        let _ = writeln!(text, "Not filed, {}: {count}", reason.as_str());
    }
    text
}
