//! The score of a region: how likely it is a thing and not a change of light.

use super::{
    region::FEATURES,
    weights::{BIAS, CENTRES, LINEAR, SCALES, SQUARE},
};
use gridwatch_base::digest::sha256_hex;

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

/// SHA-256 of the weights, as 64 lower-case hex digits: it tells versions of the score apart.
pub fn weights_sha256() -> String {
    let tables = [&CENTRES, &SCALES, &LINEAR, &SQUARE];
    let numbers = [BIAS].into_iter().chain(tables.into_iter().flatten().copied());
    let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    sha256_hex(&bytes)
}

/// The probability of log odds.
pub(super) fn probability(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}
