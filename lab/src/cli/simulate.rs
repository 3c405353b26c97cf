//! `gridwatch-lab simulate`: writes a ledger, a configuration and a truth file of a simulated town.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use jiff::Timestamp;

use crate::simulate::{self, FALSE_REGIONS, Options};
use gridwatch::cli::{Failure, print};
use gridwatch_base::text::counted;
use gridwatch_config::raw::Span;

/// Simulate a town with known ground truth: what the cameras would have seen, and what was really there
///
/// Heaps, vendors and look-alikes appear in the streets and disappear; cameras overlap, and are covered, knocked, dark or
/// offline; the detector misses objects and reports false ones; the platform replies. The engine runs in the loop, so the ledger
/// is the one that a daemon would have written. The same arguments give the same bytes.
///
///   gridwatch-lab simulate --cameras 100 --days 30 --seed 7 --out D
///   gridwatch replay --ledger D/ledger --config D/config.toml --truth D/truth.jsonl
///
/// For the assumptions and limits see docs/judging.md.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct SimulateArgs {
    /// Number of cameras.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    cameras: u32,
    /// Number of days.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Random seed.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Output folder, which must be empty or not exist: gets ledger/, config.toml with the files it names, and truth.jsonl. 100
    /// cameras and 30 days take 3.8 GB.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Interval between a camera's looks.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = look_every)]
    look_every: Span,
    /// Fraction of daytime looks that detect an unobstructed object, at the score that keeps a candidate.
    #[arg(long, value_name = "0..1", default_value_t = 0.7, value_parser = recall)]
    detector_recall: f64,
    /// False detections per look, on average, at the score that keeps a candidate.
    #[arg(long, value_name = "N", default_value_t = 0.05, value_parser = false_per_look)]
    false_per_look: f64,
    /// Fraction of the looks that detect the most persistent false object (a reflection, a bin's lid) while it lasts.
    #[arg(long, value_name = "0..1", default_value_t = 0.33, value_parser = share)]
    stubborn: f64,
    /// False new regions per 1,000 looks: shadows, wet ground and lamps that the change map takes for something new; and as many at
    /// each passing false object of the detector.
    #[arg(long, value_name = "N", default_value_t = FALSE_REGIONS, value_parser = false_regions)]
    false_regions: f64,
    /// Leave out the change map, and what the rules say about newness: nothing is known to be new, and what no network has a label
    /// for is not found.
    #[arg(long)]
    no_change_map: bool,
    /// Start of the simulation.
    #[arg(long, value_name = "RFC3339", default_value = "2026-06-01T00:00:00+08:00")]
    start: Timestamp,
    /// Use the rules, hours and intake of this configuration instead of the shipped one (configs/edge.toml).
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
        .ok_or_else(|| "expected a duration from 1s to 1h".into())
}

fn number_in(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|e| format!("{e}"))?;
    (least..=most)
        .contains(&number)
        .then_some(number)
        .ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn recall(text: &str) -> Result<f64, String> {
    number_in(text, 0.01, 0.99)
}

fn share(text: &str) -> Result<f64, String> {
    number_in(text, 0.0, 1.0)
}

fn false_regions(text: &str) -> Result<f64, String> {
    number_in(text, 0.0, 1000.0)
}

fn false_per_look(text: &str) -> Result<f64, String> {
    number_in(text, 0.0, 10.0)
}

/// Runs the command.
///
/// # Errors
/// If the folder is not empty, the rules are invalid, or a file cannot be written.
pub fn run(args: SimulateArgs) -> Result<ExitCode, Failure> {
    let SimulateArgs { days, cameras, .. } = args;
    let options = Options {
        cameras: cameras as usize,
        days,
        seed: args.seed,
        look_every: args.look_every.0,
        recall: args.detector_recall,
        false_per_look: args.false_per_look,
        stubborn: args.stubborn,
        has_change_map: !args.no_change_map,
        false_regions: args.false_regions / 1000.0,
        start: args.start,
        rules: args.rules,
    };
    let is_terminal = io::stderr().is_terminal();
    let mut progress = |day: u32| {
        if is_terminal {
            let end = if day == days { "\n" } else { "" };
            // Ignored: progress is only informational.
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
    let out = args.out.display();
    print(&format!(
        "{}\n{}\n\
         gridwatch replay --ledger {out}/ledger --config {out}/config.toml --truth {out}/truth.jsonl\n",
        headline(cameras, days, &summary),
        newness(&summary, options.has_change_map)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What was simulated, in one line.
fn headline(cameras: u32, days: u32, summary: &simulate::Summary) -> String {
    let simulate::Summary {
        looks,
        boxes,
        cases,
        starts,
        truths,
        problems,
        ..
    } = *summary;
    format!(
        "{}, {}: {}, {}, {}; {} among {}; {}.",
        counted(cameras, "camera", "cameras"),
        counted(days, "day", "days"),
        counted(looks, "look", "looks"),
        counted(boxes, "box", "boxes"),
        counted(starts, "start", "starts"),
        counted(problems, "problem", "problems"),
        counted(truths, "object", "objects"),
        counted(cases, "case", "cases"),
    )
}

/// What the change maps told, in one line.
fn newness(summary: &simulate::Summary, has_change_map: bool) -> String {
    let simulate::Summary {
        looks,
        untold,
        new_boxes,
        unlabelled,
        ..
    } = *summary;
    if !has_change_map {
        return "No change map.".into();
    }
    format!(
        "Change map: {} of something new, {} without a network's label; nothing was told in {} of {}.",
        counted(new_boxes, "box", "boxes"),
        counted(unlabelled, "box", "boxes"),
        untold,
        counted(looks, "look", "looks"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_is_singular() {
        let mut summary = simulate::Summary {
            looks: 1,
            boxes: 1,
            cases: 1,
            starts: 1,
            truths: 1,
            problems: 1,
            ..simulate::Summary::default()
        };
        assert_eq!(
            headline(1, 1, &summary),
            "1 camera, 1 day: 1 look, 1 box, 1 start; 1 problem among 1 object; 1 case."
        );
        summary.looks = 2;
        assert!(headline(2, 1, &summary).starts_with("2 cameras, 1 day: 2 looks"));
    }
}
