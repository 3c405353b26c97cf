//! Where a candidate is, and which case its place already has: one open case per category and site, whatever camera sees it.
//!
//! Keyed on the place, never on a track: a track is lost behind every lorry, the place stays. The register remembers cases
//! that are over for as long as they bear on new ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    calendar::Calendar,
    case::{Illegal, transition},
    check::{Check, Finding, Glimpse, Question},
    geometry::{Side, distance_m, side_of},
    plus,
    presence::Step,
    since,
    types::{
        Appearance, BBox, Beyond, CameraId, CameraPlan, CaseId, CaseState, Located, NotFiled, OpenCase, PhoneNumber,
        Place, PlaceMethod, Plan, Point, Recurrence, Reply, Rule, RuleId, ScheduleId, Verification, Verified, Zone,
        ZoneId, ZoneKind,
    },
    vacancy::Vacancy,
};

/// Two places nearer than this are one whatever the rule says: a site's name is rounded to about a metre.
const LEAST_MERGE_M: f64 = 2.0;
/// Overlap by which a thing is the one that was rejected: half of it within the other's box.
const SAME_THING_IOU: f64 = 0.3;

/// Where a foot that counts stands, for one rule at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    /// The watch zone, where one is drawn.
    pub(super) zone: Option<&'a ZoneId>,
    /// The schedule of the permitted zone, where it stands in one.
    pub(super) permit: Option<&'a ScheduleId>,
    /// That schedule is open: what stands here is lawful now.
    pub(super) is_permitted: bool,
}

/// What a foot stands on, for one rule at one moment; `None` where it does not count. A line drawn belongs to its zone.
///
/// In this order, whatever the order of the zones, of which only those for the rule are asked:
/// 1. in an excluded zone, or in a container's for a rule that wants things outside of them: `None`;
/// 2. for a rule about what lies beyond the shop: `None` within a shop's ground, and where no such ground is drawn;
/// 3. outside every watch zone, where one is drawn: `None`;
/// 4. it counts, for the first watch zone that holds it, unless a permitted zone that is open holds it too. Permitted ground
///    is watched ground with hours: drawn where nothing is watched it has no effect.
pub(super) fn standing<'a>(
    zones: &'a [Zone],
    rule: &Rule,
    calendar: &Calendar,
    foot: Point,
    at: Timestamp,
) -> Option<Standing<'a>> {
    let mut is_watched_whole = true;
    let mut has_no_shop = rule.beyond == Some(Beyond::Shop);
    let (mut zone, mut permit, mut is_permitted) = (None, None, false);
    for z in zones
        .iter()
        .filter(|z| z.rules.is_empty() || z.rules.contains(&rule.id))
    {
        let is_in = || side_of(&z.polygon, foot) != Side::Outside;
        match &z.kind {
            ZoneKind::Exclude if is_in() => return None,
            ZoneKind::Container if rule.outside_containers && is_in() => return None,
            ZoneKind::Shop if rule.beyond == Some(Beyond::Shop) => {
                has_no_shop = false;
                if is_in() {
                    return None;
                }
            }
            ZoneKind::Watch => {
                is_watched_whole = false;
                if zone.is_none() && is_in() {
                    zone = Some(&z.id);
                }
            }
            ZoneKind::Permitted { during } if !is_permitted && is_in() => {
                is_permitted = calendar.is_open(during, at);
                if is_permitted || permit.is_none() {
                    permit = Some(during);
                }
            }
            ZoneKind::Exclude | ZoneKind::Container | ZoneKind::Shop | ZoneKind::Permitted { .. } => {}
        }
    }
    let counts = !has_no_shop && (is_watched_whole || zone.is_some());
    counts.then_some(Standing {
        zone,
        permit,
        is_permitted,
    })
}

/// Where the thing in `bbox` is; `None` outside the grid.
pub(super) fn locate(plan: &Plan, camera: &CameraPlan, rule: &Rule, bbox: &BBox) -> Option<Located> {
    let (view, most_uncertain_m) = match &camera.place {
        Place::Fixed(view) => (view, 0.0),
        Place::Calibrated {
            max_uncertainty_m,
            fallback,
            ..
        } => (fallback, *max_uncertainty_m),
    };
    let ground = rule.calibration(camera).and_then(|c| c.ground(bbox.foot()));
    let (at, uncertainty_m, method) = match ground {
        Some((at, uncertainty_m)) if uncertainty_m <= most_uncertain_m => (at, uncertainty_m, PlaceMethod::Homography),
        _ => (view.at, view.uncertainty_m, PlaceMethod::CameraPoint),
    };
    let cell = plan.grid.cell_of(at)?.clone();
    Some(Located {
        at,
        uncertainty_m,
        method,
        cell,
    })
}

/// A candidate that is ready, with its place.
pub(super) struct Found<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) rule: &'a Rule,
    pub(super) zone: Option<&'a ZoneId>,
    pub(super) located: &'a Located,
    pub(super) bbox: BBox,
    pub(super) appearance: Option<Appearance>,
    pub(super) number: Option<&'a PhoneNumber>,
}

impl Found<'_> {
    /// `cell/category/site`. A site is the drawn zone or the whole view where the place is the view's, else the ground point
    /// to 10⁻⁵ degree; behind it the number, for one wall has many advertisers. None of the names holds a character with a
    /// meaning in MQTT topics.
    pub(super) fn dedup_key(&self) -> String {
        let Located { at, cell, method, .. } = self.located;
        let category = &self.rule.category.code;
        let site = match (method, self.zone) {
            (PlaceMethod::Homography, _) => format!("{cell}/{category}/ground:{:.5},{:.5}", at.lon, at.lat),
            (PlaceMethod::CameraPoint, Some(zone)) => format!("{cell}/{category}/zone:{}:{zone}", self.camera),
            (PlaceMethod::CameraPoint, None) => format!("{cell}/{category}/view:{}", self.camera),
        };
        match self.number {
            Some(number) => format!("{site}:{number}"),
            None => site,
        }
    }

    /// True where both have a number, and not the same: two advertisers on one wall.
    fn is_another_number(&self, case: &OpenCase) -> bool {
        matches!((self.number, &case.number), (Some(a), Some(b)) if a != b)
    }

    /// How far `case` is, in metres, if it is the same problem at the same site.
    ///
    /// The cells themselves are not compared: the radius reaches over an edge by itself, and the case keeps its first cell.
    fn distance_to_site_m(&self, case: &OpenCase) -> Option<f64> {
        if case.category != self.rule.category.code || self.is_another_number(case) {
            return None;
        }
        let are_view_points = [case.located.method, self.located.method] == [PlaceMethod::CameraPoint; 2];
        if are_view_points && case.camera == *self.camera {
            // All of a view is at one point: its zones tell its sites apart, distance cannot.
            return (case.zone.as_ref() == self.zone).then_some(0.0);
        }
        let distance = distance_m(case.located.at, self.located.at);
        let uncertainty = case.located.uncertainty_m.max(self.located.uncertainty_m);
        let radius = self.rule.merge_radius_m.max(2.0 * uncertainty).max(LEAST_MERGE_M);
        (distance <= radius).then_some(distance)
    }

    /// True where `case` is about this very thing, not only about its site. Two looks in colour that have nothing in common
    /// are of two things.
    fn is_the_thing_of(&self, case: &OpenCase) -> bool {
        let in_colour = |a: &Option<Appearance>| a.filter(Appearance::has_colour);
        let looks_other = in_colour(&case.appearance)
            .zip(in_colour(&self.appearance))
            .is_some_and(|(a, b)| a.resemblance(&b) < Appearance::OTHER_THING);
        case.category == self.rule.category.code
            && !looks_other
            && !self.is_another_number(case)
            && if case.camera == *self.camera {
                case.bbox.iou(&self.bbox) >= SAME_THING_IOU
            } else {
                [case.located.method, self.located.method] == [PlaceMethod::Homography; 2]
                    && self.distance_to_site_m(case).is_some()
            }
    }
}

/// True while the box may take a case back for itself: nobody has been there, and nobody asks it to look.
fn speaks_alone(state: CaseState) -> bool {
    match state {
        CaseState::Filed | CaseState::Accepted | CaseState::Dispatched | CaseState::Reopened => true,
        // A crew has said something, or the platform asked: both want an answer of their own.
        CaseState::Disposed | CaseState::VerifyRequested => false,
        CaseState::Rejected | CaseState::DuplicateOf | CaseState::Closed | CaseState::Withdrawn => false,
    }
}

/// The problem of a case that is over is there again.
#[derive(Debug, PartialEq)]
pub(super) enum Return {
    /// So soon that the case should not have been closed.
    Reopens(CaseId),
    /// Later: a case of its own, that names the earlier one.
    Repeats(Recurrence),
}

/// What the register holds of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) case: OpenCase,
    /// Which rule filed it, as far as that is known and there is such a rule.
    pub(super) rule: Option<RuleId>,
    pub(super) last_seen: Timestamp,
    /// Whether it may be let go; `None` where its camera does not look there any more.
    pub(super) vacancy: Option<Vacancy>,
    /// What was seen since it was asked whether the thing is still there.
    pub(super) check: Check,
}

impl Record {
    /// True where `rule` filed it, as far as that is known.
    fn is_of(&self, rule: &Rule) -> bool {
        match &self.rule {
            Some(filed_by) => *filed_by == rule.id,
            None => self.case.category == rule.category.code,
        }
    }

    /// Is its thing still there?
    fn ask(&mut self, at: Timestamp) {
        self.case.question = Some(Question::new(at));
        self.check = Check::default();
    }

    /// The question is answered: what was seen since it was asked.
    fn verified(&mut self, at: Timestamp, finding: Finding, is_look: bool) -> Option<Verified> {
        let question = self.case.question.take()?;
        let (looks, looks_seen) = self.check.counts();
        if finding == Finding::Unverifiable {
            // Said once; a verdict is given when there is one.
            self.case.question = Some(Question {
                is_told: true,
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

/// The cases that bear on new ones: open, and lately over.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Register {
    cases: BTreeMap<CaseId, Record>,
    /// The open ones, by the camera that filed them.
    open: BTreeMap<CameraId, BTreeSet<CaseId>>,
}

impl Register {
    /// The case that `found` belongs to, and why it is therefore not filed. An open case goes before a refused one, the
    /// nearest before the others.
    pub(super) fn holder(&self, found: &Found<'_>, now: Timestamp) -> Option<(&CaseId, NotFiled)> {
        let mut nearest: Option<(f64, &CaseId, NotFiled)> = None;
        let mut refused = None;
        for (id, record) in self.cases.iter().filter(|(_, r)| r.is_remembered(now)) {
            match record.case.state {
                CaseState::Rejected if found.is_the_thing_of(&record.case) => refused = Some(id),
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
        let open = nearest.map(|(_, id, reason)| (id, reason));
        open.or(refused.map(|id| (id, NotFiled::RejectedBefore)))
    }

    /// Which case that is over `found`, first seen at `first_seen`, is a return of: of those within reach, the one that ended
    /// last, closed by the platform or taken back by the box.
    ///
    /// A closed case is reopened, once: where the platform closed it again, it has heard the box, and the next time is another
    /// case. What the box took back itself it does not ask for again.
    pub(super) fn recurrence(&self, found: &Found<'_>, first_seen: Timestamp) -> Option<Return> {
        let over = self.cases.values().filter(|r| {
            matches!(r.case.state, CaseState::Closed | CaseState::Withdrawn)
                && since(first_seen, r.case.at) <= Recurrence::WITHIN
                && found.distance_to_site_m(&r.case).is_some()
        });
        let case = &over.max_by_key(|r| r.case.at)?.case;
        let since_close = since(first_seen, case.at);
        let may_reopen = case.state == CaseState::Closed && !case.was_reopened;
        Some(if since_close < Recurrence::REOPENS_WITHIN && may_reopen {
            Return::Reopens(case.id.clone())
        } else {
            Return::Repeats(Recurrence {
                of: case.id.clone(),
                count: case.recurrences + 1,
                since_close,
            })
        })
    }

    /// How many cases were confirmed at `start` or later: by `camera`, and by all.
    pub(super) fn confirmed_since(&self, camera: &CameraId, start: Timestamp) -> (usize, usize) {
        let newer = || {
            let cases = self.cases.values().map(|r| &r.case);
            cases.filter(move |c| c.confirmed_at.is_some_and(|at| at >= start))
        };
        let is_here = |c: &&OpenCase| c.camera.device() == camera.device();
        (newer().filter(is_here).count(), newer().count())
    }

    /// The box asks for case `id` again.
    pub(super) fn reopen(&mut self, id: &CaseId, at: Timestamp) {
        self.change(id, |record| {
            record.case.state = CaseState::Reopened;
            record.case.at = at;
            record.case.was_reopened = true;
            record.last_seen = record.last_seen.max(at);
        });
    }

    pub(super) fn insert(&mut self, case: OpenCase, rule: Option<RuleId>, last_seen: Timestamp) {
        let id = case.id.clone();
        let record = Record {
            case,
            rule,
            last_seen,
            vacancy: Some(Vacancy::default()),
            check: Check::default(),
        };
        self.cases.insert(id.clone(), record);
        self.change(&id, |_| {});
    }

    pub(super) fn remove(&mut self, id: &CaseId) -> Option<Record> {
        let record = self.cases.remove(id)?;
        if let Some(open) = self.open.get_mut(&record.case.camera) {
            open.remove(id);
        }
        Some(record)
    }

    pub(super) fn get(&self, id: &CaseId) -> Option<&Record> {
        self.cases.get(id)
    }

    /// `camera` saw the thing of case `id`.
    pub(super) fn seen(&mut self, id: &CaseId, camera: &CameraId, at: Timestamp) {
        if let Some(record) = self.cases.get_mut(id) {
            record.last_seen = record.last_seen.max(at);
            // Where its own camera sees it again it looks there.
            if record.case.camera == *camera {
                record.vacancy.get_or_insert_default();
            }
            if let Some(vacancy) = &mut record.vacancy {
                vacancy.seen();
            }
        }
    }

    /// A clear look of `camera` by `rule`, `step` after the one before, that saw something where `is_seen_at` says so. Gives
    /// the cases, oldest first, that nobody had a word for in `silence` and whose place is empty.
    pub(super) fn looked(
        &mut self,
        camera: &CameraId,
        rule: &Rule,
        step: Step,
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
            let (true, Some(vacancy)) = (is_its && speaks_alone(record.case.state), &mut record.vacancy) else {
                return false;
            };
            // Of two rules for one category, one must tell the time.
            record.rule.get_or_insert_with(|| rule.id.clone());
            let step = step.known();
            if is_seen_at(&record.case.bbox) {
                vacancy.doubted(step, rule.forget_after);
            } else {
                vacancy.passed(step);
            }
            vacancy.is_let_go(silence)
        };
        open.iter().filter(is_empty).cloned().collect()
    }

    /// A clear look of `camera` by `rule` at the places of those of its cases about which it was asked; what a place shows, where
    /// nothing hides it. Gives the answers that it decides.
    pub(super) fn check(
        &mut self,
        camera: &CameraId,
        rule: &Rule,
        (at, how): (Timestamp, &Verification),
        shows: impl Fn(&BBox) -> Option<Glimpse>,
    ) -> Vec<Verified> {
        let mut answers = Vec::new();
        for id in self.open.get(camera).into_iter().flatten() {
            let Some(record) = self.cases.get_mut(id) else { continue };
            // A camera that looks elsewhere now shows another place.
            let can_tell = record.case.question.is_some() && record.is_of(rule) && record.vacancy.is_some();
            let finding = can_tell
                .then(|| shows(&record.case.bbox))
                .flatten()
                .and_then(|glimpse| record.check.look(at, glimpse, how));
            answers.extend(finding.and_then(|finding| record.verified(at, finding, true)));
        }
        answers
    }

    /// What could not be verified in time: asked more than `how.within` ago, and `camera` has just looked, or `late` has passed
    /// since.
    pub(super) fn overdue(
        &mut self,
        camera: Option<&CameraId>,
        (at, how): (Timestamp, &Verification),
        late: Duration,
    ) -> Vec<Verified> {
        let mut answers = Vec::new();
        for record in self.cases.values_mut() {
            let Some(due) = record.case.question.and_then(|q| q.due(how.within)) else {
                continue;
            };
            let has_looked = camera == Some(&record.case.camera);
            if at >= plus(due, if has_looked { Duration::ZERO } else { late }) {
                answers.extend(record.verified(at, Finding::Unverifiable, has_looked));
            }
        }
        answers
    }

    /// When [`Register::overdue`] wants to be asked again, if no look comes before.
    pub(super) fn next_overdue(&self, how: &Verification, late: Duration) -> Option<Timestamp> {
        let questions = self.cases.values().filter_map(|r| r.case.question);
        questions
            .filter_map(|q| q.due(how.within))
            .map(|due| plus(due, late))
            .min()
    }

    /// True where a case that `camera` filed is open.
    pub(super) fn has_open(&self, camera: &CameraId) -> bool {
        self.open.get(camera).is_some_and(|open| !open.is_empty())
    }

    /// The box takes case `id` back.
    pub(super) fn withdraw(&mut self, id: &CaseId, at: Timestamp) {
        self.change(id, |record| {
            record.case.state = CaseState::Withdrawn;
            record.case.at = at;
        });
    }

    /// `camera` looks elsewhere now: it cannot tell of its open cases' places any more.
    pub(super) fn reaimed(&mut self, camera: &CameraId) {
        for id in self.open.get(camera).into_iter().flatten() {
            if let Some(record) = self.cases.get_mut(id) {
                record.vacancy = None;
            }
        }
    }

    /// Forgets which rules filed what, as far as there are none such any more: another of the category may tell.
    pub(super) fn replan(&mut self, rules: &[Rule]) {
        for record in self.cases.values_mut() {
            record.rule = record.rule.take().filter(|id| rules.iter().any(|r| r.id == *id));
        }
    }

    /// Takes the platform's answer: the reason of the step, or `Ok(None)` where it changes nothing.
    pub(super) fn answer(&mut self, reply: &Reply) -> Result<Option<&'static str>, (Option<CaseState>, String)> {
        let Some(record) = self.cases.get(&reply.case) else {
            return Err((None, "no case of that id is open, or was lately".into()));
        };
        let from = record.case.state;
        let reason = transition(from, reply.state).map_err(|e: Illegal| (Some(from), e.to_string()))?;
        if from == reply.state {
            // Asked again after the answer: it wants another.
            if reply.state == CaseState::VerifyRequested && record.case.question.is_none_or(|q| q.is_told) {
                self.change(&reply.case, |record| record.ask(reply.at));
            }
            return Ok(None);
        }
        self.change(&reply.case, |record| {
            record.case.state = reply.state;
            record.case.at = reply.at;
            // The platform is at it: the box waits for its next word as long as for the first.
            record.vacancy = record.vacancy.map(|_| Vacancy::default());
            match reply.state {
                CaseState::Disposed | CaseState::VerifyRequested => record.ask(reply.at),
                _ => record.case.question = None,
            }
        });
        Ok(Some(reason))
    }

    /// Drops what has no bearing any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        // What is open is remembered, so the list of these stays as it is.
        self.cases.retain(|_, r| r.is_remembered(now));
    }

    /// What the store does not know of a case that it gave back.
    pub(super) fn remember(&mut self, id: &CaseId, what: impl FnOnce(&mut Record)) {
        if let Some(record) = self.cases.get_mut(id) {
            what(record);
        }
    }

    /// The one way in which a case changes its state.
    fn change(&mut self, id: &CaseId, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.cases.get_mut(id) else { return };
        change(record);
        let open = self.open.entry(record.case.camera.clone()).or_default();
        if record.case.state.is_open() {
            open.insert(id.clone());
        } else {
            open.remove(id);
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.cases.values()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &OpenCase> {
        self.cases.values().map(|r| &r.case)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &OpenCase> {
        self.all().filter(|c| c.state.is_open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::calendar::{DAY, Days, Schedule, Window};

    fn zone(id: &str, kind: ZoneKind, x1: f64, x2: f64, rules: &[&str]) -> Zone {
        let polygon = [(x1, 0.5), (x2, 0.5), (x2, 1.0), (x1, 1.0)]
            .map(|(x, y)| Point { x, y })
            .to_vec();
        Zone {
            id: id.into(),
            kind,
            polygon,
            rules: rules.iter().map(|r| (*r).into()).collect(),
        }
    }

    fn rule(id: &str) -> Rule {
        Rule {
            id: id.into(),
            ..crate::engine::presence::tests::rule()
        }
    }

    fn on(zones: &[Zone], rule: &Rule, x: f64) -> Option<Option<String>> {
        let foot = Point { x, y: 0.75 };
        let standing = standing(zones, rule, &Calendar::default(), foot, Timestamp::UNIX_EPOCH)?;
        Some(standing.zone.map(|z| z.as_str().to_owned()))
    }

    #[test]
    fn zones_decide_what_a_foot_stands_on() {
        let (garbage, advert) = (rule("garbage"), rule("advert"));
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.5, &["garbage"]),
            zone("kerb", ZoneKind::Watch, 0.4, 0.8, &["garbage"]),
            zone("bins", ZoneKind::Exclude, 0.2, 0.3, &[]),
        ];
        let at = |rule, x| on(&zones, rule, x);
        assert_eq!(at(&garbage, 0.1), Some(Some("pavement".into())));
        assert_eq!(at(&garbage, 0.45), Some(Some("pavement".into())), "the first of two");
        assert_eq!(at(&garbage, 0.6), Some(Some("kerb".into())));
        assert_eq!(at(&garbage, 0.8), Some(Some("kerb".into())), "its line is the zone's");
        assert_eq!(at(&garbage, 0.25), None, "excluded within a watched zone");
        assert_eq!(at(&garbage, 0.3), None, "on an excluded zone's line");
        assert_eq!(at(&garbage, 0.9), None);
        assert_eq!(
            at(&advert, 0.9),
            Some(None),
            "no watch zone is for this rule: the whole picture"
        );
        assert_eq!(at(&advert, 0.25), None);
    }

    #[test]
    fn containers_are_lawful_ground_unless_the_rule_is_about_them() {
        let zones = [zone("bins", ZoneKind::Container, 0.2, 0.3, &[])];
        let overflow = Rule {
            outside_containers: false,
            ..rule("overflow")
        };
        assert_eq!(on(&zones, &rule("garbage"), 0.25), None);
        assert_eq!(
            on(&zones, &rule("garbage"), 0.35),
            Some(None),
            "watched whole: the zone is no watch zone"
        );
        assert_eq!(on(&zones, &overflow, 0.25), Some(None));
    }

    #[test]
    fn beyond_the_shop_is_watched_ground_outside_its_own() {
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.8, &[]),
            zone("front", ZoneKind::Shop, 0.0, 0.2, &[]),
        ];
        let spill = Rule {
            beyond: Some(Beyond::Shop),
            ..rule("spill")
        };
        assert_eq!(on(&zones, &spill, 0.1), None);
        assert_eq!(on(&zones, &spill, 0.2), None, "its line is the shop's");
        assert_eq!(on(&zones, &spill, 0.3), Some(Some("pavement".into())));
        assert_eq!(on(&zones, &spill, 0.9), None, "not watched");
        assert_eq!(on(&zones[..1], &spill, 0.3), None, "no shop, no spill-over");
        assert_eq!(
            on(&zones, &rule("garbage"), 0.1),
            Some(Some("pavement".into())),
            "nothing to a rule about other things"
        );
    }

    #[test]
    fn permitted_ground_is_watched_ground_with_hours() {
        let permitted = |during: &str| ZoneKind::Permitted { during: during.into() };
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.8, &[]),
            zone("closed", permitted("closed"), 0.2, 0.5, &[]),
            zone("market", permitted("open"), 0.4, 0.9, &["vendor"]),
            zone("late", permitted("closed"), 0.6, 0.7, &[]),
        ];
        let always = Schedule {
            windows: vec![Window {
                days: Days::DAILY,
                from: 0,
                to: DAY,
                season: None,
            }],
        };
        let calendar = Calendar {
            schedules: [("open".into(), always), ("closed".into(), Schedule::default())].into(),
            ..Calendar::default()
        };
        let at = |rule: &str, x| {
            let foot = Point { x, y: 0.75 };
            let standing = standing(
                &zones,
                &super::tests::rule(rule),
                &calendar,
                foot,
                Timestamp::UNIX_EPOCH,
            )?;
            Some((standing.permit.map(|s| s.as_str().to_owned()), standing.is_permitted))
        };
        assert_eq!(at("vendor", 0.1), Some((None, false)));
        assert_eq!(at("vendor", 0.3), Some((Some("closed".into()), false)));
        assert_eq!(
            at("vendor", 0.45),
            Some((Some("open".into()), true)),
            "the open one goes before the closed"
        );
        assert_eq!(
            at("vendor", 0.65),
            Some((Some("open".into()), true)),
            "whatever their order"
        );
        assert_eq!(at("garbage", 0.55), Some((None, false)), "not for this rule");
        assert_eq!(at("vendor", 0.85), None, "not watched");
    }
}
