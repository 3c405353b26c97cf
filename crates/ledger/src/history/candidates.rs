//! Why things were filed or not: everything that a rule took notice of, with what became of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Gaps, HistoryError, HistorySource, Requirement, Shortfall, Task};
use crate::{Entry, RecordedEvent, replay::Replay};
use gridwatch_engine::{
    BBox, CameraId, CaseId, DetectionOutcome, Effect, Engine, JournalEntry, NotFiled, Plan, Progress, Reason, RuleId,
    TrackStatus,
};

/// Detections that start no candidate are one thing if they overlap by this IoU ...
const SAME_PLACE_IOU: f64 = 0.3;
/// ... and come within this time of each other.
const SAME_THING_WITHIN: SignedDuration = SignedDuration::from_mins(30);
/// Places of such detections that are followed at once, for each camera and rule.
const MAX_PLACES: usize = 64;

/// What became of something that a rule took notice of, from its first sighting to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CandidateHistory {
    /// The camera, or preset, that saw it.
    pub camera: CameraId,
    /// The rule.
    pub rule: RuleId,
    /// Code of its category.
    pub category: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The case that it became, belongs to, or was held back for.
    pub case: Option<CaseId>,
    /// First sighting.
    pub first_seen_at: Timestamp,
    /// Last sighting.
    pub last_seen_at: Timestamp,
    /// When it was decided; `None` if it was still there at the end of the time.
    pub ended_at: Option<Timestamp>,
    /// Its box when it became a candidate, as fractions of the picture.
    pub first_box: BBox,
    /// Its box in the last sighting.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// Presence without blind time, seconds.
    pub dwell_s: f64,
    /// Clear looks since the first that saw it.
    pub looks: u32,
    /// How many of them saw it.
    pub looks_seen: u32,
    /// Mean score; of detections that started no candidate the highest, 0..=1.
    pub score: f32,
    /// Each reason for which something happened to it, by first occurrence: the keys of [`Reason::as_str`].
    pub steps: Vec<JournalEntry>,
    /// What its rule still required at the end; empty if nothing.
    pub missing: Vec<Shortfall>,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// A case.
    Filed,
    /// No case of its own, for this reason.
    NotFiled(NotFiled),
    /// It was still there at the end of the time.
    Ongoing,
}

/// Which candidates are asked for.
#[derive(Debug, Clone, Default)]
pub struct CandidateFilter {
    /// Only this camera, with all its presets, or this preset.
    pub camera: Option<String>,
    /// Only this rule.
    pub rule: Option<RuleId>,
    /// Only those that were not filed for this reason.
    pub reason: Option<NotFiled>,
    /// Those that became cases, too; they have the same timeline.
    pub with_filed: bool,
    /// Detections that started no candidate, too: their score was too low, or they lay outside the zones.
    pub with_unstarted: bool,
}

/// The newest candidates that match a filter.
#[derive(Debug, Clone, Default)]
pub struct CandidateList {
    /// By last sighting, the newest first.
    pub candidates: Vec<CandidateHistory>,
    /// How many more there were, older than these.
    pub left_out: u64,
    /// How many were not filed for each reason, those left out included.
    pub reasons: BTreeMap<NotFiled, u64>,
    /// What could not be read or judged.
    pub gaps: Gaps,
}

/// Finds the candidates of the window, at most the newest `limit`.
///
/// # Errors
/// [`HistoryError`].
pub fn find(
    source: &HistorySource<'_>,
    filter: &CandidateFilter,
    limit: usize,
    task: Task<'_>,
) -> Result<CandidateList, HistoryError> {
    let mut finder = Finder {
        source,
        filter,
        limit,
        tracked: BTreeMap::new(),
        unstarted: BTreeMap::new(),
        found: VecDeque::new(),
        list: CandidateList::default(),
    };
    let (replay, gaps) = source.replay(task, |replay, entry| finder.apply(replay, entry))?;
    finder.finish(replay.plan().map(|plan| &**plan));
    let mut list = finder.list;
    list.candidates = finder.found.into_iter().collect();
    list.candidates
        .sort_by_key(|c| (std::cmp::Reverse(c.last_seen_at), c.camera.clone(), c.rule.clone()));
    list.gaps = gaps;
    Ok(list)
}

/// A tracked object as it was after the camera's last look.
#[derive(Debug, Clone)]
struct Tracked {
    rule: RuleId,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    first_box: BBox,
    bbox: BBox,
    journal: Vec<JournalEntry>,
    case: Option<CaseId>,
    progress: Progress,
    is_candidate: bool,
    /// It became a case, which was told then.
    is_told: bool,
}

/// Detections at one place that started no candidate.
#[derive(Debug, Clone)]
struct Unstarted {
    reason: NotFiled,
    first_at: Timestamp,
    last_at: Timestamp,
    first_box: BBox,
    bbox: BBox,
    looks: u32,
    score: f32,
    needs: Option<f32>,
}

struct Finder<'a> {
    source: &'a HistorySource<'a>,
    filter: &'a CandidateFilter,
    limit: usize,
    tracked: BTreeMap<CameraId, Vec<Tracked>>,
    unstarted: BTreeMap<(CameraId, RuleId), Vec<Unstarted>>,
    found: VecDeque<CandidateHistory>,
    list: CandidateList,
}

impl Finder<'_> {
    fn apply(&mut self, replay: &mut Replay, entry: Entry) {
        let camera = match &entry.event {
            RecordedEvent::Observed(look) if self.is_wanted(&look.camera) => Some(look.camera.clone()),
            _ => None,
        };
        if self.filter.with_unstarted
            && let (Some(camera), RecordedEvent::Observed(look)) = (&camera, &entry.event)
            && replay.plan().is_some()
        {
            let judged = replay.engine().explain(look);
            let plan = replay.plan().cloned();
            for detection in judged {
                if let (DetectionOutcome::NotCounted(reason), Some(bbox)) = (detection.outcome, detection.bbox) {
                    let seen = Unstarted {
                        reason,
                        first_at: look.at,
                        last_at: look.at,
                        first_box: bbox,
                        bbox,
                        looks: 1,
                        score: detection.score,
                        needs: detection.start_score,
                    };
                    self.unstarted(camera, detection.rule, seen, plan.as_deref());
                }
            }
        }
        let at = match &entry.event {
            RecordedEvent::Observed(look) => Some(look.at),
            RecordedEvent::Tick(at) => Some(*at),
            _ => None,
        };
        let plan = replay.plan().cloned();
        // The engine of a new run has its tracks back with this record.
        let is_new_run = matches!(entry.event, RecordedEvent::Resumed(_));
        let effects = replay.apply(entry);
        let ended = ends(&effects);
        let mut cameras: BTreeSet<CameraId> = ended.keys().map(|(camera, _)| camera.clone()).collect();
        cameras.extend(camera);
        if is_new_run {
            cameras.extend(self.tracked.keys().cloned());
        }
        for camera in cameras.into_iter().filter(|c| self.is_wanted(c)).collect::<Vec<_>>() {
            self.follow(&camera, replay.engine(), &ended, at, plan.as_deref());
        }
    }

    fn is_wanted(&self, camera: &CameraId) -> bool {
        let is_it = |wanted: &String| *wanted == camera.as_str() || *wanted == camera.device();
        self.filter.camera.as_ref().is_none_or(is_it)
    }

    /// Takes over what the camera tracks now, and tells what has ended.
    fn follow(
        &mut self,
        camera: &CameraId,
        engine: &Engine,
        ended: &BTreeMap<(CameraId, RuleId), VecDeque<Ended>>,
        at: Option<Timestamp>,
        plan: Option<&Plan>,
    ) {
        let mut now: Vec<Tracked> = engine.tracks_of(camera).map(Tracked::of).collect();
        let before = mem::take(self.tracked.entry(camera.clone()).or_default());
        let mut ended = ended.clone();
        let mut is_taken = vec![false; now.len()];
        for old in before {
            let same = |new: &Tracked| new.rule == old.rule && new.first_seen_at == old.first_seen_at;
            let free = |(i, new): &(usize, &Tracked)| !is_taken[*i] && same(new);
            let mut candidates = now.iter().enumerate().filter(free);
            let exact = candidates.clone().find(|(_, new)| new.first_box == old.first_box);
            if let Some(index) = exact.or_else(|| candidates.next()).map(|(i, _)| i) {
                is_taken[index] = true;
                now[index].is_told = old.is_told;
                continue;
            }
            let end = ended
                .get_mut(&(camera.clone(), old.rule.clone()))
                .and_then(VecDeque::pop_front);
            self.ended(camera, old, end, at, plan);
        }
        for track in &mut now {
            if !track.is_told && track.journal.iter().any(|entry| entry.reason == Reason::Confirmed) {
                track.is_told = true;
                let confirmed = track.journal.iter().find(|entry| entry.reason == Reason::Confirmed);
                let at = confirmed.map(|entry| entry.last_at);
                let told = track.tell(camera, Outcome::Filed, at, plan);
                self.tell(told);
            }
        }
        self.tracked.insert(camera.clone(), now);
    }

    fn ended(
        &mut self,
        camera: &CameraId,
        mut old: Tracked,
        end: Option<Ended>,
        at: Option<Timestamp>,
        plan: Option<&Plan>,
    ) {
        if let Some(end) = &end {
            old.journal.push(JournalEntry {
                reason: end.reason,
                first_at: end.at,
                last_at: end.at,
                times: 1,
            });
        }
        if old.is_told {
            return;
        }
        // Without any: lost at a start of the daemon.
        let reason = old.not_filed().unwrap_or(NotFiled::BlindTooLong);
        let at = end.map(|end| end.at).or(at);
        let told = old.tell(camera, Outcome::NotFiled(reason), at, plan);
        self.tell(told);
    }

    fn unstarted(&mut self, camera: &CameraId, rule: RuleId, seen: Unstarted, plan: Option<&Plan>) {
        let places = self.unstarted.entry((camera.clone(), rule.clone())).or_default();
        let is_over = |place: &Unstarted| seen.last_at.duration_since(place.last_at) > SAME_THING_WITHIN;
        let mut over = Vec::new();
        places.retain(|place| {
            let ends = is_over(place);
            if ends {
                over.push(place.clone());
            }
            !ends
        });
        let is_same = |p: &Unstarted| p.reason == seen.reason && p.bbox.iou(&seen.bbox) >= SAME_PLACE_IOU;
        match places.iter().position(is_same).and_then(|index| places.get_mut(index)) {
            Some(place) => {
                place.looks += 1;
                place.last_at = seen.last_at;
                place.bbox = seen.bbox;
                if seen.score > place.score {
                    (place.score, place.needs) = (seen.score, seen.needs);
                }
            }
            None => {
                places.push(seen);
                // A place more than are followed ends the oldest.
                if places.len() > MAX_PLACES {
                    over.push(places.remove(0));
                }
            }
        }
        for place in over {
            let told = place.tell(camera, &rule, plan);
            self.tell(told);
        }
    }

    fn finish(&mut self, plan: Option<&Plan>) {
        for (camera, tracks) in mem::take(&mut self.tracked) {
            for track in tracks.into_iter().filter(|t| !t.is_told) {
                // One that is no candidate any more was decided, though it is still there.
                let decided = track.not_filed().filter(|_| !track.is_candidate);
                let outcome = decided.map_or(Outcome::Ongoing, Outcome::NotFiled);
                let told = track.tell(&camera, outcome, None, plan);
                self.tell(told);
            }
        }
        for ((camera, rule), places) in mem::take(&mut self.unstarted) {
            for place in places {
                let told = place.tell(&camera, &rule, plan);
                self.tell(told);
            }
        }
    }

    fn tell(&mut self, candidate: CandidateHistory) {
        let filter = self.filter;
        let reason = match candidate.outcome {
            Outcome::NotFiled(reason) => Some(reason),
            Outcome::Filed | Outcome::Ongoing => None,
        };
        let is_wanted = self
            .source
            .window
            .from
            .is_none_or(|from| candidate.last_seen_at >= from)
            && filter.rule.as_ref().is_none_or(|rule| *rule == candidate.rule)
            && (filter.with_filed || candidate.outcome != Outcome::Filed);
        if !is_wanted {
            return;
        }
        if let Some(reason) = reason {
            *self.list.reasons.entry(reason).or_default() += 1;
        }
        if filter.reason.is_some() && filter.reason != reason {
            return;
        }
        if self.found.len() >= self.limit {
            self.list.left_out += 1;
            self.found.pop_front();
        }
        if self.limit > 0 {
            self.found.push_back(candidate);
        }
    }
}

/// The end of a track.
#[derive(Debug, Clone)]
struct Ended {
    reason: Reason,
    at: Timestamp,
}

/// The ends among the effects, for each camera and rule in the order of their tracks.
fn ends(effects: &[Effect]) -> BTreeMap<(CameraId, RuleId), VecDeque<Ended>> {
    let mut ends: BTreeMap<_, VecDeque<Ended>> = BTreeMap::new();
    for effect in effects {
        let (camera, rule, reason, at) = match effect {
            Effect::NotFiled {
                camera,
                rule,
                reason:
                    reason @ (NotFiled::LeftBeforeDwell
                    | NotFiled::SeenTooRarely
                    | NotFiled::Unattended
                    | NotFiled::LeftWhileWaiting
                    | NotFiled::BlindTooLong
                    | NotFiled::Reaimed
                    | NotFiled::Reconfigured),
                at,
            } => (camera, rule, Reason::NotFiled(*reason), *at),
            Effect::Transition {
                camera,
                rule,
                reason: Reason::Left,
                at,
            } => (camera, rule, Reason::Left, *at),
            _ => continue,
        };
        ends.entry((camera.clone(), rule.clone()))
            .or_default()
            .push_back(Ended { reason, at });
    }
    ends
}

impl Tracked {
    fn of(status: TrackStatus<'_>) -> Self {
        Self {
            rule: status.rule.clone(),
            first_seen_at: status.first_seen_at,
            last_seen_at: status.last_seen_at,
            first_box: status.first_box,
            bbox: status.bbox,
            journal: status.journal.to_vec(),
            case: status.case.cloned(),
            progress: status.progress,
            is_candidate: status.is_candidate,
            is_told: false,
        }
    }

    fn tell(
        &self,
        camera: &CameraId,
        outcome: Outcome,
        ended_at: Option<Timestamp>,
        plan: Option<&Plan>,
    ) -> CandidateHistory {
        let Progress {
            dwell,
            looks,
            looks_seen,
            confidence,
            ..
        } = self.progress;
        CandidateHistory {
            camera: camera.clone(),
            rule: self.rule.clone(),
            category: category(&self.rule, plan),
            outcome,
            case: self.case.clone(),
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            ended_at,
            first_box: self.first_box,
            bbox: self.bbox,
            dwell_s: dwell.as_secs_f64(),
            looks,
            looks_seen,
            score: confidence,
            steps: self.journal.clone(),
            missing: match outcome {
                Outcome::Filed => Vec::new(),
                Outcome::NotFiled(_) | Outcome::Ongoing => self.missing(plan),
            },
        }
    }

    /// The newest reason for which it was not filed.
    fn not_filed(&self) -> Option<NotFiled> {
        let reasons = self.journal.iter().filter_map(|entry| match entry.reason {
            Reason::NotFiled(reason) => Some((entry.last_at, reason)),
            _ => None,
        });
        reasons.max_by_key(|(at, _)| *at).map(|(_, reason)| reason)
    }

    /// What the rule still requires.
    fn missing(&self, plan: Option<&Plan>) -> Vec<Shortfall> {
        let Some(rule) = plan.and_then(|plan| plan.rules.iter().find(|r| r.id == self.rule)) else {
            return Vec::new();
        };
        let progress = &self.progress;
        let attended = rule.attended.as_ref().zip(progress.attended_share);
        let all = [
            Some((
                Requirement::Dwell,
                progress.dwell.as_secs_f64(),
                progress.required_dwell.as_secs_f64(),
            )),
            Some((Requirement::SeenN, progress.newest_seen.into(), rule.seen_n.into())),
            Some((
                Requirement::PresentShare,
                progress.present_share,
                rule.present_share.into(),
            )),
            attended.map(|(by, share)| (Requirement::AttendedShare, share, by.share.into())),
        ];
        let missing = all.into_iter().flatten().filter(|(_, has, needs)| has + 1e-6 < *needs);
        missing
            .map(|(what, has, needs)| Shortfall { what, has, needs })
            .collect()
    }
}

impl Unstarted {
    fn tell(&self, camera: &CameraId, rule: &RuleId, plan: Option<&Plan>) -> CandidateHistory {
        let needs = self.needs.filter(|needs| self.score < *needs);
        CandidateHistory {
            camera: camera.clone(),
            rule: rule.clone(),
            category: category(rule, plan),
            outcome: Outcome::NotFiled(self.reason),
            case: None,
            first_seen_at: self.first_at,
            last_seen_at: self.last_at,
            ended_at: Some(self.last_at),
            first_box: self.first_box,
            bbox: self.bbox,
            dwell_s: 0.0,
            looks: self.looks,
            looks_seen: self.looks,
            score: self.score,
            steps: vec![JournalEntry {
                reason: Reason::NotFiled(self.reason),
                first_at: self.first_at,
                last_at: self.last_at,
                times: self.looks,
            }],
            missing: needs
                .map(|needs| Shortfall {
                    what: Requirement::StartScore,
                    has: self.score.into(),
                    needs: needs.into(),
                })
                .into_iter()
                .collect(),
        }
    }
}

fn category(rule: &RuleId, plan: Option<&Plan>) -> String {
    let rule = plan.and_then(|plan| plan.rules.iter().find(|r| r.id == *rule));
    rule.map(|rule| rule.category.code.clone()).unwrap_or_default()
}
