//! `gridwatch-lab bench`: CPU and memory per camera and the lateness of looks, compared with ffmpeg, and the accuracy of the view
//! assessment.

mod changes;
mod measure;
mod views;
mod wall;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use self::{
    measure::{Cpu, Scrape},
    wall::OpenWall,
};
use crate::cli::farm_failure;
use crate::cli::stage::{self, Broker, OwnedChild};
use gridwatch::cli::{Failure, share::share};
use gridwatch_base::{error::Class, metric, text::counted};
use gridwatch_config::raw;
use gridwatch_farm as farm;
use gridwatch_farm::{Farm, FarmConfig, MountConfig};

/// Measure CPU and memory per camera, and the lateness of looks
///
/// Everything is real: an RTSP server in its own process, `gridwatch run`, and a broker. The comparator
/// runs on the same machine right after, so that the ratio holds on any machine.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Run the daemon on many cameras; print CPU, memory and lateness, and the same for ffmpeg.
    #[command(
        long_about = "Serves COUNT cameras over RTSP from a separate process (one clip, 1080p25 H.264 at 4 Mb/s, GOP 50, \
        looped, not re-encoded), runs the daemon on them as `gridwatch run` does, with both models, and measures the \
        daemon and its decode workers; then again while the console's wall is open. Then ffmpeg gets the same cameras: it \
        decodes every frame and scales it, at 5 frames a second.\n\n\
        CPU is user plus system time in ms per camera and second. With --json the last line is one JSON object."
    )]
    Cameras(CamerasArgs),
    /// Alter your own street pictures as light, weather and people do, and print how often the view is assessed correctly.
    #[command(
        long_about = "Uses each picture as a street that a camera watches: the camera learns the view and is then shown the \
        picture altered: darker, out of focus, covered, in other light, behind a bus or a crowd, or aimed elsewhere. \
        Prints for each alteration how many of those looks were assessed as clear, dark, blurred, blocked and moved, \
        under the default thresholds of [view].\n\n\
        The same pictures and --seed give the same numbers. Starts nothing; needs no camera or broker."
    )]
    Views(views::ViewsArgs),
    /// Compose street scenes with light, weather, people and things put down, and print what the change map reports.
    #[command(
        long_about = "Makes a street of each picture: shadows move over it, it rains, people pass, the camera sways or switches to \
        infrared; and bags and flyers are put down and taken away. Prints for each nuisance how many regions the change map \
        reported although nothing was put down, and for each kind of thing how many were found.\n\n\
        The same pictures and --seed give the same numbers. Starts nothing; needs no camera or broker."
    )]
    Changes(changes::ChangesArgs),
    /// Serves the cameras; started by `bench cameras`.
    #[command(hide = true)]
    Farm(FarmArgs),
}

#[derive(Debug, Args)]
struct CamerasArgs {
    /// Number of cameras.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Seconds to measure, counted from when every camera has had its first look; as long again with the wall open.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Interval between a camera's looks (`10s`; a bare number is seconds).
    #[arg(long, default_value = "10s", value_parser = span)]
    look_every: raw::Span,
    /// The clip that every camera shows (mp4). Default: a slow pan over a street still, encoded once with ffmpeg.
    #[arg(long)]
    clip: Option<PathBuf>,
    /// Cameras for the ffmpeg comparator, which cannot keep up with as many; 0 skips it.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    comparator: u16,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FarmArgs {
    #[arg(long)]
    clip: PathBuf,
    #[arg(long)]
    count: u16,
}

/// The farm's only line of output.
#[derive(Debug, Serialize, Deserialize)]
struct FarmReady {
    port: u16,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct CameraBenchReport {
    cameras: u16,
    seconds: f64,
    look_every_s: f64,
    looks: f64,
    cpu_ms_per_camera_s: CpuReport,
    memory_mb_per_camera: f64,
    /// Number of decode workers, and the memory of the largest that no other process has. Not part of `memory_mb_per_camera`.
    decode_workers: usize,
    memory_mb_per_worker: f64,
    wall: WallReport,
    lateness_ms: Lateness,
    stretch: f64,
    comparator: Option<Comparator>,
    /// The comparator's CPU divided by the daemon's.
    ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct CpuReport {
    receive: f64,
    decode: f64,
    detect: f64,
    all: f64,
}

/// What one browser on the console's wall adds.
#[derive(Debug, Serialize)]
struct WallReport {
    /// In percent of a core; the difference of two measurements, so that it can be below 0.
    cpu_percent: f64,
    /// The whole, not what is added.
    memory_mb_per_camera: f64,
    pictures: u64,
}

#[derive(Debug, Serialize)]
struct Lateness {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Comparator {
    cpu_ms_per_camera_s: f64,
    memory_mb_per_camera: f64,
}

fn span(text: &str) -> Result<raw::Span, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .map(raw::Span)
            .map_err(|e| e.to_string());
    }
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|e| e.to_string())
}

/// Runs the benchmark.
///
/// # Errors
/// If the clip cannot be made or read, or the farm, the broker or the daemon cannot be started.
pub fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
    match args.command {
        BenchCommand::Cameras(cameras) => bench_cameras(&cameras),
        BenchCommand::Views(views) => views::run(&views).map(|()| ExitCode::SUCCESS),
        BenchCommand::Changes(changes) => changes::run(&changes).map(|()| ExitCode::SUCCESS),
        BenchCommand::Farm(farm) => serve_farm(&farm),
    }
}

fn serve_farm(args: &FarmArgs) -> Result<ExitCode, Failure> {
    let clip = farm::clip(&args.clip).map_err(farm_failure)?;
    // Like real cameras, they do not send their keyframes at the same instant.
    let offset = |i: u16| Duration::from_millis(u64::from(i) * 137 % 10_000);
    let mounts = (0..args.count).map(|i| MountConfig {
        name: camera_id(i),
        clip: Arc::clone(&clip),
        offset: offset(i),
    });
    let farm = Farm::start(FarmConfig {
        mounts: mounts.collect(),
        ..FarmConfig::default()
    })
    .map_err(farm_failure)?;
    let up = FarmReady { port: farm.port() };
    println!(
        "{}",
        serde_json::to_string(&up).map_err(|e| Failure::new(Class::Bug, e.to_string()))?
    );
    // The parent holds standard input open; when it exits for whatever reason, this process exits, too.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    drop(farm);
    Ok(ExitCode::SUCCESS)
}

fn camera_id(i: u16) -> String {
    format!("cam-{i:03}")
}

fn bench_cameras(args: &CamerasArgs) -> Result<ExitCode, Failure> {
    let share = share()?;
    let dir = tempdir()?;
    let clip = match &args.clip {
        Some(clip) => clip.canonicalize().map_err(io_failure("--clip", clip))?,
        None => default_clip(&share)?,
    };

    eprintln!(
        "Serving {} from {} …",
        counted(args.count, "camera", "cameras"),
        clip.display()
    );
    let (mut farm, port) = start_farm(args.count, &clip)?;
    let broker = Broker::start(dir.path())?;
    let free_port = || stage::free_port().map_err(|e| Failure::new(Class::Transient, e.to_string()));
    let (metrics_port, console_port) = (free_port()?, free_port()?);
    let ports = Ports {
        rtsp: port,
        mqtt: broker.port,
        metrics: metrics_port,
        console: console_port,
    };
    let config = write_config(args, &share, dir.path(), ports)?;
    let mut daemon = start_daemon(&config, dir.path())?;
    let pid = daemon.0.id();

    wait_for_first_looks(args, metrics_port, &mut daemon, dir.path())?;
    eprintln!("All cameras have been looked at. Measuring for {} s …", args.seconds);
    let daemon_exited =
        |e: std::io::Error| Failure::new(Class::Bug, format!("the daemon exited during the measurement: {e}"));
    let (scrape_a, cpu_a, start) = (
        Scrape::fetch(metrics_port).map_err(daemon_exited)?,
        measure::cpu_with_workers(pid).map_err(daemon_exited)?,
        Instant::now(),
    );
    std::thread::sleep(Duration::from_secs(args.seconds));
    let seconds = start.elapsed().as_secs_f64();
    let cpu_b = measure::cpu_with_workers(pid).map_err(daemon_exited)?;
    let (scrape_b, memory) = (
        Scrape::fetch(metrics_port).map_err(daemon_exited)?,
        measure::resident_mb(pid).map_err(daemon_exited)?,
    );
    let workers = measure::children(pid);
    let worker_memory = workers.iter().filter_map(|worker| measure::unique_mb(*worker).ok());
    let worker_memory = worker_memory.fold(0.0, f64::max);
    let without = cpu_b.since(cpu_a).all_ms / seconds;
    let wall = measure_wall(args, pid, console_port, without).map_err(daemon_exited)?;
    drop(daemon);

    let comparator = (args.comparator > 0).then(|| compare(args, port)).transpose()?;
    drop(farm.0.stdin.take());
    let camera_seconds = seconds * f64::from(args.count);
    let cpu: Cpu = cpu_b.since(cpu_a).per(camera_seconds);
    let report = CameraBenchReport {
        cameras: args.count,
        seconds,
        look_every_s: args.look_every.0.as_secs_f64(),
        looks: scrape_b.total(metric::LOOKS) - scrape_a.total(metric::LOOKS),
        cpu_ms_per_camera_s: CpuReport {
            receive: cpu.receive_ms,
            decode: cpu.decode_ms,
            detect: cpu.detect_ms,
            all: cpu.all_ms,
        },
        memory_mb_per_camera: memory / f64::from(args.count),
        decode_workers: workers.len(),
        memory_mb_per_worker: worker_memory,
        wall,
        lateness_ms: Lateness {
            p50: scrape_b.lateness_ms(&scrape_a, 0.5),
            p99: scrape_b.lateness_ms(&scrape_a, 0.99),
        },
        stretch: scrape_b.total(metric::STRETCH),
        ratio: comparator.as_ref().map(|c| c.cpu_ms_per_camera_s / cpu.all_ms),
        comparator,
    };
    print(&report, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures the daemon while a wall is open; `without` is its CPU time without one, in ms per second.
fn measure_wall(args: &CamerasArgs, pid: u32, console: u16, without: f64) -> std::io::Result<WallReport> {
    eprintln!("Measuring for {} s with the console's wall open …", args.seconds);
    let wall = OpenWall::open(console)?;
    let (cpu, start, shown) = (measure::cpu_with_workers(pid)?, Instant::now(), wall.pictures());
    std::thread::sleep(Duration::from_secs(args.seconds));
    let seconds = start.elapsed().as_secs_f64();
    let with = measure::cpu_with_workers(pid)?.since(cpu).all_ms / seconds;
    let pictures = wall.pictures() - shown;
    let memory = measure::resident_mb(pid)?;
    wall.close()?;
    Ok(WallReport {
        // 10 ms per second are 1 percent of a core.
        cpu_percent: (with - without) / 10.0,
        memory_mb_per_camera: memory / f64::from(args.count),
        pictures,
    })
}

/// The clip of docs/performance.md, encoded once into the cache.
fn default_clip(share: &Path) -> Result<PathBuf, Failure> {
    let clip = share.join(".cache/bench/street-1080p25-4m.mp4");
    if clip.is_file() {
        return Ok(clip);
    }
    eprintln!("Encoding {} once (1080p25 H.264, 4 Mb/s, GOP 50) …", clip.display());
    if let Some(folder) = clip.parent() {
        std::fs::create_dir_all(folder).map_err(io_failure("the clip's folder", folder))?;
    }
    let script = share.join("demo/make_bench_clip.sh");
    let status = Command::new("bash")
        .arg(&script)
        .arg(&clip)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() && clip.is_file() => Ok(clip),
        Ok(status) => Err(Failure::new(
            Class::Transient,
            format!(
                "{} exited with {status}; is ffmpeg installed (edge-deploy/setup.sh)?",
                script.display()
            ),
        )),
        Err(e) => Err(io_failure("the clip's script", &script)(e)),
    }
}

fn start_farm(count: u16, clip: &Path) -> Result<(OwnedChild, u16), Failure> {
    let mut farm = Command::new(this_program()?)
        .args(["bench", "farm", "--count", &count.to_string(), "--clip"])
        .arg(clip)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(OwnedChild)
        .map_err(|e| Failure::new(Class::Transient, format!("cannot start the camera farm: {e}")))?;
    let mut line = String::new();
    if let Some(stdout) = farm.0.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|e| Failure::new(Class::Transient, e.to_string()))?;
    }
    let up: FarmReady = serde_json::from_str(&line).map_err(|_| {
        Failure::new(
            Class::Transient,
            "the camera farm did not start; see its error above".to_owned(),
        )
    })?;
    Ok((farm, up.port))
}

/// The running executable.
fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::new(Class::Bug, format!("cannot locate the running executable: {e}")))
}

/// Starts the `gridwatch` that lies beside this program, which is the one built with it.
fn start_daemon(config: &Path, dir: &Path) -> Result<OwnedChild, Failure> {
    let program = this_program()?.with_file_name("gridwatch");
    let path = dir.join("daemon.log");
    let log = std::fs::File::create(&path).map_err(io_failure("log", &path))?;
    Command::new(&program)
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map(OwnedChild)
        .map_err(|e| {
            let fault = format!(
                "cannot start the daemon {}: {e}; `make build` builds it there",
                program.display()
            );
            Failure::new(Class::Transient, fault)
        })
}

/// The ports on loopback of the farm, the broker, and the daemon's metrics and console.
struct Ports {
    rtsp: u16,
    mqtt: u16,
    metrics: u16,
    console: u16,
}

/// Writes a configuration with the demo's grid, rules and models, and the bench's cameras.
fn write_config(
    args: &CamerasArgs,
    share: &Path,
    dir: &Path,
    Ports {
        rtsp,
        mqtt,
        metrics,
        console,
    }: Ports,
) -> Result<PathBuf, Failure> {
    stage::derive_config(share, dir, |file| {
        file.node.state_dir = dir.join("state");
        file.broker.url = format!("mqtt://127.0.0.1:{mqtt}");
        file.telemetry.listen = format!("127.0.0.1:{metrics}");
        file.console.listen = format!("127.0.0.1:{console}");
        // No candidate is ever confirmed: the bench measures looks, not evidence.
        for rule in &mut file.rules {
            rule.dwell = raw::Span(Duration::from_secs(30 * 60));
            rule.unidentified_dwell = None;
            rule.max_gap = raw::Span(args.look_every.0 * 4 + Duration::from_secs(60));
            rule.forget_after = rule.forget_after.max(rule.max_gap);
        }
        file.cameras = (0..args.count)
            .zip(std::iter::repeat(file.cameras.first().cloned()))
            .filter_map(|(i, pattern)| {
                Some(raw::Camera {
                    id: camera_id(i),
                    url: format!("rtsp://127.0.0.1:{rtsp}/{}", camera_id(i)),
                    look_every: args.look_every,
                    zones: Vec::new(),
                    calibration: None,
                    approved_signs: None, // They belong to another camera's view.
                    models: Vec::new(),
                    // The clip pans; the models are not run on a view assessed as moved.
                    fixed: false,
                    ..pattern?
                })
            })
            .collect();
    })
}

fn wait_for_first_looks(args: &CamerasArgs, port: u16, daemon: &mut OwnedChild, dir: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(60) + args.look_every.0 * 3;
    let log = || std::fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
    loop {
        if let Ok(Some(status)) = daemon.0.try_wait() {
            return Err(Failure::new(
                Class::Transient,
                format!("the daemon exited with {status}:\n{}", log()),
            ));
        }
        let seen = Scrape::fetch(port).map_or(0, |s| s.series(metric::LAST_LOOK));
        if seen >= usize::from(args.count) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                Class::Transient,
                format!(
                    "only {seen} of {} had a look in time:\n{}",
                    counted(args.count, "camera", "cameras"),
                    log()
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The comparator: ffmpeg decoding every frame, scaled to 720p, at 5 frames a second.
fn compare(args: &CamerasArgs, port: u16) -> Result<Comparator, Failure> {
    let seconds = args.seconds.min(20);
    eprintln!(
        "Comparing with ffmpeg, every frame, 5 fps, on {} for {seconds} s …",
        counted(args.comparator, "camera", "cameras")
    );
    let children: Vec<OwnedChild> = (0..args.comparator.min(args.count))
        .map(|i| {
            Command::new("ffmpeg")
                .args([
                    "-nostdin",
                    "-v",
                    "error",
                    "-threads",
                    "1",
                    "-rtsp_transport",
                    "tcp",
                    "-i",
                ])
                .arg(format!("rtsp://127.0.0.1:{port}/{}", camera_id(i)))
                .args(["-vf", "fps=5,scale=1280:720", "-pix_fmt", "rgb24", "-f", "null", "-"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map(OwnedChild)
                .map_err(|e| {
                    Failure::new(
                        Class::Transient,
                        format!("cannot start ffmpeg ({e}); install it with edge-deploy/setup.sh, or skip it with --comparator 0"),
                    )
                })
        })
        .collect::<Result<_, _>>()?;
    // Leave out start-up (probing, the first GOP).
    std::thread::sleep(Duration::from_secs(5));
    let ffmpeg_exited =
        |e: std::io::Error| Failure::new(Class::Transient, format!("ffmpeg exited during the measurement: {e}"));
    let all = || {
        children
            .iter()
            .map(|c| measure::cpu(c.0.id()).map(|c| c.all_ms))
            .sum::<Result<f64, _>>()
    };
    let (before, start) = (all().map_err(ffmpeg_exited)?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let used = all().map_err(ffmpeg_exited)? - before;
    let elapsed = start.elapsed().as_secs_f64();
    let memory = children
        .iter()
        .map(|c| measure::resident_mb(c.0.id()))
        .sum::<Result<f64, _>>()
        .map_err(ffmpeg_exited)?;
    let count = children.len() as f64;
    Ok(Comparator {
        cpu_ms_per_camera_s: used / (elapsed * count),
        memory_mb_per_camera: memory / count,
    })
}

fn print(report: &CameraBenchReport, json: bool) -> Result<(), Failure> {
    let cpu = &report.cpu_ms_per_camera_s;
    let ms = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.1}"));
    let table = format!(
        "{}, one look per {} s, {:.0} s measured, {}, periods stretched ×{:.2}\n\
         CPU per camera-second (ms): receive {:.2}, decode {:.2}, detect {:.2}, all {:.2}\n\
         resident memory per camera (MB): {:.2}; {} decode workers, at most {:.1} each\n\
         with the console's wall open: {:+.1} % of a core, {:.2} MB per camera, {}\n\
         lateness of looks (ms): p50 {}, p99 {}",
        counted(report.cameras, "camera", "cameras"),
        report.look_every_s,
        report.seconds,
        counted(report.looks.round(), "look", "looks"),
        report.stretch,
        cpu.receive,
        cpu.decode,
        cpu.detect,
        cpu.all,
        report.memory_mb_per_camera,
        report.decode_workers,
        report.memory_mb_per_worker,
        report.wall.cpu_percent,
        report.wall.memory_mb_per_camera,
        counted(report.wall.pictures, "picture", "pictures"),
        ms(report.lateness_ms.p50),
        ms(report.lateness_ms.p99),
    );
    let compared = report
        .comparator
        .as_ref()
        .zip(report.ratio)
        .map_or(String::new(), |(c, ratio)| {
            format!(
                "\nffmpeg, every frame, 5 fps, 720p: {:.1} ms and {:.1} MB per camera: {ratio:.1} times gridwatch's CPU",
                c.cpu_ms_per_camera_s, c.memory_mb_per_camera
            )
        });
    if json {
        eprintln!("{table}{compared}");
        println!(
            "{}",
            serde_json::to_string(report).map_err(|e| Failure::new(Class::Bug, e.to_string()))?
        );
    } else {
        println!("{table}{compared}");
    }
    Ok(())
}

fn tempdir() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("gridwatch-bench-")
        .tempdir()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot create a temporary folder: {e}")))
}

fn io_failure<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |e| Failure::new(Class::Config, format!("{what} {}: {e}", path.display()))
}
