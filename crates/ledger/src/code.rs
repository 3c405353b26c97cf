//! Records as bytes and back. The format is told in the [module's](super) head.
//!
//! Looks and ticks are packed by hand: they are all but everything. The rest is JSON, which bears new fields.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use gridwatch_engine::{
    Appearance, BBox, CameraId, CaseId, Detection, Elsewhere, Input, Label, Light, Observation, OpenCase, PhoneNumber,
    Reply, Resumed, View,
};

/// One record: something that happened, and the cases that the engine opened because of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What happened.
    pub what: What,
    /// The cases that the running engine opened, under its own configuration.
    pub filed: Vec<CaseId>,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A file begins.
    Head(Head),
    /// A case that the engine knew when a file was begun within a run. No input: it is for replays that begin here.
    Known(OpenCase),
    /// [`Input::Configured`] after the start.
    Configured {
        /// SHA-256 of the new configuration file in lower-case hex.
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
        /// Which case.
        case: CaseId,
    },
    /// [`Input::Tick`].
    Tick(Timestamp),
    /// [`Input::Reaimed`].
    Reaimed(Reaimed),
    /// [`Input::Elsewhere`].
    Elsewhere(Elsewhere),
}

/// A camera was aimed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaimed {
    /// Which camera.
    pub camera: CameraId,
    /// When the daemon was told.
    pub at: Timestamp,
}

/// Which run of the daemon wrote a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When the run began. A file of another run begins with a new engine.
    pub started_at: Timestamp,
    /// The kernel's boot id; empty where it has none.
    #[serde(default)]
    pub boot: String,
    /// SHA-256 of the configuration file in lower-case hex.
    pub config_sha256: String,
    /// The program's version.
    pub program: String,
    /// Why the file was begun.
    pub begun: Begun,
}

/// Why a file was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begun {
    /// The daemon started.
    Start,
    /// The file before was full or a day old.
    Rotation,
    /// Records could not be written before it.
    Loss,
}

const HEAD: u8 = 0;
const KNOWN: u8 = 1;
const LOOK: u8 = 2;
const TICK: u8 = 3;
const REPLY: u8 = 4;
const EVIDENCE_FAILED: u8 = 5;
const RESTORED: u8 = 6;
const CONFIGURED: u8 = 7;
const RESUMED: u8 = 8;
const REAIMED: u8 = 9;
const ELSEWHERE: u8 = 10;

/// In the order of their codes: new ones go to the end.
const VIEWS: [View; 7] = [
    View::Clear,
    View::Dark,
    View::Blurred,
    View::Blocked,
    View::Frozen,
    View::Damaged,
    View::Moved,
];

/// Set in a view's code: the look was by infrared.
const NIGHT: u8 = 0x80;
/// Set in a view's code: each detection is followed by whether it was looked at closer, and by what that scored.
const CLOSER: u8 = 0x08;
/// Set in a view's code: behind the detections stands how many labels were not looked for, and which.
const NOT_SEARCHED: u8 = 0x10;
/// Set in a view's code: each detection is followed by the number read on it, at the very end; empty where there is none.
const NUMBERS: u8 = 0x20;
/// Set in a view's code: each detection is followed by whether its appearance is known, and by that.
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

/// Writes one file's records.
#[derive(Debug)]
pub(super) struct Encoder {
    names: BTreeMap<String, u64>,
    /// Nanoseconds since 1970 of the last look or tick.
    last: i128,
}

impl Encoder {
    pub(super) fn new(begun: Timestamp) -> Self {
        Self {
            names: BTreeMap::new(),
            last: begun.as_nanosecond(),
        }
    }

    pub(super) fn head(&mut self, head: &Head, out: &mut Vec<u8>) {
        out.push(HEAD);
        json(head, out);
    }

    pub(super) fn known(&mut self, case: &OpenCase, out: &mut Vec<u8>) {
        out.push(KNOWN);
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
            Input::Elsewhere(news) => {
                out.push(ELSEWHERE);
                json(news, out);
            }
        }
    }

    pub(super) fn filed(&mut self, case: &CaseId, out: &mut Vec<u8>) {
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
        let has_looks = look.detections.iter().any(|d| d.appearance.is_some());
        let has_numbers = look.detections.iter().any(|d| d.number.is_some());
        let has_closer = look.detections.iter().any(|d| d.closer.is_some());
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(
            view_code(look.view)
                | light
                | flag(has_looks, APPEARANCES)
                | flag(has_numbers, NUMBERS)
                | flag(has_closer, CLOSER)
                | flag(!look.not_searched.is_empty(), NOT_SEARCHED),
        );
        varint(look.detections.len() as u128, out);
        for detection in &look.detections {
            self.name(detection.label.as_str(), out);
            let BBox { x1, y1, x2, y2 } = detection.bbox;
            for number in [detection.score, x1, y1, x2, y2] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            if has_looks {
                out.push(detection.appearance.is_some().into());
                out.extend(detection.appearance.iter().flat_map(|a| a.0));
            }
            if has_numbers {
                text(detection.number.as_ref().map_or("", PhoneNumber::as_str), out);
            }
            if has_closer {
                out.push(detection.closer.is_some().into());
                out.extend(detection.closer.iter().flat_map(|score| score.to_le_bytes()));
            }
        }
        if !look.not_searched.is_empty() {
            varint(look.not_searched.len() as u128, out);
            for label in &look.not_searched {
                self.name(label.as_str(), out);
            }
        }
    }

    fn time(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        let at = at.as_nanosecond();
        let step = at - self.last;
        self.last = at;
        // Zigzag: small steps back are small numbers too.
        varint(((step << 1) ^ (step >> 127)) as u128, out);
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
    // None of these types has a map with keys that are no text, or a serializer that fails; a number that JSON cannot hold
    // becomes null, which is then refused when it is read.
    let body = serde_json::to_vec(value).unwrap_or_default();
    varint(body.len() as u128, out);
    out.extend_from_slice(&body);
}

/// Why bytes are no record: what is wrong, for a person.
pub(super) type Nonsense = &'static str;

/// Reads one file's records.
#[derive(Debug)]
pub(super) struct Decoder {
    /// As camera and as label: interned, for a week of looks has millions of each.
    names: Vec<(CameraId, Label)>,
    last: i128,
}

impl Decoder {
    pub(super) fn new(begun: Timestamp) -> Self {
        Self {
            names: Vec::new(),
            last: begun.as_nanosecond(),
        }
    }

    /// One payload.
    pub(super) fn entry(&mut self, payload: &[u8]) -> Result<Entry, Nonsense> {
        let mut bytes = Bytes(payload);
        let what = match bytes.byte()? {
            HEAD => What::Head(bytes.json()?),
            KNOWN => What::Known(bytes.json()?),
            LOOK => What::Observed(self.look(&mut bytes)?),
            TICK => What::Tick(self.time(&mut bytes)?),
            REPLY => What::Reply(bytes.json()?),
            EVIDENCE_FAILED => What::EvidenceFailed { case: bytes.json()? },
            RESTORED => What::Restored(bytes.json()?),
            RESUMED => What::Resumed(bytes.json()?),
            CONFIGURED => What::Configured {
                config_sha256: bytes.json()?,
            },
            REAIMED => What::Reaimed(bytes.json()?),
            ELSEWHERE => What::Elsewhere(bytes.json()?),
            _ => return Err("a record of a kind that this program does not know"),
        };
        let mut filed = Vec::new();
        while !bytes.0.is_empty() {
            filed.push(CaseId::from(bytes.text()?));
        }
        Ok(Entry { what, filed })
    }

    fn look(&mut self, bytes: &mut Bytes<'_>) -> Result<Observation, Nonsense> {
        let camera = self.name(bytes)?.0.clone();
        let at = self.time(bytes)?;
        let code = bytes.byte()?;
        let light = if code & NIGHT == 0 { Light::Day } else { Light::Night };
        let view = *VIEWS
            .get(usize::from(
                code & !(NIGHT | APPEARANCES | NUMBERS | NOT_SEARCHED | CLOSER),
            ))
            .ok_or("a view that this program does not know")?;
        let count = bytes.length()?;
        let mut detections = Vec::with_capacity(count.min(bytes.0.len() / DETECTION));
        for _ in 0..count {
            let label = self.name(bytes)?.1.clone();
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
            let closer = match code & CLOSER != 0 && bytes.byte()? != 0 {
                true => Some(bytes.f32()?),
                false => None,
            };
            detections.push(Detection {
                label,
                score,
                bbox,
                appearance,
                number,
                closer,
            });
        }
        let mut not_searched = Vec::new();
        if code & NOT_SEARCHED != 0 {
            for _ in 0..bytes.length()? {
                not_searched.push(self.name(bytes)?.1.clone());
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

    fn time(&mut self, bytes: &mut Bytes<'_>) -> Result<Timestamp, Nonsense> {
        let zigzag = bytes.varint()?;
        let step = (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128);
        self.last = self.last.checked_add(step).ok_or(NO_TIME)?;
        Timestamp::from_nanosecond(self.last).map_err(|_| NO_TIME)
    }

    fn name(&mut self, bytes: &mut Bytes<'_>) -> Result<&(CameraId, Label), Nonsense> {
        let number = bytes.length()?;
        let index = if number == 0 {
            let name = bytes.text()?;
            self.names.push((name.into(), name.into()));
            self.names.len() - 1
        } else {
            number - 1
        };
        self.names.get(index).ok_or("a name that was never told")
    }
}

/// Least bytes of a detection.
const DETECTION: usize = 21;
const SHORT: Nonsense = "a record that ends too soon";
const NO_TIME: Nonsense = "a time that is none";

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Nonsense> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Nonsense> {
        let (first, rest) = self.0.split_first().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Nonsense> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn f32(&mut self) -> Result<f32, Nonsense> {
        self.array().map(f32::from_le_bytes)
    }

    fn varint(&mut self) -> Result<u128, Nonsense> {
        let mut n = 0u128;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            n |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err("a number without an end")
    }

    fn length(&mut self) -> Result<usize, Nonsense> {
        usize::try_from(self.varint()?).map_err(|_| SHORT)
    }

    fn text(&mut self) -> Result<&'a str, Nonsense> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "a text that is no UTF-8")
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, Nonsense> {
        let length = self.length()?;
        serde_json::from_slice(self.take(length)?).map_err(|_| "a record whose fields this program cannot read")
    }
}

#[cfg(test)]
mod tests;
