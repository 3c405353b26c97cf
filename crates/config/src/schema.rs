//! The JSON Schema of the configuration file, and messages for its violations.
//!
//! Fields that take effect at a restart have `"x-applies": "restart"`; all others are live. `"x-secret"` marks what is not shown, `"x-ordered"` a
//! list of tables whose order counts.
//!
//! The schema is generated from [`raw`] and checked in (`configs/schema/config.schema.json`) for editors and for tools that
//! write configurations.

use serde_json::Value;

use super::raw::{
    self, CREDENTIAL_PATTERN, DATES_PATTERN, DAY_PATTERN, DAYS_PATTERN, ENV_PATTERN, GB_ID_PATTERN, ID_PATTERN,
    PIN_PATTERN, SEASON_PATTERN, SPAN_PATTERN, TIME_PATTERN, VIEW_PATTERN,
};
use gridwatch_base::document::{
    FieldPath, Step,
    schema::{self, Messages, Pattern},
};
use gridwatch_base::message;

/// Generates the JSON Schema (draft 2020-12) of the configuration file.
pub fn generate() -> Value {
    schema::generate::<raw::File>()
}

/// The schema as it is checked in: pretty-printed, with a trailing newline.
pub fn generate_text() -> String {
    format!("{:#}\n", generate())
}

/// The schema of a file of advert words, as it is checked in (`configs/schema/adverts.schema.json`).
pub fn adverts_text() -> String {
    format!("{:#}\n", schema::generate::<raw::Adverts>())
}

/// Messages for the configuration and for the files that it names.
pub(super) const MESSAGES: Messages = Messages {
    patterns: &[
        Pattern {
            pattern: ID_PATTERN,
            message: "invalid id",
            remedy: "use 1 to 64 ASCII letters, digits, `-` or `_`; ids become part of MQTT topics and file names",
            placeholder: "",
        },
        Pattern {
            pattern: VIEW_PATTERN,
            message: "invalid view name",
            remedy: "use the camera's id, or CAMERA.PRESET for a preset of a PTZ camera",
            placeholder: "",
        },
        Pattern {
            pattern: SPAN_PATTERN,
            message: "invalid duration",
            remedy: "use numbers with units, largest unit first, such as 500ms, 10s, 5m or 1h 30m",
            placeholder: "1s",
        },
        Pattern {
            pattern: ENV_PATTERN,
            message: "invalid environment variable name",
            remedy: "name the variable that holds user:password, such as GRIDWATCH_CAMERA_GATE; do not put the password itself here",
            placeholder: "",
        },
        Pattern {
            pattern: CREDENTIAL_PATTERN,
            message: "invalid credential name",
            remedy: "use the name that LoadCredential= gives it, without a path: letters, digits, `_`, `-`, `.` or `@`; do not put the password itself here",
            placeholder: "",
        },
        Pattern {
            pattern: PIN_PATTERN,
            message: "not a SHA-256",
            remedy: "use the 64 hex digits that `openssl x509 -in FILE -noout -fingerprint -sha256` prints",
            placeholder: "",
        },
        Pattern {
            pattern: TIME_PATTERN,
            message: "invalid time of day",
            remedy: "use HH:MM, such as 06:00, 18:30 or 24:00",
            placeholder: "",
        },
        Pattern {
            pattern: DAYS_PATTERN,
            message: "unknown day name",
            remedy: "use mon to sun, a range such as mon-fri, or one of: daily, workday, restday, holiday",
            placeholder: "",
        },
        Pattern {
            pattern: SEASON_PATTERN,
            message: "invalid season",
            remedy: "use MM-DD..MM-DD, both days included, such as 04-01..10-31",
            placeholder: "",
        },
        Pattern {
            pattern: DATES_PATTERN,
            message: "invalid date",
            remedy: "use YYYY-MM-DD, or a range such as 2026-10-01..2026-10-07",
            placeholder: "",
        },
        Pattern {
            pattern: DAY_PATTERN,
            message: "invalid date",
            remedy: "use YYYY-MM-DD, such as 2026-10-31",
            placeholder: "2000-01-01",
        },
        Pattern {
            pattern: GB_ID_PATTERN,
            message: "must be 20 digits",
            remedy: "use the camera's GB/T 28181 id, as a string of 20 digits",
            placeholder: "",
        },
    ],
    too_few: |key, got, limit| match key {
        "polygon" => Some((
            message!("{got} points, a polygon needs {limit} or more", got, limit),
            "list the corners in order, as fractions of the image size: [[0.1, 0.9], [0.5, 0.4], [0.9, 0.9]]",
        )),
        "points" => Some((
            message!("{got} point pairs, a calibration needs {limit} or more", got, limit),
            "add pairs spread over the visible ground",
        )),
        _ => None,
    },
    is_independent: is_independent_table,
};

/// True for `models[i]`, `schedules[i]`, `rules[i]`, `cameras[i]` and `cameras[i].zones[j]`, which are validated one by one.
fn is_independent_table(at: &FieldPath) -> bool {
    match at.steps() {
        [Step::Key(list), Step::Index(_)] => matches!(list.as_str(), "models" | "schedules" | "rules" | "cameras"),
        [Step::Key(list), Step::Index(_), Step::Key(zones), Step::Index(_)] => list == "cameras" && zones == "zones",
        _ => false,
    }
}
