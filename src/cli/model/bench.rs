//! `gridwatch model bench`: what models cost on this box.

use std::{
    fmt::Write,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use jiff::Timestamp;
use serde::Serialize;

use super::{Library, json, model};
use crate::cli::{Failure, detect, print};
use gridwatch_base::error::Class;
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelSet, Runtime, preprocess::Letterbox, trial::Times};

/// Say what models cost on this box: loading, a look, memory.
///
/// All models judge the same pictures in turn, so that what else the box does meets them alike: the ratios travel to other boxes,
/// the times do not. Each runs on one thread, as in the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model bench models/garbage_nano_416 models/picodet_s_416_coco
  gridwatch model bench garbage_nano_416@1.2.0 models/garbage_nano_416 --config edge.toml --json")]
pub(super) struct Args {
    /// Folders, or ID@VERSION of the registry. The ratios are to the first.
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Pictures or clips to judge. [default: noise of 1920 × 1080]
    #[arg(long, value_name = "FILE")]
    pictures: Vec<PathBuf>,
    /// Looks of each model that are measured.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    looks: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    library: Library,
}

#[derive(Serialize)]
struct Cost {
    model: String,
    load_ms: f64,
    /// What a session keeps resident after its first looks, in MiB. Of the first model the runtime's own is in it.
    resident_mib: Option<f64>,
    /// Scaling into the input tensor.
    preprocess_ms: Spread,
    /// Network, adapter and non-maximum suppression.
    network_ms: Spread,
    /// Median of both together, as a multiple of the first model's.
    ratio: f64,
}

#[derive(Serialize)]
struct Spread {
    min: f64,
    #[serde(flatten)]
    times: Times,
}

/// Looks before the measured ones: memory is touched and clocks rise.
const WARM_UP: u32 = 5;

/// One model on the bench.
struct Runner {
    name: String,
    load: Duration,
    resident: Option<f64>,
    panel: ModelSet,
    letterbox: Letterbox,
    preprocess: Vec<f32>,
    network: Vec<f32>,
    whole: Vec<f32>,
}

impl Runner {
    fn new(runtime: &Runtime, model: &Model, frame: &Frame) -> Result<Self, Failure> {
        let manifest = model.manifest();
        let before = resident_mib();
        let start = Instant::now();
        let mut panel = ModelSet::new(runtime, [model])?;
        let load = start.elapsed();
        for _ in 0..WARM_UP {
            panel.shown(frame).detect(0)?;
        }
        Ok(Self {
            name: format!("{}@{}", manifest.id, manifest.version),
            load,
            resident: resident_mib().zip(before).map(|(after, before)| after - before),
            letterbox: Letterbox::new(&manifest.input),
            panel,
            preprocess: Vec::new(),
            network: Vec::new(),
            whole: Vec::new(),
        })
    }

    fn look(&mut self, frame: &Frame) -> Result<(), Failure> {
        let start = Instant::now();
        let placement = self
            .letterbox
            .draw(frame)
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let drawn = start.elapsed();
        black_box(self.panel.find(0, self.letterbox.tensor(), placement.canvas)?);
        let whole = start.elapsed();
        self.preprocess.push(drawn.as_secs_f32() * 1e3);
        self.network.push((whole - drawn).as_secs_f32() * 1e3);
        self.whole.push(whole.as_secs_f32() * 1e3);
        Ok(())
    }

    fn cost(&self, first: f64) -> Cost {
        Cost {
            model: self.name.clone(),
            load_ms: self.load.as_secs_f64() * 1e3,
            resident_mib: self.resident,
            preprocess_ms: spread(&self.preprocess),
            network_ms: spread(&self.network),
            ratio: self.median() / first,
        }
    }

    fn median(&self) -> f64 {
        Times::of(self.whole.clone()).median
    }
}

fn spread(all: &[f32]) -> Spread {
    Spread {
        min: all.iter().copied().min_by(f32::total_cmp).map_or(0.0, f64::from),
        times: Times::of(all.to_vec()),
    }
}

pub(super) fn run(args: &Args, config: Option<&Path>) -> Result<ExitCode, Failure> {
    let models = args
        .models
        .iter()
        .map(|m| model(m, config))
        .collect::<Result<Vec<_>, _>>()?;
    let runtime = args.library.load()?;
    let frames = frames(&args.pictures)?;
    let mut runners = models
        .iter()
        .map(|m| Runner::new(&runtime, m, &frames[0]))
        .collect::<Result<Vec<_>, _>>()?;
    for frame in frames.iter().cycle().take(args.looks as usize) {
        for runner in &mut runners {
            runner.look(frame)?;
        }
    }
    let first = runners.first().map_or(1.0, Runner::median);
    let costs: Vec<Cost> = runners.iter().map(|r| r.cost(first)).collect();
    print(&if args.json { json(&costs)? } else { table(&costs) })?;
    Ok(ExitCode::SUCCESS)
}

/// What is judged; never none.
fn frames(paths: &[PathBuf]) -> Result<Vec<Frame>, Failure> {
    /// A clip's frames are a megapixel each.
    const MOST: usize = 32;
    let mut frames = Vec::new();
    for path in paths {
        let unreadable = |e: detect::PictureError| Failure::new(Class::Data, format!("{}: {e}", path.display()));
        for shot in detect::frames_of(path).map_err(unreadable)?.take(MOST) {
            frames.push(shot.map_err(unreadable)?.frame);
        }
    }
    if frames.is_empty() {
        let mut noise = fastrand::Rng::with_seed(416);
        let picture = RgbImage::from_fn(1920, 1080, |_, _| Rgb([noise.u8(..), noise.u8(..), noise.u8(..)]));
        let frame = Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH);
        frames.push(frame.map_err(|e| Failure::new(e.class(), e.to_string()))?);
    }
    Ok(frames)
}

/// Of this process, where the system says so.
fn resident_mib() -> Option<f64> {
    let pages: f64 = fs::read_to_string("/proc/self/statm")
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(pages * rustix::param::page_size() as f64 / f64::from(1 << 20))
}

fn table(costs: &[Cost]) -> String {
    let width = costs.iter().map(|c| c.model.len()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:width$}  {:>8}  {:>8}  {:>23}  {:>23}  {:>5}\n",
        "model", "load ms", "MiB", "preprocess ms (min p50 p95)", "network ms (min p50 p95)", "ratio"
    );
    for c in costs {
        let times = |s: &Spread| format!("{:.1} {:.1} {:.1}", s.min, s.times.median, s.times.p95);
        let memory = c.resident_mib.map_or("?".into(), |mib| format!("{mib:.1}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {:>8.0}  {memory:>8}  {:>27}  {:>24}  {:>5.2}",
            c.model,
            c.load_ms,
            times(&c.preprocess_ms),
            times(&c.network_ms),
            c.ratio
        );
    }
    text
}
