//! Schedules against a minute-by-minute reference of the local clock and the list of days, in awkward time zones.

use std::{collections::BTreeMap, time::Duration};

use gridwatch_engine::{
    ScheduleId,
    calendar::{Calendar, DAY, DayKind, Days, Hours, Pause, Schedule, Season, Window},
};
use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Weekday, date},
    tz::TimeZone,
};
use proptest::prelude::*;

/// Without DST, with DST in both hemispheres, by half an hour, at midnight, with a skipped Friday, and with clocks set
/// back for the month of Ramadan.
const YEARS: [(&str, i16); 8] = [
    ("Asia/Shanghai", 2026),
    ("Europe/Berlin", 2026),
    ("America/New_York", 2028),
    ("Australia/Lord_Howe", 2026),
    ("America/Sao_Paulo", 2018),
    ("Asia/Beirut", 2023),
    ("Pacific/Apia", 2011),
    ("Africa/Casablanca", 2024),
];

/// A window as the tests generate it.
#[derive(Debug, Clone)]
struct AnyWindow {
    weekdays: [bool; 7],
    day_groups: (bool, bool, bool),
    from: u16,
    length: u16,
    season: Option<((i8, i8), (i8, i8))>,
}

fn any_window() -> impl Strategy<Value = AnyWindow> {
    let day = || {
        (1..=12_i8).prop_flat_map(|month| {
            let days = date(2024, month, 1).days_in_month();
            (Just(month), prop_oneof![1..=days, Just(days)])
        })
    };
    (
        any::<[bool; 7]>(),
        any::<(bool, bool, bool)>(),
        0..DAY,
        prop_oneof![1..=DAY, 1..=180_u16],
        proptest::option::of((day(), day())),
    )
        .prop_map(|(weekdays, day_groups, from, length, season)| AnyWindow {
            weekdays,
            day_groups,
            from,
            length,
            season,
        })
}

fn kinds(year: i16) -> impl Strategy<Value = BTreeMap<Date, DayKind>> {
    let day = (
        0..365_i32,
        prop_oneof![Just(DayKind::Holiday), Just(DayKind::WorkingDay)],
    );
    proptest::collection::vec(day, 0..40).prop_map(move |days| {
        days.into_iter()
            .map(|(n, kind)| (date(year, 1, 1) + n.days(), kind))
            .collect()
    })
}

fn id() -> ScheduleId {
    "hours".into()
}

fn calendar(zone: &str, days: BTreeMap<Date, DayKind>, windows: &[AnyWindow]) -> Calendar {
    let windows = windows.iter().map(|d| Window {
        days: Days {
            weekdays: d.weekdays,
            workday: d.day_groups.0,
            restday: d.day_groups.1,
            holiday: d.day_groups.2,
        },
        from: d.from,
        to: d.from + d.length,
        season: d.season.map(|(from, to)| Season::new(from, to)),
    });
    let schedule = Schedule {
        windows: windows.collect(),
    };
    Calendar {
        zone: TimeZone::get(zone).unwrap(),
        days,
        schedules: [(id(), schedule)].into(),
    }
}

/// Whether a window begins on a date, computed differently from the code under test.
fn begins(window: &AnyWindow, kinds: &BTreeMap<Date, DayKind>, day: Date) -> bool {
    let is_weekend = [Weekday::Saturday, Weekday::Sunday].contains(&day.weekday());
    let (is_holiday, is_made_up) = (
        kinds.get(&day) == Some(&DayKind::Holiday),
        kinds.get(&day) == Some(&DayKind::WorkingDay),
    );
    let is_rest = is_holiday || (is_weekend && !is_made_up);
    let (workday, restday, holiday) = window.day_groups;
    let by_name = window.weekdays[day.weekday().to_monday_one_offset() as usize - 1];
    let in_season = window.season.is_none_or(|(from, to)| {
        // Days of a common year, counted forward from the first day of the season.
        let nth = |(month, day): (i8, i8)| {
            let day = if (month, day) == (2, 29) { 28 } else { day };
            i32::from(date(2025, month, day).day_of_year())
        };
        let walked = |to: i32| (to - nth(from)).rem_euclid(365);
        walked(nth((day.month(), day.day()))) <= walked(nth(to))
    });
    in_season && (by_name || workday && !is_rest || restday && is_rest || holiday && is_holiday)
}

/// Every minute of local time in which a window is open, by walking through each window day by day.
struct LocalClock {
    base: Date,
    open: Vec<bool>,
}

impl LocalClock {
    fn of(year: i16, kinds: &BTreeMap<Date, DayKind>, windows: &[AnyWindow]) -> Self {
        let base = date(year, 1, 1) - 5.days();
        let mut open = vec![false; 380 * usize::from(DAY)];
        for n in 0..376_i64 {
            let day = base + n.days();
            for window in windows.iter().filter(|w| begins(w, kinds, day)) {
                let start = n as usize * usize::from(DAY) + usize::from(window.from);
                open[start..start + usize::from(window.length)].fill(true);
            }
        }
        Self { base, open }
    }

    fn is_open(&self, zone: &TimeZone, at: Timestamp) -> bool {
        let clock = zone.to_datetime(at);
        let days = (clock.date() - self.base).get_days() as usize;
        self.open[days * usize::from(DAY) + clock.hour() as usize * 60 + clock.minute() as usize]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn a_year_matches_its_minute_by_minute_reference(
        (zone, year, days) in (0..YEARS.len()).prop_flat_map(|n| (Just(YEARS[n].0), Just(YEARS[n].1), kinds(YEARS[n].1))),
        windows in proptest::collection::vec(any_window(), 1..4),
    ) {
        let clock = LocalClock::of(year, &days, &windows);
        let calendar = calendar(zone, days, &windows);
        let start = date(year, 1, 1).to_zoned(TimeZone::UTC).unwrap().timestamp();
        let end = start + (365 * 24).hours();
        let mut runs: Vec<std::ops::Range<Timestamp>> = Vec::new();
        let mut at = start;
        while at < end {
            let next = at + 1.minute();
            let expected = clock.is_open(&calendar.zone, at);
            prop_assert_eq!(calendar.is_open(&id(), at), expected, "{} in {}", at, zone);
            if expected {
                match runs.last_mut() {
                    Some(run) if run.end == at => run.end = next,
                    _ => runs.push(at..next),
                }
            }
            at = next;
        }
        prop_assert_eq!(calendar.open_within(&id(), start, end), runs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn active_time_is_the_sum_of_its_minutes(
        (zone, year, days) in (0..YEARS.len()).prop_flat_map(|n| (Just(YEARS[n].0), Just(YEARS[n].1), kinds(YEARS[n].1))),
        (windows, other) in (proptest::collection::vec(any_window(), 1..3), any_window()),
        (start, length) in (0..360 * 1440_i64, 1..2 * 1440_i64),
        (is_active, is_paused, after) in (any::<bool>(), any::<bool>(), 0..300_u64),
    ) {
        let mut calendar = calendar(zone, days.clone(), &windows);
        let pause = self::calendar(zone, days, &[other]).schedules[&id()].clone();
        calendar.schedules.insert("pause".into(), pause);
        let hours = Hours {
            active: is_active.then(id),
            pause: is_paused.then(|| Pause { schedule: "pause".into(), after: Duration::from_secs(60 * after) }),
        };
        let start = date(year, 1, 1).to_zoned(TimeZone::UTC).unwrap().timestamp() + start.minutes();
        let works = |n: i64| calendar.is_active(&hours, start + n.minutes());
        let count = |from: i64, to: i64| Duration::from_secs(60 * (from..to).filter(|n| works(*n)).count() as u64);
        let worked = |from: i64, to: i64| calendar.active_time(&hours, start + from.minutes(), start + to.minutes());
        prop_assert_eq!(worked(0, length), count(0, length));
        let middle = length / 3;
        prop_assert_eq!(worked(0, middle) + worked(middle, length), worked(0, length), "no time is counted twice or lost");
        // Nothing changes within a minute.
        let half = calendar.active_time(&hours, start, start + 30.seconds());
        prop_assert_eq!(half, if works(0) { Duration::from_secs(30) } else { Duration::ZERO });
    }
}

/// 2026-03-29 02:00 becomes 03:00 in Berlin, 2026-10-25 03:00 becomes 02:00.
#[test]
fn skipped_local_times_never_occur_and_repeated_ones_occur_twice() {
    let window = |from, length| {
        let window = AnyWindow {
            weekdays: [true; 7],
            day_groups: (false, false, false),
            from,
            length,
            season: None,
        };
        calendar("Europe/Berlin", BTreeMap::new(), &[window])
    };
    let open = |calendar: &Calendar, from: &str, to: &str| {
        let ranges = calendar.open_within(&id(), from.parse().unwrap(), to.parse().unwrap());
        ranges
            .iter()
            .map(|r| format!("{}/{}", r.start, r.end))
            .collect::<Vec<_>>()
    };
    let (spring, autumn) = (
        ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
        ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
    );
    let in_the_hour = window(2 * 60 + 15, 30);
    assert_eq!(
        open(&in_the_hour, spring.0, spring.1),
        [""; 0],
        "02:15 to 02:45 is skipped"
    );
    assert_eq!(
        open(&in_the_hour, autumn.0, autumn.1),
        [
            "2026-10-25T00:15:00Z/2026-10-25T00:45:00Z",
            "2026-10-25T01:15:00Z/2026-10-25T01:45:00Z"
        ]
    );
    let into_the_hour = window(60, 90);
    assert_eq!(
        open(&into_the_hour, spring.0, spring.1),
        ["2026-03-29T00:00:00Z/2026-03-29T01:00:00Z"],
        "01:00 to 02:30 ends where the clock jumps to 03:00"
    );
    assert_eq!(
        open(&into_the_hour, autumn.0, autumn.1),
        [
            "2026-10-24T23:00:00Z/2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z/2026-10-25T01:30:00Z"
        ],
        "02:00 to 02:30 occurs twice"
    );
    let all_day = window(0, DAY);
    assert_eq!(
        open(&all_day, spring.0, spring.1),
        [format!("{}/{}", spring.0, spring.1)],
        "without a gap"
    );
}
