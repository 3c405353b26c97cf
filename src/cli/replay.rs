//! `gridwatch replay`: runs the recorded observations through the engine again, with any configuration.

use std::{
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Failure,
    terminal::{self, note},
    written_to_stdout,
};
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_config as config;
use gridwatch_config::ReplayConfig;
use gridwatch_engine::{Effect, Plan};
use gridwatch_ledger as ledger;
use gridwatch_ledger::{
    Damage, PlanError, Reader, RecordedEvent,
    replay::{
        Replay, ReplayedCase, Tally, Window,
        compare::{CaseChange, ChangeCounts, Comparison},
        truth::{
            self,
            evaluation::{
                CaseVerdict, EvaluatedCase, EvaluationCounts, EvaluationReport, Evaluator, JudgedCases, MissedProblem,
            },
        },
    },
};

/// Replay the ledger, as it was judged or with another configuration.
///
/// Without --config each moment is judged with the configuration that held then, which is kept beside the ledger: the same cases, byte
/// for byte, however often the configuration was changed. With --config everything is judged with that file: use it to try changed rules,
/// zones or thresholds on recorded days before you put them into service. It runs the daemon's own engine, needs no cameras, models,
/// broker or credentials, and runs while the daemon writes the ledger. Memory use does not grow with the ledger. Detections below a
/// model's own score floor are not in the ledger and cannot be replayed.
///
/// Prints one line per case, then a summary. Damaged ledger files are reported, renamed and skipped. Time for which no configuration was
/// kept, as by earlier versions, is not judged without --config, and is reported; the command fails if a kept one is missing or damaged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch replay --ledger /var/lib/gridwatch/ledger --json > before.jsonl
  gridwatch replay --ledger /var/lib/gridwatch/ledger --config tried.toml --compare before.jsonl")]
pub struct ReplayArgs {
    /// Ledger folder: `ledger.dir` in the configuration, by default `ledger` in the state directory.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// Configuration to judge everything with, instead of the one that held at each moment.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Report only cases from this time on, such as 2025-06-15T08:00:00+08:00. The daemon run in progress at that time is
    /// replayed from its start, so that the result does not depend on this option.
    #[arg(long, value_name = "RFC3339")]
    from: Option<Timestamp>,
    /// Report only cases before this time.
    #[arg(long, value_name = "RFC3339")]
    to: Option<Timestamp>,
    /// Print JSON Lines: one per case (or difference), then the summary.
    #[arg(long)]
    json: bool,
    /// Print only the differences from an earlier `gridwatch replay --json`, with the reason for each missing case.
    #[arg(long, value_name = "OLD")]
    compare: Option<PathBuf>,
    /// Compare the cases with the true problems in this JSON Lines file, and report precision, recall and the share of repeated
    /// cases. `gridwatch-lab simulate` writes such a file; for real footage a person does (format: docs/judging.md).
    /// Needs --config.
    #[arg(long, value_name = "FILE", conflicts_with = "compare", requires = "config")]
    truth: Option<PathBuf>,
}

/// The last line of the output.
#[derive(Serialize)]
struct ReplaySummary<'a> {
    #[serde(flatten)]
    tally: &'a Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<ChangeCounts>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a EvaluationReport>,
    damaged: Vec<DamageLine>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unjudged: Vec<UnjudgedLine>,
}

/// Time for which no configuration is known.
#[derive(Serialize)]
struct UnjudgedLine {
    from: Timestamp,
    to: Timestamp,
    looks: u64,
    reason: String,
}

/// A case with its outcome against the truth.
#[derive(Serialize)]
struct EvaluatedLine<'a> {
    #[serde(flatten)]
    case: &'a ReplayedCase,
    #[serde(flatten)]
    outcome: &'a EvaluatedCase,
}

/// A true problem that no case was filed for.
#[derive(Serialize)]
struct MissedLine<'a> {
    missed: &'a MissedProblem,
}

/// What the replayed cases are compared with.
enum Baseline {
    None,
    Old(Comparison),
    Truth(Box<Evaluator>),
}

#[derive(Serialize)]
struct DamageLine {
    file: String,
    offset: u64,
    reason: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Faulty rules or cameras in the configuration, or an unreadable ledger, comparison or truth file. Damaged ledger files are
/// reported and skipped.
pub fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let config = args.config.as_deref().map(load_plan).transpose()?;
    let window = Window {
        from: args.from,
        to: args.to,
    };
    let baseline = match (&args.compare, &args.truth) {
        (Some(old), _) => {
            let mut old = old_cases(old)?;
            // Cases outside the window are not reported, so they must not count as gone.
            old.retain(|c| window.contains(c.confirmed_at));
            Baseline::Old(Comparison::new(old))
        }
        (None, Some(path)) => match &config {
            Some(ReplayConfig { plan, .. }) => {
                Baseline::Truth(Box::new(Evaluator::new(truths(path, plan)?, Arc::clone(plan))))
            }
            None => {
                return Err(Failure::new(
                    Class::Config,
                    "--truth needs --config, whose rules say what should be found",
                ));
            }
        },
        (None, None) => Baseline::None,
    };
    let mut replay = match config {
        Some(config) => Replay::new(config.plan, window).with_config_sha256(&config.config_sha256),
        None => Replay::recorded(&args.ledger, window),
    };
    let mut reader = Reader::open(&args.ledger, args.from)?;
    let mut out = BufWriter::new(terminal::stdout());
    let written = write_cases(&mut reader, (&mut replay, window), baseline, args.json, &mut out);
    match written.and_then(|()| out.flush().map_err(printing)) {
        Err(End::Print(e)) => {
            written_to_stdout(Err(e))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(End::Ledger(e)) => return Err(e.into()),
        Ok(()) => {}
    }
    for damage in reader.damage() {
        quarantine(damage);
    }
    report_unjudged(&replay)?;
    Ok(ExitCode::SUCCESS)
}

/// Reports time for which no configuration is known.
///
/// # Errors
/// If a configuration that was kept cannot be read, or nothing was judged.
pub(super) fn report_unjudged(replay: &Replay) -> Result<(), Failure> {
    let mut fault = None;
    for span in replay.unjudged() {
        let is_expected = span.error == PlanError::NotRecorded && replay.tally().looks > 0;
        if is_expected || fault.is_some() {
            note(format_args!("warning: {}", span.describe()));
        } else {
            fault = Some(Failure::new(span.error.class(), span.describe()));
        }
    }
    fault.map_or(Ok(()), Err)
}

/// The part of a configuration that the engine needs. Faults elsewhere are reported on standard error and ignored.
pub(super) fn load_plan(path: &Path) -> Result<ReplayConfig, Failure> {
    let replayable = config::examine(path).into_replay_config()?;
    for fault in &replayable.other_faults {
        note(format_args!(
            "warning: {fault} (ignored here, but the daemon will not start with it)"
        ));
    }
    Ok(replayable)
}

/// Reports a damaged ledger file and renames it, unless the disk is read-only.
pub(super) fn quarantine(damage: &Damage) {
    note(format_args!("warning: {damage}"));
    match ledger::quarantine(damage) {
        Ok(Some(path)) => note(format_args!("  renamed to {}", path.display())),
        Ok(None) => {}
        Err(e) => note(format_args!("  not renamed: {e}")),
    }
}

/// Why the output ended early.
enum End {
    Ledger(ledger::LedgerError),
    Print(io::Error),
}

impl From<ledger::LedgerError> for End {
    fn from(e: ledger::LedgerError) -> Self {
        Self::Ledger(e)
    }
}

fn printing(e: impl Into<io::Error>) -> End {
    End::Print(e.into())
}

fn write_cases(
    reader: &mut Reader,
    (replay, window): (&mut Replay, Window),
    mut baseline: Baseline,
    json: bool,
    out: &mut impl Write,
) -> Result<(), End> {
    if !json && !matches!(baseline, Baseline::Old(_)) {
        writeln!(
            out,
            "{:26}  {:30}  {:16}  {:16}  {:15}  {:>5}  {:>8}  LOOKS",
            "CASE", "CONFIRMED", "RULE", "CAMERA", "CELL", "CONF", "DWELL"
        )
        .map_err(printing)?;
    }
    while let Some(entry) = reader.next_entry()? {
        if let (Baseline::Truth(evaluator), RecordedEvent::Observed(look)) = (&mut baseline, &entry.event)
            && window.contains(look.at)
        {
            evaluator.observe(look);
        }
        let effects = replay.apply(entry);
        let outcomes = match &mut baseline {
            Baseline::Old(comparison) => {
                comparison.apply(&effects);
                continue;
            }
            Baseline::Truth(evaluator) => evaluator.apply(&effects),
            Baseline::None => Vec::new(),
        };
        for effect in &effects {
            if let Effect::Open(case) = effect {
                let outcome = outcomes
                    .iter()
                    .find(|(id, _)| *id == case.id)
                    .map(|(_, outcome)| outcome);
                write_case(&ReplayedCase::from(&**case), outcome, json, out).map_err(printing)?;
            }
        }
    }
    let (mut compared, mut outcome) = (None, None);
    match baseline {
        Baseline::None => {}
        Baseline::Old(comparison) => {
            let (changes, counts) = comparison.finish();
            for change in &changes {
                write_change(change, json, out).map_err(printing)?;
            }
            compared = Some(counts);
        }
        Baseline::Truth(evaluator) => {
            let (total, missed) = evaluator.finish();
            for missed in &missed {
                write_missed(missed, json, out).map_err(printing)?;
            }
            outcome = Some(total);
        }
    }
    let summary = ReplaySummary {
        tally: replay.tally(),
        compared,
        outcome: outcome.as_ref(),
        damaged: reader
            .damage()
            .iter()
            .map(|d| DamageLine {
                file: d.file_name(),
                offset: d.offset,
                reason: d.reason,
            })
            .collect(),
        unjudged: replay
            .unjudged()
            .map(|span| UnjudgedLine {
                from: span.from,
                to: span.to,
                looks: span.looks,
                reason: span.error.to_string(),
            })
            .collect(),
    };
    write_summary(&summary, json, out).map_err(printing)
}

fn write_case(
    case: &ReplayedCase,
    outcome: Option<&EvaluatedCase>,
    json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    match outcome {
        Some(outcome) if json => return print_json(&EvaluatedLine { case, outcome }, out),
        None if json => return print_json(case, out),
        _ => {}
    }
    write!(
        out,
        "{:26}  {:30}  {:16}  {:16}  {:15}  {:5.2}  {:7.0}s  {} of {}",
        case.case_id.as_str(),
        case.confirmed_at.to_string(),
        case.rule,
        case.camera,
        case.cell,
        case.confidence,
        case.dwell_s,
        case.looks_seen,
        case.looks
    )?;
    match outcome {
        Some(EvaluatedCase { verdict, kind, about }) => {
            let word = match verdict {
                CaseVerdict::Right => "right",
                CaseVerdict::Recurrence => "came back",
                CaseVerdict::Repeated => "REPEATED",
                CaseVerdict::False => "FALSE",
            };
            writeln!(out, "  {word}: {kind} {}", about.as_deref().unwrap_or_default())
        }
        None => writeln!(out),
    }
}

fn write_missed(missed: &MissedProblem, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return print_json(&MissedLine { missed }, out);
    }
    let MissedProblem {
        id,
        kind,
        category,
        in_sight_s,
    } = missed;
    writeln!(
        out,
        "MISSED: {kind} {id}, category {category}, in clear view for {in_sight_s:.0} s"
    )
}

fn write_change(change: &CaseChange, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return print_json(change, out);
    }
    match change {
        CaseChange::New { case } => writeln!(out, "new      {}", describe(case)),
        CaseChange::Gone { case, why: Some(why) } => {
            writeln!(
                out,
                "gone     {}: {} at {}",
                describe(case),
                why.reason.as_str(),
                why.at
            )
        }
        CaseChange::Gone { case, why: None } => writeln!(
            out,
            "gone     {}: the rule had no candidate there within an hour",
            describe(case)
        ),
        CaseChange::Shifted { case, later_s, .. } => {
            let (seconds, direction) = (later_s.abs(), if *later_s < 0.0 { "earlier" } else { "later" });
            writeln!(out, "shifted  {}: {seconds:.0} s {direction}", describe(case))
        }
    }
}

fn describe(case: &ReplayedCase) -> String {
    format!(
        "{}  {}  rule {}, camera {}, cell {}",
        case.case_id, case.confirmed_at, case.rule, case.camera, case.cell
    )
}

fn write_summary(summary: &ReplaySummary<'_>, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return print_json(summary, out);
    }
    let Tally {
        cases,
        withdrawn,
        inputs,
        looks,
        looks_elsewhere,
        starts,
        replies_unknown,
        replies_refused,
        not_filed,
    } = summary.tally;
    writeln!(
        out,
        "{} from {} ({}, {}).",
        counted(*cases, "case", "cases"),
        counted(*inputs, "input", "inputs"),
        counted(*looks, "look", "looks"),
        counted(*starts, "daemon start", "daemon starts")
    )?;
    if let Some(c) = summary.compared {
        writeln!(
            out,
            "Compared with before: {} unchanged, {} shifted, {} new, {} gone.",
            c.same, c.shifted, c.new, c.gone
        )?;
    }
    if let Some(outcome) = summary.outcome {
        write_outcome(outcome, out)?;
    }
    if *withdrawn > 0 {
        writeln!(
            out,
            "{} withdrawn: the problem was gone before the platform replied.",
            counted(*withdrawn, "case was", "cases were")
        )?;
    }
    if *looks_elsewhere > 0 {
        writeln!(
            out,
            "{} ignored: not of a camera in the configuration.",
            counted(*looks_elsewhere, "look was", "looks were")
        )?;
    }
    if *replies_unknown > 0 {
        writeln!(
            out,
            "{} ignored: not about a case that this replay opened.",
            counted(*replies_unknown, "platform reply was", "platform replies were")
        )?;
    }
    if *replies_refused > 0 {
        writeln!(
            out,
            "{} ignored: invalid in the state of the case.",
            counted(*replies_refused, "platform reply was", "platform replies were")
        )?;
    }
    for (reason, count) in not_filed {
        writeln!(out, "Not filed, {reason}: {count}")?;
    }
    Ok(())
}

fn write_outcome(outcome: &EvaluationReport, out: &mut impl Write) -> io::Result<()> {
    let rules = outcome.by_rule.iter().map(|(rule, counts)| (rule.as_str(), counts));
    writeln!(out)?;
    for (rule, c) in rules.chain([("all", &outcome.all)]) {
        let EvaluationCounts {
            judged,
            right,
            repeats,
            recurrences,
            asked,
            found,
            held,
            ..
        } = c;
        let percent = |share: Option<f64>| share.map_or_else(|| "-".into(), |s| format!("{:.1} %", s * 100.0));
        writeln!(
            out,
            "{rule}: precision {} ({right} of {}), recall {} ({found} of {}), repeated {} ({repeats}); \
             {}, {held} covered by another problem's open case",
            percent(c.precision),
            counted(*judged, "case", "cases"),
            percent(c.recall),
            counted(*asked, "problem", "problems"),
            percent(c.repeated),
            counted(*recurrences, "recurrence", "recurrences"),
        )?;
    }
    if let Some(newness) = &outcome.newness {
        writeln!(
            out,
            "Cases of rules with appeared: {} new in the view; {} there when the view was learned; {} where the view could not tell",
            precision_of(newness.new),
            precision_of(newness.old),
            precision_of(newness.unknown)
        )?;
    }
    for (what, kinds) in [
        ("False", &outcome.all.wrong_about),
        ("Missed", &outcome.all.missed_kinds),
    ] {
        for (kind, count) in kinds {
            writeln!(out, "{what}, {kind}: {count}")?;
        }
    }
    writeln!(out)
}

/// The number of cases, and how many of them are right.
fn precision_of(JudgedCases { judged, right }: JudgedCases) -> String {
    match judged {
        0 => "none".into(),
        _ => format!("{judged} ({:.1} % right)", right as f64 / judged as f64 * 100.0),
    }
}

fn truths(path: &Path, plan: &Plan) -> Result<Vec<truth::GroundTruth>, Failure> {
    let text = file::read_text(path, file::MAX_DATA)
        .map_err(|e| Failure::new(Class::Config, format!("--truth: cannot read {}: {e}", path.display())))?;
    truth::parse(path, &text, plan).map_err(|e| Failure::new(e.class(), format!("--truth: {e}")))
}

fn print_json<T: Serialize>(value: &T, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// The cases of an earlier replay. Its summary and any other lines are skipped.
fn old_cases(path: &Path) -> Result<Vec<ReplayedCase>, Failure> {
    let unreadable =
        |e: io::Error| Failure::new(Class::Config, format!("--compare: cannot read {}: {e}", path.display()));
    let file = file::open(path, file::MAX_DATA).map_err(unreadable)?;
    let mut cases = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|e| not_a_replay(path, i, &e))?;
        if value.get("case_id").is_some() {
            cases.push(serde_json::from_value(value).map_err(|e| not_a_replay(path, i, &e))?);
        }
    }
    Ok(cases)
}

fn not_a_replay(path: &Path, line: usize, error: &serde_json::Error) -> Failure {
    Failure::new(
        Class::Config,
        format!(
            "--compare: {}:{}: not output of `gridwatch replay --json` ({error})",
            path.display(),
            line + 1
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_of_one_case_is_in_the_singular() {
        let mut outcome = EvaluationReport::default();
        outcome.all.judged = 1;
        outcome.all.right = 1;
        outcome.all.asked = 1;
        outcome.all.recurrences = 1;
        let mut text = Vec::new();
        write_outcome(&outcome, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            !text.contains("rules with appeared"),
            "an old ledger does not tell: {text}"
        );
        assert!(
            text.contains("(1 of 1 case), recall - (0 of 1 problem)") && text.contains("; 1 recurrence,"),
            "{text}"
        );
    }
}
