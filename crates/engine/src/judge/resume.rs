//! What the engine knows beside its cases, to be kept over a restart: a problem that takes a day to confirm must outlast one.
//!
//! The cases themselves are the store's. An engine that is configured alike, given back its cases and resumed goes on as the
//! one before would have.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Engine, Watched, telling};
use crate::{
    check::Check,
    stage::{Sighting, Stage},
    track::Track,
    types::{CameraId, CaseId, Claim, Effect, NotFiled, Reason, RuleId},
    vacancy::Vacancy,
};

/// The engine's memory of things that are no cases, and of when the cases' things were last seen. Opaque; JSON bears new fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    now: Timestamp,
    cameras: BTreeMap<CameraId, Watched>,
    seen: Vec<Seen>,
    /// What other boxes had open.
    #[serde(default)]
    claims: Vec<Claim>,
}

/// What the store does not know of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    case: CaseId,
    rule: Option<RuleId>,
    last_seen: Timestamp,
    #[serde(default = "anew")]
    vacancy: Option<Vacancy>,
    #[serde(default)]
    check: Check,
}

/// Of a snapshot that was taken before cases were let go.
fn anew() -> Option<Vacancy> {
    Some(Vacancy::default())
}

/// What a start gives back to the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// Taken from the engine that ran before.
    pub snapshot: Snapshot,
    /// The looks whose pictures are still there. A candidate whose first picture is not takes another when it is next seen.
    pub pictures: BTreeSet<(CameraId, Timestamp)>,
}

impl Snapshot {
    /// What other boxes had open.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The looks that its candidates hold, oldest first for each camera: the pictures that a start should give back.
    pub fn firsts(&self) -> impl Iterator<Item = (CameraId, Timestamp)> {
        self.cameras.iter().flat_map(|(camera, watched)| {
            let tracks = watched.tracks.values().flatten();
            tracks.filter_map(Track::first).map(|first| (camera.clone(), first.at))
        })
    }
}

impl Track {
    /// The pinned look of a candidate.
    fn first(&self) -> Option<Sighting> {
        match self.stage {
            Stage::Candidate { first, .. } => Some(first),
            _ => None,
        }
    }
}

impl Engine {
    /// What [`Input::Resumed`](super::Input::Resumed) wants, to be kept for the next start.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            now: self.now,
            cameras: self.cameras.clone(),
            seen: self
                .register
                .records()
                .map(|record| Seen {
                    case: record.case.id.clone(),
                    rule: record.rule.clone(),
                    last_seen: record.last_seen,
                    vacancy: record.vacancy,
                    check: record.check.clone(),
                })
                .collect(),
            claims: self.register.claims().cloned().collect(),
        }
    }

    pub(super) fn resume(&mut self, resumed: Resumed, effects: &mut Vec<Effect>) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let Resumed { snapshot, pictures } = resumed;
        self.now = snapshot.now;
        for seen in snapshot.seen {
            self.register.remember(&seen.case, |record| {
                (record.rule, record.last_seen) = (seen.rule, seen.last_seen);
                (record.vacancy, record.check) = (seen.vacancy, seen.check);
            });
        }
        for claim in snapshot.claims {
            self.register.claim(claim);
        }
        self.register.replan(&plan.rules);
        for (camera, mut watched) in snapshot.cameras {
            let is_kept = plan.cameras.contains_key(&camera);
            watched.tracks.retain(|rule, tracks| {
                let is_kept = is_kept && plan.rules.iter().any(|r| r.id == *rule);
                for track in tracks {
                    if is_kept {
                        self.go_on(track, &camera, rule, &pictures, effects);
                    } else {
                        // Its picture is not pinned yet, so there is none to be let go.
                        track.stage = Stage::Idle;
                        track.end(NotFiled::Reconfigured, telling(&camera, rule, self.now, effects));
                    }
                }
                is_kept
            });
            if is_kept {
                self.queue.is_anyone_there |= watched.tracks.values().flatten().any(|t| t.rank().is_some());
                self.cameras.insert(camera, watched);
            }
        }
    }

    /// Goes on with one track, as far as its case and its picture are still there.
    fn go_on(
        &self,
        track: &mut Track,
        camera: &CameraId,
        rule: &RuleId,
        pictures: &BTreeSet<(CameraId, Timestamp)>,
        effects: &mut Vec<Effect>,
    ) {
        let at = self.now;
        track.note(Reason::Restarted, telling(camera, rule, at, effects));
        let has_lost_its_picture = match &track.stage {
            Stage::Candidate { first, .. } => !pictures.contains(&(camera.clone(), first.at)),
            // Confirmed, and never committed.
            Stage::AtCase(case) => !self.register.is_known(case),
            _ => false,
        };
        if has_lost_its_picture {
            track.turn(
                Stage::Retry { until: at },
                Reason::PictureLost,
                telling(camera, rule, at, effects),
            );
        } else if let Some(first) = track.first() {
            effects.push(Effect::Pin {
                camera: camera.clone(),
                at: first.at,
            });
        }
    }
}
