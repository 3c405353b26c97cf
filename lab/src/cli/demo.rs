//! `gridwatch demo`: the whole of it on one machine, with real RTSP and a real broker.

mod platform;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;
use tokio::sync::mpsc;

use self::platform::{Platform, Received};
use crate::cli::farm_failure;
use crate::cli::stage::{self, Broker};
use gridwatch::{
    cli::{
        Failure,
        service::{StopSignal, block_on},
    },
    daemon::{Daemon, Snapshot},
    telemetry,
};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_farm as farm;
use gridwatch_farm::{Farm, FarmConfig, MountConfig};

/// How to show it.
#[derive(Debug, ClapArgs)]
#[command(
    about = "Three cameras, a broker, the daemon and a subscriber, all on this machine",
    long_about = "Serves three clips as RTSP cameras, starts a mosquitto on a free port, runs the daemon on them with \
    configs/demo.toml (dwell shortened to seconds) and subscribes as the platform would: each case is printed as it arrives from the \
    broker, with the paths of the pictures that came with it. Two cameras see the same heap: it is one case. A banner hangs between two boards \
    that were approved: they are none.\n\n\
    The clips are composites and say so. Ctrl-C ends everything that was started."
)]
pub struct Args {
    /// Stop by itself once the cases have come.
    #[arg(long)]
    once: bool,
    /// Print one JSON object a line for each case received.
    #[arg(long)]
    json: bool,
    /// Keep database, evidence and received pictures in this folder. Default: a temporary one, deleted at the end.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Kill the broker just before the first case is due, and start it again this many seconds later.
    #[arg(long, value_name = "SECONDS")]
    break_broker: Option<u64>,
}

/// With `--once`: no further case for this long after the last one, and the demo is over. Longer than the longest dwell of
/// demo.toml, so that a repeated case would still be seen.
const QUIET: Duration = Duration::from_secs(25);

/// With `--once`: without any case after this long, the demo has failed.
const PATIENCE: Duration = Duration::from_secs(150);

/// When `--break-broker` kills it: the demo's shortest dwell is not over by then.
const BREAK_AFTER: Duration = Duration::from_secs(10);

/// A broker that died is started again after this long.
const BROKER_REST: Duration = Duration::from_secs(5);

/// Runs the demo.
///
/// # Errors
/// When the farm, the broker or the daemon cannot be had.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let share = stage::share()?;
    let temporary = tempfile::Builder::new()
        .prefix("gridwatch-demo-")
        .tempdir()
        .map_err(|e| Failure::new(Class::Transient, format!("no temporary folder: {e}")))?;
    let state = args.state.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&state)
        .map_err(|e| Failure::new(Class::Config, format!("--state {}: {e}", state.display())))?;
    let state = state
        .canonicalize()
        .map_err(|e| Failure::new(Class::Config, format!("--state {}: {e}", state.display())))?;

    let broker = Broker::start(temporary.path())?;
    let clips = share.join("demo/clips");
    let mut farm = Ok(None);
    let file = stage::derive_config(&share, temporary.path(), |file| {
        file.node.state_dir = state.clone();
        file.broker.url = format!("mqtt://127.0.0.1:{}", broker.port);
        file.telemetry.listen = "127.0.0.1:0".into();
        let mounts = file.cameras.iter().map(|c| {
            let clip = farm::clip(clips.join(format!("{}.mp4", c.id)))?;
            Ok(MountConfig {
                name: c.id.clone(),
                clip,
                offset: Duration::ZERO,
            })
        });
        farm = mounts
            .collect::<Result<_, _>>()
            .and_then(|mounts| {
                Farm::start(FarmConfig {
                    mounts,
                    ..FarmConfig::default()
                })
            })
            .map(Some);
        if let Ok(Some(farm)) = &farm {
            for camera in &mut file.cameras {
                camera.url = farm.url(&camera.id);
            }
        }
    })?;
    let Some(farm) = farm.map_err(farm_failure)? else {
        return Err(Failure::new(
            Class::Bug,
            "the demo's cameras were never started".to_owned(),
        ));
    };
    let config = Arc::new(config::load(&file)?);
    telemetry::start_logs(config.telemetry.log, &config.telemetry.filter)?;
    let metrics = telemetry::start_metrics()?;
    say(&format!(
        "{} cameras on rtsp://127.0.0.1:{}, a broker on port {}, state in {}",
        config.cameras.len(),
        farm.port(),
        broker.port,
        state.display()
    ));
    block_on(async {
        let stop = StopSignal::listen()?;
        let (received, cases) = mpsc::channel(16);
        let platform = Platform::start(broker.port, state.join("received"), received);
        let daemon = Daemon::start(config, metrics).await?;
        let mut show = Show {
            args: &args,
            broker,
            daemon: &daemon,
            cases,
            stop,
        };
        let code = show.run().await;
        // The broker goes last, so that the daemon can take its leave.
        let broker = show.broker;
        daemon.stop().await;
        drop(broker);
        platform.abort();
        if args.state.is_none() {
            say("The pictures go with the temporary folder; keep them with --state DIR.");
        }
        code
    })
}

fn say(line: &str) {
    eprintln!("demo: {line}");
}

struct Show<'a> {
    args: &'a Args,
    broker: Broker,
    daemon: &'a Daemon,
    cases: mpsc::Receiver<Received>,
    stop: StopSignal,
}

impl Show<'_> {
    async fn run(&mut self) -> Result<ExitCode, Failure> {
        let start = Instant::now();
        let mut seen = 0_usize;
        let mut last_case: Option<Instant> = None;
        let mut broken = self.args.break_broker.is_none();
        let mut rest_until: Option<Instant> = None;
        let mut progress = tokio::time::interval(Duration::from_secs(5));
        let mut second = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                signal = self.stop.wait() => {
                    say(&format!("{signal}: stopping everything that was started."));
                    return Ok(ExitCode::SUCCESS);
                }
                Some(case) = self.cases.recv() => {
                    seen += 1;
                    last_case = Some(Instant::now());
                    show(&case, self.args.json)?;
                }
                _ = progress.tick() => say(&line(&self.daemon.snapshot(), seen, start.elapsed())),
                _ = second.tick() => {
                    if !broken && start.elapsed() > BREAK_AFTER {
                        broken = true;
                        let seconds = self.args.break_broker.unwrap_or_default();
                        say(&format!("The broker is killed before the first case can be sent, and started again in {seconds} s."));
                        self.broker.kill();
                        rest_until = Some(Instant::now() + Duration::from_secs(seconds));
                    }
                    self.tend_broker(&mut rest_until);
                    let quiet = last_case.is_some_and(|at| at.elapsed() > QUIET) && self.daemon.snapshot().outbox == 0;
                    if self.args.once && quiet {
                        say(&format!("{seen} case(s), each filed once."));
                        return Ok(ExitCode::SUCCESS);
                    }
                    let patience = PATIENCE + Duration::from_secs(self.args.break_broker.unwrap_or_default());
                    if self.args.once && seen == 0 && start.elapsed() > patience {
                        say("No case came. The log above says what the daemon met.");
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
        }
    }

    /// A broker that somebody killed comes back, on the same port and without a memory.
    fn tend_broker(&mut self, rest_until: &mut Option<Instant>) {
        if !self.broker.is_gone() {
            return;
        }
        let until = *rest_until.get_or_insert_with(|| {
            say(&format!(
                "The broker is gone; it is started again in {} s.",
                BROKER_REST.as_secs()
            ));
            Instant::now() + BROKER_REST
        });
        if Instant::now() >= until {
            match self.broker.restart() {
                Ok(()) => {
                    say("The broker is back.");
                    *rest_until = None;
                }
                Err(failure) => {
                    say(&format!("The broker does not come back: {failure}"));
                    *rest_until = Some(Instant::now() + BROKER_REST);
                }
            }
        }
    }
}

fn line(s: &Snapshot, seen: usize, elapsed: Duration) -> String {
    format!(
        "{:>3} s: {} of {} cameras live, {} looks, {} candidates watched, {} case(s) received, {} message(s) in the outbox",
        elapsed.as_secs(),
        s.cameras_live,
        s.cameras,
        s.looks,
        s.pinned,
        seen,
        s.outbox
    )
}

fn show(case: &Received, json: bool) -> Result<(), Failure> {
    if json {
        println!(
            "{}",
            serde_json::to_string(case).map_err(|e| Failure::new(Class::Bug, e.to_string()))?
        );
        return Ok(());
    }
    println!("\n  case {}", case.case_id);
    println!(
        "  {} {}, cell {}",
        case.category_code, case.category_name, case.cell_code
    );
    println!("  {}", case.description);
    for picture in &case.pictures {
        println!(
            "    {:<8} {}  {}",
            picture.role,
            picture.captured_at,
            display(&picture.path)
        );
    }
    println!();
    Ok(())
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
