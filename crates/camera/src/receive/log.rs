//! Log lines of one camera, bounded: a camera that changes its state ten times a second must not fill the disk.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gridwatch_engine::CameraId;

/// Most lines in a [`PERIOD`].
const MAX_LINES: u32 = 6;
const PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Lines {
    period_began: Option<Instant>,
    written: u32,
    left_out: u32,
}

impl Lines {
    /// Whether to write a line now, and how many were left out in the period that is over.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        let mut left_out = 0;
        if self
            .period_began
            .is_none_or(|began| now.saturating_duration_since(began) >= PERIOD)
        {
            left_out = std::mem::take(&mut self.left_out);
            self.period_began = Some(now);
            self.written = 0;
        }
        if self.written < MAX_LINES {
            self.written += 1;
            Some(left_out)
        } else {
            self.left_out += 1;
            None
        }
    }
}

/// Writes the log lines of one camera, at most [`MAX_LINES`] a minute.
#[derive(Debug)]
pub(super) struct CameraLog {
    camera: CameraId,
    lines: Mutex<Lines>,
}

impl CameraLog {
    pub(super) fn new(camera: CameraId) -> Self {
        Self {
            camera,
            lines: Mutex::default(),
        }
    }

    pub(super) fn warn(&self, text: fmt::Arguments<'_>) {
        if self.is_admitted() {
            tracing::warn!(camera = %self.camera, "{text}");
        }
    }

    pub(super) fn info(&self, text: fmt::Arguments<'_>) {
        if self.is_admitted() {
            tracing::info!(camera = %self.camera, "{text}");
        }
    }

    fn is_admitted(&self) -> bool {
        let admitted = self
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(Instant::now());
        if let Some(left_out @ 1..) = admitted {
            tracing::warn!(camera = %self.camera, left_out, "Log lines of this camera were left out");
        }
        admitted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_above_the_limit_are_counted_and_told_later() {
        let now = Instant::now();
        let mut lines = Lines::default();
        let written = (0..100).filter(|_| lines.admit(now).is_some()).count();
        assert_eq!(written, MAX_LINES as usize);
        assert_eq!(lines.admit(now + PERIOD), Some(100 - MAX_LINES));
        assert_eq!(lines.admit(now + PERIOD), Some(0));
    }
}
