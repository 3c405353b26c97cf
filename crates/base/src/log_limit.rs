//! A limit on log lines that others can cause.

use std::time::{Duration, Instant};

/// Log lines per [`LOG_WINDOW`].
const LOG_LINES: u32 = 10;

/// See [`LOG_LINES`].
const LOG_WINDOW: Duration = Duration::from_mins(1);

/// Limits log lines that others can cause, as with invalid messages: 10 a minute.
#[derive(Debug, Default)]
pub struct LogLimit {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be logged now; if so, with the number of lines left out since the last one that was.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self
            .window
            .is_none_or(|begun| now.saturating_duration_since(begun) >= LOG_WINDOW)
        {
            (self.window, self.lines) = (Some(now), 0);
        }
        if self.lines >= LOG_LINES {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_limited_per_minute_and_the_rest_is_counted() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        let lines: Vec<_> = (0..1000).filter_map(|_| limit.admit(start)).collect();
        assert_eq!(lines, [0; LOG_LINES as usize]);
        assert_eq!(limit.admit(start + LOG_WINDOW), Some(990));
        assert_eq!(limit.admit(start + LOG_WINDOW), Some(0));
    }
}
