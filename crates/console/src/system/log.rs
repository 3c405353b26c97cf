//! The log's newest lines, filtered.

use gridwatch_base::text::printable;
use gridwatch_support::Scrubber;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;

/// Lines that are read from the daemon.
const MAX_READ: usize = 5000;
/// Lines that are shown, the newest.
const MAX_SHOWN: usize = 500;
/// Longest line that is shown, in characters.
const MAX_LINE: usize = 2000;
/// Words at the beginning of a line among which its level is looked for: a time stands before it.
const LEVEL_WORDS: usize = 3;

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub(crate) const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// That of a line in either format; `None` if it has none, as the second line of a message.
    fn of(line: &str) -> Option<Self> {
        if line.starts_with('{') {
            let rest = line.split_once("\"level\":\"")?.1;
            return Self::parse(rest.split('"').next()?);
        }
        line.split_whitespace().take(LEVEL_WORDS).find_map(Self::parse)
    }
}

/// Which lines are shown.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// Only lines of this level and more severe ones.
    #[serde(default)]
    pub(crate) level: Option<Level>,
    /// Only lines with this text, in any case.
    #[serde(default)]
    pub(crate) text: Option<String>,
}

/// A line of the log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LineAnswer {
    /// Absent in lines that continue one.
    pub(crate) level: Option<Level>,
    /// Control characters are escaped.
    pub(crate) line: String,
}

/// The newest lines that match, oldest first. What looks like a secret is replaced, although none should be there.
pub(crate) fn lines(app: &App, query: &LogQuery) -> Vec<LineAnswer> {
    let scrubber = Scrubber::default();
    let text = query.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let text = text.map(str::to_lowercase);
    let mut found: Vec<LineAnswer> = Vec::new();
    let mut level = None;
    for line in app.daemon.log_tail(MAX_READ) {
        let own = Level::of(&line);
        // A line without a level continues the one before.
        level = own.or(level);
        let is_severe = query.level.is_none_or(|least| level.is_none_or(|level| level >= least));
        let has_text = text.as_deref().is_none_or(|text| line.to_lowercase().contains(text));
        if is_severe && has_text {
            found.push(LineAnswer { level: own, line });
        }
    }
    let mut shown = found.split_off(found.len().saturating_sub(MAX_SHOWN));
    for line in &mut shown {
        let mut cut: String = line.line.chars().take(MAX_LINE).collect();
        if cut.len() < line.line.len() {
            cut.push('…');
        }
        line.line = printable(&scrubber.scrub(&cut));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_line_is_found_in_both_formats() {
        for (line, level) in [
            ("2026-05-01T08:30:00.1Z  WARN gridwatch: Camera down", Some(Level::Warn)),
            ("INFO Connected", Some(Level::Info)),
            (
                r#"{"timestamp":"2026","level":"ERROR","fields":{}}"#,
                Some(Level::Error),
            ),
            ("  in a second line of an ERROR", None),
            (r#"{"level":"#, None),
            ("", None),
        ] {
            assert_eq!(Level::of(line), level, "{line}");
        }
    }
}
