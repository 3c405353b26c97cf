//! Thresholds for view health and aim.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Thresholds beyond which a view cannot be trusted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "View")]
#[serde(deny_unknown_fields, default)]
pub struct ViewLimits {
    /// A view with a mean luma (0..=255) below this is dark. A higher value misjudges lit streets at night as dark.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub dark_below: f64,
    /// A view whose Laplacian variance, at 320 pixels across, is below this has no fine structure and is blurred or blocked. A higher value misjudges dim and foggy streets as blurred.
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub blurred_below: f64,
    /// A view without fine structure is blocked if the standard deviation of its luma is below this, and blurred otherwise.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub blocked_below: f64,
    /// A view is frozen after this many consecutive looks with identical pixels.
    #[schemars(range(min = 2, max = 1000))]
    pub frozen_after: u32,
    /// Largest displacement of any point of the view, as a share of the picture's width, before the camera counts as moved. A lower value misjudges a swaying pole as a move; a pan of twice this value is always detected.
    #[schemars(range(min = 0.005, max = 0.04))]
    pub moved_beyond: f64,
    /// A picture whose edges agree with the learned view less than this shows another view. A picture agrees with itself by nearly 1, two different streets by less than 0.1. A higher value misjudges a bus in front of the camera, or heavy snow, as another view.
    #[schemars(range(min = 0.05, max = 0.9))]
    pub unlike_below: f64,
    /// The camera counts as moved after this many consecutive looks with a displaced view, or three times as many without any of the view. Nothing is then confirmed or cleared there until the view is back or `gridwatch view confirm` is run.
    #[schemars(range(min = 1, max = 1000))]
    pub moved_after: u32,
}

impl Default for ViewLimits {
    fn default() -> Self {
        Self {
            dark_below: 8.0,
            blurred_below: 8.0,
            blocked_below: 12.0,
            frozen_after: 6,
            moved_beyond: 0.015,
            unlike_below: 0.15,
            moved_after: 3,
        }
    }
}
