//! Weights of the region score. Written by `gridwatch-lab bench newness fit`; do not edit.

use super::region::FEATURES;

pub(super) const BIAS: f32 = 0.0;
pub(super) const CENTRES: [f32; FEATURES] = [0.0; FEATURES];
pub(super) const SCALES: [f32; FEATURES] = [1.0; FEATURES];
pub(super) const LINEAR: [f32; FEATURES] = [0.0; FEATURES];
pub(super) const SQUARE: [f32; FEATURES] = [0.0; FEATURES];
