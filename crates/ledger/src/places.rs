//! Finds places where a rule's objects stand on most days at similar hours, such as a café that sets its tables out each morning.
//!
//! Looks are streamed in; what is kept is, for each place and day, in which quarters of an hour something stood there. No files and no
//! clock: the last days are those of the newest look.
//!
//! A day begins at 04:00 local time, so that an evening that ends after midnight is one day. In a quarter of an hour something is present if a
//! third of its clear looks saw it, so that passers-by and single false boxes do not count.

mod hours;
mod place;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{Timestamp, ToSpan, civil::Date};

pub use self::hours::{DayType, RegularHours};
use self::{
    hours::regular_hours,
    place::{Days, Place, merge_nearby},
};
use crate::RecordedEvent;
use gridwatch_engine::{BBox, CameraId, Observation, Plan, Rule, RuleId, View};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regularity {
    /// Length of the period in days, back from the newest look; at most [`MAX_DAYS`].
    pub days: u32,
    /// Days on which something must have stood there.
    pub min_days: u32,
    /// The same as a share of the watched days of a kind, 0..=1.
    pub min_share: f64,
}

impl Default for Regularity {
    fn default() -> Self {
        Self {
            days: 14,
            min_days: 5,
            min_share: 0.6,
        }
    }
}

/// Longest period, in days. Bounds the memory: 16 bytes for each place and day.
pub const MAX_DAYS: u32 = 92;

/// Hour at which a day begins.
const DAY_BEGINS: i8 = 4;
/// Quarters of an hour in a day.
const SLOTS: u32 = 96;
/// Places remembered for a view and rule. The one that was there for the shortest time makes room for another.
const MAX_PLACES: usize = 256;
/// Share of the clear looks of a quarter of an hour that must have seen something.
const MIN_SEEN: f64 = 1.0 / 3.0;
/// Shares of two boxes of one place: a box belongs to a place if they overlap by this IoU.
const SAME_PLACE_IOU: f64 = 0.3;
/// Share of one of two boxes that lies in the other, if something at one is at the place of the other.
const HERE: f64 = 0.3;
/// Where things stand this long on a typical day, they stand there day and night, and belong to the background.
const ALWAYS: u32 = 20 * 4;
/// Share of the hours in which something stands there on a typical day; below it, the hours differ too much to be called regular.
const MIN_FILLED: f64 = 0.5;

/// A place where something stands regularly.
#[derive(Debug, Clone, PartialEq)]
pub struct RegularPlace {
    /// The view.
    pub view: CameraId,
    /// The rules whose objects stand there.
    pub rules: Vec<RuleId>,
    /// What encloses them, with the usual jitter of their boxes.
    pub bbox: BBox,
    /// The hours, by kind of day; never empty.
    pub hours: Vec<RegularHours>,
    /// The first and the last day of the period.
    pub period: (Date, Date),
    /// Something stands there day and night, or begins after midnight: no hours can be proposed.
    pub note: Option<PlaceNote>,
}

impl RegularPlace {
    /// True if what a view shows in `bbox` stands at this place: of either box, 0.3 or more lies in the other.
    pub fn has(&self, view: &str, bbox: &BBox) -> bool {
        view == self.view.as_str() && bbox.share_in(&self.bbox).max(self.bbox.share_in(bbox)) >= HERE
    }
}

/// True for a rule whose objects a café's tables look like: one that needs an attendant, or is about vendors (0501) or shops that spill over
/// (0504).
pub fn is_about_goods(rule: &Rule) -> bool {
    rule.attended.is_some() || ["0501", "0504"].contains(&rule.category.code.as_str())
}

/// Why a place has no hours to permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceNote {
    /// It stands there day and night.
    Always,
    /// It begins after midnight: a window belongs to the day on which it begins, which is another kind of day.
    AfterMidnight,
}

/// The objects of one rule in one view.
#[derive(Debug, Default)]
struct RuleView {
    places: Vec<Place>,
    /// Quarters of an hour with clear looks.
    watched: Days,
    /// The quarter of an hour of the newest look.
    slot: Option<(Date, u32)>,
    /// Clear looks in it.
    looks: u32,
}

/// Collects looks and finds the places.
#[derive(Debug)]
pub struct PlaceFinder {
    plan: Arc<Plan>,
    rules: Vec<Rule>,
    views: BTreeSet<CameraId>,
    wanted: Regularity,
    found: BTreeMap<(CameraId, usize), RuleView>,
    /// The newest day.
    newest: Option<Date>,
}

impl PlaceFinder {
    /// Looks for places of `rules` in `views`.
    pub fn new(plan: &Arc<Plan>, rules: Vec<Rule>, views: BTreeSet<CameraId>, wanted: Regularity) -> Self {
        Self {
            plan: Arc::clone(plan),
            rules,
            views,
            wanted: Regularity {
                days: wanted.days.clamp(1, MAX_DAYS),
                ..wanted
            },
            found: BTreeMap::new(),
            newest: None,
        }
    }

    /// Adds a record of the ledger.
    pub fn add(&mut self, event: &RecordedEvent) {
        match event {
            RecordedEvent::Observed(look) => self.look(look),
            RecordedEvent::Reaimed(reaimed) => self.reaimed(&reaimed.camera),
            _ => {}
        }
    }

    /// Adds a look. Looks of other views and looks that are not clear are ignored.
    pub fn look(&mut self, look: &Observation) {
        let Some(camera) = self.plan.cameras.get(&look.camera) else {
            return;
        };
        if look.view != View::Clear || !self.views.contains(&look.camera) {
            return;
        }
        let Some((date, slot)) = self.slot_of(look.at) else {
            return;
        };
        self.newest = self.newest.max(Some(date));
        let oldest = self.oldest_day();
        for (i, rule) in self.rules.iter().enumerate() {
            let view = self.found.entry((look.camera.clone(), i)).or_default();
            view.enter(date, slot, oldest);
            let boxes: Vec<BBox> = look
                .detections
                .iter()
                .filter(|d| rule.counts(camera, &self.plan.calendar, look.light, look.at, d))
                .map(|d| d.bbox)
                .collect();
            // A look that did not search for one of the labels cannot tell that nothing is there.
            let has_searched = !look.not_searched.iter().any(|l| rule.labels.contains(l));
            if has_searched || !boxes.is_empty() {
                view.looks += 1;
                boxes.iter().for_each(|bbox| view.saw(bbox));
            }
        }
    }

    /// The view was aimed anew: earlier boxes mean other places.
    pub fn reaimed(&mut self, view: &CameraId) {
        self.found.retain(|(camera, _), _| camera != view);
    }

    /// The regular places, by view.
    pub fn finish(mut self) -> Vec<RegularPlace> {
        let Some(newest) = self.newest else { return Vec::new() };
        let oldest = self.oldest_day();
        let mut places = Vec::new();
        for ((view, rule), mut seen) in std::mem::take(&mut self.found) {
            seen.close_slot(oldest);
            seen.forget_before(oldest);
            for place in merge_nearby(seen.places) {
                let found = self.regular(&place.days, &seen.watched);
                let Some((hours, note)) = found else { continue };
                places.push(RegularPlace {
                    view: view.clone(),
                    rules: vec![self.rules[rule].id.clone()],
                    bbox: place.enclosing(),
                    hours,
                    period: (oldest, newest),
                    note,
                });
            }
        }
        join_rules(places)
    }

    /// The regular hours of a place, if it has any.
    fn regular(&self, seen: &Days, watched: &Days) -> Option<(Vec<RegularHours>, Option<PlaceNote>)> {
        let calendar = &self.plan.calendar;
        let hours: Vec<RegularHours> = [DayType::Workday, DayType::Restday]
            .into_iter()
            .filter_map(|kind| {
                let of_kind = |days: &Days| days.filtered(|date| kind.includes(calendar, date));
                regular_hours(kind, &of_kind(seen), &of_kind(watched))
            })
            .filter(|h| f64::from(h.seen) >= self.wanted.min_share * f64::from(h.watched) && h.filled >= MIN_FILLED)
            .collect();
        let days: u32 = hours.iter().map(|h| h.seen).sum();
        if hours.is_empty() || days < self.wanted.min_days {
            return None;
        }
        let is_always = |h: &RegularHours| u32::from(h.to - h.from) / 15 >= ALWAYS;
        let note = if hours.iter().any(is_always) {
            Some(PlaceNote::Always)
        } else if hours.iter().any(|h| h.from >= gridwatch_engine::calendar::DAY) {
            Some(PlaceNote::AfterMidnight)
        } else {
            None
        };
        Some((hours, note))
    }

    /// The day and the quarter of an hour of a moment.
    fn slot_of(&self, at: Timestamp) -> Option<(Date, u32)> {
        let local = at.to_zoned(self.plan.calendar.zone.clone()).datetime();
        let shifted = local.checked_sub(DAY_BEGINS.hours()).ok()?;
        let minute = u32::try_from(i32::from(shifted.hour()) * 60 + i32::from(shifted.minute())).ok()?;
        Some((shifted.date(), (minute / 15).min(SLOTS - 1)))
    }

    /// The first day of the period.
    fn oldest_day(&self) -> Date {
        let newest = self.newest.unwrap_or(Date::MIN);
        newest
            .checked_sub((i64::from(self.wanted.days) - 1).days())
            .unwrap_or(Date::MIN)
    }
}

impl RuleView {
    /// Begins the quarter of an hour of a look, unless it is still the same.
    fn enter(&mut self, date: Date, slot: u32, oldest: Date) {
        if self.slot == Some((date, slot)) {
            return;
        }
        self.close_slot(oldest);
        self.slot = Some((date, slot));
    }

    /// Notes what was present in the quarter of an hour, and forgets what is too old.
    fn close_slot(&mut self, oldest: Date) {
        let looks = std::mem::take(&mut self.looks);
        let Some((date, slot)) = self.slot.take() else { return };
        let least = f64::from(looks) * MIN_SEEN;
        for place in &mut self.places {
            let seen = std::mem::take(&mut place.seen_in_slot);
            if seen > 0 && f64::from(seen) >= least {
                place.days.set(date, slot);
            }
        }
        if looks > 0 {
            self.watched.set(date, slot);
        }
        self.forget_before(oldest);
    }

    fn forget_before(&mut self, oldest: Date) {
        self.watched.forget_before(oldest);
        self.places.iter_mut().for_each(|p| p.days.forget_before(oldest));
        self.places.retain(|p| !p.days.is_empty());
    }

    fn saw(&mut self, bbox: &BBox) {
        let best = self
            .places
            .iter_mut()
            .map(|place| (place.bbox().iou(bbox), place))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((iou, place)) = best
            && iou >= SAME_PLACE_IOU
        {
            place.saw(bbox);
            return;
        }
        if self.places.len() >= MAX_PLACES {
            let shortest = self.places.iter().enumerate().min_by_key(|(_, p)| p.rank());
            if let Some((i, _)) = shortest {
                self.places.swap_remove(i);
            }
        }
        self.places.push(Place::new(bbox));
    }
}

/// Joins the places of different rules that are one place, with the hours of both.
fn join_rules(places: Vec<RegularPlace>) -> Vec<RegularPlace> {
    /// Share of the smaller box that lies in the other.
    const SAME: f64 = 0.5;
    let mut joined: Vec<RegularPlace> = Vec::new();
    for place in places {
        let is_same = |other: &RegularPlace| {
            let share = place.bbox.share_in(&other.bbox).max(other.bbox.share_in(&place.bbox));
            other.view == place.view && other.note == place.note && share >= SAME
        };
        let Some(other) = joined.iter_mut().find(|other| is_same(other)) else {
            joined.push(place);
            continue;
        };
        other.bbox = other.bbox.union(&place.bbox);
        other.rules.extend(place.rules);
        other.rules.sort();
        other.rules.dedup();
        for hours in place.hours {
            match other.hours.iter_mut().find(|h| h.kind == hours.kind) {
                Some(known) => known.widen(&hours),
                None => other.hours.push(hours),
            }
        }
        other.hours.sort_by_key(|h| h.kind);
    }
    joined
}
