//! Engine state beside the cases, saved over a restart: a problem that takes a day to confirm must outlast one.
//!
//! The store keeps the cases. An engine with the same configuration that gets back its cases and its snapshot continues
//! as the previous one would have.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CameraState, Engine};
use crate::{
    stage::Stage,
    track::{Track, TransitionContext},
    types::{CameraId, CaseId, Effect, HeldBackCase, Reason, RuleId},
    vacancy::Vacancy,
    verification::VerificationTally,
};

/// Engine state beside the cases: tracks, and when the objects of cases were last seen. Opaque; older JSON forms stay
/// readable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    now: Timestamp,
    cameras: BTreeMap<CameraId, CameraState>,
    seen: Vec<CaseMemory>,
    /// Cases that yielded to another box's.
    #[serde(default)]
    held_back: Vec<HeldBackCase>,
}

/// Per-case state that the store does not keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CaseMemory {
    case: CaseId,
    rule: Option<RuleId>,
    last_seen: Timestamp,
    #[serde(default = "default_vacancy")]
    vacancy: Option<Vacancy>,
    #[serde(default)]
    check: VerificationTally,
}

/// For snapshots from before vacancies were tracked.
fn default_vacancy() -> Option<Vacancy> {
    Some(Vacancy::default())
}

/// What a restart gives back to the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// Taken from the previous engine.
    pub snapshot: Snapshot,
    /// Looks whose pictures still exist. A candidate whose first picture is missing takes another when it is next seen.
    pub pictures: BTreeSet<(CameraId, Timestamp)>,
}

impl Snapshot {
    /// Cases that are held back because another box has the problem's case.
    pub fn held_back(&self) -> &[HeldBackCase] {
        &self.held_back
    }

    /// First looks of its candidates, oldest first for each camera: the pictures that a restart should restore.
    pub fn firsts(&self) -> impl Iterator<Item = (CameraId, Timestamp)> {
        self.cameras.iter().flat_map(|(camera, watched)| {
            let tracks = watched.tracks.values().flatten();
            let candidates = tracks.filter_map(Track::candidate);
            candidates.map(|candidate| (camera.clone(), candidate.first().at))
        })
    }
}

impl Engine {
    /// The state to save for [`Input::Resumed`](super::Input::Resumed) at the next start.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: self.now,
            cameras: self.cameras.clone(),
            seen: self
                .register
                .records()
                .map(|record| CaseMemory {
                    case: record.case.id.clone(),
                    rule: record.rule.clone(),
                    last_seen: record.last_seen,
                    vacancy: record.vacancy,
                    check: record.check.clone(),
                })
                .collect(),
            held_back: self.register.held_back().cloned().collect(),
        }
    }

    pub(super) fn resume(&mut self, resumed: Resumed, effects: &mut Vec<Effect>) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let Resumed { snapshot, pictures } = resumed;
        self.now = snapshot.now;
        for held in snapshot.held_back {
            self.register.restore_held_back(held);
        }
        // Confirmed, but never committed: the engine knew the case, and the store does not.
        let uncommitted: BTreeSet<CaseId> = snapshot
            .seen
            .iter()
            .map(|seen| &seen.case)
            .filter(|case| !self.register.is_known(case))
            .cloned()
            .collect();
        for seen in snapshot.seen {
            self.register.restore(&seen.case, |record| {
                (record.rule, record.last_seen) = (seen.rule, seen.last_seen);
                (record.vacancy, record.check) = (seen.vacancy, seen.check);
            });
        }
        self.register.replan(&plan.rules);
        for (camera, mut watched) in snapshot.cameras {
            let is_kept = plan.cameras.contains_key(&camera);
            watched.tracks.retain(|rule, tracks| {
                let is_kept = is_kept && plan.rules.iter().any(|r| r.id == *rule);
                for track in tracks {
                    if is_kept {
                        let has_lost_picture = match track.stage() {
                            Stage::Candidate(candidate) => !pictures.contains(&(camera.clone(), candidate.first().at)),
                            // A case that is not known any more is over: the next look ends it, as without a restart.
                            Stage::AtCase(case) => uncommitted.contains(case),
                            _ => false,
                        };
                        let context = TransitionContext::new(&camera, rule, self.now, effects);
                        resume_track(track, has_lost_picture, context);
                    } else {
                        track.discard(TransitionContext::new(&camera, rule, self.now, effects));
                    }
                }
                is_kept
            });
            if is_kept {
                self.queue.has_waiting |= watched.tracks.values().flatten().any(|t| t.rank().is_some());
                self.cameras.insert(camera, watched);
            }
        }
    }
}

/// Resumes one track: with its picture pinned again, or with a new one to be taken if it is lost.
fn resume_track(track: &mut Track, has_lost_picture: bool, mut context: TransitionContext<'_>) {
    track.record_event(Reason::Restarted, context.reborrow());
    if has_lost_picture {
        let until = context.at;
        track.change_stage(Stage::Retry { until }, Reason::PictureLost, context);
    } else if let Some(candidate) = track.candidate() {
        context.effects.push(Effect::Pin {
            camera: context.camera.clone(),
            at: candidate.first().at,
        });
    }
}
