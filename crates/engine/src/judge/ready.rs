//! Decides whether a candidate that was seen again is a case, and whether it may be filed.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::look::RuleEvaluation;
use crate::{
    calendar::Hours,
    case::case_id,
    group::{DetectionGroup, area_m2},
    plus,
    register::RecurrenceAction,
    since,
    site::{LocatedCandidate, SiteExtent, locate},
    stage::{SecondLook, Sighting, Stage},
    track::Track,
    types::{Case, CaseId, CaseState, Effect, Location, NotFiled, Reason, Recurrence, ScheduleId},
};

/// How many deciding looks wait for a second look that does not come, because its model fails or the recording has
/// none. After that the case is filed without one, unless the rule requires it: a missed problem is worse than an unchecked case.
const SECOND_LOOK_TRIES: u32 = 3;
/// Pause before the next tries for a rule that requires its second look.
const UNANSWERED_PAUSE: Duration = Duration::from_mins(10);

/// A candidate that becomes a case at this look.
struct ReadyCandidate {
    first: Sighting,
    located: Location,
    dedup_key: String,
    second_look_score: Option<f32>,
    recurrence: Option<Recurrence>,
}

impl<'a> RuleEvaluation<'a> {
    /// Decides on a candidate that was seen again.
    pub(super) fn consider(&mut self, track: &mut Track, group: &DetectionGroup<'a>) {
        self.apply_second_look(track, group);
        self.request_looks(track, group);
        let Some(first) = self.ready_since(track) else {
            return;
        };
        let Some(located) = locate(self.plan, self.camera, self.rule, &group.bbox) else {
            self.change_stage(track, Stage::HeldBack(None), Reason::NotFiled(NotFiled::OutsideGrid));
            return;
        };
        match self.extents.get_mut(self.id) {
            Some(extent) => extent.add(&located),
            None => drop(self.extents.insert(self.id.clone(), SiteExtent::of(&located))),
        }
        let (number, text) = (track.number.clone(), track.text.clone());
        let found = LocatedCandidate {
            camera: self.id,
            rule: self.rule,
            zone: group.zone_match.zone,
            located: &located,
            bbox: group.bbox,
            appearance: group.appearance,
            // What was read so far; this look may not have read it.
            number: number.as_ref(),
            text: text.as_ref().map(|t| &t.text),
        };
        if self.join_covering_case(track, &found) {
            return;
        }
        if self.register.is_filed_otherwise(&found) {
            // Reported once: it may wait for days.
            let reason = Reason::NotFiled(NotFiled::FiledOtherwise);
            if track.journal().iter().all(|entry| entry.reason != reason) {
                track.record_event(reason, self.context());
            }
            return;
        }
        let Some(second_look_score) = self.require_second_look(track, group) else {
            return;
        };
        let recurrence = match self.register.recurrence(&found, first.at) {
            Some(RecurrenceAction::Reopens(case)) => {
                self.reopen(track, case);
                return;
            }
            Some(RecurrenceAction::Repeats(recurrence)) => Some(recurrence),
            None => None,
        };
        if !self.fits_daily_cap(track) {
            self.wait_for_cap(track);
            return;
        }
        let dedup_key = found.dedup_key();
        let ready = ReadyCandidate {
            first,
            located,
            dedup_key,
            second_look_score,
            recurrence,
        };
        self.open(track, group, ready);
    }

    /// Requests a second look if the next look may decide, and a look at the moment the dwell is reached if the
    /// schedule would come later.
    fn request_looks(&mut self, track: &mut Track, group: &DetectionGroup<'a>) {
        let missing = track.presence.missing_dwell(self.rule);
        let (Some(candidate), Some(missing)) = (track.candidate_mut(), missing) else {
            return;
        };
        // The next look may decide. A doubted candidate is not looked at again before it may.
        let waits = candidate.not_before.map_or(Duration::ZERO, |t| since(t, self.at));
        let is_soon = missing.max(waits) < self.camera.look_every.saturating_mul(2);
        if is_soon && self.rule.second_look.is_some() && !matches!(candidate.second_look, SecondLook::Sure(_)) {
            let request = self.second_look_request(group);
            self.effects.push(request);
        }
        let by = plus(self.at, missing);
        // A look outside the rule's hours would decide nothing.
        let (calendar, hours) = (&self.plan.calendar, &self.rule.hours);
        let decides = || calendar.is_active(hours, by) && calendar.active_time(hours, self.at, by) == missing;
        if missing < self.camera.look_every && candidate.asked != Some(by) && decides() {
            candidate.asked = Some(by);
            self.effects.push(Effect::Look {
                camera: self.id.clone(),
                by,
            });
        }
    }

    /// The first look of a candidate that meets its rule at this look.
    fn ready_since(&self, track: &Track) -> Option<Sighting> {
        let candidate = track.candidate()?;
        let first = candidate.first();
        let is_due =
            candidate.not_before.is_none_or(|t| self.at >= t) && since(self.at, first.at) >= self.plan.picture_interval;
        let presence = &track.presence;
        let is_there = presence.has_reached_dwell(self.rule) && presence.is_steady(self.rule);
        (is_due && is_there && presence.is_attended(self.rule)).then_some(first)
    }

    /// Joins the case that the candidate's site already has, or was rejected as. Returns false if there is none.
    fn join_covering_case(&mut self, track: &mut Track, found: &LocatedCandidate<'_>) -> bool {
        let Some((case, reason)) = self.register.covering_case(found, self.at) else {
            return false;
        };
        let case = case.clone();
        self.register.mark_seen(&case, self.id, self.at);
        let stage = match reason {
            NotFiled::OpenCaseAtSite | NotFiled::OpenElsewhere => Stage::AtCase(case),
            _ => Stage::HeldBack(Some(case)),
        };
        self.change_stage(track, stage, Reason::NotFiled(reason));
        true
    }

    /// Asks the platform to reopen `case`, which the candidate belongs to from now on.
    fn reopen(&mut self, track: &mut Track, case: CaseId) {
        let stage = Stage::AtCase(case.clone());
        if !self.change_stage(track, stage, Reason::NotFiled(NotFiled::CaseReopened)) {
            return;
        }
        self.register.reopen(&case, self.at);
        self.effects.push(Effect::Revise {
            case,
            state: CaseState::Reopened,
            at: self.at,
            reason: "The box asks to reopen the case: the problem was back within 30 minutes of closing.".into(),
        });
    }

    /// Queues the candidate for the next day's cap.
    fn wait_for_cap(&mut self, track: &mut Track) {
        let Some(candidate) = track.candidate().filter(|c| !c.waits()) else {
            return;
        };
        let waiting = Stage::Candidate(candidate.waiting());
        self.queue.has_waiting = true;
        self.change_stage(track, waiting, Reason::NotFiled(NotFiled::OverDailyCap));
    }

    /// Opens a case of the candidate.
    fn open(&mut self, track: &mut Track, group: &DetectionGroup<'a>, ready: ReadyCandidate) {
        let ReadyCandidate {
            first,
            located,
            dedup_key,
            second_look_score,
            recurrence,
        } = ready;
        let id = case_id(&self.plan.node, self.id, &self.rule.id, &dedup_key, first.at, self.at);
        let (looks, looks_seen) = track.presence.looks();
        self.pin();
        if !self.change_stage(track, Stage::AtCase(id.clone()), Reason::Confirmed) {
            self.unpin();
            return;
        }
        let case = Case {
            id,
            rule: self.rule.id.clone(),
            category: self.rule.category.clone(),
            camera: self.id.clone(),
            zone: group.zone_match.zone.cloned(),
            schedule: self.schedule(group).cloned(),
            located,
            dedup_key,
            first_seen_at: first.at,
            first_box: first.bbox,
            confirmed_at: self.at,
            confirmed_box: group.bbox,
            dwell: track.presence.dwell(),
            looks_seen,
            looks,
            confidence: track.presence.confidence(),
            second_look_score,
            appearance: group.appearance,
            number: track.number.clone(),
            text: track.text.clone(),
            count: group.count,
            area_m2: area_m2(self.rule, self.camera, &group.bbox),
            // A text that decided tells what it is.
            is_unidentified: !self.rule.second_look_is_required && track.presence.is_unidentified(),
            merge_radius_m: self.rule.merge_radius_m,
            recurrence,
            journal: track.journal().to_vec(),
        };
        self.register.insert(
            case.remembered(CaseState::Filed, self.at),
            Some(self.rule.id.clone()),
            self.at,
        );
        self.effects.push(Effect::Open(Box::new(case)));
    }

    /// Updates the candidate with the result of a second look.
    fn apply_second_look(&mut self, track: &mut Track, group: &DetectionGroup<'a>) {
        let Some(candidate) = track.candidate_mut() else {
            return;
        };
        let (Some(least), Some(score)) = (
            self.rule.second_look_score(self.scores, group.newness),
            group.second_look,
        ) else {
            return;
        };
        if matches!(candidate.second_look, SecondLook::Sure(_)) {
            return;
        }
        if score >= least {
            candidate.second_look = SecondLook::Sure(score);
            return;
        }
        candidate.not_before = Some(plus(self.at, self.rule.dwell));
        // Reported once: a candidate may fail second looks every few minutes for weeks.
        if !matches!(candidate.second_look, SecondLook::Doubted) {
            candidate.second_look = SecondLook::Doubted;
            track.record_event(Reason::NotFiled(NotFiled::Doubted), self.context());
        }
    }

    /// The second-look score that the rule requires before filing: `Some(None)` if it requires none, or none could be
    /// taken; `None` while it is pending.
    fn require_second_look(&mut self, track: &mut Track, group: &DetectionGroup<'a>) -> Option<Option<f32>> {
        let candidate = track.candidate_mut()?;
        if self.rule.second_look.is_none() {
            return Some(None);
        }
        match &mut candidate.second_look {
            SecondLook::Sure(score) => return Some(Some(*score)),
            SecondLook::Unanswered(looks @ SECOND_LOOK_TRIES) if self.rule.second_look_is_required => {
                *looks = 0;
                candidate.not_before = Some(plus(self.at, UNANSWERED_PAUSE));
                return None;
            }
            SecondLook::Unanswered(SECOND_LOOK_TRIES) => return Some(None),
            SecondLook::Unanswered(looks) => *looks += 1,
            SecondLook::Doubted => {}
        }
        let request = self.second_look_request(group);
        self.effects.push(request);
        None
    }

    fn second_look_request(&self, group: &DetectionGroup<'a>) -> Effect {
        Effect::SecondLook {
            camera: self.id.clone(),
            rule: self.rule.id.clone(),
            bbox: group.bbox,
        }
    }

    /// Whether the daily caps have room for `track`. Waiting candidates with a higher priority go first.
    fn fits_daily_cap(&self, track: &Track) -> bool {
        let intake = &self.plan.intake;
        let (camera, all) = self
            .register
            .confirmed_since(self.id, start_of_day(&self.plan.calendar.zone, self.at));
        let (here, anywhere) = self.queue.ahead_of(track.presence.priority());
        camera + here < intake.per_camera_day as usize && all + anywhere < intake.per_box_day as usize
    }

    /// The schedule named in the case; see [`Case::schedule`].
    fn schedule(&self, group: &DetectionGroup<'a>) -> Option<&'a ScheduleId> {
        let Hours { active, pause } = &self.rule.hours;
        let rules = active.as_ref().or(pause.as_ref().map(|p| &p.schedule));
        group.zone_match.permit.or(rules)
    }
}

/// Start of the calendar day of `at`.
fn start_of_day(zone: &TimeZone, at: Timestamp) -> Timestamp {
    let day = at.to_zoned(zone.clone()).start_of_day();
    // Fails only for the first day that the calendar can represent.
    day.map_or(at, |day| day.timestamp())
}
