//! `gridwatch-lab streets`: what is filed on composed streets with known problems, with and without the change map.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::stage;
use crate::newness::{
    Assets,
    streets::{Setup, StreetsReport, streets},
};
use gridwatch::cli::{Failure, print, share::share};
use gridwatch_base::error::Class;
use gridwatch_config::{self as config, Config, raw};

/// File cases on composed streets with known problems, and compare them with the truth.
///
/// Bags are put down, stalls set up and banners hung on still pictures, in changing light and weather, with people passing by and
/// standing there. Each look goes through the models, the change map and the engine as in the daemon, with the rules of
/// configs/edge.toml and their dwells; only the clock is faster. The baseline has the same models and rules without newness.
///
/// The same pictures, models and --seed give the same result. The scenes are composed: the figures compare versions, they do not
/// promise what a city will see.
#[derive(Debug, Args)]
pub struct StreetsArgs {
    /// A folder of street pictures without people, at least 400 pixels wide; may be given several times. [default: the demo's]
    #[arg(long, value_name = "DIR")]
    backgrounds: Vec<PathBuf>,
    /// A folder of bags: pictures with transparency. [default: the demo's]
    #[arg(long, value_name = "DIR")]
    bags: Option<PathBuf>,
    /// Maximum number of backgrounds from each folder, spread evenly over it.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Number of streets; six kinds of streets take turns.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scenes: u32,
    /// Random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the baseline.
    #[arg(long)]
    no_baseline: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    baseline: Option<StreetsReport>,
    now: StreetsReport,
}

/// Runs the command.
pub(super) fn run(args: &StreetsArgs) -> Result<ExitCode, Failure> {
    let share = share()?;
    let demo = share.join("demo/assets");
    let backgrounds = match &args.backgrounds[..] {
        [] => std::slice::from_ref(&demo),
        given => given,
    };
    let bags = args.bags.as_ref().unwrap_or(&demo);
    let assets = Assets::read(backgrounds, bags, args.count.into()).and_then(|a| a.with_people(&demo.join("cutouts")));
    let assets = assets.map_err(|e| Failure::new(Class::Data, e.to_string()))?;
    let judge = |name: &str, with_newness: bool| -> Result<StreetsReport, Failure> {
        let setup =
            Setup::new(&street_config(with_newness)?).map_err(|e| Failure::new(Class::Config, e.to_string()))?;
        let progress = |done| {
            if !args.json {
                eprint!("\r{name}: {done} of {} streets", args.scenes);
                let _ = std::io::stderr().flush();
            }
        };
        let report = streets(&assets, &setup, args.scenes, args.seed, progress);
        if !args.json {
            eprintln!();
        }
        report.map_err(|e| Failure::new(e.class(), e.to_string()))
    };
    let output = Output {
        baseline: if args.no_baseline {
            None
        } else {
            Some(judge("baseline", false)?)
        },
        now: judge("now", true)?,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&output).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
        print(&format!("{text}\n"))?;
    } else {
        print(&table(&output))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One camera over the demo's grid, with the rules and models of configs/edge.toml.
fn street_config(with_newness: bool) -> Result<Config, Failure> {
    let share = share()?;
    let edge = share.join("configs/edge.toml");
    let invalid = |e: &dyn std::fmt::Display| Failure::new(Class::Config, format!("{}: {e}", edge.display()));
    let text = std::fs::read_to_string(&edge).map_err(|e| invalid(&e))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| invalid(&e))?;
    let section = |name: &str| table.get(name).cloned().unwrap_or(toml::Value::Array(Vec::new()));
    let rules: Vec<raw::Rule> = section("rules").try_into().map_err(|e: toml::de::Error| invalid(&e))?;
    let schedules: Vec<raw::Schedule> = section("schedules")
        .try_into()
        .map_err(|e: toml::de::Error| invalid(&e))?;
    let dir = tempfile::tempdir().map_err(|e| Failure::new(Class::Transient, e.to_string()))?;
    let path = stage::derive_config(&share, dir.path(), |file| {
        file.node.state_dir = dir.path().join("state");
        file.schedules = schedules;
        file.rules = rules;
        file.change.enabled = with_newness;
        if !with_newness {
            file.rules.iter_mut().for_each(without_newness);
            file.rules.retain(|r| !r.labels.is_empty());
        }
        file.cameras.truncate(1);
        let camera = &mut file.cameras[0];
        camera.calibration = None;
        camera.zones = zones(&file.rules);
    })?;
    config::load_offline(&path).map_err(|faults| Failure::new(Class::Config, faults.to_string()))
}

/// The pavement for what stands on the ground, the rest for what hangs on walls.
fn zones(rules: &[raw::Rule]) -> Vec<raw::Zone> {
    let zone = |id: &str, stands: raw::Stands, from: f64, to: f64| raw::Zone {
        id: id.into(),
        kind: raw::ZoneKind::Watch,
        schedule: None,
        polygon: vec![[0.0, from], [1.0, from], [1.0, to], [0.0, to]],
        rules: rules
            .iter()
            .filter(|r| r.stands == stands)
            .map(|r| r.id.clone())
            .collect(),
    };
    vec![
        zone("pavement", raw::Stands::Ground, 0.35, 1.0),
        zone("walls", raw::Stands::Wall, 0.0, 0.62),
    ]
}

/// The rule as it was before views were learned.
fn without_newness(rule: &mut raw::Rule) {
    rule.labels.retain(|l| l != "object");
    rule.appeared = raw::Appeared::Ignored;
    rule.new_start_score = None;
    rule.old_start_score = None;
}

fn table(output: &Output) -> String {
    let mut text = String::from(
        "Composed streets; limits are 95 %.\n\n           category  problems  filed  repeated  false  recall            precision\n",
    );
    let reports = output
        .baseline
        .iter()
        .map(|r| ("baseline", r))
        .chain([("now", &output.now)]);
    for (name, report) in reports {
        for (code, c) in &report.categories {
            let share = |(p, low, high): (f64, f64, f64)| format!("{p:.2} ({low:.2}–{high:.2})");
            text += &format!(
                "{name:10} {code:8}  {:8}  {:5}  {:8}  {:5}  {}  {}\n",
                c.problems,
                c.filed,
                c.repeated,
                c.false_cases,
                share(c.recall()),
                share(c.precision()),
            );
        }
    }
    text += &format!(
        "\n{} streets, {} looks. Mistakes now:\n",
        output.now.scenes, output.now.looks
    );
    for mistake in &output.now.mistakes {
        text += &format!("  {mistake}\n");
    }
    text
}
