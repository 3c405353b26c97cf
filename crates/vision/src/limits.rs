//! The limits at which a view is no longer trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a view cannot be trusted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "View")]
#[serde(deny_unknown_fields, default)]
pub struct ViewLimits {
    /// A picture whose mean luma (0..=255) is lower is dark. Higher takes lit night streets for dark.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub dark_below: f64,
    /// A picture whose Laplacian variance at 320 pixels across is lower has no fine structure: it is blurred, or blocked. Higher takes dim and foggy streets for blurred.
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub blurred_below: f64,
    /// A picture without fine structure whose luma also deviates less than this is blocked rather than blurred.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub blocked_below: f64,
    /// This many looks with the very same samples in a row, and the view is frozen.
    #[schemars(range(min = 2, max = 1000))]
    pub frozen_after: u32,
    /// No point of the view may lie farther from its place than this share of the picture's width: else the camera was moved. Lower takes the shaking of a pole for it; a pan by twice as much is always noticed.
    #[schemars(range(min = 0.005, max = 0.04))]
    pub moved_beyond: f64,
    /// A picture whose edges agree with the view's less than this shows something else (a picture agrees with itself by nearly 1, two streets by less than 0.1). Higher takes a bus before the lens, and heavy snow, for another view.
    #[schemars(range(min = 0.05, max = 0.9))]
    pub unlike_below: f64,
    /// This many looks in a row that show the view elsewhere, and the camera is called moved: nothing is confirmed or cleared there until it is back, or until `gridwatch view confirm`. Three times as many where they show nothing of the view.
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
