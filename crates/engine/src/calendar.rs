//! The city's calendar: holidays, schedules, and when a schedule is open.
//!
//! Times come in as UTC; windows are in the city's local time. The time zone's rules come with the plan, so no
//! time-zone database is read here. A moment is in a window if the local clock then shows a time in the window. Local
//! times skipped by a DST change never occur; local times that occur twice are in the window twice. A window that
//! crosses midnight belongs to the day it begins on: Friday 18:00–02:00 is open on Saturday at 01:00, whatever kind of
//! day Saturday is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use jiff::{
    Span, Timestamp,
    civil::{Date, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};
use serde::{Deserialize, Serialize};

use super::{
    plus, since,
    types::{ScheduleId, Validity},
};

/// Minutes per day on the local clock.
pub const DAY: u16 = 24 * 60;

/// How far around a moment the calendar searches for the limits of its span.
const SPAN_SEARCH: Duration = Duration::from_hours(12);

/// Exceptions announced by the city. A date without one follows its weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayKind {
    /// A public holiday, whatever the weekday.
    Holiday,
    /// A make-up working day (调休) on a Saturday or Sunday.
    WorkingDay,
}

/// Days on which a window begins: the union of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Days {
    /// By weekday, Monday first, holiday or not.
    pub weekdays: [bool; 7],
    /// Monday to Friday without holidays, and make-up working days.
    pub workday: bool,
    /// Every other day.
    pub restday: bool,
    /// Public holidays.
    pub holiday: bool,
}

impl Days {
    /// Every day.
    pub const DAILY: Self = Self {
        weekdays: [true; 7],
        workday: false,
        restday: false,
        holiday: false,
    };

    /// Whether it includes a day of this weekday and kind.
    pub fn includes(&self, weekday: Weekday, kind: Option<DayKind>) -> bool {
        let is_workday = match kind {
            Some(DayKind::Holiday) => false,
            Some(DayKind::WorkingDay) => true,
            None => !matches!(weekday, Weekday::Saturday | Weekday::Sunday),
        };
        let nth = usize::from(weekday.to_monday_zero_offset().unsigned_abs());
        self.weekdays[nth]
            || (self.workday && is_workday)
            || (self.restday && !is_workday)
            || (self.holiday && kind == Some(DayKind::Holiday))
    }
}

/// A part of every year, from one month and day to another, both inclusive; it may cross the new year.
///
/// 29 February always belongs with 28 February, so that seasons which divide the year without a gap also do so in leap
/// years. A bound of `02-29` is read as `02-28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Season {
    from: (i8, i8),
    to: (i8, i8),
}

impl Season {
    /// Bounds as (month 1..=12, day 1..=31).
    pub fn new(from: (i8, i8), to: (i8, i8)) -> Self {
        let (from, to) = (without_leap_day(from), without_leap_day(to));
        Self { from, to }
    }

    /// Whether the season includes the date.
    pub fn includes(&self, date: Date) -> bool {
        let day = without_leap_day((date.month(), date.day()));
        if self.from <= self.to {
            (self.from..=self.to).contains(&day)
        } else {
            day >= self.from || day <= self.to
        }
    }
}

fn without_leap_day(day: (i8, i8)) -> (i8, i8) {
    if day == (2, 29) { (2, 28) } else { day }
}

/// A time window on certain days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Days on which it begins.
    pub days: Days,
    /// Start in minutes of local time since that day's 00:00; 0..[`DAY`].
    pub from: u16,
    /// End, exclusive, counted from the same 00:00; past [`DAY`] it lies on the next day. `from < to <= from + DAY`.
    pub to: u16,
    /// Season in which it begins; `None`: all year.
    pub season: Option<Season>,
}

/// A named schedule, open when any of its windows is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// In the order of the configuration; may overlap.
    pub windows: Vec<Window>,
}

/// A pause of a rule, such as garbage collection: while the schedule is open and for some time after, the rule ignores
/// everything and forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Extra time after the schedule closes.
    pub after: Duration,
}

/// When a rule is active; by default always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// Active only while this schedule is open.
    pub active: Option<ScheduleId>,
    /// Never active during this pause.
    pub pause: Option<Pause>,
}

/// A span of time in which a rule's activity does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HoursSpan {
    /// Start inclusive, end exclusive.
    during: Range<Timestamp>,
    /// Whether the rule is active in it.
    is_active: bool,
}

/// Caches the current span of one rule's hours: consecutive looks nearly always fall into the same span. Use a new
/// cache for other hours.
#[derive(Debug, Clone, Default)]
pub struct HoursCache(Option<HoursSpan>);

impl HoursCache {
    /// As [`Calendar::is_active`].
    pub(crate) fn is_active(&mut self, calendar: &Calendar, hours: &Hours, at: Timestamp) -> bool {
        self.at(calendar, hours, at).is_active
    }

    /// As [`Calendar::active_time`].
    pub fn active_time(&mut self, calendar: &Calendar, hours: &Hours, from: Timestamp, to: Timestamp) -> Duration {
        let span = self.at(calendar, hours, to);
        if from < span.during.start {
            calendar.active_time(hours, from, to)
        } else if span.is_active {
            since(to, from)
        } else {
            Duration::ZERO
        }
    }

    fn at(&mut self, calendar: &Calendar, hours: &Hours, at: Timestamp) -> &HoursSpan {
        if self.0.as_ref().is_some_and(|s| !s.during.contains(&at)) {
            self.0 = None;
        }
        self.0.get_or_insert_with(|| calendar.span(hours, at))
    }
}

/// The city's days and hours.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// The city's time zone.
    pub zone: TimeZone,
    /// Dates that do not follow their weekday.
    pub days: BTreeMap<Date, DayKind>,
    /// By id. An unknown schedule is never open.
    pub schedules: BTreeMap<ScheduleId, Schedule>,
}

impl Default for Calendar {
    /// UTC, no holidays, no schedules.
    fn default() -> Self {
        Self {
            zone: TimeZone::UTC,
            days: BTreeMap::new(),
            schedules: BTreeMap::new(),
        }
    }
}

impl Calendar {
    /// Whether the schedule is open at `at`.
    pub fn is_open(&self, schedule: &ScheduleId, at: Timestamp) -> bool {
        self.is_open_on(schedule, &Validity::ALWAYS, at)
    }

    /// Whether the schedule is open at `at` by a window that begins on one of the days.
    pub fn is_open_on(&self, schedule: &ScheduleId, days: &Validity, at: Timestamp) -> bool {
        self.schedules.get(schedule).is_some_and(|s| self.is_in(s, days, at))
    }

    /// The local day of a moment.
    pub fn date(&self, at: Timestamp) -> Date {
        self.zone.to_datetime(at).date()
    }

    /// The ranges in which the schedule is open between two moments: in order, disjoint, ends exclusive.
    pub fn open_within(&self, schedule: &ScheduleId, from: Timestamp, to: Timestamp) -> Vec<Range<Timestamp>> {
        let Some(schedule) = self.schedules.get(schedule).filter(|_| from < to) else {
            return Vec::new();
        };
        let mut open: Vec<Range<Timestamp>> = Vec::new();
        let mut start = from;
        for end in self.edges(schedule, from, to).into_iter().chain([to]) {
            if self.is_in(schedule, &Validity::ALWAYS, start) {
                match open.last_mut().filter(|before| before.end == start) {
                    Some(before) => before.end = end,
                    None => open.push(start..end),
                }
            }
            start = end;
        }
        open
    }

    /// Whether a rule with these hours is active at `at`.
    pub fn is_active(&self, hours: &Hours, at: Timestamp) -> bool {
        hours.active.as_ref().is_none_or(|s| self.is_open(s, at))
            && !hours.pause.as_ref().is_some_and(|p| {
                self.is_open(&p.schedule, at) || !self.open_within(&p.schedule, minus(at, p.after), at).is_empty()
            })
    }

    /// How long a rule with these hours is active between two moments.
    pub fn active_time(&self, hours: &Hours, from: Timestamp, to: Timestamp) -> Duration {
        let worked = self.active_ranges(hours, from, to);
        worked.iter().map(|w| since(w.end, w.start)).sum()
    }

    /// The span around `at` in which the hours give the same answer.
    fn span(&self, hours: &Hours, at: Timestamp) -> HoursSpan {
        if *hours == Hours::default() {
            return HoursSpan {
                during: Timestamp::MIN..Timestamp::MAX,
                is_active: true,
            };
        }
        // Longer spans are cut here and computed again, about twice a day.
        let mut during = minus(at, SPAN_SEARCH)..plus(at, SPAN_SEARCH);
        for working in self.active_ranges(hours, during.start, during.end) {
            if working.contains(&at) {
                return HoursSpan {
                    during: working,
                    is_active: true,
                };
            }
            if working.end <= at {
                during.start = working.end;
            } else {
                during.end = working.start;
                break;
            }
        }
        HoursSpan {
            during,
            is_active: false,
        }
    }

    /// The ranges in which a rule with these hours is active between two moments: in order, disjoint, ends exclusive.
    fn active_ranges(&self, hours: &Hours, from: Timestamp, to: Timestamp) -> Vec<Range<Timestamp>> {
        let mut worked = match &hours.active {
            Some(schedule) => self.open_within(schedule, from, to),
            None => vec![from..to],
        };
        if let Some(pause) = &hours.pause {
            for open in self.open_within(&pause.schedule, minus(from, pause.after), to) {
                let rest = open.start..plus(open.end, pause.after);
                worked = worked.into_iter().flat_map(|w| subtract(w, &rest)).collect();
            }
        }
        worked
    }

    /// Whether the local time is in one of the windows that begin on one of `days`.
    fn is_in(&self, schedule: &Schedule, days: &Validity, at: Timestamp) -> bool {
        let wall = self.zone.to_datetime(at);
        let minute = u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
        let begins = |w: &Window, date: Date| {
            days.includes(date)
                && w.days.includes(date.weekday(), self.days.get(&date).copied())
                && w.season.is_none_or(|s| s.includes(date))
        };
        let today = wall.date();
        schedule.windows.iter().any(|w| {
            ((w.from..w.to).contains(&minute) && begins(w, today))
                || ((w.from..w.to).contains(&(minute + DAY)) && today.yesterday().is_ok_and(|d| begins(w, d)))
        })
    }

    /// Every moment between the two at which the schedule may open or close: window bounds and time-zone transitions.
    /// [`Self::is_in`] decides which of them do.
    fn edges(&self, schedule: &Schedule, from: Timestamp, to: Timestamp) -> BTreeSet<Timestamp> {
        let jumps = self.zone.following(from).map(|t| t.timestamp());
        let mut edges: BTreeSet<Timestamp> = jumps.take_while(|t| *t < to).collect();
        // A window ends up to two days after the 00:00 it is counted from, and a backward transition may repeat a day.
        let first = self.zone.to_datetime(from).date().saturating_sub(Span::new().days(3));
        let last = self.zone.to_datetime(to).date().saturating_add(Span::new().days(1));
        for date in first.series(Span::new().days(1)).take_while(|d| *d <= last) {
            for minute in schedule.windows.iter().flat_map(|w| [w.from, w.to]) {
                let Ok(wall) = date
                    .to_datetime(jiff::civil::Time::midnight())
                    .checked_add(Span::new().minutes(minute))
                else {
                    continue;
                };
                let offsets = match self.zone.to_ambiguous_timestamp(wall).offset() {
                    AmbiguousOffset::Unambiguous { offset } => [offset; 2],
                    AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => [before, after],
                };
                let shown = offsets.into_iter().filter_map(|o| o.to_timestamp(wall).ok());
                edges.extend(shown.filter(|t| from < *t && *t < to));
            }
        }
        edges
    }
}

fn minus(at: Timestamp, before: Duration) -> Timestamp {
    at.checked_sub(before).unwrap_or(Timestamp::MIN)
}

/// The parts of `whole` before and after `hole`.
fn subtract(whole: Range<Timestamp>, hole: &Range<Timestamp>) -> impl Iterator<Item = Range<Timestamp>> {
    let before = whole.start..whole.end.min(hole.start);
    let after = whole.start.max(hole.end)..whole.end;
    [before, after].into_iter().filter(|r| r.start < r.end)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    /// China in 2026: Saturday 14 February is a make-up working day, Monday 16 February is in the Spring Festival.
    fn calendar(window: Window) -> Calendar {
        Calendar {
            zone: TimeZone::fixed(jiff::tz::offset(8)),
            days: [
                (date(2026, 2, 14), DayKind::WorkingDay),
                (date(2026, 2, 16), DayKind::Holiday),
            ]
            .into(),
            schedules: [("hours".into(), Schedule { windows: vec![window] })].into(),
        }
    }

    fn window(days: Days, from: u16, to: u16) -> Window {
        Window {
            days,
            from,
            to,
            season: None,
        }
    }

    fn is_open(calendar: &Calendar, local: &str) -> bool {
        calendar.is_open(&"hours".into(), format!("{local}+08:00").parse().unwrap())
    }

    #[test]
    fn make_up_days_are_workdays_and_holidays_are_not() {
        let workday = calendar(window(
            Days {
                workday: true,
                ..Days::default()
            },
            360,
            570,
        ));
        for (local, expected) in [
            ("2026-02-13T06:00:00", true),
            ("2026-02-13T05:59:59.999", false),
            ("2026-02-13T09:29:59.999", true),
            ("2026-02-13T09:30:00", false),
            ("2026-02-14T07:00:00", true),
            ("2026-02-15T07:00:00", false),
            ("2026-02-16T07:00:00", false),
            ("2026-02-17T07:00:00", true),
        ] {
            assert_eq!(is_open(&workday, local), expected, "{local}");
        }
        let rest = Days {
            restday: true,
            ..Days::default()
        };
        let holiday = Days {
            holiday: true,
            ..Days::default()
        };
        let monday = Days {
            weekdays: [true, false, false, false, false, false, false],
            ..Days::default()
        };
        let on = |days: Days| {
            [14, 15, 16].map(|d| is_open(&calendar(window(days, 0, DAY)), &format!("2026-02-{d}T07:00:00")))
        };
        assert_eq!(on(rest), [false, true, true]);
        assert_eq!(on(holiday), [false, false, true]);
        assert_eq!(
            on(monday),
            [false, false, true],
            "a named weekday is that weekday, holiday or not"
        );
        assert_eq!(on(Days::DAILY), [true; 3]);
    }

    #[test]
    fn a_window_across_midnight_belongs_to_the_day_it_began_on() {
        let fridays = Days {
            weekdays: [false, false, false, false, true, false, false],
            ..Days::default()
        };
        let night = calendar(window(fridays, 18 * 60, 26 * 60));
        for (local, expected) in [
            ("2026-02-13T17:59:00", false),
            ("2026-02-13T18:00:00", true),
            ("2026-02-14T01:59:00", true),
            ("2026-02-14T02:00:00", false),
            ("2026-02-14T18:00:00", false),
            ("2026-02-13T01:00:00", false),
        ] {
            assert_eq!(is_open(&night, local), expected, "{local}");
        }
    }

    #[test]
    fn leap_days_leave_no_gap_between_seasons() {
        let winter = Season::new((11, 1), (2, 28));
        let spring = Season::new((3, 1), (10, 31));
        for year in [2024, 2025, 2100] {
            for day in date(year, 1, 1)
                .series(Span::new().days(1))
                .take_while(|d| d.year() == year)
            {
                assert!(winter.includes(day) != spring.includes(day), "{day} is in one of them");
            }
        }
        assert!(winter.includes(date(2024, 2, 29)));
        assert_eq!(Season::new((2, 29), (2, 29)), Season::new((2, 28), (2, 28)));
    }

    #[test]
    fn a_pause_extends_past_its_window_and_is_not_active_time() {
        let calendar = calendar(window(Days::DAILY, 360, 570));
        let hours = Hours {
            active: None,
            pause: Some(Pause {
                schedule: "hours".into(),
                after: Duration::from_mins(30),
            }),
        };
        let at = |local: &str| format!("2026-02-13T{local}+08:00").parse::<Timestamp>().unwrap();
        for (local, expected) in [
            ("05:59:59", true),
            ("06:00:00", false),
            ("09:59:59", false),
            ("10:00:00", true),
        ] {
            assert_eq!(calendar.is_active(&hours, at(local)), expected, "{local}");
        }
        let worked = |from, to| calendar.active_time(&hours, at(from), at(to)).as_secs();
        assert_eq!(worked("05:50:00", "10:10:00"), 20 * 60);
        assert_eq!(worked("09:45:00", "10:00:10"), 10);
        assert_eq!(worked("07:00:00", "07:10:00"), 0);
        let night = Hours {
            active: Some("hours".into()),
            pause: None,
        };
        assert_eq!(
            calendar.active_time(&night, at("05:59:50"), at("06:00:20")).as_secs(),
            20
        );
        let unknown = Hours {
            active: Some("nowhere".into()),
            pause: None,
        };
        assert!(!calendar.is_active(&unknown, at("07:00:00")));
        assert!(calendar.is_active(&Hours::default(), at("07:00:00")));
    }

    /// Every 7 min 20 s over five days with a DST change: the cache agrees with the calendar.
    #[test]
    fn cached_spans_agree_with_the_calendar() {
        let windows = |spans: &[(u16, u16)]| Schedule {
            windows: spans.iter().map(|(from, to)| window(Days::DAILY, *from, *to)).collect(),
        };
        let calendar = Calendar {
            // DST starts on the last Sunday of March: local 02:00 becomes 03:00.
            zone: TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(),
            schedules: [
                ("night".into(), windows(&[(18 * 60, 26 * 60)])),
                (
                    "collection".into(),
                    windows(&[(60, 150), (360, 570), (570, 600), (1260, 1261)]),
                ),
                ("never".into(), windows(&[])),
            ]
            .into(),
            ..Calendar::default()
        };
        let hours = |active: Option<&str>, pause: Option<(&str, u64)>| Hours {
            active: active.map(Into::into),
            pause: pause.map(|(schedule, after)| Pause {
                schedule: schedule.into(),
                after: Duration::from_mins(after),
            }),
        };
        for hours in [
            hours(None, None),
            hours(Some("night"), None),
            hours(None, Some(("collection", 0))),
            hours(None, Some(("collection", 30))),
            hours(Some("night"), Some(("collection", 700))),
            hours(Some("never"), None),
            hours(None, Some(("never", 30))),
            hours(None, Some(("night", 24 * 60))),
        ] {
            let mut cache = HoursCache::default();
            let begin: Timestamp = "2026-03-27T00:00:00Z".parse().unwrap();
            for step in 0..5 * 24 * 60 * 60 / 440 {
                let at = plus(begin, Duration::from_secs(440 * step));
                assert_eq!(
                    cache.is_active(&calendar, &hours, at),
                    calendar.is_active(&hours, at),
                    "{at} {hours:?}"
                );
                for before in [10, 440, 3000, 100_000] {
                    let from = minus(at, Duration::from_secs(before));
                    let worked = calendar.active_time(&hours, from, at);
                    assert_eq!(
                        cache.active_time(&calendar, &hours, from, at),
                        worked,
                        "{from} {at} {hours:?}"
                    );
                }
                let span = calendar.span(&hours, at);
                assert!(span.during.contains(&at));
                for end in [span.during.start, minus(span.during.end, Duration::from_nanos(1))] {
                    assert_eq!(calendar.is_active(&hours, end), span.is_active, "{end} {hours:?}");
                }
            }
        }
    }
}
