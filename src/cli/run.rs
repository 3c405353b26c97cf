//! `gridwatch run`: runs the daemon until it is stopped.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use tokio::runtime::Handle;

use super::{
    Failure,
    service::{StopSignal, block_on, exit_at_once, watchdog},
};
use crate::{daemon::Daemon, open_files::OpenFiles, telemetry};
use gridwatch_base::error::Class;
use gridwatch_config as config;

/// Run the daemon: watch the cameras and file cases.
///
/// Runs until SIGTERM or Ctrl-C. On shutdown it finishes the cases whose pictures are being prepared; messages that the
/// broker has not acknowledged stay in the outbox and are sent at the next start. A second signal ends it at once; nothing that
/// was filed is lost.
///
/// A changed configuration takes effect while it runs: when one of its files changes, on SIGHUP, and on `gridwatch reload`. One with faults does
/// not; the one before stays in force, and log and /readyz say why.
///
/// Run `gridwatch check --config FILE` first. Cases, evidence, keys and the ledger are written to `node.state_dir`; logs go to
/// standard error. Under systemd the daemon reports readiness and answers the watchdog (see edge-deploy/gridwatch.service).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  gridwatch run --config /etc/gridwatch/edge.toml")]
pub struct RunArgs {
    /// Configuration file; configs/edge.toml is an annotated example.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Do not read the configuration again when one of its files changes; only on SIGHUP and `gridwatch reload`.
    #[arg(long)]
    no_watch: bool,
}

/// Runs the daemon.
///
/// # Errors
/// The configuration is faulty, or something the daemon needs at start (ONNX Runtime, a model, the state directory) is missing.
pub fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    gridwatch_base::heap::share_arenas();
    let config = Arc::new(config::load(&args.config)?);
    telemetry::start_logs(config.telemetry.log, &config.telemetry.filter)?;
    for warning in &config.warnings {
        tracing::warn!(%warning, remedy = warning.remedy.as_str(), "Configuration warning");
    }
    let files = OpenFiles::raise(&config.cameras, config.workers);
    if let Some(reason) = files.shortage() {
        tracing::error!(reason, "Limit of open files is too low; cameras and decoders will fail");
    }
    let metrics = telemetry::start_metrics()?;
    block_on(async {
        // Installed before anything starts, and the start runs on a thread of its own: a model or disk that hangs holds up no signal.
        let mut stop = StopSignal::listen()?;
        let start = tokio::task::spawn_blocking(move || Handle::current().block_on(Daemon::start(config, metrics)));
        let mut daemon = tokio::select! {
            started = start => started.map_err(|e| Failure::new(Class::Bug, format!("the start failed: {e}")))??,
            signal = stop.wait(|| tracing::warn!("SIGHUP ignored: the daemon is still starting")) => {
                // What is committed is durable at any moment, and nothing else is to be finished yet.
                tracing::info!(signal, "Stopped before the start was complete");
                exit_at_once();
            }
        };
        // No-op unless systemd started us (NOTIFY_SOCKET).
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let watching = tokio::spawn(watchdog(daemon.health()));
        daemon.watch_configuration(!args.no_watch);
        let signal = daemon.until(stop.wait(|| daemon.reload())).await;
        tracing::info!(signal, "Shutting down");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        watching.abort();
        daemon.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}
