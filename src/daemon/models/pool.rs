//! What one worker looks with: its panel, who sits where in it, and what it is handed between two looks.
//!
//! A look takes no lock to know who looks: it compares one number. Only where that has changed does the worker go to its desk,
//! where new sessions lie ready made, and leave the old ones there. So a swap costs no look.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::{gauge, histogram};

use super::super::record::KnownModel;
use gridwatch_base::metric;
use gridwatch_engine::{BBox, CameraId, Detection, Label, RuleId};
use gridwatch_frame::Frame;
use gridwatch_model::{
    FrameInput, LoadedModel, ModelError, ModelSet,
    registry::Version,
    second_look::{self, Closer},
    trial::{Seen, Trial, Verdict},
};

/// So many looks of a model that decides fail in a row before it is taken back. More than a trial's: pictures that no model can
/// read are the camera's fault, and going back is final.
const FAILING: u32 = 10;

/// What the workers say to whoever keeps the models.
pub(in super::super) enum Report {
    /// A trial is over.
    Judged { wish: String, verdict: Verdict },
    /// The model in this seat fails look after look.
    Failing { seat: usize, reason: String },
    /// No more looks will come.
    Stop,
}

/// A model that sits in the same seat of every worker's panel.
pub(super) struct ModelSlot {
    pub(super) seat: usize,
    /// Index into `Config::models`: which of them it is a version of.
    pub(super) model: usize,
    pub(super) version: Version,
    pub(super) known: KnownModel,
    /// Looks in a row that failed, over all workers.
    failing: AtomicU32,
}

impl ModelSlot {
    pub(super) fn new(seat: usize, model: usize, version: Version, known: KnownModel) -> Self {
        Self {
            seat,
            model,
            version,
            known,
            failing: AtomicU32::new(0),
        }
    }

    fn note(&self, result: &Result<Vec<Detection>, ModelError>, reports: &Sender<Report>) {
        match result {
            // Read first: a line that every worker writes at each look would go from core to core.
            Ok(_) if self.failing.load(Ordering::Relaxed) != 0 => self.failing.store(0, Ordering::Relaxed),
            // The picture's fault is not the model's.
            Ok(_) | Err(ModelError::Frame(_)) => {}
            Err(error) => {
                if self.failing.fetch_add(1, Ordering::Relaxed) + 1 == FAILING {
                    // Whoever keeps the models is gone only while the daemon stops.
                    let _ = reports.send(Report::Failing {
                        seat: self.seat,
                        reason: error.to_string(),
                    });
                }
            }
        }
    }
}

/// A model beside the one that is tried or shadowed.
pub(super) struct Challenger {
    pub(super) chair: Arc<ModelSlot>,
    pub(super) wish: String,
    pub(super) trial: Mutex<Trial>,
    /// What it finds counts; the other one is asked for the comparison, and where this one fails.
    pub(super) decides: bool,
}

impl Challenger {
    pub(super) fn trial(&self) -> MutexGuard<'_, Trial> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One model's turn at a camera.
pub(super) struct Assignment {
    pub(super) chair: Arc<ModelSlot>,
    pub(super) beside: Option<Arc<Challenger>>,
}

/// Who looks at a camera.
pub(super) struct CameraModels {
    turns: Vec<Assignment>,
    /// Who looks closer, for each rule that asks for it.
    closer: BTreeMap<RuleId, Closers>,
    /// Those whose finds count.
    seen_by: Arc<[KnownModel]>,
}

/// Who looks closer for a rule, and for what.
pub(super) struct Closers {
    pub(super) chairs: Vec<Arc<ModelSlot>>,
    pub(super) labels: Vec<Label>,
}

impl CameraModels {
    pub(super) fn new(turns: Vec<Assignment>, closer: BTreeMap<RuleId, Closers>) -> Self {
        let deciding = |turn: &Assignment| match &turn.beside {
            Some(beside) if beside.decides => beside.chair.known.clone(),
            _ => turn.chair.known.clone(),
        };
        Self {
            seen_by: turns.iter().map(deciding).collect(),
            turns,
            closer,
        }
    }
}

/// Who looks at each camera, in the order of the configuration.
pub(super) type Assignments = Vec<CameraModels>;

/// Where workers find what is new.
pub(super) struct ModelPool {
    /// Raised with each change, after the desks were laid.
    generation: AtomicU64,
    desks: Vec<Mutex<Handoff>>,
}

/// One worker's.
struct Handoff {
    generation: u64,
    lineup: Arc<Assignments>,
    /// In this order: who is to sit where, or that nobody is.
    changes: Vec<(usize, Option<LoadedModel>)>,
    /// Those who left their seats: they are put away on another thread than the one that looks.
    left: Vec<LoadedModel>,
}

impl ModelPool {
    /// A crew for each worker, with empty panels: the first change seats them.
    pub(super) fn new(panels: Vec<ModelSet>, reports: &Sender<Report>) -> (Arc<Self>, Vec<WorkerModels>) {
        let lineup = Arc::new(Assignments::new());
        let desk = |_: &ModelSet| {
            Mutex::new(Handoff {
                generation: 0,
                lineup: Arc::clone(&lineup),
                changes: Vec::new(),
                left: Vec::new(),
            })
        };
        let hall = Arc::new(Self {
            generation: AtomicU64::new(0),
            desks: panels.iter().map(desk).collect(),
        });
        let crew = |(worker, panel)| WorkerModels {
            panel,
            lineup: Arc::clone(&lineup),
            generation: 0,
            hall: Arc::clone(&hall),
            worker,
            reports: reports.clone(),
        };
        let crews = panels.into_iter().enumerate().map(crew).collect();
        (hall, crews)
    }

    pub(super) fn workers(&self) -> usize {
        self.desks.len()
    }

    fn desk(&self, worker: usize) -> MutexGuard<'_, Handoff> {
        self.desks[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From each worker's next look on `lineup` looks. `fresh` holds a session for each worker; the seats of `gone` are left.
    pub(super) fn change(&self, lineup: Assignments, fresh: Vec<(usize, Vec<LoadedModel>)>, gone: &[usize]) {
        let lineup = Arc::new(lineup);
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let mut fresh: Vec<_> = fresh.into_iter().map(|(seat, all)| (seat, all.into_iter())).collect();
        for worker in 0..self.desks.len() {
            let mut desk = self.desk(worker);
            let handed = fresh.iter_mut().map(|(seat, sessions)| (*seat, sessions.next()));
            desk.changes.extend(handed);
            desk.changes.extend(gone.iter().map(|seat| (*seat, None)));
            desk.lineup = Arc::clone(&lineup);
            desk.generation = generation;
        }
        self.generation.store(generation, Ordering::Release);
    }

    /// Puts away who left.
    pub(super) fn clear(&self) {
        for worker in 0..self.desks.len() {
            let left = std::mem::take(&mut self.desk(worker).left);
            // Not while the desk is held.
            drop(left);
        }
    }
}

/// One worker's panel.
pub(in super::super) struct WorkerModels {
    panel: ModelSet,
    lineup: Arc<Assignments>,
    generation: u64,
    hall: Arc<ModelPool>,
    worker: usize,
    reports: Sender<Report>,
}

impl WorkerModels {
    /// False where others are to look from now on.
    pub(in super::super) fn is_current(&self) -> bool {
        self.hall.generation.load(Ordering::Acquire) == self.generation
    }

    /// Takes up who is to look.
    pub(in super::super) fn relieve(&mut self) {
        let mut desk = self.hall.desk(self.worker);
        for (seat, ready) in std::mem::take(&mut desk.changes) {
            let left = self.panel.seat(seat, ready);
            desk.left.extend(left);
        }
        self.lineup = Arc::clone(&desk.lineup);
        self.generation = desk.generation;
    }

    /// What those who look at the camera with this index find, and who they are.
    ///
    /// # Errors
    /// That of the first model whose finds count and that failed.
    pub(in super::super) fn detect(
        &mut self,
        camera: (usize, &CameraId),
        at: Timestamp,
        frame: &Frame,
    ) -> Result<(Vec<Detection>, Arc<[KnownModel]>), ModelError> {
        let (index, id) = camera;
        let sitting = &self.lineup[index];
        let mut shown = self.panel.shown(frame);
        let mut found = Vec::new();
        let mut seen_by = Arc::clone(&sitting.seen_by);
        for (i, turn) in sitting.turns.iter().enumerate() {
            let (own, took) = ask(&mut shown, &turn.chair);
            histogram!(metric::DETECT, "model" => turn.chair.known.info.id.clone()).record(took);
            turn.chair.note(&own, &self.reports);
            let Some(beside) = &turn.beside else {
                found.extend(own?);
                continue;
            };
            let (other, other_took) = ask(&mut shown, &beside.chair);
            let verdict = {
                let (own_error, other_error) = (said(&own), said(&other));
                let mut trial = beside.trial();
                let verdict = trial.look(
                    id.as_str(),
                    at,
                    as_seen(&own, &own_error, took),
                    as_seen(&other, &other_error, other_took),
                );
                gauge!(metric::MODEL_TRIAL_LOOKS, "model" => turn.chair.known.info.id.clone()).set(trial.looks());
                verdict
            };
            if let Some(verdict) = verdict {
                // Whoever keeps the models is gone only while the daemon stops.
                let _ = self.reports.send(Report::Judged {
                    wish: beside.wish.clone(),
                    verdict,
                });
            }
            match (beside.decides, other) {
                (true, Ok(other)) => found.extend(other),
                (true, Err(_)) => {
                    found.extend(own?);
                    let mut all = seen_by.to_vec();
                    all[i] = turn.chair.known.clone();
                    seen_by = all.into();
                }
                (false, _) => found.extend(own?),
            }
        }
        Ok((found, seen_by))
    }

    /// Looks closer, for `rule`, at where in the picture of the camera with this index something was seen: marks what was
    /// `found` there with the highest score for one of the rule's labels. Where that is nearly all of the picture, with what the
    /// first look scored. Gives the models that looked.
    ///
    /// # Errors
    /// That of the first model that failed; then nothing is marked.
    pub(in super::super) fn second_look_at(
        &mut self,
        camera: usize,
        frame: &Frame,
        (rule, place): (&RuleId, &BBox),
        found: &mut [Detection],
    ) -> Result<Vec<KnownModel>, ModelError> {
        let Some(Closers { chairs, labels }) = self.lineup[camera].closer.get(rule) else {
            return Ok(Vec::new());
        };
        let there = |d: &&mut Detection| labels.contains(&d.label) && second_look::is_of(&d.bbox, place);
        let mut found: Vec<&mut Detection> = found.iter_mut().filter(there).collect();
        if found.is_empty() || chairs.is_empty() {
            return Ok(Vec::new());
        }
        let score = match Closer::on(frame, place) {
            Some(closer) => {
                let mut best = 0.0_f32;
                let mut shown = self.panel.shown(closer.part());
                for chair in chairs {
                    let start = Instant::now();
                    let seen = shown.detect(chair.seat)?;
                    histogram!(metric::LOOK_CLOSER, "model" => chair.known.info.id.clone()).record(start.elapsed());
                    best = best.max(closer.score(&seen, labels));
                }
                best
            }
            None => found.iter().map(|d| d.score).fold(0.0, f32::max),
        };
        for detection in &mut found {
            detection.closer = Some(score);
        }
        Ok(chairs.iter().map(|chair| chair.known.clone()).collect())
    }
}

fn ask(shown: &mut FrameInput<'_>, chair: &ModelSlot) -> (Result<Vec<Detection>, ModelError>, Duration) {
    let start = Instant::now();
    let found = shown.detect(chair.seat);
    (found, start.elapsed())
}

fn said(result: &Result<Vec<Detection>, ModelError>) -> String {
    result.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

fn as_seen<'a>(result: &'a Result<Vec<Detection>, ModelError>, error: &'a str, took: Duration) -> Seen<'a> {
    match result {
        Ok(found) => Seen::Found(found, took),
        Err(_) => Seen::Failed(error),
    }
}
