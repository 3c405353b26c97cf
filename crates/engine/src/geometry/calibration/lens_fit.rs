//! Estimates lens distortion from the calibration pairs, if there are enough of them.

use super::{Calibration, CalibrationError, Lens, LonLat, Point};

/// Four pairs fit a homography's eight parameters exactly; eight pairs leave eight residuals to judge by.
const MIN_PAIRS: usize = 8;
/// Minimum F statistic: the 1 % point of the F distribution for one parameter and seven degrees of freedom, which eight
/// pairs leave. More pairs would allow a lower value (8.3 for twelve); the strictest is used.
const MIN_F: f64 = 12.25;
/// Minimum reduction of the rms residual: less would not show against a map reading accuracy of 0.5 m.
const MIN_GAIN: f64 = 0.2;
/// Below this rms the pairs fit as well as the map is drawn, metres.
const GOOD_FIT_M: f64 = 0.05;
/// k₁ range searched: from the strongest barrel without a fold (see [`Lens::new`]) to a pincushion stronger than any
/// camera's.
const K1_RANGE: (f64, f64) = (-0.14, 0.3);
/// Steps over that range; the residuals have a single minimum there, wider than a step.
const STEPS: u32 = 44;
/// Golden-section iterations from one step's width down to 10⁻⁵: each leaves 0.618 of the interval.
const SECTIONS: u32 = 18;

impl Calibration {
    /// Fits without a lens, and with k₁ if there are 8 pairs or more. Keeps the lens only if the residuals fall by more
    /// than chance explains (F test at 1 %, and a fifth of the rms). `aspect`: see [`Lens::new`].
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn fit_estimating_lens(pairs: &[(Point, LonLat)], aspect: f64) -> Result<Self, CalibrationError> {
        let plain = Self::fit(pairs)?;
        if pairs.len() < MIN_PAIRS || plain.rms_m < GOOD_FIT_M {
            return Ok(plain);
        }
        let with = |k1: f64| Self::fit_with_lens(pairs, Some(Lens::new(k1, 0.0, aspect)?)).ok();
        let rms = |k1: f64| with(k1).map_or(f64::INFINITY, |c| c.rms_m);
        let width = (K1_RANGE.1 - K1_RANGE.0) / f64::from(STEPS);
        let steps = (0..=STEPS).map(|i| K1_RANGE.0 + width * f64::from(i));
        let (best, _) =
            steps.map(|k1| (k1, rms(k1))).fold(
                (0.0, plain.rms_m),
                |best, tried| {
                    if tried.1 < best.1 { tried } else { best }
                },
            );
        let k1 = least(best - width, best + width, rms);
        let Some(bent) = with(k1) else { return Ok(plain) };
        // 2n residual coordinates, eight and nine parameters.
        let freedom = 2.0 * pairs.len() as f64 - 9.0;
        let (before, after) = (plain.rms_m.powi(2), bent.rms_m.powi(2));
        let f = (before - after) / (after / freedom);
        let gain = 1.0 - bent.rms_m / plain.rms_m;
        Ok(if f > MIN_F && gain > MIN_GAIN { bent } else { plain })
    }
}

/// The minimum of `f` between two bounds, by golden-section search.
fn least(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let share = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..SECTIONS {
        let (a, b) = (high - share * (high - low), low + share * (high - low));
        if f(a) < f(b) {
            high = b;
        } else {
            low = a;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::LocalPlane;

    const WIDE: f64 = 16.0 / 9.0;
    const POINTS: [(f64, f64); 9] = [
        (0.05, 0.95),
        (0.5, 0.93),
        (0.95, 0.95),
        (0.1, 0.6),
        (0.45, 0.65),
        (0.9, 0.6),
        (0.15, 0.4),
        (0.55, 0.42),
        (0.85, 0.4),
    ];

    /// A view from 6 m above flat ground, 20° down, 60° wide, through `lens`; each ground point off by up to `noise_m`.
    fn pairs(lens: Option<Lens>, noise_m: f64, count: usize) -> Vec<(Point, LonLat)> {
        let plane = LocalPlane::at(LonLat { lon: 113.6, lat: 34.7 });
        let half = 30f64.to_radians().tan();
        let (sin, cos) = 20f64.to_radians().sin_cos();
        let ground = |(i, (x, y)): (usize, &(f64, f64))| {
            let (right, down) = ((x - 0.5) * 2.0 * half, (y - 0.5) * 2.0 * half / WIDE);
            let far = 6.0 / (sin + down * cos);
            let [x, y] = lens
                .map_or(Some([*x, *y]), |l| l.distorted([*x, *y]))
                .expect("within reach");
            // Deterministic noise, alternating by pair in both directions.
            let noise = noise_m * ((i * 7 % 5) as f64 / 2.0 - 1.0);
            let at = plane.lon_lat(far * right + noise, far * (cos - down * sin) - noise);
            (Point { x, y }, at)
        };
        POINTS.iter().take(count).enumerate().map(ground).collect()
    }

    #[test]
    fn a_wide_lens_is_found() {
        let lens = Lens::new(-0.08, 0.0, WIDE).unwrap();
        let found = Calibration::fit_estimating_lens(&pairs(Some(lens), 0.02, 9), WIDE).unwrap();
        let (k1, k2) = found.lens().expect("a lens").coefficients();
        assert!((k1 + 0.08).abs() < 0.01 && k2 == 0.0, "{k1}");
    }

    #[test]
    fn no_lens_is_found_without_evidence() {
        // No distortion; no distortion but noisy; distorted with too few pairs to tell.
        let lens = Lens::new(-0.08, 0.0, WIDE).unwrap();
        for pairs in [pairs(None, 0.0, 9), pairs(None, 0.3, 9), pairs(Some(lens), 0.02, 7)] {
            assert_eq!(Calibration::fit_estimating_lens(&pairs, WIDE).unwrap().lens(), None);
        }
    }
}
