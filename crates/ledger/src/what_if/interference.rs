//! Whether rules that were not judged again would have done the same: their candidates meet the cases of the judged rules at the same
//! place in one view, and in the daily caps.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use jiff::civil::Date;

use super::result::{OpenSpan, ReadySpan, RunResult};
use gridwatch_engine::{BBox, CameraId, CaseId, Plan};

/// A case that is open at other times in the two runs.
struct Difference<'a> {
    camera: &'a CameraId,
    bbox: BBox,
    looks: Range<u32>,
}

/// The smallest set of rules with `rules` that can be judged without the others: with all rules of a category, and all between two of
/// them.
pub(super) fn closure(plan: &Plan, rules: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut closed = rules.clone();
    loop {
        let (Some(first), Some(last)) = (closed.first(), closed.last()) else {
            return closed;
        };
        let mut next: BTreeSet<usize> = (*first..=*last).collect();
        let categories: BTreeSet<&str> = next.iter().map(|i| plan.rules[*i].category.code.as_str()).collect();
        let is_of = |i: &usize| categories.contains(plan.rules[*i].category.code.as_str());
        next.extend((0..plan.rules.len()).filter(is_of));
        if next == closed {
            return closed;
        }
        closed = next;
    }
}

/// The rules beside `judged` whose candidates may have met another case than in the run of all rules, `all`.
pub(super) fn affected(plan: &Plan, all: &RunResult, tried: &RunResult, judged: &BTreeSet<usize>) -> BTreeSet<usize> {
    let categories: BTreeSet<&str> = judged.iter().map(|i| plan.rules[*i].category.code.as_str()).collect();
    let differences = differences(all, tried, &categories);
    let others = all.ready.iter().filter(|span| !judged.contains(&span.rule));
    let is_met = |span: &&ReadySpan| {
        differences.iter().any(|difference| {
            *difference.camera == span.camera
                && difference.looks.start <= span.looks.1
                && span.looks.0 <= difference.looks.end
                && difference.bbox.intersection_area(&span.bbox) > 0.0
        })
    };
    others.filter(is_met).map(|span| span.rule).collect()
}

fn differences<'a>(all: &'a RunResult, tried: &'a RunResult, categories: &BTreeSet<&str>) -> Vec<Difference<'a>> {
    let of_rules = |span: &OpenSpan| categories.contains(span.category.as_str());
    let ids: BTreeSet<&CaseId> = all.open.keys().chain(tried.open.keys()).collect();
    let mut found = Vec::new();
    for id in ids {
        let spans = [all.open.get(id), tried.open.get(id)].map(|span| span.filter(|s| of_rules(s)));
        if spans[0] == spans[1] {
            continue;
        }
        for span in spans.into_iter().flatten() {
            found.push(Difference {
                camera: &span.camera,
                bbox: span.bbox,
                looks: span.from..span.to,
            });
        }
    }
    found
}

/// True if no candidate of either run can have met a daily cap: on no day there were more cases than the caps allow.
pub(super) fn is_within_caps(plan: &Plan, all: &RunResult, tried: &RunResult, judged: &BTreeSet<usize>) -> bool {
    if all.is_capped || tried.is_capped {
        return false;
    }
    let is_judged = |rule: &str| judged.iter().any(|i| plan.rules[*i].id.as_str() == rule);
    let unchanged = all.cases.iter().filter(|case| !is_judged(&case.rule));
    let cases = unchanged.chain(&tried.cases);
    let confirmed = cases.map(|case| (&case.case_id, CameraId::from(case.camera.as_str()), case.confirmed_at));
    let earlier = all.earlier.iter().map(|(id, (camera, at))| (id, camera.clone(), *at));
    let mut counted: BTreeSet<&CaseId> = BTreeSet::new();
    let mut days: BTreeMap<(Date, String), u32> = BTreeMap::new();
    let mut box_days: BTreeMap<Date, u32> = BTreeMap::new();
    for (id, camera, at) in confirmed.chain(earlier) {
        if !counted.insert(id) {
            continue;
        }
        let day = at.to_zoned(plan.calendar.zone.clone()).date();
        *days.entry((day, camera.device().to_owned())).or_default() += 1;
        *box_days.entry(day).or_default() += 1;
    }
    days.values().all(|n| *n <= plan.intake.per_camera_day) && box_days.values().all(|n| *n <= plan.intake.per_box_day)
}
