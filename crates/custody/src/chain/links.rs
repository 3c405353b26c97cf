//! Parses lines of both formats and follows their links: those of an export, and those of the box's own database.

use jiff::Timestamp;
use serde::Deserialize;

use super::{ChainEntry, ChainHeader, CustodyEvent, Details, FORMAT, MAX_LINE, START, SaltedEvent, WithheldLine};
use super::{case_tag, event::is_sha256};
use gridwatch_base::digest::sha256_hex;

/// A line of the chain, as parsed.
pub(super) struct ParsedLine {
    pub(super) seq: u64,
    /// Absent if the line is withheld.
    pub(super) at: Option<Timestamp>,
    /// Absent if the line is withheld.
    pub(super) prev: Option<String>,
    pub(super) hash: String,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// First format: the event itself.
    Event(CustodyEvent),
    Header {
        /// Hash of the event.
        event: String,
        case_tag: Option<String>,
    },
    Withheld,
}

#[derive(Deserialize)]
struct Format {
    #[serde(default)]
    v: Option<u32>,
}

/// Parses a line of any format.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(line: &str) -> Result<ParsedLine, String> {
    let invalid = |e: serde_json::Error| format!("not an entry of the chain: {e}");
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    let Format { v } = serde_json::from_str(line).map_err(invalid)?;
    match v {
        None => {
            let ChainEntry { seq, at, event, prev } = serde_json::from_str(line).map_err(invalid)?;
            if let Some(fault) = event.fault(&prev) {
                return Err(fault);
            }
            Ok(ParsedLine {
                seq,
                at: Some(at),
                prev: Some(prev),
                hash: sha256_hex(line.as_bytes()),
                content: Content::Event(event),
            })
        }
        Some(1) => {
            let WithheldLine { seq, withheld, .. } = serde_json::from_str(line).map_err(invalid)?;
            if !is_sha256(&withheld) {
                return Err("withheld is not a SHA-256 hash".into());
            }
            Ok(ParsedLine {
                seq,
                at: None,
                prev: None,
                hash: withheld,
                content: Content::Withheld,
            })
        }
        Some(FORMAT) => {
            let header: ChainHeader = serde_json::from_str(line).map_err(invalid)?;
            Ok(ParsedLine {
                seq: header.seq,
                at: Some(header.at),
                prev: Some(header.prev),
                hash: sha256_hex(line.as_bytes()),
                content: Content::Header {
                    event: header.event,
                    case_tag: header.case_tag,
                },
            })
        }
        Some(other) => Err(format!(
            "format {other} of the chain is unknown to this version; use a newer gridwatch"
        )),
    }
}

/// Parses the event of a line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_event(text: &str) -> Result<SaltedEvent, String> {
    if text.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    serde_json::from_str(text).map_err(|e| format!("not an event of the chain: {e}"))
}

/// What is wrong with `event` as that of the line `seq` after the one with the hash `prev`.
pub(super) fn event_fault(event: &SaltedEvent, seq: u64, prev: &str, tag: Option<&str>) -> Option<String> {
    let expected = event.case_key.as_deref().map(|key| case_tag(key, seq));
    if expected.as_deref() != tag || event.case_key.is_some() != event.event.case_id().is_some() {
        return Some("case_tag does not fit the case of the event".into());
    }
    event.event.fault(prev)
}

/// Follows the links of consecutive lines.
#[derive(Default)]
pub(super) struct Links {
    /// Number and hash of the last line.
    last: Option<(u64, String)>,
    /// A line of the current format was read.
    has_header: bool,
}

impl Links {
    /// What is wrong between the last line and this one, if something is.
    pub(super) fn follow(&mut self, line: &ParsedLine) -> Option<String> {
        let seq = line.seq;
        // Otherwise root, who has the key, could hide any line behind its hash.
        match line.content {
            Content::Header { .. } => self.has_header = true,
            Content::Event(_) | Content::Withheld if self.has_header => {
                return Some("a line of an older format after one of the current format: a box writes none".into());
            }
            Content::Event(_) | Content::Withheld => {}
        }
        let last = self.last.replace((seq, line.hash.clone()));
        let Some((before, hash)) = last else {
            let is_wrong = seq == 0 && line.prev.as_ref().is_some_and(|prev| prev != START);
            return is_wrong.then(|| "the first entry has a prev".into());
        };
        match seq.checked_sub(before) {
            // The link to the line before a withheld one cannot be followed.
            Some(1) if line.prev.as_ref().is_none_or(|prev| *prev == hash) => None,
            Some(1) => Some(format!(
                "prev does not match entry {before}: one of the two was changed"
            )),
            Some(0) => Some(format!("entry {seq} occurs twice")),
            Some(missing) => Some(format!("{} entries are missing before it", missing - 1)),
            None => Some(format!("entry {seq} comes after entry {before}")),
        }
    }
}

/// A line as the box's database has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineRow {
    /// Number of the row.
    pub seq: u64,
    /// The line.
    pub line: String,
    /// Its hash.
    pub hash: String,
    /// The event's JSON; `None` for lines of the first format.
    pub event: Option<String>,
    /// The details' JSON, if the event has some.
    pub details: Option<String>,
}

/// A line of the box's own chain, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditedLine {
    /// Number of the line.
    pub seq: u64,
    /// Time of writing; absent if the line cannot be read.
    pub at: Option<Timestamp>,
    /// Hash of the line.
    pub hash: String,
    /// The event, if it can be read.
    pub event: Option<CustodyEvent>,
    /// Its details, if it has some that can be read.
    pub details: Option<Details>,
    /// What is wrong with the line and its link to the line before.
    pub faults: Vec<String>,
}

/// Reads the box's own chain from its first line to the last, and checks every link, event and detail.
#[derive(Default)]
pub struct ChainReader {
    links: Links,
    has_begun: bool,
}

impl ChainReader {
    /// Reads the next line.
    pub fn next(&mut self, row: &LineRow) -> AuditedLine {
        let mut read = AuditedLine {
            seq: row.seq,
            at: None,
            hash: row.hash.clone(),
            event: None,
            details: None,
            faults: Vec::new(),
        };
        if !std::mem::replace(&mut self.has_begun, true) && row.seq != 0 {
            read.faults.push(format!("{} entries are missing before it", row.seq));
        }
        let parsed = match parse(&row.line) {
            Ok(parsed) => parsed,
            Err(fault) => {
                read.faults.push(fault);
                self.links.last = Some((row.seq, sha256_hex(row.line.as_bytes())));
                return read;
            }
        };
        read.faults.extend(self.links.follow(&parsed));
        if (parsed.seq, &parsed.hash) != (row.seq, &row.hash) {
            read.faults.push("the line is not the one that was stored".into());
        }
        read.at = parsed.at;
        match parsed.content {
            Content::Event(event) => read.event = Some(event),
            Content::Header { event: hash, case_tag } => {
                let prev = parsed.prev.unwrap_or_default();
                match event_of(row, &hash) {
                    Ok(event) => {
                        read.faults
                            .extend(event_fault(&event, row.seq, &prev, case_tag.as_deref()));
                        read.event = Some(event.event);
                    }
                    Err(fault) => read.faults.push(fault),
                }
            }
            Content::Withheld => read.faults.push("the line itself is missing".into()),
        }
        let hash = read.event.as_ref().and_then(CustodyEvent::details).map(str::to_owned);
        match (hash, &row.details) {
            (Some(hash), Some(details)) if sha256_hex(details.as_bytes()) == hash => {
                read.details = serde_json::from_str(details).ok();
            }
            (Some(_), Some(_)) => read
                .faults
                .push("the person, what was done or the reason was changed".into()),
            (Some(_), None) => read
                .faults
                .push("the person, what was done and the reason are missing".into()),
            (None, _) => {}
        }
        read
    }
}

fn event_of(row: &LineRow, hash: &str) -> Result<SaltedEvent, String> {
    let text = row.event.as_deref().ok_or("the event is missing")?;
    if sha256_hex(text.as_bytes()) != hash {
        return Err("the event was changed".into());
    }
    parse_event(text)
}
