//! When each camera is looked at.
//!
//! A pure state object: time comes in as the span since some fixed start, nothing is read from a clock. Phases are
//! spread, so that cameras with one period do not come due together, and kept: a camera that was away comes back in its
//! own phase, not in that of everybody who was behind the same switch. There is no backlog: a look that was missed is
//! gone, the next one takes what is newest. When the box cannot keep up, the camera that has waited longest *for its
//! period* goes first, so that every period stretches by about the same factor, be it 1 s or 60 s.

use std::time::Duration;

/// Low-discrepancy spread: any number of cameras of one period lie nearly evenly (the fractional parts of multiples of
/// the golden ratio; Knuth, TAOCP vol. 3, §6.4).
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Weight of the newest look in the reported stretch: about the last forty looks count.
const NEWEST: f64 = 0.05;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Look at this camera; say [`Schedule::done`] when it was looked at.
    Look {
        /// Its index.
        camera: usize,
        /// How long the look waited for a free worker.
        late: Duration,
    },
    /// Nothing to do before this time, or (`None`) before a camera has a new picture.
    Wait(Option<Duration>),
}

/// When each camera is looked at; see the module's head.
#[derive(Debug, Clone)]
pub struct Schedule {
    cameras: Vec<Camera>,
    stretch: f64,
}

#[derive(Debug, Clone)]
struct Camera {
    period: Duration,
    /// Its looks are due at this phase of its period.
    phase: Duration,
    due: Duration,
    /// Asked for by the engine, sooner than `due`.
    by: Option<Duration>,
    /// When the newest look began.
    last: Option<Duration>,
    busy: bool,
    /// It was due before and had nothing new: what it waits for is its own next picture, not a worker.
    starved: bool,
}

impl Camera {
    fn due(&self) -> Duration {
        self.by.map_or(self.due, |by| by.min(self.due))
    }

    /// Periods since the newest look; above 1 it is overdue.
    fn urgency(&self, now: Duration) -> f64 {
        let since = match (self.last, self.by) {
            // A wanted look is as urgent as if its shorter wait were the period.
            (Some(last), Some(by)) if by < self.due => {
                let wait = by.saturating_sub(last).max(Duration::from_millis(1));
                return now.saturating_sub(last).as_secs_f64() / wait.as_secs_f64();
            }
            (Some(last), _) => now.saturating_sub(last),
            (None, _) => self.period + now.saturating_sub(self.due),
        };
        since.as_secs_f64() / self.period.as_secs_f64()
    }

    /// The next time of its phase that is at least half a period away.
    fn next_due(&self, now: Duration) -> Duration {
        let earliest = now + self.period / 2;
        let periods = earliest
            .saturating_sub(self.phase)
            .as_nanos()
            .div_ceil(self.period.as_nanos());
        // A schedule of u32::MAX periods of a second is 136 years long.
        self.phase + self.period * u32::try_from(periods).unwrap_or(u32::MAX)
    }
}

impl Schedule {
    /// One camera for each period, which must not be zero; a zero counts as a millisecond.
    pub fn new(periods: &[Duration]) -> Self {
        let camera = |(i, period): (usize, &Duration)| {
            let period = (*period).max(Duration::from_millis(1));
            let phase = period.mul_f64((i as f64 * GOLDEN).fract());
            Camera {
                period,
                phase,
                due: phase,
                by: None,
                last: None,
                busy: false,
                starved: false,
            }
        };
        Self {
            cameras: periods.iter().enumerate().map(camera).collect(),
            stretch: 1.0,
        }
    }

    /// The camera to look at now, or how long there is nothing to do. `ready` says whether a camera has a picture that
    /// was not looked at yet.
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
        self.stretch += (stretch - self.stretch) * NEWEST;
        camera.last = Some(now);
        camera.due = camera.next_due(now);
        camera.by = None;
        camera.busy = true;
        camera.starved = false;
        Pick::Look { camera: i, late }
    }

    /// The look at `camera` is over; it may be picked again.
    pub fn done(&mut self, camera: usize) {
        self.cameras[camera].busy = false;
    }

    /// `camera` is wanted at `by`, where its own turn would come later.
    pub fn look_by(&mut self, camera: usize, by: Duration) {
        let camera = &mut self.cameras[camera];
        camera.by = Some(camera.by.map_or(by, |earlier| earlier.min(by)));
    }

    /// By how much the newest looks' periods were stretched; 1 is none.
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

    /// One worker whose looks take `cost`; counts the looks of each camera.
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
    fn an_idle_box_looks_at_every_camera_in_its_period_and_no_two_at_once() {
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
    fn overload_stretches_a_short_and_a_long_period_alike() {
        let periods: Vec<_> = (0..40)
            .map(|i| if i % 2 == 0 { ms(1_000) } else { ms(10_000) })
            .collect();
        // Wants 20 + 2 looks of 100 ms a second: 2.2 times what one worker has.
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
        assert!(stretch > 1.5, "and it is reported: {stretch}");
    }

    #[test]
    fn a_camera_that_was_away_is_looked_at_when_it_is_back_and_returns_to_its_phase() {
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
        assert!(stretch < 1.01, "waiting for its own picture is not the box being slow");
    }

    #[test]
    fn a_wanted_look_comes_at_its_time_and_the_period_goes_on() {
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
    fn a_camera_that_is_being_looked_at_is_not_picked_again() {
        let mut schedule = Schedule::new(&[ms(100)]);
        assert!(matches!(schedule.next(ms(0), |_| true), Pick::Look { .. }));
        assert_eq!(schedule.next(ms(5_000), |_| true), Pick::Wait(None));
        schedule.done(0);
        assert!(matches!(schedule.next(ms(5_000), |_| true), Pick::Look { late, .. } if late == ms(4_900)));
        assert_eq!(
            schedule.next(ms(5_000), |_| true),
            Pick::Wait(None),
            "what was missed is gone"
        );
    }

    proptest! {
        #[test]
        fn no_camera_starves_and_none_is_looked_at_twice_within_half_its_period(
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
