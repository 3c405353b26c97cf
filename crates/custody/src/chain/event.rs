//! The events of the chain.

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::START;
use crate::{Algorithm, PublicKey, Signer, keys::KeyError};

/// An event with what makes its hash unguessable, as it is stored and exported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaltedEvent {
    /// 128 random bits, in hexadecimal.
    pub salt: String,
    /// The key of the event's case, 128 random bits in hexadecimal, the same in all its events; absent if the event is about no case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case_key: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub event: CustodyEvent,
}

/// An event in the life of the evidence, or an act of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CustodyEvent {
    /// The chain was started.
    Begun {
        /// The public key of the box.
        public_key: String,
        /// Its algorithm; absent from older versions: `ed25519`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        algorithm: Option<String>,
    },
    /// A case was filed or revised.
    Case {
        /// The case id.
        case_id: String,
        /// Revision of the record.
        revision: u32,
        /// SHA-256 of the signed bytes of the record.
        sha256: String,
    },
    /// The signing key was rotated.
    Key {
        /// The new public key.
        public_key: String,
        /// Its algorithm; absent from older versions: `ed25519`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        algorithm: Option<String>,
        /// The previous public key.
        previous: String,
        /// Signature by the previous key (see `rotation_message`).
        signature: String,
    },
    /// Files of a case were deleted.
    Deleted {
        /// The case id.
        case_id: String,
        /// Kind of the files: `original` or `picture`.
        what: String,
        /// Hashes of the files.
        sha256: Vec<String>,
        /// The reason.
        reason: String,
    },
    /// Originals were decrypted.
    Opened {
        /// The case id.
        case_id: String,
        /// Hashes of the originals.
        sha256: Vec<String>,
        /// Hash of the [`Details`](super::Details): the person and the reason. Absent from lines of the first format.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<String>,
        /// The user, in lines of the first format.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// The reason given by the user, in lines of the first format.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A person changed something on the box, or took something from it.
    Act {
        /// The command, such as `keys rotate`, or `configuration`.
        act: String,
        /// The case that the act is about, if it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        case_id: Option<String>,
        /// How it ended.
        result: ActResult,
        /// Hash of the [`Details`](super::Details): the person and what exactly was done.
        details: String,
    },
}

/// How an act of a person ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActResult {
    /// It was done.
    Done,
    /// It was refused: the request was wrong, or a check failed.
    Refused,
    /// It failed, or was done in part.
    Failed,
}

impl ActResult {
    /// The serialized name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl CustodyEvent {
    /// The chain is started with this key.
    pub fn begun(key: &PublicKey) -> Self {
        Self::Begun {
            public_key: key.to_string(),
            algorithm: algorithm(key),
        }
    }

    /// The case that the event is about, if any.
    pub fn case_id(&self) -> Option<&str> {
        match self {
            Self::Case { case_id, .. } | Self::Deleted { case_id, .. } | Self::Opened { case_id, .. } => Some(case_id),
            Self::Act { case_id, .. } => case_id.as_deref(),
            Self::Begun { .. } | Self::Key { .. } => None,
        }
    }

    /// Whether every export contains the event: it is needed to verify the signatures, and is about no case and no person.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Begun { .. } | Self::Key { .. })
    }

    /// The hash of the event's details, if it has some.
    pub(super) fn details(&self) -> Option<&str> {
        match self {
            Self::Opened { details, .. } => details.as_deref(),
            Self::Act { details, .. } => Some(details),
            _ => None,
        }
    }

    /// The hashes of the files that the event lists.
    fn listed_hashes(&self) -> &[String] {
        match self {
            Self::Deleted { sha256, .. } | Self::Opened { sha256, .. } => sha256,
            Self::Begun { .. } | Self::Case { .. } | Self::Key { .. } | Self::Act { .. } => &[],
        }
    }

    /// A rotation from `old` to `new`, appended after the line with the hash `prev`.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub fn rotation(old: &dyn Signer, new: &PublicKey, prev: &str) -> Result<Self, KeyError> {
        let public_key = new.to_string();
        Ok(Self::Key {
            signature: old.sign(rotation_message(&public_key, prev).as_bytes())?,
            previous: old.public().to_string(),
            public_key,
            algorithm: algorithm(new),
        })
    }

    /// What is wrong with the event in a line after the one with the hash `prev`, if something is.
    pub(super) fn fault(&self, prev: &str) -> Option<String> {
        // Empty ones would take ten times the memory of the file.
        if !self.listed_hashes().iter().all(|hash| is_sha256(hash)) {
            return Some("sha256 lists something else than SHA-256 hashes".into());
        }
        match self {
            Self::Begun { algorithm, .. } => unknown_algorithm(algorithm.as_deref()),
            Self::Key {
                public_key,
                algorithm,
                previous,
                signature,
            } => unknown_algorithm(algorithm.as_deref()).or_else(|| {
                let signed = rotation_message(public_key, prev);
                let is_signed = previous
                    .parse::<PublicKey>()
                    .is_ok_and(|key| key.verifies(signed.as_bytes(), signature));
                (!is_signed).then(|| "the rotation is not signed by the previous key".into())
            }),
            _ => None,
        }
    }
}

/// The algorithm of a key, as it is written beside it.
pub fn algorithm(key: &PublicKey) -> Option<String> {
    Some(key.algorithm().to_string())
}

/// Why a signature of this algorithm cannot be verified; `None` if it can.
pub(crate) fn unknown_algorithm(algorithm: Option<&str>) -> Option<String> {
    let unknown = algorithm?.parse::<Algorithm>().err()?;
    Some(unknown.to_string())
}

/// The text that the old key signs; it binds the new key to its position in the chain.
fn rotation_message(public_key: &str, prev: &str) -> String {
    format!("gridwatch signs with {public_key} after {prev}")
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == START.len() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// 128 random bits in hexadecimal.
pub(super) fn random_hex() -> Result<String, KeyError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
