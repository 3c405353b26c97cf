//! The `[change]` section and `[cameras.change]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// The change map: finds what is new and still in the view of a fixed camera or preset. Each camera may differ, in `[cameras.change]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Whether views are compared with their learned background. Default true; costs about 2 ms a look and 0.8 to 1.7 MB per view.
    pub enabled: bool,
    /// Width in pixels at which views are compared. Default 480, which finds things from about 1/50 of the picture's height. Twice the width finds things of half the size and costs four times the time and memory.
    #[schemars(range(min = 240, max = 1440))]
    pub width: u32,
    /// Time after which what stays belongs to the background, 1h to 2160h (90 days). Default `24h`. Too short, and goods that stand out all day are no longer new by evening.
    pub absorb_after: Span,
}

impl Default for Change {
    fn default() -> Self {
        let gridwatch_vision::change::ChangeSettings { width, absorb_after } = Default::default();
        Self {
            enabled: true,
            width,
            absorb_after: Span(absorb_after),
        }
    }
}

/// What differs from `[change]` on one camera.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CameraChange {
    /// See `[change]`.
    pub enabled: Option<bool>,
    /// See `[change]`.
    #[schemars(range(min = 240, max = 1440))]
    pub width: Option<u32>,
    /// See `[change]`.
    pub absorb_after: Option<Span>,
}
