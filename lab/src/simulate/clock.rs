//! What time it is in the town.

use std::time::Duration;

use jiff::Timestamp;

use super::{DAY, Ms};
use gridwatch_engine::Plan;

/// The city's clock.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    pub(super) start: Timestamp,
    /// What the wall shows at the beginning, milliseconds after midnight.
    wall_at_start: Ms,
}

impl Clock {
    pub(super) fn new(start: Timestamp, plan: &Plan) -> Self {
        let wall = start.to_zoned(plan.calendar.zone.clone()).time();
        let since = wall.duration_since(jiff::civil::Time::midnight());
        Self {
            start,
            wall_at_start: since.as_millis() as Ms,
        }
    }

    pub(super) fn at(&self, now: Ms) -> Timestamp {
        self.start
            .saturating_add(Duration::from_millis(now.max(0).unsigned_abs()))
            .unwrap_or(Timestamp::MAX)
    }

    /// Milliseconds after midnight that the wall shows. Summer time is left out: people's habits lag behind it anyway.
    pub(super) fn wall(&self, now: Ms) -> Ms {
        (self.wall_at_start + now).rem_euclid(DAY)
    }

    pub(super) fn hour(&self, now: Ms) -> f64 {
        self.wall(now) as f64 / 3_600_000.0
    }

    /// It is dark from half past seven in the evening to five, as in June.
    pub(super) fn is_night(&self, now: Ms) -> bool {
        !(5.0..19.5).contains(&self.hour(now))
    }
}
