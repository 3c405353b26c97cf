//! `gridwatch-lab streets`: what is filed on composed streets with known problems, with and without the change map.

mod sheet;

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use jiff::SignedDuration;
use serde::Serialize;

use super::stage;
use crate::newness::{
    Assets,
    streets::{ClipReport, Counts, Mistake, MistakeKind, Setup, StreetsReport, quiet_clip, streets},
};
use gridwatch::cli::{Failure, print, share::share};
use gridwatch_base::error::Class;
use gridwatch_config::{self as config, Config, raw};
use gridwatch_engine::BBox;

/// File cases on composed streets with known problems, and compare them with the truth.
///
/// Bags are put down, stalls and boards set up, banners and small ads hung on still pictures, in changing light and weather, with people
/// passing by and standing there; and lawful things happen: bags that are collected, parked bicycles, notices, luggage. Each look goes through the models, the change map and the engine as in the daemon, with the rules of
/// configs/edge.toml and their dwells; only the clock is faster. The baseline has the same models and rules without newness.
///
/// The same pictures, models and --seed give the same result. The scenes are composed: the figures compare versions, they do not
/// promise what a city will see. --quiet judges real footage of a fixed camera where nothing unlawful happens instead.
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
    /// Number of streets; nine kinds of streets take turns, and five kinds of light.
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scenes: u32,
    /// Judge only this street, by its number in the list of mistakes; may be given several times.
    #[arg(long, value_name = "NUMBER", conflicts_with = "scenes", value_parser = clap::value_parser!(u32).range(..10_000))]
    street: Vec<u32>,
    /// Random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the baseline.
    #[arg(long)]
    no_baseline: bool,
    /// Judge a clip instead: a folder of frames in the order of their names; may be given several times. `ffmpeg -i CLIP -vf fps=1
    /// DIR/%05d.jpg` makes one. The frames are shown forwards and backwards until --looks is reached, as if 10 s apart.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["backgrounds", "bags", "scenes", "street", "no_baseline", "sheet"])]
    quiet: Vec<PathBuf>,
    /// Number of looks at each clip; 8,640 are a day.
    #[arg(long, default_value_t = 2_000, requires = "quiet", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    looks: u32,
    /// PNG file to write: the first thirty mistakes, numbered as listed.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Time between two looks at a clip.
const CLIP_PERIOD: SignedDuration = SignedDuration::from_secs(10);

#[derive(Serialize)]
struct Output {
    baseline: Option<StreetsReport>,
    now: StreetsReport,
}

/// Runs the command.
pub(super) fn run(args: &StreetsArgs) -> Result<ExitCode, Failure> {
    if !args.quiet.is_empty() {
        return run_quiet(args);
    }
    let share = share()?;
    let demo = share.join("demo/assets");
    let backgrounds = match &args.backgrounds[..] {
        [] => std::slice::from_ref(&demo),
        given => given,
    };
    let bags = args.bags.as_ref().unwrap_or(&demo);
    let assets = Assets::read(backgrounds, bags, args.count.into()).and_then(|a| a.with_people(&demo.join("cutouts")));
    let assets = assets.and_then(|a| a.with_prints(&demo.join("prints")));
    let assets = assets.map_err(|e| Failure::new(Class::Data, e.to_string()))?;
    let threads = std::thread::available_parallelism().map_or(1, |n| u16::try_from(n.get().min(8)).unwrap_or(1));
    let judge = |name: &str, with_newness: bool| -> Result<StreetsReport, Failure> {
        let setup = set_up(with_newness, threads)?;
        let numbers: Vec<u32> = match &args.street[..] {
            [] => (0..args.scenes).collect(),
            given => given.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        let all = numbers.len();
        let progress = |done| show_progress(name, done, u32::try_from(all).unwrap_or(u32::MAX), "streets");
        let report = streets(&assets, &setup, numbers, args.seed, progress);
        eprintln!();
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
    if let Some(path) = &args.sheet {
        write_sheet(path, &output.now.mistakes)?;
    }
    print_report(args, &output, table)
}

fn print_report<T: Serialize>(
    args: &StreetsArgs,
    output: &T,
    text: impl Fn(&T) -> String,
) -> Result<ExitCode, Failure> {
    if args.json {
        let json = serde_json::to_string_pretty(output).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
        print(&format!("{json}\n"))?;
    } else {
        print(&text(output))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_progress(name: &str, done: u32, all: u32, what: &str) {
    eprint!("\r{name}: {done} of {all} {what}");
    let _ = std::io::stderr().flush();
}

fn write_sheet(path: &Path, mistakes: &[Mistake]) -> Result<(), Failure> {
    let failed = |e: image::ImageError| Failure::new(Class::Data, format!("cannot write {}: {e}", path.display()));
    sheet::draw(mistakes)
        .save_with_format(path, image::ImageFormat::Png)
        .map_err(failed)
}

fn set_up(with_newness: bool, threads: u16) -> Result<Setup, Failure> {
    Setup::new(&street_config(with_newness)?, threads).map_err(|e| Failure::new(Class::Config, e.to_string()))
}

fn run_quiet(args: &StreetsArgs) -> Result<ExitCode, Failure> {
    // As on a box: one thread.
    let (setup, baseline) = (set_up(true, 1)?, set_up(false, 1)?);
    let judge = |folder: &PathBuf| {
        let name = folder.display().to_string();
        let report = quiet_clip([&setup, &baseline], folder, args.looks, CLIP_PERIOD, |done| {
            if done % 20 == 0 || done == args.looks {
                show_progress(&name, done, args.looks, "looks");
            }
        });
        eprintln!();
        report.map_err(|e| Failure::new(Class::Data, e.to_string()))
    };
    let reports: Vec<ClipReport> = args.quiet.iter().map(judge).collect::<Result<_, _>>()?;
    print_report(args, &reports, |reports| reports.iter().map(describe_clip).collect())
}

fn describe_clip(report: &ClipReport) -> String {
    let mut text = format!(
        "{}: {} frames, {} looks, {:.2} camera-days: {} cases; at most {:.1} in 10 camera-days of this street (95 %); \
         {:.1} ms of CPU time a look, {:.1} without the change map\n",
        report.clip.display(),
        report.frames,
        report.looks,
        report.camera_days,
        report.cases.len(),
        report.upper_limit_per_10_days,
        report.cpu_ms_per_look,
        report.baseline_cpu_ms_per_look,
    );
    for (category, [x1, y1, x2, y2]) in &report.cases {
        text += &format!("  {category} at {x1:.2} {y1:.2} {x2:.2} {y2:.2}\n");
    }
    text
}

/// One camera over the demo's grid, with the rules and models of configs/edge.toml.
fn street_config(with_newness: bool) -> Result<Config, Failure> {
    let share = share()?;
    let path = share.join("configs/edge.toml");
    let invalid = |e: &dyn std::fmt::Display| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|e| invalid(&e))?;
    let mut edge: raw::File = toml::from_str(&text).map_err(|e| invalid(&e))?;
    for path in edge.data_paths_mut() {
        *path = share.join("configs").join(&*path);
    }
    let dir = tempfile::tempdir().map_err(|e| Failure::new(Class::Transient, e.to_string()))?;
    let path = stage::derive_config(&share, dir.path(), |file| {
        file.node.state_dir = dir.path().join("state");
        file.schedules = edge.schedules;
        file.rules = edge.rules;
        file.reading = edge.reading;
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
        valid_from: None,
        valid_until: None,
        permit: None,
        note: None,
        polygon: vec![[0.0, from], [1.0, from], [1.0, to], [0.0, to]],
        rules: rules
            .iter()
            .filter(|r| r.stands == stands)
            .map(|r| r.id.clone())
            .collect(),
    };
    vec![
        zone("pavement", raw::Stands::Ground, 0.62, 1.0),
        zone("walls", raw::Stands::Wall, 0.0, 0.62),
    ]
}

/// The rule as it was before views were learned.
fn without_newness(rule: &mut raw::Rule) {
    rule.labels.retain(|l| l != "object");
    rule.appeared = raw::Appeared::Ignored;
    rule.new_start_score = None;
    rule.new_keep_score = None;
    rule.unidentified_dwell = None;
    rule.old_start_score = None;
}

fn table(output: &Output) -> String {
    let mut text = String::from("Composed streets; limits are 95 %.\n");
    let reports = || {
        let baseline = output.baseline.iter().map(|r| ("baseline", r));
        baseline.chain([("now", &output.now)])
    };
    text += &heading("category");
    for (name, report) in reports() {
        let rows = report.categories.iter();
        text.extend(rows.map(|(code, counts)| row(name, code, counts)));
    }
    text += &heading("light");
    for (name, report) in reports() {
        let rows = report.lights.iter();
        text.extend(rows.map(|(light, counts)| row(name, light, counts)));
    }
    text += &format!(
        "\n{} streets, {} looks. Mistakes now: {}\n",
        output.now.scenes,
        output.now.looks,
        output.now.mistakes.len()
    );
    for (n, mistake) in output.now.mistakes.iter().enumerate() {
        let BBox { x1, y1, x2, y2 } = mistake.bbox;
        let what = match mistake.kind {
            MistakeKind::Missed => format!("missed {}: {}", mistake.category, mistake.what),
            MistakeKind::Repeated => format!("filed {} again: {}", mistake.category, mistake.what),
            MistakeKind::False => format!("false {}", mistake.category),
        };
        text += &format!(
            "{:4}  {}: {what} at {x1:.2} {y1:.2} {x2:.2} {y2:.2}\n",
            n + 1,
            mistake.scene
        );
    }
    text
}

fn heading(what: &str) -> String {
    format!(
        "\n{:10} {what:16} problems  filed  repeated  false  recall            precision\n",
        ""
    )
}

fn row(name: &str, key: &str, c: &Counts) -> String {
    let share = |(p, low, high): (f64, f64, f64)| format!("{p:.2} ({low:.2}–{high:.2})");
    format!(
        "{name:10} {key:16} {:8}  {:5}  {:8}  {:5}  {}  {}\n",
        c.problems,
        c.filed,
        c.repeated,
        c.false_cases,
        share(c.recall()),
        share(c.precision()),
    )
}
