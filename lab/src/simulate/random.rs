//! Reproducible randomness: every camera, place and object draws from its own stream, named by its purpose, so that an additional
//! object in one street changes nothing in another.

use fastrand::Rng;

/// The random stream of `seed` for `name` and the numbers `of`.
pub(super) fn stream(seed: u64, name: &str, of: &[u64]) -> Rng {
    // FNV-1a (draft-eastlake-fnv) over the name, and SplitMix64's finalizer (Steele et al., OOPSLA 2014) over each number.
    let named = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Rng::with_seed(of.iter().fold(mix(seed ^ named), |hash, n| mix(hash ^ n)))
}

fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Random distributions.
pub(super) trait Distributions {
    /// True with this probability.
    fn happens(&mut self, probability: f64) -> bool;
    /// Uniform between `low` and `high`.
    fn between(&mut self, low: f64, high: f64) -> f64;
    /// Standard normal.
    fn normal(&mut self) -> f64;
    /// Exponential, for waiting times.
    fn exponential(&mut self, mean: f64) -> f64;
    /// Log-normal, for the durations of what people do; `sigma` is that of the logarithm, so two thirds lie within a factor
    /// e^`sigma` of `median`.
    fn log_normal(&mut self, median: f64, sigma: f64) -> f64;
    /// Poisson.
    fn poisson(&mut self, mean: f64) -> u32;
}

impl Distributions for Rng {
    fn happens(&mut self, probability: f64) -> bool {
        self.f64() < probability
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.f64()
    }

    fn normal(&mut self) -> f64 {
        // Box and Muller 1958; the second value is discarded, so that no state is kept between draws.
        let radius = (-2.0 * (1.0 - self.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.f64()).cos()
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.f64()).ln()
    }

    fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    fn poisson(&mut self, mean: f64) -> u32 {
        // Sums waiting times until the mean is reached: linear in the mean, which is tens at most.
        let (mut count, mut left) = (0, mean - self.exponential(1.0));
        while left > 0.0 {
            count += 1;
            left -= self.exponential(1.0);
        }
        count
    }
}

/// The quantile function of the standard normal (Acklam's rational approximation without its refinement, relative error
/// below 1.2e-9); `probability` strictly between 0 and 1.
pub(super) fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    let polynomial = |of: &[f64], x: f64| of.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if probability < 0.02425 {
        tail(probability)
    } else if probability > 1.0 - 0.02425 {
        -tail(1.0 - probability)
    } else {
        let q = probability - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_independent_and_reproducible() {
        let first = |seed, name, of: &[u64]| stream(seed, name, of).u64(..);
        assert_eq!(first(7, "look", &[1, 2]), first(7, "look", &[1, 2]));
        let others = [
            first(8, "look", &[1, 2]),
            first(7, "lock", &[1, 2]),
            first(7, "look", &[2, 1]),
            first(7, "look", &[1]),
        ];
        assert!(others.iter().all(|o| *o != first(7, "look", &[1, 2])), "{others:?}");
    }

    #[test]
    fn distributions_have_their_means() {
        let mut rng = stream(7, "means", &[]);
        let mut mean = |draw: &mut dyn FnMut(&mut Rng) -> f64| (0..40_000).map(|_| draw(&mut rng)).sum::<f64>() / 4e4;
        assert!(mean(&mut |c| c.normal()).abs() < 0.02);
        assert!((mean(&mut |c| c.normal().powi(2)) - 1.0).abs() < 0.03);
        assert!((mean(&mut |c| c.exponential(5.0)) - 5.0).abs() < 0.1);
        assert!((mean(&mut |c| f64::from(c.poisson(2.5))) - 2.5).abs() < 0.04);
        assert!((mean(&mut |c| f64::from(c.log_normal(3.0, 1.0) < 3.0)) - 0.5).abs() < 0.01);
    }

    #[test]
    fn quantiles_match_the_tables() {
        for (probability, quantile) in [
            (0.5, 0.0),
            (0.3, -0.524_400_5),
            (0.975, 1.959_964),
            (0.01, -2.326_347_9),
        ] {
            assert!((normal_quantile(probability) - quantile).abs() < 1e-6, "{probability}");
        }
    }
}
