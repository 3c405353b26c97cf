//! Picture to ground by a plane homography, and how sure it is.
//!
//! Street ground is taken as a plane and the lens as without distortion: both errors show in the residuals. Refused here:
//! every set of pairs from which no honest calibration follows. What a case may do with the result is not decided here.

use super::{
    super::types::{LonLat, Point},
    LocalPlane,
};
use crate::error::Class;

/// How exactly a corner is clicked, or a box's foot found, across the picture: 0.1° of a 60° wide view.
const AIM_ERROR_X: f64 = 0.1 / 60.0;
/// The same down the picture: 0.1° of the 34° that a 16:9 view of 60° is high.
const AIM_ERROR_Y: f64 = 0.1 / 34.0;
/// How exactly a person reads a point off a map or an aerial picture (0.3–0.5 m a pixel is what cities have), in metres.
const MAP_ERROR_M: f64 = 0.5;
/// Two picture points nearer than this are one (a fifth of a pixel at 1080p).
const SAME_PICTURE_POINT: f64 = 1e-4;
/// Two ground points nearer than this are one, in metres.
const SAME_GROUND_POINT_M: f64 = 0.01;
/// Points whose spread across is less than this share of their spread along are a line. A strip of road 3 % of the picture
/// high still has 0.04.
const LINE_RATIO: f64 = 0.01;
/// Least diagonal entry of R in the pivoted QR of the normalised system, relative to the greatest: below it the pairs do
/// not determine eight parameters. Simulated from 6 m up: four corners spread over the street 0.4, a narrow lane 0.02, three
/// corners within five pixels (at 1080p) of a line 0.003, in a line 1e-16.
const RANK_RATIO: f64 = 3e-3;
/// Least projective depth, in units of the pairs' centroid's: nearer to the horizon a pixel is worth the whole street.
const LEAST_DEPTH: f64 = 1e-3;

/// Why a set of point pairs gives no calibration. Pairs are counted from 0, as the configuration's paths do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Four pairs are the least that determine a homography.
    #[error("{got} point pairs, 4 or more are needed: add pairs spread over the visible ground")]
    TooFewPairs {
        /// How many were given.
        got: usize,
    },
    /// Not a number, outside the picture, or no longitude and latitude.
    #[error("pair {pair} has a coordinate out of range: a picture point is 0..1, a ground point [lon, lat] in degrees")]
    OutOfRange {
        /// Which.
        pair: usize,
    },
    /// The same picture or ground point twice.
    #[error("pairs {first} and {second} are the same point: remove one")]
    Duplicate {
        /// The one.
        first: usize,
        /// The other.
        second: usize,
    },
    /// All in one line, in the picture or on the ground.
    #[error("the pairs lie in one line, or all but one do: add pairs to its sides")]
    Collinear,
    /// The fit puts a pair behind the camera.
    #[error("pair {pair} would lie at or above the horizon: check that its picture and ground points belong together")]
    AboveHorizon {
        /// Which.
        pair: usize,
    },
    /// The ground would be seen from below.
    #[error("the pairs describe a mirrored ground: lon and lat are exchanged, or two pairs' ground points are")]
    Mirrored,
    /// The pairs do not describe one plane.
    #[error(
        "pair {pair} misses its ground point by {residual_m:.1} m, more than the pairs' own spread: check that its picture \
         and ground points belong together"
    )]
    Contradicts {
        /// The worst.
        pair: usize,
        /// By how much.
        residual_m: f64,
    },
}

impl CalibrationError {
    /// What was typed is wrong.
    pub fn class(&self) -> Class {
        Class::Config
    }
}

/// Picture to ground for one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    plane: LocalPlane,
    fit: Homography,
    /// The fit again with one coordinate of one pair off by the aim error: how much the fit itself can be wrong.
    shaken: Vec<Homography>,
    residuals_m: Vec<f64>,
    rms_m: f64,
}

impl Calibration {
    /// Fits picture to ground on four pairs or more by least squares: the direct linear transform on normalised points
    /// (Hartley, "In defense of the eight-point algorithm", PAMI 1997; Hartley & Zisserman 2nd ed., alg. 4.2).
    ///
    /// # Errors
    /// Every set that does not determine one plane seen from above; see [`CalibrationError`].
    pub fn fit(pairs: &[(Point, LonLat)]) -> Result<Self, CalibrationError> {
        if pairs.len() < 4 {
            return Err(CalibrationError::TooFewPairs { got: pairs.len() });
        }
        if let Some(pair) = pairs.iter().position(|(p, g)| !is_in_range(*p, *g)) {
            return Err(CalibrationError::OutOfRange { pair });
        }
        let plane = LocalPlane::at(pairs[0].1);
        let picture: Vec<[f64; 2]> = pairs.iter().map(|(p, _)| [p.x, p.y]).collect();
        let ground: Vec<[f64; 2]> = pairs.iter().map(|(_, g)| plane.metres(*g).into()).collect();
        for (points, same) in [(&picture, SAME_PICTURE_POINT), (&ground, SAME_GROUND_POINT_M)] {
            if let Some((first, second)) = duplicates(points, same) {
                return Err(CalibrationError::Duplicate { first, second });
            }
        }
        let fit = Homography::fit(&picture, &ground).ok_or(CalibrationError::Collinear)?;
        if let Some(pair) = picture.iter().position(|p| fit.apply(*p).is_none()) {
            return Err(CalibrationError::AboveHorizon { pair });
        }
        if picture.iter().any(|p| {
            fit.jacobian(*p)
                .is_none_or(|j| j[0][0] * j[1][1] - j[0][1] * j[1][0] >= 0.0)
        }) {
            // Down the picture comes nearer and to the right goes right: seen from above that is a negative determinant.
            return Err(CalibrationError::Mirrored);
        }
        let residuals_m: Vec<f64> = picture
            .iter()
            .zip(&ground)
            .map(|(p, g)| fit.apply(*p).map_or(f64::INFINITY, |[x, y]| (x - g[0]).hypot(y - g[1])))
            .collect();
        let (pair, worst) = residuals_m
            .iter()
            .copied()
            .enumerate()
            .fold((0, 0.0), |w, r| if r.1 > w.1 { r } else { w });
        if worst > Normalised::of(&ground).spread {
            return Err(CalibrationError::Contradicts {
                pair,
                residual_m: worst,
            });
        }
        let mut shaken = Vec::with_capacity(2 * pairs.len());
        let mut moved = picture.clone();
        for pair in 0..picture.len() {
            for (axis, error) in [(0, AIM_ERROR_X), (1, AIM_ERROR_Y)] {
                moved[pair][axis] += error;
                shaken.push(Homography::fit(&moved, &ground).ok_or(CalibrationError::Collinear)?);
                moved[pair] = picture[pair];
            }
        }
        let rms_m = (residuals_m.iter().map(|r| r * r).sum::<f64>() / residuals_m.len() as f64).sqrt();
        Ok(Self {
            plane,
            fit,
            shaken,
            residuals_m,
            rms_m,
        })
    }

    /// How far each pair's ground point lies from where the fit puts its picture point, in metres, in the pairs' order.
    /// Four pairs always fit exactly: only a fifth shows a mistake.
    pub fn residuals_m(&self) -> &[f64] {
        &self.residuals_m
    }

    /// Root mean square of the residuals, metres.
    pub fn rms_residual_m(&self) -> f64 {
        self.rms_m
    }

    /// The ground point under `p` and its uncertainty in metres (one standard deviation); `None` at and above the horizon.
    ///
    /// Independent errors, added in squares: how far the aim error moves the point (largest singular value of the Jacobian
    /// there, scaled by the aim error of each axis); how far the fit moves it when each pair is off by that error, one at a
    /// time, which grows where the pairs do not reach; the residuals; and the reading of the map.
    pub fn ground(&self, p: Point) -> Option<(LonLat, f64)> {
        let p = [p.x, p.y];
        let [east, north] = self.fit.apply(p)?;
        let j = self.fit.jacobian(p)?;
        let aim = largest_singular_value([
            [j[0][0] * AIM_ERROR_X, j[0][1] * AIM_ERROR_Y],
            [j[1][0] * AIM_ERROR_X, j[1][1] * AIM_ERROR_Y],
        ]);
        let mut fit_squared = 0.0;
        for shaken in &self.shaken {
            fit_squared += shaken
                .apply(p)
                .map_or(f64::INFINITY, |[x, y]| (x - east).powi(2) + (y - north).powi(2));
        }
        let uncertainty_m = (aim * aim + fit_squared + self.rms_m * self.rms_m + MAP_ERROR_M * MAP_ERROR_M).sqrt();
        Some((self.plane.lon_lat(east, north), uncertainty_m))
    }
}

fn is_in_range(p: Point, g: LonLat) -> bool {
    (0.0..=1.0).contains(&p.x)
        && (0.0..=1.0).contains(&p.y)
        && (-180.0..=180.0).contains(&g.lon)
        && (-90.0..=90.0).contains(&g.lat)
}

fn duplicates(points: &[[f64; 2]], same: f64) -> Option<(usize, usize)> {
    points.iter().enumerate().find_map(|(i, a)| {
        let near = |b: &[f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]) < same;
        points[..i].iter().position(near).map(|first| (first, i))
    })
}

/// A similarity that puts the centroid at the origin and the mean distance from it at √2 (Hartley 1997, §5).
struct Normalised {
    centre: [f64; 2],
    scale: f64,
    /// Root mean square distance from the centroid, in the points' own units.
    spread: f64,
    /// Spread across the longest direction as a share of the spread along it.
    flatness: f64,
}

impl Normalised {
    fn of(points: &[[f64; 2]]) -> Self {
        let n = points.len() as f64;
        let sum = points.iter().fold([0.0, 0.0], |s, p| [s[0] + p[0], s[1] + p[1]]);
        let centre = [sum[0] / n, sum[1] / n];
        let (mut xx, mut xy, mut yy, mut mean) = (0.0, 0.0, 0.0, 0.0);
        for p in points {
            let (x, y) = (p[0] - centre[0], p[1] - centre[1]);
            xx += x * x / n;
            xy += x * y / n;
            yy += y * y / n;
            mean += x.hypot(y) / n;
        }
        // Eigenvalues of the covariance.
        let (half_trace, root) = (f64::midpoint(xx, yy), ((xx - yy) / 2.0).hypot(xy));
        let (along, across) = ((half_trace + root).sqrt(), (half_trace - root).max(0.0).sqrt());
        Self {
            centre,
            scale: std::f64::consts::SQRT_2 / mean,
            spread: (xx + yy).sqrt(),
            flatness: across / along,
        }
    }

    fn apply(&self, p: [f64; 2]) -> [f64; 2] {
        [
            (p[0] - self.centre[0]) * self.scale,
            (p[1] - self.centre[1]) * self.scale,
        ]
    }
}

/// Picture fractions to metres of the plane: [X, Y] = [h0·p, h1·p] / (h2·p), with h2·p = 1 at the pairs' centroid.
#[derive(Debug, Clone, PartialEq)]
struct Homography([[f64; 3]; 3]);

impl Homography {
    /// `None` where the points do not determine one.
    fn fit(picture: &[[f64; 2]], ground: &[[f64; 2]]) -> Option<Self> {
        let (from, to) = (Normalised::of(picture), Normalised::of(ground));
        // Written so that NaN fails too.
        if !(from.flatness >= LINE_RATIO && to.flatness >= LINE_RATIO) {
            return None;
        }
        // The last entry is set to 1, which the centroid allows: it lies among points below the horizon, so its own depth
        // cannot be 0.
        let mut rows: Vec<[f64; 9]> = Vec::with_capacity(2 * picture.len());
        for (p, g) in picture.iter().zip(ground) {
            let ([u, v], [x, y]) = (from.apply(*p), to.apply(*g));
            rows.push([u, v, 1.0, 0.0, 0.0, 0.0, -u * x, -v * x, x]);
            rows.push([0.0, 0.0, 0.0, u, v, 1.0, -u * y, -v * y, y]);
        }
        let h = least_squares(rows)?;
        // Undo both normalisations: T_to⁻¹ · H · T_from.
        let mut m = [[h[0], h[1], h[2]], [h[3], h[4], h[5]], [h[6], h[7], 1.0]];
        for row in &mut m {
            row[2] -= from.scale * (row[0] * from.centre[0] + row[1] * from.centre[1]);
            row[0] *= from.scale;
            row[1] *= from.scale;
        }
        let depth = m[2];
        for (row, centre) in m.iter_mut().zip(to.centre) {
            for (entry, depth) in row.iter_mut().zip(depth) {
                *entry = *entry / to.scale + centre * depth;
            }
        }
        Some(Self(m))
    }

    fn depth(&self, [x, y]: [f64; 2]) -> Option<f64> {
        let w = self.0[2][0] * x + self.0[2][1] * y + self.0[2][2];
        (w > LEAST_DEPTH).then_some(w)
    }

    fn apply(&self, p: [f64; 2]) -> Option<[f64; 2]> {
        let w = self.depth(p)?;
        let along = |row: &[f64; 3]| (row[0] * p[0] + row[1] * p[1] + row[2]) / w;
        Some([along(&self.0[0]), along(&self.0[1])])
    }

    /// Metres per picture width and height: ∂(X, Y) / ∂(x, y).
    fn jacobian(&self, p: [f64; 2]) -> Option<[[f64; 2]; 2]> {
        let w = self.depth(p)?;
        let at = self.apply(p)?;
        let entry = |axis: usize, column: usize| (self.0[axis][column] - at[axis] * self.0[2][column]) / w;
        Some([[entry(0, 0), entry(0, 1)], [entry(1, 0), entry(1, 1)]])
    }
}

fn largest_singular_value([[a, b], [c, d]]: [[f64; 2]; 2]) -> f64 {
    // σ₁ = (‖(a+d, c−b)‖ + ‖(a−d, b+c)‖) / 2 for a 2×2 matrix.
    f64::midpoint((a + d).hypot(c - b), (a - d).hypot(b + c))
}

/// Solves rows · x = last column for eight unknowns in the least-squares sense by Householder QR with column pivoting
/// (Golub & Van Loan 4th ed., alg. 5.4.1). `None` where the columns are not independent (see [`RANK_RATIO`]).
fn least_squares(mut a: Vec<[f64; 9]>) -> Option<[f64; 8]> {
    const N: usize = 8;
    let mut order: [usize; N] = std::array::from_fn(|i| i);
    let mut first = 0.0;
    for k in 0..N {
        let norm_squared = |a: &[[f64; 9]], column: usize| a[k..].iter().map(|r| r[column] * r[column]).sum::<f64>();
        let pivot = (k..N).max_by(|i, j| norm_squared(&a, *i).total_cmp(&norm_squared(&a, *j)))?;
        a.iter_mut().for_each(|row| row.swap(k, pivot));
        order.swap(k, pivot);
        let norm = norm_squared(&a, k).sqrt();
        if k == 0 {
            first = norm;
        }
        if norm.is_nan() || norm <= first * RANK_RATIO {
            return None;
        }
        // Reflect column k onto −sign(a_kk)·norm·e_k: the sign that does not cancel.
        let alpha = if a[k][k] > 0.0 { -norm } else { norm };
        let mut v: Vec<f64> = a[k..].iter().map(|row| row[k]).collect();
        v[0] -= alpha;
        let v_squared: f64 = v.iter().map(|x| x * x).sum();
        for column in k..=N {
            let dot: f64 = v.iter().zip(&a[k..]).map(|(v, row)| v * row[column]).sum();
            let factor = 2.0 * dot / v_squared;
            for (v, row) in v.iter().zip(&mut a[k..]) {
                row[column] -= factor * v;
            }
        }
    }
    let mut solved = [0.0; N];
    for k in (0..N).rev() {
        let known: f64 = (k + 1..N).map(|j| a[k][j] * solved[j]).sum();
        solved[k] = (a[k][N] - known) / a[k][k];
    }
    let mut x = [0.0; N];
    for (k, column) in order.into_iter().enumerate() {
        x[column] = solved[k];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::geometry::distance_m;

    const HERE: LonLat = LonLat {
        lon: 113.6253,
        lat: 34.7466,
    };

    /// A pinhole camera over flat ground, 60° wide, 16:9: what `Calibration` must find again.
    #[derive(Debug, Clone, Copy)]
    struct Pinhole {
        height_m: f64,
        /// Degrees below the horizon.
        tilt: f64,
        /// Degrees clockwise from north.
        heading: f64,
    }

    impl Pinhole {
        /// The ground under a picture point, metres east and north of the pole; `None` above the horizon.
        fn ground(&self, p: Point) -> Option<(f64, f64)> {
            let half = 30f64.to_radians().tan();
            let (right, down) = ((p.x - 0.5) * 2.0 * half, (p.y - 0.5) * 2.0 * half * 9.0 / 16.0);
            let (sin, cos) = self.tilt.to_radians().sin_cos();
            let fall = sin + down * cos;
            if fall <= 1e-6 {
                return None;
            }
            let far = self.height_m / fall;
            let (ahead, right) = (far * (cos - down * sin), far * right);
            let (sin, cos) = self.heading.to_radians().sin_cos();
            Some((ahead * sin + right * cos, ahead * cos - right * sin))
        }

        fn pairs(&self, points: &[(f64, f64)]) -> Vec<(Point, LonLat)> {
            let plane = LocalPlane::at(HERE);
            points
                .iter()
                .map(|&(x, y)| {
                    let (east, north) = self.ground(Point { x, y }).expect("below the horizon");
                    (Point { x, y }, plane.lon_lat(east, north))
                })
                .collect()
        }
    }

    const STREET: Pinhole = Pinhole {
        height_m: 6.0,
        tilt: 20.0,
        heading: 30.0,
    };
    const CORNERS: [(f64, f64); 4] = [(0.1, 0.9), (0.9, 0.9), (0.8, 0.4), (0.2, 0.4)];

    #[test]
    fn refuses_what_determines_nothing() {
        let good = STREET.pairs(&CORNERS);
        assert_eq!(
            Calibration::fit(&good[..3]).unwrap_err(),
            CalibrationError::TooFewPairs { got: 3 }
        );

        let twice = [good[0], good[1], good[2], good[0]];
        assert_eq!(
            Calibration::fit(&twice).unwrap_err(),
            CalibrationError::Duplicate { first: 0, second: 3 }
        );

        let line = STREET.pairs(&[(0.1, 0.9), (0.3, 0.8), (0.5, 0.7), (0.7, 0.6)]);
        assert_eq!(Calibration::fit(&line).unwrap_err(), CalibrationError::Collinear);

        let three_in_line = STREET.pairs(&[(0.1, 0.9), (0.3, 0.8), (0.5, 0.7), (0.9, 0.9)]);
        assert_eq!(
            Calibration::fit(&three_in_line).unwrap_err(),
            CalibrationError::Collinear
        );

        let all_but_one = STREET.pairs(&[(0.1, 0.9), (0.3, 0.8), (0.5, 0.7), (0.7, 0.6), (0.9, 0.9)]);
        assert_eq!(Calibration::fit(&all_but_one).unwrap_err(), CalibrationError::Collinear);

        let mut nan = good.clone();
        nan[2].0.x = f64::NAN;
        assert_eq!(
            Calibration::fit(&nan).unwrap_err(),
            CalibrationError::OutOfRange { pair: 2 }
        );
    }

    #[test]
    fn refuses_a_mirrored_ground_and_a_point_behind_the_camera() {
        let mut mirrored = STREET.pairs(&CORNERS);
        let ground: Vec<_> = mirrored.iter().map(|p| p.1).collect();
        for (pair, g) in mirrored.iter_mut().zip([ground[1], ground[0], ground[3], ground[2]]) {
            pair.1 = g;
        }
        assert_eq!(Calibration::fit(&mirrored).unwrap_err(), CalibrationError::Mirrored);

        let mut crossed = STREET.pairs(&CORNERS);
        (crossed[0].1, crossed[1].1) = (crossed[1].1, crossed[0].1);
        assert!(matches!(
            Calibration::fit(&crossed),
            Err(CalibrationError::AboveHorizon { .. } | CalibrationError::Mirrored)
        ));
    }

    #[test]
    fn a_wrong_fifth_pair_shows_in_its_residuals() {
        let mut pairs = STREET.pairs(&[CORNERS[0], CORNERS[1], CORNERS[2], CORNERS[3], (0.5, 0.6)]);
        assert!(Calibration::fit(&pairs).unwrap().rms_residual_m() < 1e-6);
        pairs[4].1.lat += 2.0 / 111_000.0;
        let off = Calibration::fit(&pairs).unwrap();
        assert!(off.rms_residual_m() > 0.2, "{:?}", off.residuals_m());
        assert!(off.ground(Point { x: 0.5, y: 0.6 }).unwrap().1 > off.rms_residual_m());
    }

    #[test]
    fn nothing_above_the_horizon_has_a_ground_point() {
        // Tilted 10° down, the horizon of a view 36° high lies at (0.5 − tan 10° / (2 tan 30° · 9/16)) = 0.228.
        let camera = Pinhole { tilt: 10.0, ..STREET };
        let calibration = Calibration::fit(&camera.pairs(&CORNERS)).unwrap();
        assert_eq!(calibration.ground(Point { x: 0.5, y: 0.22 }), None);
        assert_eq!(calibration.ground(Point { x: 0.9, y: 0.0 }), None);
        let near = calibration.ground(Point { x: 0.5, y: 0.9 }).unwrap().1;
        let far = calibration.ground(Point { x: 0.5, y: 0.26 }).unwrap().1;
        assert!(far > 10.0 * near, "{near} {far}");
    }

    #[test]
    fn the_aim_error_is_the_textbooks() {
        // domain: from 6 m up, 0.1° moves the ground point 0.7 m at 50 m. The other terms only add.
        let camera = Pinhole {
            height_m: 6.0,
            tilt: 7.0,
            heading: 0.0,
        };
        let calibration = Calibration::fit(&camera.pairs(&[(0.1, 0.9), (0.9, 0.9), (0.8, 0.5), (0.2, 0.5)])).unwrap();
        let p = (0..1000)
            .map(|y| Point {
                x: 0.5,
                y: f64::from(y) / 1000.0,
            })
            .find(|p| camera.ground(*p).is_some_and(|g| g.1 < 50.0))
            .unwrap();
        let (_, uncertainty_m) = calibration.ground(p).unwrap();
        assert!((0.7..4.0).contains(&uncertainty_m), "{uncertainty_m}");
    }

    proptest! {
        #[test]
        fn finds_a_cameras_ground_again(
            height_m in 3.0f64..15.0, tilt in 22.0f64..60.0, heading in 0.0f64..360.0,
            jitter in prop::collection::vec((-0.08f64..0.08, -0.08f64..0.08), 8),
            at in (0.05f64..0.95, 0.3f64..0.98),
        ) {
            let camera = Pinhole { height_m, tilt, heading };
            let points: Vec<_> = [(0.1, 0.9), (0.9, 0.9), (0.8, 0.4), (0.2, 0.4), (0.5, 0.6), (0.3, 0.7), (0.7, 0.8), (0.5, 0.3)]
                .into_iter().zip(&jitter).map(|((x, y), (dx, dy))| (x + dx, y + dy)).collect();
            let calibration = Calibration::fit(&camera.pairs(&points)).unwrap();
            let p = Point { x: at.0, y: at.1 };
            let truth = camera.ground(p).map(|(e, n)| LocalPlane::at(HERE).lon_lat(e, n)).unwrap();
            let (found, uncertainty_m) = calibration.ground(p).unwrap();
            prop_assert!(distance_m(found, truth) < 0.02, "{}", distance_m(found, truth));
            prop_assert!(uncertainty_m >= MAP_ERROR_M && uncertainty_m.is_finite());
        }

        #[test]
        fn no_input_panics(pairs in prop::collection::vec(
            ((-0.5f64..1.5, -0.5f64..1.5), (113.0f64..113.001, 34.0f64..34.001)), 0..7)) {
            let pairs: Vec<_> = pairs.into_iter()
                .map(|((x, y), (lon, lat))| (Point { x, y }, LonLat { lon, lat })).collect();
            if let Ok(calibration) = Calibration::fit(&pairs) {
                for (p, _) in &pairs {
                    prop_assert!(calibration.ground(*p).is_some(), "a pair's own point lies below the horizon");
                }
            }
        }
    }
}
