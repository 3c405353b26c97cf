//! What the engine makes of a look and of the objects that it tracks, for people who ask why something was filed or not. Queries only:
//! nothing here changes a decision.

use std::time::Duration;

use jiff::Timestamp;

use super::{Engine, look::RuleLook};
use crate::{
    stage::Stage,
    track::{Track, affinity, associate},
    types::{BBox, CameraId, CaseId, JournalEntry, NotFiled, Observation, RuleId, View},
};

/// A detection, or a group of them, as one rule takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedDetection {
    /// The rule.
    pub rule: RuleId,
    /// Its box; `None` if it lies outside the picture.
    pub bbox: Option<BBox>,
    /// Its score, 0..=1.
    pub score: f32,
    /// Score that starts a candidate; `None` if nothing of its newness starts one.
    pub start_score: Option<f32>,
    /// What it counts as.
    pub outcome: DetectionOutcome,
}

/// What a detection counts as under a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectionOutcome {
    /// It continues an object that is tracked.
    Continues,
    /// It starts an object.
    Starts,
    /// It lies on a tracked object, but does not count: the look missed the object, for this reason.
    Missed(NotFiled),
    /// It does not count, or starts no candidate.
    NotCounted(NotFiled),
    /// The rule was not active.
    Resting,
}

/// A tracked object, candidate or not.
#[derive(Debug, Clone, Copy)]
pub struct TrackStatus<'a> {
    /// The rule that tracks it.
    pub rule: &'a RuleId,
    /// When it first became a candidate, or was first seen on permitted ground.
    pub first_seen_at: Timestamp,
    /// The last look that saw it.
    pub last_seen_at: Timestamp,
    /// Box when it last became a candidate.
    pub first_box: BBox,
    /// Box in the last look that saw it.
    pub bbox: BBox,
    /// Its history, by the first occurrence of each reason.
    pub journal: &'a [JournalEntry],
    /// It may become a case.
    pub is_candidate: bool,
    /// The case that it belongs to, or that it was rejected as.
    pub case: Option<&'a CaseId>,
    /// How close it is to what its rule requires.
    pub progress: Progress,
}

/// How close an object is to what its rule requires.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Presence without blind time.
    pub dwell: Duration,
    /// The dwell that is required of it.
    pub required_dwell: Duration,
    /// Clear looks since the first that saw it.
    pub looks: u32,
    /// How many of them saw it.
    pub looks_seen: u32,
    /// How many of the newest `seen_m` looks saw it.
    pub newest_seen: u32,
    /// Share of the looks at which it counted as present, 0..=1.
    pub present_share: f64,
    /// Share of the looks that saw it in which it was attended, 0..=1; `None` if its rule requires no attendant.
    pub attended_share: Option<f64>,
    /// Mean score of the looks that saw it, 0..=1.
    pub confidence: f32,
}

impl Engine {
    /// The objects that the camera tracks, by rule; the oldest of a rule first.
    pub fn tracks_of(&self, camera: &CameraId) -> impl Iterator<Item = TrackStatus<'_>> {
        let state = self.cameras.get(camera);
        let tracks = state.into_iter().flat_map(|state| &state.tracks);
        let tracks = tracks.flat_map(|(rule, tracks)| tracks.iter().map(move |track| (rule, track)));
        tracks.filter_map(|(id, track)| {
            let rule = self.plan.as_ref()?.rules.iter().find(|r| r.id == *id)?;
            let presence = &track.presence;
            let (looks, looks_seen) = presence.looks();
            Some(TrackStatus {
                rule: id,
                first_seen_at: track.journal().first().map_or(track.last_seen, |entry| entry.first_at),
                last_seen_at: track.last_seen,
                first_box: track.origin,
                bbox: track.bbox,
                journal: track.journal(),
                is_candidate: track.candidate().is_some(),
                case: case_of(track),
                progress: Progress {
                    dwell: presence.dwell(),
                    required_dwell: presence.required_dwell(rule),
                    looks,
                    looks_seen,
                    newest_seen: presence.newest_seen(rule),
                    present_share: presence.present_share(),
                    attended_share: rule.attended.as_ref().map(|_| presence.attended_share()),
                    confidence: presence.confidence(),
                },
            })
        })
    }

    /// What each rule takes the detections of `look` for; to be asked before the look is applied. Empty for a look that is not clear,
    /// or of an unknown camera.
    pub fn explain(&self, look: &Observation) -> Vec<JudgedDetection> {
        let Some(plan) = self.plan.as_deref().filter(|_| look.view == View::Clear) else {
            return Vec::new();
        };
        let Some(camera) = plan.cameras.get(&look.camera) else {
            return Vec::new();
        };
        let mut judged = Vec::new();
        for rule in &plan.rules {
            if !look.detections.iter().any(|d| rule.labels.contains(&d.label)) {
                continue;
            }
            let rule_look = RuleLook {
                plan,
                camera,
                rule,
                at: look.at,
                scores: rule.scores(look.light),
            };
            let is_active = plan.calendar.is_active(&rule.hours, look.at);
            let tracks: &[Track] = self
                .cameras
                .get(&look.camera)
                .and_then(|state| state.tracks.get(&rule.id))
                .map_or(&[], Vec::as_slice);
            let (groups, rejected) = rule_look.groups(&look.detections);
            let reach = f64::from(rule.max_move);
            let continued = associate(tracks, &groups, reach);
            for (group, track) in groups.iter().zip(continued) {
                let outcome = match (is_active, track, rule_look.starts_candidate(group)) {
                    (false, ..) => DetectionOutcome::Resting,
                    (true, Some(_), _) => DetectionOutcome::Continues,
                    (true, None, Ok(())) => DetectionOutcome::Starts,
                    (true, None, Err(reason)) => DetectionOutcome::NotCounted(reason),
                };
                judged.push(JudgedDetection {
                    rule: rule.id.clone(),
                    bbox: Some(group.bbox),
                    score: group.score,
                    start_score: rule.start_score(rule_look.scores, group.newness),
                    outcome,
                });
            }
            for rejected in rejected {
                let is_on = |b: BBox| tracks.iter().any(|t| affinity(&t.bbox, &b, reach, None) > 0.0);
                let outcome = match rejected.bbox {
                    _ if !is_active => DetectionOutcome::Resting,
                    Some(bbox) if is_on(bbox) => DetectionOutcome::Missed(rejected.reason),
                    _ => DetectionOutcome::NotCounted(rejected.reason),
                };
                judged.push(JudgedDetection {
                    rule: rule.id.clone(),
                    bbox: rejected.bbox,
                    score: rejected.score,
                    start_score: rule.start_score(rule_look.scores, rejected.newness),
                    outcome,
                });
            }
        }
        judged
    }
}

fn case_of(track: &Track) -> Option<&CaseId> {
    match track.stage() {
        Stage::AtCase(case) | Stage::HeldBack(Some(case)) => Some(case),
        _ => None,
    }
}
