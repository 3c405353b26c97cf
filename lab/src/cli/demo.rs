//! `gridwatch-lab demo`: the whole system on one machine, with real RTSP and a real broker.

mod hub;
mod platform;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::sync::mpsc;

use self::{
    hub::DemoHub,
    platform::{DemoPlatform, ReceivedCase},
};
use crate::cli::farm_failure;
use crate::cli::stage::{self, Broker};
use gridwatch::{
    cli::{
        Failure, free_path,
        service::{StopSignal, block_on},
        share::share,
    },
    daemon::{Daemon, DaemonSnapshot},
    telemetry,
};
use gridwatch_base::language::Language;
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config as config;
use gridwatch_farm as farm;
use gridwatch_farm::{Farm, FarmConfig, MountConfig};

/// The arguments of `gridwatch-lab demo`.
#[derive(Debug, Args)]
#[command(
    about = "Run three cameras, a broker, the daemon and a subscriber on this machine",
    long_about = "Serves three clips as RTSP cameras, starts mosquitto on a free port, runs the daemon with \
    configs/demo.toml (dwell times shortened to seconds) and subscribes as the platform would: prints each case as it \
    arrives from the broker, with the paths of its pictures. Two cameras see the same heap, which is filed once. A banner \
    hangs between two approved boards; only the banner is filed.\n\n\
    The clips are composites and are marked as such. Ctrl-C stops everything."
)]
pub struct DemoArgs {
    /// Exit once all cases have arrived.
    #[arg(long)]
    once: bool,
    /// Print each received case as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Keep the database, the evidence and the received pictures in this folder. Default: a temporary one, of which only the
    /// received pictures stay, in `gridwatch-demo` (or `gridwatch-demo-2` …).
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Language of the cases and of what the demo prints: zh or en. Default: from LC_ALL, LC_MESSAGES or LANG.
    #[arg(long, value_name = "LANGUAGE", value_parser = gridwatch::cli::language)]
    language: Option<Language>,
    /// Run gridwatch-hub as the platform, with its data in this folder: decide about the cases with `gridwatch-hub --data DIR cases …`, and the box
    /// looks again. The demo box's key counts as confirmed.
    #[arg(long, value_name = "DIR")]
    hub: Option<PathBuf>,
    /// Kill the broker just before the first case is due, and restart it after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    break_broker: Option<u64>,
}

/// With `--once`: exit after this long without a further case. Longer than the longest dwell of demo.toml, so that a repeated
/// case would still be seen.
const QUIET_PERIOD: Duration = Duration::from_secs(25);

/// With `--once`: fail if no case has arrived after this long.
const FIRST_CASE_TIMEOUT: Duration = Duration::from_secs(150);

/// When `--break-broker` kills the broker: before the demo's shortest dwell is over.
const BREAK_AFTER: Duration = Duration::from_secs(10);

/// Delay before a broker that died is restarted.
const RESTART_DELAY: Duration = Duration::from_secs(5);

/// Runs the demo.
///
/// # Errors
/// If the farm, the broker or the daemon cannot be started.
pub fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let share = share()?;
    let temporary = tempfile::Builder::new()
        .prefix("gridwatch-demo-")
        .tempdir()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot create a temporary folder: {e}")))?;
    let state = args.state.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&state)
        .map_err(|e| Failure::new(Class::Config, format!("--state {}: {e}", state.display())))?;
    let state = state
        .canonicalize()
        .map_err(|e| Failure::new(Class::Config, format!("--state {}: {e}", state.display())))?;

    let pictures = match &args.state {
        Some(_) => state.join("received"),
        None => free_path("gridwatch-demo")?,
    };
    std::fs::create_dir_all(&pictures)
        .map_err(|e| Failure::new(Class::Config, format!("{}: {e}; use --state DIR", pictures.display())))?;
    let texts = Texts(args.language.unwrap_or_else(Language::of_environment));

    let broker = Broker::start(temporary.path())?;
    let clips = share.join("demo/clips");
    let (listen, console) = (free_address()?, free_address()?);
    let mut farm = Ok(None);
    let file = stage::derive_config(&share, temporary.path(), |file| {
        file.node.state_dir = state.clone();
        file.node.language = texts.0;
        file.broker.url = format!("mqtt://127.0.0.1:{}", broker.port);
        file.telemetry.listen = listen;
        file.console.listen = console.clone();
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
            "the demo's cameras were not started".to_owned(),
        ));
    };
    let config = Arc::new(config::load(&file)?);
    telemetry::start_logs(config.telemetry.log, &config.telemetry.filter)?;
    let metrics = telemetry::start_metrics()?;
    let (cameras, rtsp, mqtt, dir) = (config.cameras.len(), farm.port(), broker.port, pictures.display());
    let http = config
        .telemetry
        .listen
        .map_or_else(String::new, |address| address.to_string());
    texts.status(
        &format!("{} on rtsp://127.0.0.1:{rtsp}, a broker on port {mqtt}, metrics at http://{http}/metrics; the pictures that the platform receives are kept in {dir}", counted(cameras, "camera", "cameras")),
        &format!("{cameras} 路摄像机（rtsp://127.0.0.1:{rtsp}），消息服务器端口 {mqtt}，指标 http://{http}/metrics；平台收到的图片保存在 {dir}"),
    );
    texts.status(
        &format!(
            "The console is at http://{console}/ : what the cameras show, what was filed, and why the rest was not."
        ),
        &format!("控制台：http://{console}/ ，可查看画面、已上报案卷以及未上报的原因。"),
    );
    texts.status(
        "A heap of bags that two cameras see, a banner that was never approved and a vendor are each filed once, the first after about 15 seconds.",
        "两路摄像机看到的同一堆垃圾、未经审批的横幅和一名摊贩各上报一次，首件约需 15 秒。",
    );
    block_on(async {
        let stop = StopSignal::listen()?;
        let (received, cases) = mpsc::channel(16);
        let platform = DemoPlatform::start(broker.port, pictures.clone(), received);
        let mut daemon = Daemon::start(Arc::clone(&config), metrics).await?;
        daemon.watch_configuration(true);
        let hub = match &args.hub {
            Some(data) => Some(DemoHub::start(data, broker.port, &config, texts).await?),
            None => None,
        };
        let mut demo = DemoRun {
            args: &args,
            texts,
            broker,
            daemon: &daemon,
            cases,
            stop,
        };
        let code = demo.run().await;
        // The broker stops last, so that the daemon can disconnect from it.
        let broker = demo.broker;
        daemon.stop().await;
        if let Some(hub) = hub {
            hub.stop().await?;
        }
        drop(broker);
        platform.abort();
        texts.status(
            &format!("The pictures are in {}", pictures.display()),
            &format!("图片保存在 {}", pictures.display()),
        );
        code
    })
}

/// What the demo prints, in the reader's language.
#[derive(Clone, Copy)]
struct Texts(Language);

impl Texts {
    fn status(self, en: &str, zh: &str) {
        eprintln!("demo: {}", self.of(en, zh));
    }

    fn of<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self.0 {
            Language::En => en,
            Language::Zh => zh,
        }
    }
}

struct DemoRun<'a> {
    args: &'a DemoArgs,
    texts: Texts,
    broker: Broker,
    daemon: &'a Daemon,
    cases: mpsc::Receiver<ReceivedCase>,
    stop: StopSignal,
}

impl DemoRun<'_> {
    async fn run(&mut self) -> Result<ExitCode, Failure> {
        let start = Instant::now();
        let mut seen = 0_usize;
        let mut last_case: Option<Instant> = None;
        let mut broker_killed = self.args.break_broker.is_none();
        let mut restart_at: Option<Instant> = None;
        let mut progress = tokio::time::interval(Duration::from_secs(5));
        let mut poll = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                signal = self.stop.wait(|| self.daemon.reload()) => {
                    self.texts.status(&format!("{signal}: stopping."), &format!("收到 {signal}，正在停止。"));
                    return Ok(ExitCode::SUCCESS);
                }
                Some(case) = self.cases.recv() => {
                    seen += 1;
                    last_case = Some(Instant::now());
                    print_case(&case, self.args.json, self.texts)?;
                }
                _ = progress.tick() => self.print_progress(seen, start.elapsed()),
                _ = poll.tick() => {
                    if !broker_killed && start.elapsed() > BREAK_AFTER {
                        broker_killed = true;
                        let seconds = self.args.break_broker.unwrap_or_default();
                        self.texts.status(
                            &format!("Killing the broker before the first case can be sent; restarting it in {seconds} s."),
                            &format!("在首件案卷发出前终止消息服务器，{seconds} 秒后重启。"),
                        );
                        self.broker.kill();
                        restart_at = Some(Instant::now() + Duration::from_secs(seconds));
                    }
                    self.restart_broker(&mut restart_at);
                    let quiet = last_case.is_some_and(|at| at.elapsed() > QUIET_PERIOD) && self.daemon.snapshot().outbox == 0;
                    if self.args.once && quiet {
                        self.texts.status(&format!("{}, each filed once.", counted(seen, "case", "cases")), &format!("共 {seen} 件，各上报一次。"));
                        return Ok(ExitCode::SUCCESS);
                    }
                    let patience = FIRST_CASE_TIMEOUT + Duration::from_secs(self.args.break_broker.unwrap_or_default());
                    if self.args.once && seen == 0 && start.elapsed() > patience {
                        self.texts.status("No case arrived. See the daemon's log above.", "未收到案卷，请查看上方日志。");
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
        }
    }

    fn print_progress(&self, seen: usize, elapsed: Duration) {
        let DaemonSnapshot {
            cameras,
            cameras_live,
            looks,
            pinned,
            outbox,
        } = self.daemon.snapshot();
        let seconds = elapsed.as_secs();
        self.texts.status(
            &format!(
                "{seconds:>3} s: {cameras_live} of {} live, {}, {} pinned, {} received, {} in the outbox",
                counted(cameras, "camera", "cameras"),
                counted(looks, "look", "looks"),
                counted(pinned, "picture", "pictures"),
                counted(seen, "case", "cases"),
                counted(outbox, "message", "messages")
            ),
            &format!("{seconds:>3} 秒：{cameras_live}/{cameras} 路在线，查看 {looks} 次，保留 {pinned} 张待证画面，收到 {seen} 件，待发消息 {outbox} 条"),
        );
    }

    /// Restarts a broker that was killed, on the same port and without persisted sessions.
    fn restart_broker(&mut self, restart_at: &mut Option<Instant>) {
        if !self.broker.has_exited() {
            return;
        }
        let until = *restart_at.get_or_insert_with(|| {
            let seconds = RESTART_DELAY.as_secs();
            self.texts.status(
                &format!("The broker is down; restarting it in {seconds} s."),
                &format!("消息服务器已停止，{seconds} 秒后重启。"),
            );
            Instant::now() + RESTART_DELAY
        });
        if Instant::now() >= until {
            match self.broker.restart() {
                Ok(()) => {
                    self.texts.status("The broker is up again.", "消息服务器已恢复。");
                    *restart_at = None;
                }
                Err(failure) => {
                    self.texts.status(
                        &format!("Cannot restart the broker: {failure}"),
                        &format!("无法重启消息服务器：{failure}"),
                    );
                    *restart_at = Some(Instant::now() + RESTART_DELAY);
                }
            }
        }
    }
}

fn print_case(case: &ReceivedCase, json: bool, texts: Texts) -> Result<(), Failure> {
    if json {
        println!(
            "{}",
            serde_json::to_string(case).map_err(|e| Failure::new(Class::Bug, e.to_string()))?
        );
        return Ok(());
    }
    println!("\n  {} {}", texts.of("case", "案卷"), case.case_id);
    println!(
        "  {} {}, {} {}",
        case.category_code,
        case.category_name,
        texts.of("cell", "单元网格"),
        case.cell_code
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

/// A free port of the loopback address. Not the usual one: a box's own daemon may run beside the demo.
fn free_address() -> Result<String, Failure> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.to_string())
        .map_err(|e| Failure::new(Class::Transient, format!("no free port for the metrics: {e}")))
}
