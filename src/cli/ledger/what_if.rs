//! `gridwatch ledger what-if`: what the last days would have filed under other thresholds.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
};

use jiff::{SignedDuration, Timestamp};

use crate::cli::{
    Failure, json_line,
    options::fraction,
    print,
    replay::{load_plan, quarantine},
};
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_engine::{CameraId, Plan, Rule, RuleId};
use gridwatch_ledger::{
    Reader,
    replay::{
        Window,
        compare::CaseChange,
        tune::labels::{self, CaseLabel},
    },
    what_if::{
        CurveRequest, Estimate, RuleScore, Task, Threshold, WhatIf, WhatIfAnswer, WhatIfChange, WhatIfCurve,
        WhatIfRequest,
    },
};

/// Try thresholds on the last days.
///
/// Tells which cases the configuration would have filed with other thresholds: which come and go against the current configuration and
/// against what was really filed, and the share of right cases (precision) and of found problems (recall) with their 95 % confidence
/// limits, where people or the platform have judged cases. With --curve, one threshold is tried over its range. It changes no file.
///
/// The thresholds are those of a rule: start_score, keep_score, night_start_score, night_keep_score, new_start_score, new_keep_score,
/// old_start_score, second_look, except_score, dwell, unidentified_dwell, seen_n, seen_m, present_share, max_move, max_move_m, min_area,
/// min_area_m2, min_count, gather, attended_within, attended_share, attended_min_size, forget_after, max_gap and merge_radius_m. Durations
/// are in seconds.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch ledger what-if --ledger /var/lib/gridwatch/ledger --config edge.toml --set garbage.start_score=0.45 --set garbage.dwell=240
  gridwatch ledger what-if --ledger /var/lib/gridwatch/ledger --config edge.toml --curve garbage.start_score

It runs while the daemon runs. The recorded looks are held in memory: about 500 MB for a week of 32 cameras with four boxes in each look, at most 1 GB.")]
pub(super) struct LedgerWhatIfArgs {
    /// Ledger folder: `ledger.dir` in the configuration, by default `ledger` in the state directory.
    #[arg(long, value_name = "DIR")]
    ledger: PathBuf,
    /// Configuration whose thresholds are changed.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Days to try it on, back from the newest look.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// A threshold and its value; may be given several times.
    #[arg(long, value_name = "RULE.THRESHOLD=VALUE", required_unless_present = "curve")]
    set: Vec<String>,
    /// A threshold to try over its range.
    #[arg(long, value_name = "RULE.THRESHOLD", conflicts_with = "set")]
    curve: Option<String>,
    /// The values to try with --curve; by default 0.30 to 0.95 for scores and shares, and a half to twice the current value otherwise.
    #[arg(long, value_name = "VALUES", value_delimiter = ',', requires = "curve")]
    values: Vec<f64>,
    /// Required precision of the recommended value of --curve, 0..=1.
    #[arg(long, default_value_t = 0.9, value_parser = fraction::<f64>)]
    precision: f64,
    /// Judged cases and problems, as for `gridwatch tune`. The platform's replies count as well.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Report only the cases of this camera or preset; may be given several times.
    #[arg(long, value_name = "ID", conflicts_with = "curve")]
    camera: Vec<String>,
    /// Print the answer as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &LedgerWhatIfArgs) -> Result<ExitCode, Failure> {
    let plan = load_plan(&args.config)?.plan;
    let labels = args.labels.as_deref().map(read_labels).transpose()?;
    // Before the long reading, so that a mistake is told at once.
    let rules = changed_rules(&plan, &args.set)?;
    let curve = args.curve.as_deref().map(|name| threshold(&plan, name)).transpose()?;
    let newest = Reader::newest_time(&args.ledger)?;
    let newest = newest.ok_or_else(|| Failure::new(Class::Config, "the ledger has no look yet"))?;
    let back = SignedDuration::from_hours(24 * i64::from(args.days));
    let request = WhatIfRequest {
        ledger: &args.ledger,
        plan: &plan,
        window: Window {
            from: Some(newest.checked_sub(back).unwrap_or(Timestamp::MIN)),
            to: None,
        },
        max_bytes: WhatIf::MAX_BYTES,
    };
    let task = Task {
        cancelled: &AtomicBool::new(false),
        progress: &|_| (),
    };
    let what_if = WhatIf::load(&request, task)?;
    what_if.set_labels(labels.unwrap_or_default());
    let text = match curve {
        Some((rule, threshold)) => {
            let values = match args.values.is_empty() {
                true => default_values(rule, threshold),
                false => args.values.clone(),
            };
            let request = CurveRequest {
                rule,
                threshold,
                values: &values,
                min_precision: args.precision,
                cameras: None,
            };
            let curve = what_if.curve(&request, task)?;
            match args.json {
                true => json_line(&curve)?,
                false => curve_table(&curve, args.precision),
            }
        }
        None => {
            let cameras = args.camera.iter().map(|id| CameraId::from(id.as_str())).collect();
            let cameras = Some(&cameras).filter(|_| !args.camera.is_empty());
            let answer = what_if.evaluate(&rules, cameras, task)?;
            match args.json {
                true => json_line(&answer)?,
                false => answer_text(&answer),
            }
        }
    };
    print(&text)?;
    what_if.damage().iter().for_each(quarantine);
    Ok(ExitCode::SUCCESS)
}

fn read_labels(path: &Path) -> Result<Vec<CaseLabel>, Failure> {
    let fault = |reason: String| Failure::new(Class::Config, format!("--labels: {}: {reason}", path.display()));
    let text = file::read_text(path, file::MAX_DATA).map_err(|e| fault(e.to_string()))?;
    labels::parse(&text).map_err(|e| fault(e.to_string()))
}

/// The rule and the threshold of `RULE.THRESHOLD`.
fn threshold<'a>(plan: &'a Plan, name: &str) -> Result<(&'a Rule, Threshold), Failure> {
    let fault = |reason: String| Failure::new(Class::Config, format!("{name}: {reason}"));
    let (rule, threshold) = name
        .rsplit_once('.')
        .ok_or_else(|| fault("expected RULE.THRESHOLD".into()))?;
    let id = RuleId::from(rule);
    let rule = plan.rules.iter().find(|r| r.id == id).ok_or_else(|| {
        let ids: Vec<&str> = plan.rules.iter().map(|r| r.id.as_str()).collect();
        fault(format!(
            "no rule has the id {rule:?}; the configuration has {}",
            ids.join(", ")
        ))
    })?;
    let threshold = Threshold::from_name(threshold).ok_or_else(|| {
        let names: Vec<&str> = Threshold::ALL.into_iter().map(Threshold::as_str).collect();
        fault(format!("unknown threshold; use one of {}", names.join(", ")))
    })?;
    Ok((rule, threshold))
}

fn changed_rules(plan: &Plan, set: &[String]) -> Result<Vec<Rule>, Failure> {
    let mut rules: Vec<Rule> = Vec::new();
    for change in set {
        let fault = |reason: String| Failure::new(Class::Config, format!("--set {change}: {reason}"));
        let (name, value) = change
            .split_once('=')
            .ok_or_else(|| fault("expected RULE.THRESHOLD=VALUE".into()))?;
        let (rule, threshold) = threshold(plan, name)?;
        let value: f64 = value.parse().map_err(|_| fault(format!("{value:?} is not a number")))?;
        let index = match rules.iter().position(|r| r.id == rule.id) {
            Some(index) => index,
            None => {
                rules.push(rule.clone());
                rules.len() - 1
            }
        };
        threshold
            .set(&mut rules[index], value)
            .map_err(|e| fault(e.to_string()))?;
    }
    Ok(rules)
}

fn default_values(rule: &Rule, threshold: Threshold) -> Vec<f64> {
    let range = threshold.range();
    let is_share = range.max <= 1.0 && !range.is_whole && range.step >= 0.05;
    if is_share {
        return (6..20).map(|n| f64::from(n) / 20.0).collect();
    }
    let current = threshold.get(rule).unwrap_or(range.min);
    let factors = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0];
    let value = |factor: f64| match range.is_whole {
        true => (current * factor).round(),
        false => current * factor,
    };
    let mut values: Vec<f64> = factors
        .map(value)
        .into_iter()
        .map(|v| v.clamp(range.min, range.max))
        .collect();
    values.dedup();
    values
}

fn answer_text(answer: &WhatIfAnswer) -> String {
    let mut text = String::new();
    for change in &answer.changes {
        text += &describe(change);
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:20}  {:>6}  {:>7}  {:>22}  {:>22}  UNLABELLED",
        "RULE", "CASES", "PER DAY", "PRECISION", "RECALL"
    );
    for score in &answer.rules {
        let _ = writeln!(text, "{:20}  {}", score.rule.to_string(), score_columns(score));
    }
    for (name, c) in [
        ("the current configuration", answer.against_current),
        ("what was really filed", answer.against_filed),
    ] {
        let _ = writeln!(
            text,
            "Against {name}: {} unchanged, {} shifted, {} new, {} gone.",
            c.same, c.shifted, c.new, c.gone
        );
    }
    if answer.filed_unknown > 0 {
        let _ = writeln!(
            text,
            "{} could not be compared: its configuration was not kept.",
            counted(answer.filed_unknown, "filed case", "filed cases")
        );
    }
    text
}

fn describe(change: &WhatIfChange) -> String {
    let case = change.change.case();
    let what = match &change.change {
        CaseChange::New { .. } => "new".to_owned(),
        CaseChange::Gone { why: Some(why), .. } => format!("gone ({})", why.reason.as_str()),
        CaseChange::Gone { why: None, .. } => "gone".to_owned(),
        CaseChange::Shifted { later_s, .. } => format!("shifted by {later_s:.0} s"),
    };
    let right = match change.right {
        Some(true) => ", judged right",
        Some(false) => ", judged wrong",
        None => "",
    };
    let evidence = change.evidence.as_ref();
    let evidence = evidence.map_or_else(String::new, |id| format!(", pictures in case {id}"));
    format!(
        "{what}: {}  rule {}, camera {}, cell {}{right}{evidence}\n",
        case.confirmed_at, case.rule, case.camera, case.cell
    )
}

fn score_columns(score: &RuleScore) -> String {
    format!(
        "{:6}  {:7.2}  {:>22}  {:>22}  {:10}",
        score.cases,
        score.per_day,
        estimate(score.precision),
        estimate(score.recall),
        score.unlabelled
    )
}

fn estimate(estimate: Option<Estimate>) -> String {
    let percent = |share: f64| share * 100.0;
    estimate.map_or_else(
        || "-".into(),
        |e| {
            format!(
                "{:.0} % ({:.0}-{:.0}) of {}",
                percent(e.share),
                percent(e.low),
                percent(e.high),
                e.of
            )
        },
    )
}

fn curve_table(curve: &WhatIfCurve, precision: f64) -> String {
    let mut text = format!(
        "Rule {}, {}, current value {}\n\n  {:>9}  {:>6}  {:>7}  {:>22}  {:>22}  UNLABELLED\n",
        curve.rule,
        curve.threshold.as_str(),
        curve.current,
        "VALUE",
        "CASES",
        "PER DAY",
        "PRECISION",
        "RECALL"
    );
    for (index, point) in curve.points.iter().enumerate() {
        let mark = if curve.chosen == Some(index) { '>' } else { ' ' };
        let _ = writeln!(text, "{mark} {:9.3}  {}", point.value, score_columns(&point.score));
    }
    let chosen = curve.chosen.and_then(|index| curve.points.get(index));
    let _ = match chosen {
        Some(point) if curve.is_precise_enough => {
            writeln!(text, "\nRecommended: {} = {}.", curve.threshold.as_str(), point.value)
        }
        Some(point) => writeln!(
            text,
            "\nNo value reaches a precision of {:.0} %; {} comes nearest.",
            precision * 100.0,
            point.value
        ),
        None => writeln!(text, "\nNo recommendation: no case of this rule is judged."),
    };
    text
}
