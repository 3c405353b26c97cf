//! The chain of custody: one line of JSON for every event in the life of the evidence and for every act of a person on the box, each
//! with the hash of the previous line.
//!
//! A line is a small header (format 2): its number, its time, the hash of the previous line, and the hash of its event. The event is kept
//! beside it, so that a header can be given away without what it is about. An event begins with random salt, because events are
//! guessable; what may not leave the box even with its event, such as a reason or a person, is in its [`Details`], of which the event has
//! only the hash. In lines of the first format the event is a part of the line.
//!
//! The hash of a line, an event or details is the SHA-256 of its bytes without the newline, so `sha256sum` can check it. Changing,
//! removing or moving a line breaks the link after it. Cutting off the end is detected by [`ChainHead`], a signed statement of the
//! chain's length, and by the case records, which are signed and carry the number and the hash of the line before their own.

mod details;
mod event;
mod links;
mod segment;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::KeyError;
use gridwatch_base::digest::sha256_hex;

use self::event::random_hex;
pub(crate) use self::event::unknown_algorithm;
pub use self::{
    details::{Details, MAX_FIELD},
    event::{ActResult, CustodyEvent, SaltedEvent, algorithm},
    links::{AuditedLine, ChainReader, LineRow},
    segment::{ChainFault, ChainLine, ChainPart, Segment},
};

/// `prev` of the first line.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Maximum length of a line or an event in bytes: the deletion of some 15,000 files.
const MAX_LINE: usize = 1 << 20;

/// Format of the lines that are written now.
const FORMAT: u32 = 2;

/// A line of the chain as it is written: the header of an event that is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHeader {
    /// Format of the line; 2.
    pub v: u32,
    /// Sequence number, from 0.
    pub seq: u64,
    /// Time of writing, by the box's clock.
    pub at: Timestamp,
    /// Hash of the previous line; [`START`] for the first.
    pub prev: String,
    /// Hash of the event's JSON.
    pub event: String,
    /// Shows that the line is about a case to those who have the case's key, which is in each of its events ([`case_tag`]); to others it is
    /// a random number. Absent if the line is about no case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case_tag: Option<String>,
}

/// A new line with its event, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// The line, without newline.
    pub line: String,
    /// Its hash.
    pub hash: String,
    /// The event's JSON.
    pub event: String,
}

impl NewLine {
    /// The line with the number `seq` after the line with the hash `prev`. `case_key` is that of earlier events of the same case, if there
    /// are any.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn new(
        seq: u64,
        at: Timestamp,
        prev: String,
        event: CustodyEvent,
        case_key: Option<String>,
    ) -> Result<Self, KeyError> {
        let case_key = match (event.case_id(), case_key) {
            (None, _) => None,
            (Some(_), Some(key)) => Some(key),
            (Some(_), None) => Some(random_hex()?),
        };
        let header = |event| ChainHeader {
            v: FORMAT,
            seq,
            at,
            prev,
            event,
            case_tag: case_key.as_deref().map(|key| case_tag(key, seq)),
        };
        let salted = SaltedEvent {
            salt: random_hex()?,
            case_key: case_key.clone(),
            event,
        };
        let event = to_json(&salted);
        let line = to_json(&header(sha256_hex(event.as_bytes())));
        Ok(Self {
            hash: sha256_hex(line.as_bytes()),
            line,
            event,
        })
    }
}

/// The `case_tag` of line `seq` about the case with this key. Without the key, two lines cannot be seen to be about one case.
pub fn case_tag(case_key: &str, seq: u64) -> String {
    sha256_hex(format!("{case_key} {seq}").as_bytes())
}

/// A line of the first format, which contains its event.
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

/// Stands in an export for a line of the first format that cannot leave the box, because its event cannot be separated from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldLine {
    /// Format of the line; 1.
    pub v: u32,
    /// Sequence number.
    pub seq: u64,
    /// Hash of the line.
    pub withheld: String,
}

impl WithheldLine {
    /// In place of the line `seq` with this hash.
    pub fn json(seq: u64, hash: &str) -> String {
        to_json(&Self {
            v: 1,
            seq,
            withheld: hash.to_owned(),
        })
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
    /// Algorithm of the key and of the signature; absent from older versions: Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// In an export: the lines about the exported case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<CaseLines>,
}

/// The lines about one case that an export contains with their events, so that none can be left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseLines {
    /// The case id.
    pub case_id: String,
    /// Number of the lines.
    pub lines: usize,
    /// SHA-256 of their hashes, in order, each followed by a newline.
    pub sha256: String,
    /// Lines of the first format about opened originals, which are withheld because the reason is a part of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withheld_openings: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl CaseLines {
    /// Of the lines with these hashes.
    pub fn of<'a>(case_id: &str, hashes: impl IntoIterator<Item = &'a str>, withheld_openings: usize) -> Self {
        let (mut lines, mut text) = (0, String::new());
        for hash in hashes {
            lines += 1;
            text += hash;
            text.push('\n');
        }
        Self {
            case_id: case_id.to_owned(),
            lines,
            sha256: sha256_hex(text.as_bytes()),
            withheld_openings,
        }
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and times under string keys serialize")
}
