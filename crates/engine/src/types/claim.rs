//! What boxes that see the same sites tell each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AdvertText, CaseId, Location, NodeId, OpenCase, PhoneNumber};

/// A box's claim on a site: an open case, as far as other boxes need it to avoid filing a second one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The case.
    pub case: CaseId,
    /// The box.
    pub node: NodeId,
    /// Category code.
    pub category: String,
    /// Its location.
    pub located: Location,
    /// Merge radius of its rule, metres.
    pub merge_radius_m: f64,
    /// The phone number on it, if one was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<PhoneNumber>,
    /// The text on it, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<AdvertText>,
}

/// A case of this box yields to another box's case, or no longer has to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// When this box decided it.
    pub at: Timestamp,
    /// The change.
    pub what: Known,
}

/// A case that was never sent, because another box has the problem's case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldBackCase {
    /// This box's case.
    pub case: OpenCase,
    /// The other box's case.
    pub to: CaseId,
}

/// See [`Elsewhere`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The other box's case ended, or its box has been silent for too long: what yielded to it may be filed.
    Released(CaseId),
    /// Another box has the problem's case: this box's case was never sent and is held back until the other one ends.
    Yielded {
        /// This box's case.
        case: CaseId,
        /// The other box's case.
        to: CaseId,
    },
}
