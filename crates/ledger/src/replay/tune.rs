//! Tunes `start_score`, and `new_start_score` and `old_start_score` of rules that ask whether an object appeared: replays the
//! ledger under many thresholds at once and compares the cases with labels given by people.
//!
//! All thresholds are replayed in one pass over the ledger. Cases and labels of the same camera and rule are matched by
//! time and bounding box, because another threshold confirms the same problem at another time, under another id.
//!
//! The three settings of a rule are tried at the same value in one replay, and its cases are divided by how new their objects
//! were: each setting decides about one kind of object, so each has a curve of its own.

pub mod labels;
pub mod svg;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use self::labels::{CaseLabel, LabelSubject};
use super::{CaseNewness, Replay, ReplayedCase, Window};
use crate::{Entry, RecordedEvent};
use gridwatch_engine::{Appeared, BBox, Detection, Effect, Observation, Plan, Rule, Scores};

/// Thresholds tried, in hundredths. Below this range detectors see objects everywhere, above it almost none.
const SCORES_TRIED: std::ops::RangeInclusive<u8> = 30..=95;
/// Step between thresholds, in hundredths. Smaller steps are noise with the few hundred labels that people provide.
const STEP: usize = 5;
/// Maximum time between a label and a case about the same object, which was there before and stays afterwards.
const MAX_LABEL_DISTANCE: SignedDuration = SignedDuration::from_hours(1);
/// Scores that differ by less are the same: settings have a few decimals.
const SAME_SCORE: f32 = 1e-4;
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
    plan: Arc<Plan>,
    replay: Replay,
    cases: Vec<CollectedCase>,
}

/// A case, and how new its object was.
#[derive(Debug)]
struct CollectedCase {
    case: ReplayedCase,
    newness: CaseNewness,
}

impl CollectedReplay {
    fn new(plan: Arc<Plan>, window: Window) -> Self {
        Self {
            replay: Replay::new(Arc::clone(&plan), window),
            plan,
            cases: Vec::new(),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        let detections = match &entry.event {
            RecordedEvent::Observed(look) => &look.detections[..],
            _ => &[],
        };
        for effect in self.replay.apply(entry.clone()) {
            if let Effect::Open(case) = effect {
                let rule = self.plan.rules.iter().find(|r| r.id == case.rule);
                self.cases.push(CollectedCase {
                    newness: rule.map_or(CaseNewness::Unknown, |r| CaseNewness::of(&case, r, detections)),
                    case: ReplayedCase::from(&*case),
                });
            }
        }
    }
}

/// A threshold of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `start_score`: for all objects, or with `appeared` for those of which a look cannot tell whether they are new.
    Start,
    /// `new_start_score`: for objects that are new in the view.
    NewStart,
    /// `old_start_score`: for objects that were there when the view was learned.
    OldStart,
}

impl Setting {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start_score",
            Self::NewStart => "new_start_score",
            Self::OldStart => "old_start_score",
        }
    }

    /// The objects that it decides about, for rules with `appeared`.
    fn newness(self) -> CaseNewness {
        match self {
            Self::Start => CaseNewness::Unknown,
            Self::NewStart => CaseNewness::New,
            Self::OldStart => CaseNewness::Old,
        }
    }
}

/// A rule and its configured thresholds.
#[derive(Debug)]
struct ConfiguredRule {
    id: String,
    start_score: f32,
    appeared: Option<Appeared>,
    /// A detection with one of its labels has a newness.
    has_newness: bool,
}

impl ConfiguredRule {
    /// The settings that decide when the ledger has looks with newness, each with its configured value. Of those that come after, `start_score`
    /// limits the range.
    fn settings(&self) -> Vec<(Setting, f32)> {
        let start = (Setting::Start, self.start_score);
        match self.appeared {
            None => vec![start],
            Some(Appeared {
                new_start,
                old_start: None,
                ..
            }) => vec![(Setting::NewStart, new_start)],
            Some(Appeared {
                new_start,
                old_start: Some(old_start),
                ..
            }) => vec![start, (Setting::NewStart, new_start), (Setting::OldStart, old_start)],
        }
    }
}

impl Sweep {
    /// A replay per threshold, each applied to all rules of `plan` and to all objects, new or not; `keep_score` is lowered
    /// where it would be above the threshold.
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
                    appeared: r.appeared.map(|a| Appeared {
                        new_start: score,
                        new_keep: a.new_keep.map(|keep| keep.min(score)),
                        old_start: a.old_start.map(|_| score),
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
                    appeared: r.appeared,
                    has_newness: false,
                })
                .collect(),
        }
    }

    /// Applies one record to all replays.
    pub fn apply(&mut self, entry: &Entry) {
        if let RecordedEvent::Observed(look) = &entry.event {
            self.note_newness(look);
        }
        for tried in &mut self.tried {
            tried.replay.apply(entry);
        }
        self.configured.apply(entry);
    }

    fn note_newness(&mut self, look: &Observation) {
        let undecided = self.rules.iter_mut().zip(&self.configured.plan.rules);
        for (rule, plan) in undecided.filter(|(r, _)| r.appeared.is_some() && !r.has_newness) {
            let tells = |d: &Detection| d.newness.is_some() && plan.labels.contains(&d.label);
            rule.has_newness = look.detections.iter().any(tells);
        }
    }

    /// Compares the cases with `labels`. A threshold is chosen among those with at least `min_precision`, 0..=1.
    pub fn finish(self, labels: &[CaseLabel], min_precision: f64) -> SweepResult {
        let replays = self.tried.iter().map(|t| &t.replay).chain([&self.configured]);
        let cases: Vec<&CollectedCase> = replays.flat_map(|r| &r.cases).collect();
        let cases_by_id: BTreeMap<&str, &CollectedCase> = cases.iter().map(|c| (c.case.case_id.as_str(), *c)).collect();
        let resolved: Vec<ResolvedLabel> = labels
            .iter()
            .filter_map(|l| ResolvedLabel::new(l, &cases_by_id, &cases))
            .collect();
        let rules = self.rules.iter().map(|rule| {
            let labels: Vec<&ResolvedLabel> = resolved.iter().filter(|l| l.rule == rule.id).collect();
            self.tune(rule, &labels, min_precision)
        });
        SweepResult {
            rules: rules.collect(),
            unmatched_labels: labels.len() - resolved.len(),
            min_precision,
        }
    }

    fn tune(&self, rule: &ConfiguredRule, labels: &[&ResolvedLabel], min_precision: f64) -> RuleTuning {
        let mut tuning = RuleTuning {
            rule: rule.id.clone(),
            curves: Vec::new(),
            cannot_tell: Vec::new(),
        };
        // `new_start_score` must not be above `start_score`, nor `old_start_score` below it.
        let mut start = rule.start_score;
        for (setting, configured) in rule.settings() {
            if setting != Setting::Start && !rule.has_newness {
                tuning.cannot_tell.push(setting);
                continue;
            }
            let points = self.points(rule, rule.has_newness.then(|| setting.newness()), labels);
            let is_allowed = |p: &CurvePoint| match (setting, rule.appeared) {
                (Setting::NewStart, Some(_)) => p.score <= start + SAME_SCORE,
                (Setting::OldStart, Some(_)) => p.score >= start - SAME_SCORE,
                _ => true,
            };
            let chosen = choose(&points, min_precision, is_allowed);
            if let (Setting::Start, Some(chosen)) = (setting, &chosen) {
                start = points[chosen.index].score;
            }
            tuning.curves.push(RuleCurve {
                rule: rule.id.clone(),
                setting,
                newness: rule.has_newness.then(|| setting.newness()),
                configured,
                points,
                chosen,
            });
        }
        tuning
    }

    /// The counts of each threshold, of all the rule's cases or of those with this newness. A labelled case has the newness of its label:
    /// another threshold may confirm the same object at a look that cannot tell. Labels that no threshold opens a case for count for each.
    fn points(
        &self,
        rule: &ConfiguredRule,
        newness: Option<CaseNewness>,
        labels: &[&ResolvedLabel],
    ) -> Vec<CurvePoint> {
        let is_of = |n: Option<CaseNewness>| newness.is_none() || n.is_none() || n == newness;
        let known = LabelsByCamera::new(labels.iter().copied());
        let wanted: Vec<&ResolvedLabel> = labels.iter().copied().filter(|l| is_of(l.newness)).collect();
        let tried = self.tried.iter().map(|tried| {
            let cases = tried.replay.cases.iter().filter(|c| c.case.rule == rule.id);
            let cases = cases.filter(|c| match known.nearest(&c.case) {
                Some(label) => is_of(label.newness),
                None => is_of(Some(c.newness)),
            });
            let cases: Vec<&ReplayedCase> = cases.map(|c| &c.case).collect();
            CurvePoint::new(tried.score, &cases, &wanted)
        });
        tried.collect()
    }
}

/// The result of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepResult {
    /// One per rule, in the order of the configuration.
    pub rules: Vec<RuleTuning>,
    /// Number of labels whose case no threshold opens.
    pub unmatched_labels: usize,
    /// The precision that was asked for, 0..=1.
    pub min_precision: f64,
}

/// What the ledger tells about the thresholds of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTuning {
    /// Id of the rule.
    pub rule: String,
    /// One curve per threshold that the ledger can tell about.
    pub curves: Vec<RuleCurve>,
    /// The thresholds that it cannot tell about: no look in it says how new the rule's objects are.
    pub cannot_tell: Vec<Setting>,
}

/// Precision and recall of one rule by one threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleCurve {
    /// Id of the rule.
    pub rule: String,
    /// The threshold.
    pub setting: Setting,
    /// The objects that are counted; `None`: all.
    pub newness: Option<CaseNewness>,
    /// Its configured value.
    pub configured: f32,
    /// By increasing threshold.
    pub points: Vec<CurvePoint>,
    /// `None` if no label matches a case of the rule.
    pub chosen: Option<ChosenThreshold>,
}

/// The counts of one threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePoint {
    /// The value of the threshold.
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
    pub(crate) fn new(score: f32, cases: &[&ReplayedCase], resolved: &[&ResolvedLabel]) -> Self {
        let labels = LabelsByCamera::new(resolved.iter().copied());
        let mut right: BTreeMap<&str, Vec<&ReplayedCase>> = BTreeMap::new();
        let (mut right_count, mut wrong) = (0, 0);
        for case in cases {
            match labels.nearest(case).map(|label| label.is_right) {
                Some(true) => {
                    right_count += 1;
                    right.entry(&case.camera).or_default().push(case);
                }
                Some(false) => wrong += 1,
                None => {}
            }
        }
        let problems: Vec<&&ResolvedLabel> = resolved.iter().filter(|t| t.is_right).collect();
        let is_found = |t: &ResolvedLabel| {
            let mut of_camera = right.get(t.camera.as_str()).into_iter().flatten();
            of_camera.any(|c| t.gap(c).is_some())
        };
        let found = problems.iter().filter(|t| is_found(t)).count();
        Self {
            score,
            cases: cases.len(),
            right: right_count,
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

/// Chooses among the points that `is_allowed`.
pub(crate) fn choose(
    points: &[CurvePoint],
    min_precision: f64,
    is_allowed: impl Fn(&CurvePoint) -> bool,
) -> Option<ChosenThreshold> {
    let allowed = || points.iter().filter(|p| is_allowed(p));
    let precise_enough = |p: &CurvePoint| p.precision().is_some_and(|x| x >= min_precision);
    let precision = |p: &CurvePoint| p.precision().unwrap_or(0.0);
    let is_precise_enough = allowed().any(precise_enough);
    let best = if is_precise_enough {
        allowed().filter(|p| precise_enough(p)).max_by_key(|p| p.found)
    } else {
        let labelled = allowed().filter(|p| p.precision().is_some());
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
            is_allowed(p) && is_as_precise && p.found == best.found
        })
        .collect();
    Some(ChosenThreshold {
        index: *ties.get(ties.len() / 2)?,
        is_precise_enough,
        ties: ties.len(),
    })
}

/// Labels, to be found by the camera that they are about.
pub(crate) struct LabelsByCamera<'a>(BTreeMap<&'a str, Vec<&'a ResolvedLabel>>);

impl<'a> LabelsByCamera<'a> {
    pub(crate) fn new(labels: impl IntoIterator<Item = &'a ResolvedLabel>) -> Self {
        let mut by_camera: BTreeMap<&str, Vec<&ResolvedLabel>> = BTreeMap::new();
        for label in labels {
            by_camera.entry(&label.camera).or_default().push(label);
        }
        Self(by_camera)
    }

    /// The label that is nearest to a case in time; of two equally near ones, the one that says right.
    pub(crate) fn nearest(&self, case: &ReplayedCase) -> Option<&'a ResolvedLabel> {
        let of_camera = self.0.get(case.camera.as_str()).into_iter().flatten();
        let matching = of_camera.filter_map(|l| Some((l.gap(case)?, !l.is_right, *l)));
        matching
            .min_by_key(|(gap, is_wrong, _)| (*gap, *is_wrong))
            .map(|(.., label)| label)
    }
}

/// A label with the camera, rule, time and box that it refers to.
#[derive(Debug)]
pub(crate) struct ResolvedLabel {
    pub(crate) camera: String,
    pub(crate) rule: String,
    from: Timestamp,
    to: Timestamp,
    bbox: BBox,
    pub(crate) is_right: bool,
    /// How new its object was; `None` if no threshold opens a case about it.
    newness: Option<CaseNewness>,
}

impl ResolvedLabel {
    fn new(label: &CaseLabel, cases_by_id: &BTreeMap<&str, &CollectedCase>, cases: &[&CollectedCase]) -> Option<Self> {
        let is_right = label.right;
        let mut resolved = match &label.subject {
            LabelSubject::Case(id) => {
                let CollectedCase { case, newness } = cases_by_id.get(id.as_str())?;
                return Some(Self {
                    newness: Some(*newness),
                    camera: case.camera.clone(),
                    rule: case.rule.clone(),
                    from: case.first_seen_at,
                    to: case.confirmed_at,
                    bbox: case.bbox,
                    is_right,
                });
            }
            LabelSubject::Object { camera, rule, at, bbox } => Self {
                camera: camera.clone(),
                rule: rule.clone(),
                from: *at,
                to: *at,
                bbox: *bbox,
                is_right,
                newness: None,
            },
        };
        let about_it = cases.iter().filter_map(|c| Some((resolved.gap(&c.case)?, c.newness)));
        resolved.newness = about_it.min().map(|(_, newness)| newness);
        Some(resolved)
    }

    /// The label, if it is about an object or about one of `cases`. Newness is not told.
    pub(crate) fn among(label: &CaseLabel, cases: &BTreeMap<&str, &ReplayedCase>) -> Option<Self> {
        let case = match &label.subject {
            LabelSubject::Case(id) => cases.get(id.as_str())?,
            LabelSubject::Object { .. } => return Self::new(label, &BTreeMap::new(), &[]),
        };
        Some(Self {
            camera: case.camera.clone(),
            rule: case.rule.clone(),
            from: case.first_seen_at,
            to: case.confirmed_at,
            bbox: case.bbox,
            is_right: label.right,
            newness: None,
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
        let choice = choose(&points, 0.9, |_| true).unwrap();
        assert_eq!((choice.index, choice.is_precise_enough, choice.ties), (2, true, 3));
    }

    #[test]
    fn without_a_precise_enough_threshold_the_most_precise_is_chosen_and_flagged() {
        let points = [point(0.3, 5, 15), point(0.4, 5, 5), point(0.5, 1, 1), point(0.6, 0, 0)];
        let choice = choose(&points, 0.9, |_| true).unwrap();
        assert_eq!((choice.index, choice.is_precise_enough), (1, false));
        assert_eq!(choose(&[point(0.3, 0, 0)], 0.9, |_| true), None);
    }

    #[test]
    fn only_an_allowed_threshold_is_chosen() {
        let points = [point(0.3, 10, 10), point(0.4, 9, 0), point(0.5, 9, 0), point(0.6, 9, 0)];
        let choice = choose(&points, 0.9, |p| p.score <= 0.4).unwrap();
        assert_eq!((choice.index, choice.ties), (1, 1));
        assert_eq!(choose(&points, 0.9, |p| p.score > 0.9), None);
    }
}
