//! Tunes `start_score`: replays the ledger under many thresholds at once and compares the cases with labels given by people.
//!
//! All thresholds are replayed in one pass over the ledger. Cases and labels of the same camera and rule are matched by time and
//! bounding box, because another threshold confirms the same problem at another time, under another id.

pub mod labels;
pub mod svg;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use self::labels::{CaseLabel, LabelSubject};
use super::{Replay, ReplayedCase, Window};
use crate::Entry;
use gridwatch_engine::{BBox, Effect, Plan, Rule, Scores};

/// Thresholds tried, in hundredths. Below this range detectors see objects everywhere, above it almost none.
const SCORES_TRIED: std::ops::RangeInclusive<u8> = 30..=95;
/// Step between thresholds, in hundredths. Smaller steps are noise with the few hundred labels that people provide.
const STEP: usize = 5;
/// Maximum time between a label and a case about the same object, which was there before and stays afterwards.
const MAX_LABEL_DISTANCE: SignedDuration = SignedDuration::from_hours(1);
/// Minimum overlap of the boxes of a label and a case about the same object; the same as for recognising rejected objects
/// (docs/judging.md).
const SAME_OBJECT_IOU: f64 = 0.3;

/// Replays of one ledger under different values of `start_score`.
#[derive(Debug)]
pub struct Sweep {
    replays: Vec<(f32, Replay, Vec<ReplayedCase>)>,
    /// As configured: the cases that people have labelled.
    configured: (Replay, Vec<ReplayedCase>),
    rules: Vec<(String, f32)>,
}

impl Sweep {
    /// A replay per threshold, each applied to all rules of `plan`; `keep_score` is lowered where it would be above the threshold.
    pub fn new(plan: &Arc<Plan>, window: Window) -> Self {
        let replays = SCORES_TRIED.step_by(STEP).map(|hundredths| {
            let score = f32::from(hundredths) / 100.0;
            let rules = plan.rules.iter().map(|r| {
                let day = Scores {
                    start: score,
                    keep: r.day.keep.min(score),
                };
                Rule {
                    day,
                    // Separate scores for the night are another threshold and stay as they are.
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
            configured: (Replay::new(Arc::clone(plan), window), Vec::new()),
            rules: plan.rules.iter().map(|r| (r.id.to_string(), r.day.start)).collect(),
        }
    }

    /// Applies one record to all replays.
    pub fn apply(&mut self, entry: &Entry) {
        for (_, replay, cases) in &mut self.replays {
            cases.extend(opened(&replay.apply(entry.clone())));
        }
        let (replay, cases) = &mut self.configured;
        cases.extend(opened(&replay.apply(entry.clone())));
    }

    /// Compares the cases with `labels`. A threshold is chosen among those with at least `min_precision`, 0..=1.
    pub fn finish(self, labels: &[CaseLabel], min_precision: f64) -> SweepResult {
        let mut cases_by_id: BTreeMap<&str, &ReplayedCase> = BTreeMap::new();
        for case in self
            .replays
            .iter()
            .flat_map(|(_, _, cases)| cases)
            .chain(&self.configured.1)
        {
            cases_by_id.insert(case.case_id.as_str(), case);
        }
        let resolved: Vec<ResolvedLabel> = labels
            .iter()
            .filter_map(|l| ResolvedLabel::new(l, &cases_by_id))
            .collect();
        let rules = self.rules.iter().map(|(rule, configured)| {
            let resolved: Vec<&ResolvedLabel> = resolved.iter().filter(|t| t.rule == *rule).collect();
            let points: Vec<CurvePoint> = self
                .replays
                .iter()
                .map(|(score, _, cases)| {
                    let cases: Vec<&ReplayedCase> = cases.iter().filter(|c| c.rule == *rule).collect();
                    CurvePoint::new(*score, &cases, &resolved)
                })
                .collect();
            RuleCurve {
                rule: rule.clone(),
                configured: *configured,
                chosen: choose(&points, min_precision),
                points,
            }
        });
        SweepResult {
            rules: rules.collect(),
            unmatched_labels: labels.len() - resolved.len(),
            min_precision,
        }
    }
}

fn opened(effects: &[Effect]) -> impl Iterator<Item = ReplayedCase> {
    effects.iter().filter_map(|e| match e {
        Effect::Open(case) => Some(ReplayedCase::from(&**case)),
        _ => None,
    })
}

/// The result of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepResult {
    /// One curve per rule, in the order of the configuration.
    pub rules: Vec<RuleCurve>,
    /// Number of labels whose case no threshold opens.
    pub unmatched_labels: usize,
    /// The precision that was asked for, 0..=1.
    pub min_precision: f64,
}

/// Precision and recall of one rule by threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleCurve {
    /// Id of the rule.
    pub rule: String,
    /// The configured `start_score`.
    pub configured: f32,
    /// By increasing threshold.
    pub points: Vec<CurvePoint>,
    /// `None` if no label matches a case of the rule.
    pub chosen: Option<ChosenThreshold>,
}

/// The counts of one threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePoint {
    /// The value of `start_score`.
    pub score: f32,
    /// Cases opened.
    pub cases: usize,
    /// Cases labelled right.
    pub right: usize,
    /// Cases labelled wrong.
    pub wrong: usize,
    /// Labelled problems, and those for which a case was opened.
    pub problems: (usize, usize),
}

impl CurvePoint {
    fn new(score: f32, cases: &[&ReplayedCase], resolved: &[&ResolvedLabel]) -> Self {
        // The nearest label in time decides; of two equally near ones, the one that says right.
        let is_case_right = |case: &ReplayedCase| {
            let matching = resolved.iter().filter_map(|t| Some((t.gap(case)?, !t.is_right)));
            matching.min().map(|(_, is_wrong)| !is_wrong)
        };
        let right: Vec<&&ReplayedCase> = cases.iter().filter(|c| is_case_right(c) == Some(true)).collect();
        let wrong = cases.iter().filter(|c| is_case_right(c) == Some(false)).count();
        let problems: Vec<&&ResolvedLabel> = resolved.iter().filter(|t| t.is_right).collect();
        let is_found = |t: &ResolvedLabel| right.iter().any(|c| t.gap(c).is_some());
        let found = problems.iter().filter(|t| is_found(t)).count();
        Self {
            score,
            cases: cases.len(),
            right: right.len(),
            wrong,
            problems: (problems.len(), found),
        }
    }

    /// Share of right cases among the labelled ones, 0..=1; `None` if none is labelled.
    pub fn precision(&self) -> Option<f64> {
        let labelled = self.right + self.wrong;
        (labelled > 0).then(|| self.right as f64 / labelled as f64)
    }

    /// Share of problems found, 0..=1; `None` if no problem is labelled.
    pub fn recall(&self) -> Option<f64> {
        let (problems, found) = self.problems;
        (problems > 0).then(|| found as f64 / problems as f64)
    }
}

/// The recommended threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenThreshold {
    /// Index into [`RuleCurve::points`].
    pub index: usize,
    /// True if it reaches the precision asked for; otherwise it is the most precise one.
    pub is_precise_enough: bool,
    /// Number of thresholds that do equally well. The middle one is chosen, since next week's scores will differ.
    pub ties: usize,
}

fn choose(points: &[CurvePoint], min_precision: f64) -> Option<ChosenThreshold> {
    // Compares counts, which are exact, where possible.
    let found = |p: &CurvePoint| p.problems.1;
    let precise = |p: &CurvePoint| p.precision().unwrap_or(0.0);
    let enough: Vec<&CurvePoint> = points
        .iter()
        .filter(|p| p.precision().is_some_and(|x| x >= min_precision))
        .collect();
    let is_precise_enough = !enough.is_empty();
    let best = if is_precise_enough {
        enough.into_iter().max_by_key(|p| found(p))
    } else {
        let labelled = points.iter().filter(|p| p.precision().is_some());
        labelled.max_by(|a, b| precise(a).total_cmp(&precise(b)).then(found(a).cmp(&found(b))))
    }?;
    let ties: Vec<usize> = (0..points.len())
        .filter(|i| {
            let p = &points[*i];
            let is_as_precise = if is_precise_enough {
                p.precision().is_some_and(|x| x >= min_precision)
            } else {
                precise(p).total_cmp(&precise(best)).is_eq() && p.precision().is_some()
            };
            is_as_precise && found(p) == found(best)
        })
        .collect();
    Some(ChosenThreshold {
        index: *ties.get(ties.len() / 2)?,
        is_precise_enough,
        ties: ties.len(),
    })
}

/// A label with the camera, rule, time and box that it refers to.
struct ResolvedLabel {
    camera: String,
    rule: String,
    from: Timestamp,
    to: Timestamp,
    bbox: BBox,
    is_right: bool,
}

impl ResolvedLabel {
    fn new(label: &CaseLabel, cases_by_id: &BTreeMap<&str, &ReplayedCase>) -> Option<Self> {
        let is_right = label.right;
        Some(match &label.subject {
            LabelSubject::Case(id) => {
                let case = cases_by_id.get(id.as_str())?;
                Self {
                    camera: case.camera.clone(),
                    rule: case.rule.clone(),
                    from: case.first_seen_at,
                    to: case.confirmed_at,
                    bbox: case.bbox,
                    is_right,
                }
            }
            LabelSubject::Object { camera, rule, at, bbox } => Self {
                camera: camera.clone(),
                rule: rule.clone(),
                from: *at,
                to: *at,
                bbox: *bbox,
                is_right,
            },
        })
    }

    /// Time between the label and the case; `None` if they are about different objects.
    fn gap(&self, case: &ReplayedCase) -> Option<SignedDuration> {
        let before = case.first_seen_at.duration_since(self.to);
        let after = self.from.duration_since(case.confirmed_at);
        let gap = before.max(after).max(SignedDuration::ZERO);
        let is_same = self.camera == case.camera
            && self.rule == case.rule
            && gap <= MAX_LABEL_DISTANCE
            && self.bbox.iou(&case.bbox) >= SAME_OBJECT_IOU;
        is_same.then_some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(score: f32, right: usize, wrong: usize) -> CurvePoint {
        CurvePoint {
            score,
            cases: right + wrong,
            right,
            wrong,
            problems: (10, right),
        }
    }

    #[test]
    fn the_middle_of_the_best_thresholds_is_chosen() {
        let points = [
            point(0.3, 10, 10),
            point(0.4, 9, 1),
            point(0.5, 9, 0),
            point(0.6, 9, 0),
            point(0.7, 5, 0),
            point(0.8, 0, 0),
        ];
        let choice = choose(&points, 0.9).unwrap();
        assert_eq!((choice.index, choice.is_precise_enough, choice.ties), (2, true, 3));
    }

    #[test]
    fn without_a_precise_enough_threshold_the_most_precise_is_chosen_and_flagged() {
        let points = [point(0.3, 5, 15), point(0.4, 5, 5), point(0.5, 1, 1), point(0.6, 0, 0)];
        let choice = choose(&points, 0.9).unwrap();
        assert_eq!((choice.index, choice.is_precise_enough), (1, false));
        assert_eq!(choose(&[point(0.3, 0, 0)], 0.9), None);
    }
}
