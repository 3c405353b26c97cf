//! A 12-byte appearance descriptor.

use serde::{Deserialize, Serialize};

/// Mean luma and chroma of the four quarters of an object's box (top left, top right, bottom left, bottom right; Y, U,
/// V each, 0..=255, chroma around 128). Enough to tell a green bag from a red one, but not to identify a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Appearance(pub [u8; 12]);

/// The distance at which the resemblance is one half. `models/measure_appearance.py` measured distances on 500 labelled
/// boxes of garbage (the dev splits of two public data sets): the same box shifted by 10 %: median 2.5; the same under
/// other light (0.5 to 1.6 times, white balance 12 %, gamma, a partial shadow, noise): 6, 99 % within 17; another
/// object in the same picture: median 14; in another picture: 19.
const HALF_AWAY: f64 = 10.0;

impl Appearance {
    /// Below this resemblance it is another object, whatever the light: one object in 250 falls below it under other
    /// light, and a quarter of the other objects in a picture do.
    pub(crate) const DIFFERENT_OBJECT: f64 = 0.2;

    /// Similarity of two appearances: 1 = identical, towards 0. Luma is compared relative to the box's own mean, so
    /// that a cloud changes little; chroma is compared as it is.
    pub(crate) fn resemblance(&self, other: &Self) -> f64 {
        let away = self.distance(other) / HALF_AWAY;
        1.0 / (1.0 + away * away)
    }

    /// Whether it was seen in colour; without colour it cannot tell objects apart.
    pub(crate) fn has_colour(&self) -> bool {
        self.0
            .chunks_exact(3)
            .any(|q| q[1].abs_diff(128) > 2 || q[2].abs_diff(128) > 2)
    }

    fn distance(&self, other: &Self) -> f64 {
        let mean = |a: &Self| {
            let sum: u32 = a.0.iter().step_by(3).map(|y| u32::from(*y)).sum();
            // A nearly black box has no structure to compare.
            (f64::from(sum) / 4.0).max(8.0)
        };
        let (mean_a, mean_b) = (mean(self), mean(other));
        let (mut luma, mut chroma) = (0.0, 0.0);
        for (a, b) in self.0.chunks_exact(3).zip(other.0.chunks_exact(3)) {
            luma += (f64::from(a[0]) / mean_a - f64::from(b[0]) / mean_b).abs();
            chroma += f64::from(a[1].abs_diff(b[1])) + f64::from(a[2].abs_diff(b[2]));
        }
        // Mean over the four quarters; a luma difference as large as the box's mean counts as 32.
        luma / 4.0 * 32.0 + chroma / 8.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(quarters: [[u8; 3]; 4]) -> Appearance {
        Appearance(quarters.concat().try_into().unwrap())
    }

    #[test]
    fn a_cloud_changes_little_and_another_colour_much() {
        let green = of([[90, 120, 115], [100, 120, 115], [80, 120, 115], [90, 120, 115]]);
        let shaded = of([[45, 122, 117], [50, 122, 117], [40, 122, 117], [45, 122, 117]]);
        let red = of([[90, 110, 180], [100, 110, 180], [80, 110, 180], [90, 110, 180]]);
        assert!((green.resemblance(&green) - 1.0).abs() < 1e-9);
        assert!(green.resemblance(&shaded) > 0.9, "{}", green.resemblance(&shaded));
        assert!(green.resemblance(&red) < Appearance::DIFFERENT_OBJECT);
        assert_eq!(green.resemblance(&red).to_bits(), red.resemblance(&green).to_bits());
    }

    #[test]
    fn infrared_has_no_colour() {
        assert!(!of([[90, 128, 127], [10, 129, 128], [200, 128, 128], [0, 128, 126]]).has_colour());
        assert!(of([[90, 128, 127], [10, 129, 128], [200, 128, 120], [0, 128, 128]]).has_colour());
    }
}
