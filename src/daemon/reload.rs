//! Puts another configuration into force while the daemon runs.
//!
//! Everything that can fail comes first, beside what runs: models and readers are loaded, decoders and certificates tried. Then the change
//! takes effect: between two looks for the look workers, between two inputs for the engine. What a part of the daemon has learned is kept
//! where what it belongs to is still configured: a camera's receiver while its stream is the same, its view, its change map, its tracks.

pub(crate) mod control;
mod request;
pub(crate) mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc::Sender, oneshot},
};

use super::{
    CameraSource, Shared,
    error::StartError,
    evidence_worker::EvidenceUpdate,
    looks::{CameraSet, WorkerUpdate},
    messages::{CoreEvent, NewConfiguration},
    models::{CameraDescriptors, ConfigureRequest, ManagerMessage},
    pictures::{self, MaskDetector},
    receive::{is_same_stream, receive_camera},
    sites,
    start::test_decoders,
    text_reader::{TextReader, are_same_readers},
};
use crate::{broker, open_files::OpenFiles, telemetry};
use gridwatch_base::installation::Installation;
use gridwatch_camera::{
    decode::{DecodeMode, Decoder},
    slot::Slot,
};
use gridwatch_config::{Config, edit::Versions};
use gridwatch_console::daemon::RemovedView;
use gridwatch_custody::vault::{Vault, VaultKey};
use gridwatch_engine::{CameraId, CaseId};
use gridwatch_link::{IncomingReply, Link, LinkProblem, PreparedLink, Settings, SiteNews};
use gridwatch_model as model;

pub(crate) use self::control::{ControlError, request_reload};
pub use self::request::{ReloadOccasion, ReloadOutcome, ReloadReport, ReloadRequest};

/// Puts other configurations into force. One takes effect at a time.
pub struct Reloader {
    /// What needs a restart is in force as this one has it.
    pub(super) started_with: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    pub(super) key: Arc<VaultKey>,
    pub(super) decode_mode: DecodeMode,
    pub(super) runtime: model::Runtime,
    pub(super) installation: Installation,
    /// Where receivers run.
    pub(super) receiving: Handle,
    /// Notified by every slot when its camera has a new picture.
    pub(super) new_picture: Arc<Notify>,
    pub(super) to_models: mpsc::Sender<ManagerMessage>,
    /// Held from the reading of the files until they are in force: what was read first must not take effect last.
    pub(super) reloading: Mutex<()>,
    /// `None` once the daemon stops.
    pub(super) running: Mutex<Option<Running>>,
    /// Since when the configuration is in force, and how the newest reload ended.
    pub(super) last: Mutex<(Timestamp, Option<ReloadReport>)>,
}

/// What runs for the configuration in force, and the ways into the core for what replaces it.
pub(super) struct Running {
    pub(super) sources: BTreeMap<CameraId, (Arc<Slot>, CameraSource)>,
    pub(super) events: Sender<CoreEvent>,
    pub(super) replies: Sender<IncomingReply>,
    pub(super) claims: Sender<SiteNews>,
}

/// What another configuration needs, ready to take effect.
struct Prepared {
    config: Arc<Config>,
    models: PreparedModels,
    workers: Vec<WorkerUpdate>,
    mask_detector: Option<Option<MaskDetector>>,
    evidence_decoder: Option<Decoder>,
    /// `None` if the running one does.
    link: Option<PreparedLink>,
}

/// Models that the model manager holds ready.
struct PreparedModels {
    descriptors: CameraDescriptors,
    take_effect: mpsc::Sender<()>,
    done: mpsc::Receiver<()>,
}

/// Why a configuration without faults does not take effect.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// Something that it needs cannot be used.
    #[error(transparent)]
    Unusable(#[from] StartError),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Reloader {
    /// Ends reloads, after the one in progress; returns what runs.
    pub(super) fn close(&self) -> Option<Running> {
        self.running().take()
    }

    /// Since when the configuration is in force, and how the newest reload ended.
    pub(super) fn last(&self) -> (Timestamp, Option<ReloadReport>) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    /// Prepares everything that `config` needs and puts it aside again: whether [`Reloader::apply`] would succeed. It blocks.
    ///
    /// # Errors
    /// Something cannot be used.
    pub(super) fn rehearse(&self, config: Config) -> Result<(), ReloadError> {
        let running = self.running();
        if running.is_none() {
            return Err(ReloadError::Stopping);
        }
        self.prepare(&self.config(), Arc::new(config))?;
        Ok(())
    }

    /// Puts `config` into force; returns what was going on at views that are no longer configured. It blocks, for seconds if models have to
    /// be loaded or the link reconnects; the cameras are looked at meanwhile. Settings that need a restart must be those in force.
    ///
    /// # Errors
    /// Something cannot be used; then nothing is changed.
    pub(super) fn apply(&self, config: Config, occasion: &'static str) -> Result<Vec<RemovedView>, ReloadError> {
        let mut guard = self.running();
        let running = guard.as_mut().ok_or(ReloadError::Stopping)?;
        let before = self.config();
        let Prepared {
            config,
            models,
            workers,
            mask_detector,
            evidence_decoder,
            link,
        } = self.prepare(&before, Arc::new(config))?;

        let files = OpenFiles::raise(&config.cameras, config.workers);
        if let Some(reason) = files.shortage() {
            tracing::error!(reason, "Limit of open files is too low; cameras and decoders will fail");
        }
        let slots = self.slots(&before, &config, running);
        let set = CameraSet::new(
            &config,
            &slots,
            &self.key,
            Some((&before, &self.shared.looks.cameras())),
        );
        let PreparedModels {
            descriptors,
            take_effect,
            done,
        } = models;
        self.shared.looks.replace(set, workers.into_iter(), || {
            let _ = take_effect.send(());
            // An error means that the manager has ended, which it does only at the stop.
            let _ = done.recv();
        });
        let settings = pictures::evidence_settings(&config, |camera| {
            descriptors.get(&camera.id).cloned().unwrap_or_default()
        });
        let (told, removed) = oneshot::channel();
        let new = NewConfiguration {
            config: Arc::clone(&config),
            evidence: EvidenceUpdate {
                settings,
                mask_detector,
                decoder: evidence_decoder,
                vault: self.vault(&before, &config),
            },
            occasion,
            done: told,
        };
        let sent = running.events.blocking_send(CoreEvent::Configured(Box::new(new)));
        let removed = sent.ok().and_then(|()| removed.blocking_recv().ok());
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
        self.shared.configured.send_replace(());
        // The old ones end first: a camera may serve one client only.
        running
            .sources
            .retain(|id, (slot, _)| slots.get(id).is_some_and(|kept| Arc::ptr_eq(kept, slot)));
        for camera in &config.cameras {
            if let Some((_, source)) = running.sources.get(&camera.id) {
                source.set_look_every(camera.look_every);
            }
        }
        if let Err(error) = self.receive(&config, slots, running) {
            tracing::error!(%error, "Cannot receive from a camera; restart the daemon");
        }
        self.clear_gauges(&before, &config);
        if let Some(link) = link {
            self.replace_link(link, &config, running);
        }
        let logs = |c: &Config| (c.telemetry.log, c.telemetry.filter.clone());
        if logs(&before) != logs(&config) {
            telemetry::change_logs(config.telemetry.log, &config.telemetry.filter);
        }
        removed.ok_or(ReloadError::Stopping)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self, before: &Config, config: Arc<Config>) -> Result<Prepared, StartError> {
        telemetry::check_filter(&config.telemetry.filter)?;
        let is_same_inference = before.inference == config.inference;
        let runtime = self.runtime.clone().with(config.inference.clone());
        let decoder = |name: &str| Decoder::with_mode(name, config.decoders, &self.decode_mode);
        let is_same_decoder = before.decoders == config.decoders;
        if !is_same_decoder {
            test_decoders(config.decoders)?;
        }
        let mut workers: Vec<WorkerUpdate> = Vec::new();
        workers.resize_with(config.workers, WorkerUpdate::default);
        if !is_same_decoder {
            for (i, worker) in workers.iter_mut().enumerate() {
                worker.decoder = Some(decoder(&format!("decode{i}"))?);
            }
        }
        if !are_same_readers(before, &config) {
            for (worker, reader) in workers.iter_mut().zip(TextReader::for_workers(&config, &runtime)?) {
                worker.text_reader = Some(reader);
            }
        }
        let masks = |c: &Config| (c.evidence.mask, c.evidence.mask_models.clone());
        let mask_detector = match masks(before) == masks(&config) && is_same_inference {
            true => None,
            false => Some(pictures::mask_detector(&config, &runtime)?),
        };
        let link = self.prepare_link(before, &config)?;
        let models = self.prepare_models(&config)?;
        Ok(Prepared {
            models,
            workers,
            mask_detector,
            evidence_decoder: (!is_same_decoder).then(|| decoder("evidence")).transpose()?,
            link,
            config,
        })
    }

    fn prepare_models(&self, config: &Arc<Config>) -> Result<PreparedModels, StartError> {
        let (prepared, is_prepared) = mpsc::channel();
        let (take_effect, decision) = mpsc::channel();
        let (done_in, done) = mpsc::channel();
        let request = ConfigureRequest {
            config: Arc::clone(config),
            prepared,
            decision,
            done: done_in,
        };
        let ended = || StartError::Thread(io::Error::other("the model manager has ended"));
        let sent = self.to_models.send(ManagerMessage::Configure(request));
        sent.map_err(|_| ended())?;
        let descriptors = is_prepared.recv().map_err(|_| ended())??;
        Ok(PreparedModels {
            descriptors,
            take_effect,
            done,
        })
    }

    fn prepare_link(&self, before: &Config, config: &Config) -> Result<Option<PreparedLink>, StartError> {
        let settings = |config: &Config| link_settings(config, &self.installation);
        if settings(before) == settings(config) && sites::is_same_sharing(before, config) {
            return Ok(None);
        }
        let store = self.shared.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Link::prepare(settings(config), &store)?))
    }

    /// Ends the running link and starts `link`; cases and replies wait meanwhile, in the outbox and at the broker.
    fn replace_link(&self, link: PreparedLink, config: &Config, running: &Running) {
        let before = self.shared.link().take();
        if let Some(before) = before {
            Handle::current().block_on(before.shutdown());
        }
        self.shared.link_state.send_modify(|state| {
            state.connected = false;
            state.down_since.get_or_insert_with(Timestamp::now);
            state.problem.get_or_insert(LinkProblem::Unreachable);
            state.last_error = Some("reconnecting with changed settings".into());
            state.replies_denied = None;
        });
        let held_back = {
            let store = self.shared.outbox.lock().unwrap_or_else(PoisonError::into_inner);
            store.held_back(u32::MAX)
        };
        // The core reports a store that cannot be read.
        let held_back = held_back.unwrap_or_default().into_iter();
        let yielded_to: BTreeSet<CaseId> = held_back.map(|(_, held)| CaseId::from(held.case_id)).collect();
        let sharing = sites::site_sharing(config, yielded_to, running.claims.clone());
        match link.start(&self.shared.link_state, running.replies.clone(), sharing) {
            Ok(link) => *self.shared.link() = Some(link),
            Err(error) => {
                tracing::error!(%error, "Cannot start the link to the broker; cases stay in the outbox until the daemon is restarted");
            }
        }
    }

    /// A slot for each camera of `config`: the one in use if its stream is the same as `before`.
    fn slots(&self, before: &Config, config: &Config, running: &Running) -> BTreeMap<CameraId, Arc<Slot>> {
        let slot = |camera: &gridwatch_config::Camera| {
            let known = before.cameras.iter().find(|c| c.id == camera.id);
            let kept = known.filter(|known| is_same_stream(known, camera));
            let kept = kept.and_then(|_| running.sources.get(&camera.id));
            let slot = match kept {
                Some((slot, _)) => Arc::clone(slot),
                None => Slot::new(camera.id.clone(), Arc::clone(&self.new_picture)),
            };
            (camera.id.clone(), slot)
        };
        config.cameras.iter().map(slot).collect()
    }

    /// Starts to receive from the cameras that have no source yet.
    pub(super) fn receive(
        &self,
        config: &Config,
        slots: BTreeMap<CameraId, Arc<Slot>>,
        running: &mut Running,
    ) -> Result<(), StartError> {
        for camera in config
            .cameras
            .iter()
            .filter(|c| !running.sources.contains_key(&c.id))
            .collect::<Vec<_>>()
        {
            if let Some(slot) = slots.get(&camera.id) {
                let source = receive_camera(camera, Arc::clone(slot), &self.receiving, &self.decode_mode)?;
                running.sources.insert(camera.id.clone(), (Arc::clone(slot), source));
            }
        }
        Ok(())
    }

    /// The vault of originals, if they begin or cease to be kept. The key is the one that was adopted at the start.
    fn vault(&self, before: &Config, config: &Config) -> Option<Option<Vault>> {
        let keeps = |config: &Config| config.evidence.originals.is_some();
        let vault = || Vault::new(&config.state_dir, VaultKey::clone(&self.key));
        (keeps(before) != keeps(config)).then(|| keeps(config).then(vault))
    }

    /// Gauges of cameras that are gone would stay at their last value.
    fn clear_gauges(&self, before: &Config, config: &Config) {
        for camera in before
            .cameras
            .iter()
            .filter(|c| config.cameras.iter().all(|kept| kept.id != c.id))
        {
            super::clear_camera_gauges(&camera.id);
        }
    }

    /// Keeps the files as they are as a version that can be shown and restored.
    pub(super) fn record_version(&self) {
        let config = self.config();
        if let Err(error) = Versions::in_state(&config.file, &config.state_dir).record_present() {
            tracing::warn!(%error, "Cannot keep this version of the configuration");
        }
    }

    /// The same with what runs for the configuration.
    pub(super) fn with(self, running: Running) -> Self {
        Self {
            running: Mutex::new(Some(running)),
            ..self
        }
    }
}

/// How the link reaches the broker of `config`.
pub(super) fn link_settings(config: &Config, installation: &Installation) -> Settings {
    Settings {
        installation: Some(installation.clone()),
        ..broker::link_settings(
            &config.node,
            &config.broker,
            &config.timezone,
            config.evidence.max_picture_bytes,
        )
    }
}
