//! `gridwatch run`: the daemon, until it is told to stop.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args as ClapArgs;

use super::{
    Failure,
    service::{StopSignal, block_on, watchdog},
};
use crate::{daemon::Daemon, telemetry};
use gridwatch_config as config;

/// What to run.
#[derive(Debug, ClapArgs)]
#[command(
    about = "Watches the cameras and files cases until SIGTERM or Ctrl-C",
    long_about = "Watches the cameras of a configuration and files cases until SIGTERM or Ctrl-C. Stopping finishes the cases whose \
    pictures are being made; what the broker has not acknowledged is sent at the next start.\n\n\
    Try `gridwatch check --config FILE` first. Logs go to standard error."
)]
pub struct Args {
    /// The configuration file (see configs/edge.toml).
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the daemon.
///
/// # Errors
/// When the configuration is at fault or something the daemon cannot do without is missing.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = Arc::new(config::load(&args.config)?);
    telemetry::start_logs(config.telemetry.log, &config.telemetry.filter)?;
    let metrics = telemetry::start_metrics()?;
    block_on(async {
        // The handlers stand before anything is started: a signal during the start is a clean stop, too.
        let mut stop = StopSignal::listen()?;
        let daemon = Daemon::start(config, metrics).await?;
        // Not every supervisor is systemd; without its socket this does nothing.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let watching = tokio::spawn(watchdog(daemon.health()));
        let signal = daemon.until(stop.wait()).await;
        tracing::info!(signal, "Stopping.");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        watching.abort();
        daemon.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}
