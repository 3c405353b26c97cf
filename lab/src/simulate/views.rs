//! What happens to a camera's view, whatever happens in the street: outages, damaged pictures, covered, dark, frozen and
//! shifted views, and what drives or stands in front of things.

use fastrand::Rng;

use super::{
    Clock, Ms,
    chance::{Chance, stream},
};
use gridwatch_engine::{BBox, View};

const MINUTE: f64 = 60_000.0;
const DAY: Ms = 86_400_000;

/// One episode in so many camera-days, and how long it lasts: minutes, half of them less, and sigma of the logarithm. What
/// operators of some hundred street cameras would call normal; no figures are published.
const EPISODES: [(Trouble, f64, f64, f64); 5] = [
    (Trouble::Outage, 8.0, 8.0, 1.3),
    (Trouble::Covered, 15.0, 15.0, 0.8),
    (Trouble::Frozen, 20.0, 30.0, 0.8),
    (Trouble::Dark, 25.0, 180.0, 0.6),
    (Trouble::Moved, 30.0, 120.0, 0.8),
];
/// Of all looks, so many meet a picture that the network damaged.
const DAMAGED: f64 = 0.002;
/// A moved view is told from a clear one after so many looks, and a frozen one after `view.frozen_after` of the default.
const NOTICED_AFTER: u32 = 4;
const FROZEN_AFTER: u32 = 6;
/// How far a camera that was knocked shifts its picture, as fractions of it.
const KNOCKED: (f64, f64) = (0.08, 0.4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Outage,
    Covered,
    Frozen,
    Dark,
    Moved,
}

#[derive(Debug)]
struct Episode {
    from: Ms,
    to: Ms,
    trouble: Trouble,
    /// Of a moved view.
    shift: (f64, f64),
}

/// How a camera sees at a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seeing {
    /// What is there, shifted by so much of the picture; `Clear` to the box.
    Well {
        /// Right and down.
        shift: (f64, f64),
    },
    /// The same picture again, and the box does not know yet.
    Stale,
    /// The box knows that the view is no good.
    Badly(View),
    /// There is no picture.
    Nothing,
}

/// One camera's troubles.
#[derive(Debug)]
pub(super) struct Troubles {
    /// In order, none overlapping.
    episodes: Vec<Episode>,
    next: usize,
    /// Looks in the current episode.
    looks: u32,
    chance: Rng,
}

impl Troubles {
    pub(super) fn new(seed: u64, camera: usize, days: u32, clock: &Clock) -> Self {
        let mut episodes = Vec::new();
        for (n, (trouble, every_days, median_min, sigma)) in EPISODES.into_iter().enumerate() {
            let mut chance = stream(seed, "trouble", &[camera as u64, n as u64]);
            let mut from = 0;
            loop {
                from += chance.exponential(every_days * DAY as f64) as Ms;
                if from >= Ms::from(days) * DAY {
                    break;
                }
                let mut far = || chance.between(KNOCKED.0, KNOCKED.1) * if chance.bool() { 1.0 } else { -1.0 };
                let shift = (far(), 0.5 * far());
                let to = from + (chance.log_normal(median_min, sigma) * MINUTE) as Ms;
                // Lamps fail by night.
                if trouble != Trouble::Dark || clock.is_night(from) {
                    episodes.push(Episode {
                        from,
                        to,
                        trouble,
                        shift,
                    });
                }
                from = to;
            }
        }
        episodes.sort_by_key(|e| e.from);
        let mut free = Ms::MIN;
        episodes.retain(|e| {
            let is_free = e.from >= free;
            if is_free {
                free = e.to;
            }
            is_free
        });
        Self {
            episodes,
            next: 0,
            looks: 0,
            chance: stream(seed, "damage", &[camera as u64]),
        }
    }

    /// To be asked once a look.
    pub(super) fn look(&mut self, now: Ms) -> Seeing {
        while self.episodes.get(self.next).is_some_and(|e| e.to <= now) {
            self.next += 1;
            self.looks = 0;
        }
        let is_damaged = self.chance.happens(DAMAGED);
        let Some(episode) = self.episodes.get(self.next).filter(|e| e.from <= now) else {
            return if is_damaged {
                Seeing::Badly(View::Damaged)
            } else {
                Seeing::Well { shift: (0.0, 0.0) }
            };
        };
        self.looks += 1;
        match episode.trouble {
            Trouble::Outage => Seeing::Nothing,
            _ if is_damaged => Seeing::Badly(View::Damaged),
            Trouble::Covered => Seeing::Badly(View::Blocked),
            Trouble::Dark => Seeing::Badly(View::Dark),
            Trouble::Frozen if self.looks < FROZEN_AFTER => Seeing::Stale,
            Trouble::Frozen => Seeing::Badly(View::Frozen),
            Trouble::Moved if self.looks <= NOTICED_AFTER => Seeing::Well { shift: episode.shift },
            Trouble::Moved => Seeing::Badly(View::Moved),
        }
    }
}

/// Vehicles that stop, lorries that unload and people who stand about, by the hour of the busiest hour, and what they hide:
/// seconds, sigma of the logarithm, bounds of the seconds, the least and most of the picture's width.
struct Hides {
    per_day: f64,
    median_s: f64,
    sigma: f64,
    bounds_s: (f64, f64),
    width: (f64, f64),
    /// Stands on the roadway: hides only what lies across it.
    on_the_road: bool,
}

/// A vehicle hides the far pavement for 5 to 180 s, a lorry for 20 minutes, people whatever is behind them for less than two.
const HIDES: [Hides; 3] = [
    Hides {
        per_day: 260.0,
        median_s: 20.0,
        sigma: 1.0,
        bounds_s: (5.0, 180.0),
        width: (0.2, 0.4),
        on_the_road: true,
    },
    Hides {
        per_day: 0.8,
        median_s: 1200.0,
        sigma: 0.3,
        bounds_s: (600.0, 2400.0),
        width: (0.35, 0.55),
        on_the_road: true,
    },
    Hides {
        per_day: 90.0,
        median_s: 25.0,
        sigma: 0.7,
        bounds_s: (5.0, 120.0),
        width: (0.08, 0.15),
        on_the_road: false,
    },
];

/// Something between the camera and the street.
#[derive(Debug)]
struct Blocker {
    from: Ms,
    to: Ms,
    /// Left and right in the picture.
    hides: (f64, f64),
    on_the_road: bool,
}

/// What stands in a camera's way.
#[derive(Debug)]
pub(super) struct Blockers {
    seed: u64,
    camera: usize,
    /// From the latest to the earliest.
    coming: Vec<Blocker>,
    there: Vec<Blocker>,
}

impl Blockers {
    pub(super) fn new(seed: u64, camera: usize) -> Self {
        Self {
            seed,
            camera,
            coming: Vec::new(),
            there: Vec::new(),
        }
    }

    /// Draws a day's.
    pub(super) fn day(&mut self, day: u32, clock: &Clock) {
        let mut chance = stream(self.seed, "blocker", &[self.camera as u64, day.into()]);
        for hides in &HIDES {
            for _ in 0..chance.poisson(hides.per_day) {
                let from = Ms::from(day) * DAY + chance.between(0.0, DAY as f64) as Ms;
                let lasts = chance
                    .log_normal(hides.median_s, hides.sigma)
                    .clamp(hides.bounds_s.0, hides.bounds_s.1);
                let (middle, width) = (chance.f64(), chance.between(hides.width.0, hides.width.1));
                // The night has a tenth of the traffic.
                if !clock.is_night(from) || chance.happens(0.1) {
                    self.coming.push(Blocker {
                        from,
                        to: from + (lasts * 1000.0) as Ms,
                        hides: (middle - width / 2.0, middle + width / 2.0),
                        on_the_road: hides.on_the_road,
                    });
                }
            }
        }
        self.coming.sort_by_key(|b| std::cmp::Reverse(b.from));
    }

    /// Lets them come and go.
    pub(super) fn advance(&mut self, now: Ms) {
        while let Some(blocker) = self.coming.pop_if(|b| b.from <= now) {
            self.there.push(blocker);
        }
        self.there.retain(|b| b.to > now);
    }

    /// What can be seen of a box, from nothing (`None`) to all of it.
    pub(super) fn leave(&self, bbox: BBox, is_across: bool) -> Option<BBox> {
        let (mut left, mut right) = (f64::from(bbox.x1), f64::from(bbox.x2));
        for blocker in self.there.iter().filter(|b| is_across || !b.on_the_road) {
            let (from, to) = blocker.hides;
            if to <= left || from >= right {
                continue;
            }
            // The larger rest is what is seen of it.
            if from - left > right - to {
                right = from;
            } else {
                left = to;
            }
        }
        let is_seen = right - left >= LEAST_SEEN * bbox.width();
        is_seen.then_some(BBox {
            x1: left as f32,
            x2: right as f32,
            ..bbox
        })
    }
}

/// A detector finds nothing in less than so much of a thing.
pub(super) const LEAST_SEEN: f64 = 0.4;
