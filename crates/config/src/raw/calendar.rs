//! Holidays, and the schedules that zones and rules refer to.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ID_PATTERN;

/// A time of day; `24:00` is the end of the day.
pub(crate) const TIME_PATTERN: &str = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$";

/// A weekday, a range of weekdays, or a day type.
pub(crate) const DAYS_PATTERN: &str =
    r"^((mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?|daily|workday|restday|holiday)$";

/// A season: from one month and day to another.
pub(crate) const SEASON_PATTERN: &str = r"^[0-9]{2}-[0-9]{2}\.\.[0-9]{2}-[0-9]{2}$";

/// A date.
pub(crate) const DAY_PATTERN: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$";

/// A date or a range of dates.
pub(crate) const DATES_PATTERN: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(\.\.[0-9]{4}-[0-9]{2}-[0-9]{2})?$";

/// Public holidays and make-up working days.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Calendar {
    /// Calendar files, one per year, such as `calendar/cn-2026.toml`. In a year without a file, every Monday to Friday counts as a workday.
    pub files: Vec<PathBuf>,
    /// Additional public holidays: dates or inclusive ranges, such as `2026-10-08` or `2026-10-01..2026-10-07`. They take precedence over the files.
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub holidays: Vec<String>,
    /// Additional make-up working days (调休). They take precedence over the files.
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub working_days: Vec<String>,
}

/// A calendar file: the public holidays of one year.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarFile {
    /// The official notice that the dates are taken from.
    #[schemars(length(min = 1))]
    pub source: String,
    /// Public holidays: dates or inclusive ranges, such as `2026-05-01` or `2026-05-01..2026-05-05`.
    #[serde(default)]
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub holidays: Vec<String>,
    /// Make-up working days (调休).
    #[serde(default)]
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub working_days: Vec<String>,
}

/// Named opening hours that zones and rules refer to. A schedule is open while any of its windows is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Unique id, recorded in the cases that the schedule affected.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Time windows in which it is open.
    #[schemars(length(min = 1))]
    pub windows: Vec<Window>,
}

/// A time window on certain days, in local time (`node.timezone`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Days on which the window starts: `mon` to `sun` and ranges such as `mon-fri` (regardless of holidays), `workday` (Monday to Friday except holidays, plus make-up working days), `restday` (all other days), `holiday` (public holidays only), `daily`. Default `["daily"]`.
    #[serde(default = "daily")]
    #[schemars(length(min = 1), inner(regex(pattern = DAYS_PATTERN)))]
    pub days: Vec<String>,
    /// Start time, such as `06:00`.
    #[schemars(regex(pattern = TIME_PATTERN))]
    pub from: String,
    /// End time, such as `09:30` or `24:00`. If it is not after `from`, the window ends on the next day, which need not be one of `days`.
    #[schemars(regex(pattern = TIME_PATTERN))]
    pub to: String,
    /// Season, from month and day to month and day, both included, such as `04-01..10-31`; it may span the new year. 29 February belongs to the same season as 28 February. Unset: all year.
    #[serde(default)]
    #[schemars(regex(pattern = SEASON_PATTERN))]
    pub season: Option<String>,
}

fn daily() -> Vec<String> {
    vec!["daily".into()]
}
