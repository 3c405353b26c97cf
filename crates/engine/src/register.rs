//! The register of cases: one open case per category and site, whatever camera sees it. It remembers ended cases for as long as they
//! affect new ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    case::transition,
    plus,
    presence::LookInterval,
    since,
    site::LocatedCandidate,
    types::{
        BBox, CameraId, CaseId, CaseState, HeldBackCase, NotFiled, OpenCase, Recurrence, Reply, Rule, RuleId,
        Verification, Verified,
    },
    vacancy::Vacancy,
    verification::{Finding, Occupancy, Question, VerificationTally},
};

/// True while the box may withdraw a case on its own: no crew has been there, and the platform is not waiting for
/// verification.
fn may_withdraw_in(state: CaseState) -> bool {
    match state {
        CaseState::Filed | CaseState::Accepted | CaseState::Dispatched | CaseState::Reopened => true,
        // A crew has reported, or the platform asked for verification: both expect a verification result.
        CaseState::Disposed | CaseState::VerifyRequested => false,
        CaseState::Rejected | CaseState::DuplicateOf | CaseState::Closed | CaseState::Withdrawn => false,
    }
}

/// What to do about a recurring problem.
#[derive(Debug, PartialEq)]
pub(super) enum RecurrenceAction {
    /// Back so soon that the case should not have been closed: ask to reopen it.
    Reopens(CaseId),
    /// File a new case that refers to the earlier one.
    Repeats(Recurrence),
}

/// A case in the register.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CaseRecord {
    pub(super) case: OpenCase,
    /// The rule that filed it, if known and still configured.
    pub(super) rule: Option<RuleId>,
    pub(super) last_seen: Timestamp,
    /// Progress towards withdrawal; `None` if its camera no longer looks at the place.
    pub(super) vacancy: Option<Vacancy>,
    /// Looks since the open question was asked.
    pub(super) check: VerificationTally,
}

impl CaseRecord {
    /// True if `rule` filed it, as far as that is known.
    fn is_of(&self, rule: &Rule) -> bool {
        match &self.rule {
            Some(filed_by) => *filed_by == rule.id,
            None => self.case.category == rule.category.code,
        }
    }

    /// Opens or clears the verification question.
    fn set_question(&mut self, question: Option<Question>) {
        self.case.question = question;
        self.check = VerificationTally::default();
    }

    /// Answers the open question with what was seen since it was asked.
    fn report(&mut self, at: Timestamp, finding: Finding, is_look: bool) -> Option<Verified> {
        let question = self.case.question.take()?;
        let (looks, looks_seen) = self.check.counts();
        if finding == Finding::Unverifiable {
            // Reported once; the question stays open, and a verdict still follows if one becomes possible.
            self.case.question = Some(Question {
                is_reported: true,
                ..question
            });
        }
        Some(Verified {
            case: self.case.id.clone(),
            camera: self.case.camera.clone(),
            bbox: self.case.bbox,
            asked_at: question.asked_at,
            at,
            finding,
            is_look,
            looks,
            looks_seen,
        })
    }

    fn is_remembered(&self, now: Timestamp) -> bool {
        self.case.state.is_open()
            || since(now, self.last_seen.max(self.case.at)) < CaseState::remembered_for(self.case.state)
    }
}

/// A reply that does not fit the case it names. Nothing was changed.
#[derive(Debug)]
pub(super) struct RejectedReply {
    /// State of the case; `None` if no such case is known.
    pub(super) known: Option<CaseState>,
    /// Why it was rejected.
    pub(super) reason: String,
}

/// The cases that affect new ones: open, and recently ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CaseRegister {
    cases: BTreeMap<CaseId, CaseRecord>,
    /// Open cases by the camera that filed them.
    open: BTreeMap<CameraId, BTreeSet<CaseId>>,
    /// Cases with a question that is to be reported if it expires. Few have one, and each look asks for them.
    asked: BTreeSet<CaseId>,
    /// Cases that yielded to another box's.
    held_back: BTreeMap<CaseId, HeldBackCase>,
}

impl CaseRegister {
    /// The case that `found` belongs to, and the reason for not filing. Open cases take precedence over rejected ones,
    /// the nearest over the others.
    pub(super) fn covering_case(&self, found: &LocatedCandidate<'_>, now: Timestamp) -> Option<(&CaseId, NotFiled)> {
        let mut nearest: Option<(f64, &CaseId, NotFiled)> = None;
        let mut refused = None;
        for (id, record) in self.cases.iter().filter(|(_, r)| r.is_remembered(now)) {
            match record.case.state {
                CaseState::Rejected if found.is_same_object_as(&record.case) => refused = Some(id),
                CaseState::Rejected | CaseState::Closed | CaseState::Withdrawn => {}
                state => {
                    if let Some(distance) = found.distance_to_site_m(&record.case)
                        && nearest.is_none_or(|(least, ..)| distance < least)
                    {
                        let reason = match state {
                            CaseState::DuplicateOf => NotFiled::KnownOtherwise,
                            _ => NotFiled::OpenCaseAtSite,
                        };
                        nearest = Some((distance, id, reason));
                    }
                }
            }
        }
        for (id, held) in &self.held_back {
            if let Some(distance) = found.distance_to_site_m(&held.case)
                && nearest.is_none_or(|(least, ..)| distance < least)
            {
                nearest = Some((distance, id, NotFiled::OpenElsewhere));
            }
        }
        let open = nearest.map(|(_, id, reason)| (id, reason));
        open.or(refused.map(|id| (id, NotFiled::RejectedBefore)))
    }

    /// True if what `found` is about is an open case of another category in the same view. Two networks may take a
    /// cloth with goods for a stall and for garbage.
    pub(super) fn is_filed_otherwise(&self, found: &LocatedCandidate<'_>) -> bool {
        self.open_of(found.camera)
            .filter(|case| case.category != found.rule.category.code)
            .any(|case| case.bbox.is_same_thing_as(&found.bbox))
    }

    /// How `found`, first seen at `first_seen`, recurs an ended case: of those at its site, the one that ended last,
    /// closed by the platform or withdrawn by the box.
    ///
    /// A closed case is reopened at most once: if the platform closes it again, the next recurrence is a new case. A
    /// withdrawn case is never reopened.
    pub(super) fn recurrence(&self, found: &LocatedCandidate<'_>, first_seen: Timestamp) -> Option<RecurrenceAction> {
        let over = self.cases.values().filter(|r| {
            matches!(r.case.state, CaseState::Closed | CaseState::Withdrawn)
                && since(first_seen, r.case.at) <= Recurrence::WITHIN
                && found.distance_to_site_m(&r.case).is_some()
        });
        let case = &over.max_by_key(|r| r.case.at)?.case;
        let since_close = since(first_seen, case.at);
        let may_reopen = case.state == CaseState::Closed && !case.was_reopened;
        Some(if since_close < Recurrence::REOPENS_WITHIN && may_reopen {
            RecurrenceAction::Reopens(case.id.clone())
        } else {
            RecurrenceAction::Repeats(Recurrence {
                of: case.id.clone(),
                count: case.recurrences + 1,
                since_close,
            })
        })
    }

    /// Number of cases confirmed at `start` or later: by `camera` (all presets), and in total.
    pub(super) fn confirmed_since(&self, camera: &CameraId, start: Timestamp) -> (usize, usize) {
        let newer = || {
            let cases = self.cases.values().map(|r| &r.case);
            cases.filter(move |c| c.confirmed_at.is_some_and(|at| at >= start))
        };
        let is_here = |c: &&OpenCase| c.camera.device() == camera.device();
        (newer().filter(is_here).count(), newer().count())
    }

    /// Marks case `id` as reopened at the box's request.
    pub(super) fn reopen(&mut self, id: &CaseId, at: Timestamp) {
        self.update(id, |record| {
            record.case.state = CaseState::Reopened;
            record.case.at = at;
            record.case.was_reopened = true;
            record.last_seen = record.last_seen.max(at);
        });
    }

    pub(super) fn insert(&mut self, case: OpenCase, rule: Option<RuleId>, last_seen: Timestamp) {
        let id = case.id.clone();
        let record = CaseRecord {
            case,
            rule,
            last_seen,
            vacancy: Some(Vacancy::default()),
            check: VerificationTally::default(),
        };
        self.cases.insert(id.clone(), record);
        self.update(&id, |_| {});
    }

    pub(super) fn remove(&mut self, id: &CaseId) -> Option<CaseRecord> {
        let record = self.cases.remove(id)?;
        self.asked.remove(id);
        if let Some(open) = self.open.get_mut(&record.case.camera) {
            open.remove(id);
        }
        Some(record)
    }

    pub(super) fn get(&self, id: &CaseId) -> Option<&CaseRecord> {
        self.cases.get(id)
    }

    /// Records that `camera` saw the object of case `id`.
    pub(super) fn mark_seen(&mut self, id: &CaseId, camera: &CameraId, at: Timestamp) {
        if let Some(record) = self.cases.get_mut(id) {
            record.last_seen = record.last_seen.max(at);
            // A re-aimed camera that sees it again does look at the place.
            if record.case.camera == *camera {
                record.vacancy.get_or_insert_default();
            }
            if let Some(vacancy) = &mut record.vacancy {
                vacancy.reset_empty();
            }
        }
    }

    /// Records one clear look of `camera` under `rule`, `interval` after the previous one; `is_seen_at` tells whether
    /// it detected something at a place. Returns the cases, by id, that the platform has not answered for `silence` and
    /// whose places are empty.
    pub(super) fn vacant_cases(
        &mut self,
        camera: &CameraId,
        rule: &Rule,
        interval: LookInterval,
        is_seen_at: impl Fn(&BBox) -> bool,
        silence: Duration,
    ) -> Vec<CaseId> {
        let Some(open) = self.open.get(camera) else {
            return Vec::new();
        };
        let is_empty = |id: &&CaseId| {
            let Some(record) = self.cases.get_mut(*id) else {
                return false;
            };
            let is_its = record.is_of(rule);
            let (true, Some(vacancy)) = (is_its && may_withdraw_in(record.case.state), &mut record.vacancy) else {
                return false;
            };
            // If two rules share the category, only one of them may add up the time.
            record.rule.get_or_insert_with(|| rule.id.clone());
            let observed = interval.observed();
            if is_seen_at(&record.case.bbox) {
                vacancy.add_doubtful(observed, rule.forget_after);
            } else {
                vacancy.add_empty(observed);
            }
            vacancy.may_withdraw(silence)
        };
        open.iter().filter(is_empty).cloned().collect()
    }

    /// For how long looks of `camera` that show nothing at the places of its open cases cannot withdraw one; `None`: for ever. Zero if one has an
    /// open question, which each look helps to answer.
    pub(super) fn quiet_for(&self, camera: &CameraId, silence: Option<Duration>) -> Option<Duration> {
        let open = || {
            let ids = self.open.get(camera).into_iter().flatten();
            ids.filter_map(|id| self.cases.get(id))
        };
        if open().any(|record| record.case.question.is_some()) {
            return Some(Duration::ZERO);
        }
        let silence = silence?;
        let vacancies = open().filter(|record| may_withdraw_in(record.case.state));
        let vacancies = vacancies.filter_map(|record| record.vacancy);
        vacancies.map(|vacancy| vacancy.least_time(silence)).min()
    }

    /// Records clear looks of `camera` under `rule` that showed nothing, before one of its cases may be withdrawn.
    pub(super) fn add_empty(
        &mut self,
        camera: &CameraId,
        rule: &Rule,
        interval: LookInterval,
        silence: Option<Duration>,
    ) {
        if let Some(silence) = silence {
            let empty = self.vacant_cases(camera, rule, interval, |_| false, silence);
            debug_assert!(empty.is_empty(), "before `quiet_for`: {empty:?}");
        }
    }

    /// Records one clear look of `camera` under `rule` at the places of its cases with an open question; `shows` gives
    /// what is at a place, or `None` if the place is hidden. Returns the verdicts reached.
    pub(super) fn verify(
        &mut self,
        camera: &CameraId,
        rule: &Rule,
        at: Timestamp,
        how: &Verification,
        shows: impl Fn(&BBox) -> Option<Occupancy>,
    ) -> Vec<Verified> {
        let mut answers = Vec::new();
        for id in self.open.get(camera).into_iter().flatten() {
            let Some(record) = self.cases.get_mut(id) else { continue };
            // A re-aimed camera shows another place.
            let is_asked = record.case.question.is_some_and(|q| q.asked_at <= at);
            let can_tell = is_asked && record.is_of(rule) && record.vacancy.is_some();
            let finding = can_tell
                .then(|| shows(&record.case.bbox))
                .flatten()
                .and_then(|occupancy| record.check.add_look(at, occupancy, how));
            if let Some(finding) = finding {
                answers.extend(record.report(at, finding, true));
                self.asked.remove(id);
            }
        }
        answers
    }

    /// Expires questions asked more than `how.within` ago once their camera (`camera`) looks, or `late` after that
    /// without a look.
    pub(super) fn overdue(
        &mut self,
        camera: Option<&CameraId>,
        at: Timestamp,
        how: &Verification,
        late: Duration,
    ) -> Vec<Verified> {
        let mut answers = Vec::new();
        self.asked.retain(|id| {
            let Some(record) = self.cases.get_mut(id) else {
                return false;
            };
            let Some(due) = record.case.question.and_then(|q| q.deadline(how.within)) else {
                return false;
            };
            let has_looked = camera == Some(&record.case.camera);
            let is_overdue = at >= plus(due, if has_looked { Duration::ZERO } else { late });
            if is_overdue {
                answers.extend(record.report(at, Finding::Unverifiable, has_looked));
            }
            !is_overdue
        });
        answers
    }

    /// When [`CaseRegister::overdue`] must be called if no look comes first.
    pub(super) fn next_overdue(&self, how: &Verification, late: Duration) -> Option<Timestamp> {
        let asked = self.asked.iter().filter_map(|id| self.cases.get(id));
        let questions = asked.filter_map(|r| r.case.question);
        questions
            .filter_map(|q| q.deadline(how.within))
            .map(|due| plus(due, late))
            .min()
    }

    /// True if case `id` is open, or held back because it is open on another box.
    pub(super) fn is_open(&self, id: &CaseId) -> bool {
        self.held_back.contains_key(id) || self.get(id).is_some_and(|r| r.case.state.is_open())
    }

    /// True if case `id` is known, held back or not.
    pub(super) fn is_known(&self, id: &CaseId) -> bool {
        self.held_back.contains_key(id) || self.cases.contains_key(id)
    }

    /// Holds case `id` back for `to`, another box's case. Returns false if there is no such case.
    pub(super) fn hold_back(&mut self, id: &CaseId, to: &CaseId) -> bool {
        let Some(record) = self.remove(id) else { return false };
        self.restore_held_back(HeldBackCase {
            case: record.case,
            to: to.clone(),
        });
        true
    }

    /// Takes over what the last run held back.
    pub(super) fn restore_held_back(&mut self, held: HeldBackCase) {
        self.held_back.insert(held.case.id.clone(), held);
    }

    /// Another box's case ended: forgets what was held back for it.
    pub(super) fn release(&mut self, to: &CaseId) {
        self.held_back.retain(|_, held| held.to != *to);
    }

    /// True if `camera` has filed a case that is still open.
    pub(super) fn has_open(&self, camera: &CameraId) -> bool {
        self.open.get(camera).is_some_and(|open| !open.is_empty())
    }

    /// The open cases that `camera` filed, by id.
    pub(super) fn open_of(&self, camera: &CameraId) -> impl Iterator<Item = &OpenCase> {
        let ids = self.open.get(camera).into_iter().flatten();
        ids.filter_map(|id| self.cases.get(id)).map(|record| &record.case)
    }

    /// Marks case `id` as withdrawn.
    pub(super) fn withdraw(&mut self, id: &CaseId, at: Timestamp) {
        self.update(id, |record| {
            record.case.state = CaseState::Withdrawn;
            record.case.at = at;
        });
    }

    /// `camera` was re-aimed: it can no longer tell whether the places of its open cases are empty.
    pub(super) fn reaimed(&mut self, camera: &CameraId) {
        for id in self.open.get(camera).into_iter().flatten() {
            if let Some(record) = self.cases.get_mut(id) {
                record.vacancy = None;
            }
        }
    }

    /// Clears the filing rule of cases whose rule is no longer configured; another rule of the category takes over.
    pub(super) fn replan(&mut self, rules: &[Rule]) {
        for record in self.cases.values_mut() {
            record.rule = record.rule.take().filter(|id| rules.iter().any(|r| r.id == *id));
        }
    }

    /// Applies the platform's reply. Returns the reason for the transition, or `Ok(None)` if nothing changes.
    pub(super) fn apply_reply(&mut self, reply: &Reply) -> Result<Option<&'static str>, RejectedReply> {
        let Some(record) = self.cases.get(&reply.case) else {
            return Err(RejectedReply {
                known: None,
                reason: "no open or recent case has this id".into(),
            });
        };
        let from = record.case.state;
        let reason = transition(from, reply.state).map_err(|e| RejectedReply {
            known: Some(from),
            reason: e.to_string(),
        })?;
        let question = reply.next_question(from, record.case.question);
        if from == reply.state {
            if question != record.case.question {
                self.update(&reply.case, |record| record.set_question(question));
            }
            return Ok(None);
        }
        self.update(&reply.case, |record| {
            record.case.state = reply.state;
            record.case.at = reply.at;
            // The platform is working on it: the silence period starts over.
            record.vacancy = record.vacancy.map(|_| Vacancy::default());
            record.set_question(question);
        });
        Ok(Some(reason))
    }

    /// Drops cases that no longer affect new ones.
    pub(super) fn forget(&mut self, now: Timestamp) {
        // Open cases are always kept, so the `open` index does not change.
        self.cases.retain(|_, r| r.is_remembered(now));
        self.asked.retain(|id| self.cases.contains_key(id));
    }

    /// Restores the state of a case that the store does not keep.
    pub(super) fn restore(&mut self, id: &CaseId, what: impl FnOnce(&mut CaseRecord)) {
        if let Some(record) = self.cases.get_mut(id) {
            what(record);
        }
    }

    /// The only way to change a case's state; keeps the indices consistent.
    fn update(&mut self, id: &CaseId, change: impl FnOnce(&mut CaseRecord)) {
        let Some(record) = self.cases.get_mut(id) else { return };
        change(record);
        match record.case.question {
            Some(question) if !question.is_reported => self.asked.insert(id.clone()),
            _ => self.asked.remove(id),
        };
        let open = self.open.entry(record.case.camera.clone()).or_default();
        if record.case.state.is_open() {
            open.insert(id.clone());
        } else {
            open.remove(id);
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &CaseRecord> {
        self.cases.values()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &OpenCase> {
        self.cases.values().map(|r| &r.case)
    }

    pub(super) fn held_back(&self) -> impl Iterator<Item = &HeldBackCase> {
        self.held_back.values()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &OpenCase> {
        self.all().filter(|c| c.state.is_open())
    }
}
