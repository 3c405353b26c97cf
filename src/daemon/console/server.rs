//! Serves the console with the settings in force, and tells its pages of connections and readiness.

use std::{sync::Arc, time::Duration};

use gridwatch_config::Console as ConsoleSettings;
use gridwatch_console::{Console, ConsoleError, Daemon as ConsoleDaemon, daemon::Change};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{super::Shared, ConsoleAccess};

/// The console's server, and what keeps its pages up to date.
pub(in crate::daemon) struct ConsoleServer {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    watching: JoinHandle<()>,
}

/// How often the connections of cameras are compared with what open pages show.
const CONNECTIONS_EVERY: Duration = Duration::from_secs(1);

/// Pause before changed settings are tried again that could not be used.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

impl ConsoleServer {
    /// Starts the console with the settings in force; with others, once they are.
    ///
    /// # Errors
    /// Its address cannot be bound, a file cannot be used, or nobody could log in.
    pub(in crate::daemon) async fn start(access: Arc<ConsoleAccess>) -> Result<Self, ConsoleError> {
        let first = Served::start(&access).await?;
        let watching = tokio::spawn(watch_connections(Arc::clone(&access.shared)));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(supervise(access, first, stopped));
        Ok(Self {
            stop,
            serving,
            watching,
        })
    }

    /// Ends the requests in progress, within seconds.
    pub(in crate::daemon) async fn stop(self) {
        self.watching.abort();
        let _ = self.stop.send(());
        let _ = self.serving.await;
    }
}

/// The console as served with certain settings.
struct Served {
    settings: ConsoleSettings,
    /// `None` if it is off.
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Served {
    async fn start(access: &Arc<ConsoleAccess>) -> Result<Self, ConsoleError> {
        Self::bind(access.config().console.clone(), prepare(access)?).await
    }

    async fn bind(settings: ConsoleSettings, console: Console) -> Result<Self, ConsoleError> {
        let server = console.bind().await?.map(|listener| {
            let url = console.url(&listener);
            match console.fingerprint() {
                Some(fingerprint) => tracing::info!(url, fingerprint, "Serving the console"),
                None => tracing::info!(url, "Serving the console"),
            }
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(console.serve(listener, async {
                // An error means the same: nobody holds the server any more.
                let _ = stopped.await;
            }));
            (stop, serving)
        });
        Ok(Self { settings, server })
    }

    /// False if it was stopped and could not be started again.
    fn is_as_set(&self) -> bool {
        self.server.is_some() || self.settings.server.listen.is_none()
    }

    async fn stop(&mut self) {
        if let Some((stop, serving)) = self.server.take() {
            let _ = stop.send(());
            let _ = serving.await;
        }
    }
}

fn prepare(access: &Arc<ConsoleAccess>) -> Result<Console, ConsoleError> {
    Console::new(Arc::clone(access) as Arc<dyn ConsoleDaemon>)
}

/// Serves until `stopped`, with the settings in force.
async fn supervise(access: Arc<ConsoleAccess>, mut served: Served, mut stopped: oneshot::Receiver<()>) {
    let mut changes = access.shared.configured.subscribe();
    let mut failed: Option<(ConsoleSettings, String)> = None;
    loop {
        let pause = async {
            match failed {
                Some(_) => tokio::time::sleep(RETRY_PAUSE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut stopped => break,
            changed = changes.changed() => if changed.is_err() { break },
            () = pause => {}
        }
        let settings = access.config().console.clone();
        if settings == served.settings && served.is_as_set() {
            failed = None;
            continue;
        }
        // What cannot be used, such as a certificate, or a login that nobody has, leaves the one before.
        let result = match prepare(&access) {
            Ok(console) => {
                // The new address may be the old one.
                served.stop().await;
                Served::bind(settings.clone(), console).await.map(|new| served = new)
            }
            Err(error) => Err(error),
        };
        let error = result.err().map(|error| (settings, error.to_string()));
        if let Some((_, reason)) = error.as_ref().filter(|error| failed.as_ref() != Some(*error)) {
            tracing::error!(
                reason,
                "Cannot serve the console with the changed settings; trying again every few seconds"
            );
        }
        failed = error;
    }
    served.stop().await;
}

async fn watch_connections(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(CONNECTIONS_EVERY);
    let mut was_ready = None;
    loop {
        every.tick().await;
        for camera in &shared.looks.cameras().cameras {
            shared.board.connection(camera);
        }
        let is_ready = Some(shared.health.readiness().ready);
        if is_ready != was_ready {
            was_ready = is_ready;
            shared.board.tell(Change::Status);
        }
    }
}
