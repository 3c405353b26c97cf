//! Evaluates one clear look of one camera under one rule.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::WaitingQueue;
use crate::{
    approved::approval,
    geometry::distance_m,
    group::{DetectionGroup, attendants, is_large_enough, is_taken_for_other, merge_nearby},
    presence::{LookInterval, Presence},
    register::CaseRegister,
    site::SiteExtent,
    stage::{Candidate, Sighting, Stage},
    track::{Track, TransitionContext, affinity, associate, is_duplicate},
    types::{
        BBox, CameraId, CameraPlan, CaseState, Detection, Effect, Label, Newness, NotFiled, Plan, Reason, Rule, Scores,
    },
    verification::Occupancy,
    zone_match::match_zones,
};

/// A detection that does not count.
pub(super) struct Rejected {
    /// Its box, if it lies in the picture.
    pub(super) bbox: Option<BBox>,
    pub(super) score: f32,
    pub(super) newness: Option<Newness>,
    pub(super) reason: NotFiled,
}

impl Rejected {
    fn new(bbox: Option<BBox>, detection: &Detection, reason: NotFiled) -> Self {
        Self {
            bbox,
            score: detection.score,
            newness: detection.newness,
            reason,
        }
    }

    fn group(group: &DetectionGroup<'_>, reason: NotFiled) -> Self {
        Self {
            bbox: Some(group.bbox),
            score: group.score,
            newness: group.newness,
            reason,
        }
    }
}

/// A place hidden by at least this share shows nothing.
const MIN_HIDDEN_SHARE: f64 = 0.5;

/// True if the object in `b` may be the one recorded at `place`.
fn overlaps_place(place: &BBox, b: &BBox, reach: f64) -> bool {
    place.contains(b.centre()) || affinity(place, b, reach, None) > 0.0
}

/// The groups (sorted by score, highest first) without those that duplicate a better one.
fn without_duplicates<'a>(groups: Vec<DetectionGroup<'a>>) -> Vec<DetectionGroup<'a>> {
    let mut kept: Vec<DetectionGroup<'a>> = Vec::with_capacity(groups.len());
    for group in groups {
        match kept
            .iter_mut()
            .find(|k| is_duplicate(&group.bbox, [&k.bbox].into_iter()))
        {
            Some(better) => better.recognise(&group),
            None => kept.push(group),
        }
    }
    kept
}

/// What decides which detections of a look count for a rule.
#[derive(Clone, Copy)]
pub(super) struct RuleLook<'a> {
    pub(super) plan: &'a Plan,
    pub(super) camera: &'a CameraPlan,
    pub(super) rule: &'a Rule,
    pub(super) at: Timestamp,
    /// Score thresholds for the light of the look.
    pub(super) scores: Scores,
}

/// One clear look of one camera, evaluated under one rule.
pub(super) struct RuleEvaluation<'a> {
    pub(super) plan: &'a Plan,
    pub(super) id: &'a CameraId,
    pub(super) camera: &'a CameraPlan,
    pub(super) rule: &'a Rule,
    pub(super) at: Timestamp,
    /// Time since the previous look, counting only the rule's active hours.
    pub(super) interval: LookInterval,
    /// The rule is active now.
    pub(super) is_active: bool,
    pub(super) queue: &'a mut WaitingQueue,
    /// Score thresholds for the light of this look.
    pub(super) scores: Scores,
    /// The look searched for all of the rule's labels. One that left some out shows presence, but not absence: what was seen under such a
    /// label may be there.
    pub(super) shows_absence: bool,
    pub(super) register: &'a mut CaseRegister,
    pub(super) extents: &'a mut BTreeMap<CameraId, SiteExtent>,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl<'a> RuleLook<'a> {
    /// The detections that count, grouped (highest score first unless grouped), and those that do not with their
    /// reasons.
    pub(super) fn groups(&self, detections: &[Detection]) -> (Vec<DetectionGroup<'a>>, Vec<Rejected>) {
        let mut groups: Vec<DetectionGroup<'a>> = Vec::new();
        let mut rejected: Vec<Rejected> = Vec::new();
        for detection in detections.iter().filter(|d| self.rule.labels.contains(&d.label)) {
            match self.accept(detection) {
                Ok(group) if is_taken_for_other(self.rule, &group.bbox, detections) => {
                    rejected.push(Rejected::group(&group, NotFiled::OtherLabel));
                }
                Ok(group) => groups.push(group),
                Err(why) => rejected.push(why),
            }
        }
        groups.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut groups = without_duplicates(groups);
        merge_nearby(&mut groups, self.rule.gather.into());
        groups.retain(|group| {
            let is_large = is_large_enough(self.rule, self.camera, group);
            if !is_large {
                rejected.push(Rejected::group(group, NotFiled::TooSmall));
            }
            is_large
        });
        (groups, rejected)
    }

    /// Whether a detection counts, and if not, why. Its size is checked once those that belong together are merged.
    fn accept(&self, detection: &Detection) -> Result<DetectionGroup<'a>, Rejected> {
        let Some(bbox) = detection.bbox.within_picture() else {
            return Err(Rejected::new(None, detection, NotFiled::TooSmall));
        };
        let (zones, calendar) = (&self.camera.zones, &self.plan.calendar);
        let Some(zone_match) = match_zones(zones, self.rule, calendar, self.rule.anchor(&bbox), self.at) else {
            return Err(Rejected::new(Some(bbox), detection, NotFiled::OutsideZones));
        };
        if let Some(why) = approval(self.plan, self.rule, self.camera, detection, &bbox, self.at) {
            return Err(Rejected::new(Some(bbox), detection, why));
        }
        // NaN is rejected too.
        if detection.score.is_nan() || detection.score < self.rule.keep_score(self.scores, detection.newness) {
            return Err(Rejected::new(Some(bbox), detection, NotFiled::ScoreTooLow));
        }
        Ok(DetectionGroup {
            bbox,
            score: detection.score,
            zone_match,
            count: 1,
            appearance: detection.appearance,
            number: detection.number.clone(),
            text: detection.text.clone(),
            second_look: detection.second_look_for(&self.rule.id),
            newness: detection.newness,
            is_unknown: detection.label == Label::object(),
        })
    }

    /// Whether a sighting starts a candidate, and if not, why.
    pub(super) fn starts_candidate(&self, group: &DetectionGroup<'_>) -> Result<(), NotFiled> {
        match self.rule.start_score(self.scores, group.newness) {
            None => Err(NotFiled::NotNew),
            Some(start) if group.score >= start => Ok(()),
            Some(_) if self.rule.appeared.is_some() && group.score >= self.scores.start => Err(NotFiled::NotNew),
            Some(_) => Err(NotFiled::ScoreTooLow),
        }
    }
}

impl<'a> RuleEvaluation<'a> {
    pub(super) fn evaluate(mut self, tracks: &mut Vec<Track>, detections: &[Detection]) {
        let (groups, rejected) = self.look().groups(detections);
        let there = self.occupied_places(&groups, &rejected);
        self.follow(tracks, detections, &groups, rejected);
        // After `follow`, which resets the vacancy of cases seen at this look.
        self.withdraw_vacant_cases(&there);
        if self.is_active {
            self.verify(&groups, &there, detections);
        }
    }

    fn look(&self) -> RuleLook<'a> {
        RuleLook {
            plan: self.plan,
            camera: self.camera,
            rule: self.rule,
            at: self.at,
            scores: self.scores,
        }
    }

    fn follow(
        &mut self,
        tracks: &mut Vec<Track>,
        detections: &[Detection],
        groups: &[DetectionGroup<'a>],
        mut rejected: Vec<Rejected>,
    ) {
        let reach = f64::from(self.rule.max_move);
        let continued = associate(tracks, groups, reach);
        let mut group_of = vec![None; tracks.len()];
        for (group, track) in groups.iter().zip(&continued) {
            if let Some(track) = *track {
                group_of[track] = Some(group);
            }
        }
        if !self.is_active {
            for (track, group) in tracks.iter_mut().zip(group_of) {
                self.rest(track, group);
            }
            return;
        }
        rejected.retain(|r| {
            // A rejected detection on a track is a look that missed the object, not another candidate.
            !r.bbox
                .is_some_and(|b| tracks.iter().any(|t| affinity(&t.bbox, &b, reach, None) > 0.0))
        });
        let mut group_of = group_of.into_iter();
        tracks.retain_mut(|track| match group_of.next().flatten() {
            Some(group) => {
                let near = self.attendants(group, detections);
                let attended = track.is_attended(near);
                self.saw(track, group, attended);
                true
            }
            None => !self.shows_absence || self.missed(track),
        });
        for (group, _) in groups.iter().zip(&continued).filter(|(_, track)| track.is_none()) {
            if let Err(reason) = self.look().starts_candidate(group) {
                self.not_filed(reason);
                continue;
            }
            let near = self.attendants(group, detections);
            let attended = near.as_ref().is_none_or(|near| !near.is_empty());
            let mut track = Track::new(group, self.at, attended);
            track.is_attended(near);
            if group.zone_match.is_permitted {
                self.permit(&mut track, group);
            } else {
                self.begin(&mut track, group, attended);
            }
            tracks.push(track);
        }
        for Rejected { reason, .. } in rejected {
            self.not_filed(reason);
        }
    }

    /// Everything detected at this look, whether it counts or not, if the camera has open cases: a place is not empty
    /// while a remainder too small to count, or an object that is now permitted, is still there.
    fn occupied_places(&self, groups: &[DetectionGroup<'a>], rejected: &[Rejected]) -> Vec<BBox> {
        if !self.register.has_open(self.id) {
            return Vec::new();
        }
        let counts = groups.iter().map(|s| s.bbox);
        let others = rejected.iter().filter(|r| r.reason != NotFiled::ScoreTooLow);
        counts.chain(others.filter_map(|r| r.bbox)).collect()
    }

    /// Collects verification evidence for the camera's cases with an open question.
    fn verify(&mut self, groups: &[DetectionGroup<'a>], there: &[BBox], detections: &[Detection]) {
        let (rule, keep, how) = (self.rule, self.scores.keep, &self.plan.verification);
        let shows_absence = self.shows_absence;
        let reach = f64::from(rule.max_move);
        let hides = |place: &BBox, d: &Detection| {
            let is_such = how.hidden_by.contains(&d.label) && !rule.labels.contains(&d.label);
            is_such && d.score >= keep && d.bbox.intersection_area(place) >= MIN_HIDDEN_SHARE * place.area()
        };
        let shows = |place: &BBox| {
            if groups.iter().any(|s| overlaps_place(place, &s.bbox, reach)) {
                Some(Occupancy::Present)
            } else if detections.iter().any(|d| hides(place, d)) {
                None
            } else if there.iter().any(|b| overlaps_place(place, b, reach)) {
                Some(Occupancy::Unclear)
            } else if !shows_absence {
                None
            } else {
                Some(Occupancy::Empty)
            }
        };
        let answers = self.register.verify(self.id, rule, self.at, how, shows);
        self.effects
            .extend(answers.into_iter().map(|a| Effect::Verified(Box::new(a))));
    }

    /// Withdraws cases that the platform has not answered and whose places are empty.
    fn withdraw_vacant_cases(&mut self, there: &[BBox]) {
        let Some(silence) = self.plan.intake.let_go_after.filter(|_| self.shows_absence) else {
            return;
        };
        let reach = f64::from(self.rule.max_move);
        let is_seen_at = |place: &BBox| there.iter().any(|b| overlaps_place(place, b, reach));
        let empty = self
            .register
            .vacant_cases(self.id, self.rule, self.interval, is_seen_at, silence);
        for case in empty {
            self.register.withdraw(&case, self.at);
            self.context().emit(Reason::LetGo);
            self.effects.push(Effect::Revise {
                case,
                state: CaseState::Withdrawn,
                at: self.at,
                reason: format!(
                    "The box withdrew the case: no answer from the platform for {} days, and its place was seen empty.",
                    silence.as_secs_f64() / 86400.0
                ),
            });
        }
    }

    /// The boxes of those near the object who may attend it; `None` if the rule requires no attendant.
    fn attendants(&self, group: &DetectionGroup<'_>, detections: &[Detection]) -> Option<Vec<BBox>> {
        let by = self.rule.attended.as_ref()?;
        Some(attendants(&group.bbox, by, detections, self.scores.keep))
    }

    /// True if the object moved farther from where it was first judged than the rule allows.
    fn has_moved(&self, origin: &BBox, now: &BBox) -> bool {
        if let (Some(limit), Some(calibration)) = (self.rule.max_move_m, self.rule.calibration(self.camera))
            && let (Some((from, _)), Some((to, _))) =
                (calibration.ground(origin.foot()), calibration.ground(now.foot()))
        {
            return distance_m(from, to) > limit;
        }
        origin.shift_to(now) > self.rule.max_move.into()
    }

    /// A look outside the rule's hours only confirms that a seen object is still there.
    fn rest(&mut self, track: &mut Track, group: Option<&DetectionGroup<'a>>) {
        let rested = track.presence.rest(self.interval, group.is_some());
        self.record_event(track, rested);
        let Some(group) = group else { return };
        track.update(group, self.at);
        if let Stage::AtCase(case) | Stage::HeldBack(Some(case)) = track.stage() {
            self.register.mark_seen(case, self.id, self.at);
        }
    }

    /// Handles a sighting on permitted ground during permitted hours: the candidate ends, reported once.
    fn permit(&mut self, track: &mut Track, group: &DetectionGroup<'a>) {
        let is_reported = match track.stage() {
            Stage::Candidate(_) => true,
            Stage::Idle | Stage::Retry { .. } => self.look().starts_candidate(group).is_ok(),
            _ => false,
        };
        if is_reported {
            self.change_stage(track, Stage::Permitted, Reason::NotFiled(NotFiled::Permitted));
        }
    }

    /// Starts a candidate with this look, which is pinned.
    fn begin(&mut self, track: &mut Track, group: &DetectionGroup<'a>, attended: bool) {
        track.origin = group.bbox;
        track.presence = Presence::new(group.score, attended, group.is_unknown);
        self.watch(track, group, None, Reason::Appeared);
    }

    fn watch(&mut self, track: &mut Track, group: &DetectionGroup<'a>, not_before: Option<Timestamp>, reason: Reason) {
        let first = Sighting {
            at: self.at,
            bbox: group.bbox,
        };
        self.pin();
        if !self.change_stage(track, Stage::Candidate(Candidate::new(first, not_before)), reason) {
            self.unpin();
        }
    }

    pub(super) fn pin(&mut self) {
        self.effects.push(Effect::Pin {
            camera: self.id.clone(),
            at: self.at,
        });
    }

    /// Takes back the pin of this look.
    pub(super) fn unpin(&mut self) {
        self.effects.push(Effect::Unpin {
            camera: self.id.clone(),
            at: self.at,
        });
    }

    fn saw(&mut self, track: &mut Track, group: &DetectionGroup<'a>, attended: bool) {
        track.update(group, self.at);
        let blind = (self.interval == LookInterval::Blind).then_some(Reason::Blind);
        self.record_event(track, blind);
        let changed = track.presence.saw(self.rule, self.interval, group.score, attended);
        if group.is_unknown {
            track.presence.count_unknown();
        }
        self.record_event(track, changed);
        let is_held = matches!(track.stage(), Stage::AtCase(_) | Stage::HeldBack(_));
        if group.zone_match.is_permitted && !is_held {
            self.permit(track, group);
            return;
        }
        if self.has_moved(&track.origin, &group.bbox) {
            match track.stage() {
                Stage::Candidate(_) => {
                    self.change_stage(track, Stage::Idle, Reason::NotFiled(NotFiled::Moved));
                }
                Stage::Idle => {}
                _ => {
                    self.change_stage(track, Stage::Idle, Reason::WentElsewhere);
                }
            }
        }
        let is_over = match track.stage() {
            Stage::AtCase(case) => !self.register.is_open(case),
            Stage::HeldBack(Some(case)) => self.register.get(case).is_none_or(|r| r.case.state.is_open()),
            _ => false,
        };
        if is_over {
            self.change_stage(track, Stage::Idle, Reason::CaseOver);
        }
        match track.stage() {
            Stage::AtCase(case) | Stage::HeldBack(Some(case)) => self.register.mark_seen(case, self.id, self.at),
            Stage::HeldBack(None) => {}
            // An object whose case just ended becomes permitted at the next look, where that is reported.
            Stage::Idle if group.zone_match.is_permitted => {}
            Stage::Idle | Stage::Permitted if self.look().starts_candidate(group).is_ok() => {
                self.begin(track, group, attended);
            }
            Stage::Idle | Stage::Permitted => {}
            Stage::Retry { until } => {
                let until = *until;
                self.watch(track, group, Some(until), Reason::PictureTaken);
            }
            Stage::Candidate(_) => self.consider(track, group),
        }
    }

    /// Returns false if the track ended.
    fn missed(&mut self, track: &mut Track) -> bool {
        let blind = (self.interval == LookInterval::Blind).then_some(Reason::Blind);
        self.record_event(track, blind);
        let changed = track.presence.missed(self.rule, self.interval);
        self.record_event(track, changed);
        let is_gone = track.presence.is_gone(self.rule);
        if is_gone {
            let reason = if track.rank().is_some() {
                NotFiled::LeftWhileWaiting
            } else if track.presence.has_reached_dwell(self.rule) && !track.presence.is_attended(self.rule) {
                NotFiled::Unattended
            } else if track.presence.has_reached_dwell(self.rule) {
                NotFiled::SeenTooRarely
            } else {
                NotFiled::LeftBeforeDwell
            };
            track.end(reason, self.context());
        }
        !is_gone
    }

    pub(super) fn context(&mut self) -> TransitionContext<'_> {
        TransitionContext::new(self.id, &self.rule.id, self.at, self.effects)
    }

    /// See [`Track::change_stage`].
    pub(super) fn change_stage(&mut self, track: &mut Track, stage: Stage, reason: Reason) -> bool {
        track.change_stage(stage, reason, self.context())
    }

    /// Records presence events of candidates; for other stages nothing depends on them.
    fn record_event(&mut self, track: &mut Track, reason: Option<Reason>) {
        if let (Some(reason), Stage::Candidate(_)) = (reason, track.stage()) {
            track.record_event(reason, self.context());
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
