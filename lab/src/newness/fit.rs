//! Fits the weights of the region score.

use gridwatch_vision::change::FEATURES;

use super::{Assets, ROWS, measure::samples};

/// Weights of the logistic regression on standardised features and their squares.
#[derive(Debug, Clone)]
pub struct Weights {
    bias: f64,
    centres: [f64; FEATURES],
    scales: [f64; FEATURES],
    linear: [f64; FEATURES],
    square: [f64; FEATURES],
    /// Samples of things and of light that it was fitted on.
    pub samples: (usize, usize),
}

/// A false region costs as much as this many things missed: a camera makes thousands of looks a day.
const FALSE_COST: f64 = 3.0;
/// Strength of the penalty on large weights.
const RIDGE: f64 = 2e-4;
const FARTHEST: f64 = 4.0;

/// Runs `scenes` scenes under every nuisance and fits the weights to what they measure. Each row takes other backgrounds.
pub fn fit(assets: &Assets, scenes: usize, looks: u32, width: u32, seed: u64) -> Weights {
    let mut all: Vec<([f32; FEATURES], bool)> = Vec::new();
    for (i, row) in ROWS.iter().enumerate() {
        let found = samples(assets, row, (i * scenes, scenes), looks, width, seed);
        all.extend(found.into_iter().map(|(m, t)| (m.features, t)));
    }
    solve(&all)
}

/// Fits the weights to features of things (true) and of others.
pub fn solve(samples: &[([f32; FEATURES], bool)]) -> Weights {
    let samples: Vec<([f64; FEATURES], bool)> = samples.iter().map(|(f, t)| (f.map(f64::from), *t)).collect();
    solve_exactly(&samples)
}

fn solve_exactly(samples: &[([f64; FEATURES], bool)]) -> Weights {
    let n = samples.len().max(1) as f64;
    let things = samples.iter().filter(|(_, t)| *t).count();
    let mut w = Weights {
        bias: 0.0,
        centres: [0.0; FEATURES],
        scales: [1.0; FEATURES],
        linear: [0.0; FEATURES],
        square: [0.0; FEATURES],
        samples: (things, samples.len() - things),
    };
    for i in 0..FEATURES {
        let mean = samples.iter().map(|(f, _)| f[i]).sum::<f64>() / n;
        let variance = samples.iter().map(|(f, _)| (f[i] - mean).powi(2)).sum::<f64>() / n;
        (w.centres[i], w.scales[i]) = (mean, variance.sqrt().max(1e-3));
    }
    let inputs: Vec<(Vec<f64>, f64, f64)> = samples
        .iter()
        .map(|(f, is_thing)| {
            let z = |i: usize| ((f[i] - w.centres[i]) / w.scales[i]).clamp(-FARTHEST, FARTHEST);
            let mut x: Vec<f64> = (0..FEATURES).map(z).collect();
            x.extend((0..FEATURES).map(|i| z(i) * z(i)));
            x.push(1.0);
            let share = if *is_thing {
                n / (2.0 * things.max(1) as f64)
            } else {
                n / (2.0 * (n - things as f64).max(1.0))
            };
            let cost = if *is_thing { 1.0 } else { FALSE_COST };
            (x, f64::from(u8::from(*is_thing)), share * cost)
        })
        .collect();
    let beta = newton(&inputs, n);
    w.linear.copy_from_slice(&beta[..FEATURES]);
    w.square.copy_from_slice(&beta[FEATURES..2 * FEATURES]);
    w.bias = beta[2 * FEATURES];
    w
}

/// Newton's method (iteratively reweighted least squares) with a ridge penalty.
fn newton(inputs: &[(Vec<f64>, f64, f64)], n: f64) -> Vec<f64> {
    const TERMS: usize = 2 * FEATURES + 1;
    let mut beta = vec![0.0; TERMS];
    for _ in 0..25 {
        let mut gradient: Vec<f64> = beta.iter().map(|b| RIDGE * b).collect();
        gradient[TERMS - 1] = 0.0;
        let mut hessian = vec![vec![0.0; TERMS]; TERMS];
        for (i, row) in hessian.iter_mut().enumerate().take(TERMS - 1) {
            row[i] = RIDGE;
        }
        for (x, y, weight) in inputs {
            let eta: f64 = x.iter().zip(&beta).map(|(x, b)| x * b).sum();
            let p = 1.0 / (1.0 + (-eta.clamp(-30.0, 30.0)).exp());
            let (slope, curve) = (weight * (p - y) / n, weight * (p * (1.0 - p)).max(1e-5) / n);
            for i in 0..TERMS {
                gradient[i] += slope * x[i];
                let scaled = curve * x[i];
                for (h, xj) in hessian[i][..=i].iter_mut().zip(x) {
                    *h += scaled * xj;
                }
            }
        }
        let step = cholesky_solve(&mut hessian, &gradient);
        let largest = step.iter().fold(0.0_f64, |m, s| m.max(s.abs()));
        // Long steps are shortened: far from the optimum the quadratic model does not hold.
        let shorten = (2.0 / largest.max(1e-12)).min(1.0);
        beta.iter_mut().zip(&step).for_each(|(b, s)| *b -= shorten * s);
        if largest < 1e-5 {
            break;
        }
    }
    beta
}

/// Solves `a·x = b` for a symmetric positive definite matrix given by its lower triangle.
fn cholesky_solve(a: &mut [Vec<f64>], b: &[f64]) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let rest = a[i][j] - sum;
            a[i][j] = if i == j { rest.max(1e-12).sqrt() } else { rest / a[j][j] };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i][k] * x[k]).sum();
        x[i] = (x[i] - sum) / a[i][i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k][i] * x[k]).sum();
        x[i] = (x[i] - sum) / a[i][i];
    }
    x
}

impl std::fmt::Display for Weights {
    /// The source text of `crates/vision/src/change/weights.rs`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (things, others) = self.samples;
        writeln!(
            f,
            "//! Weights of the region score. Written by `gridwatch-lab bench changes --fit`; do not edit.\n//!\n\
             //! Fitted on {things} measurements of things and {others} of light and passers-by.\n\n\
             use super::region::FEATURES;\n\n\
             pub(super) const BIAS: f32 = {:.4};",
            self.bias
        )?;
        let lists = [
            ("CENTRES", &self.centres),
            ("SCALES", &self.scales),
            ("LINEAR", &self.linear),
            ("SQUARE", &self.square),
        ];
        for (name, values) in lists {
            writeln!(f, "#[rustfmt::skip]\npub(super) const {name}: [f32; FEATURES] = [")?;
            for row in values.chunks(8) {
                let row: Vec<String> = row.iter().map(|v| format!("{v:.4}")).collect();
                writeln!(f, "    {},", row.join(", "))?;
            }
            writeln!(f, "];")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fit_separates_what_one_feature_separates() {
        let mut random = fastrand::Rng::with_seed(1);
        let samples: Vec<([f64; FEATURES], bool)> = (0..600)
            .map(|i| {
                let mut features: [f64; FEATURES] = std::array::from_fn(|_| random.f64());
                features[3] = f64::from(i % 2) + 0.6 * random.f64();
                (features, i % 2 == 1)
            })
            .collect();
        let w = solve_exactly(&samples);
        let strongest = (0..FEATURES).max_by(|a, b| w.linear[*a].abs().total_cmp(&w.linear[*b].abs()));
        assert_eq!(strongest, Some(3));
        assert!(w.linear[3] > 1.0);
    }
}
