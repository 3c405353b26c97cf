//! A place in a view, and the days on which something stood there.

use std::collections::BTreeMap;

use jiff::civil::Date;

use gridwatch_engine::BBox;

/// For each day, one bit for each quarter of an hour.
#[derive(Debug, Clone, Default)]
pub(super) struct Days(BTreeMap<Date, u128>);

impl Days {
    pub(super) fn set(&mut self, date: Date, slot: u32) {
        *self.0.entry(date).or_default() |= 1 << slot;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the days before `oldest`.
    pub(super) fn forget_before(&mut self, oldest: Date) {
        if self.0.first_key_value().is_some_and(|(date, _)| *date < oldest) {
            self.0 = self.0.split_off(&oldest);
        }
    }

    pub(super) fn filtered(&self, is_wanted: impl Fn(Date) -> bool) -> Self {
        let days = self.0.iter().filter(|(date, _)| is_wanted(**date));
        Self(days.map(|(date, bits)| (*date, *bits)).collect())
    }

    /// The quarters of an hour of each day.
    pub(super) fn bits(&self) -> impl Iterator<Item = u128> {
        self.0.values().copied()
    }

    fn slots(&self) -> u32 {
        self.bits().map(u128::count_ones).sum()
    }

    fn add(&mut self, other: &Self) {
        for (date, bits) in &other.0 {
            *self.0.entry(*date).or_default() |= bits;
        }
    }

    /// The quarters of an hour that both have.
    fn common(&self, other: &Self) -> u32 {
        let both = self.0.iter().filter_map(|(date, a)| Some(a & other.0.get(date)?));
        both.map(u128::count_ones).sum()
    }
}

/// A place where boxes of one rule recur.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Mean of the edges, left, top, right, bottom.
    mean: [f64; 4],
    /// Mean absolute deviation from it.
    jitter: [f64; 4],
    boxes: u32,
    /// Boxes in the quarter of an hour in progress.
    pub(super) seen_in_slot: u32,
    pub(super) days: Days,
}

impl Place {
    /// A box counts at least this much, so that a place follows tables that are set out a little elsewhere after weeks.
    const MIN_WEIGHT: f64 = 1e-3;

    pub(super) fn new(bbox: &BBox) -> Self {
        Self {
            mean: edges(bbox),
            jitter: [0.0; 4],
            boxes: 1,
            seen_in_slot: 1,
            days: Days::default(),
        }
    }

    pub(super) fn saw(&mut self, bbox: &BBox) {
        self.boxes = self.boxes.saturating_add(1);
        self.seen_in_slot += 1;
        let weight = (1.0 / f64::from(self.boxes)).max(Self::MIN_WEIGHT);
        for ((mean, jitter), edge) in self.mean.iter_mut().zip(&mut self.jitter).zip(edges(bbox)) {
            let change = edge - *mean;
            *mean += weight * change;
            *jitter += weight * (change.abs() - *jitter);
        }
    }

    /// The mean box.
    pub(super) fn bbox(&self) -> BBox {
        let [x1, y1, x2, y2] = self.mean.map(|v| v as f32);
        BBox { x1, y1, x2, y2 }
    }

    /// The box that nearly all of its boxes lie in: the mean, widened by their jitter and by a hundredth of the picture.
    pub(super) fn enclosing(&self) -> BBox {
        let [x1, y1, x2, y2] = self.mean;
        let reach = self.jitter.map(|j| 3.0 * j + 0.01);
        let edge = |v: f64| v.clamp(0.0, 1.0) as f32;
        BBox {
            x1: edge(x1 - reach[0]),
            y1: edge(y1 - reach[1]),
            x2: edge(x2 + reach[2]),
            y2: edge(y2 + reach[3]),
        }
    }

    /// How long something was there, to decide what is forgotten.
    pub(super) fn rank(&self) -> (u32, u32) {
        (self.days.slots(), self.seen_in_slot)
    }
}

fn edges(bbox: &BBox) -> [f64; 4] {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(f64::from)
}

/// Several places that are one: the tables of a café.
pub(super) struct MergedPlace {
    bbox: BBox,
    pub(super) days: Days,
}

impl MergedPlace {
    pub(super) fn enclosing(&self) -> BBox {
        self.bbox
    }
}

/// Merges places that are close to each other and occupied at the same times, transitively.
pub(super) fn merge_nearby(places: Vec<Place>) -> Vec<MergedPlace> {
    /// Largest gap, in sides of the larger box: a passage between two tables.
    const NEAR: f32 = 0.5;
    /// Share of the time of the one that is there for shorter, in which the other must be there too.
    const TOGETHER: f64 = 0.5;
    /// Least time of the one that is there for shorter, as a share of the other's: umbrellas that pass a café do not enlarge it.
    const SUBSTANTIAL: f64 = 0.2;
    let mut merged: Vec<MergedPlace> = Vec::new();
    for place in places {
        let mut whole = MergedPlace {
            bbox: place.enclosing(),
            days: place.days,
        };
        // One may bridge two that were apart, so repeat until nothing more joins.
        while let Some(i) = merged.iter().position(|other| {
            let (a, b) = (other.days.slots(), whole.days.slots());
            let (shorter, longer) = (f64::from(a.min(b)), f64::from(a.max(b)));
            let is_together = f64::from(other.days.common(&whole.days)) >= TOGETHER * shorter;
            is_together && shorter >= SUBSTANTIAL * longer && is_near(&other.bbox, &whole.bbox, NEAR)
        }) {
            let other = merged.swap_remove(i);
            whole.bbox = whole.bbox.union(&other.bbox);
            whole.days.add(&other.days);
        }
        merged.push(whole);
    }
    merged
}

/// True if the gap along each axis is at most `reach` sides of the larger box.
fn is_near(a: &BBox, b: &BBox, reach: f32) -> bool {
    let gap = |a: (f32, f32), b: (f32, f32)| (b.0 - a.1).max(a.0 - b.1);
    let side = |a: (f32, f32), b: (f32, f32)| (a.1 - a.0).max(b.1 - b.0);
    let near = |a: (f32, f32), b: (f32, f32)| gap(a, b) <= reach * side(a, b);
    near((a.x1, a.x2), (b.x1, b.x2)) && near((a.y1, a.y2), (b.y1, b.y2))
}
