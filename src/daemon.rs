//! Wires the rooms and owns the tasks: receivers and looks on one side, the core in the middle, keeper, store and link on
//! the other. It holds no logic that a room could own.

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
    core::{Core, Event},
    evidence_worker::EvidenceWorker,
    looks::{LookWorker, Looks, Watched, Watching},
    models::{ModelManager, Report},
    number_reader::{NumberReader, ReadSchedule},
    pinned_frames::PinnedFrames,
    record::Records,
    view_monitor::ViewMonitor,
};
use crate::telemetry::{self, Health, TelemetryError};
use gridwatch_base::{clock, error::Class, metric};
use gridwatch_camera::{
    decode::{DecodeError, Decoder},
    gst_source::{self, GstSource},
    receive::{Patience, Receiver, Settings},
    slot::{Slot, State},
};
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::{CameraHealth, ClockHealth, HealthMessage, SCHEMA_VERSION, When};
use gridwatch_custody::{
    keys::{KeyError, KeyRing},
    vault::Vault,
};
use gridwatch_ledger::{Recorded, Recorder, Run};
use gridwatch_link as link;
use gridwatch_link::{Link, LinkHandle, LinkState};
use gridwatch_model as model;
use gridwatch_model::{ModelError, registry::RegistryError};
use gridwatch_store::{Store, StoreError};

/// Why the daemon could not start. Once it runs, nothing ends it but a signal.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The registry's folder cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A model is not what the configuration took it for.
    #[error("{0}")]
    Unfit(String),
    /// ONNX Runtime cannot be used.
    #[error(transparent)]
    Library(#[from] model::runtime::LibraryError),
    /// No decoder.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What originals are encrypted with cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The link's settings are wrong.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// Metrics and health cannot be served.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The system gives no more threads.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

impl StartError {
    /// What it means.
    pub fn class(&self) -> Class {
        match self {
            Self::Model(e) => e.class(),
            Self::Registry(e) => e.class(),
            Self::Unfit(_) => Class::Config,
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

/// How the daemon is, in numbers, for whoever shows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Cameras configured.
    pub cameras: usize,
    /// Cameras whose pictures arrive.
    pub cameras_live: usize,
    /// Looks judged.
    pub looks: u64,
    /// Looks kept because a candidate began or may end there.
    pub pinned: usize,
    /// Messages that wait for the broker.
    pub outbox: u64,
}

/// How many events may wait for the core: a few looks of every camera.
const QUEUE: usize = 256;

/// Sources that GStreamer opens may take this long to begin.
const SOURCE_IDLE: Duration = Duration::from_secs(20);

/// How often the platform is told how the cameras are.
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// A running daemon.
pub struct Daemon {
    config: Arc<Config>,
    shared: Arc<Shared>,
    receivers: Vec<Camera>,
    receive: tokio::runtime::Runtime,
    waker: tokio::task::JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    models: JoinHandle<()>,
    to_models: mpsc::Sender<Report>,
    keeper: JoinHandle<()>,
    core: JoinHandle<()>,
    replies: JoinHandle<()>,
    claims: JoinHandle<()>,
    events: SyncSender<Event>,
    link: LinkHandle,
}

/// What stays readable while everything works.
struct Shared {
    looks: Arc<Looks>,
    health: Arc<Health>,
    pinned: Arc<AtomicU64>,
    outbox: Mutex<Store>,
}

/// Whoever receives a camera; dropped, it stops.
#[expect(dead_code, reason = "held for their drop")]
pub(crate) enum Camera {
    Rtsp(Receiver),
    Other(GstSource),
}

impl Daemon {
    /// Loads, connects and starts everything. Cameras and the broker may be away: they are tried again for ever.
    ///
    /// # Errors
    /// When something is missing that trying again will not bring: a library, a model, a decoder, the store.
    pub async fn start(config: Arc<Config>, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let health = Arc::new(Health::default());
        let store = Store::open(&config.state_dir)?;
        let runtime = model::runtime::init(config.onnxruntime.as_deref())?.with(config.inference.clone());
        let (to_models, from_workers) = mpsc::channel();
        let spectacles = NumberReader::make(&config, &runtime)?;
        let masks = pictures::masks(&config, &runtime)?;
        let key = config.evidence.originals.as_ref();
        let key = key
            .map(|place| KeyRing::of(&config.state_dir).originals(place))
            .transpose()?;
        let vault = key.map(|key| Vault::new(&config.state_dir, key));
        let (models, crews) = ModelManager::start(&config, runtime, &to_models, from_workers)?;
        let eyes: Vec<LookWorker> = crews
            .into_iter()
            .zip(spectacles)
            .enumerate()
            .map(|(i, (crew, spectacles))| {
                Ok::<_, StartError>(LookWorker {
                    decoder: Decoder::new(&format!("decode{i}"), config.decoders)?,
                    crew,
                    spectacles,
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
            .map(|(c, slot)| watch(&config, c, slot))
            .collect();
        let periods: Vec<Duration> = config.cameras.iter().map(|c| c.look_every).collect();
        let looks = Arc::new(Looks::new(watched, &periods));

        let (events, inbox) = mpsc::sync_channel(QUEUE);
        let (jobs, job_queue) = mpsc::channel();
        let pinned = Arc::new(AtomicU64::new(0));
        let started_at = Timestamp::now();
        let restored = store.remembered(started_at)?;
        if !restored.is_empty() {
            tracing::info!(cases = restored.len(), "The cases of the last run are remembered.");
        }
        let snapshot = store.snapshot()?;
        let engine = Recorded::start(Arc::clone(&config.plan), restored, recorder(&config, started_at)?);
        let (replies_in, mut replies) = tokio::sync::mpsc::channel(16);
        let (claims_in, mut claims) = tokio::sync::mpsc::unbounded_channel();
        let link = Link::spawn(
            crate::broker::link_settings(&config.node, &config.broker, &config.timezone),
            &store,
            replies_in,
            sites::sharing(&config, snapshot.as_ref(), claims_in),
        )?;
        let outbox = Mutex::new(store.outbox_handle()?);

        let mut core = Core {
            engine,
            store,
            records: Records::new(&config),
            config: Arc::clone(&config),
            pins: PinnedFrames::new(&config.state_dir, Arc::clone(&pinned)),
            look_by: {
                let looks = Arc::clone(&looks);
                Box::new(move |camera, by| looks.look_by(camera, by))
            },
            second_look_at: {
                let looks = Arc::clone(&looks);
                Box::new(move |view, rule, place| looks.second_look_at(view, rule, place))
            },
            keeper: Some(jobs),
            health: Arc::clone(&health),
            uncommitted: Vec::new(),
        };
        if let Some(snapshot) = snapshot {
            core.resume(snapshot);
        }
        let core = thread("core", move || core.run(&inbox))?;
        let keeper = EvidenceWorker {
            decoder: Decoder::new("keeper", config.decoders)?,
            settings: config
                .cameras
                .iter()
                .flat_map(|c| c.presets.iter().map(move |p| (c, p)))
                .map(|(c, p)| (p.view.clone(), pictures::settings(&config, &models.looks_at(c), p)))
                .collect(),
            state_dir: config.state_dir.clone(),
            masks,
            vault,
        };
        let keeper = {
            let events = events.clone();
            thread("keeper", move || keeper.run(&job_queue, &events))?
        };
        let models = thread("models", move || models.run())?;
        let workers = eyes
            .into_iter()
            .enumerate()
            .map(|(i, eyes)| {
                let (looks, events) = (Arc::clone(&looks), events.clone());
                thread(&format!("look-{i}"), move || looks.work(eyes, &events))
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
                if to_core.send(Event::Reply(reply)).is_err() {
                    return;
                }
            }
        })?;
        let to_core = events.clone();
        let claims = thread("claims", move || {
            while let Some(known) = claims.blocking_recv() {
                if to_core.send(Event::Elsewhere(known)).is_err() {
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
            tracing::info!(%address, "Serving /healthz, /readyz and /metrics.");
        }
        tracing::info!(
            cameras = config.cameras.len(),
            models = config.models.len(),
            workers = config.workers,
            "gridwatch is watching."
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
            keeper,
            core,
            replies,
            claims,
            events,
            link,
        })
    }

    /// How it is.
    pub fn snapshot(&self) -> Snapshot {
        let cameras = &self.shared.looks.cameras;
        Snapshot {
            cameras: cameras.len(),
            cameras_live: cameras
                .iter()
                .filter(|c| matches!(c.slot.state(), State::Live | State::Degraded { .. }))
                .count(),
            looks: cameras.iter().map(|c| c.looks.load(Ordering::Relaxed)).sum(),
            pinned: self.shared.pinned.load(Ordering::Relaxed) as usize,
            outbox: self.shared.outbox_depth(),
        }
    }

    /// For the watchdog.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.shared.health)
    }

    /// How the link to the broker is.
    pub fn link(&self) -> tokio::sync::watch::Receiver<LinkState> {
        self.link.state()
    }

    /// Tells the platform once a minute how the cameras are, until `stop` is ready.
    pub async fn until<T>(&self, stop: impl Future<Output = T>) -> T {
        let mut every = tokio::time::interval(HEALTH_EVERY);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                done = &mut stop => return done,
                _ = every.tick() => match serde_json::to_value(self.health_message()) {
                    Ok(message) => self.link.publish_health(&message),
                    Err(error) => tracing::error!(%error, "The health message could not be written; please report it."),
                },
            }
        }
    }

    fn health_message(&self) -> HealthMessage {
        let now = Timestamp::now();
        let camera = |c: &Watched| {
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

    /// Stops in the order of the data: no more pictures, no more looks, the cases under way are finished, the link takes
    /// its leave. What the broker has not acknowledged stays in the outbox.
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
            keeper,
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
            workers.into_iter().for_each(|w| ended("look", w));
            // It goes on until then: sessions that workers leave are put away there.
            let _ = to_models.send(Report::Stop);
            ended("models", models);
            // Told to stop, the core lets go of the keeper, whose last events it still takes.
            let _ = events.send(Event::Stop);
            drop(events);
            ended("keeper", keeper);
        })
        .await;
        link.shutdown().await;
        join(move || {
            ended("replies", replies);
            ended("claims", claims);
            ended("core", core);
        })
        .await;
        receive.shutdown_background();
        tracing::info!("Stopped.");
    }
}

async fn join(threads: impl FnOnce() + Send + 'static) {
    // Fails only where `threads` panicked, which joining does not.
    let _ = tokio::task::spawn_blocking(threads).await;
}

fn ended(name: &str, thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!(thread = name, "A thread had panicked; please report it.");
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
        // A store that cannot be read is the core's to report.
        store.outbox_depth().map_or(0, |depth| depth.waiting.into())
    }

    /// Gauges that are cheaper to read when asked than to keep.
    fn refresh(&self) {
        gauge!(metric::STRETCH).set(self.looks.stretch());
        for camera in &self.looks.cameras {
            let id = camera.id.to_string();
            let state = camera.slot.state();
            for name in ["connecting", "live", "degraded", "down", "ended"] {
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

/// Records what the engine is told, unless the configuration says otherwise.
fn recorder(config: &Config, started_at: Timestamp) -> Result<Option<Recorder>, StartError> {
    let Some(settings) = config.ledger.clone() else {
        return Ok(None);
    };
    let run = Run {
        started_at,
        // Only a name for people: a kernel without it is no reason not to record.
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default(),
        config_sha256: config.config_sha256.clone(),
    };
    Recorder::spawn(settings, run).map(Some).map_err(StartError::Thread)
}

fn watch(config: &Config, camera: &config::Camera, slot: &Arc<Slot>) -> Watched {
    Watched {
        id: camera.id.clone(),
        slot: Arc::clone(slot),
        presets: camera
            .presets
            .iter()
            .map(|p| Watching {
                view: p.view.clone(),
                privacy: p.privacy.clone(),
                pace: ReadSchedule::of(config, camera, p),
            })
            .collect(),
        gaze: Mutex::new(ViewMonitor::new(config, camera)),
        seen: AtomicU64::new(0),
        wanted: AtomicI64::new(0),
        closer: Mutex::default(),
        looks: AtomicU64::new(0),
        last_look: AtomicI64::new(0),
        last_view: Mutex::new(None),
    }
}

/// Receives `camera` into `slot` until what is returned is dropped.
pub(crate) fn receive_camera(
    camera: &config::Camera,
    slot: Arc<Slot>,
    on: &tokio::runtime::Handle,
) -> Result<Camera, StartError> {
    let credentials = camera.credentials.clone();
    if camera.url.scheme() == "rtsp" {
        let settings = Settings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials,
            transport: camera.transport,
            look_every: camera.look_every,
            patience: Patience::default(),
        };
        Ok(Camera::Rtsp(Receiver::spawn(settings, slot, on)))
    } else {
        let settings = gst_source::Settings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials,
            ca_file: camera.ca_file.clone(),
            every: camera.look_every / 2,
            looped: true,
            idle: SOURCE_IDLE.max(camera.look_every * 3),
        };
        GstSource::spawn(settings, slot)
            .map(Camera::Other)
            .map_err(StartError::Thread)
    }
}
