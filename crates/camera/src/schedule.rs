//! Decides which camera is looked at next, and when.
//!
//! A pure state object: times are passed in as durations since a fixed start.
//!
//! - Phases are spread, so that cameras with the same period are not due at the same time. A camera that was down keeps
//!   its phase, so cameras behind one switch do not come back in lockstep.
//! - There is no backlog. A missed look is skipped; the next one takes the newest picture.
//! - Under overload the camera that has waited longest *relative to its period* goes first, so that all periods stretch by
//!   about the same factor, whether 1 s or 60 s.

use std::time::Duration;

/// Fractional part of the golden ratio. Its multiples modulo 1 spread any number of phases almost evenly (Knuth, TAOCP
/// vol. 3, §6.4).
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Weight of the newest look in the moving average of the stretch: about the last forty looks count.
const NEWEST_WEIGHT: f64 = 0.05;

/// What a worker should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Look at this camera, then call [`Schedule::done`].
    Look {
        /// Index of the camera.
        camera: usize,
        /// How long the look has waited for a free worker.
        late: Duration,
    },
    /// Wait until this time, or until a camera has a new picture (`None`).
    Wait(Option<Duration>),
}

/// The look schedule of all cameras; see the [module documentation](self).
#[derive(Debug, Clone)]
pub struct Schedule {
    cameras: Vec<Camera>,
    stretch: f64,
}

#[derive(Debug, Clone)]
struct Camera {
    period: Duration,
    /// Offset of its looks within the period.
    phase: Duration,
    due: Duration,
    /// Deadline of a look requested by the engine.
    requested_by: Option<Duration>,
    /// Start of the newest look.
    last: Option<Duration>,
    busy: bool,
    /// It was due without a new picture: it is waiting for a picture, not for a worker.
    starved: bool,
}

impl Camera {
    fn new(index: usize, period: Duration) -> Self {
        let period = period.max(Duration::from_millis(1));
        let phase = period.mul_f64((index as f64 * GOLDEN).fract());
        Self {
            period,
            phase,
            due: phase,
            requested_by: None,
            last: None,
            busy: false,
            starved: false,
        }
    }

    fn due(&self) -> Duration {
        self.requested_by.map_or(self.due, |by| by.min(self.due))
    }

    /// Periods since the newest look; overdue above 1.
    fn urgency(&self, now: Duration) -> f64 {
        let since = match (self.last, self.requested_by) {
            // For a requested look, the shorter wait counts as the period.
            (Some(last), Some(by)) if by < self.due => {
                let wait = by.saturating_sub(last).max(Duration::from_millis(1));
                return now.saturating_sub(last).as_secs_f64() / wait.as_secs_f64();
            }
            (Some(last), _) => now.saturating_sub(last),
            (None, _) => self.period + now.saturating_sub(self.due),
        };
        since.as_secs_f64() / self.period.as_secs_f64()
    }

    /// The next time in phase that is at least half a period away.
    fn next_due(&self, now: Duration) -> Duration {
        let earliest = now + self.period / 2;
        let periods = earliest
            .saturating_sub(self.phase)
            .as_nanos()
            .div_ceil(self.period.as_nanos());
        // u32::MAX periods of one second are 136 years.
        self.phase + self.period * u32::try_from(periods).unwrap_or(u32::MAX)
    }
}

impl Schedule {
    /// A schedule with one camera per period. A zero period counts as one millisecond.
    pub fn new(periods: &[Duration]) -> Self {
        Self {
            cameras: periods.iter().enumerate().map(|(i, p)| Camera::new(i, *p)).collect(),
            stretch: 1.0,
        }
    }

    /// Replaces the cameras: each with the index that it had until now, if it was scheduled, and its period. A camera that stays keeps its
    /// looks as they are, the one in progress included; with another period it is due as its newest look and that period say. A new one is
    /// due at once.
    pub fn replace(&mut self, now: Duration, cameras: &[(Option<usize>, Duration)]) {
        let replaced = cameras.iter().enumerate().map(|(i, (before, period))| {
            let new = Camera::new(i, *period);
            match before.and_then(|before| self.cameras.get(before)) {
                Some(before) if before.period == new.period => before.clone(),
                Some(before) => Camera {
                    due: before.last.map_or(now, |last| last + new.period).max(now),
                    requested_by: before.requested_by,
                    last: before.last,
                    busy: before.busy,
                    ..new
                },
                None => Camera { due: now, ..new },
            }
        });
        self.cameras = replaced.collect();
    }

    /// Picks the camera to look at now. `ready` tells whether a camera has a picture that has not been looked at.
    pub fn next(&mut self, now: Duration, ready: impl Fn(usize) -> bool) -> Pick {
        let mut best: Option<(usize, f64)> = None;
        let mut until: Option<Duration> = None;
        for (i, camera) in self.cameras.iter_mut().enumerate().filter(|(_, c)| !c.busy) {
            let due = camera.due();
            if due > now {
                until = Some(until.map_or(due, |u| u.min(due)));
            } else if !ready(i) {
                camera.starved = true;
            } else {
                let urgency = camera.urgency(now);
                if best.is_none_or(|(_, u)| urgency > u) {
                    best = Some((i, urgency));
                }
            }
        }
        let Some((i, _)) = best else { return Pick::Wait(until) };
        let camera = &mut self.cameras[i];
        let late = if camera.starved {
            Duration::ZERO
        } else {
            now.saturating_sub(camera.due())
        };
        let stretch = 1.0 + late.as_secs_f64() / camera.period.as_secs_f64();
        self.stretch += (stretch - self.stretch) * NEWEST_WEIGHT;
        camera.last = Some(now);
        camera.due = camera.next_due(now);
        camera.requested_by = None;
        camera.busy = true;
        camera.starved = false;
        Pick::Look { camera: i, late }
    }

    /// Marks the look at `camera` as finished, so that it can be picked again.
    pub fn done(&mut self, camera: usize) {
        self.cameras[camera].busy = false;
    }

    /// Requests a look at `camera` at time `by`, if its regular look is due later.
    pub fn look_by(&mut self, camera: usize, by: Duration) {
        let camera = &mut self.cameras[camera];
        camera.requested_by = Some(camera.requested_by.map_or(by, |earlier| earlier.min(by)));
    }

    /// Moving average of the factor by which overload stretches the periods; 1 without overload.
    pub fn stretch(&self) -> f64 {
        self.stretch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Simulates one worker whose looks take `cost`. Returns the times of each camera's looks and the stretch.
    fn simulate(
        periods: &[Duration],
        cost: Duration,
        length: Duration,
        ready: impl Fn(usize, Duration) -> bool,
    ) -> (Vec<Vec<Duration>>, f64) {
        let mut schedule = Schedule::new(periods);
        let mut looks = vec![Vec::new(); periods.len()];
        let mut now = Duration::ZERO;
        while now < length {
            match schedule.next(now, |i| ready(i, now)) {
                Pick::Look { camera, .. } => {
                    looks[camera].push(now);
                    now += cost;
                    schedule.done(camera);
                }
                Pick::Wait(until) => now = until.map_or(now + ms(20), |u| u.min(now + ms(20)).max(now + ms(1))),
            }
        }
        (looks, schedule.stretch())
    }

    #[test]
    fn without_overload_periods_and_phases_are_kept() {
        let (looks, stretch) = simulate(&[ms(10_000); 50], ms(1), ms(100_000), |_, _| true);
        let mut all: Vec<_> = looks.iter().flatten().copied().collect();
        all.sort();
        assert!(all.windows(2).all(|w| w[1] - w[0] > ms(50)), "phases are spread");
        for camera in &looks {
            assert_eq!(camera.len(), 10);
            assert!(
                camera.windows(2).all(|w| (w[1] - w[0]).abs_diff(ms(10_000)) <= ms(2)),
                "phases are kept"
            );
        }
        assert!(stretch < 1.01);
    }

    #[test]
    fn overload_stretches_short_and_long_periods_alike() {
        let periods: Vec<_> = (0..40)
            .map(|i| if i % 2 == 0 { ms(1_000) } else { ms(10_000) })
            .collect();
        // 20 + 2 looks of 100 ms per second: 2.2 times the capacity of one worker.
        let (looks, stretch) = simulate(&periods, ms(100), ms(600_000), |_, _| true);
        let factors: Vec<f64> = looks
            .iter()
            .zip(&periods)
            .map(|(l, p)| (l[l.len() - 1] - l[0]).as_secs_f64() / (l.len() - 1) as f64 / p.as_secs_f64())
            .collect();
        let (low, high) = factors
            .iter()
            .fold((f64::MAX, 0.0_f64), |(l, h), f| (l.min(*f), h.max(*f)));
        assert!(low > 1.5 && high / low <= 2.0, "{low} {high}");
        assert!(stretch > 1.5, "{stretch}");
    }

    #[test]
    fn camera_that_was_down_is_looked_at_on_return_and_keeps_its_phase() {
        let (looks, stretch) = simulate(&[ms(10_000); 2], ms(1), ms(100_000), |i, now| {
            i == 0 || !(ms(20_000)..ms(53_000)).contains(&now)
        });
        let after: Vec<_> = looks[1].iter().filter(|t| **t >= ms(50_000)).copied().collect();
        assert!(after[0] < ms(53_100));
        assert!(
            after[1..]
                .iter()
                .all(|t| (t.as_millis() as i64 - 6_180).rem_euclid(10_000) < 10),
            "{after:?}"
        );
        assert!(stretch < 1.01, "waiting for a picture is not overload");
    }

    #[test]
    fn requested_look_comes_on_time_and_the_period_continues() {
        let mut schedule = Schedule::new(&[ms(10_000)]);
        assert!(matches!(schedule.next(ms(0), |_| true), Pick::Look { camera: 0, .. }));
        schedule.done(0);
        schedule.look_by(0, ms(4_000));
        schedule.look_by(0, ms(6_000));
        assert_eq!(schedule.next(ms(100), |_| true), Pick::Wait(Some(ms(4_000))));
        assert_eq!(
            schedule.next(ms(4_000), |_| true),
            Pick::Look { camera: 0, late: ms(0) }
        );
        schedule.done(0);
        assert_eq!(schedule.next(ms(4_001), |_| true), Pick::Wait(Some(ms(10_000))));
    }

    #[test]
    fn busy_camera_is_not_picked() {
        let mut schedule = Schedule::new(&[ms(100)]);
        assert!(matches!(schedule.next(ms(0), |_| true), Pick::Look { .. }));
        assert_eq!(schedule.next(ms(5_000), |_| true), Pick::Wait(None));
        schedule.done(0);
        assert!(matches!(schedule.next(ms(5_000), |_| true), Pick::Look { late, .. } if late == ms(4_900)));
        assert_eq!(
            schedule.next(ms(5_000), |_| true),
            Pick::Wait(None),
            "missed looks are skipped"
        );
    }

    #[test]
    fn replaced_cameras_keep_their_looks_and_new_ones_are_due_at_once() {
        fn look(schedule: &mut Schedule, at: u64) -> Option<usize> {
            match schedule.next(ms(at), |_| true) {
                Pick::Look { camera, .. } => Some(camera),
                Pick::Wait(_) => None,
            }
        }
        let mut schedule = Schedule::new(&[ms(10_000), ms(10_000), ms(10_000)]);
        let first = [0, 2_361, 6_181].map(|at| look(&mut schedule, at));
        assert_eq!(first, [Some(0), Some(2), Some(1)]);
        schedule.done(1);
        schedule.done(2);
        schedule.look_by(2, ms(9_000));
        // The first is removed, the second gets another period, the third moves to its place, and one is added.
        let cameras = [(Some(2), ms(10_000)), (Some(1), ms(5_000)), (None, ms(60_000))];
        schedule.replace(ms(8_000), &cameras);
        assert_eq!(look(&mut schedule, 8_000), Some(2), "the new one is due at once");
        assert_eq!(look(&mut schedule, 8_999), None);
        assert_eq!(look(&mut schedule, 9_000), Some(0), "the request is kept");
        assert_eq!(look(&mut schedule, 11_180), None);
        assert_eq!(look(&mut schedule, 11_181), Some(1), "5 s after its newest look");
        // A look in progress goes on.
        schedule.replace(ms(20_000), &[(Some(1), ms(7_000))]);
        assert_eq!(look(&mut schedule, 60_000), None);
        schedule.done(0);
        assert_eq!(look(&mut schedule, 60_000), Some(0));
    }

    proptest! {
        #[test]
        fn no_camera_starves_and_looks_are_at_least_half_a_period_apart(
            periods in prop::collection::vec(200_u64..20_000, 1..12),
            cost in 1_u64..400,
        ) {
            let periods: Vec<_> = periods.into_iter().map(ms).collect();
            let load: f64 = periods.iter().map(|p| cost as f64 / p.as_millis() as f64).sum();
            let (looks, _) = simulate(&periods, ms(cost), ms(300_000), |_, _| true);
            for (camera, period) in looks.iter().zip(&periods) {
                prop_assert!(camera.windows(2).all(|w| w[1] - w[0] >= *period / 2));
                let longest = camera.windows(2).map(|w| w[1] - w[0]).max().unwrap_or_default();
                let bound = period.mul_f64(2.0 * load.max(1.0) + 1.0) + ms(cost * periods.len() as u64);
                prop_assert!(longest <= bound, "{longest:?} > {bound:?} at load {load}");
            }
        }
    }
}
