//! Cases of other boxes that see the same sites.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CaseId, Location, NodeId, PhoneNumber};

/// A case that a box has open, as far as others need it in order to file no second one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Which case.
    pub case: CaseId,
    /// Which box.
    pub node: NodeId,
    /// Category code.
    pub category: String,
    /// Where.
    pub located: Location,
    /// What its rule takes for one site at least, metres.
    pub merge_radius_m: f64,
    /// The telephone number that is written there, where one was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<PhoneNumber>,
}

/// What became known of another box's cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// When this box heard it.
    pub at: Timestamp,
    /// What.
    pub what: Known,
}

/// See [`Elsewhere`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Another box has a case open.
    Claimed(Claim),
    /// That case is over, or its box has said nothing of it for too long.
    Released(CaseId),
    /// Two boxes confirmed one problem at a time, and the other was first: this box's own case was never sent, and is none.
    Yielded {
        /// This box's.
        case: CaseId,
        /// The other's.
        to: CaseId,
    },
}
