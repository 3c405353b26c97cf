//! The box's chain: one line of JSON for everything that was done with evidence, each naming the hash of the line before.
//!
//! The hash of a line is the SHA-256 of its bytes without the line's end, so `sha256sum` checks it. Whoever changes, removes or
//! moves a line breaks the link behind it; whoever cuts the end off is caught by a signed word on how long the chain was
//! ([`ChainHead`]), and by every case record, which is signed and names the line before its own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PublicKey, SigningKey};
use gridwatch_base::digest::sha256_hex;

/// What stands for the line before the first.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainEntry {
    /// Its number; the first is 0.
    pub seq: u64,
    /// When it was written, by the box's clock.
    pub at: Timestamp,
    /// What was done.
    #[serde(flatten)]
    pub what: CustodyEvent,
    /// The hash of the line before, [`START`] for the first.
    pub prev: String,
}

/// What was done with evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CustodyEvent {
    /// The chain begins.
    Begun {
        /// What the box signs with from here on.
        public_key: String,
    },
    /// A case has a new revision, or was filed.
    Case {
        /// Which.
        case_id: String,
        /// Its number.
        revision: u32,
        /// Of the signed bytes of the record.
        sha256: String,
    },
    /// The box signs with another key from here on.
    Key {
        /// The new one.
        public_key: String,
        /// The one until here.
        previous: String,
        /// Its signature over the new one's text (`handing_over`).
        signature: String,
    },
    /// Files of a case were deleted.
    Deleted {
        /// Whose.
        case_id: String,
        /// What they were: `original`, `picture`.
        what: String,
        /// Which.
        sha256: Vec<String>,
        /// Why.
        reason: String,
    },
    /// Originals were decrypted, to be looked at.
    Opened {
        /// Whose.
        case_id: String,
        /// Which.
        sha256: Vec<String>,
        /// Who, as the system knows them.
        by: String,
        /// Why, in their words.
        reason: String,
    },
}

impl CustodyEvent {
    /// The case that it is about, where it is about one.
    pub fn case_id(&self) -> Option<&str> {
        match self {
            Self::Case { case_id, .. } | Self::Deleted { case_id, .. } | Self::Opened { case_id, .. } => Some(case_id),
            Self::Begun { .. } | Self::Key { .. } => None,
        }
    }

    /// The box hands over from `old` to `new`, behind the line with the hash `prev`.
    pub fn key(old: &SigningKey, new: &PublicKey, prev: &str) -> Self {
        let public_key = new.to_string();
        Self::Key {
            signature: old.sign(handing_over(&public_key, prev).as_bytes()).trim().into(),
            previous: old.public().to_string(),
            public_key,
        }
    }
}

/// What the old key signs: it binds the new key to its place in the chain.
fn handing_over(public_key: &str, prev: &str) -> String {
    format!("gridwatch signs with {public_key} after {prev}")
}

impl ChainEntry {
    /// The line, without its end, and its hash.
    pub fn line(&self) -> (String, String) {
        let line = serde_json::to_string(self).expect("text and numbers under string keys");
        let hash = sha256_hex(line.as_bytes());
        (line, hash)
    }
}

/// A word on how long the chain was, signed by the box: that nothing was cut off its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Number of the last line.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
    /// When this was said.
    pub at: Timestamp,
    /// The box.
    pub node_id: String,
    /// What it signs with then.
    pub public_key: String,
}

/// A part of a chain whose links hold.
#[derive(Debug)]
pub struct Segment {
    /// Each line and its hash.
    pub entries: Vec<(ChainEntry, String)>,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Segment {
    /// Reads lines that follow each other, and checks every link between them and every change of key.
    ///
    /// # Errors
    /// All that is wrong, by line.
    pub fn read(text: &str) -> Result<Self, Vec<ChainFault>> {
        let mut entries: Vec<(ChainEntry, String)> = Vec::new();
        let mut broken = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let mut tell = |what: String| broken.push(ChainFault { line: i + 1, what });
            let entry: ChainEntry = match serde_json::from_str(line) {
                Ok(entry) => entry,
                Err(e) => {
                    tell(format!("it is no entry of a chain: {e}"));
                    continue;
                }
            };
            if let Some((before, hash)) = entries.last() {
                match entry.seq.checked_sub(before.seq) {
                    Some(1) if entry.prev == *hash => {}
                    Some(1) => tell(format!("it does not follow line {i}: one of the two was changed")),
                    Some(0) => tell(format!("entry {} is there twice", entry.seq)),
                    Some(missing) => tell(format!("{} entries before it are missing", missing - 1)),
                    None => tell(format!("entry {} stands behind entry {}", entry.seq, before.seq)),
                }
            } else if entry.seq == 0 && entry.prev != START {
                tell("it is the first, and names one before".into());
            }
            if let CustodyEvent::Key {
                public_key,
                previous,
                signature,
            } = &entry.what
            {
                let signed = handing_over(public_key, &entry.prev);
                let is_signed = previous
                    .parse::<PublicKey>()
                    .is_ok_and(|key| key.verifies(signed.as_bytes(), signature));
                if !is_signed {
                    tell("the key before did not hand over to this one".into());
                }
            }
            entries.push((entry, sha256_hex(line.as_bytes())));
        }
        if entries.is_empty() && broken.is_empty() {
            broken.push(ChainFault {
                line: 1,
                what: "there is nothing in it".into(),
            });
        }
        if broken.is_empty() {
            Ok(Self { entries })
        } else {
            Err(broken)
        }
    }

    /// True where the box says that it deleted that file of the case.
    pub fn has_deleted(&self, case: &str, file: &str) -> bool {
        self.entries.iter().any(|(entry, _)| match &entry.what {
            CustodyEvent::Deleted { case_id, sha256, .. } => case_id == case && sha256.iter().any(|s| s == file),
            _ => false,
        })
    }

    /// The keys that the box signed with from the segment's first line on, given the last of them. Each was handed over to by
    /// the one before.
    pub fn keys(&self, last: &PublicKey) -> Vec<PublicKey> {
        let mut keys = vec![last.clone()];
        for (entry, _) in self.entries.iter().rev() {
            if let CustodyEvent::Key {
                public_key, previous, ..
            } = &entry.what
                && keys.last().is_some_and(|k| k.to_string() == *public_key)
                && let Ok(previous) = previous.parse()
            {
                keys.push(previous);
            }
        }
        keys
    }
}
