//! `gridwatch simulate`: a town with known truth, as a ledger, a configuration and a truth file.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use jiff::Timestamp;

use crate::simulate::{self, Options};
use gridwatch::cli::{Failure, print};
use gridwatch_config::raw::Span;

/// Simulates a town whose truth is known: what the cameras would have seen, and what was really there.
///
/// Streets in which heaps, vendors and what looks like them come and go; cameras that overlap, are covered, knocked, dark
/// and away; a detector that misses and invents; a platform that answers. The engine runs in the loop, so the ledger is the
/// one a daemon would have written. The same arguments give the same bytes.
///
///   gridwatch simulate --cameras 100 --days 30 --seed 7 --out D
///   gridwatch replay --ledger D/ledger --config D/config.toml --truth D/truth.jsonl
///
/// What it assumes, and what it cannot show, is told in docs/judging.md.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// How many cameras.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    cameras: u32,
    /// How many days.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Everything is drawn from it.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// An empty folder, or one that can be made: gets ledger/, config.toml with what it names, and truth.jsonl. 100 cameras
    /// and 30 days fill two and a half gigabytes.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How often each camera is looked at.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = look_every)]
    look_every: Span,
    /// Share of the looks by day that find a thing that nothing hides, at the score that keeps a candidate.
    #[arg(long, value_name = "0..1", default_value_t = 0.7, value_parser = recall)]
    detector_recall: f64,
    /// Boxes around nothing in each picture, on average, at the score that keeps a candidate.
    #[arg(long, value_name = "N", default_value_t = 0.05, value_parser = false_per_look)]
    false_per_look: f64,
    /// Share of the looks at which the most stubborn false box (a reflection, a bin's lid) is found while it lasts.
    #[arg(long, value_name = "0..1", default_value_t = 0.33, value_parser = share)]
    stubborn: f64,
    /// When it begins.
    #[arg(long, value_name = "RFC3339", default_value = "2026-06-01T00:00:00+08:00")]
    start: Timestamp,
    /// A configuration whose rules, hours and intake are used in place of the shipped ones (configs/edge.toml).
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Print the counts as one JSON object.
    #[arg(long)]
    json: bool,
}

fn look_every(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    let (least, most) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(3600));
    (least..=most)
        .contains(&span.0)
        .then_some(span)
        .ok_or_else(|| "write a length of time from 1s to 1h".into())
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|e| format!("{e}"))?;
    (least..=most)
        .contains(&number)
        .then_some(number)
        .ok_or_else(|| format!("write a number from {least} to {most}"))
}

fn recall(text: &str) -> Result<f64, String> {
    within(text, 0.01, 0.99)
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1.0)
}

fn false_per_look(text: &str) -> Result<f64, String> {
    within(text, 0.0, 10.0)
}

/// Runs the command.
///
/// # Errors
/// When the folder is not empty, the rules do not hold, or something cannot be written.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let Args { days, cameras, .. } = args;
    let options = Options {
        cameras: cameras as usize,
        days,
        seed: args.seed,
        look_every: args.look_every.0,
        recall: args.detector_recall,
        false_per_look: args.false_per_look,
        stubborn: args.stubborn,
        start: args.start,
        rules: args.rules,
    };
    let is_watched = io::stderr().is_terminal();
    let mut progress = |day: u32| {
        if is_watched {
            let end = if day == days { "\n" } else { "" };
            // Where standard error is gone there is nobody to tell.
            let _ = write!(io::stderr(), "\rday {day} of {days}{end}");
        }
    };
    let summary = simulate::run(&options, &args.out, &mut progress)
        .map_err(|e| Failure::new(e.class(), format!("--out {}: {e}", args.out.display())))?;
    if args.json {
        let json = serde_json::to_string(&summary).unwrap_or_default();
        print(&format!("{json}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let simulate::Summary {
        looks,
        boxes,
        cases,
        starts,
        truths,
        problems,
    } = summary;
    let out = args.out.display();
    print(&format!(
        "{cameras} cameras, {days} days: {looks} looks, {boxes} boxes, {starts} starts; {problems} problems among {truths} things; {cases} cases.\n\
         gridwatch replay --ledger {out}/ledger --config {out}/config.toml --truth {out}/truth.jsonl\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
