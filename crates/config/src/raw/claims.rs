//! The `[claims]` section.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ID_PATTERN, Span};

/// Claims of other boxes: they keep several boxes that see one street from filing the same problem. See `broker.share_sites`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// How long a case is held back for another box's case of the same problem that is not filed, 10m to 168h. Default `24h`; then it is filed. Shorter, and a problem is filed twice after an outage of the other box's uplink.
    pub wait: Span,
    /// Boxes whose claims are obeyed. Others are listed by `gridwatch boxes list` and ignored until they are confirmed there.
    pub boxes: Vec<EnrolledBox>,
}

/// A box whose claims are obeyed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolledBox {
    /// Its `node.id`.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub node: String,
    /// Its Ed25519 public key in base64, as printed by `gridwatch keys show` on that box. List a box twice while its key changes.
    pub public_key: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            wait: Span(Duration::from_hours(24)),
            boxes: Vec::new(),
        }
    }
}
