//! What a box says of itself: whether it is there, and how its cameras and its clock are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::When;
use gridwatch_base::clock::ClockSync;

/// Whether the box is there, retained on the status topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusMessage {
    /// 1.
    pub schema_version: u32,
    /// The box.
    pub node_id: String,
    /// Whether it is there.
    pub state: Presence,
    /// Since when; absent in the last will, which the broker sends without knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
    /// The program's version.
    pub version: String,
    /// What the box's signatures are checked with: an ed25519 key of 32 bytes in base64, as `gridwatch keys show` prints it. Believe it as
    /// far as you believe who may publish here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9+/]{43}=$"))]
    pub public_key: Option<String>,
}

/// Whether the box is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Connected.
    Online,
    /// Gone: by its own word, or by the broker's.
    Offline,
}

/// How the cameras are, on the health topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthMessage {
    /// 1.
    pub schema_version: u32,
    /// The box.
    pub node_id: String,
    /// When.
    pub at: When,
    /// How well the box's clock is kept; absent where the box may not ask its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockHealth>,
    /// Messages that wait for the broker.
    pub outbox_depth: u64,
    /// Each camera.
    pub cameras: Vec<CameraHealth>,
}

/// How well the box's clock is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockHealth {
    /// Whether a reference keeps it. Where not, cases say nothing of their clock.
    pub synchronised: bool,
    /// How far it is ahead of its reference, as far as known and not yet corrected; negative: behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<i64>,
    /// How far it may be off at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ms: Option<u64>,
}

impl ClockHealth {
    /// As the kernel says.
    pub fn new(kept: Option<ClockSync>) -> Self {
        Self {
            synchronised: kept.is_some(),
            offset_ms: kept.map(|k| k.offset_ms),
            error_ms: kept.map(|k| k.error_ms),
        }
    }
}

/// How one camera is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraHealth {
    /// Which.
    pub local_id: String,
    /// Its receiver: `live`, `degraded`, `connecting`, …
    pub state: String,
    /// How the newest look found the view: `clear`, `dark`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Looks since the daemon started.
    pub looks: u64,
    /// Seconds since the newest look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_look_age_s: Option<f64>,
}
