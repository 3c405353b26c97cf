//! Whose claims are obeyed: signed ones of enrolled boxes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::limit::TokenBucket;
use gridwatch_contract::ClaimMessage;
use gridwatch_custody::{Algorithm, PublicKey, UnknownAlgorithm, unseal};
use gridwatch_engine::NodeId;

/// Maximum size of a claim in bytes; they take a few hundred.
pub(super) const MAX_BYTES: usize = 4096;

/// The boxes whose claims this box obeys, each with the keys that it may sign with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnrolledBoxes(BTreeMap<NodeId, Vec<PublicKey>>);

impl FromIterator<(NodeId, PublicKey)> for EnrolledBoxes {
    fn from_iter<T: IntoIterator<Item = (NodeId, PublicKey)>>(boxes: T) -> Self {
        let mut enrolled = Self::default();
        for (node, key) in boxes {
            enrolled.0.entry(node).or_default().push(key);
        }
        enrolled
    }
}

impl EnrolledBoxes {
    /// These boxes, and those of `others` that are not among them: a box that is listed here signs with the keys listed only.
    pub fn with(&self, others: impl IntoIterator<Item = (NodeId, PublicKey)>) -> Self {
        let mut all = self.clone();
        for (node, key) in others {
            if !self.contains(&node) {
                all.0.entry(node).or_default().push(key);
            }
        }
        all
    }

    /// The number of boxes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the box is enrolled, with any key.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.0.contains_key(node)
    }
}

/// A box that published a claim and is not enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownBox {
    /// Its node id, as it says.
    pub(crate) node: NodeId,
    /// The key that its claim is signed with.
    pub(crate) public_key: PublicKey,
}

/// Why a message on a site topic is not a claim to obey.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidClaim {
    #[error("not a site topic")]
    Topic,
    #[error("message of {0} bytes exceeds the maximum of {MAX_BYTES} bytes")]
    Oversized(usize),
    #[error("malformed claim: {0}")]
    Malformed(serde_json::Error),
    #[error("not signed: its box runs an older version of gridwatch, or it was not published by a box")]
    Unsigned,
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    #[error("the signature is wrong")]
    Signature,
    #[error("box {0:?} is not enrolled; see `gridwatch boxes list`")]
    NotEnrolled(String),
    #[error("signed with another key than box {0:?} has; if its key was replaced, see `gridwatch boxes list`")]
    OtherKey(String),
    #[error("invalid location or merge radius")]
    Location,
    #[error("its coordinates lie outside its cell, or the cell is not near this box")]
    Cell,
    #[error("cell, category, box or case does not match the topic")]
    TopicMismatch,
    #[error("older than the box's last message about that case, or expired")]
    Stale,
    #[error("valid for too long: the clock of box {0:?} is ahead by more than a day, or this box's is behind")]
    Clock(String),
    #[error("a message of this box that is not its last one about that case; somebody else sent it")]
    OwnOlder,
    #[error("box {0:?} has too many open claims")]
    TooMany(String),
    #[error("box {0:?} sends too many messages")]
    TooFast(String),
}

impl InvalidClaim {
    /// Value of the metric label `reason`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Topic | Self::Oversized(_) | Self::Malformed(_) | Self::Location | Self::TopicMismatch => "malformed",
            Self::Cell => "cell",
            Self::Unsigned | Self::Algorithm(_) | Self::Signature => "signature",
            Self::NotEnrolled(_) | Self::OtherKey(_) => "not_enrolled",
            Self::Stale | Self::OwnOlder => "stale",
            Self::Clock(_) => "clock",
            Self::TooMany(_) | Self::TooFast(_) => "quota",
        }
    }
}

/// Parses a claim.
///
/// # Errors
/// [`InvalidClaim::Oversized`] or [`InvalidClaim::Malformed`].
pub(super) fn parse(payload: &[u8]) -> Result<ClaimMessage, InvalidClaim> {
    if payload.len() > MAX_BYTES {
        return Err(InvalidClaim::Oversized(payload.len()));
    }
    serde_json::from_slice(payload).map_err(InvalidClaim::Malformed)
}

/// Verifies claims.
#[derive(Debug)]
pub(super) struct ClaimVerifier {
    pub(super) node: NodeId,
    pub(super) own_key: PublicKey,
    pub(super) enrolled: EnrolledBoxes,
    /// Boxes that are not enrolled, with keys whose signature was verified.
    seen: BTreeSet<(NodeId, String)>,
    /// Those of them that nobody was told of yet.
    first_seen: Vec<UnknownBox>,
    /// Limits the verification of what boxes send that are not enrolled: they may be anyone.
    unknown: TokenBucket,
}

/// Boxes that are not enrolled and are remembered; far more than share the cells around one box.
const MAX_SEEN: usize = 64;
/// Signatures of boxes that are not enrolled: so many are verified at once, and then one per interval.
const UNKNOWN_RATE: (u32, Duration) = (64, Duration::from_secs(1));

impl ClaimVerifier {
    pub(super) fn new(node: NodeId, own_key: PublicKey, enrolled: EnrolledBoxes, now: Instant) -> Self {
        Self {
            node,
            own_key,
            enrolled,
            seen: BTreeSet::new(),
            first_seen: Vec::new(),
            unknown: TokenBucket::new(UNKNOWN_RATE.0, UNKNOWN_RATE.1, now),
        }
    }

    /// The boxes that were seen for the first time since the last call and are not enrolled.
    pub(super) fn take_first_seen(&mut self) -> Vec<UnknownBox> {
        std::mem::take(&mut self.first_seen)
    }

    /// Verifies that an enrolled key of the box that `message` names, or this box's own, signed it. `payload` is the message as it was
    /// received.
    pub(super) fn verify(&mut self, message: &ClaimMessage, payload: &[u8], now: Instant) -> Result<(), InvalidClaim> {
        let algorithm: Algorithm = message.signature_algorithm.parse()?;
        let sealed = std::str::from_utf8(payload).ok().and_then(unseal);
        let (body, signature) = sealed.ok_or(InvalidClaim::Unsigned)?;
        let key: PublicKey = message.public_key.parse().map_err(|_| InvalidClaim::Signature)?;
        if key.algorithm() != algorithm {
            return Err(InvalidClaim::Signature);
        }
        let node = NodeId::from(message.node_id.as_str());
        let keys = self.enrolled.0.get(&node);
        let is_trusted = (node == self.node && key == self.own_key) || keys.is_some_and(|keys| keys.contains(&key));
        let untrusted = match keys.is_some() {
            // Of before this box's key was replaced, or somebody else's.
            _ if node == self.node => InvalidClaim::OwnOlder,
            true => InvalidClaim::OtherKey(node.to_string()),
            false => InvalidClaim::NotEnrolled(node.to_string()),
        };
        let id = (node, message.public_key.clone());
        if !is_trusted && (self.seen.contains(&id) || !self.unknown.take(now)) {
            return Err(untrusted);
        }
        if !key.verifies(body.as_bytes(), signature) {
            return Err(InvalidClaim::Signature);
        }
        if is_trusted {
            return Ok(());
        }
        if id.0 != self.node {
            self.first_seen.push(UnknownBox {
                node: id.0.clone(),
                public_key: key,
            });
        }
        if self.seen.len() == MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(id);
        Err(untrusted)
    }
}
