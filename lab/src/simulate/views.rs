//! Faults of a camera's view, independent of the street: outages, damaged pictures, covered, dark, frozen and shifted views; and
//! vehicles and people that occlude objects.

use fastrand::Rng;

use super::{
    clock::{DAY, Ms, TownClock},
    random::{Distributions, stream},
};
use gridwatch_engine::{BBox, View};

const MINUTE: f64 = 60_000.0;

/// Fault, mean days between episodes per camera, median duration in minutes, and sigma of the logarithm. What operators of
/// about a hundred street cameras would call normal; no figures are published.
const EPISODES: [(ViewFault, f64, f64, f64); 5] = [
    (ViewFault::Outage, 8.0, 8.0, 1.3),
    (ViewFault::Covered, 15.0, 15.0, 0.8),
    (ViewFault::Frozen, 20.0, 30.0, 0.8),
    (ViewFault::Dark, 25.0, 180.0, 0.6),
    (ViewFault::Moved, 30.0, 120.0, 0.8),
];
/// Fraction of looks at a picture that the network damaged.
const DAMAGED: f64 = 0.002;
/// Looks until a moved view is detected, and until a frozen one is (the default of `view.frozen_after`).
const MOVED_AFTER: u32 = 4;
const FROZEN_AFTER: u32 = 6;
/// Range of the shift of a knocked camera's picture, as fractions of the picture.
const SHIFT: (f64, f64) = (0.08, 0.4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViewFault {
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
    fault: ViewFault,
    /// The shift of a moved view.
    shift: (f64, f64),
}

/// The condition of a camera's picture at a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LookCondition {
    /// A picture that the box takes for clear, shifted by fractions of its size.
    Clear {
        /// Right and down.
        shift: (f64, f64),
    },
    /// A repeated picture that the box has not detected as frozen yet.
    Stale,
    /// The box detects that the view cannot be trusted.
    Bad(View),
    /// No picture arrives.
    NoPicture,
}

/// One camera's view faults.
#[derive(Debug)]
pub(super) struct ViewFaults {
    /// In order, without overlaps.
    episodes: Vec<Episode>,
    next: usize,
    /// Looks in the current episode.
    looks: u32,
    rng: Rng,
}

impl ViewFaults {
    pub(super) fn new(seed: u64, camera: usize, days: u32, clock: &TownClock) -> Self {
        let mut episodes = Vec::new();
        for (n, (fault, every_days, median_min, sigma)) in EPISODES.into_iter().enumerate() {
            let mut rng = stream(seed, "trouble", &[camera as u64, n as u64]);
            let mut from = 0;
            loop {
                from += rng.exponential(every_days * DAY as f64) as Ms;
                if from >= Ms::from(days) * DAY {
                    break;
                }
                let mut shift_by = || rng.between(SHIFT.0, SHIFT.1) * if rng.bool() { 1.0 } else { -1.0 };
                let shift = (shift_by(), 0.5 * shift_by());
                let to = from + (rng.log_normal(median_min, sigma) * MINUTE) as Ms;
                // Lamps fail at night.
                if fault != ViewFault::Dark || clock.is_night(from) {
                    episodes.push(Episode { from, to, fault, shift });
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
            rng: stream(seed, "damage", &[camera as u64]),
        }
    }

    /// The condition at a look; to be called once per look.
    pub(super) fn look(&mut self, now: Ms) -> LookCondition {
        while self.episodes.get(self.next).is_some_and(|e| e.to <= now) {
            self.next += 1;
            self.looks = 0;
        }
        let is_damaged = self.rng.happens(DAMAGED);
        let Some(episode) = self.episodes.get(self.next).filter(|e| e.from <= now) else {
            return if is_damaged {
                LookCondition::Bad(View::Damaged)
            } else {
                LookCondition::Clear { shift: (0.0, 0.0) }
            };
        };
        self.looks += 1;
        match episode.fault {
            ViewFault::Outage => LookCondition::NoPicture,
            _ if is_damaged => LookCondition::Bad(View::Damaged),
            ViewFault::Covered => LookCondition::Bad(View::Blocked),
            ViewFault::Dark => LookCondition::Bad(View::Dark),
            ViewFault::Frozen if self.looks < FROZEN_AFTER => LookCondition::Stale,
            ViewFault::Frozen => LookCondition::Bad(View::Frozen),
            ViewFault::Moved if self.looks <= MOVED_AFTER => LookCondition::Clear { shift: episode.shift },
            ViewFault::Moved => LookCondition::Bad(View::Moved),
        }
    }
}

/// A kind of occluder: how many a day at the busiest hour's rate, its duration in seconds (median, sigma of the logarithm,
/// bounds), and the range of its width as a fraction of the picture.
struct OccluderKind {
    per_day: f64,
    median_s: f64,
    sigma: f64,
    bounds_s: (f64, f64),
    width: (f64, f64),
    /// It stands on the roadway and hides only what lies across it.
    on_the_road: bool,
}

/// Stopping vehicles hide the far pavement for 5 to 180 s, an unloading lorry for 20 minutes, people for less than two.
const OCCLUDER_KINDS: [OccluderKind; 3] = [
    OccluderKind {
        per_day: 260.0,
        median_s: 20.0,
        sigma: 1.0,
        bounds_s: (5.0, 180.0),
        width: (0.2, 0.4),
        on_the_road: true,
    },
    OccluderKind {
        per_day: 0.8,
        median_s: 1200.0,
        sigma: 0.3,
        bounds_s: (600.0, 2400.0),
        width: (0.35, 0.55),
        on_the_road: true,
    },
    OccluderKind {
        per_day: 90.0,
        median_s: 25.0,
        sigma: 0.7,
        bounds_s: (5.0, 120.0),
        width: (0.08, 0.15),
        on_the_road: false,
    },
];

/// An object between the camera and the street.
#[derive(Debug)]
struct Occluder {
    from: Ms,
    to: Ms,
    /// Left and right edge in the picture.
    edges: (f64, f64),
    on_the_road: bool,
}

/// The occluders of one camera.
#[derive(Debug)]
pub(super) struct Occluders {
    seed: u64,
    camera: usize,
    /// Sorted from the latest to the earliest.
    upcoming: Vec<Occluder>,
    present: Vec<Occluder>,
}

impl Occluders {
    pub(super) fn new(seed: u64, camera: usize) -> Self {
        Self {
            seed,
            camera,
            upcoming: Vec::new(),
            present: Vec::new(),
        }
    }

    /// Draws one day's occluders.
    pub(super) fn day(&mut self, day: u32, clock: &TownClock) {
        let mut rng = stream(self.seed, "blocker", &[self.camera as u64, day.into()]);
        for kind in &OCCLUDER_KINDS {
            for _ in 0..rng.poisson(kind.per_day) {
                let from = Ms::from(day) * DAY + rng.between(0.0, DAY as f64) as Ms;
                let lasts = rng
                    .log_normal(kind.median_s, kind.sigma)
                    .clamp(kind.bounds_s.0, kind.bounds_s.1);
                let (middle, width) = (rng.f64(), rng.between(kind.width.0, kind.width.1));
                // A tenth of the traffic at night.
                if !clock.is_night(from) || rng.happens(0.1) {
                    self.upcoming.push(Occluder {
                        from,
                        to: from + (lasts * 1000.0) as Ms,
                        edges: (middle - width / 2.0, middle + width / 2.0),
                        on_the_road: kind.on_the_road,
                    });
                }
            }
        }
        self.upcoming.sort_by_key(|b| std::cmp::Reverse(b.from));
    }

    /// Advances to `now`.
    pub(super) fn advance(&mut self, now: Ms) {
        while let Some(occluder) = self.upcoming.pop_if(|b| b.from <= now) {
            self.present.push(occluder);
        }
        self.present.retain(|b| b.to > now);
    }

    /// The visible part of a box; `None` if too little is visible.
    pub(super) fn visible(&self, bbox: BBox, is_across: bool) -> Option<BBox> {
        let (mut left, mut right) = (f64::from(bbox.x1), f64::from(bbox.x2));
        for occluder in self.present.iter().filter(|b| is_across || !b.on_the_road) {
            let (from, to) = occluder.edges;
            if to <= left || from >= right {
                continue;
            }
            // The larger remaining part is what is seen.
            if from - left > right - to {
                right = from;
            } else {
                left = to;
            }
        }
        let is_seen = right - left >= MIN_VISIBLE * bbox.width();
        is_seen.then_some(BBox {
            x1: left as f32,
            x2: right as f32,
            ..bbox
        })
    }
}

/// Minimum visible fraction of an object's width for a detection.
pub(super) const MIN_VISIBLE: f64 = 0.4;
