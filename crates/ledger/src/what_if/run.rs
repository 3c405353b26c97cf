//! Judges the recorded days again under some rules of a plan, with the cases of the other rules as they are known from a run of all.
//!
//! # Why it is exact
//!
//! Cameras are judged together, in the order of the records, by the engine that runs live. Two things are left out:
//!
//! - **Quiet looks.** A look without an object of the rules, by a camera that tracks nothing and has no open case of theirs, only
//!   dates the camera's newest look. Of consecutive ones of the same kind (clear or not, the same labels not searched for) the last
//!   gives the same state. Before a record that is neither a look nor a tick, everything that was left out is made up for.
//! - **Other rules.** Rules affect each other through cases only: of the same category (deduplication, recurrence, withdrawal), of
//!   another category at the same place in one view, and through the daily caps. The rules of a run include all rules of their
//!   categories, and all between them in the order of the configuration, so that a case of another rule is known to all of them at a
//!   look, or to none. Cases of other rules are put in at the look that opened or changed them. That the other rules would have done
//!   the same is checked afterwards (`interference`); if not, they are judged, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Task, WhatIfError, table::LookTable};
use crate::{
    Entry, RecordedEvent,
    replay::{Replay, ReplayedCase, Window},
};
use gridwatch_engine::{BBox, CameraId, CaseId, Effect, Label, LonLat, NotFiled, OpenCase, Plan, RuleId, View};

/// Looks between two checks for cancellation.
const CHECK_EVERY: usize = 4096;

/// A case that a rule opened or changed.
#[derive(Debug, Clone)]
pub(super) struct CaseChangeAt {
    /// Index of the look.
    pub(super) look: u32,
    /// Position of the rule in the configuration.
    pub(super) rule: usize,
    pub(super) is_opened: bool,
    pub(super) case: OpenCase,
}

/// Looks of one camera at which a candidate of a rule was ready, so that open cases of other categories mattered to it.
#[derive(Debug, Clone)]
pub(super) struct ReadySpan {
    pub(super) camera: CameraId,
    pub(super) rule: usize,
    /// Indices of the first and the last look.
    pub(super) looks: (u32, u32),
    /// A box around all places.
    pub(super) bbox: BBox,
}

/// The time for which a case was open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenSpan {
    pub(super) camera: CameraId,
    pub(super) category: String,
    pub(super) bbox: BBox,
    pub(super) from: u32,
    /// Index of the first look at which it was not open any more; `u32::MAX`: it stayed open.
    pub(super) to: u32,
}

impl OpenSpan {
    fn new(case: &OpenCase, from: u32) -> Self {
        Self {
            camera: case.camera.clone(),
            category: case.category.clone(),
            bbox: case.bbox,
            from,
            to: u32::MAX,
        }
    }
}

/// The result of a run.
#[derive(Debug, Default)]
pub(super) struct RunResult {
    pub(super) cases: Vec<ReplayedCase>,
    /// Their ground positions.
    pub(super) places: BTreeMap<CaseId, LonLat>,
    pub(super) changes: Vec<CaseChangeAt>,
    pub(super) ready: Vec<ReadySpan>,
    pub(super) open: BTreeMap<CaseId, OpenSpan>,
    /// Why candidates were not filed, for the comparison with other runs.
    pub(super) not_filed: Vec<(CameraId, RuleId, NotFiled, Timestamp)>,
    /// Confirmation times of cases from before the run.
    pub(super) earlier: Vec<(CameraId, Timestamp)>,
    /// A daily cap was reached.
    pub(super) is_capped: bool,
    /// Looks that the engine judged.
    pub(super) looks_judged: usize,
}

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
    replay: Replay,
    is_used: Vec<bool>,
    /// The labels not searched for that matter, by set.
    not_searched: Vec<Vec<Label>>,
    /// For each camera whether a look without objects changes more than its newest look.
    is_busy: Vec<bool>,
    /// For each camera whether it has an open case of the rules.
    has_open: Vec<bool>,
    /// For each camera the newest look that was left out.
    left_out: Vec<Option<u32>>,
    categories: BTreeSet<&'a str>,
    rule_positions: BTreeMap<RuleId, usize>,
    /// The ready span of a camera and rule that may go on.
    current: BTreeMap<(CameraId, usize), usize>,
    result: RunResult,
}

impl RunRequest<'_> {
    pub(super) fn run(&self, task: &Task<'_>, progress: impl Fn(f64)) -> Result<RunResult, WhatIfError> {
        let table = self.table;
        let rules: Vec<_> = self.rules.iter().map(|i| self.plan.rules[*i].clone()).collect();
        let objects: Vec<_> = rules.iter().flat_map(|r| r.labels.iter().cloned()).collect();
        let beside = rules.iter().flat_map(super::table::labels_beside);
        let used: Vec<_> = objects.iter().cloned().chain(beside).collect();
        let bits = table.bits(&objects);
        let not_searched = table.not_searched.iter().map(|set| {
            let of_rules = set.iter().filter(|label| objects.contains(label));
            of_rules.cloned().collect()
        });
        let plan = Arc::new(Plan {
            rules,
            ..self.plan.clone()
        });
        let mut run = Run {
            request: self,
            replay: Replay::new(plan, Window::default()),
            is_used: table.is_among(&used),
            not_searched: not_searched.collect(),
            is_busy: vec![true; table.cameras.len()],
            has_open: vec![false; table.cameras.len()],
            left_out: vec![None; table.cameras.len()],
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
                .map(|(i, r)| (r.id.clone(), i))
                .collect(),
            current: BTreeMap::new(),
            result: RunResult::default(),
        };
        run.all(bits, task, progress)?;
        Ok(run.result)
    }
}

impl Run<'_> {
    fn all(&mut self, bits: u64, task: &Task<'_>, progress: impl Fn(f64)) -> Result<(), WhatIfError> {
        let request = self.request;
        let (table, first_rule) = (request.table, request.rules.first().copied().unwrap_or(0));
        let mut others = table.others.iter().peekable();
        let mut opened = table.opened.iter().peekable();
        let mut beside = request.others.iter().peekable();
        for (index, row) in table.looks.iter().enumerate() {
            let number = index as u32;
            if index.is_multiple_of(CHECK_EVERY) {
                task.check()?;
                progress(index as f64 / table.looks.len() as f64);
            }
            while let Some((_, entry)) = others.next_if(|(at, _)| *at <= number) {
                self.other(number, entry);
            }
            let is_followed = others
                .peek()
                .is_some_and(|(at, entry)| *at == number + 1 && !is_tick(entry));
            let mut ids = Vec::new();
            while let Some((_, id)) = opened.next_if(|(at, _)| *at == number) {
                ids.push(id.clone());
            }
            let mut after = Vec::new();
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
            let is_quiet = row.labels & bits == 0 && !self.is_busy[usize::from(row.camera)];
            if is_followed {
                self.make_up(None);
                self.look(number, ids);
            } else if is_quiet && ids.is_empty() {
                self.leave_out(number);
            } else {
                self.make_up(Some(row.camera));
                self.look(number, ids);
            }
            for change in after {
                self.replay.put_case(change.case.clone());
            }
        }
        for (_, entry) in others {
            self.make_up(None);
            self.other(table.looks.len() as u32, entry);
        }
        Ok(())
    }

    /// Leaves out a quiet look. The one before is made up for if it was of another kind.
    fn leave_out(&mut self, number: u32) {
        let looks = &self.request.table.looks;
        let row = &looks[number as usize];
        let camera = usize::from(row.camera);
        if let Some(before) = self.left_out[camera] {
            let before = &looks[before as usize];
            let is_same = (before.view == View::Clear) == (row.view == View::Clear)
                && self.not_searched[usize::from(before.not_searched)]
                    == self.not_searched[usize::from(row.not_searched)]
                && before.nanosecond() < row.nanosecond();
            if !is_same {
                self.make_up(Some(row.camera));
            }
        }
        self.left_out[camera] = Some(number);
    }

    /// Judges the looks that were left out, of one camera or of all.
    fn make_up(&mut self, camera: Option<u16>) {
        let mut due: Vec<u32> = match camera {
            Some(camera) => self.left_out[usize::from(camera)].take().into_iter().collect(),
            None => self.left_out.iter_mut().filter_map(Option::take).collect(),
        };
        due.sort_unstable();
        for number in due {
            self.look(number, Vec::new());
        }
    }

    fn look(&mut self, number: u32, opened: Vec<CaseId>) {
        let table = self.request.table;
        let row = &table.looks[number as usize];
        let not_searched = &self.not_searched[usize::from(row.not_searched)];
        let look = table.look(number as usize, &self.is_used, not_searched);
        let event = RecordedEvent::Observed(look);
        let effects = self.replay.apply(Entry { event, opened });
        self.result.looks_judged += 1;
        let has_case_changes = self.take(number, &effects);
        let camera = usize::from(row.camera);
        let id = &table.cameras[camera];
        if self.request.finds_ready {
            self.find_ready(number, id, &effects);
        }
        if has_case_changes {
            self.find_busy();
        } else {
            self.is_busy[camera] = self.has_open[camera] || self.replay.engine().is_tracking(id);
        }
    }

    fn other(&mut self, number: u32, entry: &Entry) {
        if let RecordedEvent::KnownCase(case) | RecordedEvent::Restored(case) = &entry.event
            && let Some(at) = case.confirmed_at
        {
            self.result.earlier.push((case.camera.clone(), at));
        }
        let effects = self.replay.apply(entry.clone());
        let changes = self.result.changes.len();
        self.take(number, &effects);
        // A reply changes the case in every run.
        self.result.changes.truncate(changes);
        if !is_tick(entry) {
            self.follow_states(number);
            self.find_busy();
        }
    }

    /// Takes what the engine did; returns whether a case was opened or changed.
    fn take(&mut self, number: u32, effects: &[Effect]) -> bool {
        let mut has_changes = false;
        for effect in effects {
            match effect {
                Effect::Open(case) => {
                    has_changes = true;
                    self.result.cases.push(ReplayedCase::from(&**case));
                    self.result.places.insert(case.id.clone(), case.located.at);
                    self.change(number, &case.id, Some(&case.rule), true);
                }
                Effect::Revise { case, .. } => {
                    has_changes = true;
                    self.change(number, case, None, false);
                }
                Effect::NotFiled {
                    camera,
                    rule,
                    reason,
                    at,
                } => {
                    self.result.is_capped |= *reason == NotFiled::OverDailyCap;
                    if self
                        .request
                        .rules
                        .iter()
                        .any(|i| self.request.plan.rules[*i].id == *rule)
                    {
                        self.result.not_filed.push((camera.clone(), rule.clone(), *reason, *at));
                    }
                }
                _ => {}
            }
        }
        has_changes
    }

    fn change(&mut self, number: u32, id: &CaseId, rule: Option<&RuleId>, is_opened: bool) {
        let Some(case) = self.replay.engine().remembered().find(|case| case.id == *id) else {
            return;
        };
        let rules = &self.request.plan.rules;
        let position = match rule {
            Some(rule) => self.rule_positions.get(rule).copied(),
            None => rules.iter().position(|r| r.category.code == case.category),
        };
        let case = case.clone();
        if is_opened {
            self.result.open.insert(id.clone(), OpenSpan::new(&case, number));
        }
        self.follow_state(number, &case);
        self.result.changes.push(CaseChangeAt {
            look: number,
            rule: position.unwrap_or(0),
            is_opened,
            case,
        });
    }

    fn follow_state(&mut self, number: u32, case: &OpenCase) {
        if let Some(span) = self.result.open.get_mut(&case.id) {
            match case.state.is_open() {
                true if span.to != u32::MAX => span.to = u32::MAX,
                false if span.to == u32::MAX => span.to = number,
                _ => {}
            }
        }
    }

    /// After a record that may have closed, opened or removed cases.
    fn follow_states(&mut self, number: u32) {
        let engine = self.replay.engine();
        let open: BTreeMap<&CaseId, &OpenCase> = engine.open_cases().map(|case| (&case.id, case)).collect();
        for (id, span) in self.result.open.iter_mut().filter(|(_, span)| span.to == u32::MAX) {
            if !open.contains_key(id) {
                span.to = number;
            }
        }
        for (id, case) in open {
            let span = self.result.open.entry(id.clone());
            span.or_insert_with(|| OpenSpan::new(case, number)).to = u32::MAX;
        }
    }

    /// Finds out for all cameras whether a look without objects matters.
    fn find_busy(&mut self) {
        let engine = self.replay.engine();
        let of_rules = engine
            .open_cases()
            .filter(|case| self.categories.contains(case.category.as_str()));
        let open: BTreeSet<&CameraId> = of_rules.map(|case| &case.camera).collect();
        for (camera, id) in self.request.table.cameras.iter().enumerate() {
            self.has_open[camera] = open.contains(id);
            self.is_busy[camera] = self.has_open[camera] || engine.is_tracking(id);
        }
    }

    /// Finds the candidates to which open cases of other categories mattered at this look.
    fn find_ready(&mut self, number: u32, camera: &CameraId, effects: &[Effect]) {
        const ANYWHERE: BBox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
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

fn is_tick(entry: &Entry) -> bool {
    matches!(entry.event, RecordedEvent::Tick(_))
}
