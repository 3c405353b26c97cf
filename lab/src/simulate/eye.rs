//! The detector: what it finds of what is in view, what it misses, and what it finds where nothing is.
//!
//! A box's score is a threshold model: a latent number, standard normal over all things and moments, is cut where
//! `--detector-recall` of it lies above, and that cut is the rule's keep score. It has three parts: how hard this thing is
//! to this camera, which never changes; light and crowd around it, which change over minutes; and the look's own noise. So
//! misses come in runs, and some things are missed more often than others.

use fastrand::Rng;

use super::{
    Clock, Ms,
    chance::{Chance, normal_quantile, stream},
    street::Thing,
    town::Camera,
    views::Blockers,
};
use gridwatch_engine::{BBox, Detection, Label, Light, Plan};

/// How much of the latent number's variance is the thing's own, changes over minutes, and is the look's. With these, one
/// thing in forty is found at less than 0.4 of the looks where the mean is 0.7.
const THINGS_OWN: f64 = 0.15;
const SLOW: f64 = 0.35;
const LOOKS_OWN: f64 = 0.5;
/// After so long light and crowd are others (to 1/e).
const SLOW_MS: f64 = 120_000.0;
/// By infrared a detector trained on colour is this much less sure, in standard deviations: 0.7 becomes 0.61.
const NIGHT: f64 = 0.25;
/// So much less where only a part is seen, for what is missing.
const HALF_SEEN: f64 = 1.0;
/// Score for each standard deviation above the cut: with a keep score of 0.3 a third of all looks score 0.5 or more.
const SLOPE: f64 = 0.22;
/// Below this no model reports anything, and above that none is sure.
const FLOOR: f64 = 0.1;
const CEILING: f64 = 0.97;
/// Edges of boxes jitter by this share of width and height, one standard deviation.
const JITTER: f64 = 0.04;
/// Of the boxes of what no part of a thing lists (bags of a heap), so many are split in two, and so many near neighbours are
/// merged into one.
const SPLIT: f64 = 0.03;
const MERGED: f64 = 0.05;
/// Persons walking by in the busiest hour, in one picture.
const PASSERS: f64 = 1.2;

/// Of the false boxes, so many come from spots that repeat (a reflection, a shadow, a bin's lid); the others lie anywhere.
const SPOTS_SHARE: f64 = 0.6;
/// A spot is active for about so long, as the sun moves on: half of the times less, and sigma of the logarithm.
const SPOT_MIN: (f64, f64) = (25.0, 0.8);
/// While it is active it is found at so many of the looks at least; at most at `--stubborn`, evenly in the logarithm, so that
/// most are rare.
const SPOT_RATE: f64 = 0.02;
/// Every second one is one of the camera's few old ones, which come back on other days; the others are new.
const OLD_SPOTS: u64 = 3;
/// False boxes score so much above the keep score, on average.
const FALSE_SCORE: f64 = 0.12;
/// How large false boxes are, as fractions of the picture.
const FALSE_SIZE: (f64, f64) = (0.03, 0.12);

/// What is asked of the detector.
#[derive(Debug, Clone)]
pub(super) struct Skill {
    /// What the latent number must be for the keep score.
    cut: f64,
    false_per_look: f64,
    /// Share of the looks that find the most stubborn false spot.
    stubborn: f64,
    /// What false boxes are taken for: the rules' labels, with the score at which a rule goes on with them.
    labels: Vec<(Label, f64)>,
    /// The keep score for every other label.
    other: f64,
}

impl Skill {
    /// `recall` strictly between 0 and 1, per look and box that nothing hides, by day.
    pub(super) fn new(recall: f64, false_per_look: f64, stubborn: f64, plan: &Plan) -> Self {
        let mut labels: Vec<(Label, f64)> = Vec::new();
        for rule in &plan.rules {
            for label in &rule.labels {
                if labels.iter().all(|(l, _)| l != label) {
                    labels.push((label.clone(), rule.day.keep.into()));
                }
            }
        }
        // Who stands by is looked for at the keep score of the rule that asks.
        let attended = plan.rules.iter().filter(|r| r.attended.is_some());
        let other = attended.map(|r| f64::from(r.day.keep)).fold(0.3, f64::max);
        Self {
            cut: normal_quantile(1.0 - recall),
            false_per_look,
            stubborn: stubborn.max(2.0 * SPOT_RATE),
            labels,
            other,
        }
    }

    fn keep(&self, label: &str) -> f64 {
        self.labels
            .iter()
            .find(|(l, _)| l.as_str() == label)
            .map_or(self.other, |(_, keep)| *keep)
    }

    /// The score of a latent number; `None` below what models report.
    fn score(&self, keep: f64, latent: f64) -> Option<f32> {
        let score = keep + SLOPE * (latent - self.cut);
        (score >= FLOOR).then_some(score.min(CEILING) as f32)
    }
}

/// How one camera sees one thing.
#[derive(Debug)]
pub(super) struct Sighted {
    chance: Rng,
    /// Of each part: what is its own, and what changes slowly.
    parts: Vec<(f64, f64)>,
    at: Ms,
    hidden: Vec<(Ms, Ms)>,
    hidden_since: Option<Ms>,
}

impl Sighted {
    pub(super) fn new(mut chance: Rng, parts: usize) -> Self {
        Self {
            parts: (0..parts).map(|_| (chance.normal(), chance.normal())).collect(),
            chance,
            at: Ms::MIN,
            hidden: Vec::new(),
            hidden_since: None,
        }
    }

    /// When it was hidden from this camera, until `end`.
    pub(super) fn hidden(&self, end: Ms) -> Vec<(Ms, Ms)> {
        let open = self.hidden_since.map(|since| (since, end));
        self.hidden.iter().copied().chain(open).collect()
    }

    fn hide(&mut self, now: Ms, is_hidden: bool) {
        match (is_hidden, self.hidden_since) {
            (true, None) => self.hidden_since = Some(now),
            (false, Some(since)) => {
                self.hidden.push((since, now));
                self.hidden_since = None;
            }
            _ => {}
        }
    }

    /// The latent number of a part at this look.
    fn latent(&mut self, part: usize) -> f64 {
        let (own, slow) = self.parts[part];
        THINGS_OWN.sqrt() * own + SLOW.sqrt() * slow + LOOKS_OWN.sqrt() * self.chance.normal()
    }

    /// Lets what changes slowly change.
    fn turn(&mut self, now: Ms) {
        if self.at != Ms::MIN {
            let kept = (-((now - self.at) as f64) / SLOW_MS).exp();
            for (_, slow) in &mut self.parts {
                *slow = kept * *slow + (1.0 - kept * kept).sqrt() * self.chance.normal();
            }
        }
        self.at = now;
    }
}

/// A false box that repeats.
#[derive(Debug)]
struct Spot {
    /// The same for the same old spot.
    name: u64,
    from: Ms,
    to: Ms,
    label: usize,
    bbox: BBox,
    /// Share of the looks that find it.
    rate: f64,
    /// Mean score above the keep score.
    surplus: f64,
}

/// One camera's detector.
#[derive(Debug)]
pub(super) struct Eye {
    seed: u64,
    camera: usize,
    chance: Rng,
    /// By the time they begin; those that are over go.
    spots: Vec<Spot>,
}

impl Eye {
    pub(super) fn new(seed: u64, camera: usize) -> Self {
        Self {
            seed,
            camera,
            chance: stream(seed, "eye", &[camera as u64]),
            spots: Vec::new(),
        }
    }

    /// Draws a day's false spots.
    pub(super) fn day(&mut self, day: u32, skill: &Skill) {
        let begin = Ms::from(day) * 86_400_000;
        let mut chance = stream(self.seed, "spots", &[self.camera as u64, day.into()]);
        // Means of a log-uniform rate and of a log-normal duration give how many make the share of the false boxes.
        let most = skill.stubborn;
        let mean_rate = (most - SPOT_RATE) / (most / SPOT_RATE).ln();
        let mean_min = SPOT_MIN.0 * (SPOT_MIN.1 * SPOT_MIN.1 / 2.0).exp();
        let per_day = SPOTS_SHARE * skill.false_per_look * 24.0 * 60.0 / (mean_rate * mean_min);
        for _ in 0..chance.poisson(per_day) {
            let from = begin + chance.between(0.0, 86_400_000.0) as Ms;
            let lasts = chance.log_normal(SPOT_MIN.0, SPOT_MIN.1) * 60_000.0;
            let is_old = chance.bool();
            let mut looks = if is_old {
                stream(self.seed, "old spot", &[self.camera as u64, chance.u64(..OLD_SPOTS)])
            } else {
                chance.fork()
            };
            let (to, name) = (from + lasts as Ms, looks.u64(..));
            if self.spots.iter().any(|s| s.name == name && s.from < to && from < s.to) {
                // One spot reflects once at a time.
                continue;
            }
            self.spots.push(Spot {
                name,
                from,
                to,
                label: looks.usize(..skill.labels.len().max(1)),
                bbox: anywhere(&mut looks),
                surplus: looks.between(0.5, 1.5) * FALSE_SCORE,
                rate: SPOT_RATE * (most / SPOT_RATE).powf(chance.f64()),
            });
        }
        self.spots.sort_by_key(|s| s.from);
    }

    /// What it finds in one picture; `which` of its corner's cameras it is.
    pub(super) fn look(
        &mut self,
        (camera, which): (&Camera, usize),
        things: &mut [Thing],
        blockers: &Blockers,
        now: Ms,
        (light, clock): (Light, &Clock),
        skill: &Skill,
    ) -> Vec<Detection> {
        let mut found: Vec<Detection> = Vec::new();
        for thing in things.iter_mut().filter(|t| t.from <= now && now < t.to) {
            thing.turn(now);
            self.find(thing, which, camera, blockers, now, light, skill, &mut found);
        }
        merge(&mut found, &mut self.chance);
        self.passers(camera, blockers, clock.hour(now), skill, &mut found);
        self.false_boxes(now, skill, &mut found);
        found
    }

    #[allow(clippy::too_many_arguments, reason = "all of them are one look's")]
    fn find(
        &mut self,
        thing: &mut Thing,
        which: usize,
        camera: &Camera,
        blockers: &Blockers,
        now: Ms,
        light: Light,
        skill: &Skill,
        found: &mut Vec<Detection>,
    ) {
        let (at, size) = (thing.at(now), thing.size(now));
        thing.sighted[which].turn(now);
        let mut goods_hidden = None;
        for (i, part) in thing.kind.parts.iter().enumerate() {
            let latent = thing.sighted[which].latent(i);
            if !thing.has(i) {
                continue;
            }
            let stands = (at.0 + part.aside_m, at.1);
            let framed = camera
                .lens
                .frames(stands, (part.size_m.0 * size, part.size_m.1 * size), part.up_m)
                .and_then(BBox::within_picture);
            let Some(whole) = framed else { continue };
            let seen = blockers.leave(whole, camera.is_across(stands));
            // A thing is hidden while all of its first part, the one that a rule is about, is.
            goods_hidden.get_or_insert(seen.is_none());
            let Some(seen) = seen else { continue };
            let missing = HALF_SEEN * (1.0 - seen.width() / whole.width());
            let dark = if light == Light::Night { NIGHT } else { 0.0 };
            let keep = skill.keep(part.label);
            if let Some(score) = skill.score(keep, latent - missing - dark) {
                let chance = &mut thing.sighted[which].chance;
                let is_split = thing.kind.parts.len() == 1 && chance.happens(SPLIT);
                let halves = if is_split { halves(seen) } else { vec![seen] };
                for bbox in halves {
                    found.extend(jittered(bbox, chance).map(|bbox| Detection {
                        label: part.label.into(),
                        score,
                        bbox,
                        appearance: None,
                        number: None,
                        closer: None,
                    }));
                }
            }
        }
        thing.sighted[which].hide(now, goods_hidden.unwrap_or(false));
    }

    /// People on their way.
    fn passers(&mut self, camera: &Camera, blockers: &Blockers, hour: f64, skill: &Skill, found: &mut Vec<Detection>) {
        for _ in 0..self.chance.poisson(PASSERS * busy(hour)) {
            let side = if self.chance.bool() { 1.0 } else { -1.0 };
            let at = (self.chance.between(-11.0, 11.0), side * self.chance.between(3.8, 7.6));
            let score = skill.score(skill.other, self.chance.normal());
            let framed = camera.lens.frames(at, (0.55, 1.68), 0.0).and_then(BBox::within_picture);
            let seen = framed.and_then(|b| blockers.leave(b, camera.is_across(at)));
            if let (Some(bbox), Some(score)) = (seen, score) {
                found.push(Detection {
                    label: "person".into(),
                    score,
                    bbox,
                    appearance: None,
                    number: None,
                    closer: None,
                });
            }
        }
    }

    /// What is not there.
    fn false_boxes(&mut self, now: Ms, skill: &Skill, found: &mut Vec<Detection>) {
        if skill.labels.is_empty() {
            return;
        }
        self.spots.retain(|s| s.to > now);
        let chance = &mut self.chance;
        for spot in self.spots.iter().take_while(|s| s.from <= now) {
            if chance.happens(spot.rate) {
                found.extend(unreal(spot.label, spot.bbox, spot.surplus, skill, chance));
            }
        }
        for _ in 0..chance.poisson((1.0 - SPOTS_SHARE) * skill.false_per_look) {
            let label = chance.usize(..skill.labels.len());
            let bbox = anywhere(chance);
            found.extend(unreal(label, bbox, FALSE_SCORE, skill, chance));
        }
    }
}

/// A false box of the label.
fn unreal(label: usize, bbox: BBox, surplus: f64, skill: &Skill, chance: &mut Rng) -> Option<Detection> {
    let (label, keep) = &skill.labels[label];
    Some(Detection {
        label: label.clone(),
        score: (keep + chance.exponential(surplus)).min(CEILING) as f32,
        bbox: jittered(bbox, chance)?,
        appearance: None,
        number: None,
        closer: None,
    })
}

/// How busy a street is at an hour of the day, 0..=1: nearly empty at four, full from eight to eight.
fn busy(hour: f64) -> f64 {
    match hour {
        h if h < 5.0 => 0.03,
        h if h < 8.0 => 0.03 + 0.97 * (h - 5.0) / 3.0,
        h if h < 20.0 => 1.0,
        h => 1.0 - 0.9 * (h - 20.0) / 4.0,
    }
}

fn jittered(bbox: BBox, chance: &mut Rng) -> Option<BBox> {
    let (wide, high) = (bbox.width(), bbox.height());
    let mut off = |size: f64| (JITTER * size * chance.normal()) as f32;
    BBox {
        x1: bbox.x1 + off(wide),
        y1: bbox.y1 + off(high),
        x2: bbox.x2 + off(wide),
        y2: bbox.y2 + off(high),
    }
    .within_picture()
}

fn halves(bbox: BBox) -> Vec<BBox> {
    let middle = f32::midpoint(bbox.x1, bbox.x2);
    vec![BBox { x2: middle, ..bbox }, BBox { x1: middle, ..bbox }]
}

/// Takes some neighbours of a label for one.
fn merge(found: &mut Vec<Detection>, chance: &mut Rng) {
    let mut i = 0;
    while i < found.len() {
        let (one, rest) = (&found[i], &found[i + 1..]);
        let near = |d: &&Detection| d.label == one.label && one.bbox.shift_to(&d.bbox) < 1.0;
        if let Some(other) = rest.iter().position(|d| near(&d))
            && chance.happens(MERGED)
        {
            let other = found.remove(i + 1 + other);
            let (a, b) = (found[i].bbox, other.bbox);
            found[i].score = found[i].score.max(other.score);
            found[i].bbox = BBox {
                x1: a.x1.min(b.x1),
                y1: a.y1.min(b.y1),
                x2: a.x2.max(b.x2),
                y2: a.y2.max(b.y2),
            };
        }
        i += 1;
    }
}

/// A box anywhere on the ground of the picture.
fn anywhere(chance: &mut Rng) -> BBox {
    let (wide, high) = (
        chance.between(FALSE_SIZE.0, FALSE_SIZE.1),
        chance.between(FALSE_SIZE.0, FALSE_SIZE.1),
    );
    let (x, y) = (chance.between(0.0, 1.0 - wide), chance.between(0.3, 1.0 - 0.02));
    BBox {
        x1: x as f32,
        y1: (y - high) as f32,
        x2: (x + wide) as f32,
        y2: y as f32,
    }
}
