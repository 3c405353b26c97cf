//! Calendar and schedules: holidays, opening hours, and the references to them in zones and rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::civil::{Date, Weekday, date};
use serde_json::Value;

use super::{Checker, FieldPath, prefixed, section};
use crate::{Fault, raw};
use gridwatch_base::{document::schema::nearest, message, message::Message};
use gridwatch_engine::{
    ScheduleId, ZoneKind,
    calendar::{DAY, DayKind, Days, Hours, Pause, Schedule, Season, Window},
};

/// Longest plausible public holiday. A typo in the year would otherwise make a decade of holidays.
const LONGEST_HOLIDAY_DAYS: i32 = 31;

/// Limits of `pause_after`: with a schedule that opens daily, a longer pause would never end.
const PAUSE_AFTER: (Duration, Duration) = (Duration::ZERO, Duration::from_hours(24));

/// Weekday names as in the configuration, Monday first.
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// From this month on, next year's holidays are expected: the notice is published in November, in one year in December.
const NOTICE_MONTH: i8 = 12;

const DATE_REMEDY: &str = "use YYYY-MM-DD, or a range that includes both days, such as 2026-10-01..2026-10-07";

type Kinds = BTreeMap<Date, DayKind>;

impl Checker<'_> {
    /// Reads the holidays and compiles the valid schedules.
    pub(super) fn calendar(&mut self) {
        let (days, years) = self.days();
        let has_none = section("calendar").get(&self.document.value).is_none();
        self.draft.rest.schedule_ids = self.unique_ids(&section("schedules"), "id");
        for (at, raw) in self.elements::<raw::Schedule>(&section("schedules")) {
            let windows_at = at.key("windows");
            let mut windows: Vec<(usize, Window)> = Vec::new();
            for (i, raw) in raw.windows.iter().enumerate() {
                let at = windows_at.index(i);
                let Some(window) = self.window(&at, raw) else { continue };
                for (before, _) in windows.iter().filter(|(_, w)| overlap(w, &window)) {
                    self.warn(
                        &at,
                        message!("overlaps windows[{before}]", before = before.to_string()),
                        "a schedule is open while any of its windows is; check that both are intended",
                    );
                }
                if has_none && depends_on_holidays(&window) {
                    self.warn(
                        &at.key("days"),
                        "depends on public holidays, but there is no [calendar]",
                        "add the year's file to calendar.files; see configs/calendar/ for examples",
                    );
                }
                windows.push((i, window));
            }
            let windows = windows.into_iter().map(|(_, w)| w).collect();
            self.draft.rest.schedules.insert(raw.id.into(), Schedule { windows });
        }
        if !has_none && self.draft.faults.is_empty() {
            self.years(&years);
        }
        self.draft.rest.days = days;
    }

    /// Warns if a schedule depends on holidays and the current year, or from December on the next, has none listed.
    fn years(&mut self, known: &BTreeSet<i16>) {
        let Some(today) = self.surroundings.today else { return };
        let mut windows = self.draft.rest.schedules.values().flat_map(|s| &s.windows);
        if !windows.any(depends_on_holidays) {
            return;
        }
        let next = (today.month() >= NOTICE_MONTH).then(|| today.year() + 1);
        for year in [Some(today.year()), next]
            .into_iter()
            .flatten()
            .filter(|y| !known.contains(y))
        {
            self.warn(
                &section("calendar").key("files"),
                message!(
                    "no holidays listed for {year}: every Monday to Friday counts as a workday",
                    year = year.to_string()
                ),
                "add the year's file, from the State Council's notice; see configs/calendar/ for examples",
            );
        }
    }

    /// Warns about unused schedules. Skipped if there are faults, because a dropped zone or rule may have used one.
    pub(super) fn idle_schedules(&mut self) {
        if !self.draft.faults.is_empty() {
            return;
        }
        let rest = &self.draft.rest;
        let of_rules = rest.rules.iter().flat_map(|r| {
            let pause = r.hours.pause.as_ref().map(|p| &p.schedule);
            r.hours.active.iter().chain(pause)
        });
        let zones = rest.plans.values().flat_map(|c| &c.zones);
        let of_zones = zones.filter_map(|z| match &z.kind {
            ZoneKind::Permitted { during, .. } => Some(during),
            _ => None,
        });
        let used: BTreeSet<&str> = of_rules.chain(of_zones).map(ScheduleId::as_str).collect();
        let list = section("schedules");
        let typed = list.get(&self.document.value).and_then(Value::as_array);
        let ids = typed.into_iter().flatten().map(|s| s.get("id").and_then(Value::as_str));
        let idle: Vec<usize> = ids
            .enumerate()
            .filter(|(_, id)| id.is_some_and(|id| !used.contains(id)))
            .map(|(i, _)| i)
            .collect();
        for i in idle {
            self.warn(
                &list.index(i).key("id"),
                "this schedule is not used",
                "use it in a permitted zone (schedule) or in a rule (active, pause), or remove it",
            );
        }
    }

    /// The holidays and make-up working days of the calendar files and of the configuration, which takes precedence; and the years
    /// covered by the files, or, without files, by the configuration.
    fn days(&mut self) -> (Kinds, BTreeSet<i16>) {
        let at = section("calendar");
        let Some(raw) = self.optional::<raw::Calendar>(&at) else {
            return Default::default();
        };
        let mut days = Kinds::new();
        for (i, path) in raw.files.iter().enumerate() {
            let at = at.key("files").index(i);
            let what = "a calendar file, such as calendar/cn-2026.toml";
            let Some((document, file)) = self.data_file::<raw::CalendarFile>(&at, path, what) else {
                continue;
            };
            for found in add_dates(&FieldPath::default(), &file.holidays, &file.working_days, &mut days) {
                let fault = prefixed(&at, document.fault(&found.at, found.message, found.remedy));
                self.add(found.is_fault, fault);
            }
        }
        let mut own = Kinds::new();
        for found in add_dates(&at, &raw.holidays, &raw.working_days, &mut own) {
            let fault = self.document.fault(&found.at, found.message, found.remedy);
            self.add(found.is_fault, fault);
        }
        let covering = if raw.files.is_empty() { &own } else { &days };
        let years = covering.keys().map(|day| day.year()).collect();
        days.extend(own);
        (days, years)
    }

    fn add(&mut self, is_fault: bool, fault: Fault) {
        let to = if is_fault {
            &mut self.draft.faults
        } else {
            &mut self.draft.warnings
        };
        to.push(fault);
    }

    fn window(&mut self, at: &FieldPath, raw: &raw::Window) -> Option<Window> {
        let (from_at, to_at, season_at) = (at.key("from"), at.key("to"), at.key("season"));
        let season = raw.season.as_deref().map(season);
        if let Some(None) = season {
            self.fault(
                &season_at,
                "contains a day that does not exist",
                "use MM-DD..MM-DD, both days included, such as 04-01..10-31",
            );
        }
        let from = minutes(&raw.from).filter(|_| !self.is_invalid(&from_at));
        let to = minutes(&raw.to).filter(|_| !self.is_invalid(&to_at));
        if from == Some(DAY) {
            self.fault(
                &from_at,
                "a window cannot start at 24:00",
                "use 00:00, and the following day in days",
            );
        } else if from.is_some() && from == to {
            self.fault(
                &to_at,
                message!(
                    "from and to are both {from}, which is ambiguous",
                    from = raw.from.to_string()
                ),
                "for whole days, use from = \"00:00\", to = \"24:00\"",
            );
        }
        let (from, to) = (from.filter(|f| *f < DAY)?, to.filter(|to| Some(*to) != from)?);
        if season == Some(None) || self.is_invalid(&season_at) || self.is_invalid(&at.key("days")) {
            return None;
        }
        Some(Window {
            days: days(&raw.days),
            from,
            to: if to < from { to + DAY } else { to },
            season: season.flatten(),
        })
    }

    /// Resolves the schedule that a zone or a rule refers to.
    pub(super) fn schedule(&mut self, at: &FieldPath, name: &str) -> Option<ScheduleId> {
        if self.is_invalid(at) {
            return None;
        }
        let known = &self.draft.rest.schedule_ids;
        if known.contains(name) {
            return Some(name.into());
        }
        let remedy = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => message!("did you mean {near}?", near = format!("{near:?}")),
            None if known.is_empty() => "define it: [[schedules]] with an id and windows".into(),
            None => "use the id of one of the [[schedules]]".into(),
        };
        self.fault(
            at,
            message!("unknown schedule {name}", name = format!("{name:?}")),
            remedy,
        );
        None
    }

    /// The hours in which a rule is active.
    pub(super) fn hours(&mut self, at: &FieldPath, raw: &raw::Rule) -> Hours {
        let (active_at, pause_at, after_at) = (at.key("active"), at.key("pause"), at.key("pause_after"));
        let active = raw.active.as_ref().and_then(|name| self.schedule(&active_at, name));
        let pause = raw.pause.as_ref().and_then(|name| self.schedule(&pause_at, name));
        self.check_range(&after_at, raw.pause_after, PAUSE_AFTER);
        if raw.pause.is_none() && !self.is_invalid(&pause_at) && after_at.get(&self.document.value).is_some() {
            self.warn(
                &after_at,
                "has no effect without pause",
                "name the schedule during which the rule pauses: pause = \"…\"",
            );
        }
        if active.is_some() && active == pause {
            self.fault(
                &pause_at,
                "same schedule as active: the rule would never be active",
                "remove one of the two",
            );
        }
        let after = raw.pause_after.0;
        Hours {
            active,
            pause: pause.map(|schedule| Pause { schedule, after }),
        }
    }
}

/// A fault or a warning about a date.
struct DateFault {
    at: FieldPath,
    is_fault: bool,
    message: Message,
    remedy: &'static str,
}

/// Adds the holidays and working days of a table to `days`.
fn add_dates(table: &FieldPath, holidays: &[String], working_days: &[String], days: &mut Kinds) -> Vec<DateFault> {
    let mut faults = Vec::new();
    for (field, texts, kind) in [
        ("holidays", holidays, DayKind::Holiday),
        ("working_days", working_days, DayKind::WorkingDay),
    ] {
        for (i, text) in texts.iter().enumerate() {
            let mut report = |is_fault, message: Message, remedy| {
                let at = table.key(field).index(i);
                faults.push(DateFault {
                    at,
                    is_fault,
                    message,
                    remedy,
                });
            };
            let (from, to) = text.split_once("..").unwrap_or((text, text));
            let (Ok(from), Ok(to)) = (from.parse::<Date>(), to.parse::<Date>()) else {
                report(
                    true,
                    message!("{text} is not a valid date", text = format!("{text:?}")),
                    DATE_REMEDY,
                );
                continue;
            };
            if to < from {
                report(
                    true,
                    message!("{text} ends before it starts", text = format!("{text:?}")),
                    DATE_REMEDY,
                );
                continue;
            }
            if from.until(to).map_or(i32::MAX, |span| span.get_days()) >= LONGEST_HOLIDAY_DAYS {
                let message = message!(
                    "{text} is longer than {longest_holiday_days} days",
                    text = format!("{text:?}"),
                    longest_holiday_days = LONGEST_HOLIDAY_DAYS.to_string()
                );
                report(true, message, "check the years and months");
                continue;
            }
            for day in from.series(jiff::Span::new().days(1)).take_while(|d| *d <= to) {
                if days.insert(day, kind).is_some_and(|before| before != kind) {
                    let message = message!(
                        "{day} is listed both as a holiday and as a working day",
                        day = day.to_string()
                    );
                    report(true, message, "remove it from one of the lists");
                }
                let is_weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
                if kind == DayKind::WorkingDay && !is_weekend {
                    let message = message!(
                        "{day} is not a Saturday or Sunday, so it is a working day anyway",
                        day = day.to_string()
                    );
                    report(false, message, "check the date");
                }
            }
        }
    }
    faults
}

fn depends_on_holidays(window: &Window) -> bool {
    window.days.workday || window.days.restday || window.days.holiday
}

fn minutes(time: &str) -> Option<u16> {
    let (hours, minutes) = time.split_once(':')?;
    Some(hours.parse::<u16>().ok()? * 60 + minutes.parse::<u16>().ok()?)
}

fn season(text: &str) -> Option<Season> {
    let day = |text: &str| {
        let (month, day) = text.split_once('-')?;
        // A leap year, so that 02-29 is valid.
        let date = Date::new(2024, month.parse().ok()?, day.parse().ok()?).ok()?;
        Some((date.month(), date.day()))
    };
    let (from, to) = text.split_once("..")?;
    Some(Season::new(day(from)?, day(to)?))
}

/// Parses day names; the schema has already rejected unknown ones.
fn days(words: &[String]) -> Days {
    let mut days = Days::default();
    let nth = |name: &str| WEEKDAYS.iter().position(|w| *w == name);
    for word in words {
        match word.as_str() {
            "daily" => days.weekdays = [true; 7],
            "workday" => days.workday = true,
            "restday" => days.restday = true,
            "holiday" => days.holiday = true,
            weekdays => {
                let (from, to) = weekdays.split_once('-').unwrap_or((weekdays, weekdays));
                if let (Some(from), Some(to)) = (nth(from), nth(to)) {
                    let count = (to + 7 - from) % 7 + 1; // `sat-mon` wraps around the end of the week.
                    (from..from + count).for_each(|day| days.weekdays[day % 7] = true);
                }
            }
        }
    }
    days
}

/// True if both windows can be open at the same time on some day of some year.
fn overlap(a: &Window, b: &Window) -> bool {
    let is_same_day = a.from < b.to && b.from < a.to;
    (is_same_day && meet(a, b, 0)) || (b.from + DAY < a.to && meet(a, b, 1)) || (a.from + DAY < b.to && meet(b, a, 1))
}

/// True if `b` can start `later` days after a day on which `a` starts.
fn meet(a: &Window, b: &Window, later: usize) -> bool {
    let kinds = [None, Some(DayKind::Holiday), Some(DayKind::WorkingDay)];
    // Any year without a leap day that starts on a Monday, plus the first day of the next.
    let year: Vec<Date> = date(2029, 1, 1)
        .series(jiff::Span::new().days(1))
        .take(365 + 1)
        .collect();
    let begins = |w: &Window, date: Date| w.season.is_none_or(|s| s.includes(date));
    let days = |w: &Window, nth: usize, kind| w.days.includes(year[nth].weekday(), kind);
    let on_a_weekday = (0..7).any(|nth| {
        kinds.into_iter().any(|kind| {
            let after = if later == 0 { vec![kind] } else { kinds.to_vec() };
            days(a, nth, kind) && after.into_iter().any(|kind| days(b, nth + later, kind))
        })
    });
    on_a_weekday && (0..365).any(|nth| begins(a, year[nth]) && begins(b, year[nth + later]))
}
