//! The score of a region: how likely it is a thing and not a change of light.

use super::{
    region::FEATURES,
    weights::{BIAS, CENTRES, LINEAR, SCALES, SQUARE},
};

/// Standard deviations beyond which a feature counts no further: the fit saw nothing there.
const FARTHEST: f32 = 4.0;

/// Log odds of a thing: logistic regression on the standardised features and their squares.
pub(super) fn log_odds(features: &[f32; FEATURES]) -> f32 {
    let mut sum = BIAS;
    for (i, feature) in features.iter().enumerate() {
        let z = ((feature - CENTRES[i]) / SCALES[i]).clamp(-FARTHEST, FARTHEST);
        sum += LINEAR[i] * z + SQUARE[i] * z * z;
    }
    sum
}

/// The probability of log odds.
pub(super) fn probability(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}
