//! Open cases of other boxes that see the same sites.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AdvertText, CaseId, Location, NodeId, PhoneNumber};

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

/// A change to another box's cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// When this box received it.
    pub at: Timestamp,
    /// The change.
    pub what: Known,
}

/// See [`Elsewhere`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Another box opened a case.
    Claimed(Claim),
    /// That case ended, or its box has been silent for too long.
    Released(CaseId),
    /// Two boxes confirmed the same problem at the same time and the other was first: this box's case was never sent
    /// and is dropped.
    Yielded {
        /// This box's case.
        case: CaseId,
        /// The other box's case.
        to: CaseId,
    },
}
