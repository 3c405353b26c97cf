//! What a long-running command needs of the system: a runtime, the stop signals, the supervisor's watchdog.

use std::{sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::telemetry::Health;
use gridwatch_base::error::Class;

/// Runs a command's future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        // MQTT has its own thread and receiving its own runtime: here are metrics and signals.
        .worker_threads(1)
        .thread_name("main-async")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Class::Transient, format!("no runtime can be started: {e}")))?
        .block_on(future)
}

/// SIGTERM and SIGINT, from the moment it is made.
pub struct StopSignal {
    term: Signal,
    interrupt: Signal,
}

impl StopSignal {
    pub fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|e| Failure::new(Class::Bug, format!("signals cannot be handled: {e}")));
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The name of the signal that came.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tells systemd that the core turns, as often as it asks; for ever. A box whose core is stuck is restarted by it.
pub(super) async fn watchdog(health: Arc<Health>) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut every = tokio::time::interval((patience / 2).max(Duration::from_millis(100)));
    loop {
        every.tick().await;
        if health.is_alive() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}
