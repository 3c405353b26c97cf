//! The engine: routes inputs, keeps the tracks of each camera and rule, and decides.
//!
//! Rules are evaluated in the configuration's order and tracks oldest first, so the order of effects is fixed.
//! `docs/judging.md` describes the steps of a decision; geometry, presence, association and sites have their own
//! modules.

mod explain;
mod look;
mod ready;
mod resume;
mod thinned;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    explain::{DetectionOutcome, JudgedDetection, Progress, TrackStatus},
    resume::{Resumed, Snapshot},
};
use self::{look::RuleEvaluation, thinned::LookUse};
use super::{
    calendar::HoursCache,
    plus,
    presence::LookInterval,
    register::{CaseRegister, RejectedReply},
    since,
    site::SiteExtent,
    stage::Stage,
    track::{Track, TransitionContext},
    types::{
        BBox, CameraId, CameraPlan, CaseId, Effect, Elsewhere, HeldBackCase, Input, Known, NotFiled, Observation,
        OpenCase, Plan, Reason, Reply, Rule, RuleId, View,
    },
};

/// A track unseen for this long by the wall clock, blind time included, is stale: another object may stand there by
/// now. An hour outlasts a camera restart and a lorry unloading. A longer dwell or `forget_after` of the rule extends
/// it, because a problem that takes a day to confirm must outlast the night.
const MIN_STALE: Duration = Duration::from_hours(1);
/// A look older than its camera's newest by this much means that the clock was set back; anything less is a late look.
const CLOCK_SET_BACK: Duration = Duration::from_mins(1);
/// For PTZ presets it also lasts this many tours: the camera may be blind on one of them.
const STALE_TOURS: u32 = 2;
/// A camera without a look for this long after a verification is due cannot answer it, and has no picture to attach.
const VERIFICATION_GRACE: Duration = Duration::from_mins(2);
/// Scheduled looks to wait after evidence failed before trying again, so that a full disk is not hammered.
const RETRY_LOOKS: u32 = 3;

/// The pure core; see the [crate documentation](super).
#[derive(Debug, Clone, Default)]
pub struct Engine {
    plan: Option<Arc<Plan>>,
    cameras: BTreeMap<CameraId, CameraState>,
    register: CaseRegister,
    queue: WaitingQueue,
    /// Cached hours of the plan's rules, in their order.
    hours: Vec<HoursCache>,
    extents: BTreeMap<CameraId, SiteExtent>,
    /// Time of the newest input.
    now: Timestamp,
}

/// Priorities of the candidates that wait for the daily cap.
#[derive(Debug, Clone, Default)]
struct WaitingQueue {
    /// Usually false; then nothing is collected.
    has_waiting: bool,
    candidates: Vec<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    priority: f64,
    /// It belongs to the camera being evaluated.
    is_here: bool,
}

impl WaitingQueue {
    /// Collects the waiting candidates before `camera` is evaluated.
    fn collect(&mut self, cameras: &BTreeMap<CameraId, CameraState>, camera: &CameraId) {
        self.candidates.clear();
        if !self.has_waiting {
            return;
        }
        for (id, state) in cameras {
            let is_here = id.device() == camera.device();
            let ranks = state.tracks.values().flatten().filter_map(Track::rank);
            self.candidates
                .extend(ranks.map(|priority| Waiting { priority, is_here }));
        }
        self.has_waiting = !self.candidates.is_empty();
    }

    /// How many waiting candidates have a higher priority: on the camera being evaluated, and on the whole box.
    fn ahead_of(&self, priority: f64) -> (usize, usize) {
        let ahead = || self.candidates.iter().filter(|c| c.priority > priority);
        (ahead().filter(|c| c.is_here).count(), ahead().count())
    }
}

/// How far an object is from becoming a case.
#[derive(Debug, Clone, Copy)]
pub struct CandidateStatus<'a> {
    /// The camera that sees it.
    pub camera: &'a CameraId,
    /// The rule it may meet.
    pub rule: &'a Rule,
    /// Its box in the last look that saw it.
    pub bbox: BBox,
    /// Dwell that it still lacks; zero once it has stayed long enough and something else is missing.
    pub missing_dwell: Duration,
    /// It would be a case, but the daily cap is reached.
    pub waits_for_cap: bool,
}

/// State of one camera.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct CameraState {
    newest: Option<Timestamp>,
    newest_clear: Option<Timestamp>,
    /// A blind look came after the newest clear one.
    was_blind: bool,
    /// For each rule whose labels the latest looks did not search for: the last look that did, if that look and all
    /// looks since were clear. Time between a rule's own looks is not absence.
    #[serde(default, rename = "unsought")]
    not_searched: BTreeMap<RuleId, Option<Timestamp>>,
    /// Oldest first.
    tracks: BTreeMap<RuleId, Vec<Track>>,
}

impl Engine {
    /// An empty engine that waits for [`Input::Configured`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one input and returns the effects in order. Looks at cameras that the plan does not name, and looks
    /// before the first plan, have no effect.
    pub fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Configured(plan) => self.configure(plan, &mut effects),
            Input::Restored(case) => {
                let at = case.at;
                self.register.insert(case, None, at);
            }
            Input::Resumed(resumed) => self.resume(*resumed, &mut effects),
            Input::Observed(look) => self.take_look(&look, LookUse::Judged, &mut effects),
            Input::Reply(reply) => self.apply_reply(reply, &mut effects),
            Input::EvidenceFailed { case } => self.evidence_failed(&case, &mut effects),
            Input::Tick(at) => {
                self.now = at;
                self.expire_verifications(None, at, &mut effects);
                self.drop_stale_tracks(at, &mut effects);
                self.register.forget(at);
            }
            Input::Reaimed { camera, at } => {
                self.now = at;
                if let Some(state) = self.cameras.get_mut(&camera) {
                    state.end_all_tracks(&camera, NotFiled::Reaimed, at, &mut effects);
                }
                self.register.reaimed(&camera);
            }
            Input::Elsewhere(Elsewhere { at, what }) => {
                self.now = at;
                match what {
                    Known::Released(case) => self.register.release(&case),
                    Known::Yielded { case, to } => self.yielded(&case, &to, &mut effects),
                }
            }
        }
        effects
    }

    /// When an [`Input::Tick`] is needed if no other input comes first: when the oldest track becomes stale and its
    /// pinned picture can be released, or when a verification expires on a camera that delivers no looks.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let plan = self.plan.as_ref()?;
        let tracks = self.cameras.iter().flat_map(|(id, state)| {
            let camera = plan.cameras.get(id);
            state.tracks.iter().map(move |(rule, tracks)| (camera, rule, tracks))
        });
        let stale = tracks.filter_map(|(camera, rule, tracks)| {
            let after = stale_after(plan.rules.iter().find(|r| r.id == *rule)?, camera);
            tracks.iter().map(|t| plus(t.last_seen, after)).min()
        });
        stale
            .chain(self.register.next_overdue(&plan.verification, VERIFICATION_GRACE))
            .min()
    }

    /// Open cases, by id.
    pub fn open_cases(&self) -> impl Iterator<Item = &OpenCase> {
        self.register.open()
    }

    /// Number of ready candidates that wait for the daily cap.
    pub fn waiting(&self) -> usize {
        let tracks = self.cameras.values().flat_map(|w| w.tracks.values().flatten());
        tracks.filter(|t| t.rank().is_some()).count()
    }

    /// What may become a case, by camera and rule; the oldest of a rule first.
    pub fn candidates(&self) -> impl Iterator<Item = CandidateStatus<'_>> {
        self.cameras
            .iter()
            .flat_map(|(id, state)| self.candidates_in(id, state))
    }

    /// The same for one camera.
    pub fn candidates_of(&self, camera: &CameraId) -> impl Iterator<Item = CandidateStatus<'_>> {
        let camera = self.cameras.get_key_value(camera);
        camera.into_iter().flat_map(|(id, state)| self.candidates_in(id, state))
    }

    /// True if the camera has a tracked object, candidate or not. If not, a look that detects nothing only dates its newest look.
    pub fn is_tracking(&self, camera: &CameraId) -> bool {
        let state = self.cameras.get(camera);
        state.is_some_and(|state| state.tracks.values().any(|tracks| !tracks.is_empty()))
    }

    fn candidates_in<'a>(
        &'a self,
        camera: &'a CameraId,
        state: &'a CameraState,
    ) -> impl Iterator<Item = CandidateStatus<'a>> {
        let rule = |id: &RuleId| self.plan.iter().flat_map(|plan| &plan.rules).find(|r| r.id == *id);
        let tracks = state
            .tracks
            .iter()
            .flat_map(|(id, tracks)| tracks.iter().map(move |t| (id, t)));
        tracks.filter_map(move |(id, track)| {
            track.candidate()?;
            let rule = rule(id)?;
            Some(CandidateStatus {
                camera,
                rule,
                bbox: track.bbox,
                missing_dwell: track
                    .presence
                    .required_dwell(rule)
                    .saturating_sub(track.presence.dwell()),
                waits_for_cap: track.rank().is_some(),
            })
        })
    }

    /// Every case that still affects new ones, open or recently ended, by id.
    pub fn remembered(&self) -> impl Iterator<Item = &OpenCase> {
        self.register.all()
    }

    /// Cases that are held back because another box has the problem's case, by id.
    pub fn held_back(&self) -> impl Iterator<Item = &HeldBackCase> {
        self.register.held_back()
    }

    /// A case that still affects new ones.
    pub fn case(&self, id: &CaseId) -> Option<&OpenCase> {
        self.register.get(id).map(|record| &record.case)
    }

    /// The open cases that a camera filed, by id.
    pub fn open_cases_of(&self, camera: &CameraId) -> impl Iterator<Item = &OpenCase> {
        self.register.open_of(camera)
    }

    /// The boxes in the newest look of `camera` of what belongs to an open case, with the case: its own ones, and those that another camera
    /// filed at a shared site.
    pub fn boxes_at_cases(&self, camera: &CameraId) -> impl Iterator<Item = (&CaseId, BBox)> {
        let state = self.cameras.get(camera);
        let tracks = state.into_iter().flat_map(|state| state.tracks.values().flatten());
        tracks.filter_map(|track| match track.stage() {
            Stage::AtCase(case) if self.register.is_open(case) => Some((case, track.bbox)),
            _ => None,
        })
    }

    /// When any camera last saw the object of a case; `None` for a case that the engine has forgotten.
    pub fn last_seen(&self, case: &CaseId) -> Option<Timestamp> {
        self.register.get(case).map(|r| r.last_seen)
    }

    fn configure(&mut self, plan: Arc<Plan>, effects: &mut Vec<Effect>) {
        for (camera, state) in &mut self.cameras {
            let is_kept = plan.cameras.contains_key(camera);
            state.tracks.retain(|rule, tracks| {
                if is_kept && plan.rules.iter().any(|r| r.id == *rule) {
                    for track in tracks.iter_mut().filter(|t| *t.stage() == Stage::HeldBack(None)) {
                        // The new grid or location may cover it.
                        track.change_stage(
                            Stage::Idle,
                            Reason::Replanned,
                            TransitionContext::new(camera, rule, self.now, effects),
                        );
                    }
                    return true;
                }
                for track in tracks {
                    track.end(
                        NotFiled::Reconfigured,
                        TransitionContext::new(camera, rule, self.now, effects),
                    );
                }
                false
            });
        }
        self.cameras.retain(|camera, _| plan.cameras.contains_key(camera));
        self.register.replan(&plan.rules);
        self.hours = vec![HoursCache::default(); plan.rules.len()];
        self.plan = Some(plan);
    }

    fn take_look(&mut self, look: &Observation, usage: LookUse, effects: &mut Vec<Effect>) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let Some((id, camera)) = plan.cameras.get_key_value(&look.camera) else {
            return;
        };
        self.queue.collect(&self.cameras, id);
        let state = self.cameras.entry(id.clone()).or_default();
        if let Some(newest) = state.newest.filter(|newest| look.at <= *newest) {
            if since(newest, look.at) < CLOCK_SET_BACK {
                return;
            }
            // Times of the old clock cannot be compared with the new one; start over.
            state.end_all_tracks(id, NotFiled::BlindTooLong, look.at, effects);
        }
        self.now = look.at;
        state.newest = Some(look.at);
        state.drop_stale_tracks(id, &plan, look.at, effects);
        if look.view != View::Clear {
            state.was_blind = true;
            state.not_searched.values_mut().for_each(|before| *before = None);
            if usage == LookUse::Judged {
                self.expire_verifications(Some(id), look.at, effects);
            }
            return;
        }
        let before = state.newest_clear.filter(|_| !state.was_blind);
        state.newest_clear = Some(look.at);
        state.was_blind = false;
        for (rule, hours) in plan.rules.iter().zip(&mut self.hours) {
            if !look.not_searched.is_empty() && rule.labels.iter().all(|label| look.not_searched.contains(label)) {
                state.not_searched.entry(rule.id.clone()).or_insert(before);
                continue;
            }
            let before = state.not_searched.remove(&rule.id).unwrap_or(before);
            let shows_absence = !rule.labels.iter().any(|label| look.not_searched.contains(label));
            if usage != LookUse::Judged {
                if usage == LookUse::Empty && shows_absence {
                    let mut watched = |before| hours.active_time(&plan.calendar, &rule.hours, before, look.at);
                    let interval = before.map_or(LookInterval::Blind, |before| LookInterval::Watched(watched(before)));
                    self.register.add_empty(id, rule, interval, plan.intake.let_go_after);
                }
                continue;
            }
            if !state.tracks.contains_key(&rule.id) {
                state.tracks.insert(rule.id.clone(), Vec::new());
            }
            let Some(tracks) = state.tracks.get_mut(&rule.id) else {
                continue;
            };
            let interval = before.map_or(LookInterval::Blind, |before| {
                let gap = since(look.at, before);
                let mut worked = || hours.active_time(&plan.calendar, &rule.hours, before, look.at);
                if gap <= rule.max_gap {
                    LookInterval::Watched(worked())
                } else if gap <= camera.away {
                    LookInterval::Away(worked())
                } else {
                    LookInterval::Blind
                }
            });
            RuleEvaluation {
                plan: &plan,
                id,
                camera,
                rule,
                at: look.at,
                interval,
                is_active: hours.is_active(&plan.calendar, &rule.hours, look.at),
                queue: &mut self.queue,
                scores: rule.scores(look.light),
                shows_absence,
                register: &mut self.register,
                extents: &mut self.extents,
                effects,
            }
            .evaluate(tracks, &look.detections);
        }
        if usage == LookUse::Judged {
            self.expire_verifications(Some(id), look.at, effects);
        }
    }

    /// Reports verifications that ran out of time as unverifiable.
    fn expire_verifications(&mut self, camera: Option<&CameraId>, at: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(plan) = &self.plan {
            let answers = self
                .register
                .overdue(camera, at, &plan.verification, VERIFICATION_GRACE);
            effects.extend(answers.into_iter().map(|a| Effect::Verified(Box::new(a))));
        }
    }

    fn apply_reply(&mut self, reply: Reply, effects: &mut Vec<Effect>) {
        self.now = reply.at;
        let Reply {
            case,
            state,
            at,
            reason: words,
            due: _,
        } = reply.clone();
        match self.register.apply_reply(&reply) {
            Ok(None) => {}
            Ok(Some(reason)) => {
                let reason = match words.filter(|w| !w.trim().is_empty()) {
                    Some(words) => format!("{reason} Reason given: {words}"),
                    None => reason.into(),
                };
                effects.push(Effect::Revise {
                    case,
                    state,
                    at,
                    reason,
                });
            }
            Err(RejectedReply { known, reason }) => effects.push(Effect::ReplyRefused {
                case,
                known,
                reply: state,
                at,
                reason,
            }),
        }
    }

    /// Holds `case` back for another box's case `to`. What belongs to it is not filed anew while that one is open.
    fn yielded(&mut self, case: &CaseId, to: &CaseId, effects: &mut Vec<Effect>) {
        if !self.register.hold_back(case, to) {
            return;
        }
        for (id, state) in &mut self.cameras {
            for (rule, tracks) in &mut state.tracks {
                let its = |t: &&mut Track| matches!(t.stage(), Stage::AtCase(c) if c == case);
                for track in tracks.iter_mut().filter(its) {
                    let reason = Reason::NotFiled(NotFiled::OpenElsewhere);
                    track.change_stage(
                        Stage::AtCase(case.clone()),
                        reason,
                        TransitionContext::new(id, rule, self.now, effects),
                    );
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
        for (id, state) in &mut self.cameras {
            let camera = self.plan.as_ref().and_then(|p| p.cameras.get(id));
            let looks = camera.map_or(Duration::ZERO, |c| c.look_every.saturating_mul(RETRY_LOOKS) + c.away);
            let until = plus(at, looks);
            for (rule, tracks) in &mut state.tracks {
                // Every camera that sees the object may retry: another camera's pictures may work.
                for track in tracks
                    .iter_mut()
                    .filter(|t| matches!(t.stage(), Stage::AtCase(c) if c == case))
                {
                    let retry = Stage::Retry { until };
                    track.change_stage(
                        retry,
                        Reason::PictureLost,
                        TransitionContext::new(id, rule, at, effects),
                    );
                }
            }
        }
    }

    fn drop_stale_tracks(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(plan) = &self.plan {
            for (id, state) in &mut self.cameras {
                state.drop_stale_tracks(id, plan, at, effects);
            }
        }
    }
}

fn stale_after(rule: &Rule, camera: Option<&CameraPlan>) -> Duration {
    let away = camera.map_or(Duration::ZERO, |c| c.away.saturating_mul(STALE_TOURS));
    MIN_STALE
        .max(rule.unidentified_dwell.unwrap_or(rule.dwell))
        .max(rule.forget_after)
        .max(away)
}

impl CameraState {
    /// Ends every track: nothing seen so far can be compared with what comes next.
    fn end_all_tracks(&mut self, camera: &CameraId, reason: NotFiled, at: Timestamp, effects: &mut Vec<Effect>) {
        for (rule, tracks) in std::mem::take(&mut self.tracks) {
            for mut track in tracks {
                track.end(reason, TransitionContext::new(camera, &rule, at, effects));
            }
        }
        self.newest_clear = None;
        self.not_searched.values_mut().for_each(|before| *before = None);
    }

    fn drop_stale_tracks(&mut self, camera: &CameraId, plan: &Plan, at: Timestamp, effects: &mut Vec<Effect>) {
        for rule in &plan.rules {
            if let Some(tracks) = self.tracks.get_mut(&rule.id) {
                let after = stale_after(rule, plan.cameras.get(camera));
                tracks.retain_mut(|track| {
                    let is_void = since(at, track.last_seen) >= after;
                    if is_void {
                        track.end(
                            NotFiled::BlindTooLong,
                            TransitionContext::new(camera, &rule.id, at, effects),
                        );
                    }
                    !is_void
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Snapshots and ledgers of earlier versions are read; a renamed field with a default would be lost without an error.
    #[test]
    fn stored_names_of_a_cameras_state_are_kept() {
        let state = CameraState {
            not_searched: BTreeMap::from([("small_ads".into(), None)]),
            ..CameraState::default()
        };
        let stored = serde_json::to_value(&state).unwrap();
        assert!(stored.get("unsought").is_some(), "{stored}");
        assert_eq!(serde_json::from_value::<CameraState>(stored).unwrap(), state);
    }
}
