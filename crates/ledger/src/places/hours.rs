//! The hours of a place: from the quarters of an hour in which something stood there on each day.

use jiff::civil::Date;
use serde::Serialize;

use super::{DAY_BEGINS, place::Days};
use gridwatch_engine::calendar::{self, Calendar};

/// Quarters of an hour that something must stand on a day for the day to count: less is a delivery.
const MIN_SLOTS: u32 = 2;
/// Share of the hours that must have been watched on a day for the day to count as watched.
const MIN_WATCHED: f64 = 0.5;
/// Ranks of the first and last sightings that bound the hours: one day in ten may begin earlier, one in ten end later.
const EARLY: f64 = 0.1;
const LATE: f64 = 0.9;

/// The kinds of days that schedules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DayType {
    /// Monday to Friday without holidays, and make-up working days.
    Workday,
    /// Every other day.
    Restday,
}

impl DayType {
    /// As in the configuration: `workday` or `restday`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workday => "workday",
            Self::Restday => "restday",
        }
    }

    pub(super) fn includes(self, calendar: &Calendar, date: Date) -> bool {
        let days = calendar::Days {
            weekdays: [false; 7],
            workday: self == Self::Workday,
            restday: self == Self::Restday,
            holiday: false,
        };
        days.includes(date.weekday(), calendar.days.get(&date).copied())
    }
}

/// When something usually stands at a place, on days of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegularHours {
    /// The kind of day on which it begins.
    pub kind: DayType,
    /// Begin in minutes of local time since 00:00, a multiple of 15.
    pub from: u16,
    /// End, exclusive, counted from the same 00:00; past 1440 it lies on the next day.
    pub to: u16,
    /// Days on which something stood there.
    pub seen: u32,
    /// Days on which at least half of these hours were watched.
    pub watched: u32,
    /// Share of these hours in which something stood there, on the mean of these days, 0..=1.
    pub filled: f64,
}

impl RegularHours {
    /// Includes the hours of another rule at the same place.
    pub(super) fn widen(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.seen = self.seen.max(other.seen);
        self.watched = self.watched.max(other.watched);
        self.filled = self.filled.min(other.filled);
    }
}

/// The hours in which something stood there on the days of one kind; `None` if it did on none.
pub(super) fn regular_hours(kind: DayType, seen: &Days, watched: &Days) -> Option<RegularHours> {
    let mut days: Vec<u128> = seen.bits().filter(|b| b.count_ones() >= MIN_SLOTS).collect();
    let mut first: Vec<u32> = days.iter().map(|b| b.trailing_zeros()).collect();
    let mut last: Vec<u32> = days.iter().map(|b| 128 - b.leading_zeros()).collect();
    first.sort_unstable();
    last.sort_unstable();
    let rank = |share: f64| share * days.len().saturating_sub(1) as f64;
    // Outward: with few days, the earliest and the latest.
    let from = *first.get(rank(EARLY).floor() as usize)?;
    let to = *last.get(rank(LATE).ceil() as usize)?;
    let window = (u128::MAX >> (128 - to)) & (u128::MAX << from);
    let share = |bits: u128| f64::from((bits & window).count_ones()) / f64::from(window.count_ones().max(1));
    // A day that ended before the others began is not one of them.
    days.retain(|bits| bits & window != 0);
    let watched = watched.bits().filter(|bits| share(*bits) >= MIN_WATCHED).count() as u32;
    let minute = |slot: u32| (slot * 15) as u16 + DAY_BEGINS.unsigned_abs() as u16 * 60;
    let seen = days.len() as u32;
    Some(RegularHours {
        kind,
        from: minute(from),
        to: minute(to),
        seen,
        // What was seen was watched, however shortly.
        watched: watched.max(seen),
        filled: days.iter().map(|bits| share(*bits)).sum::<f64>() / f64::from(seen.max(1)),
    })
}
