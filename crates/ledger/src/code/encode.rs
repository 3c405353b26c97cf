//! Events to bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    APPEARANCES, CONFIGURED, ConfiguredRecord, ELSEWHERE, EVIDENCE_FAILED, EXTENDED, FileHead, HEAD, HELD_BACK,
    KNOWN_CASE, LOOK, NEWNESS, NIGHT, NOT_SEARCHED, NUMBERS, REAIMED, REPLY, RESTORED, RESUMED, Reaimed, SECOND_LOOK,
    TEXTS, TICK, view_code,
};
use gridwatch_engine::{
    BBox, CaseId, HeldBackCase, Input, Light, Newness, Observation, OpenCase, PhoneNumber, RuleId, SecondLookScore,
};

/// The first record of a file.
pub(crate) fn head(head: &FileHead, out: &mut Vec<u8>) {
    out.push(HEAD);
    json(head, out);
}

/// A configuration change.
pub(crate) fn configured(record: &ConfiguredRecord, out: &mut Vec<u8>) {
    out.push(CONFIGURED);
    json(record, out);
}

/// Encodes the records of one file.
#[derive(Debug)]
pub(crate) struct Encoder {
    names: BTreeMap<String, u64>,
    /// Time of the last look or tick, in nanoseconds since 1970.
    last: i128,
}

impl Encoder {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Self {
            names: BTreeMap::new(),
            last: started_at.as_nanosecond(),
        }
    }

    /// A case that the engine holds back when the file is started.
    pub(crate) fn held_back(&self, held: &HeldBackCase, out: &mut Vec<u8>) {
        out.push(HELD_BACK);
        json(held, out);
    }

    pub(crate) fn known_case(&mut self, case: &OpenCase, out: &mut Vec<u8>) {
        out.push(KNOWN_CASE);
        json(case, out);
    }

    /// Any input but [`Input::Configured`], for which there is [`configured`].
    pub(crate) fn input(&mut self, input: &Input, out: &mut Vec<u8>) {
        match input {
            Input::Configured(_) => {}
            Input::Restored(case) => {
                out.push(RESTORED);
                json(case, out);
            }
            Input::Resumed(resumed) => {
                out.push(RESUMED);
                json(resumed, out);
            }
            Input::Observed(look) => self.look(look, out),
            Input::Reply(reply) => {
                out.push(REPLY);
                json(reply, out);
            }
            Input::EvidenceFailed { case } => {
                out.push(EVIDENCE_FAILED);
                json(case, out);
            }
            Input::Tick(at) => {
                out.push(TICK);
                self.time(*at, out);
            }
            Input::Reaimed { camera, at } => {
                out.push(REAIMED);
                let (camera, at) = (camera.clone(), *at);
                json(&Reaimed { camera, at }, out);
            }
            Input::Elsewhere(message) => {
                out.push(ELSEWHERE);
                json(message, out);
            }
        }
    }

    pub(crate) fn opened_case(&mut self, case: &CaseId, out: &mut Vec<u8>) {
        text(case.as_str(), out);
    }

    fn look(&mut self, look: &Observation, out: &mut Vec<u8>) {
        out.push(LOOK);
        self.name(look.camera.as_str(), out);
        self.time(look.at, out);
        let light = match look.light {
            Light::Day => 0,
            Light::Night => NIGHT,
        };
        let has_appearances = look.detections.iter().any(|d| d.appearance.is_some());
        let has_numbers = look.detections.iter().any(|d| d.number.is_some());
        let has_second_looks = look.detections.iter().any(|d| !d.second_looks.is_empty());
        let has_newness = look.detections.iter().any(|d| d.newness.is_some());
        let has_texts = look.detections.iter().any(|d| d.text.is_some());
        let is_extended = has_newness || has_texts;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(
            if is_extended { EXTENDED } else { view_code(look.view) }
                | light
                | flag(has_appearances, APPEARANCES)
                | flag(has_numbers, NUMBERS)
                | flag(has_second_looks, SECOND_LOOK)
                | flag(!look.not_searched.is_empty(), NOT_SEARCHED),
        );
        if is_extended {
            out.push(view_code(look.view) | flag(has_newness, NEWNESS) | flag(has_texts, TEXTS));
        }
        varint(look.detections.len() as u128, out);
        for detection in &look.detections {
            self.name(detection.label.as_str(), out);
            let BBox { x1, y1, x2, y2 } = detection.bbox;
            for number in [detection.score, x1, y1, x2, y2] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            if has_appearances {
                out.push(detection.appearance.is_some().into());
                out.extend(detection.appearance.iter().flat_map(|a| a.0));
            }
            if has_numbers {
                text(detection.number.as_ref().map_or("", PhoneNumber::as_str), out);
            }
            if has_second_looks {
                self.second_looks(&detection.second_looks, out);
            }
            if has_newness {
                newness(detection.newness, look.at, out);
            }
            if has_texts {
                // An empty text counts as not read.
                let read = detection.text.as_ref().filter(|t| !t.text.as_str().is_empty());
                text(read.map_or("", |t| t.text.as_str()), out);
                out.extend(read.iter().flat_map(|t| t.score.to_le_bytes()));
            }
        }
        if !look.not_searched.is_empty() {
            varint(look.not_searched.len() as u128, out);
            for label in &look.not_searched {
                self.name(label.as_str(), out);
            }
        }
    }

    /// 0: none; 1: a score for every rule, as earlier versions wrote; 2: scores with their rules.
    fn second_looks(&mut self, scores: &[SecondLookScore], out: &mut Vec<u8>) {
        if scores.is_empty() {
            out.push(0);
        } else if let [SecondLookScore { rule: None, score }] = scores {
            out.push(1);
            out.extend_from_slice(&score.to_le_bytes());
        } else {
            out.push(2);
            varint(scores.len() as u128, out);
            for SecondLookScore { rule, score } in scores {
                self.name(rule.as_ref().map_or("", RuleId::as_str), out);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
    }

    fn time(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        let at = at.as_nanosecond();
        let step = at - self.last;
        self.last = at;
        signed_varint(step, out);
    }

    fn name(&mut self, name: &str, out: &mut Vec<u8>) {
        if let Some(number) = self.names.get(name) {
            varint((*number).into(), out);
        } else {
            self.names.insert(name.to_owned(), self.names.len() as u64 + 1);
            varint(0, out);
            text(name, out);
        }
    }
}

/// 0: unknown; 1: the share; 2: the share, and how long before the look the new part appeared.
fn newness(newness: Option<Newness>, at: Timestamp, out: &mut Vec<u8>) {
    let since = newness.and_then(|n| n.since);
    out.push(u8::from(newness.is_some()) + u8::from(since.is_some()));
    out.extend(newness.iter().flat_map(|n| n.share.to_le_bytes()));
    if let Some(since) = since {
        signed_varint(at.as_nanosecond() - since.as_nanosecond(), out);
    }
}

/// Zigzag, so that small negative numbers stay small.
fn signed_varint(n: i128, out: &mut Vec<u8>) {
    varint(((n << 1) ^ (n >> 127)) as u128, out);
}

pub(super) fn varint(mut n: u128, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn text(text: &str, out: &mut Vec<u8>) {
    varint(text.len() as u128, out);
    out.extend_from_slice(text.as_bytes());
}

fn json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Serialization fails only for maps with non-string keys, which these types do not have. NaN and infinities become
    // null, which the decoder rejects.
    let body = serde_json::to_vec(value).unwrap_or_default();
    varint(body.len() as u128, out);
    out.extend_from_slice(&body);
}
