//! Starts the daemon in stages: storage, models, cameras, engine and link first, then the threads that connect them, and last
//! the receivers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, RwLock, atomic::AtomicU64, mpsc},
    thread,
};

use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    sync::{Notify, mpsc::Sender, watch},
    task::JoinHandle,
};

use super::{
    Daemon, Shared, Threads,
    activity::Activity,
    console::{ConsoleAccess, ConsoleServer},
    core::Core,
    error::StartError,
    evidence_worker::EvidenceWorker,
    filing_gate::FilingGate,
    held_places::HeldPlaces,
    inbox::{Inbox, InboxSenders},
    look_board::LookBoard,
    looks::{CameraSet, LookScheduler, LookWorker},
    messages::{CoreEvent, EvidenceJob},
    models::{ManagerMessage, ModelManager},
    pictures::{self, MaskDetector},
    pinned_frames::PinnedFrames,
    record::RecordBuilder,
    reload::{Reloader, Running, link_settings},
    runtime::OwnedRuntime,
    sites,
    text_reader::TextReader,
};
use crate::{
    audit::{self, NewConfiguration},
    crashes::crash_log,
    decoders,
    telemetry::{self, Health},
};
use gridwatch_base::installation::Installation;
use gridwatch_camera::{
    Backend,
    decode::{CrashLog, DecodeError, DecodeMode, Decoder},
    slot::Slot,
};
use gridwatch_config::Config;
use gridwatch_custody::vault::{Vault, VaultKey};
use gridwatch_engine::{CameraId, Snapshot};
use gridwatch_ledger::{RecordedEngine, Recorder, RunInfo};
use gridwatch_link::{Link, LinkState};
use gridwatch_model as model;
use gridwatch_store::Store;
use gridwatch_vision::change::ChangeBuffers;

impl Daemon {
    /// Loads the models, opens the store and starts every thread. Cameras and the broker may be unreachable: connections are
    /// retried until the daemon stops.
    ///
    /// # Errors
    /// When a retry cannot help: a library, a model, a decoder or the store is missing or unusable.
    pub async fn start(config: Arc<Config>, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let listener = match config.telemetry.listen {
            Some(address) => Some(telemetry::bind(address).await?),
            None => None,
        };
        test_decoders(config.decoders)?;
        let storage = open_storage(&config)?;
        let decode_mode = decoders::mode(crash_log(&config)?);
        let models = load_models(&config, &decode_mode)?;
        let engine = restore_engine(&config, &storage.store)?;
        let (senders, inbox) = Inbox::new().map_err(StartError::Thread)?;
        let InboxSenders {
            events,
            replies,
            claims,
        } = senders;
        let link_state = watch::Sender::new(LinkState::default());
        let sharing = sites::site_sharing(&config, sites::yielded_to(engine.snapshot.as_ref()), claims.clone());
        let settings = link_settings(&config, &storage.installation);
        let link = Link::prepare(settings, &storage.store)?.start(&link_state, replies.clone(), sharing)?;
        let new_picture = Arc::new(Notify::new());
        let slots = config
            .cameras
            .iter()
            .map(|c| (c.id.clone(), Slot::new(c.id.clone(), Arc::clone(&new_picture))));
        let slots: BTreeMap<CameraId, Arc<Slot>> = slots.collect();
        let set = CameraSet::new(&config, &slots, &storage.key, None);
        let board = Arc::new(LookBoard::default());
        let shared = Arc::new(Shared {
            looks: Arc::new(LookScheduler::new(set, config.workers, Arc::clone(&board))),
            board,
            health: Arc::new(Health::default()),
            pinned: Arc::new(AtomicU64::new(0)),
            outbox: Mutex::new(storage.outbox),
            link: Mutex::new(Some(link)),
            link_state,
            config: RwLock::new(Arc::clone(&config)),
            configured: watch::Sender::new(()),
        });

        let (jobs, job_queue) = mpsc::channel();
        let pinned = PinnedFrames::new(&config.state_dir, Arc::clone(&storage.key), Arc::clone(&shared.pinned));
        let core = start_core(
            &config,
            &shared,
            (storage.store, pinned),
            engine,
            CoreChannels { inbox, jobs },
        )?;
        let evidence_worker = EvidenceWorker {
            decoder: Decoder::with_mode("evidence", config.decoders, &decode_mode)?,
            settings: pictures::evidence_settings(&config, |camera| models.manager.descriptors(camera)),
            state_dir: config.state_dir.clone(),
            mask_detector: models.mask_detector,
            vault: storage.vault,
        };
        let to_core = events.clone();
        let evidence_worker = spawn("evidence", move || evidence_worker.run(&job_queue, &to_core))?;
        let manager = spawn("models", move || models.manager.run())?;
        let look_workers = start_look_workers(&shared.looks, models.look_workers, &events)?;
        let receiving = receiving_runtime()?;
        let waker = wake_for_pictures(&receiving, &new_picture, &shared.looks);
        let reloader = Reloader {
            started_with: Arc::clone(&config),
            shared: Arc::clone(&shared),
            key: storage.key,
            decode_mode,
            runtime: models.runtime,
            installation: storage.installation,
            receiving: receiving.handle().clone(),
            new_picture,
            to_models: models.reports.clone(),
            running: Mutex::new(None),
            reloading: Mutex::new(()),
            last: Mutex::new((Timestamp::now(), None)),
        };
        let mut running = Running {
            sources: BTreeMap::new(),
            events: events.clone(),
            replies,
            claims,
        };
        reloader.receive(&config, slots, &mut running)?;
        let reloader = Arc::new(reloader.with(running));
        reloader.record_version();
        if let Some(listener) = listener {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "Serving /healthz, /readyz and /metrics");
            }
            let refresh = Arc::clone(&shared);
            let refresh = Arc::new(move || refresh.refresh());
            telemetry::serve(listener, Arc::clone(&shared.health), metrics.clone(), refresh);
        }
        let console = ConsoleServer::start(Arc::new(ConsoleAccess::new(
            Arc::clone(&shared),
            Arc::clone(&reloader),
            &events,
            metrics,
        )))
        .await?;
        tracing::info!(
            cameras = config.cameras.len(),
            models = config.models.len(),
            workers = config.workers,
            "gridwatch started"
        );
        shared.health.started();
        Ok(Self {
            shared,
            reloader,
            watching: Vec::new(),
            console,
            waker,
            receiving,
            threads: Threads {
                look_workers,
                models: manager,
                to_models: models.reports,
                evidence_worker,
                core,
            },
            events,
        })
    }
}

/// Fails if no codec can be decoded with the configured kind of decoder, because then no camera can be looked at.
pub(super) fn test_decoders(backend: Backend) -> Result<(), DecodeError> {
    let results = decoders::test(backend, &decoders::mode(CrashLog::default()));
    let works = results.iter().any(|(_, decoded)| decoded.is_ok());
    for (codec, decoded) in results {
        match decoded {
            Err(error) if !works => return Err(error),
            Err(error) => {
                tracing::warn!(?codec, %error, "No decoder for this codec; cameras that send it cannot be looked at");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The store, a second handle on it for the outbox's depth, and the vault of originals.
struct Storage {
    store: Store,
    outbox: Store,
    /// `None` if the configuration keeps no originals.
    vault: Option<Vault>,
    /// Encrypts the originals and the pictures of views.
    key: Arc<VaultKey>,
    installation: Installation,
}

fn open_storage(config: &Config) -> Result<Storage, StartError> {
    let keys = config.keys();
    let mut store = Store::open_with(&config.state_dir, &keys)?;
    let configuration = NewConfiguration {
        sha256: &config.config_sha256,
        file: &config.file,
        to_syslog: config.audit_to_syslog,
        occasion: "start",
    };
    audit::record_configuration(&mut store, &configuration)?;
    let place = config.evidence.originals.as_ref();
    let key = keys.adopt_originals(config.originals_key())?;
    if key.is_being_rotated() {
        tracing::warn!(
            "The rotation of the originals' key was interrupted; everything can still be decrypted. Stop gridwatch and finish it (gridwatch keys rotate --originals)"
        );
    }
    Ok(Storage {
        outbox: store.outbox_handle()?,
        store,
        vault: place.map(|_| Vault::new(&config.state_dir, key.clone())),
        key: Arc::new(key),
        installation: Installation::of(&config.state_dir).map_err(|source| StartError::Installation {
            state_dir: config.state_dir.clone(),
            source,
        })?,
    })
}

/// The loaded models, with a worker for each thread that runs them.
struct Models {
    manager: ModelManager,
    reports: mpsc::Sender<ManagerMessage>,
    runtime: model::Runtime,
    look_workers: Vec<LookWorker>,
    mask_detector: Option<MaskDetector>,
}

fn load_models(config: &Arc<Config>, decode_mode: &DecodeMode) -> Result<Models, StartError> {
    let runtime = model::runtime::init(config.onnxruntime.as_deref())?.with(config.inference.clone());
    let text_readers = TextReader::for_workers(config, &runtime)?;
    let mask_detector = pictures::mask_detector(config, &runtime)?;
    let (reports, inbox) = mpsc::channel();
    let (manager, worker_models) = ModelManager::start(config, runtime.clone(), &reports, inbox)?;
    let look_workers = worker_models.into_iter().zip(text_readers).enumerate();
    let look_workers = look_workers.map(|(i, (models, text_reader))| {
        Ok::<_, StartError>(LookWorker {
            decoder: Decoder::with_mode(&format!("decode{i}"), config.decoders, decode_mode)?,
            models,
            text_reader,
            change_buffers: ChangeBuffers::default(),
        })
    });
    Ok(Models {
        look_workers: look_workers.collect::<Result<_, _>>()?,
        manager,
        reports,
        runtime,
        mask_detector,
    })
}

/// The engine with the cases of the last run.
struct RestoredEngine {
    engine: RecordedEngine,
    /// Candidates and other engine state of the last run that are not cases yet; not applied yet.
    snapshot: Option<Snapshot>,
}

fn restore_engine(config: &Config, store: &Store) -> Result<RestoredEngine, StartError> {
    let started_at = Timestamp::now();
    // Closed cases are forgotten some time after they ended. A clock that is ahead must not make that sooner; the engine forgets
    // those that are restored too long.
    let newest = store.newest_trusted_time()?.unwrap_or(started_at);
    let cases = store.cases_to_restore(started_at.min(newest))?;
    if !cases.is_empty() {
        tracing::info!(cases = cases.len(), "Restored cases of the last run");
    }
    let snapshot = store.load_snapshot()?;
    let engine = RecordedEngine::start(Arc::clone(&config.plan), cases, recorder(config, started_at)?);
    Ok(RestoredEngine { engine, snapshot })
}

/// The ledger's recorder, unless the configuration disables the ledger.
pub(super) fn recorder(config: &Config, started_at: Timestamp) -> Result<Option<Recorder>, StartError> {
    let Some(settings) = config.ledger.clone() else {
        return Ok(None);
    };
    let run = RunInfo {
        started_at,
        // Informational only, so recording continues on kernels without it.
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default(),
        config_sha256: config.config_sha256.clone(),
    };
    Recorder::spawn(settings, run).map(Some).map_err(StartError::Thread)
}

struct CoreChannels {
    inbox: Inbox,
    /// To the evidence worker.
    jobs: mpsc::Sender<EvidenceJob>,
}

fn start_core(
    config: &Arc<Config>,
    shared: &Shared,
    (store, pinned): (Store, PinnedFrames),
    restored: RestoredEngine,
    channels: CoreChannels,
) -> Result<thread::JoinHandle<()>, StartError> {
    let mut core = Core {
        gate: FilingGate::new(&store, Arc::clone(&shared.health), shared.link_state.subscribe())?,
        engine: restored.engine,
        store,
        records: Arc::new(RecordBuilder::new(config)),
        config: Arc::clone(config),
        pinned,
        looks: Arc::clone(&shared.looks),
        held_places: HeldPlaces::default(),
        evidence: Some(channels.jobs),
        health: Arc::clone(&shared.health),
        board: Arc::clone(&shared.board),
        uncommitted: Vec::new(),
        refused_transitions: BTreeSet::new(),
        activity: Activity::default(),
        storage_fault: None,
    };
    if let Some(snapshot) = restored.snapshot {
        core.resume(snapshot);
    }
    if !config.broker.share_sites {
        core.end_hold_backs();
    }
    core.hold_open_cases();
    spawn("core", move || core.run(channels.inbox))
}

fn start_look_workers(
    looks: &Arc<LookScheduler>,
    workers: Vec<LookWorker>,
    events: &Sender<CoreEvent>,
) -> Result<Vec<thread::JoinHandle<()>>, StartError> {
    let start = |(i, worker): (usize, LookWorker)| {
        let (looks, events) = (Arc::clone(looks), events.clone());
        spawn(&format!("look-{i}"), move || looks.work(i, worker, &events))
    };
    workers.into_iter().enumerate().map(start).collect()
}

fn receiving_runtime() -> Result<OwnedRuntime, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("receive")
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    Ok(OwnedRuntime::new(runtime))
}

/// Wakes a look worker at each new picture.
fn wake_for_pictures(runtime: &OwnedRuntime, new_picture: &Arc<Notify>, looks: &Arc<LookScheduler>) -> JoinHandle<()> {
    let (new_picture, looks) = (Arc::clone(new_picture), Arc::clone(looks));
    runtime.handle().spawn(async move {
        loop {
            new_picture.notified().await;
            looks.wake();
        }
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, StartError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StartError::Thread)
}
