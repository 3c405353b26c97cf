//! The objects in the streets: when they appear, how long they stay, which are present now, and the ground truth afterwards.
//!
//! Independent of the detector and of cases. Times are milliseconds since the start of the simulation.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{
    clock::{DAY, Ms, TownClock},
    kinds::{Arrivals, Hours, KINDS, Lawful, ObjectKind, Part, Stay, UNLABELLED},
    random::{Distributions, stream},
    sighting::Sighting,
    town::{Corner, Town},
    views::MIN_VISIBLE,
};
use gridwatch_engine::{BBox, Plan, Rule, ScheduleId};
use gridwatch_ledger::replay::truth::{GroundTruth, TruthView};

const MINUTE: f64 = 60_000.0;

/// Sigma of the logarithm of a place's rate: some places are worse than others.
const RATE_SIGMA: f64 = 0.6;
/// Fraction of the bags put out that the lorry forgets, which become a problem.
const FORGOTTEN: f64 = 0.06;
/// Fraction of the stalls on permitted pitches that stay after closing, and for how many minutes.
const STAYS_ON: f64 = 0.15;
const STAYS_ON_MIN: (f64, f64) = (15.0, 60.0);
/// Median time until a removed object comes back, for those that do.
const RETURN_MEDIAN_MIN: f64 = 2.0 * 24.0 * 60.0;
/// Longest stay: three days.
const MAX_STAY_MIN: f64 = 3.0 * 24.0 * 60.0;
/// Walking speed in m/s (Bohannon 1997: 1.3 to 1.5 at ease, slower when carrying things).
const WALK_M_S: (f64, f64) = (0.8, 1.4);
/// A walker enters at one end of the corner and leaves at the other: x in metres.
const WALK_FROM_M: f64 = 11.0;
/// Mean duration in minutes of the rarer state of a part that comes and goes (a buyer).
const SPELL_MIN: f64 = 1.5;
/// Sigma of the logarithm of an object's size.
const SIZE_SIGMA: f64 = 0.15;
/// A growing object starts at this fraction of its size and is full-grown after `GROWN_MIN`.
const GROWS_FROM: f64 = 0.55;
const GROWN_MIN: f64 = 180.0;

/// An object in the street.
#[derive(Debug)]
pub(super) struct StreetObject {
    pub(super) number: u32,
    pub(super) kind: &'static ObjectKind,
    place: usize,
    /// Its x and y; for a walker, those at half its time.
    at: (f64, f64),
    pub(super) from: Ms,
    pub(super) to: Ms,
    /// Not a problem before this time.
    lawful_until: Ms,
    /// Factor of its kind's size.
    size: f64,
    /// Speed along the street in m/s; 0 if it does not walk.
    speed_m_s: f64,
    parts: Vec<PartPresence>,
    rng: Rng,
    /// Its sightings by the corner's cameras, in their order.
    pub(super) sightings: Vec<Sighting>,
}

/// Whether a part is present, and until when.
#[derive(Debug)]
struct PartPresence {
    is_present: bool,
    until: Ms,
}

impl StreetObject {
    /// Its position.
    pub(super) fn at(&self, now: Ms) -> (f64, f64) {
        let middle = (self.from + self.to) as f64 / 2.0;
        (self.at.0 + self.speed_m_s * (now as f64 - middle) / 1000.0, self.at.1)
    }

    /// Its size as a factor of its kind's.
    pub(super) fn size(&self, now: Ms) -> f64 {
        if self.kind.grows {
            let grown = ((now - self.from) as f64 / MINUTE / GROWN_MIN).min(1.0);
            self.size * (GROWS_FROM + (1.0 - GROWS_FROM) * grown)
        } else {
            self.size
        }
    }

    /// True between its arrival and its leaving.
    pub(super) fn is_there(&self, now: Ms) -> bool {
        self.from <= now && now < self.to
    }

    /// True if it stays in its place.
    pub(super) fn is_still(&self) -> bool {
        self.speed_m_s == 0.0
    }

    /// True if it is to be filed if it stays.
    pub(super) fn is_problem(&self, now: Ms) -> bool {
        now >= self.lawful_until
    }

    /// Advances the presence of its parts to `now`.
    pub(super) fn advance_parts(&mut self, now: Ms) {
        for (presence, part) in self.parts.iter_mut().zip(self.kind.parts) {
            while part.present < 1.0 && presence.until <= now {
                presence.is_present = !presence.is_present;
                // The rarer of the two states lasts `SPELL_MIN` on average.
                let share = if presence.is_present {
                    part.present
                } else {
                    1.0 - part.present
                };
                let mean = SPELL_MIN * MINUTE * (share / (1.0 - share)).max(1.0);
                presence.until += self.rng.exponential(mean) as Ms + 1000;
            }
        }
    }

    /// True if the part is present.
    pub(super) fn has(&self, part: usize) -> bool {
        self.parts[part].is_present
    }

    /// The exact box around the parts with the rule's labels, or without a label, as a camera of the corner sees it.
    pub(super) fn frame(&self, corner: &Corner, camera: usize, town: &Town, rule: &Rule, now: Ms) -> Option<BBox> {
        let lens = &town.cameras[corner.cameras[camera]].lens;
        let (at, size) = (self.at(now), self.size(now));
        let parts = self.kind.parts.iter().filter(|p| is_about(rule, p));
        parts
            .filter_map(|p| lens.project_box((at.0 + p.aside_m, at.1), (p.size_m.0 * size, p.size_m.1 * size), p.up_m))
            .reduce(|a, b| BBox {
                x1: a.x1.min(b.x1),
                y1: a.y1.min(b.y1),
                x2: a.x2.max(b.x2),
                y2: a.y2.max(b.y2),
            })
    }

    /// True if it cannot share its place with another object.
    fn is_exclusive(&self) -> bool {
        is_exclusive(self.kind)
    }
}

fn is_exclusive(kind: &ObjectKind) -> bool {
    !matches!(kind.stays, Stay::Crossing) && kind.parts.iter().any(|p| p.label != "person")
}

/// A future object.
#[derive(Debug)]
struct Arrival {
    kind: &'static ObjectKind,
    place: usize,
    from: Ms,
    to: Ms,
    lawful_until: Ms,
}

/// The objects of one corner.
#[derive(Debug, Default)]
struct CornerObjects {
    objects: Vec<StreetObject>,
    /// Future objects by arrival time and sequence number.
    arrivals: BTreeMap<(Ms, u32), Arrival>,
    drawn: u32,
}

/// The objects of all corners.
#[derive(Debug)]
pub(super) struct Streets {
    seed: u64,
    clock: TownClock,
    corners: Vec<CornerObjects>,
    kinds: Vec<(&'static ObjectKind, Rule)>,
    /// Opening, closing and end of the grace period of the collection windows by category, and of the permitted pitches.
    collections: BTreeMap<&'static str, Vec<(Ms, Ms, Ms)>>,
    markets: Vec<(Ms, Ms, Ms)>,
    objects: u32,
    truths: Vec<GroundTruth>,
}

impl Streets {
    /// Empty streets, filled by [`Streets::day`]. `market` is the schedule of the permitted pitches.
    pub(super) fn new(seed: u64, clock: TownClock, days: u32, town: &Town, plan: &Plan, market: &ScheduleId) -> Self {
        let kinds: Vec<(&'static ObjectKind, Rule)> = KINDS
            .iter()
            .filter_map(|k| Some((k, rule_of(k, plan)?.clone())))
            .collect();
        let openings = |schedule: &ScheduleId, grace: Ms| openings(plan, &clock, days, schedule, grace);
        let collections = kinds
            .iter()
            .filter_map(|(kind, rule)| {
                let pause = rule.hours.pause.as_ref()?;
                Some((kind.category, openings(&pause.schedule, pause.after.as_millis() as Ms)))
            })
            .collect();
        Self {
            seed,
            corners: town.corners.iter().map(|_| CornerObjects::default()).collect(),
            markets: openings(market, 0),
            collections,
            clock,
            kinds,
            objects: 0,
            truths: Vec::new(),
        }
    }

    /// Draws the arrivals of a day.
    pub(super) fn day(&mut self, day: u32, town: &Town) {
        for (c, corner) in town.corners.iter().enumerate() {
            for k in 0..self.kinds.len() {
                let (kind, _) = self.kinds[k];
                let places = corner
                    .places
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| p.ground == kind.ground);
                for (p, _) in places {
                    let of = [c as u64, p as u64, k as u64, day.into()];
                    let mut rng = stream(self.seed, "comes", &of);
                    let rate_factor = stream(self.seed, "habit", &of[..2]).log_normal(1.0, RATE_SIGMA);
                    let drawn = self.draw(kind, p, day, rate_factor, &mut rng);
                    let corner_objects = &mut self.corners[c];
                    for arrival in drawn {
                        corner_objects.drawn += 1;
                        corner_objects
                            .arrivals
                            .insert((arrival.from, corner_objects.drawn), arrival);
                    }
                }
            }
        }
    }

    fn draw(&self, kind: &'static ObjectKind, place: usize, day: u32, rate_factor: f64, rng: &mut Rng) -> Vec<Arrival> {
        let day_start = Ms::from(day) * DAY;
        let stay = |rng: &mut Rng| match kind.stays {
            Stay::About { median_min, sigma } => rng.log_normal(median_min, sigma).min(MAX_STAY_MIN) * MINUTE,
            Stay::Minutes(least, most) => rng.between(least, most) * MINUTE,
            Stay::Crossing => 2.0 * WALK_FROM_M / rng.between(WALK_M_S.0, WALK_M_S.1) * 1000.0,
        } as Ms;
        let begins_today = |o: &&(Ms, Ms, Ms)| (day_start..day_start + DAY).contains(&o.0);
        match kind.arrivals {
            Arrivals::PerDay(rate, hours) => (0..rng.poisson(rate * rate_factor))
                .map(|_| {
                    let from = day_start + self.moment(hours, rng);
                    Arrival {
                        kind,
                        place,
                        from,
                        to: from + stay(rng),
                        lawful_until: if kind.lawful == Lawful::Always { Ms::MAX } else { from },
                    }
                })
                .collect(),
            Arrivals::InCollection(often) => {
                let windows = self
                    .collections
                    .get(kind.category)
                    .into_iter()
                    .flatten()
                    .filter(begins_today);
                let mut drawn = Vec::new();
                for (open, close, over) in windows {
                    let long = (close - open) as f64;
                    // Some are minutes early; the lorry comes in the second half, and may be late within the grace period.
                    let from = open - (10.0 * MINUTE) as Ms + rng.between(0.0, 0.5 * long) as Ms;
                    let collected_at = open + rng.between(0.55 * long, long + 0.6 * (over - close) as f64) as Ms;
                    let is_forgotten = rng.happens(FORGOTTEN);
                    if rng.happens(often) {
                        drawn.push(Arrival {
                            kind,
                            place,
                            from,
                            to: if is_forgotten { over + stay(rng) } else { collected_at },
                            lawful_until: *over,
                        });
                    }
                }
                drawn
            }
            Arrivals::Ever => {
                let permanent = Arrival {
                    kind,
                    place,
                    from: 0,
                    to: Ms::MAX / 2,
                    lawful_until: Ms::MAX,
                };
                (day == 0).then_some(permanent).into_iter().collect()
            }
            Arrivals::InMarketHours(often) => {
                let mut drawn = Vec::new();
                for (open, close, _) in self.markets.iter().filter(begins_today) {
                    let from = open + rng.between(0.0, 0.4 * (close - open) as f64) as Ms;
                    let stays_on = rng.happens(STAYS_ON);
                    let packs_up = close - (rng.between(-2.0, 10.0) * MINUTE) as Ms;
                    let to = if stays_on {
                        close + (rng.between(STAYS_ON_MIN.0, STAYS_ON_MIN.1) * MINUTE) as Ms
                    } else {
                        (from + stay(rng)).min(packs_up)
                    };
                    if rng.happens(often) && from < to {
                        drawn.push(Arrival {
                            kind,
                            place,
                            from,
                            to,
                            lawful_until: *close,
                        });
                    }
                }
                drawn
            }
        }
    }

    /// A time of day drawn by the hourly weights, in milliseconds after the simulated day began.
    fn moment(&self, hours: &Hours, rng: &mut Rng) -> Ms {
        let mut left = rng.f64() * hours.iter().sum::<f64>();
        let hour = hours.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let local = (hour.unwrap_or(12) as f64 + rng.f64()) * 60.0 * MINUTE;
        (local as Ms - self.clock.local_ms(0)).rem_euclid(DAY)
    }

    /// Advances a corner to `now`; the truth about objects that have left is recorded.
    pub(super) fn advance(&mut self, c: usize, now: Ms, town: &Town) {
        let corner = &town.corners[c];
        while let Some(entry) = self.corners[c].arrivals.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let arrival = entry.remove();
            let is_taken = self.corners[c]
                .objects
                .iter()
                .any(|t| t.place == arrival.place && t.to > arrival.from && t.is_exclusive());
            if !(is_taken && is_exclusive(arrival.kind)) {
                let object = self.spawn(c, arrival, corner);
                self.corners[c].objects.push(object);
            }
        }
        let mut i = 0;
        while i < self.corners[c].objects.len() {
            if self.corners[c].objects[i].to <= now {
                let gone = self.corners[c].objects.remove(i);
                self.record_truth(gone, corner, town);
            } else {
                i += 1;
            }
        }
    }

    fn spawn(&mut self, c: usize, arrival: Arrival, corner: &Corner) -> StreetObject {
        self.objects += 1;
        let Arrival {
            kind,
            place,
            from,
            to,
            lawful_until,
        } = arrival;
        let mut rng = stream(self.seed, "thing", &[c as u64, place as u64, from as u64]);
        let (x, y) = corner.places[place].at;
        // A permanent object is exactly where it was recorded.
        let is_fixed = matches!(kind.arrivals, Arrivals::Ever);
        let mut off = || if is_fixed { 0.0 } else { rng.between(-0.35, 0.35) };
        let at = (x + off(), y + off());
        let speed_m_s = match kind.stays {
            Stay::Crossing => 2.0 * WALK_FROM_M / ((to - from) as f64 / 1000.0) * if rng.bool() { 1.0 } else { -1.0 },
            _ => 0.0,
        };
        let presence = |p: &Part| PartPresence {
            is_present: rng.happens(p.present),
            until: from + rng.exponential(SPELL_MIN * MINUTE) as Ms,
        };
        let parts = kind.parts.iter().map(presence).collect();
        StreetObject {
            number: self.objects,
            kind,
            place,
            at: if speed_m_s == 0.0 { at } else { (0.0, at.1) },
            from,
            to,
            lawful_until,
            size: if is_fixed { 1.0 } else { rng.log_normal(1.0, SIZE_SIGMA) },
            speed_m_s,
            parts,
            sightings: corner
                .cameras
                .iter()
                .map(|camera| {
                    let of = [c as u64, place as u64, from as u64, *camera as u64];
                    Sighting::new(stream(self.seed, "sighted", &of), kind.parts.len())
                })
                .collect(),
            rng,
        }
    }

    /// The objects at a corner.
    pub(super) fn at(&mut self, c: usize) -> &mut [StreetObject] {
        &mut self.corners[c].objects
    }

    /// A crew removes an object if it is still there; some removed objects come back.
    pub(super) fn remove(&mut self, c: usize, number: u32, now: Ms) {
        let corner_objects = &mut self.corners[c];
        let Some(object) = corner_objects.objects.iter_mut().find(|t| t.number == number) else {
            return;
        };
        object.to = object.to.min(now);
        if object.rng.happens(object.kind.returns) {
            let from = now + (object.rng.log_normal(RETURN_MEDIAN_MIN, 0.7) * MINUTE) as Ms;
            let to = from + (object.rng.log_normal(180.0, 0.7) * MINUTE) as Ms;
            let arrival = Arrival {
                kind: object.kind,
                place: object.place,
                from,
                to,
                lawful_until: from,
            };
            corner_objects.drawn += 1;
            corner_objects.arrivals.insert((from, corner_objects.drawn), arrival);
        }
    }

    /// Ends the simulation and returns the truth about all objects, by arrival.
    pub(super) fn finish(mut self, now: Ms, town: &Town) -> Vec<GroundTruth> {
        for (c, corner) in town.corners.iter().enumerate() {
            self.advance(c, now, town);
            for mut object in std::mem::take(&mut self.corners[c].objects) {
                object.to = object.to.min(now);
                self.record_truth(object, corner, town);
            }
        }
        self.truths.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        self.truths
    }

    /// Records the truth about an object that has left: an entry for its lawful time, and one for its time as a problem.
    fn record_truth(&mut self, object: StreetObject, corner: &Corner, town: &Town) {
        let Some((_, rule)) = self.kinds.iter().find(|(k, _)| std::ptr::eq(*k, object.kind)) else {
            return;
        };
        let middle = (object.from + object.to) / 2;
        let shown_at = if object.speed_m_s == 0.0 { object.to } else { middle };
        let mut views = Vec::new();
        for (i, camera) in corner.cameras.iter().enumerate() {
            let bbox = object.frame(corner, i, town, rule, shown_at);
            // An object cut off by the picture's edge counts as visible as long as the detector could find the rest.
            let inside = bbox.and_then(|b| Some((b, b.within_picture()?)));
            if let Some((_, seen)) = inside.filter(|(b, seen)| seen.area() >= MIN_VISIBLE * b.area()) {
                let sighting = &object.sightings[i];
                views.push((*camera, seen, sighting.hidden(object.to), sighting.appeared));
            }
        }
        if views.is_empty() {
            return;
        }
        let phases = [
            (object.from, object.to.min(object.lawful_until), false),
            (object.from.max(object.lawful_until), object.to, true),
        ];
        for (from, to, problem) in phases.into_iter().filter(|(from, to, _)| from < to) {
            let views = views.iter().map(|(camera, bbox, hidden, appeared)| TruthView {
                camera: town.cameras[*camera].id.as_str().into(),
                bbox: *bbox,
                appeared: *appeared,
                hidden_s: if problem {
                    spans_within(hidden, from, to)
                } else {
                    Vec::new()
                },
            });
            let suffix = if problem { "" } else { "-lawful" };
            self.truths.push(GroundTruth {
                id: format!("t{:06}{suffix}", object.number),
                kind: object.kind.name.into(),
                category: object.kind.category.into(),
                problem,
                from: self.clock.at(from),
                to: self.clock.at(to),
                place: (object.speed_m_s == 0.0).then(|| corner.lon_lat(object.at(middle))),
                views: views.collect(),
            });
        }
    }
}

/// The spans within `from..to`, in seconds after `from`.
fn spans_within(spans: &[(Ms, Ms)], from: Ms, to: Ms) -> Vec<(f64, f64)> {
    let within = spans
        .iter()
        .map(|(a, b)| ((*a).max(from), (*b).min(to)))
        .filter(|(a, b)| a < b);
    within
        .map(|(a, b)| ((a - from) as f64 / 1000.0, (b - from) as f64 / 1000.0))
        .collect()
}

/// The rule for the kind's category; `None` if the plan has none, and the kind is left out.
fn rule_of<'a>(kind: &ObjectKind, plan: &'a Plan) -> Option<&'a Rule> {
    let rule = plan.rules.iter().find(|r| r.category.code == kind.category)?;
    let is_listed = kind.parts.iter().any(|p| is_about(rule, p));
    (is_listed || kind.lawful == Lawful::Always).then_some(rule)
}

/// True if the rule lists the part's label. What no network has a label for is a problem, too, whether the rule can find it or not.
fn is_about(rule: &Rule, part: &Part) -> bool {
    part.label == UNLABELLED || rule.labels.iter().any(|l| l.as_str() == part.label)
}

/// The openings of a schedule within the simulation, to the minute: opening, closing, and the end of the grace period.
fn openings(plan: &Plan, clock: &TownClock, days: u32, schedule: &ScheduleId, grace: Ms) -> Vec<(Ms, Ms, Ms)> {
    let mut found = Vec::new();
    let mut opened = None;
    for minute in 0..=i64::from(days) * 24 * 60 {
        let now = minute * 60_000;
        match (plan.calendar.is_open(schedule, clock.at(now)), opened) {
            (true, None) => opened = Some(now),
            (false, Some(open)) => {
                found.push((open, now, now + grace));
                opened = None;
            }
            _ => {}
        }
    }
    found
}
