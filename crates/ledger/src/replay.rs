//! Tells the engine again what the [ledger](crate) recorded, under the same configuration or another. It has no
//! files and no clock; the engine is the one that runs live.
//!
//! Under the same configuration the effects are those of the live run, byte for byte: a start is a new engine that is given
//! back the recorded cases, as it was then. Under another, what the platform and the store said of the *live* run's cases
//! must be fitted to the replay's:
//!
//! - a case that the live run opened within the record, and the replay did not, is not given back at a later start;
//! - a case that both opened is given back as it stands for the replay, which may have taken it back, or not;
//! - a case that only the replay opened is carried over a start as it stands, for a store would have held it, and so is
//!   what the replay's engine knew of things that are no cases yet;
//! - an answer about a case that the replay has not opened is counted and changes nothing. So a case that only the replay
//!   has is never answered and holds its site until it is let go, which can hide cases that would have come meanwhile.

pub mod compare;
pub mod truth;
pub mod tune;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Entry, Head, Reaimed, What};
use gridwatch_engine::{BBox, CaseId, CaseState, Effect, Engine, Input, OpenCase, Plan, Resumed, Snapshot};

/// What a replay is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    /// What happens before is applied, for it bears on what follows, but not told.
    pub from: Option<Timestamp>,
    /// What happens at or after this is left out.
    pub to: Option<Timestamp>,
}

impl Window {
    /// True where what happens at `at` is told.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}

/// What was counted within the window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Cases opened.
    pub cases: u64,
    /// Cases that the box took back, for nobody had a word for them and their places were empty.
    pub withdrawn: u64,
    /// Inputs applied.
    pub inputs: u64,
    /// Looks among them.
    pub looks: u64,
    /// Looks at cameras that the configuration does not name.
    pub looks_elsewhere: u64,
    /// Starts of the daemon.
    pub starts: u64,
    /// Answers of the platform about a case that this replay has not opened.
    pub replies_unknown: u64,
    /// Answers that do not fit where their case stands.
    pub replies_refused: u64,
    /// Candidates that did not become a case, by reason.
    pub not_filed: BTreeMap<String, u64>,
}

/// An engine that is told what was recorded.
#[derive(Debug, Clone)]
pub struct Replay {
    plan: Arc<Plan>,
    window: Window,
    engine: Engine,
    /// Whose configuration this is, where that is known.
    config_sha256: Option<String>,
    /// Which run the last head was of.
    run: Option<(Timestamp, String)>,
    /// The run now on had the same configuration.
    is_as_live: bool,
    /// What this engine knew when the last run ended.
    before: Option<Snapshot>,
    /// The cases that it knew then, where this run is not as the live one was.
    stood: BTreeMap<CaseId, OpenCase>,
    /// The newest record's time.
    now: Timestamp,
    /// Opened by the live engine only. Empty under the same configuration, so that memory does not grow.
    live_only: BTreeSet<CaseId>,
    /// Opened by this engine only.
    replay_only: BTreeSet<CaseId>,
    tally: Tally,
}

impl Replay {
    /// A replay under `plan`.
    pub fn new(plan: Arc<Plan>, window: Window) -> Self {
        Self {
            engine: engine(&plan),
            plan,
            window,
            config_sha256: None,
            run: None,
            is_as_live: false,
            before: None,
            stood: BTreeMap::new(),
            now: Timestamp::MIN,
            live_only: BTreeSet::new(),
            replay_only: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    /// Says that the plan is of the configuration with this hash: runs that had the same resume as they did then, byte for
    /// byte. Other runs resume with what the replay itself knew.
    #[must_use]
    pub fn under(mut self, config_sha256: &str) -> Self {
        self.config_sha256 = Some(config_sha256.to_owned());
        self
    }

    /// Takes one record; gives what the engine wants done because of it, if that lies within the window.
    pub fn take(&mut self, entry: Entry) -> Vec<Effect> {
        self.now = time_of(&entry.what).unwrap_or(self.now);
        if self.window.to.is_some_and(|to| self.now >= to) {
            return Vec::new();
        }
        let is_told = self.window.from.is_none_or(|from| self.now >= from);
        let input = match entry.what {
            What::Head(head) => {
                self.head(&head, is_told);
                return Vec::new();
            }
            What::Known(case) => {
                if !self.live_only.contains(&case.id) && self.engine.remembered().all(|c| c.id != case.id) {
                    self.engine.apply(Input::Restored(case));
                }
                return Vec::new();
            }
            What::Restored(case) if self.live_only.contains(&case.id) => return Vec::new(),
            What::Restored(case) => Input::Restored(self.stood.remove(&case.id).unwrap_or(case)),
            What::Resumed(recorded) => Input::Resumed(self.resumed(recorded)),
            What::Configured { .. } => Input::Configured(Arc::clone(&self.plan)),
            What::Observed(look) => {
                if is_told {
                    self.tally.looks += 1;
                    self.tally.looks_elsewhere += u64::from(!self.plan.cameras.contains_key(&look.camera));
                }
                Input::Observed(look)
            }
            What::Reply(reply) => Input::Reply(reply),
            What::EvidenceFailed { case } => Input::EvidenceFailed { case },
            What::Tick(at) => Input::Tick(at),
            What::Reaimed(Reaimed { camera, at }) => Input::Reaimed { camera, at },
            What::Elsewhere(news) => Input::Elsewhere(news),
        };
        let effects = self.engine.apply(input);
        self.compare(&effects, entry.filed);
        if !is_told {
            return Vec::new();
        }
        self.tally.inputs += 1;
        for effect in &effects {
            self.count(effect);
        }
        effects
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn head(&mut self, head: &Head, is_told: bool) {
        let run = (head.started_at, head.boot.clone());
        if self.run.as_ref() == Some(&run) {
            return;
        }
        let carried: Vec<OpenCase> = self
            .engine
            .remembered()
            .filter(|c| self.replay_only.contains(&c.id) && is_remembered(c, head.started_at))
            .cloned()
            .collect();
        let before = std::mem::replace(&mut self.engine, engine(&self.plan));
        // Before the first run there was nothing to know.
        self.before = self.run.is_some().then(|| before.snapshot());
        self.is_as_live = self.config_sha256.as_ref() == Some(&head.config_sha256);
        self.stood = before
            .remembered()
            .filter(|_| !self.is_as_live)
            .map(|c| (c.id.clone(), c.clone()))
            .collect();
        for case in carried {
            self.engine.apply(Input::Restored(case));
        }
        self.run = Some(run);
        self.tally.starts += u64::from(is_told);
    }

    /// What a start gives back to the replay's engine.
    fn resumed(&mut self, recorded: Box<Resumed>) -> Box<Resumed> {
        match self.before.take() {
            Some(snapshot) if !self.is_as_live => Box::new(Resumed {
                // Pictures matter to a live engine alone; here each is still there.
                pictures: snapshot.firsts().collect(),
                snapshot,
            }),
            _ => recorded,
        }
    }

    /// Which cases only one of the two engines opened.
    fn compare(&mut self, effects: &[Effect], filed: Vec<CaseId>) {
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

fn engine(plan: &Arc<Plan>) -> Engine {
    let mut engine = Engine::new();
    engine.apply(Input::Configured(Arc::clone(plan)));
    engine
}

/// As the store answers at a start.
fn is_remembered(case: &OpenCase, now: Timestamp) -> bool {
    let oldest = now.checked_sub(case.state.remembered_for()).unwrap_or(Timestamp::MIN);
    case.state.is_open() || case.at >= oldest
}

/// When a record was made, where it says so.
fn time_of(what: &What) -> Option<Timestamp> {
    match what {
        What::Head(head) if head.begun == crate::Begun::Start => Some(head.started_at),
        What::Observed(look) => Some(look.at),
        What::Reply(reply) => Some(reply.at),
        What::Tick(at) | What::Reaimed(Reaimed { at, .. }) => Some(*at),
        What::Elsewhere(news) => Some(news.at),
        _ => None,
    }
}

/// A case as a replay tells it: a line of JSON, its fields in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseLine {
    /// See [`Case`](gridwatch_engine::Case), here and below.
    pub case_id: CaseId,
    /// Which rule.
    pub rule: String,
    /// The category's code.
    pub category: String,
    /// Which camera.
    pub camera: String,
    /// The cell's code.
    pub cell: String,
    /// UTC.
    pub first_seen_at: Timestamp,
    /// UTC.
    pub confirmed_at: Timestamp,
    /// 0..=1.
    pub confidence: f32,
    /// Seconds.
    pub dwell_s: f64,
    /// Clear looks since the first.
    pub looks: u32,
    /// Those of them that saw it.
    pub looks_seen: u32,
    /// Its box when it was confirmed, as fractions of the picture.
    #[serde(rename = "box")]
    pub bbox: BBox,
}

impl From<&gridwatch_engine::Case> for CaseLine {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridwatch_engine::{Located, LonLat, PlaceMethod};

    #[test]
    fn what_a_store_forgets_is_not_carried_over_a_start() {
        let at = |days: i64| Timestamp::from_second(1_750_000_000 + days * 86400).unwrap();
        let case = |state| OpenCase {
            id: "01".into(),
            category: "0102".into(),
            camera: "gate".into(),
            zone: None,
            located: Located {
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
            confirmed_at: None,
            recurrences: 0,
            was_reopened: false,
            question: None,
        };
        assert!(is_remembered(&case(CaseState::Filed), at(400)));
        assert!(is_remembered(&case(CaseState::Rejected), at(29)));
        assert!(!is_remembered(&case(CaseState::Rejected), at(31)));
    }
}
