//! A candidate that is seen again: is it a case, and may it be filed?

use jiff::{Timestamp, tz::TimeZone};

use super::look::Judging;
use crate::{
    calendar::Hours,
    case::case_id,
    group::{Sight, area_m2},
    plus, since,
    site::{Found, Return, locate},
    stage::{Closer, Stage},
    track::Track,
    types::{Case, CaseState, Effect, NotFiled, Reason, ScheduleId},
};

/// So many looks a problem waits for a closer look that does not come: a model that fails, or looks that were recorded
/// without one. Then it is filed without: a problem that is not filed is worse than one that nobody looked at twice.
const CLOSER_WAITS: u32 = 3;

impl<'a> Judging<'a> {
    /// A candidate was seen again: is it a case?
    pub(super) fn consider(&mut self, track: &mut Track, sight: &Sight<'a>) {
        self.hear(track, sight);
        let Stage::Candidate {
            first,
            not_before,
            asked,
            waits,
            closer,
        } = &mut track.stage
        else {
            return;
        };
        if let Some(missing) = track.presence.almost(self.rule) {
            // The next look may decide.
            let is_soon = missing < self.camera.look_every.saturating_mul(2);
            if is_soon && self.rule.second_look.is_some() && !matches!(closer, Closer::Sure(_)) {
                let ask = self.closer_at(sight);
                self.effects.push(ask);
            }
            let by = plus(self.at, missing);
            // Where the rule rests before, or at, that moment, nothing would be decided then.
            let (calendar, hours) = (&self.plan.calendar, &self.rule.hours);
            let decides = || calendar.works(hours, by) && calendar.worked(hours, self.at, by) == missing;
            if missing < self.camera.look_every && *asked != Some(by) && decides() {
                *asked = Some(by);
                self.effects.push(Effect::Look {
                    camera: self.id.clone(),
                    by,
                });
            }
        }
        let waits = *waits;
        let is_due = not_before.is_none_or(|t| self.at >= t) && since(self.at, first.at) >= self.plan.picture_interval;
        let presence = &track.presence;
        let is_there = presence.has_dwelt(self.rule) && presence.is_steady(self.rule);
        if !(is_due && is_there && presence.is_attended(self.rule)) {
            return;
        }
        let first = *first;
        let Some(located) = locate(self.plan, self.camera, self.rule, &sight.bbox) else {
            self.turn(track, Stage::HeldBack(None), Reason::NotFiled(NotFiled::OutsideGrid));
            return;
        };
        let number = track.number.clone();
        let found = Found {
            camera: self.id,
            rule: self.rule,
            zone: sight.standing.zone,
            located: &located,
            bbox: sight.bbox,
            appearance: sight.appearance,
            // Of what was read once and is seen now, too.
            number: number.as_ref(),
        };
        if let Some((case, reason)) = self.register.holder(&found, self.at) {
            let case = case.clone();
            self.register.seen(&case, self.id, self.at);
            let stage = match reason {
                NotFiled::OpenCaseAtSite | NotFiled::OpenElsewhere => Stage::AtCase(case),
                _ => Stage::HeldBack(Some(case)),
            };
            self.turn(track, stage, Reason::NotFiled(reason));
            return;
        }
        let Some(confidence_closer) = self.closer_look(track, sight) else {
            return;
        };
        let recurrence = match self.register.recurrence(&found, first.at) {
            Some(Return::Reopens(case)) => {
                let stage = Stage::AtCase(case.clone());
                self.turn(track, stage, Reason::NotFiled(NotFiled::CaseReopened));
                self.register.reopen(&case, self.at);
                self.effects.push(Effect::Revise {
                    case: case.clone(),
                    state: CaseState::Reopened,
                    at: self.at,
                    reason:
                        "The box asks to reopen the case: the problem was there again within 30 minutes of its closing."
                            .into(),
                });
                return;
            }
            Some(Return::Repeats(recurrence)) => Some(recurrence),
            None => None,
        };
        if !self.has_room(track) {
            if !waits {
                let mut stage = track.stage.clone();
                if let Stage::Candidate { waits, .. } = &mut stage {
                    *waits = true;
                }
                self.queue.is_anyone_there = true;
                self.turn(track, stage, Reason::NotFiled(NotFiled::OverDailyCap));
            }
            return;
        }
        let dedup_key = found.dedup_key();
        let id = case_id(&self.plan.node, self.id, &self.rule.id, &dedup_key, first.at, self.at);
        let (looks, looks_seen) = track.presence.looks();
        self.pin();
        self.turn(track, Stage::AtCase(id.clone()), Reason::Confirmed);
        let case = Case {
            id: id.clone(),
            rule: self.rule.id.clone(),
            category: self.rule.category.clone(),
            camera: self.id.clone(),
            zone: sight.standing.zone.cloned(),
            schedule: self.schedule(sight).cloned(),
            located,
            dedup_key,
            first_seen_at: first.at,
            first_box: first.bbox,
            confirmed_at: self.at,
            confirmed_box: sight.bbox,
            dwell: track.presence.dwell(),
            looks_seen,
            looks,
            confidence: track.presence.confidence(),
            confidence_closer,
            appearance: sight.appearance,
            number,
            count: sight.count,
            area_m2: area_m2(self.rule, self.camera, &sight.bbox),
            merge_radius_m: self.rule.merge_radius_m,
            recurrence,
            journal: track.journal.clone(),
        };
        self.register.insert(
            case.remembered(CaseState::Filed, self.at),
            Some(self.rule.id.clone()),
            self.at,
        );
        self.effects.push(Effect::Open(Box::new(case)));
    }

    /// Hears what a closer look made of a candidate.
    fn hear(&mut self, track: &mut Track, sight: &Sight<'a>) {
        let Stage::Candidate { not_before, closer, .. } = &mut track.stage else {
            return;
        };
        let (Some(least), Some(score)) = (self.rule.second_look, sight.closer) else {
            return;
        };
        if matches!(closer, Closer::Sure(_)) {
            return;
        }
        if score >= least {
            *closer = Closer::Sure(score);
            return;
        }
        *not_before = Some(plus(self.at, self.rule.dwell));
        // Told once: a thing that is doubted for weeks would be told every few minutes.
        if !matches!(closer, Closer::Doubted) {
            *closer = Closer::Doubted;
            track.note(Reason::NotFiled(NotFiled::Doubted), self.telling());
        }
    }

    /// What the closer look scored that the rule asks for before a case is filed, `Some(None)` where it asks for none;
    /// `None` while it is still waited for.
    fn closer_look(&mut self, track: &mut Track, sight: &Sight<'a>) -> Option<Option<f32>> {
        let Stage::Candidate { closer, .. } = &mut track.stage else {
            return None;
        };
        if self.rule.second_look.is_none() {
            return Some(None);
        }
        match closer {
            Closer::Sure(score) => return Some(Some(*score)),
            Closer::Unanswered(CLOSER_WAITS) => return Some(None),
            Closer::Unanswered(looks) => *looks += 1,
            Closer::Doubted => {}
        }
        let ask = self.closer_at(sight);
        self.effects.push(ask);
        None
    }

    fn closer_at(&self, sight: &Sight<'a>) -> Effect {
        Effect::SecondLook {
            camera: self.id.clone(),
            rule: self.rule.id.clone(),
            bbox: sight.bbox,
        }
    }

    /// Whether one more case may be filed today, and `track`'s is the one: those that waited and weigh more go first.
    fn has_room(&self, track: &Track) -> bool {
        let intake = &self.plan.intake;
        let (camera, all) = self
            .register
            .confirmed_since(self.id, start_of_day(&self.plan.calendar.zone, self.at));
        let weight = track.presence.weight();
        let (here, anywhere) = self.queue.before(weight);
        camera + here < intake.per_camera_day as usize && all + anywhere < intake.per_box_day as usize
    }

    /// The schedule that had a say in a case; see [`Case::schedule`].
    fn schedule(&self, sight: &Sight<'a>) -> Option<&'a ScheduleId> {
        let Hours { active, pause } = &self.rule.hours;
        let rules = active.as_ref().or(pause.as_ref().map(|p| &p.schedule));
        sight.standing.permit.or(rules)
    }
}

/// The moment at which the calendar day of `at` began.
fn start_of_day(zone: &TimeZone, at: Timestamp) -> Timestamp {
    let day = at.to_zoned(zone.clone()).start_of_day();
    // Only the first day of the calendar's range has no beginning.
    day.map_or(at, |day| day.timestamp())
}
