//! The engine: routes inputs, keeps the tracks of each camera and rule, and decides.
//!
//! Looks are judged rule by rule in the configuration's order, tracks oldest first, so that effects have one order. The
//! steps of a decision are told in `docs/judging.md`; geometry, presence, association and sites are their own modules.

mod look;
mod ready;
mod resume;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::look::Judging;
pub use self::resume::{Resumed, Snapshot};
use super::{
    calendar::Lately,
    plus,
    presence::Step,
    since,
    site::Register,
    stage::{Stage, TransitionContext},
    track::Track,
    types::{
        CameraId, CameraPlan, CaseId, Claim, Effect, Elsewhere, Input, Known, NotFiled, Observation, OpenCase, Plan,
        Reason, Reply, Rule, RuleId, View,
    },
};

/// A track unseen for this long by the wall clock, blind time included, is void: what stands there now may be another thing.
/// An hour outlasts a camera's restart and a lorry's unloading; a longer dwell or grace of the rule prolongs it, for a
/// problem that takes a day to confirm must outlast the night.
const LEAST_VOID: Duration = Duration::from_hours(1);
/// A look that much older than its camera's newest means that the clock was set back; less is a look that came late.
const CLOCK_SET_BACK: Duration = Duration::from_mins(1);
/// So many tours of a camera that turns prolong it too: it may come by once and be blind.
const VOID_TOURS: u32 = 2;
/// A camera that gives no look for so long after a question is due shows nothing of it, and has no picture of it either.
const UNSEEN: Duration = Duration::from_mins(2);
/// After evidence failed, the next case waits this many scheduled looks: a full disk is not emptied by hammering it.
const RETRY_LOOKS: u32 = 3;

/// The pure core. See the [module's](super) head.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    plan: Option<Arc<Plan>>,
    cameras: BTreeMap<CameraId, Watched>,
    register: Register,
    queue: Queue,
    /// The hours of the plan's rules, in their order.
    hours: Vec<Lately>,
    /// The newest input's time.
    now: Timestamp,
}

/// The candidates that wait for another day's room, by weight.
#[derive(Debug, Clone, Default)]
struct Queue {
    /// False on nearly every day: then nobody is counted.
    is_anyone_there: bool,
    /// Each with whether it is of the camera that is looked at.
    weights: Vec<(f64, bool)>,
}

impl Queue {
    /// Counts who waits, before `camera` is judged.
    fn line_up(&mut self, cameras: &BTreeMap<CameraId, Watched>, camera: &CameraId) {
        self.weights.clear();
        if !self.is_anyone_there {
            return;
        }
        for (id, watched) in cameras {
            let ranks = watched.tracks.values().flatten().filter_map(Track::rank);
            self.weights
                .extend(ranks.map(|rank| (rank, id.device() == camera.device())));
        }
        self.is_anyone_there = !self.weights.is_empty();
    }

    /// How many go before a thing of `weight`: of the camera that is looked at, and of all.
    fn before(&self, weight: f64) -> (usize, usize) {
        let heavier = || self.weights.iter().filter(|(w, _)| *w > weight);
        (heavier().filter(|(_, is_here)| *is_here).count(), heavier().count())
    }
}

/// What is known of one camera.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Watched {
    newest: Option<Timestamp>,
    newest_clear: Option<Timestamp>,
    /// A blind look came after the newest clear one.
    was_blind: bool,
    /// For each rule whose things were not looked for lately: the look before, where it was clear and nothing but clear looks
    /// came since. What is between a rule's own looks is none of its absence.
    #[serde(default)]
    not_searched: BTreeMap<RuleId, Option<Timestamp>>,
    /// Oldest first.
    tracks: BTreeMap<RuleId, Vec<Track>>,
}

impl Engine {
    /// An engine that knows nothing and waits for [`Input::Configured`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one input and says what is to be done, in order. Looks at cameras that the plan does not name, and looks before
    /// the first plan, have no effect.
    pub fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Configured(plan) => self.configure(plan, &mut effects),
            Input::Restored(case) => {
                let at = case.at;
                self.register.insert(case, None, at);
            }
            Input::Resumed(resumed) => self.resume(*resumed, &mut effects),
            Input::Observed(look) => self.observe(&look, &mut effects),
            Input::Reply(reply) => self.answer(reply, &mut effects),
            Input::EvidenceFailed { case } => self.evidence_failed(&case, &mut effects),
            Input::Tick(at) => {
                self.now = at;
                self.overdue(None, at, &mut effects);
                self.void(at, &mut effects);
                self.register.forget(at);
            }
            Input::Reaimed { camera, at } => {
                self.now = at;
                if let Some(watched) = self.cameras.get_mut(&camera) {
                    watched.end_all(&camera, NotFiled::Reaimed, at, &mut effects);
                }
                self.register.reaimed(&camera);
            }
            Input::Elsewhere(Elsewhere { at, what }) => {
                self.now = at;
                match what {
                    Known::Claimed(claim) => self.register.claim(claim),
                    Known::Released(case) => self.register.release(&case),
                    Known::Yielded { case, to } => self.yielded(&case, &to, &mut effects),
                }
            }
        }
        effects
    }

    /// When a [`Input::Tick`] is wanted, if nothing else comes before: the moment at which the oldest track is void and its
    /// pinned picture can go, or at which a camera that does not look has not verified what it was asked.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let plan = self.plan.as_ref()?;
        let tracks = self.cameras.iter().flat_map(|(id, watched)| {
            let camera = plan.cameras.get(id);
            watched.tracks.iter().map(move |(rule, tracks)| (camera, rule, tracks))
        });
        let void = tracks.filter_map(|(camera, rule, tracks)| {
            let after = void_after(plan.rules.iter().find(|r| r.id == *rule)?, camera);
            tracks.iter().map(|t| plus(t.last_seen, after)).min()
        });
        void.chain(self.register.next_overdue(&plan.verification, UNSEEN)).min()
    }

    /// The open cases, by id.
    pub fn open_cases(&self) -> impl Iterator<Item = &OpenCase> {
        self.register.open()
    }

    /// How many problems wait for another day's room.
    pub fn waiting(&self) -> usize {
        let tracks = self.cameras.values().flat_map(|w| w.tracks.values().flatten());
        tracks.filter(|t| t.rank().is_some()).count()
    }

    /// Every case that bears on new ones, open or lately over, by id.
    pub fn remembered(&self) -> impl Iterator<Item = &OpenCase> {
        self.register.all()
    }

    /// What other boxes have open, by case.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.register.claims()
    }

    /// When the thing of a case was last seen by any camera; `None` for a case that the engine no longer knows.
    pub fn last_seen(&self, case: &CaseId) -> Option<Timestamp> {
        self.register.get(case).map(|r| r.last_seen)
    }

    fn configure(&mut self, plan: Arc<Plan>, effects: &mut Vec<Effect>) {
        for (camera, watched) in &mut self.cameras {
            let is_kept = plan.cameras.contains_key(camera);
            watched.tracks.retain(|rule, tracks| {
                if is_kept && plan.rules.iter().any(|r| r.id == *rule) {
                    for track in tracks.iter_mut().filter(|t| t.stage == Stage::HeldBack(None)) {
                        // The new grid, or the new place, may hold it.
                        track.turn(Stage::Idle, Reason::Replanned, telling(camera, rule, self.now, effects));
                    }
                    return true;
                }
                for track in tracks {
                    track.end(NotFiled::Reconfigured, telling(camera, rule, self.now, effects));
                }
                false
            });
        }
        self.cameras.retain(|camera, _| plan.cameras.contains_key(camera));
        self.register.replan(&plan.rules);
        self.hours = vec![Lately::default(); plan.rules.len()];
        self.plan = Some(plan);
    }

    fn observe(&mut self, look: &Observation, effects: &mut Vec<Effect>) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let Some((id, camera)) = plan.cameras.get_key_value(&look.camera) else {
            return;
        };
        self.queue.line_up(&self.cameras, id);
        let watched = self.cameras.entry(id.clone()).or_default();
        if let Some(newest) = watched.newest.filter(|newest| look.at <= *newest) {
            if since(newest, look.at) < CLOCK_SET_BACK {
                return;
            }
            // Nothing that was timed by the old clock can be compared with the new: begin again.
            watched.end_all(id, NotFiled::BlindTooLong, look.at, effects);
        }
        self.now = look.at;
        watched.newest = Some(look.at);
        watched.void(id, &plan, look.at, effects);
        if look.view != View::Clear {
            watched.was_blind = true;
            watched.not_searched.values_mut().for_each(|before| *before = None);
            self.overdue(Some(id), look.at, effects);
            return;
        }
        let before = watched.newest_clear.filter(|_| !watched.was_blind);
        watched.newest_clear = Some(look.at);
        watched.was_blind = false;
        for (rule, hours) in plan.rules.iter().zip(&mut self.hours) {
            if !look.not_searched.is_empty() && rule.labels.iter().all(|label| look.not_searched.contains(label)) {
                watched.not_searched.entry(rule.id.clone()).or_insert(before);
                continue;
            }
            let before = watched.not_searched.remove(&rule.id).unwrap_or(before);
            if !watched.tracks.contains_key(&rule.id) {
                watched.tracks.insert(rule.id.clone(), Vec::new());
            }
            let Some(tracks) = watched.tracks.get_mut(&rule.id) else {
                continue;
            };
            let step = before.map_or(Step::Blind, |before| {
                let gap = since(look.at, before);
                let mut worked = || hours.worked(&plan.calendar, &rule.hours, before, look.at);
                if gap <= rule.max_gap {
                    Step::Watched(worked())
                } else if gap <= camera.away {
                    Step::Away(worked())
                } else {
                    Step::Blind
                }
            });
            Judging {
                plan: &plan,
                id,
                camera,
                rule,
                at: look.at,
                step,
                works: hours.works(&plan.calendar, &rule.hours, look.at),
                queue: &mut self.queue,
                scores: rule.scores(look.light),
                register: &mut self.register,
                effects,
            }
            .look(tracks, &look.detections);
        }
        self.overdue(Some(id), look.at, effects);
    }

    /// Says of what could not be verified in time that it could not be.
    fn overdue(&mut self, camera: Option<&CameraId>, at: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(plan) = &self.plan {
            let answers = self.register.overdue(camera, (at, &plan.verification), UNSEEN);
            effects.extend(answers.into_iter().map(|a| Effect::Verified(Box::new(a))));
        }
    }

    fn answer(&mut self, reply: Reply, effects: &mut Vec<Effect>) {
        self.now = reply.at;
        let Reply {
            case,
            state,
            at,
            reason: words,
            due: _,
        } = reply.clone();
        match self.register.answer(&reply) {
            Ok(None) => {}
            Ok(Some(reason)) => {
                let reason = match words.filter(|w| !w.trim().is_empty()) {
                    Some(words) => format!("{reason} Its words: {words}"),
                    None => reason.into(),
                };
                effects.push(Effect::Revise {
                    case,
                    state,
                    at,
                    reason,
                });
            }
            Err((known, reason)) => effects.push(Effect::ReplyRefused {
                case,
                known,
                reply: state,
                at,
                reason,
            }),
        }
    }

    /// What belonged to `case` belongs to another box's case `to`, in which its site is from here on.
    fn yielded(&mut self, case: &CaseId, to: &CaseId, effects: &mut Vec<Effect>) {
        if self.register.remove(case).is_none() {
            return;
        }
        for (id, watched) in &mut self.cameras {
            for (rule, tracks) in &mut watched.tracks {
                let its = |t: &&mut Track| matches!(&t.stage, Stage::AtCase(c) if c == case);
                for track in tracks.iter_mut().filter(its) {
                    let reason = Reason::NotFiled(NotFiled::OpenElsewhere);
                    track.turn(Stage::AtCase(to.clone()), reason, telling(id, rule, self.now, effects));
                }
            }
        }
    }

    fn evidence_failed(&mut self, case: &CaseId, effects: &mut Vec<Effect>) {
        let Some(record) = self.register.remove(case) else {
            return;
        };
        let (camera, at) = (record.case.camera, self.now);
        if let Some(rule) = record.rule {
            effects.push(Effect::NotFiled {
                camera: camera.clone(),
                rule,
                reason: NotFiled::EvidenceFailed,
                at,
            });
        }
        for (id, watched) in &mut self.cameras {
            let camera = self.plan.as_ref().and_then(|p| p.cameras.get(id));
            let looks = camera.map_or(Duration::ZERO, |c| c.look_every.saturating_mul(RETRY_LOOKS) + c.away);
            let until = plus(at, looks);
            for (rule, tracks) in &mut watched.tracks {
                // Every camera that sees the thing may try again: another one's pictures may work.
                for track in tracks
                    .iter_mut()
                    .filter(|t| matches!(&t.stage, Stage::AtCase(c) if c == case))
                {
                    let retry = Stage::Retry { until };
                    track.turn(retry, Reason::PictureLost, telling(id, rule, at, effects));
                }
            }
        }
    }

    fn void(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(plan) = &self.plan {
            for (id, watched) in &mut self.cameras {
                watched.void(id, plan, at, effects);
            }
        }
    }
}

fn telling<'a>(
    camera: &'a CameraId,
    rule: &'a RuleId,
    at: Timestamp,
    effects: &'a mut Vec<Effect>,
) -> TransitionContext<'a> {
    TransitionContext {
        camera,
        rule,
        at,
        effects,
    }
}

fn void_after(rule: &Rule, camera: Option<&CameraPlan>) -> Duration {
    let away = camera.map_or(Duration::ZERO, |c| c.away.saturating_mul(VOID_TOURS));
    LEAST_VOID.max(rule.dwell).max(rule.forget_after).max(away)
}

impl Watched {
    /// Begins again: nothing that was seen before can be compared with what comes.
    fn end_all(&mut self, camera: &CameraId, reason: NotFiled, at: Timestamp, effects: &mut Vec<Effect>) {
        for (rule, tracks) in std::mem::take(&mut self.tracks) {
            for mut track in tracks {
                track.end(reason, telling(camera, &rule, at, effects));
            }
        }
        self.newest_clear = None;
        self.not_searched.values_mut().for_each(|before| *before = None);
    }

    fn void(&mut self, camera: &CameraId, plan: &Plan, at: Timestamp, effects: &mut Vec<Effect>) {
        for rule in &plan.rules {
            if let Some(tracks) = self.tracks.get_mut(&rule.id) {
                let after = void_after(rule, plan.cameras.get(camera));
                tracks.retain_mut(|track| {
                    let is_void = since(at, track.last_seen) >= after;
                    if is_void {
                        track.end(NotFiled::BlindTooLong, telling(camera, &rule.id, at, effects));
                    }
                    !is_void
                });
            }
        }
    }
}
