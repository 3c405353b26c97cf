//! The town's local time.

use std::time::Duration;

use jiff::Timestamp;

use gridwatch_engine::Plan;

/// Milliseconds since the start of the simulation.
pub(super) type Ms = i64;

/// A day.
pub(super) const DAY: Ms = 86_400_000;

/// Converts simulated milliseconds to timestamps and to local time.
#[derive(Debug, Clone)]
pub(super) struct TownClock {
    pub(super) start: Timestamp,
    /// Local time at the start, in milliseconds after midnight.
    local_at_start: Ms,
}

impl TownClock {
    pub(super) fn new(start: Timestamp, plan: &Plan) -> Self {
        let time = start.to_zoned(plan.calendar.zone.clone()).time();
        let since = time.duration_since(jiff::civil::Time::midnight());
        Self {
            start,
            local_at_start: since.as_millis() as Ms,
        }
    }

    /// A clock that starts at midnight.
    #[cfg(test)]
    pub(super) fn midnight() -> Self {
        Self {
            start: Timestamp::UNIX_EPOCH,
            local_at_start: 0,
        }
    }

    pub(super) fn at(&self, now: Ms) -> Timestamp {
        self.start
            .saturating_add(Duration::from_millis(now.max(0).unsigned_abs()))
            .unwrap_or(Timestamp::MAX)
    }

    /// Local time in milliseconds after midnight, without daylight saving: people's habits lag behind it anyway.
    pub(super) fn local_ms(&self, now: Ms) -> Ms {
        (self.local_at_start + now).rem_euclid(DAY)
    }

    pub(super) fn hour(&self, now: Ms) -> f64 {
        self.local_ms(now) as f64 / 3_600_000.0
    }

    /// True from 19:30 to 05:00, as in June.
    pub(super) fn is_night(&self, now: Ms) -> bool {
        !(5.0..19.5).contains(&self.hour(now))
    }
}
