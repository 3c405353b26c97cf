//! Replays the inputs recorded in the [ledger](crate) through the engine, under the configuration that held at each moment or under
//! another one. It uses no clock, and no files but the stored plans; the engine is the one that runs live.
//!
//! Under the same configuration the effects are those of the live run, byte for byte: as in the live run, each start is
//! a new engine to which the recorded cases are restored. Under another configuration the recorded replies and restored
//! cases belong to the *live* cases and are mapped to those of the replay:
//!
//! - A case opened only by the live run is not restored at a later start.
//! - A case opened by both is restored in its state in the replay, which may have withdrawn it or not.
//! - A case opened only by the replay is carried over a start in its current state, since a store would have held it.
//!   So are the candidates of the replay's engine.
//! - A reply about a case that the replay has not opened is counted and changes nothing. So a case opened only by the
//!   replay never gets a reply and occupies its site until it is withdrawn (`intake.let_go_days`), which can suppress
//!   later cases there.
//!
//! Time whose recorded configuration is not known is not judged: its looks are left out and reported as an [`UnjudgedSpan`]. From the
//! next start on, the cases that were filed in it are known as the store had them.

pub mod compare;
mod newness;
pub mod truth;
pub mod tune;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::newness::CaseNewness;
use crate::{Entry, FileHead, PlanError, PlanId, PlanReader, Reaimed, RecordedEvent};
use gridwatch_base::text::counted;
use gridwatch_engine::{
    BBox, CaseId, CaseState, Effect, Elsewhere, Engine, HeldBackCase, Input, Known, Observation, OpenCase, Plan,
    Resumed, Snapshot,
};

/// The time range that a replay reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    /// Earlier inputs are applied, because they affect what follows, but not reported.
    pub from: Option<Timestamp>,
    /// Inputs at or after this time are left out.
    pub to: Option<Timestamp>,
}

impl Window {
    /// True if `at` lies in the window.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}

/// Counts within the window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Cases opened.
    pub cases: u64,
    /// Cases withdrawn by the box: no reply came, and the site was empty.
    pub withdrawn: u64,
    /// Inputs applied.
    pub inputs: u64,
    /// Looks among the inputs.
    pub looks: u64,
    /// Looks by cameras that the configuration does not have.
    pub looks_elsewhere: u64,
    /// Starts of the daemon.
    pub starts: u64,
    /// Replies about a case that this replay has not opened.
    pub replies_unknown: u64,
    /// Replies that do not fit the state of their case.
    pub replies_refused: u64,
    /// Candidates that did not become a case, by reason.
    pub not_filed: BTreeMap<String, u64>,
}

/// Time that was not judged, because the configuration that held in it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnjudgedSpan {
    /// Time of the first look that was not judged.
    pub from: Timestamp,
    /// Time of the last.
    pub to: Timestamp,
    /// Number of looks that were not judged.
    pub looks: u64,
    /// Why the configuration is not known.
    pub error: PlanError,
}

/// What a replay judges with.
#[derive(Debug, Clone)]
enum Configuration {
    /// One plan for everything, and the hash of the configuration that it comes from, if known.
    Given { plan: Arc<Plan>, sha256: Option<String> },
    /// The plan that held at each moment, by the records.
    Recorded(Box<PlanReader>),
}

/// An engine that is fed with recorded inputs.
#[derive(Debug, Clone)]
pub struct Replay {
    configuration: Configuration,
    /// The plan in force; `None` if it is not known.
    plan: Option<Arc<Plan>>,
    /// Name of the recorded plan in force.
    plan_id: Option<PlanId>,
    unjudged: Vec<UnjudgedSpan>,
    window: Window,
    engine: Engine,
    /// Start time and boot id of the current run.
    run: Option<(Timestamp, String)>,
    /// The current run had the same configuration.
    has_live_config: bool,
    /// Snapshot of this engine at the end of the previous run.
    snapshot_at_run_end: Option<Snapshot>,
    /// Its cases at that time; empty if the current run had the same configuration.
    cases_at_run_end: BTreeMap<CaseId, OpenCase>,
    /// Time of the newest record.
    now: Timestamp,
    /// Cases opened by the live engine only. Stays empty under the same configuration, so that memory does not grow.
    live_only: BTreeSet<CaseId>,
    /// Cases opened by this engine only.
    replay_only: BTreeSet<CaseId>,
    tally: Tally,
}

impl UnjudgedSpan {
    /// What was not judged, why, and what to do about it, as one sentence.
    pub fn describe(&self) -> String {
        let Self { from, to, looks, error } = self;
        let remedy = match error {
            PlanError::NotRecorded | PlanError::Newer { .. } => "give",
            PlanError::Missing { .. } | PlanError::Damaged { .. } | PlanError::Io { .. } => {
                "restore it from a backup of the ledger folder, or give"
            }
        };
        let looks = counted(*looks, "look", "looks");
        format!(
            "{looks} from {from} to {to} not judged: {error}; {remedy} --config FILE to judge everything with one configuration"
        )
    }
}

impl Replay {
    /// A replay of everything under `plan`.
    pub fn new(plan: Arc<Plan>, window: Window) -> Self {
        let engine = engine(Some(&plan));
        let in_force = Some(Arc::clone(&plan));
        Self::start(Configuration::Given { plan, sha256: None }, in_force, engine, window)
    }

    /// A replay of the ledger in `dir` under the configuration that held at each moment: the live cases, byte for byte. See
    /// [`Replay::unjudged`] for the time for which none is known.
    pub fn recorded(dir: &Path, window: Window) -> Self {
        let plans = Box::new(PlanReader::new(dir));
        Self::start(Configuration::Recorded(plans), None, Engine::new(), window)
    }

    fn start(configuration: Configuration, plan: Option<Arc<Plan>>, engine: Engine, window: Window) -> Self {
        Self {
            configuration,
            plan,
            plan_id: None,
            unjudged: Vec::new(),
            window,
            engine,
            run: None,
            has_live_config: false,
            snapshot_at_run_end: None,
            cases_at_run_end: BTreeMap::new(),
            now: Timestamp::MIN,
            live_only: BTreeSet::new(),
            replay_only: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    /// Sets the hash of the configuration that the plan of [`Replay::new`] comes from. Runs that had this configuration resume from
    /// the recorded state, byte for byte; other runs resume from the state of the replay.
    #[must_use]
    pub fn with_config_sha256(mut self, config_sha256: &str) -> Self {
        if let Configuration::Given { sha256, .. } = &mut self.configuration {
            *sha256 = Some(config_sha256.to_owned());
        }
        self
    }

    /// Applies one record; returns the effects of the engine if they lie in the window.
    pub fn apply(&mut self, entry: Entry) -> Vec<Effect> {
        self.now = time_of(&entry.event).unwrap_or(self.now);
        if self.window.to.is_some_and(|to| self.now >= to) {
            return Vec::new();
        }
        let is_reported = self.window.from.is_none_or(|from| self.now >= from);
        let input = match entry.event {
            RecordedEvent::Head(head) if self.is_same_run(&head) => match self.plan_after_loss(&head) {
                Some(plan) => Input::Configured(plan),
                None => return Vec::new(),
            },
            RecordedEvent::Head(head) => {
                self.start_run(&head, is_reported);
                return Vec::new();
            }
            RecordedEvent::KnownCase(case) => {
                if !self.live_only.contains(&case.id) && self.engine.case(&case.id).is_none() {
                    self.engine.apply(Input::Restored(case));
                }
                return Vec::new();
            }
            RecordedEvent::HeldBack(HeldBackCase { case, to }) => {
                if self.engine.held_back().all(|held| held.case.id != case.id) {
                    let (at, id) = (self.now, case.id.clone());
                    let what = Known::Yielded { case: id, to };
                    self.engine.apply(Input::Restored(case));
                    self.engine.apply(Input::Elsewhere(Elsewhere { at, what }));
                }
                return Vec::new();
            }
            RecordedEvent::Restored(case) if self.live_only.contains(&case.id) => return Vec::new(),
            RecordedEvent::Restored(case) => Input::Restored(self.cases_at_run_end.remove(&case.id).unwrap_or(case)),
            RecordedEvent::Resumed(recorded) => Input::Resumed(self.resumed(recorded)),
            RecordedEvent::Configured { plan, .. } => match self.take_plan(plan) {
                Some(plan) => Input::Configured(plan),
                None => return Vec::new(),
            },
            RecordedEvent::Observed(look) => {
                let Some(plan) = &self.plan else {
                    self.leave_out_look(is_reported);
                    return Vec::new();
                };
                if is_reported {
                    self.tally.looks += 1;
                    self.tally.looks_elsewhere += u64::from(!plan.cameras.contains_key(&look.camera));
                }
                Input::Observed(look)
            }
            RecordedEvent::Reply(reply) => Input::Reply(reply),
            RecordedEvent::EvidenceFailed { case } => Input::EvidenceFailed { case },
            RecordedEvent::Tick(at) => Input::Tick(at),
            RecordedEvent::Reaimed(Reaimed { camera, at }) => Input::Reaimed { camera, at },
            RecordedEvent::Elsewhere(message) => Input::Elsewhere(message),
            RecordedEvent::OpenedElsewhere => return Vec::new(),
        };
        let effects = self.engine.apply(input);
        self.track_differences(&effects, entry.opened);
        if !is_reported {
            return Vec::new();
        }
        self.tally.inputs += 1;
        for effect in &effects {
            self.count(effect);
        }
        effects
    }

    /// The counts so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The plan in force; `None` while it is not known.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// The engine, for queries.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The time within the window that was not judged, oldest first; none for a replay under a given plan.
    pub fn unjudged(&self) -> impl Iterator<Item = &UnjudgedSpan> {
        self.unjudged.iter().filter(|span| span.looks > 0)
    }

    /// Gives the engine a case of a rule that its plan does not have, as another replay of the same records left it.
    pub(crate) fn put_case(&mut self, case: OpenCase) {
        self.engine.apply(Input::Restored(case));
    }

    /// Applies a look that shows nothing, of a camera that tracks nothing: see [`Engine::date_look`], and [`Engine::date_empty_look`] if its
    /// open cases are to know.
    pub(crate) fn date_look(&mut self, look: &Observation, is_of_cases: bool) {
        self.now = look.at;
        match is_of_cases {
            true => self.engine.date_empty_look(look),
            false => self.engine.date_look(look),
        }
    }

    /// Records were left out, the newest of which had this time.
    pub(crate) fn advance_to(&mut self, at: Timestamp) {
        self.engine.advance_to(at);
    }

    /// The other replay opens this case at the next record.
    pub(crate) fn opened_beside(&mut self, case: &CaseId) {
        self.replay_only.insert(case.clone());
    }

    /// The plan that holds from now on: the given one, or that of the record; `None` if it is not known.
    fn take_plan(&mut self, recorded: Option<PlanId>) -> Option<Arc<Plan>> {
        let known = match &mut self.configuration {
            Configuration::Given { plan, .. } => Ok(Arc::clone(plan)),
            Configuration::Recorded(plans) => match &recorded {
                Some(id) => plans.get(id),
                None => Err(PlanError::NotRecorded),
            },
        };
        self.plan_id = recorded;
        self.plan = match known {
            Ok(plan) => Some(plan),
            Err(error) => {
                self.not_known(error);
                None
            }
        };
        self.plan.clone()
    }

    fn not_known(&mut self, error: PlanError) {
        let is_same = self.plan.is_none() && self.unjudged.last().is_some_and(|span| span.error == error);
        if !is_same {
            self.unjudged.push(UnjudgedSpan {
                from: self.now,
                to: self.now,
                looks: 0,
                error,
            });
        }
    }

    fn leave_out_look(&mut self, is_reported: bool) {
        if let Some(span) = self.unjudged.last_mut().filter(|_| is_reported) {
            if span.looks == 0 {
                span.from = self.now;
            }
            span.to = self.now;
            span.looks += 1;
        }
    }

    fn is_same_run(&self, head: &FileHead) -> bool {
        let (started_at, boot) = (head.started_at, &head.boot);
        self.run.as_ref().is_some_and(|run| *run == (started_at, boot.clone()))
    }

    /// The plan of a file of the current run, if the record of its change was lost.
    fn plan_after_loss(&mut self, head: &FileHead) -> Option<Arc<Plan>> {
        let is_recorded = matches!(self.configuration, Configuration::Recorded(_));
        if is_recorded && head.plan != self.plan_id {
            return self.take_plan(head.plan.clone());
        }
        None
    }

    fn start_run(&mut self, head: &FileHead, is_reported: bool) {
        let run = (head.started_at, head.boot.clone());
        let carried: Vec<OpenCase> = self
            .engine
            .remembered()
            .filter(|c| self.replay_only.contains(&c.id) && is_restorable(c, head.started_at))
            .cloned()
            .collect();
        let plan = self.take_plan(head.plan.clone());
        let previous = std::mem::replace(&mut self.engine, engine(plan.as_ref()));
        // Before the first run there is no state.
        self.snapshot_at_run_end = self.run.is_some().then(|| previous.snapshot());
        self.has_live_config = match &self.configuration {
            Configuration::Given { sha256, .. } => sha256.as_ref() == Some(&head.config_sha256),
            Configuration::Recorded(_) => true,
        };
        self.cases_at_run_end = previous
            .remembered()
            .filter(|_| !self.has_live_config)
            .map(|c| (c.id.clone(), c.clone()))
            .collect();
        for case in carried {
            self.engine.apply(Input::Restored(case));
        }
        self.run = Some(run);
        self.tally.starts += u64::from(is_reported);
    }

    /// The state from which the engine resumes at a start.
    fn resumed(&mut self, recorded: Box<Resumed>) -> Box<Resumed> {
        match self.snapshot_at_run_end.take() {
            Some(snapshot) if !self.has_live_config => Box::new(Resumed {
                // Only a live engine needs the pictures; in a replay none is missing.
                pictures: snapshot.firsts().collect(),
                snapshot,
            }),
            _ => recorded,
        }
    }

    /// Keeps track of the cases that only one of the two engines opened.
    fn track_differences(&mut self, effects: &[Effect], filed: Vec<CaseId>) {
        for effect in effects {
            if let Effect::Open(case) = effect {
                self.replay_only.insert(case.id.clone());
            }
        }
        for case in filed {
            if !self.replay_only.remove(&case) {
                self.live_only.insert(case);
            }
        }
    }

    fn count(&mut self, effect: &Effect) {
        match effect {
            Effect::Open(_) => self.tally.cases += 1,
            Effect::NotFiled { reason, .. } => match self.tally.not_filed.get_mut(reason.as_str()) {
                Some(count) => *count += 1,
                None => {
                    self.tally.not_filed.insert(reason.as_str().into(), 1);
                }
            },
            Effect::Revise {
                state: CaseState::Withdrawn,
                ..
            } => self.tally.withdrawn += 1,
            Effect::ReplyRefused { known: None, .. } => self.tally.replies_unknown += 1,
            Effect::ReplyRefused { .. } => self.tally.replies_refused += 1,
            _ => {}
        }
    }
}

fn engine(plan: Option<&Arc<Plan>>) -> Engine {
    let mut engine = Engine::new();
    if let Some(plan) = plan {
        engine.apply(Input::Configured(Arc::clone(plan)));
    }
    engine
}

/// True if the store would restore the case at a start.
fn is_restorable(case: &OpenCase, now: Timestamp) -> bool {
    let oldest = now.checked_sub(case.state.remembered_for()).unwrap_or(Timestamp::MIN);
    case.state.is_open() || case.at >= oldest
}

/// Time of a record, if it has one.
pub(crate) fn time_of(event: &RecordedEvent) -> Option<Timestamp> {
    match event {
        RecordedEvent::Head(head) if head.origin == crate::FileOrigin::Start => Some(head.started_at),
        RecordedEvent::Observed(look) => Some(look.at),
        RecordedEvent::Reply(reply) => Some(reply.at),
        RecordedEvent::Tick(at) | RecordedEvent::Reaimed(Reaimed { at, .. }) => Some(*at),
        RecordedEvent::Elsewhere(message) => Some(message.at),
        _ => None,
    }
}

/// A case in the output of a replay: one line of JSON, with the fields in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayedCase {
    /// The case id. The fields correspond to those of [`Case`](gridwatch_engine::Case).
    pub case_id: CaseId,
    /// Id of the rule.
    pub rule: String,
    /// Code of the category.
    pub category: String,
    /// Id of the camera.
    pub camera: String,
    /// Code of the grid cell.
    pub cell: String,
    /// First sighting, UTC.
    pub first_seen_at: Timestamp,
    /// Confirmation, UTC.
    pub confirmed_at: Timestamp,
    /// Confidence, 0..=1.
    pub confidence: f32,
    /// Dwell time in seconds.
    pub dwell_s: f64,
    /// Clear looks since the first sighting.
    pub looks: u32,
    /// Looks among them that showed the object.
    pub looks_seen: u32,
    /// Bounding box at the confirmation, as fractions of the picture.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// True if most looks saw a new object that no network recognised.
    pub unidentified: bool,
}

impl From<&gridwatch_engine::Case> for ReplayedCase {
    fn from(case: &gridwatch_engine::Case) -> Self {
        Self {
            case_id: case.id.clone(),
            rule: case.rule.to_string(),
            category: case.category.code.clone(),
            camera: case.camera.to_string(),
            cell: case.located.cell.to_string(),
            first_seen_at: case.first_seen_at,
            confirmed_at: case.confirmed_at,
            confidence: case.confidence,
            dwell_s: case.dwell.as_secs_f64(),
            looks: case.looks,
            looks_seen: case.looks_seen,
            bbox: case.confirmed_box,
            unidentified: case.is_unidentified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridwatch_engine::{Location, LonLat, PlaceMethod};

    #[test]
    fn cases_that_a_store_no_longer_restores_are_not_carried_over_a_start() {
        let at = |days: i64| Timestamp::from_second(1_750_000_000 + days * 86400).unwrap();
        let case = |state| OpenCase {
            id: "01".into(),
            category: "0102".into(),
            camera: "gate".into(),
            zone: None,
            located: Location {
                at: LonLat { lon: 0.0, lat: 0.0 },
                uncertainty_m: 1.0,
                method: PlaceMethod::CameraPoint,
                cell: "1".into(),
            },
            bbox: BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            },
            state,
            at: at(0),
            appearance: None,
            number: None,
            text: None,
            confirmed_at: None,
            recurrences: 0,
            was_reopened: false,
            question: None,
        };
        assert!(is_restorable(&case(CaseState::Filed), at(400)));
        assert!(is_restorable(&case(CaseState::Rejected), at(29)));
        assert!(!is_restorable(&case(CaseState::Rejected), at(31)));
    }
}
