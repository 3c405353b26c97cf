//! Judges changed rules, and every rule that they affect.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Task, WhatIf, WhatIfError, clusters::in_parallel, interference, result::RunResult, run::RunRequest,
    table::labels_beside,
};
use gridwatch_engine::{Label, Plan, Rule};

/// All cases of a rule set.
pub(super) struct Judged {
    pub(super) plan: Arc<Plan>,
    pub(super) rules: BTreeSet<usize>,
    /// `None`: as in the current configuration.
    pub(super) result: Option<RunResult>,
}

/// How a judgement is computed, beside what is cancelled.
#[derive(Clone, Copy)]
struct Effort<'a> {
    threads: usize,
    progress: &'a (dyn Fn(f64) + Sync),
}

/// Threads that work at the same time.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl WhatIf {
    /// Judges `rules` in the place of those with the same ids, on all cores.
    pub(super) fn judge(&self, rules: &[Rule], task: Task<'_>) -> Result<Judged, WhatIfError> {
        let effort = Effort {
            threads: cores(),
            progress: task.progress,
        };
        self.judge_with(rules, task, effort)
    }

    /// Judges each of `tried` by itself, on all cores.
    pub(super) fn judge_each<T: Send>(
        &self,
        tried: &[Rule],
        task: Task<'_>,
        result: impl Fn(&Judged) -> T + Sync,
    ) -> Result<Vec<T>, WhatIfError> {
        let done = AtomicUsize::new(0);
        in_parallel(tried.len(), cores(), |index| {
            let effort = Effort {
                threads: 1,
                progress: &|_| (),
            };
            let judged = self.judge_with(std::slice::from_ref(&tried[index]), task, effort)?;
            let result = result(&judged);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            (task.progress)(done as f64 / tried.len() as f64);
            Ok(result)
        })
    }

    fn judge_with(&self, rules: &[Rule], task: Task<'_>, effort: Effort<'_>) -> Result<Judged, WhatIfError> {
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
        let mut is_whole = self.are_caps_met;
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
            let Effort { threads, progress } = effort;
            let result = self.clusters.run(&request, is_whole, threads, &task, progress)?;
            let are_caps_kept = interference::is_within_caps(&plan, &self.current, &result, &judged);
            let is_all = judged.len() == plan.rules.len();
            if !(are_caps_kept || is_all && is_whole) {
                (judged, is_whole) = ((0..plan.rules.len()).collect(), true);
                continue;
            }
            let affected = match is_all {
                true => BTreeSet::new(),
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
}
