//! The JSON Schema of the configuration file, and its words.
//!
//! The schema is generated from [`raw`] and checked in (`configs/schema/config.schema.json`) for editors and for tools that
//! write configurations.

use serde_json::Value;

use super::raw::{
    self, DATES_PATTERN, DAYS_PATTERN, ENV_PATTERN, GB_ID_PATTERN, ID_PATTERN, SEASON_PATTERN, SPAN_PATTERN,
    TIME_PATTERN, VIEW_PATTERN,
};
use gridwatch_base::document::{
    At, Step,
    schema::{Pattern, Words, of},
};

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn generate() -> Value {
    of::<raw::File>()
}

/// As it is checked in: pretty, with a newline at its end.
pub fn generate_text() -> String {
    format!("{:#}\n", generate())
}

/// What the schemas of the configuration and of the files that it names cannot say themselves.
pub(super) const WORDS: Words = Words {
    patterns: &[
        Pattern {
            pattern: ID_PATTERN,
            message: "not usable as a name",
            remedy: "use 1 to 64 letters, digits, `-` and `_`: it becomes part of MQTT topics and file names",
            stand_in: "",
        },
        Pattern {
            pattern: VIEW_PATTERN,
            message: "names no view",
            remedy: "write the camera's id, or CAMERA.PRESET of one that turns",
            stand_in: "",
        },
        Pattern {
            pattern: SPAN_PATTERN,
            message: "not a length of time",
            remedy: "write numbers with units, the largest first: 500ms, 10s, 5m, 1h 30m",
            stand_in: "1s",
        },
        Pattern {
            pattern: ENV_PATTERN,
            message: "not the name of an environment variable",
            remedy: "name the variable that holds user:password, such as GRIDWATCH_CAMERA_GATE; never write the password here",
            stand_in: "",
        },
        Pattern {
            pattern: TIME_PATTERN,
            message: "not a time of day",
            remedy: "write hours and minutes: 06:00, 18:30, 24:00",
            stand_in: "",
        },
        Pattern {
            pattern: DAYS_PATTERN,
            message: "not days that are known",
            remedy: "write mon … sun, a range such as mon-fri, or one of: daily, workday, restday, holiday",
            stand_in: "",
        },
        Pattern {
            pattern: SEASON_PATTERN,
            message: "not a part of the year",
            remedy: "write month and day, both included: 04-01..10-31",
            stand_in: "",
        },
        Pattern {
            pattern: DATES_PATTERN,
            message: "not a date",
            remedy: "write 2026-10-01, or 2026-10-01..2026-10-07",
            stand_in: "",
        },
        Pattern {
            pattern: GB_ID_PATTERN,
            message: "not 20 digits",
            remedy: "write the camera's GB/T 28181 id as text of 20 digits",
            stand_in: "",
        },
    ],
    too_few: |key, got, limit| match key {
        "polygon" => Some((
            format!("{got} points, a polygon needs {limit} or more"),
            "list its corners in order, as fractions of the picture: [[0.1, 0.9], [0.5, 0.4], [0.9, 0.9]]",
        )),
        "points" => Some((
            format!("{got} point pairs, a calibration needs {limit} or more"),
            "add pairs spread over the visible ground",
        )),
        _ => None,
    },
    is_listed: is_listed_table,
};

/// `models[i]`, `schedules[i]`, `rules[i]`, `cameras[i]` and `cameras[i].zones[j]` are judged one by one.
fn is_listed_table(at: &At) -> bool {
    match at.steps() {
        [Step::Key(list), Step::Index(_)] => matches!(list.as_str(), "models" | "schedules" | "rules" | "cameras"),
        [Step::Key(list), Step::Index(_), Step::Key(zones), Step::Index(_)] => list == "cameras" && zones == "zones",
        _ => false,
    }
}
