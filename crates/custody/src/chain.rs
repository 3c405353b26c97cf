//! The chain of custody: one line of JSON for every event in the life of the evidence, each with the hash of the
//! previous line.
//!
//! The hash of a line is the SHA-256 of its bytes without the newline, so `sha256sum` can check it. Changing, removing
//! or moving a line breaks the link after it. Cutting off the end is detected by [`ChainHead`], a signed statement of
//! the chain's length, and by the case records, which are signed and carry the hash of the line before their own.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PublicKey, Signer, keys::KeyError};
use gridwatch_base::digest::sha256_hex;

/// Maximum length of a line in bytes: the deletion of some 15,000 files.
const MAX_LINE: usize = 1 << 20;
/// Maximum number of lines: twice those of ten years on a busy box.
const MAX_LINES: usize = 500_000;
/// A chain in which everything is wrong must not fill the memory with faults.
const MAX_FAULTS: usize = 100;

/// `prev` of the first line.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A line of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainEntry {
    /// Sequence number, from 0.
    pub seq: u64,
    /// Time of writing, by the box's clock.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub event: CustodyEvent,
    /// Hash of the previous line; [`START`] for the first.
    pub prev: String,
}

/// An event in the life of the evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CustodyEvent {
    /// The chain was started.
    Begun {
        /// The public key of the box.
        public_key: String,
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
        /// The user, as the operating system knows them.
        by: String,
        /// The reason given by the user.
        reason: String,
    },
}

impl CustodyEvent {
    /// The case that the event is about, if any.
    pub fn case_id(&self) -> Option<&str> {
        match self {
            Self::Case { case_id, .. } | Self::Deleted { case_id, .. } | Self::Opened { case_id, .. } => Some(case_id),
            Self::Begun { .. } | Self::Key { .. } => None,
        }
    }

    /// The hashes of the files that the event lists.
    fn listed_hashes(&self) -> &[String] {
        match self {
            Self::Deleted { sha256, .. } | Self::Opened { sha256, .. } => sha256,
            Self::Begun { .. } | Self::Case { .. } | Self::Key { .. } => &[],
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
        })
    }
}

/// The text that the old key signs; it binds the new key to its position in the chain.
fn rotation_message(public_key: &str, prev: &str) -> String {
    format!("gridwatch signs with {public_key} after {prev}")
}

fn is_sha256(text: &str) -> bool {
    text.len() == START.len() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl ChainEntry {
    /// The line, without newline, and its hash.
    pub fn line(&self) -> (String, String) {
        let line = serde_json::to_string(self).expect("a map of strings and numbers");
        let hash = sha256_hex(line.as_bytes());
        (line, hash)
    }

    /// False for a rotation that the previous key did not sign.
    fn has_valid_rotation(&self) -> bool {
        let CustodyEvent::Key {
            public_key,
            previous,
            signature,
        } = &self.event
        else {
            return true;
        };
        let signed = rotation_message(public_key, &self.prev);
        previous
            .parse::<PublicKey>()
            .is_ok_and(|key| key.verifies(signed.as_bytes(), signature))
    }
}

/// The end of the chain, signed by the box, to prove that no lines were cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Sequence number of the last line.
    pub seq: u64,
    /// Hash of the last line.
    pub hash: String,
    /// Time of the statement.
    pub at: Timestamp,
    /// The id of the box.
    pub node_id: String,
    /// The public key of the box at that time.
    pub public_key: String,
}

/// Consecutive lines of a chain, with valid links.
#[derive(Debug)]
pub struct Segment {
    /// The lines, in order.
    pub lines: Vec<ChainLine>,
}

/// A line of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainLine {
    /// The parsed line.
    pub entry: ChainEntry,
    /// Hash of the line.
    pub hash: String,
}

/// A fault of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFault {
    /// Line number, from 1.
    pub line: usize,
    /// The fault.
    pub reason: String,
}

impl Segment {
    /// Parses consecutive lines and checks every link and every rotation of the key.
    ///
    /// # Errors
    /// The faults in the order of the lines, at most 100.
    pub fn read(text: &str) -> Result<Self, Vec<ChainFault>> {
        Self::read_at_most(text, MAX_LINES)
    }

    fn read_at_most(text: &str, max_lines: usize) -> Result<Self, Vec<ChainFault>> {
        let mut lines: Vec<ChainLine> = Vec::new();
        let mut faults = Vec::new();
        for (i, line) in text.lines().enumerate() {
            if faults.len() == MAX_FAULTS {
                break;
            }
            let mut fault = |reason: String| faults.push(ChainFault { line: i + 1, reason });
            if i == max_lines {
                fault(format!("the chain has more than {max_lines} lines"));
                break;
            }
            if line.len() > MAX_LINE {
                fault(format!("longer than {MAX_LINE} bytes"));
                continue;
            }
            let entry: ChainEntry = match serde_json::from_str(line) {
                Ok(entry) => entry,
                Err(e) => {
                    fault(format!("not an entry of the chain: {e}"));
                    continue;
                }
            };
            // Empty ones would take ten times the memory of the file.
            if !entry.event.listed_hashes().iter().all(|hash| is_sha256(hash)) {
                fault("sha256 lists something else than SHA-256 hashes".into());
                continue;
            }
            if let Some(before) = lines.last() {
                match entry.seq.checked_sub(before.entry.seq) {
                    Some(1) if entry.prev == before.hash => {}
                    Some(1) => fault(format!("prev does not match line {i}: one of the two was changed")),
                    Some(0) => fault(format!("entry {} occurs twice", entry.seq)),
                    Some(missing) => fault(format!("{} entries are missing before it", missing - 1)),
                    None => fault(format!("entry {} comes after entry {}", entry.seq, before.entry.seq)),
                }
            } else if entry.seq == 0 && entry.prev != START {
                fault("the first entry has a prev".into());
            }
            if !entry.has_valid_rotation() {
                fault("the rotation is not signed by the previous key".into());
            }
            lines.push(ChainLine {
                entry,
                hash: sha256_hex(line.as_bytes()),
            });
        }
        if lines.is_empty() && faults.is_empty() {
            faults.push(ChainFault {
                line: 1,
                reason: "the chain is empty".into(),
            });
        }
        if faults.is_empty() {
            Ok(Self { lines })
        } else {
            Err(faults)
        }
    }

    /// Hashes of the files of the case that were deleted.
    pub fn deleted(&self, case: &str) -> BTreeSet<&str> {
        let mut deleted = BTreeSet::new();
        for line in &self.lines {
            if let CustodyEvent::Deleted { case_id, sha256, .. } = &line.entry.event
                && case_id == case
            {
                deleted.extend(sha256.iter().map(String::as_str));
            }
        }
        deleted
    }

    /// The signing keys used since the first line of the segment, newest first, given the last one. Each was rotated
    /// into the one before it in the list.
    pub fn keys(&self, last: &PublicKey) -> Vec<PublicKey> {
        let mut keys = vec![last.clone()];
        for line in self.lines.iter().rev() {
            if let CustodyEvent::Key {
                public_key, previous, ..
            } = &line.entry.event
                && keys.last().is_some_and(|k| k.to_string() == *public_key)
                && let Ok(previous) = previous.parse()
            {
                keys.push(previous);
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_lists_anything_but_hashes_is_refused_and_not_kept() {
        let entry = |sha256: Vec<String>| ChainEntry {
            seq: 0,
            at: Timestamp::UNIX_EPOCH,
            event: CustodyEvent::Deleted {
                case_id: "case-1".into(),
                what: "picture".into(),
                sha256,
                reason: "retention period expired".into(),
            },
            prev: START.into(),
        };
        let read = |sha256| Segment::read(&entry(sha256).line().0);
        assert_eq!(read(vec![sha256_hex(b"a picture")]).unwrap().lines.len(), 1);
        let faults = read(vec![String::new(); 100_000]).unwrap_err();
        assert_eq!(faults[0].reason, "sha256 lists something else than SHA-256 hashes");
    }

    #[test]
    fn a_chain_with_more_lines_than_any_box_writes_is_refused() {
        let (mut prev, mut text) = (START.to_owned(), String::new());
        for seq in 0..3 {
            let event = CustodyEvent::Begun {
                public_key: String::new(),
            };
            let at = Timestamp::UNIX_EPOCH;
            let (line, hash) = ChainEntry { seq, at, event, prev }.line();
            text = text + &line + "\n";
            prev = hash;
        }
        assert_eq!(Segment::read_at_most(&text, 3).unwrap().lines.len(), 3);
        let faults = Segment::read_at_most(&text, 2).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].reason, "the chain has more than 2 lines");
    }
}
