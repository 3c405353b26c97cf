//! Radial lens distortion, and its inverse.
//!
//! The radial part of Brown's model (D. C. Brown, "Close-range camera calibration", Photogrammetric Engineering 37(8),
//! 1971), in its usual direction: from the picture of an ideal lens to the picture of this one,
//!
//! > q − c = (p − c) · (1 + k₁ r² + k₂ r⁴)
//!
//! with c the centre of the picture and r the distance of p from it in **half diagonals**, so that r = 1 at the corners
//! of the ideal picture at any resolution. k₁ < 0 is barrel distortion, typical of wide lenses; k₁ > 0 is pincushion.
//! Tangential terms are omitted: in commercial cameras they are smaller than the accuracy of a clicked point.

use serde::{Deserialize, Serialize};

/// How far beyond the corners a lens must still map: boxes, and the perturbed points of a fit, may lie slightly
/// outside.
const REACH: f64 = 1.02;
/// Accuracy of a radius, in half diagonals: a hundred-millionth of a pixel.
const PRECISION: f64 = 1e-13;
/// Maximum iterations: Newton needs six, bisection (its fallback near the fold) fifty.
const STEPS: usize = 80;

/// Radial distortion of one camera.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredLens", into = "StoredLens")]
pub struct Lens {
    k1: f64,
    k2: f64,
    aspect: f64,
    /// Radius at which the model folds back in the ideal picture, in half diagonals; infinite if it never does.
    fold_radius: f64,
}

/// The stored form of a lens: what it was made from. (The radius at which it folds may be infinite, which JSON has no number for.)
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLens {
    k1: f64,
    k2: f64,
    aspect: f64,
}

impl From<Lens> for StoredLens {
    fn from(Lens { k1, k2, aspect, .. }: Lens) -> Self {
        Self { k1, k2, aspect }
    }
}

impl TryFrom<StoredLens> for Lens {
    type Error = &'static str;

    fn try_from(StoredLens { k1, k2, aspect }: StoredLens) -> Result<Self, Self::Error> {
        Self::new(k1, k2, aspect).ok_or("no lens has these coefficients")
    }
}

impl Lens {
    /// `k1` and `k2` as in the module's formula; `aspect` is width by height with square pixels, of the sensor's
    /// picture rather than of a squeezed stream.
    ///
    /// `None` if no such lens exists: not finite, aspect not within 0.2 to 5, or distorted so strongly that two ground
    /// points would fall on one point within the picture (k₁ below −4/27 with k₂ = 0). Fisheye lenses need another
    /// model.
    pub fn new(k1: f64, k2: f64, aspect: f64) -> Option<Self> {
        let mut lens = Self {
            k1,
            k2,
            aspect,
            fold_radius: f64::INFINITY,
        };
        lens.fold_radius = lens.turning_point()?;
        let reaches = !lens.fold_radius.is_finite() || lens.distorted_radius(lens.fold_radius) >= REACH;
        (reaches && (0.2..=5.0).contains(&aspect)).then_some(lens)
    }

    /// The coefficients k₁ and k₂.
    pub fn coefficients(&self) -> (f64, f64) {
        (self.k1, self.k2)
    }

    /// The smallest r > 0 at which r (1 + k₁ r² + k₂ r⁴) stops growing: 1 + 3 k₁ t + 5 k₂ t² = 0 with t = r².
    fn turning_point(&self) -> Option<f64> {
        if !(self.k1.is_finite() && self.k2.is_finite()) {
            return None;
        }
        let (a, b) = (5.0 * self.k2, 3.0 * self.k1);
        let under = b * b - 4.0 * a;
        if under < 0.0 {
            return Some(f64::INFINITY);
        }
        // The roots are q/a and 1/q: neither form subtracts equal numbers, and a = 0 needs no special case.
        let q = -(b + under.sqrt().copysign(b)) / 2.0;
        let roots = [q / a, 1.0 / q];
        let least = roots.into_iter().filter(|t| *t > 0.0).fold(f64::INFINITY, f64::min);
        Some(least.sqrt())
    }

    /// Distance from the centre in this lens's picture of a point at `r` in the ideal picture.
    fn distorted_radius(&self, r: f64) -> f64 {
        r * self.factor(r * r)
    }

    fn factor(&self, r_squared: f64) -> f64 {
        1.0 + r_squared * (self.k1 + r_squared * self.k2)
    }

    /// A picture point relative to the centre, in half diagonals.
    fn relative_to_centre(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let half_diagonal = self.aspect.hypot(1.0) / 2.0;
        [(x - 0.5) * self.aspect / half_diagonal, (y - 0.5) / half_diagonal]
    }

    /// Where an ideal lens would put the picture point `p` (both in fractions); `None` outside the model's range.
    pub(super) fn undistorted(&self, p: [f64; 2]) -> Option<[f64; 2]> {
        let [x, y] = self.relative_to_centre(p);
        let seen = x.hypot(y);
        if seen == 0.0 {
            return Some(p);
        }
        let factor = self.undistorted_radius(seen)? / seen;
        Some(p.map(|v| 0.5 + (v - 0.5) * factor))
    }

    /// The r whose distorted radius is `seen`: Newton's method, kept between two bounds.
    fn undistorted_radius(&self, seen: f64) -> Option<f64> {
        let (mut low, mut high) = (0.0, self.fold_radius.min(seen.max(1.0)));
        while self.distorted_radius(high) < seen {
            if high >= self.fold_radius {
                return None;
            }
            high = (2.0 * high).min(self.fold_radius);
        }
        let mut r = seen.min(high);
        for _ in 0..STEPS {
            let off = self.distorted_radius(r) - seen;
            if off.abs() < PRECISION {
                break;
            }
            if off > 0.0 {
                high = r;
            } else {
                low = r;
            }
            let t = r * r;
            let newton = r - off / (1.0 + t * (3.0 * self.k1 + t * 5.0 * self.k2));
            // Written so that NaN falls back too.
            r = if newton > low && newton < high {
                newton
            } else {
                f64::midpoint(low, high)
            };
        }
        Some(r)
    }

    /// Where this lens puts the point `p` of the ideal picture; `None` outside the model's range.
    pub(super) fn distorted(&self, p: [f64; 2]) -> Option<[f64; 2]> {
        let [x, y] = self.relative_to_centre(p);
        let r = x.hypot(y);
        let factor = self.factor(r * r);
        (r < self.fold_radius).then(|| p.map(|v| 0.5 + (v - 0.5) * factor))
    }

    /// Jacobian of [`distorted`](Self::distorted) at `p`: ∂(distorted) / ∂(p), in fractions.
    pub(super) fn jacobian(&self, p: [f64; 2]) -> [[f64; 2]; 2] {
        let from = self.relative_to_centre(p);
        let t = from[0] * from[0] + from[1] * from[1];
        let factor = self.factor(t);
        let half_diagonal = self.aspect.hypot(1.0) / 2.0;
        let slope = 2.0 * self.k1 + 4.0 * self.k2 * t;
        let along = [
            slope * from[0] * self.aspect / half_diagonal,
            slope * from[1] / half_diagonal,
        ];
        let (x, y) = (p[0] - 0.5, p[1] - 0.5);
        [
            [factor + x * along[0], x * along[1]],
            [y * along[0], factor + y * along[1]],
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: f64 = 16.0 / 9.0;

    #[test]
    fn a_corner_is_distorted_by_the_formula() {
        // r = 1 at the corner: it moves to 1 + k1 + k2 of its distance from the middle.
        let lens = Lens::new(-0.1, 0.02, WIDE).unwrap();
        let [x, y] = lens.distorted([1.0, 1.0]).unwrap();
        assert!(
            (x - (0.5 + 0.5 * 0.92)).abs() < 1e-12 && (y - 0.96).abs() < 1e-12,
            "{x} {y}"
        );
        assert_eq!(lens.distorted([0.5, 0.5]), Some([0.5, 0.5]));
        assert_eq!(lens.undistorted([0.5, 0.5]), Some([0.5, 0.5]));
    }

    #[test]
    fn lenses_that_fold_the_picture_are_rejected() {
        for (k1, k2, aspect) in [
            (-0.2, 0.0, WIDE),
            (0.0, -0.3, WIDE),
            (f64::NAN, 0.0, WIDE),
            (0.0, f64::INFINITY, WIDE),
            (0.0, 0.0, 0.0),
            (0.0, 0.0, f64::NAN),
        ] {
            assert_eq!(Lens::new(k1, k2, aspect), None, "{k1} {k2} {aspect}");
        }
        assert!(Lens::new(0.0, 0.0, WIDE).is_some());
        assert!(Lens::new(-0.13, 0.0, WIDE).is_some());
        assert!(Lens::new(-0.3, 0.1, WIDE).is_some(), "a wide lens with both terms");
    }

    proptest! {
        #[test]
        fn distortion_round_trips(
            k1 in -0.3f64..0.5, k2 in -0.1f64..0.3, aspect in 0.5f64..2.5, x in 0.0f64..=1.0, y in 0.0f64..=1.0,
        ) {
            let Some(lens) = Lens::new(k1, k2, aspect) else { return Ok(()) };
            let straight = lens.undistorted([x, y]).unwrap();
            let [bx, by] = lens.distorted(straight).unwrap();
            prop_assert!((bx - x).abs() < 1e-9 && (by - y).abs() < 1e-9, "{k1} {k2}: {x} {y} → {bx} {by}");
        }

        #[test]
        fn the_jacobian_matches_finite_differences(k1 in -0.12f64..0.5, k2 in 0.0f64..0.3, x in 0.0f64..1.0, y in 0.0f64..1.0) {
            let lens = Lens::new(k1, k2, WIDE).unwrap();
            let step = 1e-6;
            let jacobian = lens.jacobian([x, y]);
            for (column, (dx, dy)) in [(step, 0.0), (0.0, step)].into_iter().enumerate() {
                let (Some(ahead), Some(behind)) = (lens.distorted([x + dx, y + dy]), lens.distorted([x - dx, y - dy])) else {
                    return Ok(());
                };
                for row in 0..2 {
                    let slope = (ahead[row] - behind[row]) / (2.0 * step);
                    prop_assert!((slope - jacobian[row][column]).abs() < 1e-6);
                }
            }
        }
    }
}
