//! Durations as written in the configuration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A duration with units, such as `500ms`, `10s`, `5m` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// The format of a [`Span`]: numbers with `h`, `m`, `s` or `ms`, largest unit first.
pub(crate) const SPAN_PATTERN: &str = r"^([0-9]{1,9}h ?)?([0-9]{1,9}m ?)?([0-9]{1,9}s ?)?([0-9]{1,9}ms)?$";

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        let (mut rest, mut first) = (ms, true);
        for (unit, size) in units {
            if rest >= size || (ms == 0 && unit == "s") {
                let space = if first { "" } else { " " };
                write!(f, "{space}{}{unit}", rest / size)?;
                (rest, first) = (rest % size, false);
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!("invalid duration {text:?}; use numbers with units, largest unit first, such as 10s, 5m or 1h 30m")
        };
        // jiff accepts more formats (ISO 8601, words); for a configuration file, one is enough.
        if !text.bytes().all(|b| b.is_ascii_digit() || b"hms ".contains(&b)) {
            return Err(invalid());
        }
        let span: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
        Duration::try_from(span).map(Self).map_err(|_| invalid())
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": SPAN_PATTERN,
            "minLength": 1,
            "description": "A duration: numbers with units, largest unit first, such as 500ms, 10s, 5m or 1h 30m.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_and_formatting_round_trip() {
        for text in ["0s", "500ms", "10s", "5m", "1h 30m", "24h", "1m 500ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("1h30m".parse::<Span>().unwrap().0.as_secs(), 5400);
    }

    #[test]
    fn invalid_durations_are_rejected_with_examples() {
        for text in [
            "",
            "10",
            "10 apples",
            "-5s",
            "5s 1h",
            "PT10S",
            "1.5h",
            "99999999999999999999h",
        ] {
            let message = text.parse::<Span>().unwrap_err();
            assert!(message.contains("10s, 5m or 1h 30m"), "{text:?}: {message}");
        }
    }
}
