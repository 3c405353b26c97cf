//! One clear look of one camera, judged by one rule.

use jiff::Timestamp;

use super::Queue;
use crate::{
    approved::approval,
    check::Glimpse,
    geometry::distance_m,
    group::{Sight, gather, is_attended, is_large_enough},
    presence::{Presence, Step},
    site::Register,
    stage::{Closer, Sighting, Stage, TransitionContext},
    standing::standing,
    track::{Track, affinity, associate, is_found_twice},
    types::{BBox, CameraId, CameraPlan, CaseState, Detection, Effect, NotFiled, Plan, Reason, Rule, Scores},
};

/// A box that does not count, where it lies in the picture, and why.
type Unfit = (Option<BBox>, NotFiled);

/// A place that is hidden by so much shows nothing.
const HIDDEN: f64 = 0.5;

/// True where what is in the box may be what lay at the place.
fn may_be(place: &BBox, b: &BBox, reach: f64) -> bool {
    place.holds(b.centre()) || affinity(place, b, reach, None) > 0.0
}

/// One clear look of one camera, judged by one rule.
pub(super) struct Judging<'a> {
    pub(super) plan: &'a Plan,
    pub(super) id: &'a CameraId,
    pub(super) camera: &'a CameraPlan,
    pub(super) rule: &'a Rule,
    pub(super) at: Timestamp,
    /// Time since the look before, as far as the rule worked.
    pub(super) step: Step,
    /// The rule does not rest now.
    pub(super) works: bool,
    pub(super) queue: &'a mut Queue,
    /// What counts by the light of this look.
    pub(super) scores: Scores,
    pub(super) register: &'a mut Register,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl<'a> Judging<'a> {
    pub(super) fn look(mut self, tracks: &mut Vec<Track>, detections: &[Detection]) {
        let (sights, unfit) = self.sights(detections);
        let there = self.whatever_is_there(&sights, &unfit);
        self.follow(tracks, detections, &sights, unfit);
        // What was seen at this look has begun anew.
        self.let_go(&there);
        if self.works {
            self.check(&sights, &there, detections);
        }
    }

    /// What counts of `detections`, the surest first where they are not gathered, and what does not and why.
    fn sights(&self, detections: &[Detection]) -> (Vec<Sight<'a>>, Vec<Unfit>) {
        let mut sights: Vec<Sight<'a>> = Vec::new();
        let mut unfit: Vec<Unfit> = Vec::new();
        for detection in detections.iter().filter(|d| self.rule.labels.contains(&d.label)) {
            match self.fit(detection) {
                Ok(sight) => sights.push(sight),
                Err(why) => unfit.push(why),
            }
        }
        sights.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut boxes: Vec<BBox> = Vec::with_capacity(sights.len());
        sights.retain(|s| {
            let is_new = !is_found_twice(&s.bbox, boxes.iter());
            if is_new {
                boxes.push(s.bbox);
            }
            is_new
        });
        gather(&mut sights, self.rule.gather.into());
        sights.retain(|sight| {
            let is_large = is_large_enough(self.rule, self.camera, sight);
            if !is_large {
                unfit.push((Some(sight.bbox), NotFiled::TooSmall));
            }
            is_large
        });
        (sights, unfit)
    }

    fn follow(
        &mut self,
        tracks: &mut Vec<Track>,
        detections: &[Detection],
        sights: &[Sight<'a>],
        mut unfit: Vec<Unfit>,
    ) {
        let reach = f64::from(self.rule.max_move);
        let continued = associate(tracks, sights, reach);
        let mut sight_of = vec![None; tracks.len()];
        for (sight, track) in sights.iter().zip(&continued) {
            if let Some(track) = *track {
                sight_of[track] = Some(sight);
            }
        }
        if !self.works {
            for (track, sight) in tracks.iter_mut().zip(sight_of) {
                self.passed(track, sight);
            }
            return;
        }
        unfit.retain(|(bbox, _)| {
            // A candidate's own bad look is a look that missed it, not another candidate.
            !bbox.is_some_and(|b| tracks.iter().any(|t| affinity(&t.bbox, &b, reach, None) > 0.0))
        });
        let mut sight_of = sight_of.into_iter();
        tracks.retain_mut(|track| match sight_of.next().flatten() {
            Some(sight) => {
                let attended = self.is_attended(sight, detections);
                self.saw(track, sight, attended);
                true
            }
            None => self.missed(track),
        });
        for (sight, _) in sights.iter().zip(&continued).filter(|(_, track)| track.is_none()) {
            if sight.score < self.scores.start {
                self.not_filed(NotFiled::ScoreTooLow);
                continue;
            }
            let attended = self.is_attended(sight, detections);
            let mut track = Track {
                origin: sight.bbox,
                bbox: sight.bbox,
                appearance: sight.appearance,
                number: sight.number.clone(),
                last_seen: self.at,
                presence: Presence::begin(sight.score, attended),
                stage: Stage::Idle,
                journal: Vec::new(),
            };
            if sight.standing.is_permitted {
                self.permit(&mut track, sight.score);
            } else {
                self.begin(&mut track, sight, attended);
            }
            tracks.push(track);
        }
        for (_, reason) in unfit {
            self.not_filed(reason);
        }
    }

    /// What lies where, whether it counts or not, as long as the camera has open cases: a place is not empty where what is left
    /// of a heap is too small to count, or what stands there has come to be lawful.
    fn whatever_is_there(&self, sights: &[Sight<'a>], unfit: &[Unfit]) -> Vec<BBox> {
        if !self.register.has_open(self.id) {
            return Vec::new();
        }
        let counts = sights.iter().map(|s| s.bbox);
        let others = unfit.iter().filter(|(_, why)| *why != NotFiled::ScoreTooLow);
        counts.chain(others.filter_map(|(bbox, _)| *bbox)).collect()
    }

    /// Looks for the things of the cases about which somebody asked.
    fn check(&mut self, sights: &[Sight<'a>], there: &[BBox], detections: &[Detection]) {
        let (rule, keep, how) = (self.rule, self.scores.keep, &self.plan.verification);
        let reach = f64::from(rule.max_move);
        let hides = |place: &BBox, d: &Detection| {
            let is_such = how.hidden_by.contains(&d.label) && !rule.labels.contains(&d.label);
            is_such && d.score >= keep && d.bbox.common(place) >= HIDDEN * place.area()
        };
        let shows = |place: &BBox| {
            if sights.iter().any(|s| may_be(place, &s.bbox, reach)) {
                Some(Glimpse::Thing)
            } else if detections.iter().any(|d| hides(place, d)) {
                None
            } else if there.iter().any(|b| may_be(place, b, reach)) {
                Some(Glimpse::Doubt)
            } else {
                Some(Glimpse::Empty)
            }
        };
        let answers = self.register.check(self.id, rule, (self.at, how), shows);
        self.effects
            .extend(answers.into_iter().map(|a| Effect::Verified(Box::new(a))));
    }

    /// Takes back the cases that nobody has a word for and whose places are empty.
    fn let_go(&mut self, there: &[BBox]) {
        let Some(silence) = self.plan.intake.let_go_after else {
            return;
        };
        let reach = f64::from(self.rule.max_move);
        let is_seen_at = |place: &BBox| there.iter().any(|b| may_be(place, b, reach));
        let empty = self.register.looked(self.id, self.rule, self.step, is_seen_at, silence);
        for case in empty {
            self.register.withdraw(&case, self.at);
            self.telling().tell(Reason::LetGo);
            self.effects.push(Effect::Revise {
                case,
                state: CaseState::Withdrawn,
                at: self.at,
                reason: format!(
                    "The box takes the case back: nobody had a word for it in {} days, and its place has been seen to be empty.",
                    silence.as_secs_f64() / 86400.0
                ),
            });
        }
    }

    /// Whether a detection counts, and if not, why: where it is goes before how large and how sure it is.
    fn fit(&self, detection: &Detection) -> Result<Sight<'a>, Unfit> {
        let Some(bbox) = detection.bbox.within_picture() else {
            return Err((None, NotFiled::TooSmall));
        };
        let (zones, calendar) = (&self.camera.zones, &self.plan.calendar);
        let Some(standing) = standing(zones, self.rule, calendar, self.rule.held_at(&bbox), self.at) else {
            return Err((Some(bbox), NotFiled::OutsideZones));
        };
        if let Some(why) = approval(self.rule, self.camera, detection, &bbox) {
            return Err((Some(bbox), why));
        }
        if bbox.area() < self.rule.min_area.into() {
            return Err((Some(bbox), NotFiled::TooSmall));
        }
        // A score that is no number is not high enough either.
        if detection.score.is_nan() || detection.score < self.scores.keep {
            return Err((Some(bbox), NotFiled::ScoreTooLow));
        }
        Ok(Sight {
            bbox,
            score: detection.score,
            standing,
            count: 1,
            appearance: detection.appearance,
            number: detection.number.clone(),
            closer: detection.closer,
        })
    }

    fn is_attended(&self, sight: &Sight<'_>, detections: &[Detection]) -> bool {
        let by = self.rule.attended.as_ref();
        by.is_none_or(|by| is_attended(&sight.bbox, by, detections, self.scores.keep))
    }

    /// True where it is farther from where it was judged than the rule lets it go.
    fn has_moved(&self, origin: &BBox, now: &BBox) -> bool {
        if let (Some(limit), Some(calibration)) = (self.rule.max_move_m, self.rule.calibration(self.camera))
            && let (Some((from, _)), Some((to, _))) =
                (calibration.ground(origin.foot()), calibration.ground(now.foot()))
        {
            return distance_m(from, to) > limit;
        }
        origin.shift_to(now) > self.rule.max_move.into()
    }

    /// A look while the rule rests: what is seen is still there, and that is all.
    fn passed(&mut self, track: &mut Track, sight: Option<&Sight<'a>>) {
        let rested = track.presence.passed(self.step, sight.is_some());
        self.note(track, rested);
        let Some(sight) = sight else { return };
        track.see(sight, self.at);
        if let Stage::AtCase(case) | Stage::HeldBack(Some(case)) = &track.stage {
            self.register.seen(case, self.id, self.at);
        }
    }

    /// Seen where and when it may be there: no candidate any more, which is told once.
    fn permit(&mut self, track: &mut Track, score: f32) {
        let is_told = match &track.stage {
            Stage::Candidate { .. } => true,
            Stage::Idle | Stage::Retry { .. } => score >= self.scores.start,
            _ => false,
        };
        if is_told {
            self.turn(track, Stage::Permitted, Reason::NotFiled(NotFiled::Permitted));
        }
    }

    /// A candidate from this look on, which is pinned.
    fn begin(&mut self, track: &mut Track, sight: &Sight<'a>, attended: bool) {
        track.origin = sight.bbox;
        track.presence = Presence::begin(sight.score, attended);
        self.watch(track, sight, None, Reason::Appeared);
    }

    fn watch(&mut self, track: &mut Track, sight: &Sight<'a>, not_before: Option<Timestamp>, reason: Reason) {
        self.pin();
        let candidate = Stage::Candidate {
            first: Sighting {
                at: self.at,
                bbox: sight.bbox,
            },
            not_before,
            asked: None,
            waits: false,
            closer: Closer::default(),
        };
        self.turn(track, candidate, reason);
    }

    pub(super) fn pin(&mut self) {
        self.effects.push(Effect::Pin {
            camera: self.id.clone(),
            at: self.at,
        });
    }

    fn saw(&mut self, track: &mut Track, sight: &Sight<'a>, attended: bool) {
        track.see(sight, self.at);
        let blind = (self.step == Step::Blind).then_some(Reason::Blind);
        self.note(track, blind);
        let changed = track.presence.saw(self.rule, self.step, sight.score, attended);
        self.note(track, changed);
        let is_held = matches!(track.stage, Stage::AtCase(_) | Stage::HeldBack(_));
        if sight.standing.is_permitted && !is_held {
            self.permit(track, sight.score);
            return;
        }
        if self.has_moved(&track.origin, &sight.bbox) {
            match &track.stage {
                Stage::Candidate { .. } => self.turn(track, Stage::Idle, Reason::NotFiled(NotFiled::Moved)),
                Stage::Idle => {}
                _ => self.turn(track, Stage::Idle, Reason::WentElsewhere),
            }
        }
        let is_over = match &track.stage {
            Stage::AtCase(case) => !self.register.is_open(case),
            Stage::HeldBack(Some(case)) => self.register.get(case).is_none_or(|r| r.case.state.is_open()),
            _ => false,
        };
        if is_over {
            self.turn(track, Stage::Idle, Reason::CaseOver);
        }
        match &track.stage {
            Stage::AtCase(case) | Stage::HeldBack(Some(case)) => self.register.seen(case, self.id, self.at),
            Stage::HeldBack(None) => {}
            // What was a case's is not permitted before the next look: then that is told.
            Stage::Idle if sight.standing.is_permitted => {}
            Stage::Idle | Stage::Permitted if sight.score >= self.scores.start => {
                self.begin(track, sight, attended);
            }
            Stage::Idle | Stage::Permitted => {}
            Stage::Retry { until } => {
                let until = *until;
                self.watch(track, sight, Some(until), Reason::PictureTaken);
            }
            Stage::Candidate { .. } => self.consider(track, sight),
        }
    }

    /// False where the track is over.
    fn missed(&mut self, track: &mut Track) -> bool {
        let blind = (self.step == Step::Blind).then_some(Reason::Blind);
        self.note(track, blind);
        let changed = track.presence.missed(self.rule, self.step);
        self.note(track, changed);
        let is_gone = track.presence.is_gone(self.rule);
        if is_gone {
            let reason = if track.rank().is_some() {
                NotFiled::LeftWhileWaiting
            } else if track.presence.has_dwelt(self.rule) && !track.presence.is_attended(self.rule) {
                NotFiled::Unattended
            } else if track.presence.has_dwelt(self.rule) {
                NotFiled::SeenTooRarely
            } else {
                NotFiled::LeftBeforeDwell
            };
            track.end(reason, self.telling());
        }
        !is_gone
    }

    pub(super) fn telling(&mut self) -> TransitionContext<'_> {
        TransitionContext {
            camera: self.id,
            rule: &self.rule.id,
            at: self.at,
            effects: self.effects,
        }
    }

    pub(super) fn turn(&mut self, track: &mut Track, stage: Stage, reason: Reason) {
        track.turn(stage, reason, self.telling());
    }

    /// What its presence goes through is told of a candidate alone: nothing depends on it for others.
    fn note(&mut self, track: &mut Track, reason: Option<Reason>) {
        if let (Some(reason), Stage::Candidate { .. }) = (reason, &track.stage) {
            track.note(reason, self.telling());
        }
    }

    fn not_filed(&mut self, reason: NotFiled) {
        self.effects.push(Effect::NotFiled {
            camera: self.id.clone(),
            rule: self.rule.id.clone(),
            reason,
            at: self.at,
        });
    }
}
