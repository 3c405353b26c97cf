//! Loads, swaps, trials and rolls back model versions: the registry's live versions at the start, and whatever operators request
//! while the daemon runs. It has a thread of its own, so that sessions are never loaded or freed on a look worker.
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
pub(super) use self::pool::{WorkerModels, WorkerReport};
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
    inbox: Receiver<WorkerReport>,
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

impl ModelManager {
    /// Loads the live versions: the registry's, and the configuration's folders for the rest. A registry version that cannot be
    /// used any more is rolled back, and logged as an error.
    ///
    /// # Errors
    /// If a folder of the configuration cannot be used, or the registry cannot be locked.
    pub(super) fn start(
        config: &Arc<Config>,
        runtime: Runtime,
        reports: &Sender<WorkerReport>,
        inbox: Receiver<WorkerReport>,
    ) -> Result<(Self, Vec<WorkerModels>), StartError> {
        let registry = Registry::new(&config.state_dir, config.registry.keys.clone());
        let watching = registry.lock_for_daemon()?;
        let model_sets = (0..config.workers)
            .map(|_| ModelSet::new(&runtime, []))
            .collect::<Result<_, _>>()?;
        let (pool, worker_models) = ModelPool::new(model_sets, reports);
        let mut shipped = Vec::new();
        for model in &config.models {
            shipped.push(Arc::clone(Model::load(&model.dir)?.manifest()));
        }
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
            shipped,
            used_slots: BTreeSet::new(),
            default_slots: Vec::new(),
            camera_slots: BTreeMap::new(),
            trials: BTreeMap::new(),
            reported_live: BTreeSet::new(),
        };
        models.read_journal();
        let mut new_sessions = Vec::new();
        for model in 0..config.models.len() {
            let slot = models.load_live(model, None, &mut new_sessions)?;
            if let Some(version) = &slot.version {
                tracing::info!(model = %config.models[model].id, %version, shipped = %models.shipped[model].version, "Using a version from the registry instead of the configured one");
            }
            models.default_slots.push(slot);
        }
        for camera in &config.cameras {
            for &model in &camera.models {
                let id = camera.id.as_str();
                if models.history(model).has_own_version(id) {
                    let slot = models.load_live(model, Some(id), &mut new_sessions)?;
                    if models.history(model).has_own_version(id) {
                        models.camera_slots.insert((model, id.to_owned()), slot);
                    }
                }
            }
        }
        models.publish(new_sessions);
        Ok((models, worker_models))
    }

    /// Runs until the workers have stopped.
    pub(super) fn run(mut self) {
        while self.turn(POLL_EVERY) {}
    }

    /// Carries out pending requests and handles one report, if one arrives within `wait`; false once the workers have stopped.
    fn turn(&mut self, wait: Duration) -> bool {
        self.process_requests();
        match self.inbox.recv_timeout(wait) {
            Ok(WorkerReport::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(WorkerReport::TrialEnded { request, outcome }) => self.trial_ended(&request, outcome),
            Ok(WorkerReport::ModelFailing { slot, reason }) => self.model_failing(slot, &reason),
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
        self.answered.extend(event.answered_request().map(str::to_owned));
        let journal = self.registry.journal();
        if let Err(error) = journal.append(self.id(model), Timestamp::now(), event) {
            tracing::error!(journal = %journal.path().display(), %error, "Cannot write the outcome to the model journal; the next start will not know it");
        }
        self.read_journal();
    }

    /// Loads the live version; falls back, version by version, from those that cannot be used.
    fn load_live(
        &mut self,
        model: usize,
        camera: Option<&str>,
        new_sessions: &mut Vec<(usize, Vec<LoadedModel>)>,
    ) -> Result<Arc<ModelSlot>, StartError> {
        let mut version = self.history(model).live(camera);
        loop {
            match self.load_slot(model, &version, SelfTestPolicy::SkipSpeed) {
                Ok((slot, sessions)) => {
                    new_sessions.extend(sessions.map(|s| (slot.index, s)));
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
                    let to = self.history(model).previous_version(camera).flatten();
                    tracing::error!(model = self.id(model), version = version_name(&version), to = version_name(&to), %error, "Model version cannot be used any more; rolled back to the version before");
                    counter!(metric::MODEL_CHANGES, "model" => self.id(model).to_owned(), "change" => "rolled_back")
                        .increment(1);
                    let event = Event::RolledBack {
                        request: None,
                        from: version,
                        to: to.clone(),
                        camera: camera.map(Into::into),
                        reason: format!("at daemon start: {error}"),
                        report: None,
                    };
                    self.write(model, event);
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
        let loaded = self
            .slots()
            .find(|c| c.model == model && c.version == *version)
            .map(Arc::clone);
        if let Some(slot) = loaded {
            return Ok((slot, None));
        }
        let loaded = self.load(model, version)?;
        if policy != SelfTestPolicy::Skip {
            let report = selftest::check(&self.runtime, &loaded);
            let counts = |step| policy == SelfTestPolicy::Full || step != Step::Speed;
            if let Some(wrong) = report.refusal_in(counts) {
                return Err(VersionError::Rejected(format!(
                    "model {}: self-test failed: {wrong}",
                    report.model
                )));
            }
        }
        let sessions = (0..self.pool.workers())
            .map(|_| LoadedModel::new(&self.runtime, &loaded))
            .collect::<Result<_, _>>()?;
        let free = (0..).find(|slot| !self.used_slots.contains(slot));
        let slot = free.ok_or_else(|| VersionError::Rejected("no free slot".into()))?;
        self.used_slots.insert(slot);
        let slot = ModelSlot::new(slot, model, version.clone(), &loaded, &self.runtime);
        Ok((Arc::new(slot), Some(sessions)))
    }

    fn load(&self, model: usize, version: &Version) -> Result<Model, VersionError> {
        let config::Model { id, dir } = &self.config.models[model];
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
        let assignments: Assignments = self.config.cameras.iter().map(|c| self.camera_models(c)).collect();
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
