//! Tunes `start_score`: replays the ledger under many thresholds at once and compares the cases with labels given by
//! people.
//!
//! All thresholds are replayed in one pass over the ledger. Cases and labels of the same camera and rule are matched by
//! time and bounding box, because another threshold confirms the same problem at another time, under another id.

pub mod labels;
pub mod svg;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use self::labels::{CaseLabel, LabelSubject};
use super::{Replay, ReplayedCase, Window};
use crate::Entry;
use gridwatch_engine::{Appeared, BBox, Effect, Plan, Rule, Scores};

/// Thresholds tried, in hundredths. Below this range detectors see objects everywhere, above it almost none.
const SCORES_TRIED: std::ops::RangeInclusive<u8> = 30..=95;
/// Step between thresholds, in hundredths. Smaller steps are noise with the few hundred labels that people provide.
const STEP: usize = 5;
/// Maximum time between a label and a case about the same object, which was there before and stays afterwards.
const MAX_LABEL_DISTANCE: SignedDuration = SignedDuration::from_hours(1);
/// Minimum overlap of the boxes of a label and a case about the same object; the same as for recognising rejected
/// objects (docs/judging.md).
const SAME_OBJECT_IOU: f64 = 0.3;

/// Replays of one ledger under different values of `start_score`.
#[derive(Debug)]
pub struct Sweep {
    tried: Vec<ThresholdReplay>,
    /// As configured: the cases that people have labelled.
    configured: CollectedReplay,
    rules: Vec<ConfiguredRule>,
}

/// The replay of one threshold.
#[derive(Debug)]
struct ThresholdReplay {
    score: f32,
    replay: CollectedReplay,
}

/// A replay and the cases that it has opened.
#[derive(Debug)]
struct CollectedReplay {
    replay: Replay,
    cases: Vec<ReplayedCase>,
}

impl CollectedReplay {
    fn new(plan: Arc<Plan>, window: Window) -> Self {
        Self {
            replay: Replay::new(plan, window),
            cases: Vec::new(),
        }
    }

    fn apply(&mut self, entry: Entry) {
        let effects = self.replay.apply(entry);
        self.cases.extend(effects.iter().filter_map(|e| match e {
            Effect::Open(case) => Some(ReplayedCase::from(&**case)),
            _ => None,
        }));
    }
}

/// A rule and its configured `start_score`.
#[derive(Debug)]
struct ConfiguredRule {
    id: String,
    start_score: f32,
}

impl Sweep {
    /// A replay per threshold, each applied to all rules of `plan`; `keep_score` is lowered where it would be above the
    /// threshold.
    pub fn new(plan: &Arc<Plan>, window: Window) -> Self {
        let tried = SCORES_TRIED.step_by(STEP).map(|hundredths| {
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
                    // What has always been there never needs less than what is judged as usual, nor the new more.
                    appeared: r.appeared.map(|a| Appeared {
                        new_start: a.new_start.min(score),
                        old_start: a.old_start.map(|old| old.max(score)),
                    }),
                    ..r.clone()
                }
            });
            let plan = Plan {
                rules: rules.collect(),
                ..(**plan).clone()
            };
            ThresholdReplay {
                score,
                replay: CollectedReplay::new(Arc::new(plan), window),
            }
        });
        Self {
            tried: tried.collect(),
            configured: CollectedReplay::new(Arc::clone(plan), window),
            rules: plan
                .rules
                .iter()
                .map(|r| ConfiguredRule {
                    id: r.id.to_string(),
                    start_score: r.day.start,
                })
                .collect(),
        }
    }

    /// Applies one record to all replays.
    pub fn apply(&mut self, entry: &Entry) {
        for tried in &mut self.tried {
            tried.replay.apply(entry.clone());
        }
        self.configured.apply(entry.clone());
    }

    /// Compares the cases with `labels`. A threshold is chosen among those with at least `min_precision`, 0..=1.
    pub fn finish(self, labels: &[CaseLabel], min_precision: f64) -> SweepResult {
        let replays = self.tried.iter().map(|t| &t.replay).chain([&self.configured]);
        let cases_by_id: BTreeMap<&str, &ReplayedCase> = replays
            .flat_map(|r| &r.cases)
            .map(|case| (case.case_id.as_str(), case))
            .collect();
        let resolved: Vec<ResolvedLabel> = labels
            .iter()
            .filter_map(|l| ResolvedLabel::new(l, &cases_by_id))
            .collect();
        let rules = self.rules.iter().map(|rule| {
            let labels: Vec<&ResolvedLabel> = resolved.iter().filter(|l| l.rule == rule.id).collect();
            let points: Vec<CurvePoint> = self
                .tried
                .iter()
                .map(|tried| {
                    let cases: Vec<&ReplayedCase> = tried.replay.cases.iter().filter(|c| c.rule == rule.id).collect();
                    CurvePoint::new(tried.score, &cases, &labels)
                })
                .collect();
            RuleCurve {
                rule: rule.id.clone(),
                configured: rule.start_score,
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
    /// Labelled problems.
    pub problems: usize,
    /// Labelled problems for which a case was opened.
    pub found: usize,
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
            problems: problems.len(),
            found,
        }
    }

    /// Share of right cases among the labelled ones, 0..=1; `None` if none is labelled.
    pub fn precision(&self) -> Option<f64> {
        let labelled = self.right + self.wrong;
        (labelled > 0).then(|| self.right as f64 / labelled as f64)
    }

    /// Share of problems found, 0..=1; `None` if no problem is labelled.
    pub fn recall(&self) -> Option<f64> {
        (self.problems > 0).then(|| self.found as f64 / self.problems as f64)
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
    let precise_enough = |p: &CurvePoint| p.precision().is_some_and(|x| x >= min_precision);
    let precision = |p: &CurvePoint| p.precision().unwrap_or(0.0);
    let is_precise_enough = points.iter().any(precise_enough);
    let best = if is_precise_enough {
        points.iter().filter(|p| precise_enough(p)).max_by_key(|p| p.found)
    } else {
        let labelled = points.iter().filter(|p| p.precision().is_some());
        labelled.max_by(|a, b| precision(a).total_cmp(&precision(b)).then(a.found.cmp(&b.found)))
    }?;
    let ties: Vec<usize> = (0..points.len())
        .filter(|i| {
            let p = &points[*i];
            let is_as_precise = if is_precise_enough {
                precise_enough(p)
            } else {
                precision(p).total_cmp(&precision(best)).is_eq() && p.precision().is_some()
            };
            is_as_precise && p.found == best.found
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
            problems: 10,
            found: right,
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
