//! Checks the chain of a bundle: its links, its end, the place of the case in it, and that nothing about the case was left out.

use super::{BundleCheck, CHAIN, EVENTS, EarlierHead, HEAD, HEAD_SIGNATURE, RECORD, SINCE};
use crate::{
    PublicKey,
    chain::{CaseLines, ChainHead, ChainLine, ChainPart, CustodyEvent, Segment, unknown_algorithm},
};
use gridwatch_contract::CaseRecord;

impl BundleCheck<'_> {
    /// Reads the lines and events, and checks the links.
    pub(super) fn chain(&mut self) -> Option<Segment> {
        let text = self.text(CHAIN)?;
        let events = match self.present.contains(EVENTS) {
            true => self.text(EVENTS)?,
            // A bundle of an older version.
            false => String::new(),
        };
        match Segment::read(&text, &events) {
            Ok(segment) => Some(segment),
            Err(faults) => {
                for fault in faults {
                    let file = match fault.part {
                        ChainPart::Lines => CHAIN,
                        ChainPart::Events => EVENTS,
                    };
                    self.fault(file, format!("line {}: {}", fault.line, fault.reason));
                }
                None
            }
        }
    }

    /// Checks that the chain ends where head.json says, so that no lines were cut off.
    pub(super) fn head(&mut self, key: Option<&PublicKey>, segment: Option<&Segment>) -> Option<ChainHead> {
        let text = self.signed(key, HEAD, HEAD_SIGNATURE)?;
        let head: ChainHead = match serde_json::from_str(&text) {
            Ok(head) => head,
            Err(e) => {
                self.fault(HEAD, format!("not the end of a chain: {e}"));
                return None;
            }
        };
        if let Some(fault) = unknown_algorithm(head.algorithm.as_deref()) {
            self.fault(HEAD, fault);
        }
        if let Some(last) = segment.and_then(|s| s.lines.last())
            && (last.seq, &last.hash) != (head.seq, &head.hash)
        {
            self.fault(
                CHAIN,
                format!(
                    "the last line is not entry {} as head.json requires: lines were cut off, or the last one was changed",
                    head.seq
                ),
            );
        }
        if key.is_some_and(|k| k.to_string() != head.public_key) {
            self.fault(HEAD, "public_key is not the key that signed this file");
        }
        Some(head)
    }

    /// Checks that the record is the newest one of the case in the chain, and at the place that its `prev_hash` says.
    pub(super) fn check_position(&mut self, record: &CaseRecord, sha256: &str, segment: &Segment) {
        let of_case = segment
            .of_case(&record.case_id)
            .rev()
            .find_map(|(line, event)| match event {
                CustodyEvent::Case { revision, sha256, .. } => Some((line, *revision, sha256)),
                _ => None,
            });
        let Some((line, revision, newest)) = of_case else {
            return self.fault(CHAIN, format!("no line about case {}", record.case_id));
        };
        let seq = line.seq;
        if newest != sha256 || revision != record.revision {
            self.fault(
                RECORD,
                format!("not the newest record of the case: entry {seq} of the chain has revision {revision}"),
            );
        } else if record.prev_hash != line.prev {
            self.fault(RECORD, format!("prev_hash does not match entry {seq} of the chain"));
        } else if record.prev_seq.is_some_and(|before| before.checked_add(1) != Some(seq)) {
            self.fault(RECORD, format!("prev_seq does not match entry {seq} of the chain"));
        }
    }

    /// Checks that every event about the case is in the bundle: those that head.json counts, and those whose header has the case's tag.
    pub(super) fn check_completeness(&mut self, case: &str, head: Option<&ChainHead>, segment: &Segment) {
        let hidden = segment.hidden_of_case(case);
        if !hidden.is_empty() {
            let entries: Vec<String> = hidden.iter().take(20).map(u64::to_string).collect();
            let entries = entries.join(", ");
            self.fault(
                EVENTS,
                format!("events about the case were taken out: those of the entries {entries}"),
            );
        }
        let Some(head) = head else { return };
        let is_old = |line: &ChainLine| !line.is_header && !line.is_withheld();
        let Some(stated) = &head.case else {
            // An export of an older version has whole lines only. A head taken from a health message is refused: it could hide later events.
            if !segment.lines.iter().all(is_old) {
                self.fault(
                    HEAD,
                    "does not state the lines about the case: it is not the end of the chain that an export was made with",
                );
            }
            return;
        };
        let hashes = segment.of_case(case).map(|(line, _)| line.hash.as_str());
        let found = CaseLines::of(case, hashes, stated.withheld_openings);
        if found != *stated {
            self.fault(
                EVENTS,
                format!(
                    "has {} events about case {case}, and not the {} about case {} that head.json states: some were taken out or added",
                    found.lines, stated.lines, stated.case_id
                ),
            );
        }
    }

    /// Checks that the chain contains the line that `since` names, linked to its end.
    pub(super) fn check_since(
        &mut self,
        since: &EarlierHead,
        head: &ChainHead,
        segment: &Segment,
        keys: &[PublicKey],
    ) -> Comparison {
        let compared = compare(since, head, segment, keys);
        if let Comparison::Differs(fault) = &compared {
            self.fault(SINCE, fault);
        }
        compared
    }
}

/// What a comparison with an earlier head gave.
pub(super) enum Comparison {
    /// The chain contains its line, by number.
    Contains(u64),
    /// It does not: the box was set back, or its chain rewritten, or the head is not of this box.
    Differs(String),
    /// The folder does not have what is needed to tell, and why.
    Unknown(String),
}

/// The first revision of the case that the chain has; the record's line is one.
pub(super) fn first_revision(case: &str, segment: &Segment) -> Option<u32> {
    segment.of_case(case).find_map(|(_, event)| match event {
        CustodyEvent::Case { revision, .. } => Some(*revision),
        _ => None,
    })
}

fn compare(since: &EarlierHead, head: &ChainHead, segment: &Segment, keys: &[PublicKey]) -> Comparison {
    if since.node_id != head.node_id {
        return Comparison::Differs(format!(
            "is of box {:?}, the case of box {:?}",
            since.node_id, head.node_id
        ));
    }
    let seq = since.seq;
    let first = segment.lines.first();
    // The first line names the one before it, as the first record of the case does.
    let is_before = first.is_some_and(|first| seq.checked_add(1) == Some(first.seq) && first.prev.is_some());
    if let Some(first) = first.filter(|first| seq < first.seq && !is_before) {
        return Comparison::Unknown(format!(
            "it names entry {seq}, and the chain in the folder begins with entry {}. Export the case again with \
             `gridwatch cases export CASE --out DIR --since {seq}`",
            first.seq
        ));
    }
    if !since.is_signed_by(keys) {
        return Comparison::Differs(
            "is not signed by this box: its signature fits no key of the box that the chain and --key show".into(),
        );
    }
    if seq > head.seq {
        return match since.at.is_some_and(|at| at > head.at) {
            true => Comparison::Unknown(format!(
                "it names entry {seq} and is of a later time than the export, when the chain ended with entry {}. Export the case again, or \
                 use an earlier head",
                head.seq
            )),
            false => Comparison::Differs(format!(
                "the box was set back to an earlier state: its chain had entry {seq} before the export, and ends with entry {}",
                head.seq
            )),
        };
    }
    let (hash, after) = match segment.lines.iter().position(|line| line.seq == seq) {
        Some(at) => (Some(&segment.lines[at].hash), &segment.lines[at + 1..]),
        None => (first.and_then(|first| first.prev.as_ref()), &segment.lines[..]),
    };
    if hash != Some(&since.hash) {
        return Comparison::Differs(format!(
            "the chain was rewritten: entry {seq} is not the one that the box stated, or the box was set back before it"
        ));
    }
    // The sender of the bundle chooses the hash of a withheld line, unless the line after it confirms that.
    match after.iter().rev().find(|line| line.is_withheld()) {
        None => Comparison::Contains(seq),
        Some(line) => Comparison::Unknown(format!(
            "it names entry {seq}, but of entry {} only the hash is in the folder, because it is of an older format. Use a head that the box \
             stated later",
            line.seq
        )),
    }
}
