//! The plane homography: fit, apply, invert, Jacobian.

use serde::{Deserialize, Serialize};

/// Points whose spread across is less than this share of their spread along are collinear. A strip of road 3 % of the
/// picture high still has 0.04.
const LINE_RATIO: f64 = 0.01;
/// Smallest diagonal entry of R in the pivoted QR of the normalised system, relative to the largest; below it the pairs
/// do not determine eight parameters. Simulated from 6 m up: four corners spread over the street 0.4, a narrow lane
/// 0.02, three corners within five pixels (at 1080p) of a line 0.003, collinear 1e-16.
const RANK_RATIO: f64 = 3e-3;
/// Smallest projective depth, in units of the pairs' centroid's: closer to the horizon a pixel spans the whole street.
const MIN_DEPTH: f64 = 1e-3;

/// The similarity that moves the centroid to the origin and scales the mean distance from it to √2 (Hartley 1997, §5).
pub(super) struct Normalised {
    centre: [f64; 2],
    scale: f64,
    /// Root mean square distance from the centroid, in the points' own units.
    pub(super) spread: f64,
    /// Spread across the main direction as a share of the spread along it.
    flatness: f64,
}

impl Normalised {
    pub(super) fn of(points: &[[f64; 2]]) -> Self {
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

/// Maps picture fractions to metres on the plane: [X, Y] = [h0·p, h1·p] / (h2·p), with h2·p = 1 at the pairs' centroid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Homography([[f64; 3]; 3]);

impl Homography {
    /// `None` if the points do not determine a homography.
    pub(super) fn fit(picture: &[[f64; 2]], ground: &[[f64; 2]]) -> Option<Self> {
        let (from, to) = (Normalised::of(picture), Normalised::of(ground));
        // Written so that NaN fails too.
        if !(from.flatness >= LINE_RATIO && to.flatness >= LINE_RATIO) {
            return None;
        }
        // The last entry is fixed to 1. That is possible because the centroid lies among points below the horizon, so
        // its own depth is never 0.
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
        (w > MIN_DEPTH).then_some(w)
    }

    pub(super) fn apply(&self, p: [f64; 2]) -> Option<[f64; 2]> {
        let w = self.depth(p)?;
        let along = |row: &[f64; 3]| (row[0] * p[0] + row[1] * p[1] + row[2]) / w;
        Some([along(&self.0[0]), along(&self.0[1])])
    }

    /// The picture point over a point of the plane; `None` behind the camera or at the horizon.
    pub(super) fn invert(&self, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        let [a, b, c] = self.0;
        let cross = |u: [f64; 3], v: [f64; 3]| {
            [
                u[1] * v[2] - u[2] * v[1],
                u[2] * v[0] - u[0] * v[2],
                u[0] * v[1] - u[1] * v[0],
            ]
        };
        // The columns of the adjugate, i.e. the inverse up to a factor that cancels.
        let columns = [cross(b, c), cross(c, a), cross(a, b)];
        let along = |i: usize| columns[0][i] * x + columns[1][i] * y + columns[2][i];
        let p = [along(0) / along(2), along(1) / along(2)];
        // NaN, for a point on the camera's own horizon line, has no depth either.
        self.depth(p).map(|_| p)
    }

    /// Metres per picture width and height: ∂(X, Y) / ∂(x, y).
    pub(super) fn jacobian(&self, p: [f64; 2]) -> Option<[[f64; 2]; 2]> {
        let w = self.depth(p)?;
        let at = self.apply(p)?;
        let entry = |axis: usize, column: usize| (self.0[axis][column] - at[axis] * self.0[2][column]) / w;
        Some([[entry(0, 0), entry(0, 1)], [entry(1, 0), entry(1, 1)]])
    }
}

pub(super) fn largest_singular_value([[a, b], [c, d]]: [[f64; 2]; 2]) -> f64 {
    // σ₁ = (‖(a+d, c−b)‖ + ‖(a−d, b+c)‖) / 2 for a 2×2 matrix.
    f64::midpoint((a + d).hypot(c - b), (a - d).hypot(b + c))
}

/// Solves rows · x = last column for eight unknowns in the least-squares sense, by Householder QR with column pivoting
/// (Golub & Van Loan 4th ed., alg. 5.4.1). `None` if the columns are linearly dependent (see [`RANK_RATIO`]).
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
        // Reflect column k onto −sign(a_kk)·norm·e_k, the sign that avoids cancellation.
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
