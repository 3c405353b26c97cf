//! Which unit deals with a case, and until when: a city's table, and its working hours. Pure but for reading the file.

use std::{collections::BTreeSet, fmt, path::Path, str::FromStr};

use gridwatch_base::file;
use jiff::{SignedDuration, Timestamp, civil::Date, civil::DateTime, civil::Time, civil::Weekday, tz::TimeZone};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{HubError, workflow::Act};

/// Days that are searched for working time, at most: a calendar without any in a year is a mistake.
const MAX_DAYS: usize = 400;

/// A city's table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchTable {
    calendar: Calendar,
    /// The first one that fits decides.
    rules: Vec<DispatchRule>,
}

/// The working hours of a city.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    #[serde(deserialize_with = "time_zone")]
    time_zone: TimeZone,
    #[serde(deserialize_with = "weekdays")]
    days: Vec<Weekday>,
    /// In order, without overlap.
    hours: Vec<Shift>,
    #[serde(default)]
    holidays: BTreeSet<Date>,
    #[serde(default)]
    extra_days: BTreeSet<Date>,
}

/// A part of a working day.
#[derive(Debug, Clone, Copy)]
struct Shift {
    from: Time,
    to: Time,
}

/// Who deals with the cases of a category in some cells.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchRule {
    /// A category code, or its beginning and `*`.
    category: String,
    /// Beginnings of cell codes; empty: all cells.
    #[serde(default)]
    cells: Vec<String>,
    unit: String,
    /// Units that work with it.
    #[serde(default)]
    with: Vec<String>,
    limit: Limit,
}

/// A time limit, in working time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many working hours.
    Hours(u32),
    /// Until the end of work on the day so many working days later.
    Days(u32),
}

impl DispatchTable {
    /// Reads a table.
    ///
    /// # Errors
    /// [`HubError::Input`] with the file, the line and what is wrong.
    pub fn read(path: &Path) -> Result<Self, HubError> {
        let wrong = |what: &dyn fmt::Display| HubError::Input(format!("{}: {what}", path.display()));
        let text = file::read_text(path, file::MAX_TEXT).map_err(|e| wrong(&e))?;
        text.parse().map_err(|e: String| wrong(&e))
    }

    /// The step that sends a case of `category` in `cell` to the unit of the first rule that fits, at `now`; `None` if none fits.
    pub fn dispatch(&self, category: &str, cell: &str, now: Timestamp) -> Option<Act> {
        let rule = self.rules.iter().find(|rule| rule.fits(category, cell))?;
        let units = std::iter::once(&rule.unit).chain(&rule.with).map(String::as_str);
        Some(Act::Dispatch {
            unit: units.collect::<Vec<_>>().join(" + "),
            due: self.calendar.deadline(now, rule.limit),
        })
    }
}

impl FromStr for DispatchTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let table: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let shifts = &table.calendar.hours;
        if table.calendar.days.is_empty() || shifts.is_empty() {
            return Err("calendar: days and hours must not be empty".into());
        }
        if shifts.windows(2).any(|pair| pair[0].to > pair[1].from) {
            return Err("calendar.hours: in order and without overlap, please".into());
        }
        for (n, rule) in table.rules.iter().enumerate() {
            if rule.category.trim_end_matches('*').contains('*') || rule.category.is_empty() {
                return Err(format!(
                    "rules[{n}].category: expected a code, or its beginning and one *"
                ));
            }
            if rule.unit.trim().is_empty() || rule.with.iter().any(|unit| unit.trim().is_empty()) {
                return Err(format!("rules[{n}]: a unit needs a name"));
            }
        }
        Ok(table)
    }
}

impl DispatchRule {
    fn fits(&self, category: &str, cell: &str) -> bool {
        let has_category = match self.category.strip_suffix('*') {
            Some(beginning) => category.starts_with(beginning),
            None => category == self.category,
        };
        has_category && (self.cells.is_empty() || self.cells.iter().any(|beginning| cell.starts_with(beginning)))
    }
}

impl Calendar {
    fn is_worked(&self, day: Date) -> bool {
        self.extra_days.contains(&day) || (self.days.contains(&day.weekday()) && !self.holidays.contains(&day))
    }

    /// When `limit` ends that begins at `from`; `None` if the calendar has no working time within a year.
    pub fn deadline(&self, from: Timestamp, limit: Limit) -> Option<Timestamp> {
        let begun = from.to_zoned(self.time_zone.clone()).datetime();
        let days = std::iter::successors(Some(begun.date()), |day| day.tomorrow().ok()).take(MAX_DAYS);
        let mut worked = days.filter(|day| self.is_worked(*day));
        let end = match limit {
            Limit::Hours(hours) => {
                let mut left = SignedDuration::from_hours(hours.into());
                worked.find_map(|day| {
                    self.hours.iter().find_map(|shift| {
                        let start = day.to_datetime(shift.from).max(begun);
                        let length = day.to_datetime(shift.to).duration_since(start);
                        if length >= left && length.is_positive() {
                            return start.checked_add(left).ok();
                        }
                        left -= length.max(SignedDuration::ZERO);
                        None
                    })
                })
            }
            Limit::Days(count) => {
                let last = self.hours.last()?.to;
                // What comes after work counts from the next working day.
                let mut counted = worked.skip_while(|day| *day == begun.date() && begun.time() >= last);
                counted
                    .nth(usize::try_from(count).ok()?)
                    .map(|day| day.to_datetime(last))
            }
        };
        let end: DateTime = end?;
        Some(end.to_zoned(self.time_zone.clone()).ok()?.timestamp())
    }
}

impl<'de> Deserialize<'de> for Shift {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let time = |text: &str| text.trim().parse::<Time>().ok();
        let shift = text.split_once('-').and_then(|(from, to)| {
            Some(Self {
                from: time(from)?,
                to: time(to)?,
            })
        });
        shift
            .filter(|shift| shift.from < shift.to)
            .ok_or_else(|| D::Error::custom(format!("{text:?}: expected hours such as \"08:30-12:00\"")))
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let limit = match words[..] {
            [count, "working", unit] => count
                .parse()
                .ok()
                .filter(|n| (1..=200).contains(n))
                .and_then(|n| match unit {
                    "hour" | "hours" => Some(Self::Hours(n)),
                    "day" | "days" => Some(Self::Days(n)),
                    _ => None,
                }),
            _ => None,
        };
        limit.ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?}: expected 1 to 200, such as \"4 working hours\" or \"2 working days\""
            ))
        })
    }
}

fn time_zone<'de, D: Deserializer<'de>>(d: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(d)?;
    TimeZone::get(&name)
        .map_err(|_| D::Error::custom(format!("{name:?}: expected a time zone such as \"Asia/Shanghai\"")))
}

fn weekdays<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Weekday>, D::Error> {
    let names: Vec<String> = Vec::deserialize(d)?;
    let day = |name: &String| {
        let known = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let at = known.iter().position(|known| known == name);
        let day = at.and_then(|at| Weekday::from_monday_zero_offset(i8::try_from(at).ok()?).ok());
        day.ok_or_else(|| D::Error::custom(format!("{name:?}: expected {}", known.join(", "))))
    };
    names.iter().map(day).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> DispatchTable {
        include_str!("../../../configs/platform/dispatch.toml")
            .parse()
            .expect("the default table")
    }

    fn deadline(from: &str, limit: Limit) -> String {
        let from: Timestamp = format!("{from}+08:00").parse().expect("a time");
        let end = table().calendar.deadline(from, limit).expect("a deadline");
        end.to_zoned(TimeZone::get("Asia/Shanghai").expect("a zone"))
            .strftime("%Y-%m-%dT%H:%M")
            .to_string()
    }

    #[test]
    fn hours_are_counted_while_people_work() {
        // A Monday.
        assert_eq!(deadline("2026-05-04T09:00", Limit::Hours(2)), "2026-05-04T11:00");
        // Over noon, over night, over the weekend.
        assert_eq!(deadline("2026-05-04T11:00", Limit::Hours(2)), "2026-05-04T14:30");
        assert_eq!(deadline("2026-05-04T17:00", Limit::Hours(4)), "2026-05-05T11:30");
        assert_eq!(deadline("2026-05-08T17:00", Limit::Hours(4)), "2026-05-11T11:30");
        assert_eq!(deadline("2026-05-09T03:00", Limit::Hours(8)), "2026-05-11T18:00");
        // Holidays on weekdays are skipped; a Saturday among the extra days counts.
        assert_eq!(deadline("2026-09-30T17:00", Limit::Hours(4)), "2026-10-08T11:30");
        assert_eq!(deadline("2026-10-09T17:00", Limit::Hours(4)), "2026-10-10T11:30");
    }

    #[test]
    fn days_end_with_work() {
        assert_eq!(deadline("2026-05-04T09:00", Limit::Days(1)), "2026-05-05T18:00");
        assert_eq!(deadline("2026-05-08T09:00", Limit::Days(2)), "2026-05-12T18:00");
        assert_eq!(deadline("2026-05-08T20:00", Limit::Days(1)), "2026-05-12T18:00");
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let unit = |category: &str, cell: &str, table: &DispatchTable| match table.dispatch(
            category,
            cell,
            Timestamp::UNIX_EPOCH,
        ) {
            Some(Act::Dispatch { unit, .. }) => unit,
            other => format!("{other:?}"),
        };
        assert_eq!(unit("0102", "310115001001042", &table()), "Sanitation");
        assert_eq!(
            unit("0203", "310115001001042", &table()),
            "City management patrol + Advertising permits office"
        );
        assert_eq!(unit("0901", "310115001001042", &table()), "None");
        let mut street = table();
        street.rules[0].cells = vec!["310115002".into()];
        assert_eq!(unit("0102", "310115001001042", &street), "None");
        assert_eq!(unit("0102", "310115002001042", &street), "Sanitation");
    }

    #[test]
    fn a_table_with_a_mistake_is_refused_with_its_place() {
        let good = include_str!("../../../configs/platform/dispatch.toml");
        for (from, to, why) in [
            ("4 working hours", "4 hours", "expected 1 to 200"),
            ("4 working hours", "0 working hours", "expected 1 to 200"),
            ("Asia/Shanghai", "Asia/Nowhere", "expected a time zone"),
            ("\"mon\"", "\"monday\"", "expected mon, tue"),
            ("08:30-12:00", "12:00-08:30", "expected hours"),
            ("13:30-18:00", "11:30-18:00", "without overlap"),
            ("category = \"02*\"", "category = \"0*2*\"", "rules[3].category"),
            ("unit = \"Sanitation\"", "unti = \"Sanitation\"", "unknown field `unti`"),
        ] {
            let error = good.replacen(from, to, 1).parse::<DispatchTable>().expect_err(to);
            assert!(error.contains(why), "{error}");
        }
    }
}
