//! Receipts: the platform's word that it has a case, beyond the broker's acknowledgement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::When;

/// Largest number of pictures that a receipt names as missing; a case has far fewer.
pub const MAX_MISSING: usize = 200;

/// A receipt of the platform: it has committed a revision of a case. Unknown fields are rejected, so that a misspelt one does not lose a
/// picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "gridwatch receipt, version 1")]
pub struct ReceiptMessage {
    /// Id of the case.
    pub case_id: String,
    /// The highest revision of the case that the platform has committed.
    #[schemars(range(min = 1))]
    pub revision: u32,
    /// SHA-256 of the pictures to which that revision refers and which the platform does not have. Empty: it has all.
    #[schemars(length(max = 200), inner(regex(pattern = r"^[0-9a-f]{64}$")))]
    pub missing: Vec<String>,
}

/// What a platform announces to all boxes, retained. A box remembers it until another announcement takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "gridwatch platform announcement, version 1")]
pub struct PlatformMessage {
    /// Version of the contract; 1.
    pub schema_version: u32,
    /// Whether the platform answers each revision of a case with a receipt. Boxes then send a revision until its receipt has come.
    pub receipts: bool,
    /// Who gives them, such as the name of the platform or of the program.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Since when the platform has been running. A later time tells the boxes that it was restarted: they send at once what it has not given
    /// a receipt for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
}
