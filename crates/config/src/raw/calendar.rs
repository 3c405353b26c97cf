//! The form of days and hours: holidays, and schedules that zones and rules name.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ID_PATTERN;

/// A time on the wall; `24:00` is the end of a day.
pub(crate) const TIME_PATTERN: &str = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$";

/// A weekday, a range of them, or a word for days.
pub(crate) const DAYS_PATTERN: &str =
    r"^((mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?|daily|workday|restday|holiday)$";

/// From one month and day to another.
pub(crate) const SEASON_PATTERN: &str = r"^[0-9]{2}-[0-9]{2}\.\.[0-9]{2}-[0-9]{2}$";

/// A date, or from one to another.
pub(crate) const DATES_PATTERN: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(\.\.[0-9]{4}-[0-9]{2}-[0-9]{2})?$";

/// The days that are not what their weekday says.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Calendar {
    /// Files with a year's public holidays and make-up working days each, such as `calendar/cn-2026.toml`. Days that no file knows are what their weekday says.
    pub files: Vec<PathBuf>,
    /// Public holidays beside those of the files: `2026-10-08`, `2026-10-01..2026-10-07` (both included). They go before the files.
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub holidays: Vec<String>,
    /// Make-up working days (调休) beside those of the files. They go before the files.
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub working_days: Vec<String>,
}

/// A year's notice of holidays, as a file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarFile {
    /// The notice that these days are taken from.
    #[schemars(length(min = 1))]
    pub source: String,
    /// Public holidays: `2026-05-01`, `2026-05-01..2026-05-05` (both included).
    #[serde(default)]
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub holidays: Vec<String>,
    /// Make-up working days (调休).
    #[serde(default)]
    #[schemars(inner(regex(pattern = DATES_PATTERN)))]
    pub working_days: Vec<String>,
}

/// Hours with a name, for zones and rules to refer to. It is open when any of its windows is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Unique name; stated in the cases in which the schedule had a say.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// When it is open.
    #[schemars(length(min = 1))]
    pub windows: Vec<Window>,
}

/// Certain hours of certain days, in the wall time of `node.timezone`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Days on which it begins, all that are named: `mon` … `sun` and ranges such as `mon-fri` (holidays or not), `workday` (Monday to Friday without holidays, and make-up working days), `restday` (all others), `holiday` (public holidays alone), `daily`.
    #[serde(default = "daily")]
    #[schemars(length(min = 1), inner(regex(pattern = DAYS_PATTERN)))]
    pub days: Vec<String>,
    /// Where it begins: `06:00`.
    #[schemars(regex(pattern = TIME_PATTERN))]
    pub from: String,
    /// Where it ends: `09:30`, `24:00`. Not after `from`: on the next day, which need not be one of `days`.
    #[schemars(regex(pattern = TIME_PATTERN))]
    pub to: String,
    /// The part of the year, month and day, both included: `04-01..10-31`; it may cross the new year. 29 February goes with 28 February. Unset: all year.
    #[serde(default)]
    #[schemars(regex(pattern = SEASON_PATTERN))]
    pub season: Option<String>,
}

fn daily() -> Vec<String> {
    vec!["daily".into()]
}
