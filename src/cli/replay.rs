//! `gridwatch replay`: judges again what the ledger recorded, under any configuration.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;

use super::Failure;
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::Judged;
use gridwatch_engine::{Effect, Plan};
use gridwatch_ledger as ledger;
use gridwatch_ledger::{
    Damage, Reader, What,
    replay::{
        CaseLine, Replay, Tally, Window,
        compare::{Change, Comparison, Counts},
        truth::{
            self,
            trial::{self, Judged as Told, Missed, Outcome, Trial, Verdict},
        },
    },
};

/// Judges again what the ledger recorded, under this configuration.
///
/// The engine is the one that runs live: the configuration that was live gives the cases that were live, byte for byte;
/// another gives those it would have opened. Cameras, models and broker are not needed, nor their credentials. Memory
/// does not grow with the ledger, and the daemon may go on writing it.
///
///   gridwatch replay --ledger /var/lib/gridwatch/ledger --config edge.toml --json > before.jsonl
///   gridwatch replay --ledger /var/lib/gridwatch/ledger --config tried.toml --compare before.jsonl
///
/// A line per case, then a summary. What the box never recorded it cannot replay: detections below a model's own floor.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The ledger's folder: `ledger` in the state directory, or what `ledger.dir` says.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// The configuration to judge by.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Tell only what happened at or after this: 2025-06-15T08:00:00+08:00. The run that was on then is replayed from its
    /// start, so that nothing differs for beginning late.
    #[arg(long, value_name = "RFC3339")]
    from: Option<Timestamp>,
    /// Leave out what happened at or after this.
    #[arg(long, value_name = "RFC3339")]
    to: Option<Timestamp>,
    /// Print JSON: a line per case (or per difference), then the summary as one object.
    #[arg(long)]
    json: bool,
    /// Print only how the cases differ from those of an earlier `replay --json`, and why those that are gone are gone.
    #[arg(long, value_name = "OLD")]
    compare: Option<PathBuf>,
    /// Hold the cases against what was really there, a JSON line for each thing, and end with precision, recall and the
    /// share of repeated cases. `simulate` writes such a file; of real footage a person does. docs/judging.md tells the form.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    truth: Option<PathBuf>,
}

/// The last line.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    tally: &'a Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Counts>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Outcome>,
    damaged: Vec<DamageLine>,
}

/// A case and what the truth says of it.
#[derive(Serialize)]
struct TriedLine<'a> {
    #[serde(flatten)]
    case: &'a CaseLine,
    #[serde(flatten)]
    told: &'a Told,
}

/// A problem that no case was filed for.
#[derive(Serialize)]
struct MissedLine<'a> {
    missed: &'a Missed,
}

/// What the cases are held against.
enum Against {
    Nothing,
    Old(Comparison),
    Truth(Trial),
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
/// When the configuration does not say how to judge, or the ledger cannot be read. Damaged files are told and passed over.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let judged = judged(&args.config)?;
    let window = Window {
        from: args.from,
        to: args.to,
    };
    let against = match (&args.compare, &args.truth) {
        (Some(old), _) => {
            let mut old = old_cases(old)?;
            // What is not told again is not gone.
            old.retain(|c| window.holds(c.confirmed_at));
            Against::Old(Comparison::new(old))
        }
        (None, Some(path)) => Against::Truth(Trial::new(truths(path, &judged.plan)?, Arc::clone(&judged.plan))),
        (None, None) => Against::Nothing,
    };
    let mut reader = Reader::open(&args.ledger, args.from)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let told = tell(
        &mut reader,
        (Replay::new(judged.plan, window).under(&judged.config_sha256), window),
        against,
        args.json,
        &mut out,
    );
    match told.and_then(|()| out.flush().map_err(printing)) {
        // A reader that went away (`| head`) ends the command without a word.
        Err(End::Print(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        Err(End::Print(e)) => return Err(Failure::new(Class::Transient, format!("standard output: {e}"))),
        Err(End::Ledger(e)) => return Err(e.into()),
        Ok(()) => {}
    }
    for damage in reader.damage() {
        set_apart(damage);
    }
    Ok(ExitCode::SUCCESS)
}

/// The part of a configuration that judges; what is wrong with the rest is told and does not matter here.
pub(super) fn judged(path: &Path) -> Result<Judged, Failure> {
    let judged = config::examine(path).into_judged()?;
    for fault in &judged.other {
        say(&format!("{fault}: of no matter here, but no daemon starts with it"));
    }
    Ok(judged)
}

/// Tells of a damaged file, and sets it apart. Where that is not allowed (a copy on a read-only disk) telling must do.
pub(super) fn set_apart(damage: &Damage) {
    say(&format!("warning: {damage}"));
    match ledger::quarantine(damage) {
        Ok(Some(path)) => say(&format!("  It is now called {}.", path.display())),
        Ok(None) => {}
        Err(e) => say(&format!("  It keeps its name: {e}.")),
    }
}

fn say(line: &str) {
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

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

fn tell(
    reader: &mut Reader,
    (mut replay, window): (Replay, Window),
    mut against: Against,
    json: bool,
    out: &mut impl Write,
) -> Result<(), End> {
    if !json && !matches!(against, Against::Old(_)) {
        writeln!(
            out,
            "{:26}  {:30}  {:16}  {:16}  {:15}  {:>5}  {:>8}  LOOKS",
            "CASE", "CONFIRMED", "RULE", "CAMERA", "CELL", "SURE", "DWELL"
        )
        .map_err(printing)?;
    }
    while let Some(entry) = reader.next_entry()? {
        if let (Against::Truth(trial), What::Observed(look)) = (&mut against, &entry.what)
            && window.holds(look.at)
        {
            trial.look(look);
        }
        let effects = replay.take(entry);
        let told = match &mut against {
            Against::Old(comparison) => {
                comparison.take(&effects);
                continue;
            }
            Against::Truth(trial) => trial.take(&effects),
            Against::Nothing => Vec::new(),
        };
        for effect in &effects {
            if let Effect::Open(case) = effect {
                let told = told.iter().find(|(id, _)| *id == case.id).map(|(_, told)| told);
                line(&CaseLine::from(&**case), told, json, out).map_err(printing)?;
            }
        }
    }
    let (mut compared, mut outcome) = (None, None);
    match against {
        Against::Nothing => {}
        Against::Old(comparison) => {
            let (changes, counts) = comparison.finish();
            for change in &changes {
                difference(change, json, out).map_err(printing)?;
            }
            compared = Some(counts);
        }
        Against::Truth(trial) => {
            let (sum, missed) = trial.finish();
            for missed in &missed {
                not_found(missed, json, out).map_err(printing)?;
            }
            outcome = Some(sum);
        }
    }
    let summary = Summary {
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
    };
    sum_up(&summary, json, out).map_err(printing)
}

fn line(case: &CaseLine, told: Option<&Told>, json: bool, out: &mut impl Write) -> io::Result<()> {
    match told {
        Some(told) if json => return print_json(&TriedLine { case, told }, out),
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
    match told {
        Some(Told { verdict, kind, about }) => {
            let word = match verdict {
                Verdict::Right => "right",
                Verdict::Recurrence => "came back",
                Verdict::Repeated => "REPEATED",
                Verdict::False => "FALSE",
            };
            writeln!(out, "  {word}: {kind} {}", about.as_deref().unwrap_or_default())
        }
        None => writeln!(out),
    }
}

fn not_found(missed: &Missed, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return print_json(&MissedLine { missed }, out);
    }
    let Missed {
        id,
        kind,
        category,
        in_sight_s,
    } = missed;
    writeln!(
        out,
        "MISSED: {kind} {id}, category {category}, {in_sight_s:.0} s in clear sight"
    )
}

fn difference(change: &Change, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return print_json(change, out);
    }
    match change {
        Change::New { case } => writeln!(out, "new      {}", place(case)),
        Change::Gone { case, why: Some(why) } => {
            writeln!(out, "gone     {}: {} at {}", place(case), why.reason.as_str(), why.at)
        }
        Change::Gone { case, why: None } => writeln!(
            out,
            "gone     {}: nothing of that rule was a candidate there within an hour",
            place(case)
        ),
        Change::Shifted { case, later_s, .. } => {
            let (by, way) = (later_s.abs(), if *later_s < 0.0 { "earlier" } else { "later" });
            writeln!(out, "shifted  {}: {by:.0} s {way}", place(case))
        }
    }
}

fn place(case: &CaseLine) -> String {
    format!(
        "{}  {}  rule {}, camera {}, cell {}",
        case.case_id, case.confirmed_at, case.rule, case.camera, case.cell
    )
}

fn sum_up(summary: &Summary<'_>, json: bool, out: &mut impl Write) -> io::Result<()> {
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
        "{cases} cases from {inputs} inputs, {looks} looks among them; {starts} starts."
    )?;
    if let Some(c) = summary.compared {
        writeln!(
            out,
            "{} are the same as before, {} are shifted, {} are new, {} are gone.",
            c.same, c.shifted, c.new, c.gone
        )?;
    }
    if let Some(outcome) = summary.outcome {
        held_against(outcome, out)?;
    }
    if *withdrawn > 0 {
        writeln!(
            out,
            "{withdrawn} cases the box took back: nobody had a word for them, and their places were empty."
        )?;
    }
    if *looks_elsewhere > 0 {
        writeln!(
            out,
            "{looks_elsewhere} looks were at cameras that the configuration does not name."
        )?;
    }
    if *replies_unknown > 0 {
        writeln!(
            out,
            "{replies_unknown} answers of the platform were about cases that this replay has not opened."
        )?;
    }
    if *replies_refused > 0 {
        writeln!(
            out,
            "{replies_refused} answers of the platform did not fit where their case stood."
        )?;
    }
    for (reason, count) in not_filed {
        writeln!(out, "Not filed, {reason}: {count}")?;
    }
    Ok(())
}

fn held_against(outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let rules = outcome.by_rule.iter().map(|(rule, counts)| (rule.as_str(), counts));
    writeln!(out)?;
    for (rule, c) in rules.chain([("all", &outcome.all)]) {
        let trial::Counts {
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
            "{rule}: precision {} ({right} of {judged} cases), recall {} ({found} of {asked} problems), repeated {} ({repeats}); \
             {recurrences} came back, {held} held by a neighbour's case",
            percent(c.precision),
            percent(c.recall),
            percent(c.repeated),
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

fn truths(path: &Path, plan: &Plan) -> Result<Vec<truth::Truth>, Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::new(
            Class::Config,
            format!("--truth: {} cannot be read: {e}", path.display()),
        )
    })?;
    truth::parse(path, &text, plan).map_err(|e| Failure::new(e.class(), format!("--truth: {e}")))
}

fn print_json<T: Serialize>(value: &T, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// The cases of an earlier replay; its summary, and lines that say something else, are passed over.
fn old_cases(path: &Path) -> Result<Vec<CaseLine>, Failure> {
    let unreadable = |e: io::Error| Failure::new(Class::Config, format!("{} cannot be read: {e}", path.display()));
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut cases = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|e| not_ours(path, i, &e))?;
        if value.get("case_id").is_some() {
            cases.push(serde_json::from_value(value).map_err(|e| not_ours(path, i, &e))?);
        }
    }
    Ok(cases)
}

fn not_ours(path: &Path, line: usize, error: &serde_json::Error) -> Failure {
    Failure::new(
        Class::Config,
        format!(
            "{}:{}: no line of `gridwatch replay --json` ({error}); make OLD with it",
            path.display(),
            line + 1
        ),
    )
}
