//! `gridwatch tune`: what a rule's threshold trades, on the box's own record and people's own judgement.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    Failure, print,
    replay::{judged, set_apart},
};
use gridwatch_base::error::Class;
use gridwatch_ledger::{
    Reader,
    replay::{
        Window,
        tune::{
            CurvePoint, RuleCurve, Sweep, SweepResult,
            labels::{self, CaseLabel},
            svg,
        },
    },
};

/// Holds each rule's start_score against what people said of its cases, and names the one to choose.
///
/// Judges the ledger again under every threshold from 0.30 to 0.95 at once, and counts how many cases are right
/// (precision) and how many of the problems are found (recall). LABELS is JSON lines, or CSV whose first line names the
/// columns: `right` and either `case_id` (of `replay` or `cases list`), or `camera`, `rule`, `at`, `x1`, `y1`, `x2`, `y2`
/// for a thing that no case was opened for.
///
///   gridwatch tune --ledger /var/lib/gridwatch/ledger --config edge.toml --labels labels.csv --svg tune.svg
///
/// Chosen is the threshold that finds most among those as precise as --precision asks; of equals the middle one.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The ledger's folder: `ledger` in the state directory, or what `ledger.dir` says.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// The configuration whose rules are tuned.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// What people said of cases.
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The least share of right cases that will do, 0..1.
    #[arg(long, default_value_t = 0.9, value_parser = share)]
    precision: f64,
    /// Draw precision against recall into this file.
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|e| format!("{e}"))?;
    (0.0..=1.0)
        .contains(&share)
        .then_some(share)
        .ok_or_else(|| "write a number from 0 to 1".into())
}

/// Runs the command.
///
/// # Errors
/// When configuration, labels or ledger cannot be read, or the picture cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let judged = judged(&args.config)?;
    let labels = read_labels(&args.labels)?;
    let mut reader = Reader::open(&args.ledger, None)?;
    let mut sweep = Sweep::new(&judged.plan, Window::default());
    while let Some(entry) = reader.next_entry()? {
        sweep.apply(&entry);
    }
    reader.damage().iter().for_each(set_apart);
    let tuned = sweep.finish(&labels, args.precision);
    if let Some(path) = &args.svg {
        fs::write(path, svg::draw(&tuned)).map_err(|e| {
            Failure::new(
                Class::Transient,
                format!("--svg: {} cannot be written: {e}", path.display()),
            )
        })?;
    }
    print(&table(&tuned))?;
    Ok(ExitCode::SUCCESS)
}

fn read_labels(path: &Path) -> Result<Vec<CaseLabel>, Failure> {
    let fault = |reason: String| Failure::new(Class::Config, format!("--labels: {}: {reason}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
    labels::parse(&text).map_err(|e| fault(e.to_string()))
}

fn table(tuned: &SweepResult) -> String {
    let mut text = String::new();
    for curve in &tuned.rules {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "Rule {}, start_score now {:.2}\n\n  {:>5}  {:>6}  {:>5}  {:>5}  {:>10}  {:>9}  {:>6}",
            curve.rule, curve.configured, "SCORE", "CASES", "RIGHT", "WRONG", "UNLABELLED", "PRECISION", "RECALL"
        );
        for (i, point) in curve.points.iter().enumerate() {
            let mark = if curve.chosen.as_ref().is_some_and(|c| c.index == i) {
                '>'
            } else {
                ' '
            };
            let _ = writeln!(
                text,
                "{mark} {:5.2}  {:6}  {:5}  {:5}  {:10}  {:>9}  {:>6}",
                point.score,
                point.cases,
                point.right,
                point.wrong,
                point.cases - point.right - point.wrong,
                percent(point.precision()),
                percent(point.recall())
            );
        }
        let _ = writeln!(text, "\n{}\n", advice(curve, tuned.min_precision));
    }
    if tuned.unmatched_labels > 0 {
        let _ = writeln!(
            text,
            "{} labels name cases that this ledger gives under no threshold; they count for nothing.",
            tuned.unmatched_labels
        );
    }
    text
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |s| format!("{:.0} %", s * 100.0))
}

fn advice(curve: &RuleCurve, min_precision: f64) -> String {
    let Some((choice, point)) = curve
        .chosen
        .as_ref()
        .and_then(|c| Some((c, curve.points.get(c.index)?)))
    else {
        return "No threshold can be named: no label speaks of a case of this rule.".into();
    };
    let CurvePoint {
        score,
        problems,
        found,
        right,
        wrong,
        ..
    } = point;
    let of_equals = match choice.ties {
        0 | 1 => String::new(),
        n => format!(", the middle of {n} that do as well"),
    };
    let labelled = right + wrong;
    if choice.is_precise_enough {
        format!(
            "start_score = {score:.2}{of_equals}: of those with {:.0} % or more right it finds most, {found} of {problems} problems, \
             with {right} of {labelled} labelled cases right.",
            min_precision * 100.0
        )
    } else {
        format!(
            "start_score = {score:.2}{of_equals} comes nearest: none has {:.0} % right. It has {right} of {labelled} labelled cases right \
             and finds {found} of {problems} problems. Draw zones, raise the dwell, or train the model on what it mistakes.",
            min_precision * 100.0
        )
    }
}
