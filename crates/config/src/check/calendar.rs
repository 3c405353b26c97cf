//! Days and hours: holidays, schedules, and what zones and rules say of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::civil::{Date, Weekday, date};
use serde_json::Value;

use super::{At, Checker, inside, top};
use crate::{Fault, raw};
use gridwatch_base::document::schema::nearest;
use gridwatch_engine::{
    ScheduleId, ZoneKind,
    calendar::{DAY, DayKind, Days, Hours, Pause, Schedule, Season, Window},
};

/// No public holiday is longer: a slip of the year would make a decade of Sundays.
const LONGEST_HOLIDAY_DAYS: i32 = 31;

/// A pause that outlasts a day never ends where the schedule opens daily.
const PAUSE_AFTER: (Duration, Duration) = (Duration::ZERO, Duration::from_hours(24));

/// As in the configuration, Monday first.
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// From this month on the next year's holidays are asked for: the notice comes in November, in one year it came in December.
const NOTICE_MONTH: i8 = 12;

const DATE_REMEDY: &str = "write 2026-10-01, or 2026-10-01..2026-10-07 for all days from the one to the other";

type Kinds = BTreeMap<Date, DayKind>;

impl Checker<'_> {
    /// Reads the holidays and compiles the sound schedules.
    pub(super) fn calendar(&mut self) {
        let (days, years) = self.days();
        let has_none = top("calendar").of(&self.document.value).is_none();
        self.draft.rest.schedule_ids = self.ids(&top("schedules"), "id");
        for (at, raw) in self.each::<raw::Schedule>(&top("schedules")) {
            let windows_at = at.key("windows");
            let mut windows: Vec<(usize, Window)> = Vec::new();
            for (i, raw) in raw.windows.iter().enumerate() {
                let at = windows_at.index(i);
                let Some(window) = self.window(&at, raw) else { continue };
                for (before, _) in windows.iter().filter(|(_, w)| overlap(w, &window)) {
                    self.warn(
                        &at,
                        format!("overlaps windows[{before}]"),
                        "the schedule is open when any window is: check that both are meant",
                    );
                }
                if has_none && asks_for_holidays(&window) {
                    self.warn(
                        &at.key("days"),
                        "asks for holidays, and there is no [calendar] that knows them",
                        "name the year's file under calendar.files; configs/calendar/ has examples",
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

    /// Where a schedule asks for holidays, the years that they are known of must go on.
    fn years(&mut self, known: &BTreeSet<i16>) {
        let Some(today) = self.today else { return };
        let mut windows = self.draft.rest.schedules.values().flat_map(|s| &s.windows);
        if !windows.any(asks_for_holidays) {
            return;
        }
        let next = (today.month() >= NOTICE_MONTH).then(|| today.year() + 1);
        for year in [Some(today.year()), next]
            .into_iter()
            .flatten()
            .filter(|y| !known.contains(y))
        {
            self.warn(
                &top("calendar").key("files"),
                format!("know no holiday of {year}: all its Mondays to Fridays count as workdays"),
                "add the year's file from the State Council's notice; configs/calendar/ has examples",
            );
        }
    }

    /// A schedule that nothing names is a slip, or left over. Asked only where all else is sound.
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
            ZoneKind::Permitted { during } => Some(during),
            _ => None,
        });
        let used: BTreeSet<&str> = of_rules.chain(of_zones).map(ScheduleId::as_str).collect();
        let list = top("schedules");
        let typed = list.of(&self.document.value).and_then(Value::as_array);
        let ids = typed.into_iter().flatten().map(|s| s.get("id").and_then(Value::as_str));
        let idle: Vec<usize> = ids
            .enumerate()
            .filter(|(_, id)| id.is_some_and(|id| !used.contains(id)))
            .map(|(i, _)| i)
            .collect();
        for i in idle {
            self.warn(
                &list.index(i).key("id"),
                "nothing names this schedule",
                "name it in a permitted zone (schedule) or in a rule (active, pause), or remove it",
            );
        }
    }

    /// The days that are not what their weekday says: the files', and those that the configuration adds. And the years that
    /// somebody listed: the files', or where there is none the configuration itself.
    fn days(&mut self) -> (Kinds, BTreeSet<i16>) {
        let at = top("calendar");
        let Some(raw) = self.optional::<raw::Calendar>(&at) else {
            return Default::default();
        };
        let mut days = Kinds::new();
        for (i, path) in raw.files.iter().enumerate() {
            let at = at.key("files").index(i);
            let what = "a file of holidays, such as calendar/cn-2026.toml";
            let Some((document, file)) = self.data::<raw::CalendarFile>(&at, path, what) else {
                continue;
            };
            for told in listed(&At::default(), &file.holidays, &file.working_days, &mut days) {
                let fault = inside(&at, document.fault(&told.at, told.message, told.remedy));
                self.told(told.is_fault, fault);
            }
        }
        let mut own = Kinds::new();
        for told in listed(&at, &raw.holidays, &raw.working_days, &mut own) {
            let fault = self.document.fault(&told.at, told.message, told.remedy);
            self.told(told.is_fault, fault);
        }
        let listed = if raw.files.is_empty() { &own } else { &days };
        let years = listed.keys().map(|day| day.year()).collect();
        days.extend(own);
        (days, years)
    }

    fn told(&mut self, is_fault: bool, fault: Fault) {
        let to = if is_fault {
            &mut self.draft.faults
        } else {
            &mut self.draft.warnings
        };
        to.push(fault);
    }

    fn window(&mut self, at: &At, raw: &raw::Window) -> Option<Window> {
        let (from_at, to_at, season_at) = (at.key("from"), at.key("to"), at.key("season"));
        let season = raw.season.as_deref().map(season);
        if let Some(None) = season {
            self.fault(
                &season_at,
                "names a day that no year has",
                "write month and day, both included: 04-01..10-31",
            );
        }
        let from = minutes(&raw.from).filter(|_| !self.is_taken(&from_at));
        let to = minutes(&raw.to).filter(|_| !self.is_taken(&to_at));
        if from == Some(DAY) {
            self.fault(
                &from_at,
                "no day begins at 24:00",
                "write 00:00, and the day after in days",
            );
        } else if from.is_some() && from == to {
            self.fault(
                &to_at,
                format!(
                    "ends where it begins, at {}: it could be nothing or a whole day",
                    raw.from
                ),
                "write from = \"00:00\", to = \"24:00\" for whole days",
            );
        }
        let (from, to) = (from.filter(|f| *f < DAY)?, to.filter(|to| Some(*to) != from)?);
        if season == Some(None) || self.is_taken(&season_at) || self.is_taken(&at.key("days")) {
            return None;
        }
        Some(Window {
            days: days(&raw.days),
            from,
            to: if to < from { to + DAY } else { to },
            season: season.flatten(),
        })
    }

    /// The schedule that a zone or a rule names.
    pub(super) fn schedule(&mut self, at: &At, name: &str) -> Option<ScheduleId> {
        if self.is_taken(at) {
            return None;
        }
        let known = &self.draft.rest.schedule_ids;
        if known.contains(name) {
            return Some(name.into());
        }
        let remedy = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "add it: [[schedules]] with an id and windows".into(),
            None => "write the id of one of [[schedules]]".into(),
        };
        self.fault(at, format!("no schedule has the id {name:?}"), remedy);
        None
    }

    /// When a rule works.
    pub(super) fn hours(&mut self, at: &At, raw: &raw::Rule) -> Hours {
        let (active_at, pause_at, after_at) = (at.key("active"), at.key("pause"), at.key("pause_after"));
        let active = raw.active.as_ref().and_then(|name| self.schedule(&active_at, name));
        let pause = raw.pause.as_ref().and_then(|name| self.schedule(&pause_at, name));
        self.between(&after_at, raw.pause_after, PAUSE_AFTER);
        if raw.pause.is_none() && !self.is_taken(&pause_at) && after_at.of(&self.document.value).is_some() {
            self.warn(
                &after_at,
                "does nothing without pause",
                "name the schedule in which the rule pauses: pause = \"…\"",
            );
        }
        if active.is_some() && active == pause {
            self.fault(
                &pause_at,
                "the same schedule as active: the rule would never work",
                "remove the one that is not meant",
            );
        }
        let after = raw.pause_after.0;
        Hours {
            active,
            pause: pause.map(|schedule| Pause { schedule, after }),
        }
    }
}

/// Something to say of a date.
struct Told {
    at: At,
    is_fault: bool,
    message: String,
    remedy: &'static str,
}

/// Adds the holidays and working days that a table lists to `days`.
fn listed(table: &At, holidays: &[String], working_days: &[String], days: &mut Kinds) -> Vec<Told> {
    let mut told = Vec::new();
    for (field, texts, kind) in [
        ("holidays", holidays, DayKind::Holiday),
        ("working_days", working_days, DayKind::WorkingDay),
    ] {
        for (i, text) in texts.iter().enumerate() {
            let mut tell = |is_fault, message: String, remedy| {
                let at = table.key(field).index(i);
                told.push(Told {
                    at,
                    is_fault,
                    message,
                    remedy,
                });
            };
            let (from, to) = text.split_once("..").unwrap_or((text, text));
            let (Ok(from), Ok(to)) = (from.parse::<Date>(), to.parse::<Date>()) else {
                tell(
                    true,
                    format!("{text:?} names a day that is in no calendar"),
                    DATE_REMEDY,
                );
                continue;
            };
            if to < from {
                tell(true, format!("{text:?} ends before it begins"), DATE_REMEDY);
                continue;
            }
            if from.until(to).map_or(i32::MAX, |span| span.get_days()) >= LONGEST_HOLIDAY_DAYS {
                let message = format!("{text:?} is longer than {LONGEST_HOLIDAY_DAYS} days");
                tell(true, message, "check its years and months");
                continue;
            }
            for day in from.series(jiff::Span::new().days(1)).take_while(|d| *d <= to) {
                if days.insert(day, kind).is_some_and(|before| before != kind) {
                    let message = format!("{day} is a holiday and a working day");
                    tell(true, message, "keep it in one of the lists");
                }
                let is_weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
                if kind == DayKind::WorkingDay && !is_weekend {
                    let message = format!("{day} is no Saturday or Sunday, so it is worked anyway");
                    tell(false, message, "check the date");
                }
            }
        }
    }
    told
}

fn asks_for_holidays(window: &Window) -> bool {
    window.days.workday || window.days.restday || window.days.holiday
}

fn minutes(time: &str) -> Option<u16> {
    let (hours, minutes) = time.split_once(':')?;
    Some(hours.parse::<u16>().ok()? * 60 + minutes.parse::<u16>().ok()?)
}

fn season(text: &str) -> Option<Season> {
    let day = |text: &str| {
        let (month, day) = text.split_once('-')?;
        // A leap year has every day that any year has.
        let date = Date::new(2024, month.parse().ok()?, day.parse().ok()?).ok()?;
        Some((date.month(), date.day()))
    };
    let (from, to) = text.split_once("..")?;
    Some(Season::new(day(from)?, day(to)?))
}

/// The schema has seen to it that every word is known.
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
                    let count = (to + 7 - from) % 7 + 1; // sat-mon goes over the weekend.
                    (from..from + count).for_each(|day| days.weekdays[day % 7] = true);
                }
            }
        }
    }
    days
}

/// Whether both can be open at one time, on some day of some year.
fn overlap(a: &Window, b: &Window) -> bool {
    let is_same_day = a.from < b.to && b.from < a.to;
    (is_same_day && meet(a, b, 0)) || (b.from + DAY < a.to && meet(a, b, 1)) || (a.from + DAY < b.to && meet(b, a, 1))
}

/// Whether a day on which `a` begins can be followed, `later` days on, by one on which `b` begins.
fn meet(a: &Window, b: &Window, later: usize) -> bool {
    let kinds = [None, Some(DayKind::Holiday), Some(DayKind::WorkingDay)];
    // Any year without a leap day, from a Monday on; it ends with the day that it begins with.
    let year: Vec<Date> = date(2029, 1, 1)
        .series(jiff::Span::new().days(1))
        .take(365 + 1)
        .collect();
    let begins = |w: &Window, date: Date| w.season.is_none_or(|s| s.holds(date));
    let days = |w: &Window, nth: usize, kind| w.days.hold(year[nth].weekday(), kind);
    let on_a_weekday = (0..7).any(|nth| {
        kinds.into_iter().any(|kind| {
            let after = if later == 0 { vec![kind] } else { kinds.to_vec() };
            days(a, nth, kind) && after.into_iter().any(|kind| days(b, nth + later, kind))
        })
    });
    on_a_weekday && (0..365).any(|nth| begins(a, year[nth]) && begins(b, year[nth + later]))
}
