//! Consecutive lines of a chain as an export has them, with the events that it gives away.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    CustodyEvent, SaltedEvent, case_tag,
    links::{Content, Links, event_fault, parse, parse_event},
};
use crate::PublicKey;
use gridwatch_base::digest::sha256_hex;

/// Maximum number of lines: twice those of ten years on a busy box.
const MAX_LINES: usize = 500_000;
/// A chain in which everything is wrong must not fill the memory with faults.
const MAX_FAULTS: usize = 100;

/// Consecutive lines of a chain, with valid links.
#[derive(Debug)]
pub struct Segment {
    /// The lines, in order.
    pub lines: Vec<ChainLine>,
}

/// A line of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainLine {
    /// Sequence number.
    pub seq: u64,
    /// Time of writing; `None` if the line is withheld.
    pub at: Option<Timestamp>,
    /// Hash of the previous line; `None` if the line is withheld, so that its link to that line cannot be checked.
    pub prev: Option<String>,
    /// Hash of the line.
    pub hash: String,
    /// The event, if it is given away.
    pub event: Option<CustodyEvent>,
    /// Whether it is a header, whose event is beside it.
    pub is_header: bool,
    /// The key of the event's case.
    case_key: Option<String>,
    case_tag: Option<String>,
}

impl ChainLine {
    /// Whether the line is of the first format and only its hash is given away.
    pub fn is_withheld(&self) -> bool {
        self.prev.is_none()
    }
}

/// A part of an export with lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainPart {
    /// The lines of the chain.
    Lines,
    /// The events that are given away.
    Events,
}

/// A fault of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFault {
    /// Where it is.
    pub part: ChainPart,
    /// Line number, from 1.
    pub line: usize,
    /// The fault.
    pub reason: String,
}

impl Segment {
    /// Parses consecutive lines and the events that belong to some of them, and checks every link, every event and every rotation of
    /// the key.
    ///
    /// # Errors
    /// The faults in the order of the lines, at most 100.
    pub fn read(lines: &str, events: &str) -> Result<Self, Vec<ChainFault>> {
        Self::read_at_most(lines, events, MAX_LINES)
    }

    fn read_at_most(text: &str, events: &str, max_lines: usize) -> Result<Self, Vec<ChainFault>> {
        let mut faults = Faults(Vec::new());
        let mut events = read_events(events, max_lines, &mut faults);
        let mut lines: Vec<ChainLine> = Vec::new();
        let mut links = Links::default();
        let mut case_keys: BTreeMap<String, String> = BTreeMap::new();
        for (i, line) in text.lines().enumerate() {
            if faults.0.len() == MAX_FAULTS {
                break;
            }
            let mut fault = |reason: String| faults.add(ChainPart::Lines, i, reason);
            if i == max_lines {
                fault(format!("the chain has more than {max_lines} lines"));
                break;
            }
            let parsed = match parse(line) {
                Ok(parsed) => parsed,
                Err(reason) => {
                    fault(reason);
                    continue;
                }
            };
            if let Some(reason) = links.follow(&parsed) {
                fault(reason);
            }
            let mut line = ChainLine {
                seq: parsed.seq,
                at: parsed.at,
                prev: parsed.prev,
                hash: parsed.hash,
                event: None,
                is_header: false,
                case_key: None,
                case_tag: None,
            };
            match parsed.content {
                Content::Event(event) => line.event = Some(event),
                Content::Header { event, case_tag } => {
                    line.is_header = true;
                    line.case_tag = case_tag;
                    if let Some((at, SaltedEvent { case_key, event, .. })) = events.remove(&event) {
                        line.case_key.clone_from(&case_key);
                        line.event = Some(event.clone());
                        let salted = SaltedEvent {
                            salt: String::new(),
                            case_key,
                            event,
                        };
                        let prev = line.prev.as_deref().unwrap_or_default();
                        if let Some(reason) = event_fault(&salted, line.seq, prev, line.case_tag.as_deref()) {
                            faults.add(ChainPart::Events, at, reason);
                        }
                        // One key a case, so that its lines are found in one pass.
                        if let (Some(id), Some(key)) = (salted.event.case_id(), salted.case_key)
                            && *case_keys.entry(id.to_owned()).or_insert_with(|| key.clone()) != key
                        {
                            faults.add(
                                ChainPart::Events,
                                at,
                                "case_key differs from that of the case's other events".into(),
                            );
                        }
                    }
                }
                Content::Withheld => {}
            }
            lines.push(line);
        }
        for (at, _) in events.into_values() {
            faults.add(ChainPart::Events, at, "belongs to no line of the chain".into());
        }
        if lines.is_empty() && faults.0.iter().all(|fault| fault.part == ChainPart::Events) {
            faults.add(ChainPart::Lines, 0, "the chain is empty".into());
        }
        match faults.0.is_empty() {
            true => Ok(Self { lines }),
            false => Err(faults.0),
        }
    }

    /// The lines about a case whose events are given away, in order.
    pub fn of_case<'a>(&'a self, case: &'a str) -> impl DoubleEndedIterator<Item = (&'a ChainLine, &'a CustodyEvent)> {
        self.lines.iter().filter_map(move |line| {
            let event = line.event.as_ref()?;
            (event.case_id() == Some(case)).then_some((line, event))
        })
    }

    /// The lines about a case whose events are not given away, although the box gives away all of them: somebody took them out. Lines of
    /// the first format do not show it.
    pub fn hidden_of_case(&self, case: &str) -> Vec<u64> {
        let key = self.of_case(case).find_map(|(line, _)| line.case_key.as_deref());
        let Some(key) = key else { return Vec::new() };
        let is_hidden = |line: &&ChainLine| {
            let tag = line.case_tag.as_deref();
            line.event.is_none() && tag.is_some_and(|tag| tag == case_tag(key, line.seq))
        };
        self.lines.iter().filter(is_hidden).map(|line| line.seq).collect()
    }

    /// Hashes of the files of the case that were deleted.
    pub fn deleted<'a>(&'a self, case: &'a str) -> BTreeSet<&'a str> {
        let mut deleted = BTreeSet::new();
        for (_, event) in self.of_case(case) {
            if let CustodyEvent::Deleted { sha256, .. } = event {
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
            if let Some(CustodyEvent::Key {
                public_key, previous, ..
            }) = &line.event
                && keys.last().is_some_and(|k| k.to_string() == *public_key)
                && let Ok(previous) = previous.parse()
            {
                keys.push(previous);
            }
        }
        keys
    }
}

struct Faults(Vec<ChainFault>);

impl Faults {
    /// Adds a fault of the line with the index `at`.
    fn add(&mut self, part: ChainPart, at: usize, reason: String) {
        if self.0.len() < MAX_FAULTS {
            let line = at + 1;
            self.0.push(ChainFault { part, line, reason });
        }
    }
}

/// The events by their hash, each with its index in the file.
fn read_events(text: &str, max_lines: usize, faults: &mut Faults) -> BTreeMap<String, (usize, SaltedEvent)> {
    let mut events = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        if i == max_lines {
            faults.add(ChainPart::Events, i, format!("more than {max_lines} events"));
            break;
        }
        match parse_event(line) {
            Ok(event) => {
                if events.insert(sha256_hex(line.as_bytes()), (i, event)).is_some() {
                    faults.add(ChainPart::Events, i, "occurs twice".into());
                }
            }
            Err(reason) => faults.add(ChainPart::Events, i, reason),
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{ChainEntry, NewLine, START, WithheldLine};

    fn deletion(sha256: Vec<String>) -> CustodyEvent {
        CustodyEvent::Deleted {
            case_id: "case-1".into(),
            what: "picture".into(),
            sha256,
            reason: "retention period expired".into(),
        }
    }

    fn old_line(seq: u64, event: CustodyEvent, prev: &str) -> (String, String) {
        let entry = ChainEntry {
            seq,
            at: Timestamp::UNIX_EPOCH,
            event,
            prev: prev.into(),
        };
        let line = serde_json::to_string(&entry).unwrap();
        let hash = sha256_hex(line.as_bytes());
        (line, hash)
    }

    fn case(case_id: &str, revision: u32) -> CustodyEvent {
        CustodyEvent::Case {
            case_id: case_id.into(),
            revision,
            sha256: sha256_hex(case_id.as_bytes()),
        }
    }

    /// Lines of the current format with these events; those of one case share a key.
    fn written(events: &[CustodyEvent]) -> Vec<NewLine> {
        let mut keys = BTreeMap::new();
        let (mut prev, mut lines) = (START.to_owned(), Vec::new());
        for (seq, event) in events.iter().enumerate() {
            let known = event.case_id().and_then(|id| keys.get(id).cloned());
            let line = NewLine::new(seq as u64, Timestamp::UNIX_EPOCH, prev, event.clone(), known).unwrap();
            if let (Some(id), Some(key)) = (event.case_id(), parse_event(&line.event).unwrap().case_key) {
                keys.insert(id.to_owned(), key);
            }
            prev = line.hash.clone();
            lines.push(line);
        }
        lines
    }

    fn joined<'a>(lines: impl IntoIterator<Item = &'a String>) -> String {
        lines.into_iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_line_that_lists_anything_but_hashes_is_refused_and_not_kept() {
        let read = |sha256| Segment::read(&old_line(0, deletion(sha256), START).0, "");
        assert_eq!(read(vec![sha256_hex(b"a picture")]).unwrap().lines.len(), 1);
        let faults = read(vec![String::new(); 100_000]).unwrap_err();
        assert_eq!(faults[0].reason, "sha256 lists something else than SHA-256 hashes");
        let line = &written(&[deletion(vec![String::new()])])[0];
        let faults = Segment::read(&line.line, &line.event).unwrap_err();
        assert_eq!(faults[0].reason, "sha256 lists something else than SHA-256 hashes");
    }

    #[test]
    fn a_chain_with_more_lines_than_any_box_writes_is_refused() {
        let lines = written(&[case("a", 1), case("a", 2), case("a", 3)]);
        let text = joined(lines.iter().map(|line| &line.line));
        assert_eq!(Segment::read_at_most(&text, "", 3).unwrap().lines.len(), 3);
        let faults = Segment::read_at_most(&text, "", 2).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].reason, "the chain has more than 2 lines");
    }

    #[test]
    fn headers_alone_keep_the_links_and_tell_nothing_of_their_events() {
        let lines = written(&[case("case-a", 1), case("case-b", 1), case("case-a", 2)]);
        let text = joined(lines.iter().map(|line| &line.line));
        assert!(!text.contains("case-") && !text.contains("revision"), "{text}");
        let tags: BTreeSet<Option<String>> = Segment::read(&text, "")
            .unwrap()
            .lines
            .into_iter()
            .map(|line| line.case_tag)
            .collect();
        assert_eq!(tags.len(), 3, "lines of one case cannot be told to be of one");

        let own = joined([&lines[0].event, &lines[2].event]);
        let segment = Segment::read(&text, &own).unwrap();
        assert_eq!(segment.of_case("case-a").count(), 2);
        assert_eq!(segment.hidden_of_case("case-a"), [0; 0]);
        // An event that somebody took out is noticed by its tag.
        let segment = Segment::read(&text, &lines[0].event).unwrap();
        assert_eq!(segment.hidden_of_case("case-a"), [2]);
    }

    #[test]
    fn an_event_under_another_header_is_noticed() {
        let lines = written(&[case("case-a", 1), case("case-a", 2)]);
        let text = joined(lines.iter().map(|line| &line.line));
        let forged = lines[0].event.replace("\"revision\":1", "\"revision\":7");
        let faults = Segment::read(&text, &forged).unwrap_err();
        assert_eq!(
            (faults[0].part, faults[0].reason.as_str()),
            (ChainPart::Events, "belongs to no line of the chain")
        );
        assert!(Segment::read(&text, &joined([&lines[0].event, &lines[0].event])).is_err());
    }

    #[test]
    fn dropped_reordered_and_replaced_headers_are_noticed() {
        let lines = written(&[case("a", 1), case("b", 1), case("c", 1), case("a", 2)]);
        let all: Vec<&String> = lines.iter().map(|line| &line.line).collect();
        assert!(Segment::read(&joined(all.clone()), "").is_ok());
        let other = written(&[case("a", 1), case("x", 1)]);
        let withheld = WithheldLine::json(1, &other[1].hash);
        // The true hash hides the line as well.
        let hidden = WithheldLine::json(1, &lines[1].hash);
        for forged in [
            vec![all[0], all[2], all[3]],
            vec![all[0], all[2], all[1], all[3]],
            vec![all[0], &other[1].line, all[2], all[3]],
            vec![all[0], &withheld, all[2], all[3]],
            vec![all[0], &hidden, all[2], all[3]],
        ] {
            assert!(Segment::read(&joined(forged), "").is_err());
        }
    }

    #[test]
    fn lines_of_the_first_format_are_read_beside_those_of_the_second() {
        let (first, hash) = old_line(0, case("a", 1), START);
        let (second, hash) = old_line(1, case("b", 1), &hash);
        let third = NewLine::new(2, Timestamp::UNIX_EPOCH, hash.clone(), case("a", 2), None).unwrap();
        let segment = Segment::read(&joined([&first, &second, &third.line]), &third.event).unwrap();
        assert_eq!(segment.of_case("a").count(), 2);
        // The line of the other case as its hash alone: the link to it still holds.
        let withheld = WithheldLine::json(1, &hash);
        let segment = Segment::read(&joined([&first, &withheld, &third.line]), &third.event).unwrap();
        assert!(segment.lines[1].is_withheld());
        let wrong = WithheldLine::json(1, START);
        assert!(Segment::read(&joined([&first, &wrong, &third.line]), &third.event).is_err());
    }

    #[test]
    fn a_case_has_one_key() {
        let start = START.to_owned();
        let first = NewLine::new(0, Timestamp::UNIX_EPOCH, start, case("a", 1), None).unwrap();
        let second = NewLine::new(1, Timestamp::UNIX_EPOCH, first.hash.clone(), case("a", 2), None).unwrap();
        let faults = Segment::read(
            &joined([&first.line, &second.line]),
            &joined([&first.event, &second.event]),
        )
        .unwrap_err();
        assert!(faults[0].reason.starts_with("case_key differs"), "{faults:?}");
    }

    #[test]
    fn unknown_formats_and_algorithms_are_refused_by_name() {
        let line = &written(&[case("a", 1)])[0].line;
        let faults = Segment::read(&line.replace("\"v\":2", "\"v\":3"), "").unwrap_err();
        assert!(faults[0].reason.contains("format 3"), "{faults:?}");
        let sm2 = CustodyEvent::Begun {
            public_key: "key".into(),
            algorithm: Some("sm2-sm3".into()),
        };
        let line = &written(&[sm2])[0];
        let faults = Segment::read(&line.line, &line.event).unwrap_err();
        assert!(
            faults[0].reason.contains("unknown signature algorithm \"sm2-sm3\""),
            "{faults:?}"
        );
    }
}
