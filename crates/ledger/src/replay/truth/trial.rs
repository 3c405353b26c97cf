//! Cases held against the truth: which are right, which are of nothing, which tell the same problem again, and which
//! problems nobody was told of. How is told in `docs/judging.md`, "Held against the truth".

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::Truth;
use gridwatch_engine::{
    BBox, CameraId, Case, CaseId, CaseState, Effect, LonLat, Observation, Place, PlaceMethod, Plan, Point, Rule, View,
    ZoneKind,
    calendar::Lately,
    geometry::{Side, distance_m, side_of},
};

/// A problem must have been in clear sight for the rule's dwell and this much of it more before it is asked for: a detector
/// that misses three looks in ten needs some more of them to be sure, and what is gone at once helps no crew ...
const GRACE_SHARE: f64 = 0.25;
/// ... and this much at least.
const LEAST_GRACE: Duration = Duration::from_mins(2);
/// Clocks of people who write truths down are good for this.
const CLOCK: Duration = Duration::from_secs(60);
/// A case's foot may lie this many widths and heights of the thing's box from the middle of that box's lower edge. Half is
/// the box's own edge; the rest is what boxes jitter.
const FOOT_WITHIN: f64 = 0.75;
/// Boxes that overlap this much show one thing even where their feet lie apart, as when only its upper half is seen.
const SAME_THING_IOU: f64 = 0.3;
/// Places nearer than this are one however sure both are, as for the engine's sites.
const LEAST_REACH_M: f64 = 2.0;

/// What a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// About a problem that was there, and had not been told.
    Right,
    /// About a problem whose earlier case was over, and linked to it.
    Recurrence,
    /// About a problem that had a case already.
    Repeated,
    /// About nothing, or about what is no problem.
    False,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What it is.
    pub verdict: Verdict,
    /// The thing that it is about, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// That thing in words; `nothing` where there was none.
    pub kind: String,
}

/// A problem that was asked for and not found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Missed {
    /// Its id in the truth.
    pub id: String,
    /// What it is.
    pub kind: String,
    /// Its category.
    pub category: String,
    /// Seconds for which the camera that saw it best had it in clear sight.
    pub in_sight_s: f64,
}

/// The counts, and what follows from them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Cases about a problem that was there, in share of all cases; `null` without cases.
    pub precision: Option<f64>,
    /// Problems found, in share of those that are asked for; `null` where none is.
    pub recall: Option<f64>,
    /// Cases that tell a problem again, in share of all cases; `null` without cases.
    pub repeated: Option<f64>,
    /// Cases that were held against the truth.
    pub judged: u64,
    /// Those that are about a problem, the repeated ones among them.
    pub right: u64,
    /// Those about none.
    pub wrong: u64,
    /// Those that tell a problem again.
    pub repeats: u64,
    /// Those that link rightly to an earlier case of the problem.
    pub recurrences: u64,
    /// Problems in the truth.
    pub problems: u64,
    /// Those that are asked for.
    pub asked: u64,
    /// Those of them that a case was filed for while they stood.
    pub found: u64,
    /// Those of them that none was filed for.
    pub missed: u64,
    /// Problems that would be asked for, but that the open case of another problem at their site speaks for.
    pub held: u64,
    /// False cases, by what they are about.
    pub wrong_about: BTreeMap<String, u64>,
    /// Missed problems, by kind.
    pub missed_kinds: BTreeMap<String, u64>,
}

/// Everything that came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Of all rules together.
    #[serde(flatten)]
    pub all: Counts,
    /// By rule. A problem counts for the first rule of its category.
    pub by_rule: BTreeMap<String, Counts>,
}

/// Holds a replay's cases against the truth while it runs.
#[derive(Debug)]
pub struct Trial {
    plan: Arc<Plan>,
    things: Vec<Thing>,
    /// Indices of `things` by their beginning, and how many of them have come.
    coming: Vec<usize>,
    come: usize,
    /// Those that stand now, and when the first of them is over.
    standing: Vec<usize>,
    first_over: Timestamp,
    /// The hours of the plan's rules, in their order.
    hours: Vec<Lately>,
    /// The last look of each camera and whether it was clear.
    looks: BTreeMap<CameraId, (Timestamp, bool)>,
    /// Open cases of problems: which thing, and who sees it where the view has no coordinates.
    open: BTreeMap<CaseId, Open>,
    /// Counts the changes of `open`.
    version: u64,
    counts: BTreeMap<String, Counts>,
}

#[derive(Debug)]
struct Open {
    thing: usize,
    at: LonLat,
    uncertainty_m: f64,
    /// The camera and zone of a case that has no place of its own.
    view_site: Option<(CameraId, Option<String>)>,
}

#[derive(Debug)]
struct Thing {
    truth: Truth,
    /// Index into the plan's rules.
    rule: Option<usize>,
    sights: Vec<Sight>,
    /// The newest case about it.
    case: Option<CaseId>,
    is_found: bool,
    /// Of which version of the open cases `is_held` is.
    version: Option<u64>,
    is_held: bool,
}

/// How long one camera had a thing in clear sight.
#[derive(Debug)]
struct Sight {
    camera: CameraId,
    bbox: BBox,
    hidden: Vec<(f64, f64)>,
    /// Of `hidden`, how many are over.
    past: usize,
    /// While no other problem's open case spoke for it, and in all.
    free: Duration,
    in_all: Duration,
}

impl Trial {
    /// Against these truths, for cases by `plan`.
    pub fn new(truths: Vec<Truth>, plan: Arc<Plan>) -> Self {
        let things: Vec<Thing> = truths.into_iter().map(|t| Thing::new(t, &plan)).collect();
        let hours = vec![Lately::default(); plan.rules.len()];
        let mut coming: Vec<usize> = (0..things.len()).collect();
        coming.sort_by_key(|i| things[*i].truth.from);
        Self {
            plan,
            things,
            coming,
            come: 0,
            standing: Vec::new(),
            first_over: Timestamp::MAX,
            hours,
            looks: BTreeMap::new(),
            open: BTreeMap::new(),
            version: 0,
            counts: BTreeMap::new(),
        }
    }

    /// A look that the replay tells. To be told before what the engine made of it.
    pub fn look(&mut self, look: &Observation) {
        self.advance(look.at);
        let is_clear = look.view == View::Clear;
        let Some(before) = self.looks.insert(look.camera.clone(), (look.at, is_clear)) else {
            return;
        };
        if !is_clear || !before.1 || look.at <= before.0 {
            return;
        }
        for i in 0..self.standing.len() {
            let index = self.standing[i];
            if self.things[index].truth.problem && self.things[index].sights.iter().any(|s| s.camera == look.camera) {
                let is_held = self.is_held(index);
                let between = (before.0, look.at);
                self.things[index].seen(&look.camera, between, is_held, &self.plan, &mut self.hours);
            }
        }
    }

    /// What the engine made of it: each case it opened is judged.
    pub fn take(&mut self, effects: &[Effect]) -> Vec<(CaseId, Judged)> {
        let mut judged = Vec::new();
        for effect in effects {
            match effect {
                Effect::Open(case) => judged.push((case.id.clone(), self.opened(case))),
                Effect::Revise { case, state, .. } => self.revised(case, *state),
                _ => {}
            }
        }
        judged
    }

    /// The sum, and what was missed, by the time it came.
    pub fn finish(mut self) -> (Outcome, Vec<Missed>) {
        let mut missed = Vec::new();
        for i in &self.coming {
            let thing = &self.things[*i];
            let Some(rule) = thing.rule.map(|r| &self.plan.rules[r]).filter(|_| thing.truth.problem) else {
                continue;
            };
            let counts = self.counts.entry(rule.id.to_string()).or_default();
            counts.problems += 1;
            let enough = rule.dwell + rule.dwell.mul_f64(GRACE_SHARE).max(LEAST_GRACE);
            let best = |of: fn(&Sight) -> Duration| thing.sights.iter().map(of).max().unwrap_or_default();
            if best(|s| s.free) >= enough {
                counts.asked += 1;
                if thing.is_found {
                    counts.found += 1;
                } else {
                    counts.missed += 1;
                    *counts.missed_kinds.entry(thing.truth.kind.clone()).or_default() += 1;
                    missed.push(Missed {
                        id: thing.truth.id.clone(),
                        kind: thing.truth.kind.clone(),
                        category: thing.truth.category.clone(),
                        in_sight_s: best(|s| s.in_all).as_secs_f64(),
                    });
                }
            } else if best(|s| s.in_all) >= enough && !thing.is_found {
                counts.held += 1;
            }
        }
        let mut outcome = Outcome::default();
        for (rule, counts) in self.counts {
            outcome.all.add(&counts);
            outcome.by_rule.insert(rule, counts.shares());
        }
        outcome.all = outcome.all.shares();
        (outcome, missed)
    }

    fn advance(&mut self, now: Timestamp) {
        while let Some(i) = self
            .coming
            .get(self.come)
            .filter(|i| self.things[**i].truth.from <= now)
        {
            self.standing.push(*i);
            self.first_over = self.first_over.min(self.things[*i].over());
            self.come += 1;
        }
        if now > self.first_over {
            let things = &self.things;
            self.standing.retain(|i| now <= things[*i].over());
            let over = self.standing.iter().map(|i| things[*i].over());
            self.first_over = over.min().unwrap_or(Timestamp::MAX);
        }
    }

    fn opened(&mut self, case: &Case) -> Judged {
        self.advance(case.confirmed_at);
        let of_it = |i: &usize| Some((*i, self.things[*i].nearness(case)?));
        // A thing that is a problem goes before one that is none, then the nearer.
        let about = self.standing.iter().filter_map(of_it).min_by(|a, b| {
            let is_none = |i: usize| !self.things[i].truth.problem;
            is_none(a.0).cmp(&is_none(b.0)).then(a.1.total_cmp(&b.1))
        });
        let about = about.map(|(i, _)| i);
        let verdict = match about {
            Some(i) if self.things[i].truth.problem => self.about(i, case),
            _ => Verdict::False,
        };
        let thing = about.map(|i| &self.things[i].truth);
        let judged = Judged {
            verdict,
            about: thing.map(|t| t.id.clone()),
            kind: thing.map_or_else(|| "nothing".into(), |t| t.kind.clone()),
        };
        let counts = self.counts.entry(case.rule.to_string()).or_default();
        counts.judged += 1;
        match verdict {
            Verdict::False => {
                counts.wrong += 1;
                *counts.wrong_about.entry(judged.kind.clone()).or_default() += 1;
            }
            Verdict::Right => counts.right += 1,
            Verdict::Recurrence => {
                counts.right += 1;
                counts.recurrences += 1;
            }
            Verdict::Repeated => {
                counts.right += 1;
                counts.repeats += 1;
            }
        }
        judged
    }

    /// `case` is about the problem `i`.
    fn about(&mut self, i: usize, case: &Case) -> Verdict {
        let thing = &mut self.things[i];
        thing.is_found = true;
        let verdict = match thing.case.replace(case.id.clone()) {
            None => Verdict::Right,
            Some(before) if !self.open.contains_key(&before) && case.recurrence.is_some() => Verdict::Recurrence,
            Some(_) => Verdict::Repeated,
        };
        let is_of_the_view = case.located.method == PlaceMethod::CameraPoint;
        let zone = || case.zone.as_ref().map(ToString::to_string);
        self.open.insert(
            case.id.clone(),
            Open {
                thing: i,
                at: case.located.at,
                uncertainty_m: case.located.uncertainty_m,
                view_site: is_of_the_view.then(|| (case.camera.clone(), zone())),
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

    /// True while the open case of another problem speaks for `index`: it is at the case's site, which is what lies within the
    /// rule's merge radius or twice its uncertainty, or the same zone of a view that cannot tell places apart.
    fn is_held(&mut self, index: usize) -> bool {
        let thing = &self.things[index];
        if thing.version == Some(self.version) {
            return thing.is_held;
        }
        let is_held = thing.rule.is_some_and(|rule| {
            let rule = &self.plan.rules[rule];
            self.open
                .values()
                .any(|open| open.thing != index && self.speaks_for(open, thing, rule))
        });
        let thing = &mut self.things[index];
        thing.version = Some(self.version);
        thing.is_held = is_held;
        is_held
    }

    fn speaks_for(&self, open: &Open, thing: &Thing, rule: &Rule) -> bool {
        let other = &self.things[open.thing];
        if other.truth.category != thing.truth.category {
            return false;
        }
        if let Some((camera, zone)) = &open.view_site
            && let Some(sight) = thing.sights.iter().find(|s| s.camera == *camera)
        {
            return zone_of(&self.plan, camera, rule, rule.held_at(&sight.bbox)) == *zone;
        }
        let radius = rule.merge_radius_m.max(2.0 * open.uncertainty_m);
        thing
            .truth
            .place
            .is_some_and(|place| distance_m(place, open.at) <= radius)
    }
}

impl Thing {
    fn new(truth: Truth, plan: &Plan) -> Self {
        let rule = plan.rules.iter().position(|r| r.category.code == truth.category);
        let mut sights: Vec<Sight> = truth
            .views
            .iter()
            .map(|v| Sight {
                camera: v.camera.clone(),
                bbox: v.bbox,
                hidden: v.hidden_s.clone(),
                past: 0,
                free: Duration::ZERO,
                in_all: Duration::ZERO,
            })
            .collect();
        if let (true, Some(place)) = (truth.views.is_empty(), truth.place) {
            sights.extend(plan.cameras.iter().filter_map(|(id, camera)| {
                Some(Sight {
                    camera: id.clone(),
                    bbox: shown_at(&camera.place, place)?,
                    hidden: Vec::new(),
                    past: 0,
                    free: Duration::ZERO,
                    in_all: Duration::ZERO,
                })
            }));
        }
        Self {
            truth,
            rule,
            sights,
            case: None,
            is_found: false,
            version: None,
            is_held: false,
        }
    }

    /// Until when a case may be about it.
    fn over(&self) -> Timestamp {
        self.truth.to.saturating_add(CLOCK).unwrap_or(Timestamp::MAX)
    }

    /// The time between two clear looks of one camera passed.
    fn seen(
        &mut self,
        camera: &CameraId,
        (before, at): (Timestamp, Timestamp),
        is_held: bool,
        plan: &Plan,
        hours: &mut [Lately],
    ) {
        let Some((rule, hours)) = self.rule.map(|r| (&plan.rules[r], &mut hours[r])) else {
            return;
        };
        let Some(sight) = self.sights.iter_mut().find(|s| s.camera == *camera) else {
            return;
        };
        let away = plan.cameras.get(camera).map_or(Duration::ZERO, |c| c.away);
        let is_gap = Duration::try_from(at.duration_since(before)).is_ok_and(|gap| gap > rule.max_gap.max(away));
        let (from, to) = (before.max(self.truth.from), at.min(self.truth.to));
        if is_gap || from >= to {
            return;
        }
        let since_from = |t: Timestamp| t.duration_since(self.truth.from).as_secs_f64();
        let (from_s, to_s) = (since_from(from), since_from(to));
        while sight.hidden.get(sight.past).is_some_and(|h| h.1 <= from_s) {
            sight.past += 1;
        }
        let hidden: f64 = sight.hidden[sight.past..]
            .iter()
            .take_while(|h| h.0 < to_s)
            .map(|h| (h.1.min(to_s) - h.0.max(from_s)).max(0.0))
            .sum();
        let worked = hours.worked(&plan.calendar, &rule.hours, from, to);
        let seen = worked.saturating_sub(Duration::from_secs_f64(hidden));
        sight.in_all += seen;
        if !is_held {
            sight.free += seen;
        }
    }

    /// How far `case` is from being about this, 0 for the very place; `None` where it is about something else.
    fn nearness(&self, case: &Case) -> Option<f64> {
        let is_while_it_stood = self
            .truth
            .from
            .saturating_sub(CLOCK)
            .is_ok_and(|from| from <= case.confirmed_at);
        if self.truth.category != case.category.code || !is_while_it_stood {
            return None;
        }
        if let Some(sight) = self.sights.iter().find(|s| s.camera == case.camera) {
            return near(&sight.bbox, &case.confirmed_box);
        }
        // The cameras that see it are named, and this one is not, or it has no place.
        if case.located.method == PlaceMethod::CameraPoint {
            return None;
        }
        let reach = LEAST_REACH_M.max(2.0 * case.located.uncertainty_m);
        let distance = distance_m(self.truth.place?, case.located.at);
        (distance <= reach).then_some(distance / reach)
    }
}

/// How far a case's box is from the thing's, in units of what is near enough.
fn near(thing: &BBox, case: &BBox) -> Option<f64> {
    let (a, b) = (thing.foot(), case.foot());
    let off = ((a.x - b.x) / thing.width())
        .abs()
        .max(((a.y - b.y) / thing.height()).abs());
    (off <= FOOT_WITHIN || thing.iou(case) >= SAME_THING_IOU).then_some(off)
}

/// A box, a tenth of the picture, where a calibrated view shows the place; `None` where it does not.
fn shown_at(place: &Place, at: LonLat) -> Option<BBox> {
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

/// The first watch zone for the rule that holds the foot, as the engine takes it.
fn zone_of(plan: &Plan, camera: &CameraId, rule: &Rule, foot: Point) -> Option<String> {
    let zones = &plan.cameras.get(camera)?.zones;
    let zone = zones.iter().find(|z| {
        z.kind == ZoneKind::Watch
            && (z.rules.is_empty() || z.rules.contains(&rule.id))
            && side_of(&z.polygon, foot) != Side::Outside
    })?;
    Some(zone.id.to_string())
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.judged += other.judged;
        self.right += other.right;
        self.wrong += other.wrong;
        self.repeats += other.repeats;
        self.recurrences += other.recurrences;
        self.problems += other.problems;
        self.asked += other.asked;
        self.found += other.found;
        self.missed += other.missed;
        self.held += other.held;
        for (mine, theirs) in [
            (&mut self.wrong_about, &other.wrong_about),
            (&mut self.missed_kinds, &other.missed_kinds),
        ] {
            for (kind, count) in theirs {
                *mine.entry(kind.clone()).or_default() += count;
            }
        }
    }

    fn shares(mut self) -> Self {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        self.precision = share(self.right, self.judged);
        self.recall = share(self.found, self.asked);
        self.repeated = share(self.repeats, self.judged);
        self
    }
}
