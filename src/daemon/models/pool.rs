//! The models of the look workers: which slot of a worker's model set holds which version, and how versions are swapped between
//! two looks.
//!
//! A look takes no lock for this: it compares one number. Only after a change does a worker take its handoff's lock, pick up the
//! new sessions, which are loaded already, and put down the old ones. So a swap costs no look.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::{gauge, histogram};

use super::{
    super::{error::StartError, record::ModelDescriptor},
    describe,
};
use gridwatch_base::metric;
use gridwatch_config::Config;
use gridwatch_engine::{BBox, CameraId, Detection, Label, RuleId};
use gridwatch_frame::Frame;
use gridwatch_model::{
    FrameInput, LoadedModel, Manifest, Model, ModelError, ModelSet, Runtime,
    model_diff::ScoreThresholds,
    registry::Version,
    second_look::SecondLook,
    trial::{LookOutcome, Trial, TrialOutcome},
};

/// Consecutive failed looks after which a live version is rolled back. More than a trial's limit: a picture that no model can
/// read is the camera's fault, and a rollback is final.
const MAX_FAILURES: u32 = 10;

/// A message to the model manager.
pub(in super::super) enum ManagerMessage {
    /// A trial or shadow run has ended.
    TrialEnded { request: String, outcome: TrialOutcome },
    /// The model in this slot failed [`MAX_FAILURES`] looks in a row.
    ModelFailing { slot: usize, reason: String },
    /// Load what another configuration needs, and wait for the decision whether it takes effect.
    Configure(ConfigureRequest),
    /// No more looks will come: stop.
    Stop,
}

/// A change of the configuration, in two steps: everything that can fail is done before it takes effect.
pub(in super::super) struct ConfigureRequest {
    pub(in super::super) config: Arc<Config>,
    /// Receives the models of each camera, or why they cannot be used, once they are loaded.
    pub(in super::super) prepared: Sender<Result<CameraDescriptors, StartError>>,
    /// Whether the change takes effect; it does not if this is dropped.
    pub(in super::super) decision: Receiver<()>,
    /// Notified when the workers' next looks use the new models.
    pub(in super::super) done: Sender<()>,
}

/// The models that search each camera's looks.
pub(in super::super) type CameraDescriptors = BTreeMap<CameraId, Vec<ModelDescriptor>>;

/// A loaded version, in the same slot of every worker's model set.
pub(super) struct ModelSlot {
    pub(super) index: usize,
    /// Id of the model that it is a version of.
    pub(super) model: String,
    pub(super) version: Version,
    pub(super) manifest: Arc<Manifest>,
    pub(super) descriptor: ModelDescriptor,
    /// The labels that its self-test shows, with the highest score of each; empty without a self-test.
    pub(super) self_tested: ScoreThresholds,
    /// Consecutive failed looks, over all workers.
    failures: AtomicU32,
}

impl ModelSlot {
    /// `loaded` is the version that is in the slot.
    pub(super) fn new(index: usize, version: Version, loaded: &Model, runtime: &Runtime) -> Self {
        Self {
            index,
            model: loaded.manifest().id.clone(),
            version,
            manifest: Arc::clone(loaded.manifest()),
            descriptor: describe(loaded, runtime),
            self_tested: loaded.manifest().self_tested_labels(),
            failures: AtomicU32::new(0),
        }
    }

    fn count_failures(&self, result: &Result<Vec<Detection>, ModelError>, reports: &Sender<ManagerMessage>) {
        match result {
            // Load first: a store by every worker on every look would bounce the cache line between cores.
            Ok(_) if self.failures.load(Ordering::Relaxed) != 0 => self.failures.store(0, Ordering::Relaxed),
            // A bad frame is not the model's fault.
            Ok(_) | Err(ModelError::Frame(_)) => {}
            Err(error) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == MAX_FAILURES {
                    // The manager is gone only during shutdown.
                    let _ = reports.send(ManagerMessage::ModelFailing {
                        slot: self.index,
                        reason: error.to_string(),
                    });
                }
            }
        }
    }
}

/// A version that runs beside the live one, on trial or in the shadow.
pub(super) struct Challenger {
    pub(super) slot: Arc<ModelSlot>,
    pub(super) request: String,
    pub(super) trial: Mutex<Trial>,
    /// True if its detections count; the live one then runs for the comparison, and where this one fails.
    pub(super) decides: bool,
}

impl Challenger {
    pub(super) fn trial(&self) -> MutexGuard<'_, Trial> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One model of a camera, and its challenger if there is one.
pub(super) struct Assignment {
    pub(super) slot: Arc<ModelSlot>,
    pub(super) challenger: Option<Arc<Challenger>>,
}

/// The models that search one camera's looks.
pub(super) struct CameraModels {
    assignments: Vec<Assignment>,
    /// The models for second looks, by rule that asks for them.
    second_looks: BTreeMap<RuleId, SecondLookModels>,
    /// The models whose detections count.
    detected_by: Arc<[ModelDescriptor]>,
}

/// The models for the second looks of one rule, and the rule's labels.
pub(super) struct SecondLookModels {
    pub(super) slots: Vec<Arc<ModelSlot>>,
    pub(super) labels: Vec<Label>,
}

impl CameraModels {
    pub(super) fn new(assignments: Vec<Assignment>, second_looks: BTreeMap<RuleId, SecondLookModels>) -> Self {
        let deciding = |assignment: &Assignment| match &assignment.challenger {
            Some(challenger) if challenger.decides => challenger.slot.descriptor.clone(),
            _ => assignment.slot.descriptor.clone(),
        };
        Self {
            detected_by: assignments.iter().map(deciding).collect(),
            assignments,
            second_looks,
        }
    }
}

/// The models of each camera.
pub(super) type Assignments = BTreeMap<CameraId, CameraModels>;

/// Passes model changes to the workers.
pub(super) struct ModelPool {
    /// Incremented with each change, after the handoffs were filled.
    generation: AtomicU64,
    handoffs: Vec<Mutex<Handoff>>,
}

/// The changes that one worker has not taken over yet.
struct Handoff {
    generation: u64,
    assignments: Arc<Assignments>,
    /// Slots to fill with a session, or to empty (`None`), in this order.
    changes: Vec<(usize, Option<LoadedModel>)>,
    /// Sessions that the worker put down; the manager's thread frees them.
    released: Vec<LoadedModel>,
}

impl ModelPool {
    /// The pool and each worker's models, which are empty until the first change.
    pub(super) fn new(model_sets: Vec<ModelSet>, reports: &Sender<ManagerMessage>) -> (Arc<Self>, Vec<WorkerModels>) {
        let assignments = Arc::new(Assignments::new());
        let handoff = |_: &ModelSet| {
            Mutex::new(Handoff {
                generation: 0,
                assignments: Arc::clone(&assignments),
                changes: Vec::new(),
                released: Vec::new(),
            })
        };
        let pool = Arc::new(Self {
            generation: AtomicU64::new(0),
            handoffs: model_sets.iter().map(handoff).collect(),
        });
        let worker_models = |(worker, model_set)| WorkerModels {
            model_set,
            assignments: Arc::clone(&assignments),
            generation: 0,
            pool: Arc::clone(&pool),
            worker,
            reports: reports.clone(),
        };
        let workers = model_sets.into_iter().enumerate().map(worker_models).collect();
        (pool, workers)
    }

    pub(super) fn workers(&self) -> usize {
        self.handoffs.len()
    }

    fn handoff(&self, worker: usize) -> MutexGuard<'_, Handoff> {
        self.handoffs[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `assignments` into force from each worker's next look. `fresh` holds a session per worker for each new slot; the
    /// slots in `gone` are emptied.
    pub(super) fn change(&self, assignments: Assignments, fresh: Vec<(usize, Vec<LoadedModel>)>, gone: &[usize]) {
        let assignments = Arc::new(assignments);
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let mut fresh: Vec<_> = fresh.into_iter().map(|(slot, all)| (slot, all.into_iter())).collect();
        for worker in 0..self.handoffs.len() {
            let mut handoff = self.handoff(worker);
            let sessions = fresh.iter_mut().map(|(slot, sessions)| (*slot, sessions.next()));
            handoff.changes.extend(sessions);
            handoff.changes.extend(gone.iter().map(|slot| (*slot, None)));
            handoff.assignments = Arc::clone(&assignments);
            handoff.generation = generation;
        }
        self.generation.store(generation, Ordering::Release);
    }

    /// Frees the sessions that workers put down.
    pub(super) fn clear(&self) {
        for worker in 0..self.handoffs.len() {
            let released = std::mem::take(&mut self.handoff(worker).released);
            // Freed after the lock is released.
            drop(released);
        }
    }
}

/// One worker's model set and the assignments in force.
pub(in super::super) struct WorkerModels {
    model_set: ModelSet,
    assignments: Arc<Assignments>,
    generation: u64,
    pool: Arc<ModelPool>,
    worker: usize,
    reports: Sender<ManagerMessage>,
}

impl WorkerModels {
    /// False if a change waits to be taken over.
    pub(in super::super) fn is_current(&self) -> bool {
        self.pool.generation.load(Ordering::Acquire) == self.generation
    }

    /// Takes over the changes since the last call.
    pub(in super::super) fn update(&mut self) {
        let mut handoff = self.pool.handoff(self.worker);
        for (slot, session) in std::mem::take(&mut handoff.changes) {
            let replaced = self.model_set.replace(slot, session);
            handoff.released.extend(replaced);
        }
        self.assignments = Arc::clone(&handoff.assignments);
        self.generation = handoff.generation;
    }

    /// Runs the camera's models on `frame`; returns the detections, and the models whose detections count.
    ///
    /// # Errors
    /// The error of the first model that counts and failed.
    pub(in super::super) fn detect(
        &mut self,
        camera: &CameraId,
        at: Timestamp,
        frame: &Frame,
    ) -> Result<(Vec<Detection>, Arc<[ModelDescriptor]>), ModelError> {
        let camera_models = assigned(&self.assignments, camera);
        let mut input = self.model_set.input(frame);
        let mut found = Vec::new();
        let mut detected_by = Arc::clone(&camera_models.detected_by);
        for (i, assignment) in camera_models.assignments.iter().enumerate() {
            let (own, took) = detect_timed(&mut input, &assignment.slot);
            histogram!(metric::DETECT, "model" => assignment.slot.descriptor.info.id.clone()).record(took);
            assignment.slot.count_failures(&own, &self.reports);
            let Some(challenger) = &assignment.challenger else {
                found.extend(own?);
                continue;
            };
            let (other, other_took) = detect_timed(&mut input, &challenger.slot);
            let outcome = {
                let (own_error, other_error) = (error_text(&own), error_text(&other));
                let mut trial = challenger.trial();
                let outcome = trial.look(
                    camera.as_str(),
                    at,
                    trial_input(&own, &own_error, took),
                    trial_input(&other, &other_error, other_took),
                );
                gauge!(metric::MODEL_TRIAL_LOOKS, "model" => assignment.slot.descriptor.info.id.clone())
                    .set(trial.looks());
                outcome
            };
            if let Some(outcome) = outcome {
                // The manager is gone only during shutdown.
                let _ = self.reports.send(ManagerMessage::TrialEnded {
                    request: challenger.request.clone(),
                    outcome,
                });
            }
            match (challenger.decides, other) {
                (true, Ok(other)) => found.extend(other),
                (true, Err(_)) => {
                    found.extend(own?);
                    let mut all = detected_by.to_vec();
                    all[i] = assignment.slot.descriptor.clone();
                    detected_by = all.into();
                }
                (false, _) => found.extend(own?),
            }
        }
        Ok((found, detected_by))
    }

    /// Runs the camera's models on the crop of its frame around `place`. Boxes are fractions of the whole picture; none is found if the
    /// crop would be nearly the whole picture.
    ///
    /// # Errors
    /// The error of the first model that failed.
    pub(in super::super) fn close_look_at(
        &mut self,
        camera: &CameraId,
        frame: &Frame,
        place: &BBox,
    ) -> Result<Vec<Detection>, ModelError> {
        let Some(close) = SecondLook::around(frame, place) else {
            return Ok(Vec::new());
        };
        let mut input = self.model_set.input(close.crop());
        let mut found = Vec::new();
        for assignment in &assigned(&self.assignments, camera).assignments {
            let start = Instant::now();
            found.extend(input.detect(assignment.slot.index)?);
            histogram!(metric::CLOSE_LOOK, "model" => assignment.slot.descriptor.info.id.clone())
                .record(start.elapsed());
        }
        Ok(close.in_picture(found))
    }

    /// Takes a second look, for `rule`, at a place in the camera's frame: sets the second-look score for the rule of the detections in `found`
    /// at that place to the highest score for one of the rule's labels, or, if the place is nearly the whole picture, to the
    /// highest score of the first look. Returns the models used.
    ///
    /// # Errors
    /// The error of the first model that failed; then no detection is changed.
    pub(in super::super) fn second_look_at(
        &mut self,
        camera: &CameraId,
        frame: &Frame,
        rule: &RuleId,
        place: &BBox,
        found: &mut [Detection],
    ) -> Result<Vec<ModelDescriptor>, ModelError> {
        let second_looks = &assigned(&self.assignments, camera).second_looks;
        let Some(SecondLookModels { slots, labels }) = second_looks.get(rule) else {
            return Ok(Vec::new());
        };
        let is_there = |d: &&mut Detection| labels.contains(&d.label) && d.bbox.is_part_of(place);
        let mut found: Vec<&mut Detection> = found.iter_mut().filter(is_there).collect();
        if found.is_empty() || slots.is_empty() {
            return Ok(Vec::new());
        }
        let score = match SecondLook::around(frame, place) {
            Some(second_look) => {
                let mut best = 0.0_f32;
                let mut input = self.model_set.input(second_look.crop());
                for slot in slots {
                    let start = Instant::now();
                    let seen = input.detect(slot.index)?;
                    histogram!(metric::SECOND_LOOK, "model" => slot.descriptor.info.id.clone()).record(start.elapsed());
                    best = best.max(second_look.score(&seen, labels));
                }
                best
            }
            None => found.iter().map(|d| d.score).fold(0.0, f32::max),
        };
        for detection in &mut found {
            detection.set_second_look(rule, score);
        }
        Ok(slots.iter().map(|slot| slot.descriptor.clone()).collect())
    }
}

fn assigned<'a>(assignments: &'a Assignments, camera: &CameraId) -> &'a CameraModels {
    assignments
        .get(camera)
        .expect("models are assigned to every camera before its looks begin, and looks end before they are taken away")
}

fn detect_timed(input: &mut FrameInput<'_>, slot: &ModelSlot) -> (Result<Vec<Detection>, ModelError>, Duration) {
    let start = Instant::now();
    let found = input.detect(slot.index);
    (found, start.elapsed())
}

fn error_text(result: &Result<Vec<Detection>, ModelError>) -> String {
    result.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

fn trial_input<'a>(result: &'a Result<Vec<Detection>, ModelError>, error: &'a str, took: Duration) -> LookOutcome<'a> {
    match result {
        Ok(found) => LookOutcome::Detections(found, took),
        Err(_) => LookOutcome::Failed(error),
    }
}
