//! Under construction.
/// Picture to ground.
#[derive(Debug, Clone)]
pub struct Calibration;
