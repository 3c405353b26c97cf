//! Loads, swaps, trials and rolls back model versions: the registry's live versions at the start, and whatever operators request
//! while the daemon runs. It has a thread of its own, so that sessions are never loaded or freed on a look worker.
//!
//! A changed configuration is taken over in two steps: first whatever it needs is loaded, beside what runs, and then it takes effect
//! or is put aside.
//!
//! Requests arrive through the registry's journal, whose length is polled every second; trial results and failures arrive from
//! the workers. The outcomes are written to the journal, too. So a request made while no daemon runs is carried out at the next
//! start, and a trial that a restart interrupted starts again.

mod pool;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use jiff::Timestamp;
use metrics::{counter, gauge};

use self::pool::{Assignment, Assignments, CameraModels, Challenger, ModelPool, ModelSlot, SecondLookModels};
pub(super) use self::pool::{CameraDescriptors, ConfigureRequest, ManagerMessage, WorkerModels};
use super::{error::StartError, record::ModelDescriptor};
use gridwatch_base::metric;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::ModelInfo;
use gridwatch_engine::Label;
use gridwatch_model::{
    LoadedModel, Manifest, Model, ModelError, ModelSet, Runtime,
    ocr::second_look::TextNeeded,
    registry::{Event, ModelState, Registry, RegistryError, RegistryState, Version, version_name},
    selftest::{self, Step},
};

/// Poll interval of the journal, and so the longest an operator waits for a reaction.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// A shadow run has no latency budget.
const NO_LATENCY_BUDGET: Duration = Duration::MAX;

/// The model manager.
pub(super) struct ModelManager {
    config: Arc<Config>,
    runtime: Runtime,
    registry: Registry,
    /// Held while the daemon runs: tells the command line that a daemon uses the registry.
    _watching: File,
    pool: Arc<ModelPool>,
    inbox: Receiver<ManagerMessage>,
    state: RegistryState,
    /// Requests that were answered, even if the journal could not be written: none is carried out twice.
    answered: BTreeSet<String>,
    /// The journal's length when `state` was read.
    journal_read: u64,
    /// The manifests of the configuration's folders, in the order of `Config::models`.
    shipped: Vec<Arc<Manifest>>,
    /// Slots in use in every worker's model set.
    used_slots: BTreeSet<usize>,
    /// The live version for cameras without a version of their own, by model.
    default_slots: Vec<Arc<ModelSlot>>,
    /// The live version of a single camera, by model and camera.
    camera_slots: BTreeMap<(usize, String), Arc<ModelSlot>>,
    /// The trial or shadow run in progress, by model.
    trials: BTreeMap<usize, RunningTrial>,
    /// Models and versions that the metrics report as live.
    reported_live: BTreeSet<(String, String)>,
}

/// A trial or shadow run in progress.
struct RunningTrial {
    challenger: Arc<Challenger>,
    camera: Option<String>,
    is_shadow: bool,
}

/// Why a version cannot be used.
#[derive(Debug, thiserror::Error)]
enum VersionError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{0}")]
    Rejected(String),
}

/// Which steps of its self-test a version must pass before it gets a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SelfTestPolicy {
    /// None: it was live a moment ago, and a rollback must not wait.
    Skip,
    /// All but the speed: a box that is starting is busy.
    SkipSpeed,
    /// All: it is new to this box.
    Full,
}

/// A loaded version: its slot, and a session for each worker unless the slot is in use already.
type LoadedSlot = (Arc<ModelSlot>, Option<Vec<LoadedModel>>);

/// What a configuration needs, loaded but not in use yet.
struct PreparedModels {
    config: Arc<Config>,
    runtime: Runtime,
    shipped: Vec<Arc<Manifest>>,
    default_slots: Vec<Arc<ModelSlot>>,
    camera_slots: BTreeMap<(usize, String), Arc<ModelSlot>>,
    /// A session for each worker, for each slot that is new.
    new_sessions: Vec<(usize, Vec<LoadedModel>)>,
}

impl ModelManager {
    /// Loads the live versions: the registry's, and the configuration's folders for the rest. A registry version that cannot be
    /// used any more is rolled back, and logged as an error.
    ///
    /// # Errors
    /// If a folder of the configuration cannot be used, or the registry cannot be locked.
    pub(super) fn start(
        config: &Arc<Config>,
        runtime: Runtime,
        reports: &Sender<ManagerMessage>,
        inbox: Receiver<ManagerMessage>,
    ) -> Result<(Self, Vec<WorkerModels>), StartError> {
        let registry = Registry::new(&config.state_dir, config.registry.keys.clone());
        let watching = registry.lock_for_daemon()?;
        let model_sets = (0..config.workers)
            .map(|_| ModelSet::new(&runtime, []))
            .collect::<Result<_, _>>()?;
        let (pool, worker_models) = ModelPool::new(model_sets, reports);
        let mut models = Self {
            config: Arc::clone(config),
            runtime,
            registry,
            _watching: watching,
            pool,
            inbox,
            state: RegistryState::default(),
            answered: BTreeSet::new(),
            journal_read: 0,
            shipped: Vec::new(),
            used_slots: BTreeSet::new(),
            default_slots: Vec::new(),
            camera_slots: BTreeMap::new(),
            trials: BTreeMap::new(),
            reported_live: BTreeSet::new(),
        };
        models.read_journal();
        let prepared = models.prepare(config)?;
        models.take_over(prepared);
        Ok((models, worker_models))
    }

    /// Loads what `config` needs and is not loaded yet: the registry's live versions, and the configuration's folders for the rest.
    fn prepare(&mut self, config: &Arc<Config>) -> Result<PreparedModels, StartError> {
        let mut prepared = PreparedModels {
            config: Arc::clone(config),
            runtime: self.runtime.clone().with(config.inference.clone()),
            shipped: Vec::new(),
            default_slots: Vec::new(),
            camera_slots: BTreeMap::new(),
            new_sessions: Vec::new(),
        };
        for model in &config.models {
            prepared.shipped.push(Arc::clone(Model::load(&model.dir)?.manifest()));
        }
        for (model, config::Model { id, .. }) in config.models.iter().enumerate() {
            let slot = self.load_live(&mut prepared, model, None)?;
            if let Some(version) = slot.version.as_ref().filter(|_| !self.is_in_use(&slot)) {
                tracing::info!(model = id, %version, shipped = %prepared.shipped[model].version, "Using a version from the registry instead of the configured one");
            }
            prepared.default_slots.push(slot);
        }
        for camera in &config.cameras {
            for &model in &camera.models {
                let (id, name) = (camera.id.as_str(), &config.models[model].id);
                if self.state.model(name).has_own_version(id) {
                    let slot = self.load_live(&mut prepared, model, Some(id))?;
                    if self.state.model(name).has_own_version(id) {
                        prepared.camera_slots.insert((model, id.to_owned()), slot);
                    }
                }
            }
        }
        Ok(prepared)
    }

    /// Puts a configuration into force, from each worker's next look.
    fn take_over(&mut self, prepared: PreparedModels) {
        let PreparedModels {
            config,
            runtime,
            shipped,
            default_slots,
            camera_slots,
            new_sessions,
        } = prepared;
        for (model, running) in std::mem::take(&mut self.trials) {
            let now = config.models.iter().position(|m| m.id == self.config.models[model].id);
            let is_watched = |id: &String| config.cameras.iter().any(|c| c.id.as_str() == id);
            match now.filter(|_| running.camera.iter().all(is_watched)) {
                Some(now) => {
                    self.trials.insert(now, running);
                }
                None => {
                    let challenger = &running.challenger;
                    let report = Box::new(challenger.trial().report());
                    let (request, version) = (challenger.request.clone(), challenger.slot.version.clone());
                    let reason = "the model or the camera is no longer configured".to_owned();
                    self.refuse(model, &request, &version, reason, Some(report));
                }
            }
        }
        self.config = config;
        self.registry = Registry::new(&self.config.state_dir, self.config.registry.keys.clone());
        self.runtime = runtime;
        self.shipped = shipped;
        self.default_slots = default_slots;
        self.camera_slots = camera_slots;
        self.publish(new_sessions);
    }

    /// Loads what another configuration needs, and puts it into force if the decision is that it takes effect.
    fn configure(&mut self, request: ConfigureRequest) {
        let ConfigureRequest {
            config,
            prepared,
            decision,
            done,
        } = request;
        let (result, models) = match self.prepare(&config) {
            Ok(models) => {
                let of_camera = |camera: &config::Camera| {
                    let slots = camera
                        .models
                        .iter()
                        .map(|model| models.slot(*model, camera.id.as_str()));
                    (camera.id.clone(), slots.map(|slot| slot.descriptor.clone()).collect())
                };
                (Ok(config.cameras.iter().map(of_camera).collect()), Some(models))
            }
            Err(error) => (Err(error), None),
        };
        // Whoever asked may have given up.
        let _ = prepared.send(result);
        match (models, decision.recv()) {
            (Some(models), Ok(())) => {
                self.take_over(models);
                let _ = done.send(());
            }
            // What was loaded is freed.
            (_, _) => self.used_slots = self.slots().map(|slot| slot.index).collect(),
        }
    }

    fn is_in_use(&self, slot: &Arc<ModelSlot>) -> bool {
        self.slots().any(|used| Arc::ptr_eq(used, slot))
    }

    /// Runs until the workers have stopped.
    pub(super) fn run(mut self) {
        while self.turn(POLL_EVERY) {}
    }

    /// Carries out pending requests and handles one report, if one arrives within `wait`; false once the workers have stopped.
    fn turn(&mut self, wait: Duration) -> bool {
        self.process_requests();
        match self.inbox.recv_timeout(wait) {
            Ok(ManagerMessage::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(ManagerMessage::TrialEnded { request, outcome }) => self.trial_ended(&request, outcome),
            Ok(ManagerMessage::ModelFailing { slot, reason }) => self.model_failing(slot, &reason),
            Ok(ManagerMessage::Configure(request)) => self.configure(request),
            Err(RecvTimeoutError::Timeout) => {}
        }
        self.pool.clear();
        if self.registry.journal().length() != self.journal_read {
            self.read_journal();
        }
        true
    }

    fn id(&self, model: usize) -> &str {
        &self.config.models[model].id
    }

    fn history(&self, model: usize) -> ModelState {
        self.state.model(self.id(model))
    }

    /// The live version at a camera, or at the cameras without a version of their own.
    fn slot(&self, model: usize, camera: Option<&str>) -> &Arc<ModelSlot> {
        let own = camera.and_then(|c| self.camera_slots.get(&(model, c.to_owned())));
        own.unwrap_or(&self.default_slots[model])
    }

    fn read_journal(&mut self) {
        let journal = self.registry.journal();
        let length = journal.length();
        match journal.read() {
            Ok(contents) => {
                if let (Some(line), true) = (contents.unreadable.last(), length != self.journal_read) {
                    tracing::warn!(journal = %journal.path().display(), line, "Skipped an unreadable line of the model journal");
                }
                self.state = RegistryState::of(&contents.entries);
            }
            Err(error) => {
                tracing::error!(journal = %journal.path().display(), %error, "Cannot read the model journal; the live versions stay in use");
            }
        }
        self.journal_read = length;
    }

    fn write(&mut self, model: usize, event: Event) {
        let id = self.id(model).to_owned();
        self.write_of(&id, event);
    }

    fn write_of(&mut self, id: &str, event: Event) {
        self.answered.extend(event.answered_request().map(str::to_owned));
        let journal = self.registry.journal();
        if let Err(error) = journal.append(id, Timestamp::now(), event) {
            tracing::error!(journal = %journal.path().display(), %error, "Cannot write the outcome to the model journal; the next start will not know it");
        }
        self.read_journal();
    }

    /// Loads the live version; falls back, version by version, from those that cannot be used.
    fn load_live(
        &mut self,
        prepared: &mut PreparedModels,
        model: usize,
        camera: Option<&str>,
    ) -> Result<Arc<ModelSlot>, StartError> {
        let id = prepared.config.models[model].id.clone();
        let mut version = self.state.model(&id).live(camera);
        loop {
            match self.prepare_slot(prepared, model, &version) {
                Ok((slot, sessions)) => {
                    prepared.new_sessions.extend(sessions.map(|s| (slot.index, s)));
                    return Ok(slot);
                }
                Err(error) => {
                    if version.is_none() {
                        return Err(match error {
                            VersionError::Model(e) => e.into(),
                            VersionError::Registry(e) => e.into(),
                            VersionError::Rejected(what) => StartError::ModelMismatch(what),
                        });
                    }
                    let to = self.state.model(&id).previous_version(camera).flatten();
                    tracing::error!(model = id, version = version_name(&version), to = version_name(&to), %error, "Model version cannot be used any more; rolled back to the version before");
                    counter!(metric::MODEL_CHANGES, "model" => id.clone(), "change" => "rolled_back").increment(1);
                    let event = Event::RolledBack {
                        request: None,
                        from: version,
                        to: to.clone(),
                        camera: camera.map(Into::into),
                        reason: format!("when the configuration was loaded: {error}"),
                        report: None,
                    };
                    self.write_of(&id, event);
                    version = to;
                }
            }
        }
    }

    /// Loads a version into a free slot, with a session for each worker; reuses the slot that it is in already.
    fn load_slot(
        &mut self,
        model: usize,
        version: &Version,
        policy: SelfTestPolicy,
    ) -> Result<LoadedSlot, VersionError> {
        let (config, runtime) = (Arc::clone(&self.config), self.runtime.clone());
        let found = self.find_slot(&config.models[model].id, version, &self.shipped[model], []);
        if let Some(slot) = found {
            return Ok((slot, None));
        }
        self.load_into_slot(&config.models[model], version, policy, &runtime)
    }

    /// The same for a configuration that is being prepared.
    fn prepare_slot(
        &mut self,
        prepared: &PreparedModels,
        model: usize,
        version: &Version,
    ) -> Result<LoadedSlot, VersionError> {
        let PreparedModels { config, runtime, .. } = prepared;
        // Sessions of other options are of no use.
        let is_same_runtime = self.config.inference == config.inference;
        let new = prepared.default_slots.iter().chain(prepared.camera_slots.values());
        let found = self
            .find_slot(&config.models[model].id, version, &prepared.shipped[model], new)
            .filter(|slot| is_same_runtime || !self.is_in_use(slot));
        if let Some(slot) = found {
            return Ok((slot, None));
        }
        let policy = SelfTestPolicy::SkipSpeed;
        self.load_into_slot(&config.models[model], version, policy, runtime)
    }

    /// The slot that a version is in, among those in use and `others`. The configuration's folder may have another content than when it was
    /// loaded.
    fn find_slot<'a>(
        &'a self,
        model: &str,
        version: &Version,
        shipped: &Manifest,
        others: impl IntoIterator<Item = &'a Arc<ModelSlot>>,
    ) -> Option<Arc<ModelSlot>> {
        let is_it = |slot: &&Arc<ModelSlot>| {
            slot.model == model && slot.version == *version && (version.is_some() || *slot.manifest == *shipped)
        };
        others.into_iter().chain(self.slots()).find(is_it).map(Arc::clone)
    }

    fn load_into_slot(
        &mut self,
        model: &config::Model,
        version: &Version,
        policy: SelfTestPolicy,
        runtime: &Runtime,
    ) -> Result<LoadedSlot, VersionError> {
        let loaded = self.load(model, version)?;
        if policy != SelfTestPolicy::Skip {
            let report = selftest::check(runtime, &loaded);
            let counts = |step| policy == SelfTestPolicy::Full || step != Step::Speed;
            if let Some(wrong) = report.refusal_in(counts) {
                return Err(VersionError::Rejected(format!(
                    "model {}: self-test failed: {wrong}",
                    report.model
                )));
            }
        }
        let sessions = (0..self.pool.workers())
            .map(|_| LoadedModel::new(runtime, &loaded))
            .collect::<Result<_, _>>()?;
        let free = (0..).find(|slot| !self.used_slots.contains(slot));
        let slot = free.ok_or_else(|| VersionError::Rejected("no free slot".into()))?;
        self.used_slots.insert(slot);
        let slot = ModelSlot::new(slot, version.clone(), &loaded, runtime);
        Ok((Arc::new(slot), Some(sessions)))
    }

    fn load(&self, model: &config::Model, version: &Version) -> Result<Model, VersionError> {
        let config::Model { id, dir } = model;
        let loaded = match version {
            Some(version) => self.registry.load(id, version)?,
            None => Model::load(dir)?,
        };
        if loaded.manifest().id != *id {
            let found = &loaded.manifest().id;
            let message = format!("{}: expected model id {id:?}, found {found:?}", dir.display());
            return Err(VersionError::Rejected(message));
        }
        Ok(loaded)
    }

    /// All slots in use.
    fn slots(&self) -> impl Iterator<Item = &Arc<ModelSlot>> {
        let challengers = self.trials.values().map(|running| &running.challenger.slot);
        self.default_slots
            .iter()
            .chain(self.camera_slots.values())
            .chain(challengers)
    }

    /// Puts the current versions into force from each worker's next look, and empties unused slots.
    fn publish(&mut self, new_sessions: Vec<(usize, Vec<LoadedModel>)>) {
        let used: BTreeSet<usize> = self.slots().map(|c| c.index).collect();
        let gone: Vec<usize> = self.used_slots.difference(&used).copied().collect();
        let cameras = self.config.cameras.iter();
        let assignments: Assignments = cameras.map(|c| (c.id.clone(), self.camera_models(c))).collect();
        self.pool.change(assignments, new_sessions, &gone);
        self.used_slots = used;
        let live: BTreeSet<(String, String)> = self
            .default_slots
            .iter()
            .chain(self.camera_slots.values())
            .map(|c| (c.descriptor.info.id.clone(), c.descriptor.info.version.clone()))
            .collect();
        for (id, version) in self.reported_live.union(&live) {
            let is_live = live.contains(&(id.clone(), version.clone()));
            gauge!(metric::MODEL_LIVE, "model" => id.clone(), "version" => version.clone()).set(if is_live {
                1.0
            } else {
                0.0
            });
        }
        self.reported_live = live;
    }

    fn camera_models(&self, camera: &config::Camera) -> CameraModels {
        let id = camera.id.as_str();
        let assignment = |&model: &usize| Assignment {
            slot: Arc::clone(self.slot(model, Some(id))),
            challenger: self
                .trials
                .get(&model)
                .filter(|running| self.is_in_scope(model, running.camera.as_deref(), id))
                .map(|running| Arc::clone(&running.challenger)),
        };
        let slot = |model: usize| Arc::clone(self.slot(model, Some(id)));
        let second_looks = self
            .config
            .plan
            .rules
            .iter()
            .filter(|r| r.second_look.is_some())
            .map(|rule| {
                let finds = |c: &Arc<ModelSlot>| c.descriptor.labels.iter().any(|l| rule.labels.contains(l));
                let is_judged_by_text = (self.config.text_looks.get(&rule.id)).is_some_and(|t| *t != TextNeeded::Any);
                let slots = match self.config.second_looks.get(&rule.id) {
                    Some(model) => vec![slot(*model)],
                    None if is_judged_by_text => Vec::new(),
                    None => camera.models.iter().map(|m| slot(*m)).filter(finds).collect(),
                };
                let labels = rule.labels.clone();
                (rule.id.clone(), SecondLookModels { slots, labels })
            });
        CameraModels::new(camera.models.iter().map(assignment).collect(), second_looks.collect())
    }

    /// True if `scope` (one camera, or `None`: all without a version of their own) includes `camera`.
    fn is_in_scope(&self, model: usize, scope: Option<&str>, camera: &str) -> bool {
        match scope {
            Some(only) => only == camera,
            None => !self.camera_slots.contains_key(&(model, camera.to_owned())),
        }
    }

    fn cameras(&self, model: usize, scope: Option<&str>) -> Vec<&config::Camera> {
        let looks = |c: &&config::Camera| c.models.contains(&model) && self.is_in_scope(model, scope, c.id.as_str());
        self.config.cameras.iter().filter(looks).collect()
    }

    /// The live models of a camera.
    pub(super) fn descriptors(&self, camera: &config::Camera) -> Vec<ModelDescriptor> {
        let slots = camera.models.iter().map(|m| self.slot(*m, Some(camera.id.as_str())));
        slots.map(|c| c.descriptor.clone()).collect()
    }
}

impl PreparedModels {
    /// The live version at a camera.
    fn slot(&self, model: usize, camera: &str) -> &Arc<ModelSlot> {
        let own = self.camera_slots.get(&(model, camera.to_owned()));
        own.unwrap_or(&self.default_slots[model])
    }
}

/// Describes a model for case records.
pub(super) fn describe(model: &Model, runtime: &Runtime) -> ModelDescriptor {
    let manifest = model.manifest();
    let labels: Vec<Label> = manifest.engine_labels();
    ModelDescriptor {
        info: ModelInfo {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            sha256: manifest.sha256.clone(),
            runtime: runtime.build().to_owned(),
        },
        labels,
    }
}

#[cfg(test)]
mod tests;
