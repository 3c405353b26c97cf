//! Thresholds of the view health checks (`[view]` in the configuration).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Thresholds for unusable views: dark, blurred, blocked, frozen or moved. While a view is unusable, nothing is confirmed or cleared there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "View")]
#[serde(deny_unknown_fields, default)]
pub struct ViewLimits {
    /// A frame with a lower mean luma (0..=255) is dark. Default 8. Too high, and lit streets at night count as dark.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub dark_below: f64,
    /// A frame with a lower variance of the Laplacian, measured at a width of 320 pixels, is blurred or blocked. Default 8. Too high, and dim or foggy streets count as blurred.
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub blurred_below: f64,
    /// A blurred frame whose standard deviation of luma is also below this is blocked. Default 12.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub blocked_below: f64,
    /// Number of consecutive looks with identical pixels after which the view is frozen. Default 6.
    #[schemars(range(min = 2, max = 1000))]
    pub frozen_after: u32,
    /// Largest displacement of any point of the view, as a fraction of the image width, before the camera counts as moved. Default 0.015. Too low, and a shaking pole counts as moved. A pan by twice this value is always detected.
    #[schemars(range(min = 0.005, max = 0.04))]
    pub moved_beyond: f64,
    /// Edge correlation with the learned view below which a frame shows another view. Default 0.15. Two frames of one view reach nearly 1, two different streets less than 0.1. Too high, and a bus in front of the lens or heavy snow counts as another view.
    #[schemars(range(min = 0.05, max = 0.9))]
    pub unlike_below: f64,
    /// Number of consecutive displaced looks after which the camera counts as moved; three times as many if they show nothing of the learned view. Default 3. Nothing is confirmed or cleared there until the view is back or `gridwatch view confirm` is run.
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
