//! Judges the recorded days again under some rules of a plan, with the cases of the other rules as they are known from a run of all.
//!
//! # Why it is exact
//!
//! The cameras of a cluster ([`super::clusters`]) are judged together, in the order of the records, by the engine that runs live. Two
//! things are left out:
//!
//! - **Quiet looks.** A look without an object of the rules, by a camera that tracks nothing and has no open case of theirs, only
//!   dates the camera's newest look. Of consecutive ones of the same kind (clear or not, the same labels not searched for) the last
//!   gives the same state. They are made up for before the camera's next look, and before a record that concerns the state of cameras,
//!   with what they date only (`Engine::date_look`): meanwhile a case of the camera may have been opened again. If the camera has open
//!   cases, the time in which their places were empty adds up, too (`Engine::date_empty_look`). That is so for consecutive clear looks
//!   between which all time is observed, until the first case may be withdrawn (`Engine::quiet_until`). Another camera that sees such
//!   an object starts that time anew, so before its look they are made up for.
//! - **Other rules.** Rules affect each other through cases only: of the same category (deduplication, recurrence, withdrawal), of
//!   another category at the same place in one view, and through the daily caps. The rules of a run include all rules of their
//!   categories, and all between them in the order of the configuration, so that a case of another rule is known to all of them at a
//!   look, or to none. Cases of other rules are put in at the look that opened or changed them. That the other rules would have done
//!   the same is checked afterwards (`interference`); if not, they are judged, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Task, WhatIfError,
    clusters::Cluster,
    result::{CaseChangeAt, OpenSpan, ReadySpan, RunResult},
    table::{LookTable, OtherRecord},
};
use crate::{
    Entry, RecordedEvent,
    replay::{Replay, ReplayedCase, Window},
};
use gridwatch_engine::{
    BBox, CameraId, CaseId, Effect, Label, NotFiled, Observation, Plan, Rule, RuleId, SiteExtent, View,
};

/// Looks between two checks for cancellation.
const CHECK_EVERY: usize = 4096;

/// What to run.
pub(super) struct RunRequest<'a> {
    pub(super) table: &'a LookTable,
    /// With all rules.
    pub(super) plan: &'a Plan,
    /// The positions of the rules to judge, in order.
    pub(super) rules: &'a BTreeSet<usize>,
    /// Changes to cases of other rules.
    pub(super) others: &'a [CaseChangeAt],
    /// Also find the [`ReadySpan`]s.
    pub(super) finds_ready: bool,
}

/// The progress of a run.
struct Run<'a> {
    request: &'a RunRequest<'a>,
    cluster: &'a Cluster,
    replay: Replay,
    /// The cameras and labels of the table. Ids of its own: threads that count references to the same ids wait for each other.
    cameras: Vec<CameraId>,
    labels: Vec<Label>,
    is_used: Vec<bool>,
    /// The labels not searched for that matter, by set.
    not_searched: Vec<Vec<Label>>,
    /// By the numbers of the cameras.
    states: Vec<CameraRun>,
    /// Cameras with looks that were left out while cases were open.
    empty: BTreeSet<usize>,
    camera_numbers: BTreeMap<CameraId, usize>,
    categories: BTreeSet<&'a str>,
    rule_positions: BTreeMap<RuleId, usize>,
    /// The ready span of a camera and rule that may go on.
    current: BTreeMap<(CameraId, usize), usize>,
    /// Why candidates were not filed, by camera, and by position of the rule.
    not_filed: Vec<BTreeMap<usize, Vec<(NotFiled, Timestamp)>>>,
    result: RunResult,
}

/// What decides whether a camera's next look can be left out.
#[derive(Debug, Clone)]
struct CameraRun {
    /// It tracks something.
    is_tracking: bool,
    /// It has an open case of the rules.
    has_open: bool,
    /// If it has one: looks without objects have no effects before this time, in nanoseconds since 1970.
    quiet_until: i64,
    /// Its newest look.
    newest: Option<u32>,
    /// The newest look that was left out.
    left_out: Option<u32>,
    /// Longest time between two looks that all rules take for observed, in nanoseconds.
    reach: i64,
}

impl RunRequest<'_> {
    /// Judges the cameras of a cluster.
    pub(super) fn run(
        &self,
        cluster: &Cluster,
        task: &Task<'_>,
        progress: impl Fn(usize),
    ) -> Result<RunResult, WhatIfError> {
        let table = self.table;
        let cameras: Vec<CameraId> = table.cameras.iter().map(|id| id.as_str().into()).collect();
        let labels: Vec<Label> = table.labels().iter().map(|label| label.as_str().into()).collect();
        let plan = self.plan_of(cluster);
        let objects: Vec<_> = plan.rules.iter().flat_map(|r| r.labels.iter().cloned()).collect();
        let beside = plan.rules.iter().flat_map(super::table::labels_beside);
        let used: Vec<_> = objects.iter().cloned().chain(beside).collect();
        let bits = table.bits(&objects);
        let not_searched = table.not_searched.iter().map(|set| {
            let of_rules = set
                .iter()
                .filter_map(|label| objects.iter().find(|object| *object == label));
            of_rules.cloned().collect()
        });
        let numbers = cameras.iter().enumerate().map(|(number, id)| (id.clone(), number));
        let mut run = Run {
            request: self,
            cluster,
            replay: Replay::new(Arc::new(plan), Window::default()),
            is_used: table.is_among(&used),
            not_searched: not_searched.collect(),
            states: cameras.iter().map(|id| self.camera_run(id)).collect(),
            empty: BTreeSet::new(),
            camera_numbers: numbers.collect(),
            not_filed: vec![BTreeMap::new(); cameras.len()],
            cameras,
            labels,
            categories: self
                .rules
                .iter()
                .map(|i| self.plan.rules[*i].category.code.as_str())
                .collect(),
            rule_positions: self
                .plan
                .rules
                .iter()
                .enumerate()
                .map(|(i, r)| (r.id.as_str().into(), i))
                .collect(),
            current: BTreeMap::new(),
            result: RunResult::default(),
        };
        run.all(bits, task, progress)?;
        Ok(run.finish())
    }

    fn camera_run(&self, id: &CameraId) -> CameraRun {
        let away = self.plan.cameras.get(id).map_or(Duration::ZERO, |camera| camera.away);
        let reaches = self.rules.iter().map(|rule| self.plan.rules[*rule].max_gap.max(away));
        let reach = reaches.min().unwrap_or_default();
        CameraRun {
            // Until its first look.
            is_tracking: true,
            has_open: false,
            quiet_until: i64::MIN,
            newest: None,
            left_out: None,
            reach: i64::try_from(reach.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// The cameras of the cluster and the rules of the run, with ids of their own.
    fn plan_of(&self, cluster: &Cluster) -> Plan {
        let rule = |position: &usize| {
            let rule = self.plan.rules[*position].clone();
            Rule {
                id: rule.id.as_str().into(),
                labels: rule.labels.iter().map(|label| label.as_str().into()).collect(),
                ..rule
            }
        };
        let cameras = self
            .plan
            .cameras
            .iter()
            .filter(|(id, _)| cluster.contains(self.table, id));
        Plan {
            node: self.plan.node.clone(),
            cameras: cameras
                .map(|(id, camera)| (id.as_str().into(), camera.clone()))
                .collect(),
            rules: self.rules.iter().map(rule).collect(),
            grid: self.plan.grid.clone(),
            intake: self.plan.intake.clone(),
            verification: self.plan.verification.clone(),
            picture_interval: self.plan.picture_interval,
            calendar: self.plan.calendar.clone(),
        }
    }
}

impl Run<'_> {
    fn all(&mut self, bits: u64, task: &Task<'_>, progress: impl Fn(usize)) -> Result<(), WhatIfError> {
        let request = self.request;
        let (table, first_rule) = (request.table, request.rules.first().copied().unwrap_or(0));
        let mut others = table.others.iter().peekable();
        let mut opened = table.opened.iter().peekable();
        let mut beside = request.others.iter().peekable();
        let mut after = Vec::new();
        for (count, number) in self.cluster.looks().enumerate() {
            if count.is_multiple_of(CHECK_EVERY) {
                task.check()?;
                progress(CHECK_EVERY.min(count));
            }
            let row = table.looks[number as usize];
            while let Some(record) = others.next_if(|record| record.look <= number) {
                self.other(number, record);
            }
            while opened.next_if(|(at, _)| *at < number).is_some() {}
            let mut ids = Vec::new();
            while let Some((_, id)) = opened.next_if(|(at, _)| *at == number) {
                ids.push(id.clone());
            }
            while beside.next_if(|change| change.look < number).is_some() {}
            while let Some(change) = beside.next_if(|change| change.look == number) {
                if change.is_opened {
                    self.replay.opened_beside(&change.case.id);
                }
                if change.rule < first_rule {
                    self.replay.put_case(change.case.clone());
                } else {
                    after.push(change);
                }
            }
            if row.labels & bits == 0 && ids.is_empty() && self.is_quiet(number) {
                self.leave_out(number);
            } else {
                self.look(number, ids);
            }
            self.states[usize::from(row.camera)].newest = Some(number);
            for change in after.drain(..) {
                self.replay.put_case(change.case.clone());
            }
        }
        for record in others {
            self.other(table.looks.len() as u32, record);
        }
        Ok(())
    }

    fn finish(mut self) -> RunResult {
        self.collect_extents();
        for (camera, of_rules) in self.not_filed.into_iter().enumerate() {
            for (rule, reasons) in of_rules {
                let rule = self.request.plan.rules[rule].id.clone();
                let key = (self.request.table.cameras[camera].clone(), rule);
                self.result.not_filed.insert(key, reasons);
            }
        }
        self.result
    }

    /// True if a look without objects need not be judged now.
    fn is_quiet(&self, number: u32) -> bool {
        let looks = &self.request.table.looks;
        let row = &looks[number as usize];
        let state = &self.states[usize::from(row.camera)];
        if state.is_tracking {
            return false;
        }
        !state.has_open
            || state.newest.is_some_and(|before| {
                row.view == View::Clear
                    && row.nanosecond() < state.quiet_until
                    && row.nanosecond().saturating_sub(looks[before as usize].nanosecond()) <= state.reach
                    && self.are_of_one_kind(before, number)
            })
    }

    /// True if both are clear or blind, both did not search for the same labels of the rules, and the second is newer.
    fn are_of_one_kind(&self, before: u32, number: u32) -> bool {
        let looks = &self.request.table.looks;
        let (before, row) = (&looks[before as usize], &looks[number as usize]);
        (before.view == View::Clear) == (row.view == View::Clear)
            && self.not_searched[usize::from(before.not_searched)] == self.not_searched[usize::from(row.not_searched)]
            && before.nanosecond() < row.nanosecond()
    }

    /// Leaves out a quiet look. Those before are made up for if they were of another kind.
    fn leave_out(&mut self, number: u32) {
        let camera = usize::from(self.request.table.looks[number as usize].camera);
        let state = &self.states[camera];
        let has_open = state.has_open;
        if let Some(before) = state.left_out
            && (self.empty.contains(&camera) != has_open || !self.are_of_one_kind(before, number))
        {
            self.make_up(camera);
        }
        self.states[camera].left_out = Some(number);
        if has_open {
            self.empty.insert(camera);
        }
    }

    /// Takes over what a camera's looks that were left out mean.
    fn make_up(&mut self, camera: usize) {
        if let Some(number) = self.states[camera].left_out.take() {
            let look = self.observation(number, false);
            let is_of_cases = self.empty.remove(&camera);
            self.replay.date_look(&look, is_of_cases);
        }
    }

    /// The look, with its detections or without.
    fn observation(&self, number: u32, with_detections: bool) -> Observation {
        let table = self.request.table;
        let row = &table.looks[number as usize];
        let detections = match with_detections {
            true => table.detections(number as usize, &self.is_used, &self.labels).collect(),
            false => Vec::new(),
        };
        Observation {
            camera: self.cameras[usize::from(row.camera)].clone(),
            at: row.time(),
            view: row.view,
            light: row.light,
            detections,
            not_searched: self.not_searched[usize::from(row.not_searched)].clone(),
        }
    }

    fn look(&mut self, number: u32, opened: Vec<CaseId>) {
        let camera = usize::from(self.request.table.looks[number as usize].camera);
        self.make_up(camera);
        while let Some(other) = self.empty.first().copied() {
            self.make_up(other);
        }
        let event = RecordedEvent::Observed(self.observation(number, true));
        let effects = self.replay.apply(Entry { event, opened });
        let changed = self.take(number, camera, &effects);
        if self.request.finds_ready {
            self.find_ready(number, camera, &effects);
        }
        for other in changed.into_iter().filter(|other| *other != camera) {
            self.find_busy(other);
        }
        self.find_busy(camera);
    }

    /// A record that is not a look.
    fn other(&mut self, number: u32, record: &OtherRecord) {
        let engine = self.replay.engine();
        let of_case = match &record.entry.event {
            RecordedEvent::Tick(_) => {
                self.apply_other(number, record);
                return;
            }
            // Of a case that was not opened here, or of another cluster.
            RecordedEvent::Reply(reply) => match engine.case(&reply.case) {
                Some(case) => Some((case.id.clone(), case.camera.clone())),
                None => return,
            },
            RecordedEvent::EvidenceFailed { case } => match engine.case(case) {
                Some(case) => Some((case.id.clone(), case.camera.clone())),
                None => return,
            },
            RecordedEvent::KnownCase(case) | RecordedEvent::Restored(case) => {
                if !self.is_here(&case.camera) {
                    return;
                }
                if let Some(at) = case.confirmed_at {
                    self.result.earlier.insert(case.id.clone(), (case.camera.clone(), at));
                }
                self.result.add_extent(Some(SiteExtent::of(&case.located)));
                Some((case.id.clone(), case.camera.clone()))
            }
            RecordedEvent::HeldBack(held) => {
                if !self.is_here(&held.case.camera) {
                    return;
                }
                self.result.add_extent(Some(SiteExtent::of(&held.case.located)));
                None
            }
            _ => None,
        };
        match of_case {
            Some((case, camera)) => {
                let camera = self.camera_numbers.get(&camera).copied();
                camera.into_iter().for_each(|camera| self.make_up(camera));
                self.apply_other(number, record);
                self.follow(number, &case);
                camera.into_iter().for_each(|camera| self.find_busy(camera));
            }
            None => {
                (0..self.cameras.len()).for_each(|camera| self.make_up(camera));
                // A start replaces the engine.
                self.collect_extents();
                self.apply_other(number, record);
                self.follow_all(number);
                (0..self.cameras.len()).for_each(|camera| self.find_busy(camera));
            }
        }
    }

    /// Cases of cameras without a look are known to every cluster.
    fn is_here(&self, camera: &CameraId) -> bool {
        let number = self.camera_numbers.get(camera);
        number.is_none_or(|number| self.cluster.has(*number))
    }

    fn apply_other(&mut self, number: u32, record: &OtherRecord) {
        if let Some(now) = record.now {
            self.replay.advance_to(now);
        }
        let effects = self.replay.apply(record.entry.clone());
        let changes = self.result.changes.len();
        for effect in &effects {
            match effect {
                Effect::NotFiled { camera, .. } => {
                    if let Some(camera) = self.camera_numbers.get(camera).copied() {
                        self.take(number, camera, std::slice::from_ref(effect));
                    }
                }
                effect => drop(self.take(number, 0, std::slice::from_ref(effect))),
            }
        }
        // A reply changes the case in every run.
        self.result.changes.truncate(changes);
    }

    fn collect_extents(&mut self) {
        for extent in self.replay.engine().extents().values() {
            self.result.add_extent(Some(*extent));
        }
    }

    /// Takes what the engine did at a look of a camera; returns the cameras whose cases were opened or changed.
    fn take(&mut self, number: u32, camera: usize, effects: &[Effect]) -> Vec<usize> {
        let mut changed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Open(case) => {
                    self.result.cases.push(ReplayedCase::from(&**case));
                    self.result.places.insert(case.id.clone(), case.located.at);
                    changed.extend(self.change(number, &case.id, Some(&case.rule), true));
                }
                Effect::Revise { case, .. } => changed.extend(self.change(number, case, None, false)),
                Effect::NotFiled { rule, reason, at, .. } => {
                    self.result.is_capped |= *reason == NotFiled::OverDailyCap;
                    if let Some(rule) = self.rule_positions.get(rule)
                        && self.request.rules.contains(rule)
                    {
                        self.not_filed[camera].entry(*rule).or_default().push((*reason, *at));
                    }
                }
                _ => {}
            }
        }
        changed
    }

    /// Notes a changed case; returns its camera.
    fn change(&mut self, number: u32, id: &CaseId, rule: Option<&RuleId>, is_opened: bool) -> Option<usize> {
        let case = self.replay.engine().case(id)?.clone();
        let rules = &self.request.plan.rules;
        let position = match rule {
            Some(rule) => self.rule_positions.get(rule).copied(),
            None => rules.iter().position(|r| r.category.code == case.category),
        };
        let camera = self.camera_numbers.get(&case.camera).copied();
        if is_opened {
            self.result.open.insert(id.clone(), OpenSpan::new(&case, number));
        }
        self.follow(number, id);
        self.result.changes.push(CaseChangeAt {
            look: number,
            rule: position.unwrap_or(0),
            is_opened,
            case,
        });
        camera
    }

    /// After a record or look that may have opened, closed or removed a case.
    fn follow(&mut self, number: u32, id: &CaseId) {
        let case = self.replay.engine().case(id).filter(|case| case.state.is_open());
        match (case, self.result.open.get_mut(id)) {
            (Some(_), Some(span)) => span.to = u32::MAX,
            (Some(case), None) => drop(self.result.open.insert(id.clone(), OpenSpan::new(case, number))),
            (None, Some(span)) if span.to == u32::MAX => span.to = number,
            (None, _) => {}
        }
    }

    /// After a record that may have opened, closed or removed any case.
    fn follow_all(&mut self, number: u32) {
        let engine = self.replay.engine();
        let open = engine.open_cases().map(|case| case.id.clone());
        let was_open = self.result.open.iter().filter(|(_, span)| span.to == u32::MAX);
        let ids: BTreeSet<CaseId> = open.chain(was_open.map(|(id, _)| id.clone())).collect();
        for id in ids {
            self.follow(number, &id);
        }
    }

    /// Finds out whether a look of the camera without objects matters.
    fn find_busy(&mut self, camera: usize) {
        let (engine, id) = (self.replay.engine(), &self.cameras[camera]);
        let mut of_rules = engine
            .open_cases_of(id)
            .filter(|case| self.categories.contains(case.category.as_str()));
        let state = &mut self.states[camera];
        state.is_tracking = engine.is_tracking(id);
        state.has_open = of_rules.next().is_some();
        if state.has_open {
            let until = engine.quiet_until(id).as_nanosecond();
            state.quiet_until = i64::try_from(until).unwrap_or(if until < 0 { i64::MIN } else { i64::MAX });
        }
    }

    /// Finds the candidates to which open cases of other categories mattered at this look.
    fn find_ready(&mut self, number: u32, camera: usize, effects: &[Effect]) {
        const ANYWHERE: BBox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        let camera = &self.cameras[camera];
        let candidates = self.replay.engine().candidates_of(camera);
        let ready = candidates
            .filter(|c| c.missing_dwell.is_zero())
            .map(|c| (c.rule.id.clone(), c.bbox));
        let mut found: Vec<(RuleId, BBox)> = ready.collect();
        found.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Open(case) => Some((case.rule.clone(), case.confirmed_box)),
            // It belongs to another case from now on, so its own box is not known any more.
            Effect::NotFiled {
                rule,
                reason: NotFiled::CaseReopened,
                ..
            } => Some((rule.clone(), ANYWHERE)),
            _ => None,
        }));
        for (rule, bbox) in found {
            let Some(rule) = self.rule_positions.get(&rule).copied() else {
                continue;
            };
            let key = (camera.clone(), rule);
            let current = self.current.get(&key).and_then(|i| self.result.ready.get_mut(*i));
            match current.filter(|span| span.bbox.intersection_area(&bbox) > 0.0) {
                Some(span) => {
                    span.looks.1 = number;
                    span.bbox = span.bbox.union(&bbox);
                }
                None => {
                    self.current.insert(key, self.result.ready.len());
                    self.result.ready.push(ReadySpan {
                        camera: camera.clone(),
                        rule,
                        looks: (number, number),
                        bbox,
                    });
                }
            }
        }
    }
}
