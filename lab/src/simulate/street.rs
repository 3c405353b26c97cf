//! Life in the streets: when things come, how long they stay, what is there now, and the truth about it afterwards.
//!
//! It knows nothing of detectors and cases. Time is milliseconds since the simulation's beginning.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{
    Clock, Ms,
    chance::{Chance, stream},
    eye::Sighted,
    kinds::{Comes, Hours, KINDS, Kind, Lawful, Part, Stay},
    town::{Corner, Town},
    views::LEAST_SEEN,
};
use gridwatch_engine::{BBox, Plan, Rule, ScheduleId};
use gridwatch_ledger::replay::truth::{GroundTruth, TruthView};

const MINUTE: f64 = 60_000.0;
const DAY: Ms = 86_400_000;

/// Some corners are worse than others: of the logarithm of how much worse.
const HABIT_SIGMA: f64 = 0.6;
/// Of the bags that are put out, so many are forgotten by the lorry and become a problem.
const FORGOTTEN: f64 = 0.06;
/// Of the stalls on permitted ground, so many stay on after its hours, for so many minutes.
const STAYS_ON: f64 = 0.15;
const STAYS_ON_MIN: (f64, f64) = (15.0, 60.0);
/// A thing that a crew removed and that comes back does so after about two days.
const RETURN_MEDIAN_MIN: f64 = 2.0 * 24.0 * 60.0;
/// Nothing stays longer than three days: somebody takes it.
const LONGEST_MIN: f64 = 3.0 * 24.0 * 60.0;
/// People walk so fast, metres a second (Bohannon 1997: 1.3 to 1.5 at ease, slower with things to carry).
const WALK_M_S: (f64, f64) = (0.8, 1.4);
/// A walker comes into the corner here and leaves it at the other end, x in metres.
const WALK_FROM_M: f64 = 11.0;
/// What comes and goes of a thing (a buyer) does so for about this long.
const SPELL_MIN: f64 = 1.5;
/// Things of a kind differ in size: of the logarithm.
const SIZE_SIGMA: f64 = 0.15;
/// What grows begins at this share of its size and is full-grown after `GROWN_MIN`.
const GROWS_FROM: f64 = 0.55;
const GROWN_MIN: f64 = 180.0;

/// Something in the street.
#[derive(Debug)]
pub(super) struct Thing {
    pub(super) number: u32,
    pub(super) kind: &'static Kind,
    place: usize,
    /// x and y where it stands; where it walks, those of the middle.
    at: (f64, f64),
    pub(super) from: Ms,
    pub(super) to: Ms,
    /// No problem before then.
    lawful_until: Ms,
    /// Of its kind's size.
    size: f64,
    /// Metres a second along the street, for what walks.
    walks: f64,
    parts: Vec<Spell>,
    chance: Rng,
    /// As its corner's cameras see it, in their order.
    pub(super) sighted: Vec<Sighted>,
}

/// Whether a part is there, and until when.
#[derive(Debug)]
struct Spell {
    is_there: bool,
    until: Ms,
}

impl Thing {
    /// Where it is.
    pub(super) fn at(&self, now: Ms) -> (f64, f64) {
        let middle = (self.from + self.to) as f64 / 2.0;
        (self.at.0 + self.walks * (now as f64 - middle) / 1000.0, self.at.1)
    }

    /// How large it is, of its kind's size.
    pub(super) fn size(&self, now: Ms) -> f64 {
        if self.kind.grows {
            let grown = ((now - self.from) as f64 / MINUTE / GROWN_MIN).min(1.0);
            self.size * (GROWS_FROM + (1.0 - GROWS_FROM) * grown)
        } else {
            self.size
        }
    }

    /// True where it should be filed if it stays.
    pub(super) fn is_problem(&self, now: Ms) -> bool {
        now >= self.lawful_until
    }

    /// Lets its parts come and go.
    pub(super) fn turn(&mut self, now: Ms) {
        for (spell, part) in self.parts.iter_mut().zip(self.kind.parts) {
            while part.there < 1.0 && spell.until <= now {
                spell.is_there = !spell.is_there;
                // The rarer of the two lasts a spell.
                let share = if spell.is_there { part.there } else { 1.0 - part.there };
                let mean = SPELL_MIN * MINUTE * (share / (1.0 - share)).max(1.0);
                spell.until += self.chance.exponential(mean) as Ms + 1000;
            }
        }
    }

    /// Which parts are there.
    pub(super) fn has(&self, part: usize) -> bool {
        self.parts[part].is_there
    }

    /// The box around what a rule with these labels would look at, whole and without any jitter.
    pub(super) fn frame(&self, corner: &Corner, camera: usize, town: &Town, rule: &Rule, now: Ms) -> Option<BBox> {
        let lens = &town.cameras[corner.cameras[camera]].lens;
        let (at, size) = (self.at(now), self.size(now));
        let parts = self
            .kind
            .parts
            .iter()
            .filter(|p| rule.labels.iter().any(|l| l.as_str() == p.label));
        parts
            .filter_map(|p| lens.frames((at.0 + p.aside_m, at.1), (p.size_m.0 * size, p.size_m.1 * size), p.up_m))
            .reduce(|a, b| BBox {
                x1: a.x1.min(b.x1),
                y1: a.y1.min(b.y1),
                x2: a.x2.max(b.x2),
                y2: a.y2.max(b.y2),
            })
    }

    /// Things that need their ground for themselves.
    fn needs_room(&self) -> bool {
        needs_room(self.kind)
    }
}

fn needs_room(kind: &Kind) -> bool {
    !matches!(kind.stays, Stay::Crossing) && kind.parts.iter().any(|p| p.label != "person")
}

/// Something that will come.
#[derive(Debug)]
struct Coming {
    kind: &'static Kind,
    place: usize,
    from: Ms,
    to: Ms,
    lawful_until: Ms,
}

/// One corner's life.
#[derive(Debug, Default)]
struct Life {
    things: Vec<Thing>,
    /// By the time they come.
    coming: BTreeMap<(Ms, u32), Coming>,
    drawn: u32,
}

/// All corners' lives.
#[derive(Debug)]
pub(super) struct Streets {
    seed: u64,
    clock: Clock,
    corners: Vec<Life>,
    kinds: Vec<(&'static Kind, Rule)>,
    /// Openings of the collection by category (closing with its grace) and of the permitted ground.
    collections: BTreeMap<&'static str, Vec<(Ms, Ms, Ms)>>,
    markets: Vec<(Ms, Ms, Ms)>,
    things: u32,
    truths: Vec<GroundTruth>,
}

impl Streets {
    /// Empty streets: [`Streets::day`] fills them. `market` are the hours of permitted ground.
    pub(super) fn new(seed: u64, clock: Clock, days: u32, town: &Town, plan: &Plan, market: &ScheduleId) -> Self {
        let kinds: Vec<(&'static Kind, Rule)> = KINDS
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
            corners: town.corners.iter().map(|_| Life::default()).collect(),
            markets: openings(market, 0),
            collections,
            clock,
            kinds,
            things: 0,
            truths: Vec::new(),
        }
    }

    /// Draws what comes on day `day`.
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
                    let mut chance = stream(self.seed, "comes", &of);
                    let habit = stream(self.seed, "habit", &of[..2]).log_normal(1.0, HABIT_SIGMA);
                    let drawn = self.draw(kind, p, day, habit, &mut chance);
                    let life = &mut self.corners[c];
                    for coming in drawn {
                        life.drawn += 1;
                        life.coming.insert((coming.from, life.drawn), coming);
                    }
                }
            }
        }
    }

    fn draw(&self, kind: &'static Kind, place: usize, day: u32, habit: f64, chance: &mut Rng) -> Vec<Coming> {
        let begin = Ms::from(day) * DAY;
        let stay = |chance: &mut Rng| match kind.stays {
            Stay::About { median_min, sigma } => chance.log_normal(median_min, sigma).min(LONGEST_MIN) * MINUTE,
            Stay::Minutes(least, most) => chance.between(least, most) * MINUTE,
            Stay::Crossing => 2.0 * WALK_FROM_M / chance.between(WALK_M_S.0, WALK_M_S.1) * 1000.0,
        } as Ms;
        let begins_today = |o: &&(Ms, Ms, Ms)| (begin..begin + DAY).contains(&o.0);
        match kind.comes {
            Comes::PerDay(rate, hours) => (0..chance.poisson(rate * habit))
                .map(|_| {
                    let from = begin + self.moment(hours, chance);
                    Coming {
                        kind,
                        place,
                        from,
                        to: from + stay(chance),
                        lawful_until: if kind.lawful == Lawful::Always { Ms::MAX } else { from },
                    }
                })
                .collect(),
            Comes::InCollection(often) => {
                let windows = self
                    .collections
                    .get(kind.category)
                    .into_iter()
                    .flatten()
                    .filter(begins_today);
                let mut drawn = Vec::new();
                for (open, close, over) in windows {
                    let long = (close - open) as f64;
                    // Some are early by minutes; the lorry comes in the second half, and may be late within the grace.
                    let from = open - (10.0 * MINUTE) as Ms + chance.between(0.0, 0.5 * long) as Ms;
                    let lorry = open + chance.between(0.55 * long, long + 0.6 * (over - close) as f64) as Ms;
                    let is_forgotten = chance.happens(FORGOTTEN);
                    if chance.happens(often) {
                        drawn.push(Coming {
                            kind,
                            place,
                            from,
                            to: if is_forgotten { over + stay(chance) } else { lorry },
                            lawful_until: *over,
                        });
                    }
                }
                drawn
            }
            Comes::Ever => {
                let ever = Coming {
                    kind,
                    place,
                    from: 0,
                    to: Ms::MAX / 2,
                    lawful_until: Ms::MAX,
                };
                (day == 0).then_some(ever).into_iter().collect()
            }
            Comes::InMarketHours(often) => {
                let mut drawn = Vec::new();
                for (open, close, _) in self.markets.iter().filter(begins_today) {
                    let from = open + chance.between(0.0, 0.4 * (close - open) as f64) as Ms;
                    let stays_on = chance.happens(STAYS_ON);
                    let packs_up = close - (chance.between(-2.0, 10.0) * MINUTE) as Ms;
                    let to = if stays_on {
                        close + (chance.between(STAYS_ON_MIN.0, STAYS_ON_MIN.1) * MINUTE) as Ms
                    } else {
                        (from + stay(chance)).min(packs_up)
                    };
                    if chance.happens(often) && from < to {
                        drawn.push(Coming {
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

    /// A moment of the day by the hours' weights, milliseconds after the simulation's own day began.
    fn moment(&self, hours: &Hours, chance: &mut Rng) -> Ms {
        let mut left = chance.f64() * hours.iter().sum::<f64>();
        let hour = hours.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let wall = (hour.unwrap_or(12) as f64 + chance.f64()) * 60.0 * MINUTE;
        (wall as Ms - self.clock.wall(0)).rem_euclid(DAY)
    }

    /// Lets things come to a corner and go; what is gone is truth.
    pub(super) fn advance(&mut self, c: usize, now: Ms, town: &Town) {
        let corner = &town.corners[c];
        while let Some(entry) = self.corners[c].coming.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let coming = entry.remove();
            let is_taken = self.corners[c]
                .things
                .iter()
                .any(|t| t.place == coming.place && t.to > coming.from && t.needs_room());
            if !(is_taken && needs_room(coming.kind)) {
                let thing = self.begin(c, coming, corner);
                self.corners[c].things.push(thing);
            }
        }
        let mut i = 0;
        while i < self.corners[c].things.len() {
            if self.corners[c].things[i].to <= now {
                let gone = self.corners[c].things.remove(i);
                self.tell(gone, corner, town);
            } else {
                i += 1;
            }
        }
    }

    fn begin(&mut self, c: usize, coming: Coming, corner: &Corner) -> Thing {
        self.things += 1;
        let Coming {
            kind,
            place,
            from,
            to,
            lawful_until,
        } = coming;
        let mut chance = stream(self.seed, "thing", &[c as u64, place as u64, from as u64]);
        let (x, y) = corner.places[place].at;
        // What hangs for ever hangs where it was recorded.
        let is_fixed = matches!(kind.comes, Comes::Ever);
        let mut off = || if is_fixed { 0.0 } else { chance.between(-0.35, 0.35) };
        let at = (x + off(), y + off());
        let walks = match kind.stays {
            Stay::Crossing => {
                2.0 * WALK_FROM_M / ((to - from) as f64 / 1000.0) * if chance.bool() { 1.0 } else { -1.0 }
            }
            _ => 0.0,
        };
        let spell = |p: &Part| Spell {
            is_there: chance.happens(p.there),
            until: from + chance.exponential(SPELL_MIN * MINUTE) as Ms,
        };
        let parts = kind.parts.iter().map(spell).collect();
        Thing {
            number: self.things,
            kind,
            place,
            at: if walks == 0.0 { at } else { (0.0, at.1) },
            from,
            to,
            lawful_until,
            size: if is_fixed {
                1.0
            } else {
                chance.log_normal(1.0, SIZE_SIGMA)
            },
            walks,
            parts,
            sighted: corner
                .cameras
                .iter()
                .map(|camera| {
                    let of = [c as u64, place as u64, from as u64, *camera as u64];
                    Sighted::new(stream(self.seed, "sighted", &of), kind.parts.len())
                })
                .collect(),
            chance,
        }
    }

    /// What is at a corner now.
    pub(super) fn at(&mut self, c: usize) -> &mut [Thing] {
        &mut self.corners[c].things
    }

    /// A crew takes a thing away, if it is still there; some of what it takes comes back.
    pub(super) fn remove(&mut self, c: usize, number: u32, now: Ms) {
        let life = &mut self.corners[c];
        let Some(thing) = life.things.iter_mut().find(|t| t.number == number) else {
            return;
        };
        thing.to = thing.to.min(now);
        if thing.chance.happens(thing.kind.returns) {
            let from = now + (thing.chance.log_normal(RETURN_MEDIAN_MIN, 0.7) * MINUTE) as Ms;
            let to = from + (thing.chance.log_normal(180.0, 0.7) * MINUTE) as Ms;
            let coming = Coming {
                kind: thing.kind,
                place: thing.place,
                from,
                to,
                lawful_until: from,
            };
            life.drawn += 1;
            life.coming.insert((from, life.drawn), coming);
        }
    }

    /// Ends everything, and gives the truth about all of it by the time it came.
    pub(super) fn finish(mut self, now: Ms, town: &Town) -> Vec<GroundTruth> {
        for (c, corner) in town.corners.iter().enumerate() {
            self.advance(c, now, town);
            for mut thing in std::mem::take(&mut self.corners[c].things) {
                thing.to = thing.to.min(now);
                self.tell(thing, corner, town);
            }
        }
        self.truths.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        self.truths
    }

    /// The truth about a thing that is gone: a line for while it was lawful, and one for while it was a problem.
    fn tell(&mut self, thing: Thing, corner: &Corner, town: &Town) {
        let Some((_, rule)) = self.kinds.iter().find(|(k, _)| std::ptr::eq(*k, thing.kind)) else {
            return;
        };
        let middle = (thing.from + thing.to) / 2;
        let shown_at = if thing.walks == 0.0 { thing.to } else { middle };
        let mut views = Vec::new();
        for (i, camera) in corner.cameras.iter().enumerate() {
            let bbox = thing.frame(corner, i, town, rule, shown_at);
            // What is cut off by the picture's rim is seen as long as a detector could find the rest.
            let inside = bbox.and_then(|b| Some((b, b.within_picture()?)));
            if let Some((_, seen)) = inside.filter(|(b, seen)| seen.area() >= LEAST_SEEN * b.area()) {
                views.push((*camera, seen, thing.sighted[i].hidden(thing.to)));
            }
        }
        if views.is_empty() {
            return;
        }
        let phases = [
            (thing.from, thing.to.min(thing.lawful_until), false),
            (thing.from.max(thing.lawful_until), thing.to, true),
        ];
        for (from, to, problem) in phases.into_iter().filter(|(from, to, _)| from < to) {
            let views = views.iter().map(|(camera, bbox, hidden)| TruthView {
                camera: town.cameras[*camera].id.as_str().into(),
                bbox: *bbox,
                hidden_s: if problem { after(hidden, from, to) } else { Vec::new() },
            });
            let suffix = if problem { "" } else { "-lawful" };
            self.truths.push(GroundTruth {
                id: format!("t{:06}{suffix}", thing.number),
                kind: thing.kind.name.into(),
                category: thing.kind.category.into(),
                problem,
                from: self.clock.at(from),
                to: self.clock.at(to),
                place: (thing.walks == 0.0).then(|| corner.lon_lat(thing.at(middle))),
                views: views.collect(),
            });
        }
    }
}

/// Spans as seconds after `from`, those outside left out.
fn after(spans: &[(Ms, Ms)], from: Ms, to: Ms) -> Vec<(f64, f64)> {
    let within = spans
        .iter()
        .map(|(a, b)| ((*a).max(from), (*b).min(to)))
        .filter(|(a, b)| a < b);
    within
        .map(|(a, b)| ((a - from) as f64 / 1000.0, (b - from) as f64 / 1000.0))
        .collect()
}

/// The rule that a kind is, or seems to be, a problem of; `None` where the plan has none, and the kind is left out.
fn rule_of<'a>(kind: &Kind, plan: &'a Plan) -> Option<&'a Rule> {
    let rule = plan.rules.iter().find(|r| r.category.code == kind.category)?;
    let is_listed = kind
        .parts
        .iter()
        .any(|p| rule.labels.iter().any(|l| l.as_str() == p.label));
    (is_listed || kind.lawful == Lawful::Always).then_some(rule)
}

/// When a schedule opens and closes within the simulation, by the minute, and when its grace is over.
fn openings(plan: &Plan, clock: &Clock, days: u32, schedule: &ScheduleId, grace: Ms) -> Vec<(Ms, Ms, Ms)> {
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
