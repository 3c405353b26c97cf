//! `gridwatch model bench`: measures the load time, inference time and memory of models on this box.

use std::{
    fmt::Write,
    fs,
    hint::black_box,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use jiff::Timestamp;
use serde::Serialize;

use super::model;
use crate::cli::{
    Failure, json_line,
    options::{ConfigArgs, RuntimeArgs},
    pictures, print,
};
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelSet, Runtime, preprocess::Letterbox, trial::Latency};

/// Benchmark models on this box: load time, inference time, memory.
///
/// The models run in turn on the same pictures, so that other load on the box affects them equally. The ratios carry over to
/// other boxes; the times do not. Each model runs on one thread, as in the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model bench models/garbage_nano_416 models/picodet_s_416_coco
  gridwatch model bench garbage_nano_416@1.2.0 models/garbage_nano_416 --config edge.toml --json")]
pub(super) struct BenchArgs {
    /// Model folders, or ID@VERSION from the registry. The ratios are relative to the first.
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Pictures or clips to run on. [default: noise, 1920×1080]
    #[arg(long, value_name = "FILE")]
    pictures: Vec<PathBuf>,
    /// Number of measured runs of each model.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    looks: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Serialize)]
struct BenchResult {
    model: String,
    load_ms: f64,
    /// Growth of the resident memory by the session and its first runs, MiB. The first model's includes the runtime's own.
    resident_mib: Option<f64>,
    /// Scaling into the input tensor, milliseconds.
    preprocess_ms: TimeSpread,
    /// Network, adapter and non-maximum suppression, milliseconds.
    network_ms: TimeSpread,
    /// Median of both together, relative to the first model's.
    ratio: f64,
}

#[derive(Serialize)]
struct TimeSpread {
    min: f64,
    #[serde(flatten)]
    times: Latency,
}

/// Unmeasured runs first, until memory is mapped and the CPU clock has settled.
const WARM_UP: u32 = 5;

/// A loaded model with its measurements, milliseconds.
struct Runner {
    name: String,
    load: Duration,
    resident: Option<f64>,
    models: ModelSet,
    letterbox: Letterbox,
    preprocess: Vec<f32>,
    network: Vec<f32>,
    total: Vec<f32>,
}

impl Runner {
    fn new(runtime: &Runtime, model: &Model, frame: &Frame) -> Result<Self, Failure> {
        let manifest = model.manifest();
        let before = resident_mib();
        let start = Instant::now();
        let mut models = ModelSet::new(runtime, [model])?;
        let load = start.elapsed();
        for _ in 0..WARM_UP {
            models.input(frame).detect(0)?;
        }
        Ok(Self {
            name: format!("{}@{}", manifest.id, manifest.version),
            load,
            resident: resident_mib().zip(before).map(|(after, before)| after - before),
            letterbox: Letterbox::new(&manifest.input),
            models,
            preprocess: Vec::new(),
            network: Vec::new(),
            total: Vec::new(),
        })
    }

    fn measure(&mut self, frame: &Frame) -> Result<(), Failure> {
        let start = Instant::now();
        let placement = self
            .letterbox
            .draw(frame)
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let preprocessed = start.elapsed();
        black_box(
            self.models
                .detect_tensor(0, self.letterbox.tensor(), placement.canvas)?,
        );
        let total = start.elapsed();
        self.preprocess.push(preprocessed.as_secs_f32() * 1e3);
        self.network.push((total - preprocessed).as_secs_f32() * 1e3);
        self.total.push(total.as_secs_f32() * 1e3);
        Ok(())
    }

    /// `first` is the median total time of the first model.
    fn result(&self, first: f64) -> BenchResult {
        BenchResult {
            model: self.name.clone(),
            load_ms: self.load.as_secs_f64() * 1e3,
            resident_mib: self.resident,
            preprocess_ms: spread(&self.preprocess),
            network_ms: spread(&self.network),
            ratio: self.median() / first,
        }
    }

    fn median(&self) -> f64 {
        Latency::of(self.total.clone()).median
    }
}

fn spread(all: &[f32]) -> TimeSpread {
    TimeSpread {
        min: all.iter().copied().min_by(f32::total_cmp).map_or(0.0, f64::from),
        times: Latency::of(all.to_vec()),
    }
}

pub(super) fn run(args: &BenchArgs, config: &ConfigArgs) -> Result<ExitCode, Failure> {
    let models = args
        .models
        .iter()
        .map(|m| model(m, config))
        .collect::<Result<Vec<_>, _>>()?;
    let runtime = args.runtime.load()?;
    let frames = frames(&args.pictures)?;
    let mut runners = models
        .iter()
        .map(|m| Runner::new(&runtime, m, &frames[0]))
        .collect::<Result<Vec<_>, _>>()?;
    for frame in frames.iter().cycle().take(args.looks as usize) {
        for runner in &mut runners {
            runner.measure(frame)?;
        }
    }
    let first = runners.first().map_or(1.0, Runner::median);
    let results: Vec<BenchResult> = runners.iter().map(|r| r.result(first)).collect();
    print(&if args.json {
        json_line(&results)?
    } else {
        table(&results)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The frames to run on; at least one.
fn frames(paths: &[PathBuf]) -> Result<Vec<Frame>, Failure> {
    /// Frames per clip, to bound the memory: each takes about 1.5 bytes per pixel.
    const MAX_FRAMES: usize = 32;
    let mut frames = Vec::new();
    for path in paths {
        for source in pictures::frames_of(path).map_err(|e| e.in_file(path))?.take(MAX_FRAMES) {
            frames.push(source.map_err(|e| e.in_file(path))?.frame);
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

/// The resident memory of this process, MiB; `None` without /proc.
fn resident_mib() -> Option<f64> {
    let pages: f64 = fs::read_to_string("/proc/self/statm")
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(pages * rustix::param::page_size() as f64 / f64::from(1 << 20))
}

fn table(results: &[BenchResult]) -> String {
    let width = results.iter().map(|c| c.model.len()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:width$}  {:>8}  {:>8}  {:>23}  {:>23}  {:>5}\n",
        "model", "load ms", "MiB", "preprocess ms (min p50 p95)", "network ms (min p50 p95)", "ratio"
    );
    for r in results {
        let times = |s: &TimeSpread| format!("{:.1} {:.1} {:.1}", s.min, s.times.median, s.times.p95);
        let memory = r.resident_mib.map_or("?".into(), |mib| format!("{mib:.1}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {:>8.0}  {memory:>8}  {:>27}  {:>24}  {:>5.2}",
            r.model,
            r.load_ms,
            times(&r.preprocess_ms),
            times(&r.network_ms),
            r.ratio
        );
    }
    text
}
