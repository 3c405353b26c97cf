//! The simulated detector: what it detects of the visible objects, what it misses, and its false detections.
//!
//! A detection's score comes from a threshold model: a latent number, standard normal over all objects and looks (`Sighting`), is
//! cut where a fraction `--detector-recall` lies above, and the cut corresponds to the rule's keep score.

use fastrand::Rng;

use super::{
    clock::{DAY, Ms},
    kinds::UNLABELLED,
    random::{Distributions, normal_quantile, stream},
    street::StreetObject,
    town::StreetCamera,
    views::Occluders,
};
use gridwatch_engine::{BBox, Detection, Label, Light, Plan};

/// Loss of a detector trained on colour in infrared, in standard deviations: 0.7 becomes 0.61.
const NIGHT_LOSS: f64 = 0.25;
/// Loss in standard deviations if the whole object were hidden; proportional to the hidden part.
const HIDDEN_LOSS: f64 = 1.0;
/// Score per standard deviation above the cut: with a keep score of 0.3 a third of all looks score 0.5 or more.
const SLOPE: f64 = 0.22;
/// Lowest and highest score that the detector reports.
const FLOOR: f64 = 0.1;
const CEILING: f64 = 0.97;
/// Standard deviation of box edges, as a fraction of width or height.
const JITTER: f64 = 0.04;
/// Fraction of the boxes of single-part objects (a heap's bags) that are split in two, and fraction of near neighbours that are
/// merged into one.
const SPLIT: f64 = 0.03;
const MERGED: f64 = 0.05;
/// Mean number of passers-by per look in the busiest hour.
const PASSERS: f64 = 1.2;

/// Fraction of false detections from spots that repeat (a reflection, a shadow, a bin's lid); the others lie anywhere.
const SPOTS_SHARE: f64 = 0.6;
/// Duration of a spot in minutes, until the sun has moved on: median, and sigma of the logarithm.
pub(super) const SPOT_MIN: (f64, f64) = (25.0, 0.8);
/// Lowest detection rate of an active spot; the highest is `--stubborn`. Rates are uniform in the logarithm, so most spots
/// are rare.
const MIN_SPOT_RATE: f64 = 0.02;
/// Number of a camera's recurring spots, which come back on other days. Half of the spots are recurring, the others new.
const RECURRING_SPOTS: u64 = 3;
/// Mean surplus of a false detection's score over the keep score.
const FALSE_SURPLUS: f64 = 0.12;
/// Range of the size of false detections, as fractions of the picture.
const FALSE_SIZE: (f64, f64) = (0.03, 0.12);
/// Fraction of the false spots that the models also find in a crop around them: 1 of 5 (docs/models.md, "A second look").
const FALSE_IN_CROP: f64 = 0.2;

/// The detector's parameters.
#[derive(Debug, Clone)]
pub(super) struct DetectorProfile {
    /// The latent number at the keep score.
    cut: f64,
    false_per_look: f64,
    /// Detection rate of the most persistent false spot.
    max_spot_rate: f64,
    /// Labels of false detections: the rules' labels, each with the rule's keep score.
    labels: Vec<(Label, f64)>,
    /// The keep score for all other labels.
    default_keep: f64,
}

impl DetectorProfile {
    /// `recall` is strictly between 0 and 1, per daytime look at an unobstructed object.
    pub(super) fn new(recall: f64, false_per_look: f64, max_spot_rate: f64, plan: &Plan) -> Self {
        let mut labels: Vec<(Label, f64)> = Vec::new();
        for rule in &plan.rules {
            // Unknown objects are found by the change map, not by a network.
            for label in rule.labels.iter().filter(|l| l.as_str() != UNLABELLED) {
                if labels.iter().all(|(l, _)| l != label) {
                    labels.push((label.clone(), rule.day.keep.into()));
                }
            }
        }
        // Attendants are detected at the keep score of the rule that asks for them.
        let attended = plan.rules.iter().filter(|r| r.attended.is_some());
        let default_keep = attended.map(|r| f64::from(r.day.keep)).fold(0.3, f64::max);
        Self {
            cut: normal_quantile(1.0 - recall),
            false_per_look,
            max_spot_rate: max_spot_rate.max(2.0 * MIN_SPOT_RATE),
            labels,
            default_keep,
        }
    }

    fn keep(&self, label: &str) -> f64 {
        self.labels
            .iter()
            .find(|(l, _)| l.as_str() == label)
            .map_or(self.default_keep, |(_, keep)| *keep)
    }

    /// The score for a latent number; `None` below the reporting floor.
    fn score(&self, keep: f64, latent: f64) -> Option<f32> {
        let score = keep + SLOPE * (latent - self.cut);
        (score >= FLOOR).then_some(score.min(CEILING) as f32)
    }
}

/// A place that is falsely detected for a while.
#[derive(Debug, Clone)]
pub(super) struct FalseSpot {
    /// Identifies a recurring spot.
    pub(super) name: u64,
    pub(super) from: Ms,
    pub(super) to: Ms,
    /// It comes back on other days: a stain, a cabinet, a façade. Others are passing: a shadow, wet ground.
    pub(super) is_recurring: bool,
    label: usize,
    pub(super) bbox: BBox,
    /// Fraction of the looks that detect it.
    rate: f64,
    /// Mean surplus of its score over the keep score.
    surplus: f64,
}

/// One look of a camera.
#[derive(Clone, Copy)]
pub(super) struct SimulatedLook<'a> {
    pub(super) camera: &'a StreetCamera,
    /// The camera's index at its corner.
    pub(super) nth: usize,
    pub(super) occluders: &'a Occluders,
    pub(super) now: Ms,
    /// The local time of day, 0..24.
    pub(super) hour: f64,
    pub(super) light: Light,
    pub(super) profile: &'a DetectorProfile,
}

/// One camera's detector.
#[derive(Debug)]
pub(super) struct SimulatedDetector {
    seed: u64,
    camera: usize,
    rng: Rng,
    /// Sorted by start; expired ones are removed.
    spots: Vec<FalseSpot>,
}

impl SimulatedDetector {
    pub(super) fn new(seed: u64, camera: usize) -> Self {
        Self {
            seed,
            camera,
            rng: stream(seed, "eye", &[camera as u64]),
            spots: Vec::new(),
        }
    }

    /// Draws the false spots of a day; returns those with their labels.
    pub(super) fn day(&mut self, day: u32, profile: &DetectorProfile) -> Vec<(FalseSpot, Label)> {
        let mut drawn = Vec::new();
        let begin = Ms::from(day) * DAY;
        let mut rng = stream(self.seed, "spots", &[self.camera as u64, day.into()]);
        // The means of the log-uniform rate and the log-normal duration give the number of spots for their share of false
        // detections.
        let most = profile.max_spot_rate;
        let mean_rate = (most - MIN_SPOT_RATE) / (most / MIN_SPOT_RATE).ln();
        let mean_min = SPOT_MIN.0 * (SPOT_MIN.1 * SPOT_MIN.1 / 2.0).exp();
        let per_day = SPOTS_SHARE * profile.false_per_look * 24.0 * 60.0 / (mean_rate * mean_min);
        for _ in 0..rng.poisson(per_day) {
            let from = begin + rng.between(0.0, DAY as f64) as Ms;
            let lasts = rng.log_normal(SPOT_MIN.0, SPOT_MIN.1) * 60_000.0;
            let is_recurring = rng.bool();
            let mut looks = if is_recurring {
                stream(self.seed, "old spot", &[self.camera as u64, rng.u64(..RECURRING_SPOTS)])
            } else {
                rng.fork()
            };
            let (to, name) = (from + lasts as Ms, looks.u64(..));
            if self.spots.iter().any(|s| s.name == name && s.from < to && from < s.to) {
                // A spot is active once at a time.
                continue;
            }
            let spot = FalseSpot {
                name,
                from,
                to,
                is_recurring,
                label: looks.usize(..profile.labels.len().max(1)),
                bbox: random_box(&mut looks),
                surplus: looks.between(0.5, 1.5) * FALSE_SURPLUS,
                rate: MIN_SPOT_RATE * (most / MIN_SPOT_RATE).powf(rng.f64()),
            };
            if let Some((label, _)) = profile.labels.get(spot.label) {
                drawn.push((spot.clone(), label.clone()));
            }
            self.spots.push(spot);
        }
        self.spots.sort_by_key(|s| s.from);
        drawn
    }

    /// The false spots that are active at `now`.
    pub(super) fn spots(&self, now: Ms) -> impl Iterator<Item = &FalseSpot> {
        let started = self.spots.iter().take_while(move |s| s.from <= now);
        started.filter(move |s| s.to > now)
    }

    /// What the models find in a crop around `place`: the parts of objects there, with the noise of another picture but no better
    /// than in a whole picture (what a crop's resolution gains is not known), and seldom a false spot.
    pub(super) fn look_closely(
        &self,
        look: &SimulatedLook<'_>,
        objects: &[StreetObject],
        place: &BBox,
        rng: &mut Rng,
    ) -> Vec<Detection> {
        let mut found = Vec::new();
        for object in objects.iter().filter(|o| o.is_there(look.now)) {
            for part in (0..object.kind.parts.len()).filter(|i| object.has(*i) && is_labelled(object, *i)) {
                let Some(SeenPart {
                    seen: Some(seen),
                    whole,
                }) = look.part(object, part)
                else {
                    continue;
                };
                if seen.is_part_of(place) {
                    let latent = object.sightings[look.nth].latent_with(part, rng.normal());
                    let score = look.score(object.kind.parts[part].label, latent, &whole, &seen);
                    let bbox = jittered(seen, rng);
                    found.extend(
                        score
                            .zip(bbox)
                            .map(|(s, b)| detection(object.kind.parts[part].label.into(), s, b)),
                    );
                }
            }
        }
        for spot in self.spots(look.now).filter(|s| s.bbox.is_part_of(place)) {
            if rng.happens(FALSE_IN_CROP) {
                found.extend(false_detection(spot.label, spot.bbox, spot.surplus, look.profile, rng));
            }
        }
        found
    }

    /// The detections of one look at the objects of the camera's corner.
    pub(super) fn look(&mut self, look: &SimulatedLook<'_>, objects: &mut [StreetObject]) -> Vec<Detection> {
        let now = look.now;
        let mut found: Vec<Detection> = Vec::new();
        for object in objects.iter_mut().filter(|t| t.is_there(now)) {
            object.advance_parts(now);
            detect_object(look, object, &mut found);
        }
        merge(&mut found, &mut self.rng);
        self.add_passers(look, &mut found);
        self.add_false_detections(now, look.profile, &mut found);
        found
    }

    /// Adds passers-by.
    fn add_passers(&mut self, look: &SimulatedLook<'_>, found: &mut Vec<Detection>) {
        let SimulatedLook {
            camera,
            occluders,
            profile,
            ..
        } = *look;
        for _ in 0..self.rng.poisson(PASSERS * busy(look.hour)) {
            let side = if self.rng.bool() { 1.0 } else { -1.0 };
            let at = (self.rng.between(-11.0, 11.0), side * self.rng.between(3.8, 7.6));
            let score = profile.score(profile.default_keep, self.rng.normal());
            let framed = camera
                .lens
                .project_box(at, (0.55, 1.68), 0.0)
                .and_then(BBox::within_picture);
            let seen = framed.and_then(|b| occluders.visible(b, camera.is_across(at)));
            if let (Some(bbox), Some(score)) = (seen, score) {
                found.push(detection("person".into(), score, bbox));
            }
        }
    }

    /// Adds false detections.
    fn add_false_detections(&mut self, now: Ms, profile: &DetectorProfile, found: &mut Vec<Detection>) {
        if profile.labels.is_empty() {
            return;
        }
        self.spots.retain(|s| s.to > now);
        let rng = &mut self.rng;
        for spot in self.spots.iter().take_while(|s| s.from <= now) {
            if rng.happens(spot.rate) {
                found.extend(false_detection(spot.label, spot.bbox, spot.surplus, profile, rng));
            }
        }
        for _ in 0..rng.poisson((1.0 - SPOTS_SHARE) * profile.false_per_look) {
            let label = rng.usize(..profile.labels.len());
            let bbox = random_box(rng);
            found.extend(false_detection(label, bbox, FALSE_SURPLUS, profile, rng));
        }
    }
}

/// Where a part of an object is in the picture.
pub(super) struct SeenPart {
    /// The part, cut off at the picture's edge.
    pub(super) whole: BBox,
    /// What occluders leave of it; `None` if that is too little.
    pub(super) seen: Option<BBox>,
}

impl SimulatedLook<'_> {
    /// Where a part of an object is; `None` outside the picture.
    pub(super) fn part(&self, object: &StreetObject, part: usize) -> Option<SeenPart> {
        let part = &object.kind.parts[part];
        let (at, size) = (object.at(self.now), object.size(self.now));
        let stands = (at.0 + part.aside_m, at.1);
        let (wide, high) = part.size_m;
        let framed = self
            .camera
            .lens
            .project_box(stands, (wide * size, high * size), part.up_m);
        let whole = framed.and_then(BBox::within_picture)?;
        Some(SeenPart {
            whole,
            seen: self.occluders.visible(whole, self.camera.is_across(stands)),
        })
    }

    /// The score of a part with this latent number; `None` below the reporting floor.
    fn score(&self, label: &str, latent: f64, whole: &BBox, seen: &BBox) -> Option<f32> {
        let missing = HIDDEN_LOSS * (1.0 - seen.width() / whole.width());
        let dark = if self.light == Light::Night { NIGHT_LOSS } else { 0.0 };
        self.profile.score(self.profile.keep(label), latent - missing - dark)
    }
}

/// Adds the detections of one object's parts.
fn detect_object(look: &SimulatedLook<'_>, object: &mut StreetObject, found: &mut Vec<Detection>) {
    let SimulatedLook { nth, now, .. } = *look;
    object.sightings[nth].advance_slow(now);
    let mut goods_hidden = None;
    for (i, part) in object.kind.parts.iter().enumerate() {
        let latent = object.sightings[nth].latent(i);
        if !object.has(i) {
            continue;
        }
        let Some(SeenPart { whole, seen }) = look.part(object, i) else {
            continue;
        };
        // An object counts as hidden while its first part, which the rule is about, is fully hidden.
        goods_hidden.get_or_insert(seen.is_none());
        let Some(seen) = seen.filter(|_| is_labelled(object, i)) else {
            continue;
        };
        if let Some(score) = look.score(part.label, latent, &whole, &seen) {
            let rng = &mut object.sightings[nth].rng;
            let is_split = object.kind.parts.len() == 1 && rng.happens(SPLIT);
            let halves = if is_split { halves(seen) } else { vec![seen] };
            for bbox in halves {
                found.extend(jittered(bbox, rng).map(|bbox| detection(part.label.into(), score, bbox)));
            }
        }
    }
    object.sightings[nth].hide(now, goods_hidden.unwrap_or(false));
}

/// True if the networks have a label for the part.
fn is_labelled(object: &StreetObject, part: usize) -> bool {
    object.kind.parts[part].label != UNLABELLED
}

fn detection(label: Label, score: f32, bbox: BBox) -> Detection {
    Detection::new(label, score, bbox)
}

/// A false detection of the label.
fn false_detection(
    label: usize,
    bbox: BBox,
    surplus: f64,
    profile: &DetectorProfile,
    rng: &mut Rng,
) -> Option<Detection> {
    let (label, keep) = &profile.labels[label];
    let score = (keep + rng.exponential(surplus)).min(CEILING) as f32;
    Some(detection(label.clone(), score, jittered(bbox, rng)?))
}

/// How busy a street is by hour, 0..=1: nearly empty at four, full from eight to twenty.
fn busy(hour: f64) -> f64 {
    match hour {
        h if h < 5.0 => 0.03,
        h if h < 8.0 => 0.03 + 0.97 * (h - 5.0) / 3.0,
        h if h < 20.0 => 1.0,
        h => 1.0 - 0.9 * (h - 20.0) / 4.0,
    }
}

fn jittered(bbox: BBox, rng: &mut Rng) -> Option<BBox> {
    let (wide, high) = (bbox.width(), bbox.height());
    let mut off = |size: f64| (JITTER * size * rng.normal()) as f32;
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

/// Merges some near neighbours with the same label.
fn merge(found: &mut Vec<Detection>, rng: &mut Rng) {
    let mut i = 0;
    while i < found.len() {
        let (one, rest) = (&found[i], &found[i + 1..]);
        let near = |d: &&Detection| d.label == one.label && one.bbox.shift_to(&d.bbox) < 1.0;
        if let Some(other) = rest.iter().position(|d| near(&d))
            && rng.happens(MERGED)
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

/// A random box on the ground of the picture.
pub(super) fn random_box(rng: &mut Rng) -> BBox {
    let (wide, high) = (
        rng.between(FALSE_SIZE.0, FALSE_SIZE.1),
        rng.between(FALSE_SIZE.0, FALSE_SIZE.1),
    );
    let (x, y) = (rng.between(0.0, 1.0 - wide), rng.between(0.3, 1.0 - 0.02));
    BBox {
        x1: x as f32,
        y1: (y - high) as f32,
        x2: (x + wide) as f32,
        y2: y as f32,
    }
}
