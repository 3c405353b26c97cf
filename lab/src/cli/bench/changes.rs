//! `gridwatch-lab bench changes`: false regions of the change map by nuisance, and what it finds by size, on composed scenes; and
//! the fit of its region score.

use std::path::PathBuf;

use clap::Args;

use crate::newness::{Assets, AssetsError, ROWS, STEADY, false_regions, fit, found};
use gridwatch::cli::{Failure, print};
use gridwatch_base::error::Class;

#[derive(Debug, Args)]
pub(super) struct ChangesArgs {
    /// A folder of street pictures without people, at least 400 pixels wide (JPEG, PNG, WebP or BMP); may be given several times.
    #[arg(long, value_name = "DIR", default_value = "demo/assets")]
    backgrounds: Vec<PathBuf>,
    /// A folder of things to put down: pictures with transparency (PNG, WebP).
    #[arg(long, value_name = "DIR", default_value = "demo/assets")]
    things: PathBuf,
    /// Maximum number of backgrounds from each folder, spread evenly over it.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Looks per background and nuisance; things are put down for 14 looks in each background beside.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    looks: u32,
    /// Times that things are put down in each background; 0: not at all.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=1000))]
    repeats: u64,
    /// Width in pixels at which views are compared (`change.width`).
    #[arg(long, default_value_t = 480, value_parser = clap::value_parser!(u32).range(240..=1440))]
    width: u32,
    /// Only nuisances whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fit the region score instead, and write the weights to this file (crates/vision/src/change/weights.rs). Takes half an hour
    /// for 24 backgrounds and 70 looks; measure afterwards on other backgrounds and another seed.
    #[arg(long, value_name = "FILE")]
    fit: Option<PathBuf>,
}

/// Looks of a camera in a day, one every ten seconds.
const LOOKS_PER_DAY: f64 = 8640.0;
/// Scenes per nuisance when fitting.
const FIT_SCENES: usize = 4;

fn failure(error: AssetsError) -> Failure {
    Failure::new(Class::Data, error.to_string())
}

pub(super) fn run(args: &ChangesArgs) -> Result<(), Failure> {
    let assets = Assets::read(&args.backgrounds, &args.things, args.count.into()).map_err(failure)?;
    if let Some(path) = &args.fit {
        let weights = fit(&assets, FIT_SCENES, args.looks, args.width, args.seed);
        let written = std::fs::write(path, weights.to_string());
        return written.map_err(|e| Failure::new(Class::Transient, format!("cannot write {}: {e}", path.display())));
    }
    let mut text = String::from(
        "False regions                   looks  regions  per 1,000 looks (95 %)    per camera-day (95 %)  silent  ms/look\n",
    );
    for row in ROWS
        .iter()
        .filter(|r| args.only.as_ref().is_none_or(|only| r.name.contains(only)))
    {
        let counted = false_regions(&assets, row, args.looks, args.width, args.seed);
        let (low, high) = poisson_limits(counted.regions);
        let per = |n: f64, looks: f64| n * looks / f64::from(counted.looks.max(1));
        let rate = |looks: f64| {
            let (n, low, high) = (
                per(f64::from(counted.regions), looks),
                per(low, looks),
                per(high, looks),
            );
            format!("{n:.1} ({low:.1}..{high:.1})")
        };
        text += &format!(
            "{:30} {:6} {:8}  {:24}  {:21}  {:6}  {:.1}",
            row.name,
            counted.looks,
            counted.regions,
            rate(1000.0),
            rate(LOOKS_PER_DAY),
            counted.silent,
            counted.time.as_secs_f64() * 1000.0,
        );
        if counted.bicycles.0 > 0 {
            text += &format!(
                "  bicycle reported in {} of {} parkings",
                counted.bicycles.1, counted.bicycles.0
            );
        }
        text.push('\n');
    }
    if args.repeats > 0 {
        let (kinds, beside) = found(&assets, &STEADY, args.repeats, args.width, args.seed);
        text += "\nThings put down       found   looks until reported   overlap   ghosts\n";
        for (name, kind) in kinds {
            let count = f64::from(kind.things.1.max(1));
            text += &format!(
                "{name:20} {:3}/{:3} {:20.1} {:12.2} {:7}\n",
                kind.things.1,
                kind.things.0,
                f64::from(kind.delay) / count,
                f64::from(kind.iou) / count,
                kind.ghosts,
            );
        }
        text += &format!(
            "False regions beside them: {} in {} looks\n",
            beside.regions, beside.looks
        );
    }
    print(&text)
}

/// 95 % limits of the mean of a Poisson distribution of which `count` were seen.
fn poisson_limits(count: u32) -> (f64, f64) {
    let at_most = |count: u32, mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        for i in 1..=count {
            term *= mean / f64::from(i);
            sum += term;
        }
        sum
    };
    let solve = |is_above: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 2.0 * f64::from(count) + 20.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if is_above(middle) { high = middle } else { low = middle }
        }
        low
    };
    let lower = if count == 0 {
        0.0
    } else {
        solve(&|mean| 1.0 - at_most(count - 1, mean) > 0.025)
    };
    (lower, solve(&|mean| at_most(count, mean) < 0.025))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_tables() {
        for (count, low, high) in [(0, 0.0, 3.689), (1, 0.025, 5.572), (10, 4.795, 18.390)] {
            let (l, h) = poisson_limits(count);
            assert!((l - low).abs() < 0.002 && (h - high).abs() < 0.002, "{count}: {l} {h}");
        }
    }
}
