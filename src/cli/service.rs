//! Process plumbing of long-running commands: the async runtime, stop signals and the systemd watchdog.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::telemetry::Health;
use gridwatch_base::error::Class;

/// Runs `future` to completion on a new multi-thread runtime with one worker.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        // Only metrics and signals run here: MQTT has its own thread, and receiving its own runtime.
        .worker_threads(1)
        .thread_name("main-async")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot start the async runtime: {e}")))?
        .block_on(future)
}

/// Makes the second of these signals end the process at once, with 128 and the signal's number as shells report it, whatever hangs.
/// The returned flag is set at the first one, which is left to others to act on.
///
/// # Errors
/// The system refuses a handler.
pub(super) fn end_at_second(signals: &[i32]) -> io::Result<Arc<AtomicBool>> {
    let first = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        // In this order: the first signal finds the flag not set yet.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&first))?;
        flag::register(signal, Arc::clone(&first))?;
    }
    Ok(first)
}

/// Ends the process without running destructors, for which threads that hang, or still load a model, would be in the way.
pub(super) fn exit_at_once() -> ! {
    low_level::exit(0)
}

/// Catches SIGTERM and SIGINT from the moment it is created, and the signals that would otherwise end the process without a word. A
/// second SIGTERM or SIGINT ends the process at once.
pub struct StopSignal {
    term: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: [Signal; 2],
}

impl StopSignal {
    /// Installs the handlers.
    pub fn listen() -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::new(Class::Bug, format!("cannot install signal handlers: {e}"));
        let listen = |kind| signal(kind).map_err(failed);
        end_at_second(&[SIGTERM, SIGINT]).map_err(failed)?;
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user: [
                listen(SignalKind::user_defined1())?,
                listen(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Waits for SIGTERM or SIGINT and returns its name. At each SIGHUP, `reload` is called.
    pub async fn wait(&mut self, reload: impl Fn()) -> &'static str {
        let [user1, user2] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => reload(),
                _ = user1.recv() => tracing::warn!("SIGUSR1 ignored: it has no meaning for gridwatch"),
                _ = user2.recv() => tracing::warn!("SIGUSR2 ignored: it has no meaning for gridwatch"),
            }
        }
    }
}

/// Feeds the systemd watchdog twice per its timeout while the core is alive; never returns if the watchdog is enabled.
/// systemd restarts the daemon when the core hangs.
pub(super) async fn watchdog(health: Arc<Health>) {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut interval = tokio::time::interval((timeout / 2).max(Duration::from_millis(100)));
    loop {
        interval.tick().await;
        if health.is_alive() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}
