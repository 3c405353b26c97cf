//! Messages about the box itself: status and health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::When;
use gridwatch_base::clock::ClockSync;

/// Status of the box, retained on the status topic; also its last will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusMessage {
    /// Version of the contract; 1.
    pub schema_version: u32,
    /// Id of the box.
    pub node_id: String,
    /// Whether the box is connected.
    pub state: Presence,
    /// Since when the box is in this state; absent in the last will, which is written in advance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
    /// Version of gridwatch on the box.
    pub version: String,
    /// Public key that verifies the box's signatures, as printed by `gridwatch keys show`: 32 bytes of Ed25519 in base64; a key of another
    /// algorithm after `ALGORITHM:`. Only as trustworthy as the broker's access control on this topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([A-Za-z0-9+/]{43}=|[a-z0-9-]{1,40}:[A-Za-z0-9+/]{40,400}={0,2})$"))]
    pub public_key: Option<String>,
    /// Installation of the box: 32 hex digits, a hash over the machine's identity and a random number in its state directory.
    /// Two values for one `node_id` are two boxes, such as a cloned disk; absent from older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub installation: Option<String>,
}

/// Whether a box is connected to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Connected （在线）.
    Online,
    /// Disconnected, announced by the box on shutdown or by the broker as its last will （离线）.
    Offline,
}

/// Health of the box and its cameras, published once a minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthMessage {
    /// Version of the contract; 1.
    pub schema_version: u32,
    /// Id of the box.
    pub node_id: String,
    /// When the message was created.
    pub at: When,
    /// State of the box's clock; absent if the box is not permitted to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockHealth>,
    /// End of the box's chain of custody, signed. A platform that keeps it sees whether the chain was rewritten, or the box set back to an earlier
    /// state: the line with that number no longer has that hash. Absent while the box has no chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<SignedChainHead>,
    /// Messages queued for the broker.
    pub outbox_depth: u64,
    /// Messages that the broker acknowledged and the platform has given no receipt for; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaiting_receipt: Option<u64>,
    /// Cases that are held back for cases of other boxes, the longest first, at most 100. A platform that has no such case of the other
    /// box knows that the other box's claim is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub held_back: Vec<HeldBackCase>,
    /// All cameras of the box.
    pub cameras: Vec<CameraHealth>,
}

/// A case of which nothing was sent, because another box claims its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldBackCase {
    /// Id of this box's case.
    pub case_id: String,
    /// The other box.
    pub other_node_id: String,
    /// Its case.
    pub other_case_id: String,
    /// Whether the other box says that it has filed its case.
    pub filed: bool,
    /// Since when the case is held back.
    pub since: When,
}

/// The end of a box's chain of custody, as in `head.json` and `head.sig` of an exported case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedChainHead {
    /// JSON text with `seq` (number of the last line, from 0), `hash` (its SHA-256), `at`, `node_id` and `public_key`; signed byte for byte.
    pub head: String,
    /// Signature of `head` by `public_key`, with the algorithm of that key, in base64: 64 bytes of Ed25519, DER of ECDSA.
    #[schemars(regex(pattern = r"^[A-Za-z0-9+/]{40,400}={0,2}$"))]
    pub signature: String,
}

/// Synchronisation of a box's clock, as reported by its kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockHealth {
    /// Whether the clock is synchronised to a time source. If not, cases carry no clock fields.
    pub synchronised: bool,
    /// Offset from the time source in milliseconds, not yet corrected; positive: the clock is ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<i64>,
    /// Maximum error in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ms: Option<u64>,
}

impl ClockHealth {
    /// From the kernel's answer; `None` if the clock is not synchronised.
    pub fn new(kept: Option<ClockSync>) -> Self {
        Self {
            synchronised: kept.is_some(),
            offset_ms: kept.map(|k| k.offset_ms),
            error_ms: kept.map(|k| k.error_ms),
        }
    }
}

/// Health of one camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraHealth {
    /// Camera id, unique on the box （点位编号）.
    pub local_id: String,
    /// State of the receiver: `live`, `degraded`, `connecting`, …
    pub state: String,
    /// State of the view at the last look: `clear`, `dark`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Number of looks since the daemon started.
    pub looks: u64,
    /// Seconds since the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_look_age_s: Option<f64>,
}
