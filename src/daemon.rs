//! Wires the crates together and owns the threads: receivers and look workers on one side, the core in the middle, the
//! evidence worker, the store and the link on the other. Logic that belongs to a crate stays in that crate.

mod core;
mod evidence_worker;
mod looks;
mod models;
mod number_reader;
mod pictures;
mod pinned_frames;
mod record;
mod sites;
mod view_monitor;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Notify;

use self::{
    core::{Core, CoreEvent},
    evidence_worker::EvidenceWorker,
    looks::{LookScheduler, LookWorker, WatchedCamera, WatchedView},
    models::{ModelManager, WorkerReport},
    number_reader::{NumberReader, ReadSchedule},
    pinned_frames::PinnedFrames,
    record::RecordBuilder,
    view_monitor::ViewMonitor,
};
use crate::telemetry::{self, Health, TelemetryError};
use gridwatch_base::{clock, error::Class, metric};
use gridwatch_camera::{
    decode::{DecodeError, Decoder},
    gst_source::{GstSource, SourceSettings},
    receive::{Receiver, ReceiverSettings, Timeouts},
    slot::{CameraState, Slot},
};
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::{CameraHealth, ClockHealth, HealthMessage, SCHEMA_VERSION, When};
use gridwatch_custody::{
    keys::{KeyError, KeyRing},
    vault::Vault,
};
use gridwatch_ledger::{RecordedEngine, Recorder, RunInfo};
use gridwatch_link as link;
use gridwatch_link::{Link, LinkHandle, LinkState};
use gridwatch_model as model;
use gridwatch_model::{ModelError, registry::RegistryError};
use gridwatch_store::{Store, StoreError};

/// Why the daemon could not start. Once it runs, only a signal ends it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model registry's folder cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A model does not match the configuration.
    #[error("{0}")]
    ModelMismatch(String),
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Library(#[from] model::runtime::LibraryError),
    /// No decoder is available.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key that encrypts originals cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The MQTT settings are invalid.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// Metrics and health cannot be served.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// A thread could not be spawned.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl StartError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::Model(e) => e.class(),
            Self::Registry(e) => e.class(),
            Self::ModelMismatch(_) => Class::Config,
            Self::Library(e) => e.class(),
            Self::Decode(e) => e.class(),
            Self::Store(e) => e.class(),
            Self::Key(e) => e.class(),
            Self::Link(e) => e.class(),
            Self::Telemetry(e) => e.class(),
            Self::Thread(_) => Class::Transient,
        }
    }
}

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

/// Capacity of the core's inbox: a few looks of every camera.
const QUEUE: usize = 256;

/// A GStreamer source may take this long to deliver its first picture.
const SOURCE_IDLE: Duration = Duration::from_secs(20);

/// Interval of the health messages.
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// A running daemon.
pub struct Daemon {
    config: Arc<Config>,
    shared: Arc<Shared>,
    receivers: Vec<CameraSource>,
    receive: tokio::runtime::Runtime,
    waker: tokio::task::JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    models: JoinHandle<()>,
    to_models: mpsc::Sender<WorkerReport>,
    evidence_worker: JoinHandle<()>,
    core: JoinHandle<()>,
    replies: JoinHandle<()>,
    claims: JoinHandle<()>,
    events: SyncSender<CoreEvent>,
    link: LinkHandle,
}

/// State that metrics and health messages read while the threads run.
struct Shared {
    looks: Arc<LookScheduler>,
    health: Arc<Health>,
    pinned: Arc<AtomicU64>,
    outbox: Mutex<Store>,
}

/// A running receiver; stops on drop.
#[expect(dead_code, reason = "held for their drop")]
pub(crate) enum CameraSource {
    Rtsp(Receiver),
    Gst(GstSource),
}

impl Daemon {
    /// Loads the models, opens the store and starts every thread. Cameras and the broker may be unreachable: connections are
    /// retried until the daemon stops.
    ///
    /// # Errors
    /// When a retry cannot help: a library, a model, a decoder or the store is missing or unusable.
    pub async fn start(config: Arc<Config>, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let health = Arc::new(Health::default());
        let store = Store::open(&config.state_dir)?;
        let runtime = model::runtime::init(config.onnxruntime.as_deref())?.with(config.inference.clone());
        let (to_models, from_workers) = mpsc::channel();
        let number_readers = NumberReader::for_workers(&config, &runtime)?;
        let mask_detector = pictures::mask_detector(&config, &runtime)?;
        let key = config.evidence.originals.as_ref();
        let key = key
            .map(|place| KeyRing::of(&config.state_dir).originals(place))
            .transpose()?;
        let vault = key.map(|key| Vault::new(&config.state_dir, key));
        let (models, worker_models) = ModelManager::start(&config, runtime, &to_models, from_workers)?;
        let look_workers: Vec<LookWorker> = worker_models
            .into_iter()
            .zip(number_readers)
            .enumerate()
            .map(|(i, (models, number_reader))| {
                Ok::<_, StartError>(LookWorker {
                    decoder: Decoder::new(&format!("decode{i}"), config.decoders)?,
                    models,
                    number_reader,
                })
            })
            .collect::<Result<_, _>>()?;

        let changed = Arc::new(Notify::new());
        let slots: Vec<Arc<Slot>> = config
            .cameras
            .iter()
            .map(|c| Slot::new(c.id.clone(), Arc::clone(&changed)))
            .collect();
        let watched = config
            .cameras
            .iter()
            .zip(&slots)
            .map(|(c, slot)| watched_camera(&config, c, slot))
            .collect();
        let periods: Vec<Duration> = config.cameras.iter().map(|c| c.look_every).collect();
        let looks = Arc::new(LookScheduler::new(watched, &periods));

        let (events, inbox) = mpsc::sync_channel(QUEUE);
        let (jobs, job_queue) = mpsc::channel();
        let pinned = Arc::new(AtomicU64::new(0));
        let started_at = Timestamp::now();
        let restored = store.cases_to_restore(started_at)?;
        if !restored.is_empty() {
            tracing::info!(cases = restored.len(), "Restored cases of the last run");
        }
        let snapshot = store.load_snapshot()?;
        let engine = RecordedEngine::start(Arc::clone(&config.plan), restored, recorder(&config, started_at)?);
        let (replies_in, mut replies) = tokio::sync::mpsc::channel(16);
        let (claims_in, mut claims) = tokio::sync::mpsc::unbounded_channel();
        let link = Link::spawn(
            crate::broker::link_settings(&config.node, &config.broker, &config.timezone),
            &store,
            replies_in,
            sites::site_sharing(&config, snapshot.as_ref(), claims_in),
        )?;
        let outbox = Mutex::new(store.outbox_handle()?);

        let mut core = Core {
            engine,
            store,
            records: RecordBuilder::new(&config),
            config: Arc::clone(&config),
            pinned: PinnedFrames::new(&config.state_dir, Arc::clone(&pinned)),
            look_by: {
                let looks = Arc::clone(&looks);
                Box::new(move |camera, by| looks.look_by(camera, by))
            },
            second_look_at: {
                let looks = Arc::clone(&looks);
                Box::new(move |view, rule, place| looks.second_look_at(view, rule, place))
            },
            evidence: Some(jobs),
            health: Arc::clone(&health),
            uncommitted: Vec::new(),
        };
        if let Some(snapshot) = snapshot {
            core.resume(snapshot);
        }
        let core = thread("core", move || core.run(&inbox))?;
        let evidence_worker = EvidenceWorker {
            decoder: Decoder::new("evidence", config.decoders)?,
            settings: config
                .cameras
                .iter()
                .flat_map(|c| c.presets.iter().map(move |p| (c, p)))
                .map(|(c, p)| {
                    (
                        p.view.clone(),
                        pictures::evidence_settings(&config, &models.descriptors(c), p),
                    )
                })
                .collect(),
            state_dir: config.state_dir.clone(),
            mask_detector,
            vault,
        };
        let evidence_worker = {
            let events = events.clone();
            thread("evidence", move || evidence_worker.run(&job_queue, &events))?
        };
        let models = thread("models", move || models.run())?;
        let workers = look_workers
            .into_iter()
            .enumerate()
            .map(|(i, worker)| {
                let (looks, events) = (Arc::clone(&looks), events.clone());
                thread(&format!("look-{i}"), move || looks.work(worker, &events))
            })
            .collect::<Result<_, _>>()?;

        let receive = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("receive")
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let receivers = config
            .cameras
            .iter()
            .zip(slots)
            .map(|(c, slot)| receive_camera(c, slot, receive.handle()))
            .collect::<Result<_, _>>()?;

        let shared = Arc::new(Shared {
            looks,
            health,
            pinned,
            outbox,
        });
        let waker = receive.spawn({
            let looks = Arc::clone(&shared.looks);
            async move {
                loop {
                    changed.notified().await;
                    looks.wake();
                }
            }
        });
        let to_core = events.clone();
        let replies = thread("replies", move || {
            while let Some(reply) = replies.blocking_recv() {
                if to_core.send(CoreEvent::Reply(reply)).is_err() {
                    return;
                }
            }
        })?;
        let to_core = events.clone();
        let claims = thread("claims", move || {
            while let Some(known) = claims.blocking_recv() {
                if to_core.send(CoreEvent::Claim(known)).is_err() {
                    return;
                }
            }
        })?;
        if let Some(listen) = config.telemetry.listen {
            let refresh = Arc::clone(&shared);
            let address = telemetry::serve(
                listen,
                Arc::clone(&shared.health),
                metrics,
                Arc::new(move || refresh.refresh()),
            )
            .await?;
            tracing::info!(%address, "Serving /healthz, /readyz and /metrics");
        }
        tracing::info!(
            cameras = config.cameras.len(),
            models = config.models.len(),
            workers = config.workers,
            "gridwatch started"
        );
        shared.health.started();
        Ok(Self {
            config,
            shared,
            receivers,
            receive,
            waker,
            workers,
            models,
            to_models,
            evidence_worker,
            core,
            replies,
            claims,
            events,
            link,
        })
    }

    /// Current figures.
    pub fn snapshot(&self) -> DaemonSnapshot {
        let cameras = &self.shared.looks.cameras;
        DaemonSnapshot {
            cameras: cameras.len(),
            cameras_live: cameras
                .iter()
                .filter(|c| matches!(c.slot.state(), CameraState::Live | CameraState::Degraded { .. }))
                .count(),
            looks: cameras.iter().map(|c| c.looks.load(Ordering::Relaxed)).sum(),
            pinned: self.shared.pinned.load(Ordering::Relaxed) as usize,
            outbox: self.shared.outbox_depth(),
        }
    }

    /// The health state, which the watchdog reads.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.shared.health)
    }

    /// The state of the broker connection.
    pub fn link(&self) -> tokio::sync::watch::Receiver<LinkState> {
        self.link.state()
    }

    /// Publishes a health message every minute until `stop` completes.
    pub async fn until<T>(&self, stop: impl Future<Output = T>) -> T {
        let mut every = tokio::time::interval(HEALTH_EVERY);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                done = &mut stop => return done,
                _ = every.tick() => match serde_json::to_value(self.health_message()) {
                    Ok(message) => self.link.publish_health(&message),
                    Err(error) => tracing::error!(%error, "Cannot serialize the health message; please report this bug"),
                },
            }
        }
    }

    fn health_message(&self) -> HealthMessage {
        let now = Timestamp::now();
        let camera = |c: &WatchedCamera| {
            let last = c.last_look.load(Ordering::Relaxed);
            CameraHealth {
                local_id: c.id.to_string(),
                state: c.slot.state().as_str().to_owned(),
                view: c
                    .last_view
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .map(|v| looks::view_name(v).to_owned()),
                looks: c.looks.load(Ordering::Relaxed),
                last_look_age_s: (last != 0).then(|| (now.as_millisecond() - last) as f64 / 1000.0),
            }
        };
        HealthMessage {
            schema_version: SCHEMA_VERSION,
            node_id: self.config.node.to_string(),
            at: When::new(now, &self.config.timezone),
            clock: clock::read().ok().map(ClockHealth::new),
            outbox_depth: self.shared.outbox_depth(),
            cameras: self.shared.looks.cameras.iter().map(camera).collect(),
        }
    }

    /// Stops in the direction of the data: receivers, look workers, evidence worker, link, core. Cases in progress are
    /// finished; messages that the broker has not acknowledged stay in the outbox.
    pub async fn stop(self) {
        let Self {
            config: _,
            shared,
            receivers,
            receive,
            waker,
            workers,
            models,
            to_models,
            evidence_worker,
            core,
            replies,
            claims,
            events,
            link,
        } = self;
        drop(receivers);
        waker.abort();
        shared.looks.stop();
        join(move || {
            workers.into_iter().for_each(|w| join_thread("look", w));
            // Only now: until then it frees the sessions that workers put down.
            let _ = to_models.send(WorkerReport::Stop);
            join_thread("models", models);
            // The core closes the evidence worker's queue on `Stop`, and still handles its last events.
            let _ = events.send(CoreEvent::Stop);
            drop(events);
            join_thread("evidence", evidence_worker);
        })
        .await;
        link.shutdown().await;
        join(move || {
            join_thread("replies", replies);
            join_thread("claims", claims);
            join_thread("core", core);
        })
        .await;
        receive.shutdown_background();
        tracing::info!("Stopped");
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

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StartError::Thread)
}

impl Shared {
    fn outbox_depth(&self) -> u64 {
        let store = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        // The core reports a store that cannot be read.
        store.outbox_depth().map_or(0, |depth| depth.waiting.into())
    }

    /// Updates the gauges that are cheaper to read on a scrape than to keep current.
    fn refresh(&self) {
        gauge!(metric::STRETCH).set(self.looks.stretch());
        for camera in &self.looks.cameras {
            let id = camera.id.to_string();
            let state = camera.slot.state();
            for name in ["connecting", "live", "degraded", "down", "join_thread"] {
                let is = if state.as_str() == name { 1.0 } else { 0.0 };
                gauge!(metric::CAMERA_STATE, "camera" => id.clone(), "state" => name).set(is);
            }
            let stats = camera.slot.stats();
            if let Some(interval) = stats.keyframe_interval {
                gauge!(metric::KEYFRAME_INTERVAL, "camera" => id.clone()).set(interval.as_secs_f64());
            }
            counter!(metric::LOST_PACKETS, "camera" => id.clone()).absolute(stats.lost_packets);
            counter!(metric::DAMAGED, "camera" => id.clone()).absolute(stats.damaged);
            counter!(metric::RECONNECTS, "camera" => id).absolute(stats.reconnects);
        }
    }
}

/// The ledger's recorder, unless the configuration disables the ledger.
fn recorder(config: &Config, started_at: Timestamp) -> Result<Option<Recorder>, StartError> {
    let Some(settings) = config.ledger.clone() else {
        return Ok(None);
    };
    let run = RunInfo {
        started_at,
        // Informational only, so a kernel without it is no reason not to record.
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default(),
        config_sha256: config.config_sha256.clone(),
    };
    Recorder::spawn(settings, run).map(Some).map_err(StartError::Thread)
}

fn watched_camera(config: &Config, camera: &config::Camera, slot: &Arc<Slot>) -> WatchedCamera {
    WatchedCamera {
        id: camera.id.clone(),
        slot: Arc::clone(slot),
        presets: camera
            .presets
            .iter()
            .map(|p| WatchedView {
                view: p.view.clone(),
                privacy: p.privacy.clone(),
                read_schedule: ReadSchedule::of(config, camera, p),
            })
            .collect(),
        view_monitor: Mutex::new(ViewMonitor::new(config, camera)),
        looked_seq: AtomicU64::new(0),
        look_from: AtomicI64::new(0),
        second_looks: Mutex::default(),
        looks: AtomicU64::new(0),
        last_look: AtomicI64::new(0),
        last_view: Mutex::new(None),
    }
}

/// Receives `camera` into `slot` until the returned source is dropped.
pub(crate) fn receive_camera(
    camera: &config::Camera,
    slot: Arc<Slot>,
    runtime: &tokio::runtime::Handle,
) -> Result<CameraSource, StartError> {
    let credentials = camera.credentials.clone();
    if camera.url.scheme() == "rtsp" {
        let settings = ReceiverSettings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials,
            transport: camera.transport,
            look_every: camera.look_every,
            timeouts: Timeouts::default(),
        };
        Ok(CameraSource::Rtsp(Receiver::spawn(settings, slot, runtime)))
    } else {
        let settings = SourceSettings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials,
            ca_file: camera.ca_file.clone(),
            every: camera.look_every / 2,
            looped: true,
            idle: SOURCE_IDLE.max(camera.look_every * 3),
        };
        GstSource::spawn(settings, slot)
            .map(CameraSource::Gst)
            .map_err(StartError::Thread)
    }
}
