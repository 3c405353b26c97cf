//! What a rule's `start_score` trades: judged again under many of them at once, and held against what people said was right.
//!
//! All thresholds are replayed side by side in one reading of the record. A case is held against the labels of its camera and
//! rule by time and box, for another threshold confirms the same problem at another moment, under another id.

pub mod labels;
pub mod svg;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use self::labels::{Label, Subject};
use super::{CaseLine, Replay, Window};
use crate::Entry;
use gridwatch_engine::{BBox, Effect, Plan, Rule, Scores};

/// Thresholds that are tried, in hundredths: below, detectors see things everywhere; above, next to nothing.
const TRIED: std::ops::RangeInclusive<u8> = 30..=95;
/// Finer than this is noise with the few hundred labels that people have the patience for.
const STEP: usize = 5;
/// A label this far from a case in time may still be of the same thing, which stood there before and stands there after.
const NEAR: SignedDuration = SignedDuration::from_hours(1);
/// A label's box and a case's that overlap this much are of the same thing: as a rejected thing is recognised
/// (docs/judging.md).
const SAME_THING_IOU: f64 = 0.3;

/// Many replays of one record, each with another `start_score`.
#[derive(Debug)]
pub struct Sweep {
    replays: Vec<(f32, Replay, Vec<CaseLine>)>,
    /// As configured: its cases are those that people saw.
    own: (Replay, Vec<CaseLine>),
    rules: Vec<(String, f32)>,
}

impl Sweep {
    /// Every threshold for all rules of `plan` alike; `keep_score` is lowered with it where it must be.
    pub fn new(plan: &Arc<Plan>, window: Window) -> Self {
        let replays = TRIED.step_by(STEP).map(|hundredths| {
            let score = f32::from(hundredths) / 100.0;
            let rules = plan.rules.iter().map(|r| {
                let day = Scores {
                    start: score,
                    keep: r.day.keep.min(score),
                };
                Rule {
                    day,
                    // Scores of the night's own are another threshold, which stays.
                    night: if r.night == r.day { day } else { r.night },
                    ..r.clone()
                }
            });
            let tried = Plan {
                rules: rules.collect(),
                ..(**plan).clone()
            };
            (score, Replay::new(Arc::new(tried), window), Vec::new())
        });
        Self {
            replays: replays.collect(),
            own: (Replay::new(Arc::clone(plan), window), Vec::new()),
            rules: plan.rules.iter().map(|r| (r.id.to_string(), r.day.start)).collect(),
        }
    }

    /// Tells one record to all.
    pub fn take(&mut self, entry: &Entry) {
        for (_, replay, cases) in &mut self.replays {
            cases.extend(opened(&replay.take(entry.clone())));
        }
        let (replay, cases) = &mut self.own;
        cases.extend(opened(&replay.take(entry.clone())));
    }

    /// Holds what was opened against `labels`. `wanted` is the least precision, 0..=1, that a threshold may be chosen with.
    pub fn finish(self, labels: &[Label], wanted: f64) -> Tuned {
        let mut known: BTreeMap<&str, &CaseLine> = BTreeMap::new();
        for case in self.replays.iter().flat_map(|(_, _, cases)| cases).chain(&self.own.1) {
            known.insert(case.case_id.as_str(), case);
        }
        let told: Vec<Told> = labels.iter().filter_map(|l| Told::of(l, &known)).collect();
        let rules = self.rules.iter().map(|(rule, now)| {
            let told: Vec<&Told> = told.iter().filter(|t| t.rule == *rule).collect();
            let points: Vec<Point> = self
                .replays
                .iter()
                .map(|(score, _, cases)| {
                    let cases: Vec<&CaseLine> = cases.iter().filter(|c| c.rule == *rule).collect();
                    Point::of(*score, &cases, &told)
                })
                .collect();
            RuleCurve {
                rule: rule.clone(),
                now: *now,
                chosen: choose(&points, wanted),
                points,
            }
        });
        Tuned {
            rules: rules.collect(),
            unknown: labels.len() - told.len(),
            wanted,
        }
    }
}

fn opened(effects: &[Effect]) -> impl Iterator<Item = CaseLine> {
    effects.iter().filter_map(|e| match e {
        Effect::Open(case) => Some(CaseLine::from(&**case)),
        _ => None,
    })
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// In the order of the configuration.
    pub rules: Vec<RuleCurve>,
    /// Labels of cases that no threshold opens.
    pub unknown: usize,
    /// The precision that was asked for.
    pub wanted: f64,
}

/// One rule's trade.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleCurve {
    /// Which.
    pub rule: String,
    /// Its `start_score` as configured.
    pub now: f32,
    /// By rising threshold.
    pub points: Vec<Point>,
    /// `None`: no label speaks of any case of the rule.
    pub chosen: Option<Choice>,
}

/// One threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `start_score`.
    pub score: f32,
    /// Cases it opens.
    pub cases: usize,
    /// Those that a label calls right.
    pub right: usize,
    /// Those that a label calls wrong.
    pub wrong: usize,
    /// Problems that people named, and those of them that a case was opened for.
    pub problems: (usize, usize),
}

impl Point {
    fn of(score: f32, cases: &[&CaseLine], told: &[&Told]) -> Self {
        // The nearest label in time speaks for a case; of two that are as near, the one that calls it right.
        let says = |case: &CaseLine| {
            let of_it = told.iter().filter_map(|t| Some((t.gap(case)?, !t.is_right)));
            of_it.min().map(|(_, is_wrong)| !is_wrong)
        };
        let right: Vec<&&CaseLine> = cases.iter().filter(|c| says(c) == Some(true)).collect();
        let wrong = cases.iter().filter(|c| says(c) == Some(false)).count();
        let problems: Vec<&&Told> = told.iter().filter(|t| t.is_right).collect();
        let is_found = |t: &Told| right.iter().any(|c| t.gap(c).is_some());
        let found = problems.iter().filter(|t| is_found(t)).count();
        Self {
            score,
            cases: cases.len(),
            right: right.len(),
            wrong,
            problems: (problems.len(), found),
        }
    }

    /// Right ones among the labelled cases, 0..=1; `None` where none is labelled.
    pub fn precision(&self) -> Option<f64> {
        let labelled = self.right + self.wrong;
        (labelled > 0).then(|| self.right as f64 / labelled as f64)
    }

    /// Found ones among the problems, 0..=1; `None` where people named none.
    pub fn recall(&self) -> Option<f64> {
        let (problems, found) = self.problems;
        (problems > 0).then(|| found as f64 / problems as f64)
    }
}

/// The threshold that we would choose, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Into [`RuleCurve::points`].
    pub index: usize,
    /// True where it is as precise as was asked; else it is the most precise there is.
    pub is_precise_enough: bool,
    /// How many thresholds do as well as it: it is the middle one, for the next week's scores are not this week's.
    pub equals: usize,
}

fn choose(points: &[Point], wanted: f64) -> Option<Choice> {
    // Shares of counts: as integers they compare exactly.
    let found = |p: &Point| p.problems.1;
    let precise = |p: &Point| p.precision().unwrap_or(0.0);
    let enough: Vec<&Point> = points
        .iter()
        .filter(|p| p.precision().is_some_and(|x| x >= wanted))
        .collect();
    let is_precise_enough = !enough.is_empty();
    let best = if is_precise_enough {
        enough.into_iter().max_by_key(|p| found(p))
    } else {
        let labelled = points.iter().filter(|p| p.precision().is_some());
        labelled.max_by(|a, b| precise(a).total_cmp(&precise(b)).then(found(a).cmp(&found(b))))
    }?;
    let equals: Vec<usize> = (0..points.len())
        .filter(|i| {
            let p = &points[*i];
            let is_as_precise = if is_precise_enough {
                p.precision().is_some_and(|x| x >= wanted)
            } else {
                precise(p).total_cmp(&precise(best)).is_eq() && p.precision().is_some()
            };
            is_as_precise && found(p) == found(best)
        })
        .collect();
    Some(Choice {
        index: *equals.get(equals.len() / 2)?,
        is_precise_enough,
        equals: equals.len(),
    })
}

/// A label as it can be held against cases.
struct Told {
    camera: String,
    rule: String,
    from: Timestamp,
    to: Timestamp,
    bbox: BBox,
    is_right: bool,
}

impl Told {
    fn of(label: &Label, known: &BTreeMap<&str, &CaseLine>) -> Option<Self> {
        let is_right = label.right;
        Some(match &label.subject {
            Subject::Case(id) => {
                let case = known.get(id.as_str())?;
                Self {
                    camera: case.camera.clone(),
                    rule: case.rule.clone(),
                    from: case.first_seen_at,
                    to: case.confirmed_at,
                    bbox: case.bbox,
                    is_right,
                }
            }
            Subject::Thing { camera, rule, at, bbox } => Self {
                camera: camera.clone(),
                rule: rule.clone(),
                from: *at,
                to: *at,
                bbox: *bbox,
                is_right,
            },
        })
    }

    /// Time between the label's sight of the thing and the case's; `None` where they are of two things.
    fn gap(&self, case: &CaseLine) -> Option<SignedDuration> {
        let before = case.first_seen_at.duration_since(self.to);
        let after = self.from.duration_since(case.confirmed_at);
        let gap = before.max(after).max(SignedDuration::ZERO);
        let is_same = self.camera == case.camera
            && self.rule == case.rule
            && gap <= NEAR
            && self.bbox.iou(&case.bbox) >= SAME_THING_IOU;
        is_same.then_some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(score: f32, right: usize, wrong: usize) -> Point {
        Point {
            score,
            cases: right + wrong,
            right,
            wrong,
            problems: (10, right),
        }
    }

    #[test]
    fn the_middle_of_the_best_is_chosen() {
        let points = [
            point(0.3, 10, 10),
            point(0.4, 9, 1),
            point(0.5, 9, 0),
            point(0.6, 9, 0),
            point(0.7, 5, 0),
            point(0.8, 0, 0),
        ];
        let choice = choose(&points, 0.9).unwrap();
        assert_eq!((choice.index, choice.is_precise_enough, choice.equals), (2, true, 3));
    }

    #[test]
    fn where_none_is_precise_enough_the_most_precise_is_chosen_and_said_to_be_no_more() {
        let points = [point(0.3, 5, 15), point(0.4, 5, 5), point(0.5, 1, 1), point(0.6, 0, 0)];
        let choice = choose(&points, 0.9).unwrap();
        assert_eq!((choice.index, choice.is_precise_enough), (1, false));
        assert_eq!(choose(&[point(0.3, 0, 0)], 0.9), None);
    }
}
