//! Wires the crates together and owns the threads: receivers and look workers on one side, the core in the middle, the
//! evidence worker, the store and the link on the other. Logic that belongs to a crate stays in that crate.

mod activity;
mod change_report;
mod console;
mod core;
mod disk_probe;
mod error;
mod evidence_worker;
mod filing_gate;
mod held_places;
mod inbox;
mod look_board;
mod looks;
mod messages;
mod models;
mod new_regions;
mod pictures;
mod pinned_frames;
mod readiness;
mod receive;
mod record;
pub(crate) mod reload;
mod runtime;
mod sites;
mod start;
#[cfg(test)]
mod test_config;
mod text_reader;
mod view_monitor;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use metrics::{counter, gauge};

use self::{
    console::ConsoleServer,
    look_board::LookBoard,
    looks::{LookScheduler, WatchedCamera},
    messages::CoreEvent,
    models::ManagerMessage,
    readiness::{CameraSight, OutboxSight},
    reload::{control, watch},
    runtime::OwnedRuntime,
};
pub use self::{
    error::StartError,
    reload::{ReloadOccasion, ReloadOutcome, ReloadReport, ReloadRequest, Reloader},
};
pub(crate) use self::{
    looks::view_name,
    receive::{CameraSource, receive_camera},
};
use crate::telemetry::{Health, Readiness};
use gridwatch_base::{clock, message::Message, metric};
use gridwatch_camera::slot::CameraState;
use gridwatch_config::Config;
use gridwatch_contract::{
    CameraHealth, ClockHealth, HealthMessage, HeldBackCase, SCHEMA_VERSION, SignedChainHead, When,
};
use gridwatch_engine::{CameraId, NodeId};
use gridwatch_link::{LinkHandle, LinkState};
use gridwatch_store::{OutboxDepth, Store, StoreError};

/// Figures for a progress line.
#[derive(Debug, Clone, Copy, Default)]
pub struct DaemonSnapshot {
    /// Cameras configured.
    pub cameras: usize,
    /// Cameras that deliver pictures.
    pub cameras_live: usize,
    /// Looks since the start.
    pub looks: u64,
    /// Looks whose pictures are pinned as possible evidence.
    pub pinned: usize,
    /// Messages waiting in the outbox.
    pub outbox: u64,
}

/// Interval of the health messages.
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// Cases held back for other boxes that a health message lists.
const MAX_HELD_BACK: u32 = 100;

/// How often readiness is tested for the log.
const READINESS_EVERY: Duration = Duration::from_secs(10);

/// After the start, connecting to cameras and broker takes this long; not being ready is not logged before.
const STARTING: Duration = Duration::from_secs(60);

/// The blocker of a signing key that cannot be used.
const SIGNING: &str = "signing";

/// A running daemon.
pub struct Daemon {
    shared: Arc<Shared>,
    /// Owns the receivers and the link, which another configuration replaces.
    reloader: Arc<Reloader>,
    /// What brings changed configurations to the reloader.
    watching: Vec<tokio::task::JoinHandle<()>>,
    console: ConsoleServer,
    /// Wakes the look workers when a camera has a new picture.
    waker: tokio::task::JoinHandle<()>,
    /// Runs the receivers.
    receiving: OwnedRuntime,
    threads: Threads,
    events: tokio::sync::mpsc::Sender<CoreEvent>,
}

/// The threads, in the order in which they stop.
struct Threads {
    look_workers: Vec<JoinHandle<()>>,
    models: JoinHandle<()>,
    to_models: mpsc::Sender<ManagerMessage>,
    evidence_worker: JoinHandle<()>,
    core: JoinHandle<()>,
}

/// State that metrics and health messages read while the threads run.
struct Shared {
    looks: Arc<LookScheduler>,
    /// What the console shows.
    board: Arc<LookBoard>,
    health: Arc<Health>,
    pinned: Arc<AtomicU64>,
    outbox: Mutex<Store>,
    /// `None` while it is replaced, and after the stop.
    link: Mutex<Option<LinkHandle>>,
    link_state: tokio::sync::watch::Sender<LinkState>,
    /// The configuration in force.
    config: RwLock<Arc<Config>>,
    /// Notified when another one is.
    configured: tokio::sync::watch::Sender<()>,
}

impl Daemon {
    /// Current figures.
    pub fn snapshot(&self) -> DaemonSnapshot {
        let set = self.shared.looks.cameras();
        let cameras = &set.cameras;
        DaemonSnapshot {
            cameras: cameras.len(),
            cameras_live: cameras.iter().filter(|c| c.slot.state().is_receiving()).count(),
            looks: cameras.iter().map(|c| c.looked.looks.load(Ordering::Relaxed)).sum(),
            pinned: self.shared.pinned.load(Ordering::Relaxed) as usize,
            outbox: self.shared.outbox_depth().waiting.into(),
        }
    }

    /// The health state, which the watchdog reads.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.shared.health)
    }

    /// The state of the broker connection.
    pub fn link(&self) -> tokio::sync::watch::Receiver<LinkState> {
        self.shared.link_state.subscribe()
    }

    /// Puts other configurations into force.
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// Takes requests of `gridwatch reload` until the stop and, with `watch_files`, reloads the configuration when one of its files changes.
    pub fn watch_configuration(&mut self, watch_files: bool) {
        match control::listen(&self.shared.config().state_dir) {
            Ok(listener) => {
                let serving = control::serve(listener, self.reloader());
                self.watching.push(tokio::spawn(serving));
            }
            Err(error) => {
                tracing::error!(%error, "Cannot create the control socket; `gridwatch reload` cannot reach this daemon, SIGHUP can");
            }
        }
        if watch_files {
            self.watching.push(tokio::spawn(watch::watch(self.reloader())));
        }
    }

    /// Reads the configuration again, as on SIGHUP.
    pub fn reload(&self) {
        let reloader = self.reloader();
        tokio::task::spawn_blocking(move || {
            reloader.reload(&ReloadRequest {
                file: None,
                dry_run: false,
                occasion: ReloadOccasion::Signal,
            })
        });
    }

    /// Publishes a health message every minute, and logs when the box becomes ready or stops being so, until `stop`
    /// completes.
    pub async fn until<T>(&self, stop: impl Future<Output = T>) -> T {
        let mut every = tokio::time::interval(HEALTH_EVERY);
        let started = tokio::time::Instant::now();
        let mut readiness = tokio::time::interval(READINESS_EVERY);
        let mut was_ready = None;
        tokio::pin!(stop);
        loop {
            tokio::select! {
                done = &mut stop => return done,
                _ = readiness.tick() => {
                    self.shared.refresh();
                    let now = self.shared.health.readiness();
                    if was_ready != Some(now.ready) && (now.ready || was_ready.is_some() || started.elapsed() >= STARTING) {
                        was_ready = Some(now.ready);
                        log_readiness(&now);
                    }
                }
                _ = every.tick() => match serde_json::to_value(self.health_message()) {
                    Ok(message) => self.shared.publish_health(&message),
                    Err(error) => tracing::error!(%error, "Cannot serialize the health message; please report this bug"),
                },
            }
        }
    }

    fn health_message(&self) -> HealthMessage {
        let (now, config) = (Timestamp::now(), self.shared.config());
        let camera = |c: &Arc<WatchedCamera>| {
            let last = c.looked.last_look.load(Ordering::Relaxed);
            CameraHealth {
                local_id: c.id.to_string(),
                state: c.slot.state().as_str().to_owned(),
                view: c.looked.last_view().map(|v| looks::view_name(v).to_owned()),
                looks: c.looked.looks.load(Ordering::Relaxed),
                last_look_age_s: (last != 0).then(|| (now.as_millisecond() - last) as f64 / 1000.0),
            }
        };
        HealthMessage {
            schema_version: SCHEMA_VERSION,
            node_id: config.node.to_string(),
            at: When::new(now, &config.timezone),
            clock: clock::read().ok().map(ClockHealth::new),
            chain: self.shared.chain_head(&config.node, now),
            outbox_depth: self.shared.outbox_depth().waiting.into(),
            awaiting_receipt: Some(self.shared.outbox_depth().awaiting_receipt()).filter(|messages| *messages > 0),
            held_back: self.shared.held_back(),
            cameras: self.shared.looks.cameras().cameras.iter().map(camera).collect(),
        }
    }

    /// Stops in the direction of the data: receivers, look workers, evidence worker, link, core. Cases in progress are
    /// finished; messages that the broker has not acknowledged stay in the outbox.
    pub async fn stop(self) {
        let Self {
            shared,
            reloader,
            watching,
            console,
            waker,
            receiving,
            threads,
            events,
        } = self;
        watching.into_iter().for_each(|task| task.abort());
        control::remove(&shared.config().state_dir);
        console.stop().await;
        waker.abort();
        let core = threads.core;
        let looks = Arc::clone(&shared.looks);
        join(move || {
            // After a reload in progress. The receivers end here.
            drop(reloader.close());
            looks.stop();
            threads.look_workers.into_iter().for_each(|w| join_thread("look", w));
            // Only now: until then it frees the sessions that workers put down.
            let _ = threads.to_models.send(ManagerMessage::Stop);
            join_thread("models", threads.models);
            // The core closes the evidence worker's queue on `Stop`, and still handles its last events.
            let _ = events.blocking_send(CoreEvent::Stop);
            drop(events);
            join_thread("evidence", threads.evidence_worker);
        })
        .await;
        // The core commits and acknowledges the replies that still arrive, until the link ends and closes the inbox.
        let link = shared.link().take();
        if let Some(link) = link {
            link.shutdown().await;
        }
        join(move || join_thread("core", core)).await;
        drop(receiving);
        tracing::info!("Stopped");
    }
}

/// A gauge of a camera that is no longer configured would stay at its last value.
fn clear_camera_gauges(camera: &CameraId) {
    for state in CameraState::NAMES {
        gauge!(metric::CAMERA_STATE, "camera" => camera.to_string(), "state" => state).set(0.0);
    }
    gauge!(metric::VIEW_MOVED, "camera" => camera.to_string()).set(0.0);
}

fn log_readiness(now: &Readiness) {
    let degraded = now.degraded.join("; ");
    if now.ready {
        tracing::info!(degraded, "Ready: problems in front of the cameras are filed");
    } else {
        let reasons = now.reasons.join("; ");
        tracing::error!(
            reasons,
            degraded,
            "Not ready: problems in front of the cameras are not filed now"
        );
    }
}

async fn join(threads: impl FnOnce() + Send + 'static) {
    // Fails only if `threads` panics, and joining does not.
    let _ = tokio::task::spawn_blocking(threads).await;
}

fn join_thread(name: &str, thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!(thread = name, "A thread panicked; please report this bug");
    }
}

impl Shared {
    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn link(&self) -> MutexGuard<'_, Option<LinkHandle>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_health(&self, message: &serde_json::Value) {
        if let Some(link) = &*self.link() {
            link.publish_health(message);
        }
    }

    fn refresh_readiness(&self) {
        let config = self.config();
        let (now, zone) = (Timestamp::now(), &config.timezone);
        let stretch = self.looks.stretch();
        let set = self.looks.cameras();
        let cameras: Vec<CameraSight> = set.cameras.iter().map(|c| c.sight(stretch)).collect();
        let blind = readiness::blind(&cameras, zone, now);
        let broker = &config.broker;
        let address = format!("{}:{}", broker.host, broker.port);
        let link = self.link_state.borrow().clone();
        let (blocks_cameras, blocks_broker) = (
            readiness::cameras_blocker(&blind, cameras.len(), config.telemetry.max_blind_share),
            readiness::broker_blocker(&link, &self.outbox_sight(), &address, zone, now),
        );
        let mut degraded = blind;
        degraded.extend(readiness::broker_impairment(&link, &address));
        degraded.extend(self.health.configuration().map(Message::from));
        self.health.set_blocker("cameras", blocks_cameras);
        self.health.set_blocker("broker", blocks_broker);
        self.health.set_degraded(degraded);
        gauge!(metric::READY).set(if self.health.readiness().ready { 1.0 } else { 0.0 });
    }

    fn outbox_sight(&self) -> OutboxSight {
        let store = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        // The core reports a store that cannot be read.
        let depth = store.outbox_depth().unwrap_or_default();
        let is_any = depth.quarantined > 0;
        OutboxSight {
            waiting: depth.waiting,
            quarantined: depth.quarantined,
            rejected: is_any.then(|| store.outbox_rejected().ok().flatten()).flatten(),
            awaiting_receipt: depth.awaiting_receipt(),
            unreceived_since: depth.unreceived_since,
        }
    }

    fn outbox_depth(&self) -> OutboxDepth {
        let store = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        // The core reports a store that cannot be read.
        store.outbox_depth().unwrap_or_default()
    }

    /// The cases that are held back for other boxes, for the health message.
    fn held_back(&self) -> Vec<HeldBackCase> {
        let store = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        // The core reports a store that cannot be read.
        let held_back = store.held_back(MAX_HELD_BACK).unwrap_or_default();
        let config = self.config();
        let told = held_back.into_iter().map(|(case_id, held)| HeldBackCase {
            case_id,
            other_node_id: held.node_id,
            other_case_id: held.case_id,
            filed: held.is_filed,
            since: When::new(held.since, &config.timezone),
        });
        told.collect()
    }

    fn chain_head(&self, node: &NodeId, now: Timestamp) -> Option<SignedChainHead> {
        let store = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = store.signed_chain_head(node.as_str(), now);
        // Noticed here before a case has to be signed. The core reports a store that cannot be read.
        let fault = match &signed {
            Err(StoreError::Key(error)) => Some(error.to_string()),
            _ => None,
        };
        if let (Some(reason), true) = (
            &fault,
            self.health.set_blocker(SIGNING, fault.clone().map(Message::from)),
        ) {
            tracing::error!(
                reason,
                "Cannot sign; cases wait until the signing key's token works again"
            );
        }
        let (head, signature) = signed.ok()??;
        Some(SignedChainHead { head, signature })
    }

    /// Updates the gauges and the readiness, which are cheaper to read on a request than to keep current.
    fn refresh(&self) {
        self.refresh_readiness();
        gauge!(metric::STRETCH).set(self.looks.stretch());
        for camera in &self.looks.cameras().cameras {
            let id = camera.id.to_string();
            let state = camera.slot.state();
            for name in CameraState::NAMES {
                let is = if state.as_str() == name { 1.0 } else { 0.0 };
                gauge!(metric::CAMERA_STATE, "camera" => id.clone(), "state" => name).set(is);
            }
            let stats = camera.slot.stats();
            if let Some(interval) = stats.keyframe_interval {
                gauge!(metric::KEYFRAME_INTERVAL, "camera" => id.clone()).set(interval.as_secs_f64());
            }
            counter!(metric::LOST_PACKETS, "camera" => id.clone()).absolute(stats.lost_packets);
            counter!(metric::DAMAGED, "camera" => id.clone()).absolute(stats.damaged);
            counter!(metric::DECODE_CRASHES, "camera" => id.clone()).absolute(stats.crashes);
            counter!(metric::RECONNECTS, "camera" => id).absolute(stats.reconnects);
        }
    }
}
