//! Encoding and decoding of records. The format is described in the documentation of the [crate](super).
//!
//! Looks and ticks make up nearly all records and are packed by hand. The rest is JSON, which tolerates new fields.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use gridwatch_engine::{
    AdvertText, Appearance, BBox, CameraId, CaseId, Detection, Elsewhere, Input, Label, Light, Newness, Observation,
    OpenCase, PhoneNumber, Reply, Resumed, RuleId, SecondLookScore, TextReading, View,
};

/// One record: an event, and the cases that the engine opened because of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The event.
    pub event: RecordedEvent,
    /// Cases opened by the running engine, under its own configuration.
    pub opened: Vec<CaseId>,
}

/// An event in the ledger: an input of the engine, or the head of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedEvent {
    /// The first record of a file.
    Head(FileHead),
    /// A case known to the engine when a file was started during a run. Not an input; used by replays that start with
    /// this file.
    KnownCase(OpenCase),
    /// [`Input::Configured`] after the start of the run.
    Configured {
        /// SHA-256 of the new configuration file, lower-case hex.
        config_sha256: String,
    },
    /// [`Input::Restored`].
    Restored(OpenCase),
    /// [`Input::Resumed`].
    Resumed(Box<Resumed>),
    /// [`Input::Observed`].
    Observed(Observation),
    /// [`Input::Reply`].
    Reply(Reply),
    /// [`Input::EvidenceFailed`].
    EvidenceFailed {
        /// The case id.
        case: CaseId,
    },
    /// [`Input::Tick`].
    Tick(Timestamp),
    /// [`Input::Reaimed`].
    Reaimed(Reaimed),
    /// [`Input::Elsewhere`].
    Elsewhere(Elsewhere),
}

/// A camera was reaimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaimed {
    /// The camera.
    pub camera: CameraId,
    /// Time at which the daemon learned of it.
    pub at: Timestamp,
}

/// The first record of a file: the run of the daemon that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHead {
    /// Start of the run. A file of another run starts with a new engine.
    pub started_at: Timestamp,
    /// Boot id of the kernel; empty if unknown.
    #[serde(default)]
    pub boot: String,
    /// SHA-256 of the configuration file, lower-case hex.
    pub config_sha256: String,
    /// Version of the program.
    pub program: String,
    /// Why the file was started.
    #[serde(rename = "begun")]
    pub origin: FileOrigin,
}

/// Why a file was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOrigin {
    /// The daemon started.
    Start,
    /// The previous file was full or a day old.
    Rotation,
    /// Records before this file were lost.
    Loss,
}

const HEAD: u8 = 0;
const KNOWN_CASE: u8 = 1;
const LOOK: u8 = 2;
const TICK: u8 = 3;
const REPLY: u8 = 4;
const EVIDENCE_FAILED: u8 = 5;
const RESTORED: u8 = 6;
const CONFIGURED: u8 = 7;
const RESUMED: u8 = 8;
const REAIMED: u8 = 9;
const ELSEWHERE: u8 = 10;

/// Indexed by code; new views are appended.
const VIEWS: [View; 7] = [
    View::Clear,
    View::Dark,
    View::Blurred,
    View::Blocked,
    View::Frozen,
    View::Damaged,
    View::Moved,
];

/// In the place of a view's code: the view, and the flags that the view byte has no bits for, follow in another byte.
const EXTENDED: u8 = 0x07;
/// Flag of the extension byte: each detection has an optional newness.
const NEWNESS: u8 = 0x08;
/// Flag of the extension byte: each detection has a text, empty if none was read, and its score.
const TEXTS: u8 = 0x10;

/// Flag of the view byte: infrared look.
const NIGHT: u8 = 0x80;
/// Flag of the view byte: each detection has an optional second-look score.
const SECOND_LOOK: u8 = 0x08;
/// Flag of the view byte: the detections are followed by the labels that were not searched for.
const NOT_SEARCHED: u8 = 0x10;
/// Flag of the view byte: each detection has a phone number, empty if none was read.
const NUMBERS: u8 = 0x20;
/// Flag of the view byte: each detection has an optional appearance.
const APPEARANCES: u8 = 0x40;

fn view_code(view: View) -> u8 {
    match view {
        View::Clear => 0,
        View::Dark => 1,
        View::Blurred => 2,
        View::Blocked => 3,
        View::Frozen => 4,
        View::Damaged => 5,
        View::Moved => 6,
    }
}

/// Encodes the records of one file.
#[derive(Debug)]
pub(super) struct Encoder {
    names: BTreeMap<String, u64>,
    /// Time of the last look or tick, in nanoseconds since 1970.
    last: i128,
}

impl Encoder {
    pub(super) fn new(started_at: Timestamp) -> Self {
        Self {
            names: BTreeMap::new(),
            last: started_at.as_nanosecond(),
        }
    }

    pub(super) fn head(&mut self, head: &FileHead, out: &mut Vec<u8>) {
        out.push(HEAD);
        json(head, out);
    }

    pub(super) fn known_case(&mut self, case: &OpenCase, out: &mut Vec<u8>) {
        out.push(KNOWN_CASE);
        json(case, out);
    }

    pub(super) fn input(&mut self, input: &Input, config_sha256: &str, out: &mut Vec<u8>) {
        match input {
            Input::Configured(_) => {
                out.push(CONFIGURED);
                json(config_sha256, out);
            }
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

    pub(super) fn opened_case(&mut self, case: &CaseId, out: &mut Vec<u8>) {
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

fn varint(mut n: u128, out: &mut Vec<u8>) {
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

/// Why a record cannot be decoded.
pub(super) type DecodeError = &'static str;

/// A name, as camera and as label.
#[derive(Debug)]
struct Name {
    camera: CameraId,
    label: Label,
}

/// Decodes the records of one file.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Interned, because a week of looks repeats them millions of times.
    names: Vec<Name>,
    last: i128,
}

impl Decoder {
    pub(super) fn new(started_at: Timestamp) -> Self {
        Self {
            names: Vec::new(),
            last: started_at.as_nanosecond(),
        }
    }

    /// Decodes one payload.
    pub(super) fn entry(&mut self, payload: &[u8]) -> Result<Entry, DecodeError> {
        let mut bytes = ByteReader(payload);
        let event = match bytes.byte()? {
            HEAD => RecordedEvent::Head(bytes.json()?),
            KNOWN_CASE => RecordedEvent::KnownCase(bytes.json()?),
            LOOK => RecordedEvent::Observed(self.look(&mut bytes)?),
            TICK => RecordedEvent::Tick(self.time(&mut bytes)?),
            REPLY => RecordedEvent::Reply(bytes.json()?),
            EVIDENCE_FAILED => RecordedEvent::EvidenceFailed { case: bytes.json()? },
            RESTORED => RecordedEvent::Restored(bytes.json()?),
            RESUMED => RecordedEvent::Resumed(bytes.json()?),
            CONFIGURED => RecordedEvent::Configured {
                config_sha256: bytes.json()?,
            },
            REAIMED => RecordedEvent::Reaimed(bytes.json()?),
            ELSEWHERE => RecordedEvent::Elsewhere(bytes.json()?),
            _ => return Err("unknown kind of record"),
        };
        let mut opened = Vec::new();
        while !bytes.0.is_empty() {
            opened.push(CaseId::from(bytes.text()?));
        }
        Ok(Entry { event, opened })
    }

    fn look(&mut self, bytes: &mut ByteReader<'_>) -> Result<Observation, DecodeError> {
        let camera = self.name(bytes)?.camera.clone();
        let at = self.time(bytes)?;
        let code = bytes.byte()?;
        let light = if code & NIGHT == 0 { Light::Day } else { Light::Night };
        let view = code & !(NIGHT | APPEARANCES | NUMBERS | NOT_SEARCHED | SECOND_LOOK);
        let (view, extension) = match view {
            EXTENDED => {
                let extended = bytes.byte()?;
                (extended & EXTENDED, extended & !EXTENDED)
            }
            view => (view, 0),
        };
        if extension & !(NEWNESS | TEXTS) != 0 {
            return Err("unknown fields of a look");
        }
        let view = *VIEWS.get(usize::from(view)).ok_or("unknown view code")?;
        let count = bytes.length()?;
        let mut detections = Vec::with_capacity(count.min(bytes.0.len() / MIN_DETECTION_BYTES));
        for _ in 0..count {
            let label = self.name(bytes)?.label.clone();
            let [score, x1, y1, x2, y2] = [bytes.f32()?, bytes.f32()?, bytes.f32()?, bytes.f32()?, bytes.f32()?];
            let bbox = BBox { x1, y1, x2, y2 };
            let appearance = match code & APPEARANCES != 0 && bytes.byte()? != 0 {
                true => Some(Appearance(bytes.array()?)),
                false => None,
            };
            let number = match code & NUMBERS != 0 {
                true => Some(bytes.text()?).filter(|n| !n.is_empty()).map(PhoneNumber::from),
                false => None,
            };
            let second_looks = match code & SECOND_LOOK {
                0 => Vec::new(),
                _ => self.second_looks(bytes)?,
            };
            let newness = match extension & NEWNESS {
                0 => None,
                _ => bytes.newness(at)?,
            };
            let text = match extension & TEXTS {
                0 => None,
                _ => bytes.text_reading()?,
            };
            detections.push(Detection {
                label,
                score,
                bbox,
                appearance,
                number,
                text,
                second_looks,
                newness,
            });
        }
        let mut not_searched = Vec::new();
        if code & NOT_SEARCHED != 0 {
            for _ in 0..bytes.length()? {
                not_searched.push(self.name(bytes)?.label.clone());
            }
        }
        Ok(Observation {
            camera,
            at,
            view,
            light,
            detections,
            not_searched,
        })
    }

    fn second_looks(&mut self, bytes: &mut ByteReader<'_>) -> Result<Vec<SecondLookScore>, DecodeError> {
        match bytes.byte()? {
            0 => Ok(Vec::new()),
            1 => Ok(vec![SecondLookScore {
                rule: None,
                score: bytes.f32()?,
            }]),
            2 => {
                let count = bytes.length()?;
                let mut scores = Vec::with_capacity(count.min(bytes.0.len() / MIN_SECOND_LOOK_BYTES));
                for _ in 0..count {
                    let name = self.name(bytes)?.label.as_str();
                    let rule = Some(name).filter(|n| !n.is_empty()).map(RuleId::from);
                    scores.push(SecondLookScore {
                        rule,
                        score: bytes.f32()?,
                    });
                }
                Ok(scores)
            }
            _ => Err("unknown form of second looks"),
        }
    }

    fn time(&mut self, bytes: &mut ByteReader<'_>) -> Result<Timestamp, DecodeError> {
        let step = bytes.signed_varint()?;
        self.last = self.last.checked_add(step).ok_or(INVALID_TIME)?;
        Timestamp::from_nanosecond(self.last).map_err(|_| INVALID_TIME)
    }

    fn name(&mut self, bytes: &mut ByteReader<'_>) -> Result<&Name, DecodeError> {
        let number = bytes.length()?;
        let index = if number == 0 {
            let name = bytes.text()?;
            self.names.push(Name {
                camera: name.into(),
                label: name.into(),
            });
            self.names.len() - 1
        } else {
            number - 1
        };
        self.names.get(index).ok_or("reference to an undefined name")
    }
}

/// Encoded size of a detection without optional fields.
const MIN_DETECTION_BYTES: usize = 21;
/// Smallest size of a second look's score: the number of its rule's name, and the score.
const MIN_SECOND_LOOK_BYTES: usize = 5;
const TRUNCATED: DecodeError = "truncated record";
const INVALID_TIME: DecodeError = "invalid time";

struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn f32(&mut self) -> Result<f32, DecodeError> {
        self.array().map(f32::from_le_bytes)
    }

    fn varint(&mut self) -> Result<u128, DecodeError> {
        let mut n = 0u128;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            n |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err("varint too long")
    }

    fn signed_varint(&mut self) -> Result<i128, DecodeError> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128))
    }

    /// The newness of a detection in the look at `at`.
    fn newness(&mut self, at: Timestamp) -> Result<Option<Newness>, DecodeError> {
        let fields = self.byte()?;
        if fields == 0 {
            return Ok(None);
        }
        let share = self.f32()?;
        let since = match fields {
            1 => None,
            2 => {
                let since = at
                    .as_nanosecond()
                    .checked_sub(self.signed_varint()?)
                    .ok_or(INVALID_TIME)?;
                Some(Timestamp::from_nanosecond(since).map_err(|_| INVALID_TIME)?)
            }
            _ => return Err("unknown newness fields"),
        };
        Ok(Some(Newness { share, since }))
    }

    fn text_reading(&mut self) -> Result<Option<TextReading>, DecodeError> {
        Ok(match self.text()? {
            "" => None,
            text => Some(TextReading {
                text: AdvertText::from(text),
                score: self.f32()?,
            }),
        })
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?).map_err(|_| TRUNCATED)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "text is not UTF-8")
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, DecodeError> {
        let length = self.length()?;
        serde_json::from_slice(self.take(length)?).map_err(|_| "unreadable JSON fields")
    }
}

#[cfg(test)]
mod tests;
