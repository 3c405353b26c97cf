//! What the last days would have filed under other thresholds: loads the recorded inputs once, then answers for a changed rule in a
//! fraction of a replay.
//!
//! The answers are those of a [`Replay`] under the changed plan over the same records, exactly; `run` says why.
//! Nothing here blocks on anything but the disk and the processor: call it from a thread that may, never from an async runtime.

mod answer;
mod interference;
mod run;
mod score;
mod table;
mod threshold;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

pub use self::{
    answer::{RuleScore, WhatIfAnswer, WhatIfCase, WhatIfChange, WhatIfCurve, WhatIfPoint},
    score::Estimate,
    threshold::{Threshold, ThresholdError, ThresholdRange},
};
use self::{
    run::{RunRequest, RunResult},
    table::{LookTable, TableBuilder, labels_beside},
};
use crate::{
    Damage, LedgerError, Reader,
    replay::{
        Replay, ReplayedCase, Window,
        compare::Comparison,
        tune::{CurvePoint, ResolvedLabel, choose, labels::CaseLabel},
    },
};
use gridwatch_base::error::Class;
use gridwatch_engine::{CameraId, CaseId, Effect, Label, LonLat, Plan, Rule, RuleId};
use jiff::{SignedDuration, Timestamp};

/// Time that is read before what is reported, so that what was there already is known. A day covers the longest dwells.
const LEAD: SignedDuration = SignedDuration::from_hours(24);

/// Errors of a [`WhatIf`].
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// More than fits into memory.
    #[error("the recorded looks need more than {} MB of memory; choose fewer days", .limit >> 20)]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The ledger has no look in that time.
    #[error("the ledger has no look in that time")]
    Empty,
    /// No such rule.
    #[error("no rule has the id {id:?}")]
    UnknownRule {
        /// The id.
        id: RuleId,
    },
    /// A rule names a label that was not loaded.
    #[error(
        "rule {rule}: label {label:?} is of no rule in the current configuration, so it was not loaded; use `gridwatch replay`"
    )]
    NotLoaded {
        /// The rule.
        rule: RuleId,
        /// The label.
        label: Label,
    },
    /// A value that the threshold cannot have.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
}

impl WhatIfError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Ledger(e) => e.class(),
            Self::Cancelled => Class::Transient,
            Self::TooLarge { .. }
            | Self::Empty
            | Self::UnknownRule { .. }
            | Self::NotLoaded { .. }
            | Self::Threshold(_) => Class::Config,
        }
    }
}

/// How a long computation is watched and cancelled.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Set by another thread to end it with [`WhatIfError::Cancelled`] within some milliseconds.
    pub cancelled: &'a AtomicBool,
    /// Called with the finished share, 0..=1, from any of the threads that work.
    pub progress: &'a (dyn Fn(f64) + Sync),
}

impl Task<'_> {
    fn check(&self) -> Result<(), WhatIfError> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(WhatIfError::Cancelled),
            false => Ok(()),
        }
    }
}

/// The recorded inputs of some days, with what the current configuration makes of them.
#[derive(Debug)]
pub struct WhatIf {
    plan: Arc<Plan>,
    window: Window,
    table: LookTable,
    current: RunResult,
    places: BTreeMap<CaseId, LonLat>,
    filed: Vec<ReplayedCase>,
    filed_unknown: usize,
    platform: BTreeMap<CaseId, bool>,
    people: RwLock<Vec<CaseLabel>>,
    damage: Vec<Damage>,
    days: f64,
}

/// What to load.
#[derive(Debug, Clone)]
pub struct WhatIfRequest<'a> {
    /// Folder of the ledger.
    pub ledger: &'a Path,
    /// The current configuration.
    pub plan: &'a Arc<Plan>,
    /// The time that is reported. A day before it is read as well.
    pub window: Window,
    /// Maximum memory of the recorded inputs, bytes; see [`WhatIf::MAX_BYTES`].
    pub max_bytes: usize,
}

/// A curve that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct CurveRequest<'a> {
    /// The rule, with its other thresholds as they are to be.
    pub rule: &'a Rule,
    /// The threshold that is varied.
    pub threshold: Threshold,
    /// The values to try.
    pub values: &'a [f64],
    /// Precision that the recommended value must reach, 0..=1.
    pub min_precision: f64,
    /// Limits what is counted, not what is judged.
    pub cameras: Option<&'a BTreeSet<CameraId>>,
}

/// All cases of a rule set.
struct Judged {
    plan: Arc<Plan>,
    rules: BTreeSet<usize>,
    /// `None`: as in the current configuration.
    result: Option<RunResult>,
}

impl WhatIf {
    /// A bound for a box with 4 GB of memory. A week of 32 cameras with a look every 10 s and four boxes in each takes 500 MB.
    pub const MAX_BYTES: usize = 1 << 30;

    /// Reads the ledger and judges it under the current configuration. Takes about as long as a replay; progress is reported. A second
    /// thread finds out which cases were really filed.
    ///
    /// # Errors
    /// [`WhatIfError`]; damage of the ledger is not an error, see [`WhatIf::damage`].
    pub fn load(request: &WhatIfRequest<'_>, task: Task<'_>) -> Result<Self, WhatIfError> {
        thread::scope(|scope| {
            let filed = scope.spawn(|| really_filed(request, task));
            let loaded = Self::load_table(request, task);
            let filed = filed.join().unwrap_or(Err(WhatIfError::Cancelled));
            let mut this = loaded?;
            let filed = filed?;
            let in_window = |at: Timestamp| request.window.contains(at);
            let opened = this
                .table
                .opened
                .iter()
                .filter(|(look, _)| in_window(this.table.looks[*look as usize].time()));
            let known: BTreeSet<&CaseId> = filed.iter().map(|(case, _)| &case.case_id).collect();
            this.filed_unknown = opened.filter(|(_, id)| !known.contains(id)).count();
            for (case, place) in filed {
                this.places.insert(case.case_id.clone(), place);
                if in_window(case.confirmed_at) {
                    this.filed.push(case);
                }
            }
            Ok(this)
        })
    }

    fn load_table(request: &WhatIfRequest<'_>, task: Task<'_>) -> Result<Self, WhatIfError> {
        let WhatIfRequest { plan, window, .. } = request;
        let mut reader = open(request)?;
        let mut builder = TableBuilder::new(&plan.rules, request.max_bytes);
        let mut count = 0_u32;
        while let Some(entry) = reader.next_entry()? {
            count = count.wrapping_add(1);
            if count.is_multiple_of(4096) {
                task.check()?;
            }
            if is_after(&entry.event, *window) {
                break;
            }
            builder.push(entry)?;
        }
        let table = builder.finish();
        let is_reported = |at: &Timestamp| window.contains(*at);
        let times = || table.looks.iter().map(table::LookRow::time).filter(is_reported);
        let (Some(first), Some(last)) = (times().next(), times().next_back()) else {
            return Err(WhatIfError::Empty);
        };
        let days = last.duration_since(first).as_secs_f64() / 86400.0;
        let all: BTreeSet<usize> = (0..plan.rules.len()).collect();
        let request = RunRequest {
            table: &table,
            plan,
            rules: &all,
            others: &[],
            finds_ready: true,
        };
        let current = request.run(&task, |share| (task.progress)(0.5 + share / 2.0))?;
        Ok(Self {
            plan: Arc::clone(plan),
            window: *window,
            places: current.places.clone(),
            platform: score::replies(table.others.iter().map(|(_, entry)| &entry.event)),
            current,
            filed: Vec::new(),
            filed_unknown: 0,
            people: RwLock::default(),
            damage: reader.damage().to_vec(),
            days: days.max(1.0 / 24.0),
            table,
        })
    }

    /// Sets the judgements of people. They take precedence over those of the platform, which are in the ledger.
    pub fn set_labels(&self, labels: Vec<CaseLabel>) {
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = labels;
    }

    /// Memory of the recorded inputs, bytes.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Number of looks that are in memory.
    pub fn looks(&self) -> usize {
        self.table.looks.len()
    }

    /// The configuration that everything is compared with.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Damaged files that were skipped.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Ground position of a case in any of the answers so far that the current configuration or the box filed.
    pub fn place(&self, case: &CaseId) -> Option<LonLat> {
        self.places.get(case).copied()
    }

    /// What the current configuration with `rules` in the place of those with the same ids would have filed. `cameras` limits what is
    /// reported, not what is judged: a site may be in the view of others.
    ///
    /// # Errors
    /// [`WhatIfError`].
    pub fn evaluate(
        &self,
        rules: &[Rule],
        cameras: Option<&BTreeSet<CameraId>>,
        task: Task<'_>,
    ) -> Result<WhatIfAnswer, WhatIfError> {
        let judged = self.judge(rules, task, task.progress)?;
        Ok(self.answer(&judged, cameras))
    }

    /// What the current configuration with the rule of the request in the place of that with the same id files with each value of one of its
    /// thresholds. Runs on all cores.
    ///
    /// # Errors
    /// [`WhatIfError`].
    pub fn curve(&self, request: &CurveRequest<'_>, task: Task<'_>) -> Result<WhatIfCurve, WhatIfError> {
        let CurveRequest {
            rule: base,
            threshold,
            values,
            cameras,
            ..
        } = *request;
        let unknown = || WhatIfError::UnknownRule { id: base.id.clone() };
        let configured = self.plan.rules.iter().find(|r| r.id == base.id).ok_or_else(unknown)?;
        let absent = || ThresholdError::Absent {
            threshold,
            rule: base.id.to_string(),
        };
        let current = threshold.get(configured).ok_or_else(absent)?;
        let tried = values.iter().map(|value| {
            let mut rule = base.clone();
            threshold.set(&mut rule, *value).map(|()| rule)
        });
        let tried = tried.collect::<Result<Vec<Rule>, _>>()?;
        let labels = self.resolved_labels(cameras);
        let points = self.in_parallel(&tried, task, |judged| {
            let cases = self.cases(judged, cameras);
            let cases: Vec<&ReplayedCase> = cases.into_iter().filter(|c| c.rule == base.id.as_str()).collect();
            score(&base.id, &cases, &labels, self.days)
        })?;
        let counts: Vec<CurvePoint> = points.iter().map(|(_, counts)| counts.clone()).collect();
        let chosen = choose(&counts, request.min_precision, |_| true);
        let points = values
            .iter()
            .zip(points)
            .map(|(value, (score, _))| WhatIfPoint { value: *value, score });
        Ok(WhatIfCurve {
            rule: base.id.clone(),
            threshold,
            current,
            points: points.collect(),
            chosen: chosen.as_ref().map(|c| c.index),
            is_precise_enough: chosen.is_some_and(|c| c.is_precise_enough),
        })
    }

    /// Judges each of `tried` by itself, on all cores.
    fn in_parallel<T: Send>(
        &self,
        tried: &[Rule],
        task: Task<'_>,
        result: impl Fn(&Judged) -> T + Sync,
    ) -> Result<Vec<T>, WhatIfError> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let mut results = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(rule) = tried.get(index) else {
                    return Ok(results);
                };
                let judged = self.judge(std::slice::from_ref(rule), task, &|_| ())?;
                results.push((index, result(&judged)));
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                (task.progress)(done as f64 / tried.len() as f64);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(tried.len());
        let results: Vec<Result<Vec<(usize, T)>, WhatIfError>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let results = threads
                .into_iter()
                .map(|t| t.join().unwrap_or(Err(WhatIfError::Cancelled)));
            results.collect()
        });
        let all = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        all.sort_by_key(|(index, _)| *index);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    }

    /// Judges `rules` in the place of those with the same ids, and every rule that they affect.
    fn judge(&self, rules: &[Rule], task: Task<'_>, progress: &dyn Fn(f64)) -> Result<Judged, WhatIfError> {
        let mut plan = (*self.plan).clone();
        let mut changed = BTreeSet::new();
        for rule in rules {
            let position = plan.rules.iter().position(|r| r.id == rule.id);
            let position = position.ok_or_else(|| WhatIfError::UnknownRule { id: rule.id.clone() })?;
            self.check_labels(rule)?;
            if plan.rules[position] != *rule {
                changed.insert(position);
            }
            plan.rules[position] = rule.clone();
        }
        let plan = Arc::new(plan);
        if changed.is_empty() {
            return Ok(Judged {
                plan,
                rules: changed,
                result: None,
            });
        }
        // The category of a rule may be another one than before.
        let before = interference::closure(&self.plan, &changed);
        let mut judged = interference::closure(&plan, &before);
        loop {
            let others: Vec<_> = self
                .current
                .changes
                .iter()
                .filter(|c| !judged.contains(&c.rule))
                .cloned()
                .collect();
            let request = RunRequest {
                table: &self.table,
                plan: &plan,
                rules: &judged,
                others: &others,
                finds_ready: false,
            };
            let result = request.run(&task, progress)?;
            let is_all = judged.len() == plan.rules.len();
            let affected = match is_all {
                true => BTreeSet::new(),
                false if !interference::is_within_caps(&plan, &self.current, &result, &judged) => {
                    (0..plan.rules.len()).collect()
                }
                false => interference::affected(&plan, &self.current, &result, &judged),
            };
            if affected.is_empty() {
                return Ok(Judged {
                    plan,
                    rules: judged,
                    result: Some(result),
                });
            }
            judged.extend(affected);
            judged = interference::closure(&plan, &judged);
        }
    }

    fn check_labels(&self, rule: &Rule) -> Result<(), WhatIfError> {
        let known: Vec<Label> = self.plan.rules.iter().flat_map(|r| r.labels.iter().cloned()).collect();
        let before = self.plan.rules.iter().find(|r| r.id == rule.id);
        let beside = before.map(labels_beside).unwrap_or_default();
        let objects = rule.labels.iter().filter(|label| !known.contains(label));
        let near = labels_beside(rule);
        // What stands beside an object is loaded for the rule's own objects only.
        let is_same = before.is_some_and(|b| b.labels == rule.labels);
        let near = near
            .iter()
            .filter(|label| !(known.contains(label) || is_same && beside.contains(label)));
        match objects.chain(near).next() {
            None => Ok(()),
            Some(label) => Err(WhatIfError::NotLoaded {
                rule: rule.id.clone(),
                label: label.clone(),
            }),
        }
    }

    /// The reported cases, by time of confirmation.
    fn cases<'a>(&'a self, judged: &'a Judged, cameras: Option<&BTreeSet<CameraId>>) -> Vec<&'a ReplayedCase> {
        let is_judged = |case: &ReplayedCase| {
            judged
                .rules
                .iter()
                .any(|i| judged.plan.rules[*i].id.as_str() == case.rule)
        };
        let unchanged = self.current.cases.iter().filter(|case| !is_judged(case));
        let mut cases: Vec<_> = unchanged.chain(judged.result.iter().flat_map(|r| &r.cases)).collect();
        cases.retain(|case| self.is_reported(case, cameras));
        cases.sort_by_key(|case| (case.confirmed_at, &case.case_id));
        cases
    }

    fn is_reported(&self, case: &ReplayedCase, cameras: Option<&BTreeSet<CameraId>>) -> bool {
        let is_wanted = |all: &BTreeSet<CameraId>| all.iter().any(|id| id.as_str() == case.camera);
        self.window.contains(case.confirmed_at) && cameras.is_none_or(is_wanted)
    }

    fn answer(&self, judged: &Judged, cameras: Option<&BTreeSet<CameraId>>) -> WhatIfAnswer {
        let cases = self.cases(judged, cameras);
        let labels = self.resolved_labels(cameras);
        let references: Vec<&ResolvedLabel> = labels.iter().collect();
        let right = |case: &ReplayedCase| crate::replay::tune::nearest(&references, case).map(|label| label.is_right);
        let evidence = |case: &ReplayedCase| self.evidence(case);
        let reported = |all: &[ReplayedCase]| -> Vec<ReplayedCase> {
            all.iter()
                .filter(|case| self.is_reported(case, cameras))
                .cloned()
                .collect()
        };
        let compare = |old: Vec<ReplayedCase>| {
            let mut comparison = Comparison::new(old);
            for case in &cases {
                comparison.opened((*case).clone());
            }
            let unchanged = self
                .current
                .not_filed
                .iter()
                .filter(|(_, rule, ..)| !judged.rules.iter().any(|i| judged.plan.rules[*i].id == *rule));
            let reasons = unchanged.chain(judged.result.iter().flat_map(|r| &r.not_filed));
            for (camera, rule, reason, at) in reasons {
                comparison.not_filed(&(camera.to_string(), rule.to_string()), *reason, *at);
            }
            let (changes, counts) = comparison.finish();
            let changes = changes.into_iter().map(|change| {
                let case = change.case();
                WhatIfChange {
                    evidence: evidence(case),
                    right: right(case),
                    change,
                }
            });
            (changes.collect(), counts)
        };
        let (changes, against_current) = compare(reported(&self.current.cases));
        let (filed_changes, against_filed) = compare(reported(&self.filed));
        let rules = judged.plan.rules.iter().map(|rule| {
            let of_rule: Vec<_> = cases.iter().copied().filter(|c| c.rule == rule.id.as_str()).collect();
            score(&rule.id, &of_rule, &labels, self.days).0
        });
        WhatIfAnswer {
            changes,
            against_current,
            filed_changes,
            against_filed,
            rules: rules.collect(),
            days: self.days,
            filed_unknown: self.filed_unknown,
            judged: judged.rules.iter().map(|i| judged.plan.rules[*i].id.clone()).collect(),
            cases: cases
                .iter()
                .map(|case| WhatIfCase {
                    case: (*case).clone(),
                    evidence: evidence(case),
                    right: right(case),
                })
                .collect(),
        }
    }

    /// The really filed case about the same problem.
    fn evidence(&self, case: &ReplayedCase) -> Option<CaseId> {
        let same = self.filed.iter().find(|filed| filed.case_id == case.case_id);
        let shifted = || {
            self.filed
                .iter()
                .find(|filed| crate::replay::compare::is_same_problem(filed, case))
        };
        same.or_else(shifted).map(|filed| filed.case_id.clone())
    }

    /// The labels of the cameras that are reported: a problem that another one saw is not missed by these.
    fn resolved_labels(&self, cameras: Option<&BTreeSet<CameraId>>) -> Vec<ResolvedLabel> {
        let cases: Vec<&ReplayedCase> = self.filed.iter().chain(&self.current.cases).collect();
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let labels = score::labels(&people, &self.platform, &cases);
        labels
            .iter()
            .filter_map(|label| ResolvedLabel::among(label, &cases))
            .filter(|label| cameras.is_none_or(|all| all.contains(&CameraId::from(label.camera.as_str()))))
            .collect()
    }
}

fn score(rule: &RuleId, cases: &[&ReplayedCase], labels: &[ResolvedLabel], days: f64) -> (RuleScore, CurvePoint) {
    let of_rule: Vec<&ResolvedLabel> = labels.iter().filter(|label| label.rule == rule.as_str()).collect();
    let counts = CurvePoint::new(0.0, cases, &of_rule);
    let judged = counts.right + counts.wrong;
    let score = RuleScore {
        rule: rule.clone(),
        cases: cases.len(),
        per_day: cases.len() as f64 / days,
        unlabelled: cases.len() - judged,
        precision: Estimate::new(counts.right as u64, judged as u64),
        recall: Estimate::new(counts.found as u64, counts.problems as u64),
    };
    (score, counts)
}

fn open(request: &WhatIfRequest<'_>) -> Result<Reader, LedgerError> {
    let lead = |from: Timestamp| from.checked_sub(LEAD).unwrap_or(Timestamp::MIN);
    match request.window.from {
        Some(from) => Reader::open_near(request.ledger, lead(from)),
        None => Reader::open(request.ledger, None),
    }
}

fn is_after(event: &crate::RecordedEvent, window: Window) -> bool {
    let at = match event {
        crate::RecordedEvent::Observed(look) => Some(look.at),
        crate::RecordedEvent::Tick(at) => Some(*at),
        _ => None,
    };
    window.to.zip(at).is_some_and(|(to, at)| at >= to)
}

/// The cases that the live engine opened, as the configuration that held describes them.
fn really_filed(request: &WhatIfRequest<'_>, task: Task<'_>) -> Result<Vec<(ReplayedCase, LonLat)>, WhatIfError> {
    let mut reader = open(request)?;
    let mut replay = Replay::recorded(request.ledger, Window::default());
    let mut filed = Vec::new();
    let mut count = 0_u32;
    while let Some(entry) = reader.next_entry()? {
        count = count.wrapping_add(1);
        if count.is_multiple_of(4096) {
            task.check()?;
        }
        if is_after(&entry.event, request.window) {
            break;
        }
        let opened = entry.opened.clone();
        for effect in replay.apply(entry) {
            if let Effect::Open(case) = effect
                && opened.contains(&case.id)
            {
                filed.push((ReplayedCase::from(&*case), case.located.at));
            }
        }
    }
    Ok(filed)
}

#[cfg(test)]
mod tests;
