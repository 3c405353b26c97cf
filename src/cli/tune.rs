//! `gridwatch tune`: precision and recall of each rule under every threshold, from the ledger and labelled cases.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    Failure,
    options::fraction,
    print,
    replay::{load_plan, quarantine},
    terminal::note,
};
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_ledger::{
    Reader,
    replay::{
        CaseNewness, Window,
        tune::{
            CurvePoint, RuleCurve, RuleTuning, Setting, Sweep, SweepResult,
            labels::{self, CaseLabel, LabelSubject},
            svg,
        },
    },
};
use gridwatch_store::Store;

/// Choose each rule's start scores from labelled cases.
///
/// Use it after some weeks in service, when clerks have judged enough cases. It replays the ledger under every threshold from
/// 0.30 to 0.95 at once, and counts for each how many cases are right (precision) and how many of the known problems are
/// found (recall). It recommends the threshold with the highest recall among those that reach --precision; of several equal
/// ones, the middle one. It changes no file but --svg.
///
/// A rule with `appeared` has three start scores, each with a table of its own: `new_start_score` from the cases of objects that were
/// new in the view, `old_start_score` (with "preferred") from those that were there when the view was learned, and `start_score`
/// from those where the view could not tell. Nothing is recommended for a score that the ledger cannot tell about.
///
/// With --reviews, the labels are the reviews of cases on the console: those on which reviewers disagree, or that nobody could tell, give
/// none. LABELS is JSON Lines, or CSV with a header line. Each label has `right` and either `case_id` (from `gridwatch replay` or
/// `gridwatch cases list`), or `camera`, `rule`, `at`, `x1`, `y1`, `x2`, `y2` for a problem that no case was opened for. With both, LABELS
/// decides on cases that are in it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch tune --ledger /var/lib/gridwatch/ledger --config edge.toml --reviews /var/lib/gridwatch
  gridwatch tune --ledger /var/lib/gridwatch/ledger --config edge.toml --labels labels.csv --svg tune.svg")]
pub struct TuneArgs {
    /// Ledger folder: `ledger.dir` in the configuration, by default `ledger` in the state directory.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// Configuration whose rules are tuned.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Labelled cases and problems.
    #[arg(long, value_name = "FILE", required_unless_present = "reviews")]
    labels: Option<PathBuf>,
    /// Use the reviews in this state directory: `node.state_dir` in the configuration.
    #[arg(long, value_name = "STATE_DIR")]
    reviews: Option<PathBuf>,
    /// Required precision: the share of cases that are right, 0..=1.
    #[arg(long, default_value_t = 0.9, value_parser = fraction::<f64>)]
    precision: f64,
    /// Write a plot of precision and recall to this SVG file.
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// The configuration, the labels or the ledger cannot be read, or the plot cannot be written.
pub fn run(args: &TuneArgs) -> Result<ExitCode, Failure> {
    let config = load_plan(&args.config)?;
    let mut labels = args.labels.as_deref().map_or(Ok(Vec::new()), read_labels)?;
    if let Some(state) = &args.reviews {
        let (reviewed, disputed) = reviewed(state, &labels)?;
        labels.extend(reviewed);
        if disputed > 0 {
            let cases = counted(disputed, "case gives", "cases give");
            note(format_args!("{cases} no label: reviewers disagree"));
        }
    }
    let mut reader = Reader::open(&args.ledger, None)?;
    let mut sweep = Sweep::new(&config.plan, Window::default());
    while let Some(entry) = reader.next_entry()? {
        sweep.apply(&entry);
    }
    reader.damage().iter().for_each(quarantine);
    let tuned = sweep.finish(&labels, args.precision);
    if let Some(path) = &args.svg {
        fs::write(path, svg::draw(&tuned))
            .map_err(|e| Failure::new(Class::Transient, format!("--svg: cannot write {}: {e}", path.display())))?;
    }
    print(&table(&tuned))?;
    Ok(ExitCode::SUCCESS)
}

fn read_labels(path: &Path) -> Result<Vec<CaseLabel>, Failure> {
    let fault = |reason: String| Failure::new(Class::Config, format!("--labels: {}: {reason}", path.display()));
    let text = file::read_text(path, file::MAX_DATA).map_err(|e| fault(e.to_string()))?;
    labels::parse(&text).map_err(|e| fault(e.to_string()))
}

/// The labels by reviews, except for cases that `labels` has; and the number of cases on which reviewers disagree.
fn reviewed(state: &Path, labels: &[CaseLabel]) -> Result<(Vec<CaseLabel>, usize), Failure> {
    let known: BTreeSet<&str> = labels
        .iter()
        .filter_map(|label| match &label.subject {
            LabelSubject::Case(id) => Some(id.as_str()),
            LabelSubject::Object { .. } => None,
        })
        .collect();
    let found = Store::open_read_only(state)?.review_labels()?;
    let new = found.right.into_iter().filter(|(id, _)| !known.contains(id.as_str()));
    let new = new.map(|(id, right)| CaseLabel {
        subject: LabelSubject::Case(id),
        right,
    });
    Ok((new.collect(), found.disputed.len()))
}

fn table(tuned: &SweepResult) -> String {
    let mut text = String::new();
    for rule in &tuned.rules {
        for curve in &rule.curves {
            curve_table(curve, tuned.min_precision, &mut text);
        }
        text.push_str(&cannot_tell(rule));
    }
    if tuned.unmatched_labels > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "Ignored {}: no threshold opens the case from this ledger.",
            counted(tuned.unmatched_labels, "label", "labels")
        );
    }
    text
}

/// Which scores of a rule the ledger cannot tell about, and why.
fn cannot_tell(tuning: &RuleTuning) -> String {
    if tuning.cannot_tell.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = tuning.cannot_tell.iter().map(|s| s.name()).collect();
    format!(
        "Rule {}, {}: cannot tell: no looks with newness in the ledger. Keep the configured values until cameras with a change map have \
         recorded some weeks.\n\n",
        tuning.rule,
        names.join(" and ")
    )
}

fn curve_table(curve: &RuleCurve, min_precision: f64, text: &mut String) {
    let objects = match curve.newness {
        None => "",
        Some(CaseNewness::New) => ", objects that are new in the view",
        Some(CaseNewness::Old) => ", objects that were there when the view was learned",
        Some(CaseNewness::Unknown) => ", objects of which the view could not tell",
    };
    let _ = writeln!(
        text,
        "Rule {}{objects}, current {} {:.2}\n\n  {:>5}  {:>6}  {:>5}  {:>5}  {:>10}  {:>9}  {:>6}",
        curve.rule,
        curve.setting.name(),
        curve.configured,
        "SCORE",
        "CASES",
        "RIGHT",
        "WRONG",
        "UNLABELLED",
        "PRECISION",
        "RECALL"
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
    let _ = writeln!(text, "\n{}\n", recommendation(curve, min_precision));
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |s| format!("{:.0} %", s * 100.0))
}

fn recommendation(curve: &RuleCurve, wanted: f64) -> String {
    let Some((choice, point)) = curve
        .chosen
        .as_ref()
        .and_then(|c| Some((c, curve.points.get(c.index)?)))
    else {
        return match (curve.newness, curve.setting) {
            (None, _) => "No recommendation: no label refers to a case of this rule.",
            (_, Setting::Start) => "No recommendation: no label refers to such a case of this rule.",
            (_, Setting::NewStart) => {
                "No recommendation: no label refers to such a case of this rule at a value up to start_score."
            }
            (_, Setting::OldStart) => {
                "No recommendation: no label refers to such a case of this rule at a value from start_score on."
            }
        }
        .into();
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
        n => format!(" (the middle of {n} equally good values)"),
    };
    let setting = curve.setting.name();
    let labelled = counted(right + wrong, "labelled case", "labelled cases");
    let problems = counted(*problems, "problem", "problems");
    if choice.is_precise_enough {
        format!(
            "Recommended: {setting} = {score:.2}{of_equals}. It has the highest recall of those with a precision of {:.0} % or more: \
             {found} of {problems} found, {right} of {labelled} right.",
            wanted * 100.0
        )
    } else {
        format!(
            "No threshold reaches a precision of {:.0} %; {setting} = {score:.2}{of_equals} comes nearest: {right} of {labelled} \
             right, {found} of {problems} found. Draw zones, raise the dwell, or train the model on its \
             false detections.",
            wanted * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridwatch_ledger::replay::tune::ChosenThreshold;

    #[test]
    fn a_recommendation_from_one_case_is_in_the_singular() {
        let mut curve = RuleCurve {
            rule: "garbage".into(),
            setting: Setting::Start,
            newness: None,
            configured: 0.5,
            points: vec![CurvePoint {
                score: 0.4,
                cases: 1,
                right: 1,
                wrong: 0,
                problems: 1,
                found: 1,
            }],
            chosen: Some(ChosenThreshold {
                index: 0,
                is_precise_enough: true,
                ties: 1,
            }),
        };
        let text = recommendation(&curve, 0.9);
        assert!(
            text.ends_with(": 1 of 1 problem found, 1 of 1 labelled case right."),
            "{text}"
        );
        curve.points[0].problems = 2;
        let text = recommendation(&curve, 0.9);
        assert!(text.contains("1 of 2 problems found"), "{text}");
    }
}
