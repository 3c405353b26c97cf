//! Evaluates the cases of a replay against ground truth: which are right, false or repeated, and which problems were
//! missed. The rules are described in `docs/judging.md`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::GroundTruth;
pub use super::counts::{EvaluationCounts, EvaluationReport, JudgedCases, NewnessCounts};
use crate::replay::CaseNewness;
use gridwatch_engine::{
    BBox, CameraId, Case, CaseId, CaseState, Detection, Effect, LonLat, Observation, Place, PlaceMethod, Plan, Point,
    Rule, View, ZoneKind,
    calendar::HoursCache,
    geometry::{Side, distance_m, side_of},
};

/// A problem is expected to be filed once it was visible for the dwell of the rule and this share of it more: a
/// detector that misses three looks in ten needs additional ones, and a problem that is gone at once is no use to a
/// crew ...
const GRACE_SHARE: f64 = 0.25;
/// ... and for at least this much more.
const MIN_GRACE: Duration = Duration::from_mins(2);
/// Accuracy of the times in truth files written by people.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// Maximum distance of the foot of a case from the foot of the object (the middle of the lower edge of its box), in
/// widths and heights of that box. Half is its own edge; the rest allows for jitter of the boxes.
const MAX_FOOT_OFFSET: f64 = 0.75;
/// Boxes with this overlap show the same object even if their feet are apart, for example if only the upper half is
/// visible.
const SAME_OBJECT_IOU: f64 = 0.3;
/// Positions nearer than this are the same, however certain both are; as for the sites of the engine.
const MIN_RADIUS_M: f64 = 2.0;

/// The verdict on a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    /// About a problem that had no case before.
    Right,
    /// About a problem whose earlier case was closed, and linked to that case.
    Recurrence,
    /// About a problem that already had a case.
    Repeated,
    /// About no object, or about a lawful one.
    False,
}

/// The evaluation of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluatedCase {
    /// The verdict.
    pub verdict: CaseVerdict,
    /// Id of the object that the case is about, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Description of that object; `nothing` if there is none.
    pub kind: String,
}

/// A problem that should have been filed and was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MissedProblem {
    /// Its id in the truth file.
    pub id: String,
    /// Its description.
    pub kind: String,
    /// Its category.
    pub category: String,
    /// Seconds for which it was visible to the camera that saw it longest.
    pub in_sight_s: f64,
}

/// Evaluates the cases of a replay while it runs.
#[derive(Debug)]
pub struct Evaluator {
    plan: Arc<Plan>,
    truths: Vec<TrackedTruth>,
    /// Indices of `truths` in the order of their start, and how many have started.
    by_start: Vec<usize>,
    started: usize,
    /// Indices of those present now, and the time at which the first of them ends.
    present: Vec<usize>,
    next_end: Timestamp,
    /// Working hours of the plan's rules, in their order.
    hours: Vec<HoursCache>,
    /// The last look of each camera.
    looks: BTreeMap<CameraId, LastLook>,
    /// Open cases about problems.
    open: BTreeMap<CaseId, OpenProblemCase>,
    /// Incremented with every change of `open`.
    version: u64,
    counts: BTreeMap<String, EvaluationCounts>,
    /// The detections of the newest look, if a rule asks whether an object appeared.
    detections: Vec<Detection>,
    newness: NewnessCounts,
    /// A look has said how new a detection is.
    has_newness: bool,
}

#[derive(Debug)]
struct LastLook {
    at: Timestamp,
    is_clear: bool,
}

/// The time between two consecutive clear looks of one camera.
struct ClearSpan<'a> {
    camera: &'a CameraId,
    from: Timestamp,
    to: Timestamp,
}

#[derive(Debug)]
struct OpenProblemCase {
    truth: usize,
    at: LonLat,
    uncertainty_m: f64,
    /// Set if the case has only the position of its camera.
    view_site: Option<ViewSite>,
}

/// The site of a case without a position of its own.
#[derive(Debug)]
struct ViewSite {
    camera: CameraId,
    zone: Option<String>,
}

#[derive(Debug)]
struct TrackedTruth {
    truth: GroundTruth,
    /// Index of its rule in the plan.
    rule: Option<usize>,
    sightings: Vec<Sighting>,
    /// The newest case about it.
    case: Option<CaseId>,
    is_found: bool,
    /// Value of [`Evaluator::version`] at which `is_covered` was computed.
    version: Option<u64>,
    is_covered: bool,
}

/// How long one camera could see an object.
#[derive(Debug)]
struct Sighting {
    camera: CameraId,
    bbox: BBox,
    hidden: Vec<(f64, f64)>,
    /// Number of spans in `hidden` that are over.
    spans_over: usize,
    /// Visible time while no open case of another problem covered it, and in total.
    visible_uncovered: Duration,
    visible: Duration,
}

impl Evaluator {
    /// An evaluation against these truths, for cases under `plan`.
    pub fn new(truths: Vec<GroundTruth>, plan: Arc<Plan>) -> Self {
        let truths: Vec<TrackedTruth> = truths.into_iter().map(|t| TrackedTruth::new(t, &plan)).collect();
        let hours = vec![HoursCache::default(); plan.rules.len()];
        let mut by_start: Vec<usize> = (0..truths.len()).collect();
        by_start.sort_by_key(|i| truths[*i].truth.from);
        Self {
            plan,
            truths,
            by_start,
            started: 0,
            present: Vec::new(),
            next_end: Timestamp::MAX,
            hours,
            looks: BTreeMap::new(),
            open: BTreeMap::new(),
            version: 0,
            counts: BTreeMap::new(),
            detections: Vec::new(),
            newness: NewnessCounts::default(),
            has_newness: false,
        }
    }

    /// Takes a look, before the effects that the engine derives from it.
    pub fn observe(&mut self, look: &Observation) {
        self.advance(look.at);
        if self.plan.rules.iter().any(|r| r.appeared.is_some()) {
            self.detections.clone_from(&look.detections);
            self.has_newness |= look.detections.iter().any(|d| d.newness.is_some());
        }
        let is_clear = look.view == View::Clear;
        let last = LastLook { at: look.at, is_clear };
        let Some(before) = self.looks.insert(look.camera.clone(), last) else {
            return;
        };
        if !is_clear || !before.is_clear || look.at <= before.at {
            return;
        }
        let span = ClearSpan {
            camera: &look.camera,
            from: before.at,
            to: look.at,
        };
        for i in 0..self.present.len() {
            let index = self.present[i];
            if self.truths[index].truth.problem && self.truths[index].sightings.iter().any(|s| s.camera == look.camera)
            {
                let is_covered = self.is_covered(index);
                self.truths[index].add_visible(&span, is_covered, &self.plan, &mut self.hours);
            }
        }
    }

    /// Takes the effects of the engine; returns the evaluation of each case that it opened.
    pub fn apply(&mut self, effects: &[Effect]) -> Vec<(CaseId, EvaluatedCase)> {
        let mut judged = Vec::new();
        for effect in effects {
            match effect {
                Effect::Open(case) => judged.push((case.id.clone(), self.evaluate(case))),
                Effect::Revise { case, state, .. } => self.revised(case, *state),
                _ => {}
            }
        }
        judged
    }

    /// The result, and the missed problems in the order of their start.
    pub fn finish(mut self) -> (EvaluationReport, Vec<MissedProblem>) {
        let mut missed = Vec::new();
        for i in &self.by_start {
            let tracked = &self.truths[*i];
            let Some(rule) = tracked
                .rule
                .map(|r| &self.plan.rules[r])
                .filter(|_| tracked.truth.problem)
            else {
                continue;
            };
            let counts = self.counts.entry(rule.id.to_string()).or_default();
            counts.problems += 1;
            let enough = rule.dwell + rule.dwell.mul_f64(GRACE_SHARE).max(MIN_GRACE);
            let best = |of: fn(&Sighting) -> Duration| tracked.sightings.iter().map(of).max().unwrap_or_default();
            if best(|s| s.visible_uncovered) >= enough {
                counts.asked += 1;
                if tracked.is_found {
                    counts.found += 1;
                } else {
                    counts.missed += 1;
                    *counts.missed_kinds.entry(tracked.truth.kind.clone()).or_default() += 1;
                    missed.push(MissedProblem {
                        id: tracked.truth.id.clone(),
                        kind: tracked.truth.kind.clone(),
                        category: tracked.truth.category.clone(),
                        in_sight_s: best(|s| s.visible).as_secs_f64(),
                    });
                }
            } else if best(|s| s.visible) >= enough && !tracked.is_found {
                counts.held += 1;
            }
        }
        let mut outcome = EvaluationReport::default();
        for (rule, counts) in self.counts {
            outcome.all.add(&counts);
            outcome.by_rule.insert(rule, counts.shares());
        }
        outcome.all = outcome.all.shares();
        outcome.newness = self.has_newness.then_some(self.newness);
        (outcome, missed)
    }

    fn advance(&mut self, now: Timestamp) {
        while let Some(i) = self
            .by_start
            .get(self.started)
            .filter(|i| self.truths[**i].truth.from <= now)
        {
            self.present.push(*i);
            self.next_end = self.next_end.min(self.truths[*i].end());
            self.started += 1;
        }
        if now > self.next_end {
            let truths = &self.truths;
            self.present.retain(|i| now <= truths[*i].end());
            let ends = self.present.iter().map(|i| truths[*i].end());
            self.next_end = ends.min().unwrap_or(Timestamp::MAX);
        }
    }

    fn evaluate(&mut self, case: &Case) -> EvaluatedCase {
        self.advance(case.confirmed_at);
        let distance = |i: &usize| Some((*i, self.truths[*i].match_distance(case)?));
        // Problems take precedence over lawful objects, then the nearest wins.
        let about = self.present.iter().filter_map(distance).min_by(|a, b| {
            let is_lawful = |i: usize| !self.truths[i].truth.problem;
            is_lawful(a.0).cmp(&is_lawful(b.0)).then(a.1.total_cmp(&b.1))
        });
        let about = about.map(|(i, _)| i);
        let verdict = match about {
            Some(i) if self.truths[i].truth.problem => self.assign(i, case),
            _ => CaseVerdict::False,
        };
        let rule = self.plan.rules.iter().find(|r| r.id == case.rule);
        if let Some(rule) = rule.filter(|r| r.appeared.is_some()) {
            let newness = CaseNewness::of(case, rule, &self.detections);
            self.newness.count(newness, verdict != CaseVerdict::False);
        }
        let object = about.map(|i| &self.truths[i].truth);
        let judged = EvaluatedCase {
            verdict,
            about: object.map(|t| t.id.clone()),
            kind: object.map_or_else(|| "nothing".into(), |t| t.kind.clone()),
        };
        let counts = self.counts.entry(case.rule.to_string()).or_default();
        counts.judged += 1;
        match verdict {
            CaseVerdict::False => {
                counts.wrong += 1;
                *counts.wrong_about.entry(judged.kind.clone()).or_default() += 1;
            }
            CaseVerdict::Right => counts.right += 1,
            CaseVerdict::Recurrence => {
                counts.right += 1;
                counts.recurrences += 1;
            }
            CaseVerdict::Repeated => {
                counts.right += 1;
                counts.repeats += 1;
            }
        }
        judged
    }

    /// Assigns `case` to the problem `i`.
    fn assign(&mut self, i: usize, case: &Case) -> CaseVerdict {
        let tracked = &mut self.truths[i];
        tracked.is_found = true;
        let verdict = match tracked.case.replace(case.id.clone()) {
            None => CaseVerdict::Right,
            Some(before) if !self.open.contains_key(&before) && case.recurrence.is_some() => CaseVerdict::Recurrence,
            Some(_) => CaseVerdict::Repeated,
        };
        let is_of_the_view = case.located.method == PlaceMethod::CameraPoint;
        self.open.insert(
            case.id.clone(),
            OpenProblemCase {
                truth: i,
                at: case.located.at,
                uncertainty_m: case.located.uncertainty_m,
                view_site: is_of_the_view.then(|| ViewSite {
                    camera: case.camera.clone(),
                    zone: case.zone.as_ref().map(ToString::to_string),
                }),
            },
        );
        self.version += 1;
        verdict
    }

    fn revised(&mut self, case: &CaseId, state: CaseState) {
        if !state.is_open() && self.open.remove(case).is_some() {
            self.version += 1;
        }
    }

    /// True while the open case of another problem covers this one: it lies within the merge radius of the rule or
    /// twice the uncertainty of that case, or, if the case has no position of its own, in the same zone of its camera.
    fn is_covered(&mut self, index: usize) -> bool {
        let tracked = &self.truths[index];
        if tracked.version == Some(self.version) {
            return tracked.is_covered;
        }
        let is_covered = tracked.rule.is_some_and(|rule| {
            let rule = &self.plan.rules[rule];
            self.open
                .values()
                .any(|open| open.truth != index && self.covers(open, tracked, rule))
        });
        let tracked = &mut self.truths[index];
        tracked.version = Some(self.version);
        tracked.is_covered = is_covered;
        is_covered
    }

    fn covers(&self, open: &OpenProblemCase, tracked: &TrackedTruth, rule: &Rule) -> bool {
        let other = &self.truths[open.truth];
        if other.truth.category != tracked.truth.category {
            return false;
        }
        if let Some(site) = &open.view_site
            && let Some(sighting) = tracked.sightings.iter().find(|s| s.camera == site.camera)
        {
            return zone_of(&self.plan, &site.camera, rule, rule.anchor(&sighting.bbox)) == site.zone;
        }
        let radius = rule.merge_radius_m.max(2.0 * open.uncertainty_m);
        tracked
            .truth
            .place
            .is_some_and(|place| distance_m(place, open.at) <= radius)
    }
}

impl TrackedTruth {
    fn new(truth: GroundTruth, plan: &Plan) -> Self {
        let rule = plan.rules.iter().position(|r| r.category.code == truth.category);
        let mut sightings: Vec<Sighting> = truth
            .views
            .iter()
            .map(|v| Sighting {
                camera: v.camera.clone(),
                bbox: v.bbox,
                hidden: v.hidden_s.clone(),
                spans_over: 0,
                visible_uncovered: Duration::ZERO,
                visible: Duration::ZERO,
            })
            .collect();
        if let (true, Some(place)) = (truth.views.is_empty(), truth.place) {
            sightings.extend(plan.cameras.iter().filter_map(|(id, camera)| {
                Some(Sighting {
                    camera: id.clone(),
                    bbox: projected_box(&camera.place, place)?,
                    hidden: Vec::new(),
                    spans_over: 0,
                    visible_uncovered: Duration::ZERO,
                    visible: Duration::ZERO,
                })
            }));
        }
        Self {
            truth,
            rule,
            sightings,
            case: None,
            is_found: false,
            version: None,
            is_covered: false,
        }
    }

    /// The latest time at which a case may be confirmed to count as being about it.
    fn end(&self) -> Timestamp {
        self.truth.to.saturating_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX)
    }

    /// Adds the time between two consecutive clear looks of one camera.
    fn add_visible(&mut self, span: &ClearSpan<'_>, is_covered: bool, plan: &Plan, hours: &mut [HoursCache]) {
        let Some((rule, hours)) = self.rule.map(|r| (&plan.rules[r], &mut hours[r])) else {
            return;
        };
        let Some(sighting) = self.sightings.iter_mut().find(|s| s.camera == *span.camera) else {
            return;
        };
        let away = plan.cameras.get(span.camera).map_or(Duration::ZERO, |c| c.away);
        let is_gap =
            Duration::try_from(span.to.duration_since(span.from)).is_ok_and(|gap| gap > rule.max_gap.max(away));
        let (from, to) = (span.from.max(self.truth.from), span.to.min(self.truth.to));
        if is_gap || from >= to {
            return;
        }
        let since_from = |t: Timestamp| t.duration_since(self.truth.from).as_secs_f64();
        let (from_s, to_s) = (since_from(from), since_from(to));
        while sighting.hidden.get(sighting.spans_over).is_some_and(|h| h.1 <= from_s) {
            sighting.spans_over += 1;
        }
        let hidden: f64 = sighting.hidden[sighting.spans_over..]
            .iter()
            .take_while(|h| h.0 < to_s)
            .map(|h| (h.1.min(to_s) - h.0.max(from_s)).max(0.0))
            .sum();
        let worked = hours.active_time(&plan.calendar, &rule.hours, from, to);
        let seen = worked.saturating_sub(Duration::from_secs_f64(hidden));
        sighting.visible += seen;
        if !is_covered {
            sighting.visible_uncovered += seen;
        }
    }

    /// Distance of `case` from this object, 0 at the same position; `None` if the case is about something else.
    fn match_distance(&self, case: &Case) -> Option<f64> {
        let is_present = self
            .truth
            .from
            .saturating_sub(CLOCK_TOLERANCE)
            .is_ok_and(|from| from <= case.confirmed_at);
        if self.truth.category != case.category.code || !is_present {
            return None;
        }
        if let Some(sighting) = self.sightings.iter().find(|s| s.camera == case.camera) {
            return box_distance(&sighting.bbox, &case.confirmed_box);
        }
        // The views name the cameras that see it, and this is not one of them; or the camera has no calibration.
        if case.located.method == PlaceMethod::CameraPoint {
            return None;
        }
        let reach = MIN_RADIUS_M.max(2.0 * case.located.uncertainty_m);
        let distance = distance_m(self.truth.place?, case.located.at);
        (distance <= reach).then_some(distance / reach)
    }
}

/// Distance of a case's foot from the object's, in widths and heights of the object's box; `None` if too far.
fn box_distance(object: &BBox, case: &BBox) -> Option<f64> {
    let (a, b) = (object.foot(), case.foot());
    let off = ((a.x - b.x) / object.width())
        .abs()
        .max(((a.y - b.y) / object.height()).abs());
    (off <= MAX_FOOT_OFFSET || object.iou(case) >= SAME_OBJECT_IOU).then_some(off)
}

/// A box of a tenth of the picture where a calibrated view shows the position; `None` if it is outside the picture.
fn projected_box(place: &Place, at: LonLat) -> Option<BBox> {
    let Place::Calibrated { calibration, .. } = place else {
        return None;
    };
    let Point { x, y } = calibration.picture(at)?;
    let half = 0.05;
    let bbox = BBox {
        x1: (x - half) as f32,
        y1: (y - 2.0 * half) as f32,
        x2: (x + half) as f32,
        y2: y as f32,
    };
    ((0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y)).then_some(bbox)
}

/// The first watch zone of the rule that contains the foot, as the engine chooses it.
fn zone_of(plan: &Plan, camera: &CameraId, rule: &Rule, foot: Point) -> Option<String> {
    let zones = &plan.cameras.get(camera)?.zones;
    let zone = zones.iter().find(|z| {
        z.kind == ZoneKind::Watch
            && (z.rules.is_empty() || z.rules.contains(&rule.id))
            && side_of(&z.polygon, foot) != Side::Outside
    })?;
    Some(zone.id.to_string())
}
