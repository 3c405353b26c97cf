//! Keeps the models that look: takes up what the registry says at the start, fulfils what operators ask while the daemon runs,
//! judges new ones on trial, and takes back what fails. On a thread of its own: sessions are loaded and put away here, never on
//! a thread that looks.
//!
//! It is told by the registry's journal, whose length it asks every second, and by the workers; it answers in the journal. So
//! a wish that was asked while no daemon ran is fulfilled at the next start, and one whose trial a restart broke off is
//! tried anew.

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

use self::pool::{Assignment, Assignments, CameraModels, Challenger, Closers, ModelPool, ModelSlot};
pub(super) use self::pool::{Report, WorkerModels};
use super::{StartError, record::KnownModel};
use gridwatch_base::metric;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::ModelInfo;
use gridwatch_engine::Label;
use gridwatch_model::{
    LoadedModel, Manifest, Model, ModelError, ModelSet, Runtime,
    registry::{Event, Known, Registry, RegistryError, State, Version, name},
    selftest::{self, Step},
};

/// How often the journal's length is asked: an operator waits no longer than this to be heard.
const TURN: Duration = Duration::from_secs(1);

/// A shadow's terms name no time that it must keep.
const NO_BUDGET: Duration = Duration::MAX;

/// The keeper of the models.
pub(super) struct ModelManager {
    config: Arc<Config>,
    runtime: Runtime,
    registry: Registry,
    /// Says that a daemon looks with them.
    _watching: File,
    hall: Arc<ModelPool>,
    inbox: Receiver<Report>,
    state: State,
    /// Wishes that were answered, also where the journal took no line: none is fulfilled twice by one daemon.
    answered: BTreeSet<String>,
    /// The journal's length when `state` was read.
    read: u64,
    /// Of the configuration's folders, in the order of `Config::models`.
    shipped: Vec<Arc<Manifest>>,
    /// Seats that are taken in every panel.
    taken: BTreeSet<usize>,
    /// Who looks wherever no version of the camera's own does, by model.
    rest: Vec<Arc<ModelSlot>>,
    /// Who looks at one camera alone, by model and camera.
    own: BTreeMap<(usize, String), Arc<ModelSlot>>,
    /// What runs beside, by model.
    beside: BTreeMap<usize, Running>,
    /// What the metrics show as live.
    shown: BTreeSet<(String, String)>,
}

/// A trial or a shadow under way.
struct Running {
    it: Arc<Challenger>,
    camera: Option<String>,
    is_shadow: bool,
}

/// Why a version cannot look.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{0}")]
    Said(String),
}

/// Whether a version must pass its self-test before it is seated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It looked here a moment ago: what looks must not wait for pictures to be judged.
    Known,
    /// The daemon begins with it: all but its speed, for a box that starts has much to do.
    Begun,
    /// It is new to this box.
    Asked,
}

/// A version that is loaded: its seat, and a session for each worker unless it sits already.
type Seated = (Arc<ModelSlot>, Option<Vec<LoadedModel>>);

impl ModelManager {
    /// Loads what is to look, and seats it: the registry's live versions, the configuration's folders for the rest. What the
    /// registry cannot give any more is rolled back, with an ERROR.
    ///
    /// # Errors
    /// A folder of the configuration that cannot be used, or a registry that cannot be locked.
    pub(super) fn start(
        config: &Arc<Config>,
        runtime: Runtime,
        reports: &Sender<Report>,
        inbox: Receiver<Report>,
    ) -> Result<(Self, Vec<WorkerModels>), StartError> {
        let registry = Registry::new(&config.state_dir, config.registry.keys.clone());
        let watching = registry.watch()?;
        let panels = (0..config.workers)
            .map(|_| ModelSet::new(&runtime, []))
            .collect::<Result<_, _>>()?;
        let (hall, crews) = ModelPool::new(panels, reports);
        let mut shipped = Vec::new();
        for model in &config.models {
            shipped.push(Arc::clone(Model::load(&model.dir)?.manifest()));
        }
        let mut models = Self {
            config: Arc::clone(config),
            runtime,
            registry,
            _watching: watching,
            hall,
            inbox,
            state: State::default(),
            answered: BTreeSet::new(),
            read: 0,
            shipped,
            taken: BTreeSet::new(),
            rest: Vec::new(),
            own: BTreeMap::new(),
            beside: BTreeMap::new(),
            shown: BTreeSet::new(),
        };
        models.read_journal();
        let mut fresh = Vec::new();
        for model in 0..config.models.len() {
            let chair = models.take_up(model, None, &mut fresh)?;
            if let Some(version) = &chair.version {
                tracing::info!(model = %config.models[model].id, %version, shipped = %models.shipped[model].version, "A version of the registry looks in place of the configuration's.");
            }
            models.rest.push(chair);
        }
        for camera in &config.cameras {
            for &model in &camera.models {
                let id = camera.id.as_str();
                if models.known(model).has_own(id) {
                    let chair = models.take_up(model, Some(id), &mut fresh)?;
                    if models.known(model).has_own(id) {
                        models.own.insert((model, id.to_owned()), chair);
                    }
                }
            }
        }
        models.publish(fresh);
        Ok((models, crews))
    }

    /// Works until it is told that no more looks will come.
    pub(super) fn run(mut self) {
        while self.turn(TURN) {}
    }

    /// Does what waits to be done, and hears what comes within that time; false once no more looks will come.
    fn turn(&mut self, patience: Duration) -> bool {
        self.process_requests();
        match self.inbox.recv_timeout(patience) {
            Ok(Report::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(Report::Judged { wish, verdict }) => self.judged(&wish, verdict),
            Ok(Report::Failing { seat, reason }) => self.failing(seat, &reason),
            Err(RecvTimeoutError::Timeout) => {}
        }
        self.hall.clear();
        if self.registry.journal().length() != self.read {
            self.read_journal();
        }
        true
    }

    fn id(&self, model: usize) -> &str {
        &self.config.models[model].id
    }

    fn known(&self, model: usize) -> Known {
        self.state.known(self.id(model))
    }

    /// The version that looks there.
    fn chair(&self, model: usize, camera: Option<&str>) -> &Arc<ModelSlot> {
        let own = camera.and_then(|c| self.own.get(&(model, c.to_owned())));
        own.unwrap_or(&self.rest[model])
    }

    fn read_journal(&mut self) {
        let journal = self.registry.journal();
        let length = journal.length();
        match journal.read() {
            Ok(told) => {
                if let (Some(line), true) = (told.unreadable.last(), length != self.read) {
                    tracing::warn!(journal = %journal.path().display(), line, "A line of the models' journal is none and is passed over.");
                }
                self.state = State::of(&told.entries);
            }
            Err(error) => {
                tracing::error!(journal = %journal.path().display(), %error, "What was asked of the models cannot be read; those that look go on.");
            }
        }
        self.read = length;
    }

    fn write(&mut self, model: usize, event: Event) {
        self.answered.extend(event.answers().map(str::to_owned));
        let journal = self.registry.journal();
        if let Err(error) = journal.append(self.id(model), Timestamp::now(), event) {
            tracing::error!(journal = %journal.path().display(), %error, "What became of a model cannot be written; the next start will not know of it.");
        }
        self.read_journal();
    }

    /// Loads the version that is to look there; goes back, version by version, from what cannot be used.
    fn take_up(
        &mut self,
        model: usize,
        camera: Option<&str>,
        fresh: &mut Vec<(usize, Vec<LoadedModel>)>,
    ) -> Result<Arc<ModelSlot>, StartError> {
        let mut version = self.known(model).live(camera);
        loop {
            match self.seat(model, &version, Proof::Begun) {
                Ok((chair, sessions)) => {
                    fresh.extend(sessions.map(|s| (chair.seat, s)));
                    return Ok(chair);
                }
                Err(error) => {
                    if version.is_none() {
                        return Err(match error {
                            Unfit::Model(e) => e.into(),
                            Unfit::Registry(e) => e.into(),
                            Unfit::Said(what) => StartError::Unfit(what),
                        });
                    }
                    let to = self.known(model).before(camera).flatten();
                    tracing::error!(model = self.id(model), version = name(&version), to = name(&to), %error, "A version of a model cannot be used any more; the one before looks in its place.");
                    counter!(metric::MODEL_CHANGES, "model" => self.id(model).to_owned(), "change" => "rolled_back")
                        .increment(1);
                    let event = Event::RolledBack {
                        wish: None,
                        from: version,
                        to: to.clone(),
                        camera: camera.map(Into::into),
                        reason: format!("at the start of the daemon: {error}"),
                        report: None,
                    };
                    self.write(model, event);
                    version = to;
                }
            }
        }
    }

    /// A seat for a version, with a session for each worker; the one it sits in already, where it does.
    fn seat(&mut self, model: usize, version: &Version, proof: Proof) -> Result<Seated, Unfit> {
        let sits = self
            .chairs()
            .find(|c| c.model == model && c.version == *version)
            .map(Arc::clone);
        if let Some(chair) = sits {
            return Ok((chair, None));
        }
        let loaded = self.load(model, version)?;
        if proof != Proof::Known {
            let report = selftest::check(&self.runtime, &loaded);
            let counts = |step| proof == Proof::Asked || step != Step::Speed;
            if let Some(wrong) = report.refusal_in(counts) {
                return Err(Unfit::Said(format!(
                    "model {}: its self-test fails: {wrong}",
                    report.model
                )));
            }
        }
        let sessions = (0..self.hall.workers())
            .map(|_| LoadedModel::new(&self.runtime, &loaded))
            .collect::<Result<_, _>>()?;
        let free = (0..).find(|seat| !self.taken.contains(seat));
        let seat = free.ok_or_else(|| Unfit::Said("no seat is free".into()))?;
        self.taken.insert(seat);
        let known = known(&loaded, &self.runtime);
        Ok((
            Arc::new(ModelSlot::new(seat, model, version.clone(), known)),
            Some(sessions),
        ))
    }

    fn load(&self, model: usize, version: &Version) -> Result<Model, Unfit> {
        let config::Model { id, dir } = &self.config.models[model];
        let loaded = match version {
            Some(version) => self.registry.load(id, version)?,
            None => Model::load(dir)?,
        };
        if loaded.manifest().id != *id {
            let found = &loaded.manifest().id;
            let message = format!("{}: its id is {found:?} now and was {id:?}", dir.display());
            return Err(Unfit::Said(message));
        }
        Ok(loaded)
    }

    /// All that sit.
    fn chairs(&self) -> impl Iterator<Item = &Arc<ModelSlot>> {
        let beside = self.beside.values().map(|running| &running.it.chair);
        self.rest.iter().chain(self.own.values()).chain(beside)
    }

    /// From each worker's next look on, those look who are to. Seats that nobody needs any more are left.
    fn publish(&mut self, fresh: Vec<(usize, Vec<LoadedModel>)>) {
        let used: BTreeSet<usize> = self.chairs().map(|c| c.seat).collect();
        let gone: Vec<usize> = self.taken.difference(&used).copied().collect();
        let lineup: Assignments = self.config.cameras.iter().map(|c| self.sitting(c)).collect();
        self.hall.change(lineup, fresh, &gone);
        self.taken = used;
        let live: BTreeSet<(String, String)> = self
            .rest
            .iter()
            .chain(self.own.values())
            .map(|c| (c.known.info.id.clone(), c.known.info.version.clone()))
            .collect();
        for (id, version) in self.shown.union(&live) {
            let is_live = live.contains(&(id.clone(), version.clone()));
            gauge!(metric::MODEL_LIVE, "model" => id.clone(), "version" => version.clone()).set(if is_live {
                1.0
            } else {
                0.0
            });
        }
        self.shown = live;
    }

    fn sitting(&self, camera: &config::Camera) -> CameraModels {
        let id = camera.id.as_str();
        let turn = |&model: &usize| Assignment {
            chair: Arc::clone(self.chair(model, Some(id))),
            beside: self
                .beside
                .get(&model)
                .filter(|running| self.is_in(model, running.camera.as_deref(), id))
                .map(|running| Arc::clone(&running.it)),
        };
        let chair = |model: usize| Arc::clone(self.chair(model, Some(id)));
        let closer = self
            .config
            .plan
            .rules
            .iter()
            .filter(|r| r.second_look.is_some())
            .map(|rule| {
                let finds = |c: &Arc<ModelSlot>| c.known.labels.iter().any(|l| rule.labels.contains(l));
                let chairs = match self.config.second_looks.get(&rule.id) {
                    Some(model) => vec![chair(*model)],
                    None => camera.models.iter().map(|m| chair(*m)).filter(finds).collect(),
                };
                let labels = rule.labels.clone();
                (rule.id.clone(), Closers { chairs, labels })
            });
        CameraModels::new(camera.models.iter().map(turn).collect(), closer.collect())
    }

    /// True where a wish for `scope` (one camera, or all without a version of their own) is about `camera`.
    fn is_in(&self, model: usize, scope: Option<&str>, camera: &str) -> bool {
        match scope {
            Some(only) => only == camera,
            None => !self.own.contains_key(&(model, camera.to_owned())),
        }
    }

    fn cameras(&self, model: usize, scope: Option<&str>) -> Vec<&config::Camera> {
        let looks = |c: &&config::Camera| c.models.contains(&model) && self.is_in(model, scope, c.id.as_str());
        self.config.cameras.iter().filter(looks).collect()
    }

    /// Who looks at a camera at the start, for what is written about it.
    pub(super) fn looks_at(&self, camera: &config::Camera) -> Vec<KnownModel> {
        let chairs = camera.models.iter().map(|m| self.chair(*m, Some(camera.id.as_str())));
        chairs.map(|c| c.known.clone()).collect()
    }
}

/// A model as cases name it.
pub(super) fn known(model: &Model, runtime: &Runtime) -> KnownModel {
    let manifest = model.manifest();
    let labels: Vec<Label> = manifest.engine_labels();
    KnownModel {
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
